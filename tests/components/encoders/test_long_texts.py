"""Questions and compared texts that are longer than the encoder's input are encoded whole, or reported."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from rag_plugin import build_engine, load_config
from rag_plugin.components.encoders.long_texts import encode_whole
from rag_plugin.explore.space import encode
from tests.conftest import MINILM

PREAMBLE = "You are a careful assistant who reads the manual of the harbour before answering anything. " * 40
HERON, BREAD = PREAMBLE + "What does a heron eat?", PREAMBLE + "How hot must the oven be for bread?"


async def test_different_questions_behind_one_long_preamble_differ(settings: dict[str, Any], minilm: Any) -> None:
    engine = build_engine(settings, overrides={"retriever.top_k": 9}, encoder=minilm)
    scores = [
        {item.node.node_id: item.score for item in hits}
        for hits in (engine.retrieve(HERON), engine.retrieve(BREAD), await engine.aretrieve(HERON))
    ]
    assert scores[0] != scores[1]
    assert scores[0] == pytest.approx(scores[2])
    best = {item.node.ref_doc_id: item.score for item in engine.retrieve(HERON)}
    other = {item.node.ref_doc_id: item.score for item in engine.retrieve(BREAD)}
    assert best["birds/heron.md"] > other["birds/heron.md"]  # type: ignore[operator]


def test_the_vector_of_a_long_question_is_the_mean_of_its_pieces(minilm: Any) -> None:
    tokens, limit = minilm.tokens(), minilm.max_input_tokens()
    vector = minilm.encode_queries([HERON, "short"])
    starts = tokens.starts(HERON)
    count = -(-len(starts) // limit)
    size = -(-len(starts) // count)
    cuts = [0, *starts[size::size].tolist(), len(HERON)]
    pieces = [HERON[start:end] for start, end in zip(cuts, cuts[1:])]
    assert len(pieces) == count > 2
    assert max(tokens.counts(pieces)) <= limit
    mean = np.average(minilm.encode_queries(pieces), axis=0, weights=tokens.counts(pieces))
    assert vector[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)
    assert vector[1] == pytest.approx(minilm.encode_queries(["short"])[0], abs=1e-6)
    assert np.linalg.norm(vector, axis=1) == pytest.approx([1, 1], abs=1e-5)


def test_texts_within_the_limit_are_encoded_once(minilm: Any) -> None:
    calls: list[int] = []

    def encode(texts: Any) -> Any:
        calls.append(len(texts))
        return np.ones((len(texts), 3), dtype=np.float32)

    assert encode_whole(encode, ["a", "b " * 200], minilm.tokens(), 254).shape == (2, 3)
    assert encode_whole(encode, ["a", "b " * 600], minilm.tokens(), 254).shape == (2, 3)
    assert encode_whole(encode, ["x" * 9999], minilm.tokens(), None).shape == (1, 3)
    assert calls == [2, 1 + 3, 1]


def test_compared_texts_are_read_to_their_end(minilm: Any) -> None:
    assert float(encode(minilm, [HERON, BREAD]).similarity()[0, 1]) < 0.9999


def test_an_encoder_of_another_package_is_reported_with_both_lengths(
    settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    settings["encoder"] = {
        "type": "llama_index.embeddings.huggingface.HuggingFaceEmbedding", "model_name": MINILM, "device": "cpu"
    }  # fmt: skip
    engine = build_engine(load_config(settings))
    with caplog.at_level(logging.WARNING):
        engine.retrieve("A short question?")
        assert "longer than the encoder's input" not in caplog.text
        engine.retrieve(HERON)
    assert "a question of 6" in caplog.text
    assert "tokens is longer than the encoder's input of 254" in caplog.text

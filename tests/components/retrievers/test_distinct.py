"""Retrievers return distinct texts: equal ones by default, near ones on request."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.schema import NodeWithScore, TextNode

from rag_plugin import build_engine
from rag_plugin.components.retrievers.distinct import Distinct

MODES = ["vector", "lexical", "hybrid"]
PARAGRAPH = "The pump house north of the harbour is inspected every Monday by the keeper of the lighthouse in person"


@pytest.fixture
def copies(settings: dict[str, Any], documents: Path) -> dict[str, Any]:
    """Six copies of a file, six with one word changed, and three others about the same."""
    for number in range(6):
        (documents / f"copy{number}.md").write_text(PARAGRAPH + ".\n" * (1 + number % 2), encoding="utf-8")
        (documents / f"near{number}.md").write_text(f"{PARAGRAPH} with {number} helpers.", encoding="utf-8")
    for number, text in enumerate(("A pump house stands there.", "Pump by pump.", "The house of the pump keeper.")):
        (documents / f"other{number}.md").write_text(text, encoding="utf-8")
    return settings


def texts(engine: Any) -> list[str]:
    return [" ".join(item.node.get_content().split()) for item in engine.retrieve("Who inspects the pump house?")]


@pytest.mark.parametrize("mode", MODES)
async def test_equal_texts_are_returned_once_and_top_k_is_filled(
    copies: dict[str, Any], minilm: Any, mode: str
) -> None:
    engine = build_engine(copies, overrides={"retriever": {"type": mode, "top_k": 8}}, encoder=minilm)
    found = texts(engine)
    assert len(found) == 8
    assert len(set(found)) == 8
    assert [item.node.node_id for item in await engine.aretrieve("Who inspects the pump house?")] == [
        item.node.node_id for item in engine.retrieve("Who inspects the pump house?")
    ]
    # The best hit of each text stays, in the order of the scores.
    everything = build_engine(
        copies, overrides={"retriever": {"type": mode, "top_k": 30, "dedupe": False}}, encoder=minilm
    )
    best = list(dict.fromkeys(texts(everything)))
    if mode != "hybrid":  # whose scores are relative to the hits that are retrieved
        assert found == best[:8]
    assert len(texts(everything)) > len(best)


@pytest.mark.parametrize("mode", MODES)
def test_near_duplicates_are_returned_once_on_request(copies: dict[str, Any], minilm: Any, mode: str) -> None:
    overrides = {"retriever": {"type": mode, "top_k": 4, "near_duplicates": 0.7}}
    found = texts(build_engine(copies, overrides=overrides, encoder=minilm))
    assert sum(text.startswith(PARAGRAPH) for text in found) == 1
    assert len(found) == 4


def test_a_copied_retriever_removes_duplicates(copies: dict[str, Any], minilm: Any) -> None:
    engine = build_engine(copies, encoder=minilm)
    found = [item.node.node_id for item in engine.retriever.retrieve("Who inspects the pump house?")]
    copied = copy.copy(engine.retriever)
    assert [item.node.node_id for item in copied.retrieve("Who inspects the pump house?")] == found


def test_sentences_with_different_windows_are_no_duplicates() -> None:
    hits = [
        NodeWithScore(node=TextNode(text="Yes.", metadata={"window": window}), score=1.0)
        for window in ("Is it? Yes.", "Will it? Yes.", "Is it? Yes.")
    ]
    assert Distinct().of(hits) == hits[:2]


@given(st.lists(st.text("ab ", max_size=4), max_size=40), st.integers(1, 10))
def test_fill_returns_the_first_distinct_texts(contents: list[str], top_k: int) -> None:
    hits = [NodeWithScore(node=TextNode(text=text), score=1.0) for text in contents]
    asked: list[int] = []

    def retrieve(depth: int) -> list[NodeWithScore]:
        asked.append(depth)
        return hits[:depth]

    found = Distinct().fill(top_k, retrieve)
    expected = list(dict.fromkeys(" ".join(text.split()) for text in contents))[:top_k]
    assert [" ".join(item.node.get_content().split()) for item in found] == expected
    assert len(asked) <= 4
    assert Distinct(identical=False).fill(top_k, retrieve) == hits[:top_k]

"""Nodes, questions and expected scores for tests of the store."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
from llama_index.core.schema import (
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores.types import (
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)

from rag_plugin.faiss_store import FaissStore

DIMENSION = 6


METRICS = ("cosine", "inner_product", "l2")


Vector = list[float]


def vector(seed: int, dimension: int = DIMENSION) -> Vector:
    """A vector that depends on the seed alone."""
    return np.random.default_rng(seed).normal(size=dimension).astype(np.float32).tolist()  # type: ignore[no-any-return]


def make(name: str, seed: int | None = None, document: str | None = None, text: str = "", **metadata: Any) -> TextNode:
    """A node `name` with the vector of `seed`, of `document`."""
    node = TextNode(id_=name, text=text or f"text of {name}", metadata=metadata)
    node.embedding = vector(zlib.crc32(name.encode()) if seed is None else seed)
    if document is not None:
        node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=document)
    return node


def ask(seed_or_vector: int | Vector, top_k: int = 3, **restrictions: Any) -> VectorStoreQuery:
    embedding = vector(seed_or_vector) if isinstance(seed_or_vector, int) else seed_or_vector
    return VectorStoreQuery(query_embedding=embedding, similarity_top_k=top_k, **restrictions)


def where(key: str, value: Any, operator: FilterOperator = FilterOperator.EQ) -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=operator)])


def similarity(metric: str, first: Vector, second: Vector) -> float:
    """What the store's documentation says a score is, in plain numpy."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if metric == "l2":
        return float(1 / (1 + ((a - b) ** 2).sum()))
    if metric == "inner_product":
        return float(a @ b)
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms else 0.0


def agrees(result: VectorStoreQueryResult, nodes: dict[str, Vector], question: Vector, top_k: int, metric: str) -> None:
    """Assert that a result is what comparing the question with every vector gives; equal scores in any order."""
    scores = {name: similarity(metric, given, question) for name, given in nodes.items()}
    best = sorted(scores.values(), reverse=True)[:top_k]
    assert result.similarities == pytest.approx(best, rel=1e-4, abs=1e-5)
    assert result.ids is not None
    assert [scores[name] for name in result.ids] == pytest.approx(result.similarities, rel=1e-4, abs=1e-5)
    assert len(set(result.ids)) == len(result.ids)
    assert [node.node_id for node in result.nodes or []] == result.ids


FULL = TextNode(
    id_="full",
    text="Größe, 東京, 🚀, ‮עברית‬, \t tabs\nand lines\r\n, quotes '\" and a \\",
    metadata={"a": {"b": [1, 2.5, None, True, {"c": "ñ"}]}, "schlüssel": "wert", "empty": "", "big": 2**62},
    excluded_embed_metadata_keys=["a"],
    excluded_llm_metadata_keys=["a", "schlüssel"],
    metadata_separator=" | ",
    metadata_template="{key}={value}",
    text_template="{metadata_str} >> {content}",
    start_char_idx=5,
    end_char_idx=77,
    mimetype="text/markdown",
    relationships={
        NodeRelationship.SOURCE: RelatedNodeInfo(node_id="document", metadata={"m": 1}, hash="abc"),
        NodeRelationship.PREVIOUS: RelatedNodeInfo(node_id="before"),
        NodeRelationship.CHILD: [RelatedNodeInfo(node_id="child 1"), RelatedNodeInfo(node_id="child 2")],
    },
)


def by_words(words: str | None, top_k: int = 10, mode: str = "text_search", **others: Any) -> VectorStoreQuery:
    return VectorStoreQuery(query_str=words, similarity_top_k=top_k, mode=VectorStoreQueryMode(mode), **others)


def found(store: FaissStore, words: str, top_k: int = 100) -> list[str]:
    """The ids of what a question's words find, best first."""
    return list(store.query(by_words(words, top_k)).ids or [])

"""Answers a LlamaIndex query from one commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode
from numpy.typing import NDArray

from ..errors import StoreError, UnsupportedQuery
from .directory import IndexDirectory
from .filters import restricts
from .fusion import CANDIDATES, fuse, mmr
from .hits import Hits
from .sqlite.commit_position import CommitPosition
from .sqlite.database import Database, StoredNode
from .vectors.similarity import similarities, validated

_LEXICAL_MODES = (VectorStoreQueryMode.TEXT_SEARCH, VectorStoreQueryMode.SPARSE)
_VECTOR_MODES = (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR)
_MODES = (VectorStoreQueryMode.DEFAULT, *_LEXICAL_MODES, VectorStoreQueryMode.HYBRID, VectorStoreQueryMode.MMR)

EMBEDDINGS = "include_embeddings"
"""The query argument by which hits carry their vectors."""

_QUERY_ARGUMENTS = ("fusion", "mmr_prefetch_k", "mmr_threshold")


class SearchHit(NamedTuple):
    """A hit; `score` is None where a query has no vector and lists what its filters allow.

    `vector_score` and `lexical_score` are the two scores that a hybrid score is made of.
    """

    node: StoredNode
    score: float | None
    vector_score: float | None = None
    lexical_score: float | None = None


def search(directory: IndexDirectory, query: VectorStoreQuery, settings: Mapping[str, Any]) -> list[SearchHit]:
    """The hits of a query, the best first."""
    run = _Search(directory, query, settings)
    lexical = _check(directory, query, run.mmr_threshold)
    return directory.with_current_view(run, lexical=lexical) or []


def _check(directory: IndexDirectory, query: VectorStoreQuery, mmr_threshold: float | None) -> bool:
    """Reject an unsupported or invalid query; returns whether the query needs the lexical index."""
    mode = query.mode
    if mode not in _MODES:
        modes = ", ".join(mode.value for mode in _MODES)
        raise UnsupportedQuery(
            f"{directory.path}: this store does not support mode {mode.value!r}; it supports {modes}"
        )
    for name in ("similarity_top_k", "sparse_top_k", "hybrid_top_k"):
        number = getattr(query, name)
        if number is not None and number < 1:
            raise StoreError(f"{name} has to be 1 or more, not {number}")
    for name, number in (("alpha", query.alpha), ("mmr_threshold", mmr_threshold)):
        if number is not None and not 0 <= number <= 1:
            raise StoreError(f"{name} has to be between 0 and 1, not {number}")
    for name in ("output_fields", "embedding_field"):
        if getattr(query, name):
            raise UnsupportedQuery(
                f"{directory.path}: this store does not support {name}; it returns complete nodes with one vector each"
            )
    lexical = mode in _LEXICAL_MODES or mode == VectorStoreQueryMode.HYBRID
    if lexical and directory.memory_index.lexical is None:
        raise UnsupportedQuery(
            f"{directory.path}: mode {mode.value!r} needs the BM25 index, and this store has none (lexical: false)"
        )
    if lexical and query.query_str is None:
        raise StoreError(f"mode {mode.value!r} needs the text of the query (query_str)")
    return lexical


class _Search:
    def __init__(self, directory: IndexDirectory, query: VectorStoreQuery, settings: Mapping[str, Any]) -> None:
        self.memory_index = directory.memory_index
        self.query = query
        unknown = sorted(set(settings) - set(_QUERY_ARGUMENTS))
        if unknown:
            raise StoreError(
                f"unknown query argument {', '.join(unknown)}; valid are {', '.join((*_QUERY_ARGUMENTS, EMBEDDINGS))}"
            )
        self.fusion = settings.get("fusion", "relative_score")
        if self.fusion not in ("relative_score", "reciprocal_rank"):
            raise StoreError(f"fusion is relative_score or reciprocal_rank, not {self.fusion!r}")
        self.prefetch = settings.get("mmr_prefetch_k") or 4 * query.similarity_top_k
        threshold = settings.get("mmr_threshold")
        self.mmr_threshold = query.mmr_threshold if threshold is None else threshold

    def __call__(self, database: Database, position: CommitPosition) -> list[SearchHit]:
        if position.generation is None:
            return []
        mask = self._mask(database, position.generation)
        query = self.query
        if mask is not None and query.query_embedding is None and (query.mode in _VECTOR_MODES or not query.query_str):
            rows = mask.nonzero()[0][: query.similarity_top_k].tolist()
            nodes = database.nodes_by_row(rows)
            return [SearchHit(nodes[row], None) for row in rows if row in nodes]
        if query.mode == VectorStoreQueryMode.MMR:
            hits = self._mmr(database, mask)
        elif query.mode in _LEXICAL_MODES:
            hits = self._lexical(query.sparse_top_k or query.similarity_top_k, mask)
        elif query.mode == VectorStoreQueryMode.HYBRID:
            hits = self._hybrid(database, mask)
        else:
            hits = self._nearest(database, query.similarity_top_k, mask)
        nodes = database.nodes_by_row([row for row, _ in hits])
        legs = self._leg_scores(database, list(nodes)) if query.mode == VectorStoreQueryMode.HYBRID else {}
        return [SearchHit(nodes[row], score, *legs.get(row, ())) for row, score in hits if row in nodes]

    def _leg_scores(self, database: Database, rows: list[int]) -> dict[int, tuple[float | None, float]]:
        """By row, the vector and the BM25 score of the hits of a hybrid query."""
        if not rows:
            return {}
        vector_scores: list[float | None] = [None] * len(rows)
        if self.query.query_embedding is not None:
            vectors = database.vectors_by_row(rows)
            query = np.asarray(self.query.query_embedding, dtype=np.float32)
            matrix = np.stack([vectors[row] for row in rows])
            vector_scores = similarities(query, matrix, self.memory_index.spec.metric).tolist()
        lexical_scores = dict(self._lexical(len(rows), _mask_of(rows)))
        return {row: (score, lexical_scores.get(row, 0.0)) for row, score in zip(rows, vector_scores)}

    def _nearest(self, database: Database, top_k: int, mask: NDArray[np.bool_] | None) -> Hits:
        index = self.memory_index.index
        if index is None:
            return []
        vector = validated(self.query.query_embedding, index.dimension, "the query")
        return self.memory_index.nearest(database, vector, top_k, mask)

    def _lexical(self, top_k: int, mask: NDArray[np.bool_] | None) -> Hits:
        assert self.memory_index.lexical is not None
        return self.memory_index.lexical.search(self.query.query_str or "", top_k, mask)

    def _hybrid(self, database: Database, mask: NDArray[np.bool_] | None) -> Hits:
        query = self.query
        alpha = 0.5 if query.alpha is None else query.alpha
        top_k = query.hybrid_top_k or query.similarity_top_k
        vector = self._nearest(database, max(CANDIDATES, top_k), mask) if alpha > 0 else []
        lexical = self._lexical(query.sparse_top_k or max(CANDIDATES, top_k), mask) if alpha < 1 else []
        return fuse(vector, lexical, alpha, self.fusion)[:top_k]

    def _mmr(self, database: Database, mask: NDArray[np.bool_] | None) -> Hits:
        query = self.query
        hits = self._nearest(database, max(self.prefetch, query.similarity_top_k), mask)
        if not hits:
            return []
        vectors = database.vectors_by_row([row for row, _ in hits])
        matrix = np.stack([vectors[row] for row, _ in hits])
        threshold = 0.5 if self.mmr_threshold is None else self.mmr_threshold
        metric = self.memory_index.spec.metric
        # Computed as between candidates, so that equal vectors have exactly equal values.
        relevance = similarities(np.asarray(query.query_embedding, dtype=np.float32), matrix, metric)
        selected = mmr(relevance, matrix, metric, threshold, query.similarity_top_k)
        return [(hits[position][0], score) for position, score in selected]

    def _mask(self, database: Database, generation: int) -> NDArray[np.bool_] | None:
        """By row number, which nodes the query allows; None: all."""
        masks = []
        for column, values in (("id", self.query.node_ids), ("document", self.query.doc_ids)):
            # LlamaIndex's retrievers send an empty list of node ids where they do not restrict.
            if values or (values is not None and column == "document"):
                masks.append(_mask_of(database.rows_of(generation, column, list(dict.fromkeys(values)))))
        filters, columns = self.query.filters, self.memory_index.columns
        if filters is not None and restricts(filters) and columns is not None:
            masks.append(columns.mask(database, filters))
        if not masks:
            return None
        size = min(len(mask) for mask in masks)
        return np.logical_and.reduce([mask[:size] for mask in masks])  # type: ignore[no-any-return]


def _mask_of(rows: Sequence[int]) -> NDArray[np.bool_]:
    mask = np.zeros(max(rows, default=-1) + 1, dtype=bool)
    mask[list(rows)] = True
    return mask

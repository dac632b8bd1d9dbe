"""A LlamaIndex query, answered from one commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode

from ..errors import StoreError, UnsupportedQuery
from .filters import restricts
from .fusion import CANDIDATES, fuse, mmr
from .vectors.vector_index import Hits, checked, scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .directory import IndexDirectory
    from .sqlite.commit_position import CommitPosition
    from .sqlite.database import Database

_WORDS = (VectorStoreQueryMode.TEXT_SEARCH, VectorStoreQueryMode.SPARSE)
_MODES = (VectorStoreQueryMode.DEFAULT, *_WORDS, VectorStoreQueryMode.HYBRID, VectorStoreQueryMode.MMR)


def search(
    directory: IndexDirectory, query: VectorStoreQuery, settings: Mapping[str, Any]
) -> list[tuple[tuple[Any, ...], float]]:
    """((row, id, text, metadata, rest), score) of what fits a query best, best first."""
    return directory.with_current_view(_Search(directory, query, settings), words=_needs_words(directory, query)) or []


def _needs_words(directory: IndexDirectory, query: VectorStoreQuery) -> bool:
    """Refuse what cannot be answered, before anything is looked at."""
    if query.mode not in _MODES:
        known = ", ".join(mode.value for mode in _MODES)
        raise UnsupportedQuery(f"{directory.path}: this store has no mode {query.mode.value!r}; it has {known}")
    for name in ("similarity_top_k", "sparse_top_k", "hybrid_top_k"):
        number = getattr(query, name)
        if number is not None and number < 1:
            raise StoreError(f"{name} has to be 1 or more, not {number}")
    for name, number in (("alpha", query.alpha), ("mmr_threshold", query.mmr_threshold)):
        if number is not None and not 0 <= number <= 1:
            raise StoreError(f"{name} has to be between 0 and 1, not {number}")
    for name in ("output_fields", "embedding_field"):
        if getattr(query, name):
            raise UnsupportedQuery(
                f"{directory.path}: this store gives whole nodes, by one vector each; it has no {name}"
            )
    words = query.mode in _WORDS or query.mode == VectorStoreQueryMode.HYBRID
    if words and directory.view.words is None:
        raise UnsupportedQuery(
            f"{directory.path}: mode {query.mode.value!r} needs the lexical leg, and this store was made without "
            "(lexical: false)"
        )
    if words and query.query_str is None:
        raise StoreError(f"mode {query.mode.value!r} needs the question's text (query_str)")
    return words


class _Search:
    def __init__(self, directory: IndexDirectory, query: VectorStoreQuery, settings: Mapping[str, Any]) -> None:
        self.view = directory.view
        self.query = query
        unknown = sorted(set(settings) - {"fusion", "mmr_prefetch_k"})
        if unknown:
            raise StoreError(f"a query of this store takes fusion and mmr_prefetch_k besides, not {', '.join(unknown)}")
        self.fusion = settings.get("fusion", "relative_score")
        if self.fusion not in ("relative_score", "reciprocal_rank"):
            raise StoreError(f"fusion is relative_score or reciprocal_rank, not {self.fusion!r}")
        self.prefetch = settings.get("mmr_prefetch_k") or 4 * query.similarity_top_k

    def __call__(self, database: Database, state: CommitPosition) -> list[tuple[tuple[Any, ...], float]]:
        if state.generation is None:
            return []
        mask = self._mask(database, state.generation)
        query = self.query
        if query.mode == VectorStoreQueryMode.MMR:
            found = self._mmr(database, mask)
        elif query.mode in _WORDS:
            found = self._words(query.sparse_top_k or query.similarity_top_k, mask)
            found = found[: query.similarity_top_k]
        elif query.mode == VectorStoreQueryMode.HYBRID:
            found = self._hybrid(database, mask)
        else:
            found = self._nearest(database, query.similarity_top_k, mask)
        rows = database.nodes_by_row([row for row, _ in found])
        return [(rows[row], score) for row, score in found if row in rows]

    def _nearest(self, database: Database, top_k: int, mask: NDArray[np.bool_] | None) -> Hits:
        index = self.view.index
        if index is None:
            return []
        vector = checked(self.query.query_embedding, index.dimension, "the question")
        return self.view.nearest(database, vector, top_k, mask)

    def _hybrid(self, database: Database, mask: NDArray[np.bool_] | None) -> Hits:
        query = self.query
        alpha = 0.5 if query.alpha is None else query.alpha
        top_k = query.hybrid_top_k or query.similarity_top_k
        vector: Hits = []
        words: Hits = []
        if alpha > 0:
            vector = self._nearest(database, max(CANDIDATES, top_k), mask)
        if alpha < 1:
            words = self._words(query.sparse_top_k or max(CANDIDATES, top_k), mask)
        return fuse(vector, words, alpha, self.fusion)[:top_k]

    def _words(self, top_k: int, mask: NDArray[np.bool_] | None) -> Hits:
        assert self.view.words is not None
        return self.view.words.search(self.query.query_str or "", top_k, mask)

    def _mmr(self, database: Database, mask: NDArray[np.bool_] | None) -> Hits:
        query = self.query
        found = self._nearest(database, max(self.prefetch, query.similarity_top_k), mask)
        if not found:
            return []
        vectors = database.vectors_by_row([row for row, _ in found])
        matrix = np.stack([vectors[row] for row, _ in found])
        threshold = 0.5 if query.mmr_threshold is None else query.mmr_threshold
        metric = self.view.kind.metric
        # By the same arithmetic as the candidates among each other, so that what is equal is equal.
        near = scores(np.asarray(query.query_embedding, dtype=np.float32), matrix, metric)
        return [
            (found[place][0], value) for place, value in mmr(near, matrix, metric, threshold, query.similarity_top_k)
        ]

    def _mask(self, database: Database, generation: int) -> NDArray[np.bool_] | None:
        """By row number, what the query is restricted to; None if it is not."""
        masks = []
        for column, values in (("id", self.query.node_ids), ("document", self.query.doc_ids)):
            if values:
                masks.append(_mask_of(database.rows_of(generation, column, list(dict.fromkeys(values)))))
        if self.query.filters is not None and restricts(self.query.filters) and self.view.columns is not None:
            masks.append(self.view.columns.mask(database, self.query.filters))
        if not masks:
            return None
        size = min(len(mask) for mask in masks)
        return np.logical_and.reduce([mask[:size] for mask in masks])  # type: ignore[no-any-return]


def _mask_of(rows: Sequence[int]) -> NDArray[np.bool_]:
    mask = np.zeros(max(rows, default=-1) + 1, dtype=bool)
    mask[list(rows)] = True
    return mask

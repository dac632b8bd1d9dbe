"""The FAISS index: vectors by row number, derived from SQLite and never the only copy.

It consists of an immutable base (built in memory, or mapped from a snapshot file) and an exact tail of later vectors.
Vectors removed from the base are masked. This avoids what FAISS does not support, such as removing from HNSW or adding
to a mapped file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from ..hits import Hits, search_filtered, sorted_by_score
from .similarity import prepared

# Up to this many numbers are compared by one thread: on a machine busy with an LLM, a search of 50,000 vectors of
# dimension 384 takes 4 ms with one thread and 29 ms when it waits for a second one.
_MAX_NUMBERS_FOR_ONE_THREAD = 2**25


class VectorIndex:
    """Vectors by row number, searched by similarity.

    Args:
        dimension: Dimension of the vectors.
        metric: `cosine` (inner product of unit vectors), `inner_product` or `l2`. Scores of `l2` are
            1 / (1 + squared distance), so that higher is better for every metric.
        base: A FAISS `IndexIDMap` whose ids are ascending row numbers; or None.
    """

    def __init__(self, dimension: int, metric: str, base: Any = None) -> None:
        self.dimension, self.metric, self.base = dimension, metric, base
        # Searches use the inner index and map positions to rows here: IndexIDMap starts threads for the mapping, which
        # takes longer than the search itself on a busy machine.
        self._inner = None if base is None else faiss.downcast_index(base.index)
        self.base_rows: NDArray[np.int64] = np.zeros(0, np.int64)
        if base is not None:
            self.base_rows = faiss.vector_to_array(base.id_map)
        self._alive: NDArray[np.bool_] | None = None  # by position in the base; None: nothing was removed
        self.tail: Any = faiss.IndexFlatL2(dimension) if metric == "l2" else faiss.IndexFlatIP(dimension)
        self.tail_rows: NDArray[np.int64] = np.zeros(0, np.int64)

    def __len__(self) -> int:
        base_count = len(self.base_rows) if self._alive is None else int(np.count_nonzero(self._alive))
        return base_count + len(self.tail_rows)

    def rows(self) -> NDArray[np.int64]:
        """All row numbers."""
        base_rows = self.base_rows if self._alive is None else self.base_rows[self._alive]
        return np.concatenate([base_rows, self.tail_rows])

    def add(self, rows: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """Add vectors, shape (len(rows), dimension), under new row numbers."""
        if len(rows):
            self.tail.add(prepared(vectors, self.metric))
            self.tail_rows = np.concatenate([self.tail_rows, np.asarray(rows, dtype=np.int64)])

    def remove(self, rows: Sequence[int]) -> None:
        """Remove vectors by row number; unknown row numbers are ignored."""
        if not len(rows):
            return
        removed = np.asarray(rows, dtype=np.int64)
        in_tail = np.isin(self.tail_rows, removed)
        if in_tail.any():
            self.tail.remove_ids(in_tail.nonzero()[0])
            self.tail_rows = self.tail_rows[~in_tail]
        if len(self.base_rows):
            positions = np.minimum(np.searchsorted(self.base_rows, removed), len(self.base_rows) - 1)
            positions = positions[self.base_rows[positions] == removed]
            if len(positions):
                if self._alive is None:
                    self._alive = np.ones(len(self.base_rows), dtype=bool)
                self._alive[positions] = False

    def search(self, vector: NDArray[np.float32], top_k: int, mask: NDArray[np.bool_] | None = None) -> Hits:
        """The nearest rows.

        Args:
            vector: Shape (dimension,).
            top_k: Maximum number of hits.
            mask: Allowed rows, by row number; rows beyond its end are not allowed. None: all.
        """
        top_k = min(top_k, len(self))
        if top_k <= 0:
            return []
        query = prepared(vector[None, :], self.metric)
        hits: Hits = []
        if len(self.base_rows):
            allowed = _by_position(self.base_rows, mask)
            if self._alive is not None:
                allowed = self._alive if allowed is None else allowed & self._alive
            hits += self._search_base(query, top_k, allowed)
        if len(self.tail_rows):
            allowed = _by_position(self.tail_rows, mask)
            hits += _search(self.tail, self.tail_rows, query, top_k, faiss.SearchParameters(), allowed)
        if self.metric == "l2":
            hits = [(row, 1.0 / (1.0 + max(0.0, distance))) for row, distance in hits]
        return sorted_by_score(hits, top_k)

    def _search_base(self, query: NDArray[np.float32], top_k: int, allowed: NDArray[np.bool_] | None) -> Hits:
        inner, rows = self._inner, self.base_rows
        if allowed is None:
            return _search(inner, rows, query, top_k)
        count = int(np.count_nonzero(allowed))
        if not isinstance(inner, (faiss.IndexFlat, faiss.IndexScalarQuantizer, faiss.IndexHNSW, faiss.IndexIVF)):
            # Other types ignore or reject a selector.
            return search_filtered(
                lambda depth: _search(inner, rows, query, depth),
                lambda row: bool(allowed[int(np.searchsorted(rows, row))]),
                min(top_k, count),
            )
        parameters = faiss.SearchParameters()
        # The fewer vectors are allowed, the more of the index has to be searched.
        share = max(count / len(allowed), 1e-4)
        if isinstance(inner, faiss.IndexIVF):
            nprobe = min(inner.nlist, int(min(inner.nprobe / share, 16 * inner.nprobe)))
            parameters = faiss.SearchParametersIVF(nprobe=nprobe)  # type: ignore[call-arg]
        elif isinstance(inner, faiss.IndexHNSW):
            ef_search = int(min(inner.hnsw.efSearch / share, 32 * inner.hnsw.efSearch))
            parameters = faiss.SearchParametersHNSW(efSearch=max(ef_search, 2 * top_k))  # type: ignore[attr-defined]
        return _search(inner, rows, query, top_k, parameters, allowed)


def _by_position(rows: NDArray[np.int64], mask: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    """A mask by row number as a mask by position in an index."""
    if mask is None:
        return None
    if not len(mask):
        return np.zeros(len(rows), dtype=bool)
    return mask[np.minimum(rows, len(mask) - 1)] & (rows < len(mask))


def _search(
    index: Any,
    rows: NDArray[np.int64],
    query: NDArray[np.float32],
    top_k: int,
    parameters: Any = None,
    allowed: NDArray[np.bool_] | None = None,
) -> Hits:
    if allowed is None:
        parameters = None
    else:
        bits = np.packbits(allowed, bitorder="little")
        selector = faiss.IDSelectorBitmap(bits)  # type: ignore[call-arg, arg-type]
        parameters.sel = selector
    threads = faiss.omp_get_max_threads()
    try:
        if len(rows) * query.shape[1] <= _MAX_NUMBERS_FOR_ONE_THREAD:
            faiss.omp_set_num_threads(1)  # of this thread only
        values, positions = index.search(query, min(top_k, len(rows)), params=parameters)
    finally:
        faiss.omp_set_num_threads(threads)
    valid = positions[0] >= 0
    return list(zip(rows[positions[0][valid]].tolist(), values[0][valid].tolist()))

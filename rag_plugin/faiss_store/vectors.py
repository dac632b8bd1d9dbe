"""The FAISS side: vectors by row number, derived from SQLite and never the only copy.

An index is a base that is never changed (made at once, or mapped from a snapshot file) and a tail, exact,
of what came after it. What is removed from the base is masked out. So nothing that FAISS cannot do, such as
removing from HNSW or adding to a mapped file, is ever asked of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from ..errors import StoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Found = list[tuple[int, float]]


class VectorIndex:
    """Vectors by row number, searched by similarity.

    Args:
        dimension: Length of the vectors.
        metric: `cosine` and `inner_product` score by inner product, cosine on normalised vectors;
            `l2` scores by 1 / (1 + squared distance), so that higher is better for every metric.
        base: A FAISS index with row numbers (`IndexIDMap`) that holds what was there when it was made; or None.
    """

    def __init__(self, dimension: int, metric: str, base: Any = None) -> None:
        self.dimension, self.metric, self.base = dimension, metric, base
        self.tail = flat(dimension, metric)
        self.removed: set[int] = set()  # of the base
        self._base_rows: NDArray[np.int64] | None = None
        self._alive: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return self.base_count - len(self.removed) + self.tail_count

    @property
    def base_count(self) -> int:
        return 0 if self.base is None else int(self.base.ntotal)

    @property
    def tail_count(self) -> int:
        return int(self.tail.ntotal)

    @property
    def base_rows(self) -> NDArray[np.int64]:
        """The row numbers in the base, removed ones too, in ascending order."""
        if self._base_rows is None:
            self._base_rows = np.zeros(0, dtype=np.int64)
            if self.base is not None:
                self._base_rows = np.sort(faiss.vector_to_array(self.base.id_map))
        return self._base_rows

    def rows(self) -> NDArray[np.int64]:
        """The row numbers that a search can find, in ascending order."""
        kept = self.base_rows
        if self.removed:
            kept = kept[~np.isin(kept, np.fromiter(self.removed, dtype=np.int64))]
        return np.sort(np.concatenate([kept, faiss.vector_to_array(self.tail.id_map)]))

    def add(self, rows: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """Add vectors, shape (len(rows), dimension), under row numbers that are not in the index."""
        if len(rows):
            self.tail.add_with_ids(prepared(vectors, self.metric), np.asarray(rows, dtype=np.int64))

    def remove(self, rows: Sequence[int]) -> None:
        """Remove row numbers; those that are not there are passed over."""
        if not len(rows):
            return
        gone = np.asarray(rows, dtype=np.int64)
        if self.tail_count:
            self.tail.remove_ids(gone)
        if self.base_count:
            places = np.searchsorted(self.base_rows, gone)
            places[places == len(self.base_rows)] = 0
            in_base = gone[self.base_rows[places] == gone]
            if len(in_base):
                self.removed.update(in_base.tolist())
                self._alive = None

    def search(self, vector: NDArray[np.float32], top_k: int, mask: NDArray[np.bool_] | None = None) -> Found:
        """The nearest row numbers with their scores, best first.

        Args:
            vector: Shape (dimension,).
            top_k: The most to return.
            mask: By row number, what may be found; a number past its end may not. None: everything.
        """
        top_k = min(top_k, len(self))
        if top_k <= 0:
            return []
        question = prepared(vector[None, :], self.metric)
        found: Found = []
        if self.base_count:
            found += self._search_base(question, top_k, mask)
        if self.tail_count:
            found += _search(self.tail, question, top_k, None if mask is None else faiss.SearchParameters(), mask)
        if self.metric == "l2":
            found = [(row, 1.0 / (1.0 + max(0.0, distance))) for row, distance in found]
        found.sort(key=lambda item: (-item[1], item[0]))
        return found[:top_k]

    def _search_base(self, question: NDArray[np.float32], top_k: int, mask: NDArray[np.bool_] | None) -> Found:
        if self.removed:
            if self._alive is None:
                self._alive = np.ones(int(self.base_rows[-1]) + 1, dtype=bool)
                self._alive[np.fromiter(self.removed, dtype=np.int64)] = False
            alive = self._alive
            if mask is None:
                mask = alive
            else:
                size = min(len(mask), len(alive))
                mask = mask[:size] & alive[:size]
        if mask is None:
            return _search(self.base, question, top_k)
        inner = faiss.downcast_index(self.base.index)
        if not isinstance(inner, (faiss.IndexFlat, faiss.IndexScalarQuantizer, faiss.IndexHNSW, faiss.IndexIVF)):
            return self._search_and_sift(question, top_k, mask)  # FAISS would pass over the selector, or refuse it
        parameters = faiss.SearchParameters()
        # A search for few among many has to look at more of the index to meet them.
        share = max(float(np.count_nonzero(mask)) / self.base_count, 1e-4)
        if isinstance(inner, faiss.IndexIVF):
            nprobe = min(inner.nlist, int(min(inner.nprobe / share, 16 * inner.nprobe)))
            parameters = faiss.SearchParametersIVF(nprobe=nprobe)  # type: ignore[call-arg]
        elif isinstance(inner, faiss.IndexHNSW):
            effort = int(min(inner.hnsw.efSearch / share, 32 * inner.hnsw.efSearch))
            parameters = faiss.SearchParametersHNSW(efSearch=max(effort, 2 * top_k))  # type: ignore[attr-defined]
        return _search(self.base, question, top_k, parameters, mask)

    def _search_and_sift(self, question: NDArray[np.float32], top_k: int, mask: NDArray[np.bool_]) -> Found:
        wanted = min(top_k, int(np.count_nonzero(mask)))
        asked = 4 * top_k
        while True:
            asked = min(asked, self.base_count)
            found = [item for item in _search(self.base, question, asked) if item[0] < len(mask) and mask[item[0]]]
            if len(found) >= wanted or asked == self.base_count:
                return found
            asked *= 4


def flat(dimension: int, metric: str) -> Any:
    """An empty exact FAISS index over row numbers."""
    return faiss.IndexIDMap(faiss.IndexFlatL2(dimension) if metric == "l2" else faiss.IndexFlatIP(dimension))


def _search(
    index: Any,
    question: NDArray[np.float32],
    top_k: int,
    parameters: Any = None,
    mask: NDArray[np.bool_] | None = None,
) -> Found:
    if mask is not None:
        bits = np.packbits(mask, bitorder="little")
        if not bits.size:
            return []
        selector = faiss.IDSelectorBitmap(bits)  # type: ignore[call-arg, arg-type]
        parameters.sel = selector
    values, rows = index.search(question, min(top_k, int(index.ntotal)), params=parameters)
    return [(row, value) for row, value in zip(rows[0].tolist(), values[0].tolist()) if row != -1]


def prepared(vectors: NDArray[np.float32], metric: str) -> NDArray[np.float32]:
    """Vectors as FAISS compares them: of length 1 for cosine; a zero vector stays one, near to nothing."""
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if metric == "cosine":
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    return vectors


def scores(question: NDArray[np.float32], vectors: NDArray[np.float32], metric: str) -> NDArray[np.float32]:
    """The exact similarity of each vector, shape (n, dimension), with the question, shape (dimension,)."""
    first, second = prepared(question[None, :], metric)[0], prepared(vectors, metric)
    if metric == "l2":
        return 1.0 / (1.0 + ((second - first) ** 2).sum(axis=1))  # type: ignore[no-any-return]
    return second @ first  # type: ignore[no-any-return]


def checked(vector: Any, dimension: int | None, what: str) -> NDArray[np.float32]:
    """A vector as float32, or an error that says what is wrong with it.

    Raises:
        StoreError: It is missing, not a row of finite numbers, or of another length than the index has.
    """
    if vector is None:
        raise StoreError(f"{what} has no vector")
    try:
        array = np.asarray(vector, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise StoreError(f"{what} has a vector that is no row of numbers: {error}") from error
    if array.ndim != 1 or array.size == 0:
        raise StoreError(f"{what} has a vector of shape {array.shape}; a row of numbers is expected")
    if dimension is not None and array.size != dimension:
        raise StoreError(
            f"{what} has a vector of {array.size} numbers, and this index holds vectors of {dimension}: "
            "another encoder made them"
        )
    if not np.isfinite(array).all():
        raise StoreError(f"{what} has a vector with NaN or infinity in it")
    return array

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

from ...errors import StoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Hits = list[tuple[int, float]]
"""(row number, score)."""


def sorted_by_score(found: Hits, top_k: int | None = None) -> Hits:
    """By score, and by row where the scores are equal; the best `top_k`."""
    return sorted(found, key=lambda item: (-item[1], item[0]))[:top_k]


_SMALL = 1e-15
_LARGEST = 1e18  # of a vector's length: FAISS computes with squares of sums of two, in float32
_ALONE = 2**25  # numbers to compare with that one thread is rather left alone with: on a busy machine, as beside an
# LLM, a search of 50,000 vectors of 384 took 4 ms so, and 29 ms when it waited for a second thread


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
        # FAISS knows vectors by their place. An IndexIDMap would know them by row number, but its search starts
        # threads for that, which takes longer than the search itself where the processor is busy.
        self._inner = None if base is None else faiss.downcast_index(base.index)
        self.base_rows = np.zeros(0, np.int64) if base is None else faiss.vector_to_array(base.id_map)
        self._alive: NDArray[np.bool_] | None = None  # by place in the base; None: nothing was removed
        self.tail: Any = faiss.IndexFlatL2(dimension) if metric == "l2" else faiss.IndexFlatIP(dimension)
        self.tail_rows = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return self.base_count + self.tail_count

    @property
    def base_count(self) -> int:
        """How many vectors of the base a search can find."""
        return len(self.base_rows) if self._alive is None else int(np.count_nonzero(self._alive))

    @property
    def tail_count(self) -> int:
        return len(self.tail_rows)

    def rows(self) -> NDArray[np.int64]:
        """The row numbers that a search can find."""
        kept = self.base_rows if self._alive is None else self.base_rows[self._alive]
        return np.concatenate([kept, self.tail_rows])

    def add(self, rows: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """Add vectors, shape (len(rows), dimension), under row numbers that are not in the index."""
        if len(rows):
            self.tail.add(prepared(vectors, self.metric))
            self.tail_rows = np.concatenate([self.tail_rows, np.asarray(rows, dtype=np.int64)])

    def remove(self, rows: Sequence[int]) -> None:
        """Remove row numbers; those that are not there are passed over."""
        if not len(rows):
            return
        gone = np.asarray(rows, dtype=np.int64)
        in_tail = np.isin(self.tail_rows, gone)
        if in_tail.any():
            self.tail.remove_ids(in_tail.nonzero()[0])
            self.tail_rows = self.tail_rows[~in_tail]
        if len(self.base_rows):
            places = np.minimum(np.searchsorted(self.base_rows, gone), len(self.base_rows) - 1)
            places = places[self.base_rows[places] == gone]
            if len(places):
                if self._alive is None:
                    self._alive = np.ones(len(self.base_rows), dtype=bool)
                self._alive[places] = False

    def search(self, vector: NDArray[np.float32], top_k: int, mask: NDArray[np.bool_] | None = None) -> Hits:
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
        found: Hits = []
        if len(self.base_rows):
            places = _places(self.base_rows, mask)
            if self._alive is not None:
                places = self._alive if places is None else places & self._alive
            found += self._search_base(question, top_k, places)
        if self.tail_count:
            places = _places(self.tail_rows, mask)
            found += _search(self.tail, self.tail_rows, question, top_k, faiss.SearchParameters(), places)
        if self.metric == "l2":
            found = [(row, 1.0 / (1.0 + max(0.0, distance))) for row, distance in found]
        return sorted_by_score(found, top_k)

    def _search_base(self, question: NDArray[np.float32], top_k: int, places: NDArray[np.bool_] | None) -> Hits:
        inner = self._inner
        if places is None:
            return _search(inner, self.base_rows, question, top_k)
        if not isinstance(inner, (faiss.IndexFlat, faiss.IndexScalarQuantizer, faiss.IndexHNSW, faiss.IndexIVF)):
            return self._search_and_sift(question, top_k, places)  # FAISS would pass over the selector, or refuse it
        parameters = faiss.SearchParameters()
        # A search for few among many has to look at more of the index to meet them.
        share = max(float(np.count_nonzero(places)) / len(places), 1e-4)
        if isinstance(inner, faiss.IndexIVF):
            nprobe = min(inner.nlist, int(min(inner.nprobe / share, 16 * inner.nprobe)))
            parameters = faiss.SearchParametersIVF(nprobe=nprobe)  # type: ignore[call-arg]
        elif isinstance(inner, faiss.IndexHNSW):
            effort = int(min(inner.hnsw.efSearch / share, 32 * inner.hnsw.efSearch))
            parameters = faiss.SearchParametersHNSW(efSearch=max(effort, 2 * top_k))  # type: ignore[attr-defined]
        return _search(inner, self.base_rows, question, top_k, parameters, places)

    def _search_and_sift(self, question: NDArray[np.float32], top_k: int, places: NDArray[np.bool_]) -> Hits:
        wanted = min(top_k, int(np.count_nonzero(places)))
        asked = 4 * top_k
        while True:
            asked = min(asked, len(self.base_rows))
            found = [
                item
                for item in _search(self._inner, self.base_rows, question, asked)
                if places[int(np.searchsorted(self.base_rows, item[0]))]
            ]
            if len(found) >= wanted or asked == len(self.base_rows):
                return found
            asked *= 4


def _places(rows: NDArray[np.int64], mask: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    """Which places of an index a mask by row number lets through."""
    if mask is None:
        return None
    if not len(mask):
        return np.zeros(len(rows), dtype=bool)
    return mask[np.minimum(rows, len(mask) - 1)] & (rows < len(mask))


def _search(
    index: Any,
    rows: NDArray[np.int64],
    question: NDArray[np.float32],
    top_k: int,
    parameters: Any = None,
    places: NDArray[np.bool_] | None = None,
) -> Hits:
    if places is None:
        parameters = None
    else:
        bits = np.packbits(places, bitorder="little")
        selector = faiss.IDSelectorBitmap(bits)  # type: ignore[call-arg, arg-type]
        parameters.sel = selector
    threads = faiss.omp_get_max_threads()
    try:
        if len(rows) * question.shape[1] <= _ALONE:
            faiss.omp_set_num_threads(1)  # of this thread only
        values, found = index.search(question, min(top_k, len(rows)), params=parameters)
    finally:
        faiss.omp_set_num_threads(threads)
    hit = found[0] >= 0
    return list(zip(rows[found[0][hit]].tolist(), values[0][hit].tolist()))


def prepared(vectors: NDArray[np.float32], metric: str) -> NDArray[np.float32]:
    """Vectors as FAISS compares them: of length 1 for cosine; a zero vector stays one, near to nothing."""
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if metric == "cosine":
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        small = norms[:, 0] < _SMALL
        if small.any():  # its square may be too small for float32
            exact = vectors[small].astype(np.float64)
            norms = norms.astype(np.float64)
            norms[small] = np.linalg.norm(exact, axis=1, keepdims=True)
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
    if not is_measurable(array[None, :]):
        raise StoreError(f"{what} has a vector with numbers so large that its length cannot be computed in float32")
    return array


def is_measurable(vectors: NDArray[np.float32]) -> bool:
    """Whether all numbers are finite, and so are the products that FAISS makes of them."""
    if not vectors.shape[1]:
        return False
    largest = max(float(vectors.max()), -float(vectors.min()))
    return largest <= _LARGEST / vectors.shape[1] ** 0.5  # False for NaN too

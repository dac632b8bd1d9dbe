"""Builds the FAISS base of an index specification from the vectors in SQLite, and tunes it to a recall."""

from __future__ import annotations

import logging
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from ...errors import StoreError
from ..settings import Metric, Precision
from .similarity import prepared

_log = logging.getLogger(__package__)

Batches = Callable[[], Iterator[tuple[list[int], NDArray[np.float32]]]]
"""Reads all vectors at each call: batches of (row numbers, vectors of shape (n, dimension))."""

_CODES = {"float32": "Flat", "float16": "SQfp16", "int8": "SQ8"}
_MIN_TRAINING_VECTORS_PER_LIST = 39  # FAISS's own minimum
_TRAINING_VECTORS_PER_LIST = 64
_MAX_TRAINING_VECTORS = 200_000
_RECALL_QUERIES = 200
_RECALL_TOP_K = 10
_MAX_TIES = 50  # vectors as near as the tenth
_MIN_EF_SEARCH, _MAX_EF_SEARCH = 64, 2048
# Stored vectors are easier queries for HNSW than new ones: tuned down to efSearch 16 it reaches a recall of .995 for
# them and .89 for others (50,000 vectors of dimension 384), so it is only tuned upwards.


@dataclass(frozen=True)
class IndexSpec:
    """Specification of a FAISS index: four of the store's settings."""

    index: str
    precision: Precision
    metric: Metric
    recall: float

    def factory(self, count: int) -> str:
        """The FAISS factory string for this number of vectors."""
        code = _CODES[self.precision]
        if self.index == "Flat":
            return code
        if self.index == "HNSW":
            return "HNSW32" if code == "Flat" else f"HNSW32_{code}"
        if self.index == "IVF":
            lists = 2 ** int(np.log2(max(1.0, 4 * np.sqrt(count))))
            return f"IVF{max(1, min(lists, count // _MIN_TRAINING_VECTORS_PER_LIST))},{code}"
        return re.sub(r"^IDMap2?,", "", self.index)

    def name(self) -> str:
        """Identifier in the snapshot record; a base of another specification is rebuilt."""
        return f"{self.index}|{self.precision}|{self.metric}|{self.recall}"

    def check(self) -> None:
        """Raise a `StoreError` if FAISS has no such index."""
        if self.index in ("Flat", "HNSW", "IVF"):
            return
        if self.precision != "float32":
            raise StoreError(
                f"precision: {self.precision} is for index Flat, HNSW or IVF; the factory string {self.index!r} "
                "has its own precision, as in 'HNSW32_SQ8' or 'IVF1024,SQfp16'"
            )
        try:
            self._check_type(faiss.index_factory(1536, self.factory(0), self.faiss_metric))
        except RuntimeError as error:
            if "could not parse" in str(error):  # what does not fit dimension 1,536 may fit the actual one
                raise StoreError(
                    f"FAISS has no index {self.index!r}; valid are Flat, HNSW, IVF, and the strings of "
                    "https://github.com/facebookresearch/faiss/wiki/The-index-factory"
                ) from error

    def new(self, dimension: int, count: int) -> Any:
        """An empty FAISS index for this number of vectors.

        Raises:
            StoreError: The index type does not support the dimension.
        """
        try:
            index = faiss.index_factory(dimension, self.factory(count), self.faiss_metric)
        except RuntimeError as error:
            raise self.unsupported(dimension, error) from error
        self._check_type(index)
        inner = faiss.downcast_index(index)
        if isinstance(inner, faiss.IndexHNSW):
            inner.hnsw.efConstruction = 128
            inner.hnsw.efSearch = _MIN_EF_SEARCH
        return index

    def _check_type(self, index: Any) -> None:
        if isinstance(faiss.downcast_index(index), (faiss.IndexIDMap, faiss.IndexIDMap2)):
            raise StoreError(f"index {self.index!r}: leave out IDMap, the store adds it")
        inverted = faiss.try_extract_index_ivf(index)
        if inverted is not None and inverted.nlist < 1:
            raise StoreError(f"index {self.index!r}: an inverted file needs at least one list")

    def unsupported(self, dimension: int, error: RuntimeError) -> StoreError:
        """The error of FAISS as one line."""
        reason = str(error).rsplit("details: ")[-1].rsplit("Error: ")[-1].splitlines()[-1].strip()
        return StoreError(f"FAISS cannot build an index {self.index!r} of dimension {dimension}: {reason}")

    @property
    def faiss_metric(self) -> int:
        return int(faiss.METRIC_L2 if self.metric == "l2" else faiss.METRIC_INNER_PRODUCT)

    @property
    def is_exact(self) -> bool:
        return self.index == "Flat" and self.precision == "float32"

    def min_vectors(self, dimension: int, count: int) -> int:
        """Minimum number of vectors to train an index for `count` of them."""
        index = self.new(dimension, count)
        if index.is_trained:
            return 0
        inverted = faiss.try_extract_index_ivf(index)
        minimum = 1 if inverted is None else _MIN_TRAINING_VECTORS_PER_LIST * int(inverted.nlist)
        return max(minimum, _MIN_TRAINING_VECTORS_PER_LIST * 256) if "PQ" in self.index else minimum

    @staticmethod
    def candidates(top_k: int) -> int:
        """Number of hits of a quantized index to rescore for the best `top_k`."""
        return max(4 * top_k, top_k + 50)


def keeps_exact(base: Any) -> bool:
    """Whether a base stores exact vectors, so that its scores are exact."""
    inner = faiss.downcast_index(base.index)
    return isinstance(inner, (faiss.IndexFlat, faiss.IndexHNSWFlat, faiss.IndexIVFFlat))


def make_base(spec: IndexSpec, dimension: int, count: int, batches: Batches, rescore: bool) -> tuple[Any, float | None]:
    """Build a base; returns it and its recall@10, or (None, None) while there are too few vectors to train it.

    Args:
        spec: The specification of the index.
        dimension, count, batches: The vectors.
        rescore: Whether hits are rescored with the exact vectors.

    Raises:
        StoreError: FAISS cannot build such an index of these vectors.
    """
    minimum = spec.min_vectors(dimension, count)
    if count < minimum:
        _log.info("a %s index needs %d vectors for training; search is exact with %d", spec.index, minimum, count)
        return None, None
    index = spec.new(dimension, count)
    try:
        if not index.is_trained:
            size = min(count, _MAX_TRAINING_VECTORS, _training_size(index))
            _log.info("training %s on %d vectors", spec.factory(count), size)
            index.train(_sample(spec, count, size, dimension, batches)[1])
        base = faiss.IndexIDMap(index)
        extend_base(spec, base, batches)
        return base, None if spec.is_exact else _tune(spec, base, dimension, batches, rescore)
    except RuntimeError as error:
        raise spec.unsupported(dimension, error) from error


def extend_base(spec: IndexSpec, base: Any, batches: Batches) -> None:
    """Add vectors to a base that no search uses yet."""
    for rows, vectors in batches():
        base.add_with_ids(prepared(vectors, spec.metric), np.asarray(rows, dtype=np.int64))


def _training_size(index: Any) -> int:
    inverted = faiss.try_extract_index_ivf(index)
    return max(_TRAINING_VECTORS_PER_LIST * int(inverted.nlist) if inverted is not None else 0, 65_536)


def _sample(
    spec: IndexSpec, count: int, size: int, dimension: int, batches: Batches
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(row numbers, vectors) of a random sample, the same in every run."""
    chosen = np.sort(np.random.default_rng(0).choice(count, size, replace=False))
    sampled_rows = np.empty(size, dtype=np.int64)
    sample = np.empty((size, dimension), dtype=np.float32)
    start = done = 0
    for rows, vectors in batches():
        upto = int(np.searchsorted(chosen, start + len(vectors)))
        positions = chosen[done:upto] - start
        sampled_rows[done:upto] = np.asarray(rows, dtype=np.int64)[positions]
        sample[done:upto] = prepared(vectors[positions], spec.metric)
        start, done = start + len(vectors), upto
    return sampled_rows, sample


def _tune(spec: IndexSpec, base: Any, dimension: int, batches: Batches, rescore: bool) -> float:
    """Set the smallest nprobe or efSearch that reaches the recall; returns the recall@10 of a sample."""
    count = int(base.ntotal)
    rows, queries = _sample(spec, count, min(_RECALL_QUERIES, count), dimension, batches)
    truth = _nearest_rows(spec, rows, queries, batches)
    total = max(1, sum(min(_RECALL_TOP_K, len(nearest)) for nearest in truth))
    inner = faiss.downcast_index(base.index)
    inverted = faiss.try_extract_index_ivf(inner)
    # One more than needed: every query is a stored vector, and the first of its own hits.
    depth = 1 + (spec.candidates(_RECALL_TOP_K) if rescore and not keeps_exact(base) else _RECALL_TOP_K)

    def recall(effort: int) -> float:
        if inverted is not None:
            inverted.nprobe = effort
        elif isinstance(inner, faiss.IndexHNSW):
            inner.hnsw.efSearch = effort
        hits = base.search(queries, min(depth, count))[1].tolist()
        relevant = sum(min(_RECALL_TOP_K, len(nearest.intersection(ids))) for nearest, ids in zip(truth, hits))
        return relevant / total

    efforts = range(1)
    if inverted is not None:
        efforts = range(1, int(inverted.nlist) + 1)
    elif isinstance(inner, faiss.IndexHNSW):
        efforts = range(_MIN_EF_SEARCH, max(_MIN_EF_SEARCH, min(count, _MAX_EF_SEARCH)) + 1)
    target = min(1.0, spec.recall + 0.01)  # a margin, since the sample is small
    reached = recall(efforts[bisect_left(efforts, target, hi=len(efforts) - 1, key=recall)])
    if reached < spec.recall:
        _log.warning("the maximum recall@%d of index %s is %.3f", _RECALL_TOP_K, spec.index, reached)
    return reached


def _nearest_rows(
    spec: IndexSpec, rows: NDArray[np.int64], queries: NDArray[np.float32], batches: Batches
) -> list[set[int]]:
    """The true nearest rows of each query, without itself; more than ten where several are as near as the tenth."""
    top_k = _RECALL_TOP_K + 1 + _MAX_TIES
    heap = faiss.ResultHeap(len(queries), top_k, keep_max=spec.metric != "l2")
    for numbers, vectors in batches():
        part = prepared(vectors, spec.metric)
        values, positions = faiss.knn(queries, part, min(top_k, len(part)), metric=spec.faiss_metric)
        heap.add_result(np.ascontiguousarray(values), np.asarray(numbers, dtype=np.int64)[positions])
    heap.finalize()
    nearest = []
    for query_row, distances, neighbours in zip(rows, heap.D if spec.metric == "l2" else -heap.D, heap.I):
        others = (neighbours != query_row) & (neighbours >= 0)
        distances, neighbours = distances[others], neighbours[others]
        tenth = distances[:_RECALL_TOP_K][-1:]  # empty where there is no other vector
        nearest.append(set(neighbours[distances <= tenth + 1e-6 * np.maximum(1.0, np.abs(tenth))].tolist()))
    return nearest

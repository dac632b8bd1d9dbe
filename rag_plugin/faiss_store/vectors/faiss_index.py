"""Making a FAISS base of a given type from what SQLite holds, and measuring how much it finds."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import faiss
import numpy as np

from ...errors import StoreError
from .vector_index import prepared

if TYPE_CHECKING:
    from numpy.typing import NDArray

_log = logging.getLogger(__package__)

Batches = Callable[[], Iterator[tuple[list[int], "NDArray[np.float32]"]]]
Precision = Literal["float32", "float16", "int8"]

_CODES = {"float32": "Flat", "float16": "SQfp16", "int8": "SQ8"}
_PER_LIST = 39  # FAISS's own least number of training vectors for a list
_LIST_SAMPLE = 64  # training vectors for a list, where there are as many
_AT_ONCE = 200_000  # training vectors held in memory
_SAMPLE = 200  # stored vectors that the recall is measured with
_TOP = 10
_EQUALS = 50  # that may be as near as the tenth


@dataclass(frozen=True)
class IndexSpec:
    """What a base is made like: the words of the config."""

    index: str
    precision: Precision
    metric: str
    recall: float

    def factory(self, count: int) -> str:
        """The FAISS factory string for so many vectors."""
        code = _CODES[self.precision]
        if self.index == "Flat":
            return code
        if self.index == "HNSW":
            return "HNSW32" if code == "Flat" else f"HNSW32_{code}"
        if self.index == "IVF":
            lists = 2 ** int(np.log2(max(1.0, 4 * np.sqrt(count))))
            return f"IVF{max(1, min(lists, count // _PER_LIST))},{code}"
        return re.sub(r"^IDMap2?,", "", self.index)

    def name(self) -> str:
        """What tells one kind from another; a base of another name is made anew."""
        return f"{self.index}|{self.precision}|{self.metric}|{self.recall}"

    def check(self) -> None:
        """See to it that FAISS knows such an index.

        Raises:
            StoreError: It does not.
        """
        if self.index in ("Flat", "HNSW", "IVF"):
            return
        if self.precision != "float32":
            raise StoreError(
                f"precision: {self.precision} goes with index Flat, HNSW or IVF; {self.index!r} says its own, "
                "as in 'HNSW32_SQ8' or 'IVF1024,SQfp16'"
            )
        try:
            self._refuse_odd(faiss.index_factory(1536, self.factory(0), self._metric()))
        except RuntimeError as error:
            if "could not parse" in str(error):  # what does not fit 1,536 numbers may fit what is to come
                raise StoreError(
                    f"FAISS knows no index {self.index!r}: name Flat, HNSW, IVF, or a string of "
                    "https://github.com/facebookresearch/faiss/wiki/The-index-factory"
                ) from error

    def new(self, dimension: int, count: int) -> Any:
        """An empty FAISS index for so many vectors.

        Raises:
            StoreError: FAISS cannot make one for vectors of this length.
        """
        try:
            index = faiss.index_factory(dimension, self.factory(count), self._metric())
        except RuntimeError as error:
            raise self._unfit(dimension, error) from error
        self._refuse_odd(index)
        inner = faiss.downcast_index(index)
        if isinstance(inner, faiss.IndexHNSW):
            inner.hnsw.efConstruction = 128
            inner.hnsw.efSearch = 64
        return index

    def _refuse_odd(self, index: Any) -> None:
        if isinstance(faiss.downcast_index(index), (faiss.IndexIDMap, faiss.IndexIDMap2)):
            raise StoreError(f"index {self.index!r}: leave out IDMap, which is added by itself")
        inverted = faiss.try_extract_index_ivf(index)
        if inverted is not None and inverted.nlist < 1:
            raise StoreError(f"index {self.index!r}: an inverted file needs at least one list")

    def _unfit(self, dimension: int, error: RuntimeError) -> StoreError:
        reason = str(error).rsplit("details: ")[-1].rsplit("Error: ")[-1].splitlines()[-1].strip()
        return StoreError(f"FAISS cannot make an index {self.index!r} of vectors of {dimension} numbers: {reason}")

    def _metric(self) -> int:
        return int(faiss.METRIC_L2 if self.metric == "l2" else faiss.METRIC_INNER_PRODUCT)

    @property
    def is_exact(self) -> bool:
        return self.index == "Flat" and self.precision == "float32"

    def least(self, dimension: int, count: int) -> int:
        """How many vectors an index for `count` of them needs to be trained."""
        index = self.new(dimension, count)
        if index.is_trained:
            return 0
        inverted = faiss.try_extract_index_ivf(index)
        least = _PER_LIST * int(inverted.nlist) if inverted is not None else 1
        return max(least, _PER_LIST * 256) if "PQ" in self.index else least

    @staticmethod
    def candidates(top_k: int) -> int:
        """How many of an index of shortened vectors are scored exactly to find the best `top_k`."""
        return max(4 * top_k, top_k + 50)


def keeps_exact(base: Any) -> bool:
    """Whether the scores that a base gives are those of the exact vectors."""
    inner = faiss.downcast_index(base.index)
    return isinstance(inner, (faiss.IndexFlat, faiss.IndexHNSWFlat, faiss.IndexIVFFlat))


def make_base(kind: IndexSpec, dimension: int, count: int, batches: Batches, rescore: bool) -> tuple[Any, float | None]:
    """A base of this kind, and its recall; (None, None) while there are too few vectors to train it.

    Args:
        kind: What to make.
        dimension: Length of the vectors.
        count: How many there are.
        batches: Called for (row numbers, vectors of shape (n, dimension)); more than once.
        rescore: Whether what it finds is scored by the exact vectors.

    Raises:
        StoreError: FAISS cannot make such an index of these vectors.
    """
    least = kind.least(dimension, count)
    if count < least:
        _log.info(
            "a %s index is trained from %d vectors on; its %d are searched exactly until then",
            kind.index,
            least,
            count,
        )
        return None, None
    index = kind.new(dimension, count)
    try:
        if not index.is_trained:
            size = min(count, _AT_ONCE, _sample_size(index))
            _log.info("training %s on %d vectors", kind.factory(count), size)
            index.train(_sample(kind, count, size, dimension, batches)[1])
        base = faiss.IndexIDMap(index)
        extend_base(kind, base, batches)
        return base, None if kind.is_exact else _tune(kind, base, dimension, batches, rescore)
    except RuntimeError as error:
        raise kind._unfit(dimension, error) from error


def extend_base(kind: IndexSpec, base: Any, batches: Batches) -> None:
    """Add vectors to a base that is nobody else's."""
    for rows, vectors in batches():
        base.add_with_ids(prepared(vectors, kind.metric), np.asarray(rows, dtype=np.int64))


def _sample_size(index: Any) -> int:
    inverted = faiss.try_extract_index_ivf(index)
    return max(_LIST_SAMPLE * int(inverted.nlist) if inverted is not None else 0, 65_536)


def _sample(
    kind: IndexSpec, count: int, size: int, dimension: int, batches: Batches
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(row numbers, vectors) of so many, spread evenly by chance but the same in every run."""
    chosen = np.sort(np.random.default_rng(0).choice(count, size, replace=False))
    numbers = np.empty(size, dtype=np.int64)
    sample = np.empty((size, dimension), dtype=np.float32)
    place = done = 0
    for rows, vectors in batches():
        upto = int(np.searchsorted(chosen, place + len(vectors)))
        here = chosen[done:upto] - place
        numbers[done:upto] = np.asarray(rows, dtype=np.int64)[here]
        sample[done:upto] = prepared(vectors[here], kind.metric)
        place, done = place + len(vectors), upto
    return numbers, sample


def _tune(kind: IndexSpec, base: Any, dimension: int, batches: Batches, rescore: bool) -> float:
    """Let the base look at as much as the recall asks for; returns the share of the true nearest that it finds."""
    count = int(base.ntotal)
    rows, questions = _sample(kind, count, min(_SAMPLE, count), dimension, batches)
    truth = _nearest_rows(kind, rows, questions, dimension, batches)
    total = sum(min(_TOP, len(one)) for one in truth)
    inner = faiss.downcast_index(base.index)
    inverted = faiss.try_extract_index_ivf(inner)
    # One more than wanted: a question is in the index itself, and finds itself.
    asked = 1 + (kind.candidates(_TOP) if rescore and not keeps_exact(base) else _TOP)

    def recall(effort: int) -> float:
        if inverted is not None:
            inverted.nprobe = effort
        elif isinstance(inner, faiss.IndexHNSW):
            inner.hnsw.efSearch = effort
        found = base.search(questions, min(asked, count))[1].tolist()
        hits = 0
        for row, one, nearest in zip(rows.tolist(), found, truth):
            others = [number for number in one if number != row][: asked - 1]
            hits += min(_TOP, len(nearest & set(others)))
        return hits / max(1, total)

    if inverted is not None:
        least, most = 1, int(inverted.nlist)
    elif isinstance(inner, faiss.IndexHNSW):
        least, most = 16, max(16, min(count, 2048))
    else:
        return recall(0)
    wanted = min(1.0, kind.recall + 0.01)  # a little more, since it is measured on a sample
    while least < most:  # the least effort that finds enough
        middle = (least + most) // 2
        if recall(middle) >= wanted:
            most = middle
        else:
            least = middle + 1
    reached = recall(most)
    if reached < kind.recall:
        _log.warning("a %s index finds %.3f of the nearest %d at the most", kind.index, reached, _TOP)
    return reached


def _nearest_rows(
    kind: IndexSpec, rows: NDArray[np.int64], questions: NDArray[np.float32], dimension: int, batches: Batches
) -> list[set[int]]:
    """For each question the rows that are truly nearest, itself left out; more than ten where some are as near."""
    top_k = _TOP + 1 + _EQUALS
    largest = faiss.ResultHeap(len(questions), top_k, keep_max=kind.metric != "l2")
    for numbers, vectors in batches():
        part = prepared(vectors, kind.metric)
        distances, places = faiss.knn(questions, part, min(top_k, len(part)), metric=kind._metric())
        found = np.asarray(numbers, dtype=np.int64)[places]
        largest.add_result(np.ascontiguousarray(distances), np.ascontiguousarray(found))
    largest.finalize()
    nearest = []
    for own, distances, found in zip(rows.tolist(), largest.D, largest.I):
        others = [(row, value) for row, value in zip(found.tolist(), distances.tolist()) if row not in (own, -1)]
        edge = others[min(_TOP, len(others)) - 1][1] if others else 0.0
        slack = 1e-6 * max(1.0, abs(edge))
        nearest.append(
            {row for row, value in others if abs(value - edge) <= slack or (value > edge) == (kind.metric != "l2")}
        )
    return nearest

"""Making a FAISS base of a given type from what SQLite holds, and measuring how much it finds."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import faiss
import numpy as np

from ..errors import StoreError
from .vectors import prepared

if TYPE_CHECKING:
    from numpy.typing import NDArray

_log = logging.getLogger(__package__)

Batches = Callable[[], Iterator[tuple[list[int], "NDArray[np.float32]"]]]
Precision = Literal["float32", "float16", "int8"]

_CODES = {"float32": "Flat", "float16": "SQfp16", "int8": "SQ8"}
_PER_LIST = 39  # FAISS's own least number of training vectors for a list
_AT_ONCE = 200_000  # training vectors held in memory
_SAMPLE = 100  # stored vectors that the recall is measured with
_TOP = 10


@dataclass(frozen=True)
class Kind:
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
            faiss.index_factory(1536, self.factory(0), self._metric())
        except RuntimeError as error:
            reason = str(error).rsplit("details: ")[-1].splitlines()[-1].strip()
            raise StoreError(
                f"FAISS knows no index {self.index!r} ({reason}): name Flat, HNSW, IVF, or a string of "
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
            reason = str(error).rsplit("details: ")[-1].splitlines()[-1].strip()
            raise StoreError(
                f"FAISS cannot make an index {self.index!r} of vectors of {dimension} numbers: {reason}"
            ) from error
        if isinstance(index, faiss.IndexHNSW):
            index.hnsw.efConstruction = 128
            index.hnsw.efSearch = 64
        return index

    def _metric(self) -> int:
        return int(faiss.METRIC_L2 if self.metric == "l2" else faiss.METRIC_INNER_PRODUCT)

    @property
    def is_exact(self) -> bool:
        return self.index == "Flat" and self.precision == "float32"

    def least(self, index: Any) -> int:
        """How many vectors its training needs."""
        if index.is_trained:
            return 0
        inverted = faiss.try_extract_index_ivf(index)
        least = _PER_LIST * int(inverted.nlist) if inverted is not None else 1
        return max(least, _PER_LIST * 256) if "PQ" in self.index else least


def keeps_exact(base: Any) -> bool:
    """Whether the scores that a base gives are those of the exact vectors."""
    inner = faiss.downcast_index(base.index)
    return isinstance(inner, (faiss.IndexFlat, faiss.IndexHNSWFlat, faiss.IndexIVFFlat))


def make_base(kind: Kind, dimension: int, count: int, batches: Batches) -> tuple[Any, float | None]:
    """A base of this kind, and its recall; (None, None) while there are too few vectors to train it.

    Args:
        kind: What to make.
        dimension: Length of the vectors.
        count: How many there are.
        batches: Called for (row numbers, vectors of shape (n, dimension)); more than once.
    """
    index = kind.new(dimension, count)
    least = kind.least(index)
    if count < least:
        _log.info("a %s index is trained from %d vectors on; its %d are searched exactly until then",
                  kind.index, least, count)  # fmt: skip
        return None, None
    if not index.is_trained:
        _log.info("training %s on %d vectors", kind.factory(count), min(count, _AT_ONCE))
        index.train(_sample(kind, count, min(count, _AT_ONCE), dimension, batches))
    base = faiss.IndexIDMap(index)
    for rows, vectors in batches():
        base.add_with_ids(prepared(vectors, kind.metric), np.asarray(rows, dtype=np.int64))
    recall = None if kind.is_exact else _tune(kind, base, dimension, batches)
    return base, recall


def _sample(kind: Kind, count: int, size: int, dimension: int, batches: Batches) -> NDArray[np.float32]:
    """So many of the vectors, spread evenly by chance but the same in every run."""
    chosen = np.sort(np.random.default_rng(0).choice(count, size, replace=False))
    sample = np.empty((size, dimension), dtype=np.float32)
    place = done = 0
    for _, vectors in batches():
        upto = int(np.searchsorted(chosen, place + len(vectors)))
        sample[done:upto] = prepared(vectors[chosen[done:upto] - place], kind.metric)
        place, done = place + len(vectors), upto
    return sample


def _tune(kind: Kind, base: Any, dimension: int, batches: Batches) -> float:
    """Let the base look at as much as the recall asks for; returns the share of the true nearest that it finds."""
    count = int(base.ntotal)
    size = min(_SAMPLE, count)
    questions = _sample(kind, count, size, dimension, batches)
    # One more than wanted: each question is in the index, and finds itself first.
    truth = _nearest(kind, questions, min(_TOP + 1, count), dimension, batches)
    inner = faiss.downcast_index(base.index)
    inverted = faiss.try_extract_index_ivf(inner)
    while True:
        found = base.search(questions, truth.shape[1])[1]
        hits = sum(len(set(one) & set(other)) for one, other in zip(found.tolist(), truth.tolist())) - size
        recall = max(0.0, hits / max(1, truth.size - size))
        if recall >= min(1.0, kind.recall + 0.01):  # a little more, since it is measured on a sample
            return recall
        if inverted is not None and inverted.nprobe < inverted.nlist:
            inverted.nprobe = min(int(inverted.nlist), 2 * int(inverted.nprobe))
        elif isinstance(inner, faiss.IndexHNSW) and inner.hnsw.efSearch < min(count, 2048):
            inner.hnsw.efSearch *= 2
        else:
            _log.info("a %s index finds %.3f of the nearest %d here", kind.index, recall, _TOP)
            return recall


def _nearest(
    kind: Kind, questions: NDArray[np.float32], top_k: int, dimension: int, batches: Batches
) -> NDArray[np.int64]:
    """The row numbers of the truly nearest vectors, shape (len(questions), top_k)."""
    largest = faiss.ResultHeap(len(questions), top_k, keep_max=kind.metric != "l2")
    for rows, vectors in batches():
        part = prepared(vectors, kind.metric)
        distances, places = faiss.knn(questions, part, min(top_k, len(part)), metric=kind._metric())
        numbers = np.asarray(rows, dtype=np.int64)[places]
        largest.add_result(np.ascontiguousarray(distances), np.ascontiguousarray(numbers))
    largest.finalize()
    return largest.I  # type: ignore[no-any-return]

"""The FAISS side: vectors by row number, derived from SQLite and never the only copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from ..errors import StoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class VectorIndex:
    """An exact FAISS index over row numbers.

    Args:
        dimension: Length of the vectors.
        metric: `cosine` and `inner_product` score by inner product, cosine on normalised vectors;
            `l2` scores by 1 / (1 + squared distance), so that higher is better for every metric.
    """

    def __init__(self, dimension: int, metric: str) -> None:
        flat = faiss.IndexFlatL2(dimension) if metric == "l2" else faiss.IndexFlatIP(dimension)
        self._index: Any = faiss.IndexIDMap2(flat)
        self.dimension, self.metric = dimension, metric

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, rows: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """Add vectors, shape (len(rows), dimension), under row numbers that are not in the index."""
        if len(rows):
            self._index.add_with_ids(self._prepared(vectors), np.asarray(rows, dtype=np.int64))

    def remove(self, rows: Sequence[int]) -> None:
        """Remove row numbers; those that are not there are passed over."""
        if len(rows) and len(self):
            self._index.remove_ids(np.asarray(rows, dtype=np.int64))

    def search(
        self, vector: NDArray[np.float32], top_k: int, only: Sequence[int] | None = None
    ) -> list[tuple[int, float]]:
        """The nearest row numbers with their scores, best first.

        Args:
            vector: Shape (dimension,).
            top_k: The most to return.
            only: Row numbers to search among; None searches all.
        """
        top_k = min(top_k, len(self) if only is None else len(only))
        if top_k == 0:
            return []
        parameters: Any = None
        if only is not None:
            selector = faiss.IDSelectorBatch(np.asarray(only, dtype=np.int64))
            parameters = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]
        scores, rows = self._index.search(self._prepared(vector[None, :]), top_k, params=parameters)
        found = [(int(row), float(score)) for row, score in zip(rows[0], scores[0]) if row != -1]
        if self.metric == "l2":
            return [(row, 1.0 / (1.0 + max(0.0, distance))) for row, distance in found]
        return found

    def _prepared(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if self.metric == "cosine":
            norms = np.linalg.norm(vectors, axis=1, keepdims=True)
            return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
        return vectors


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

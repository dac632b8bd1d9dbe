"""Normalisation, validation and exact similarity of vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import StoreError

_SMALL_NORM = 1e-15
_MAX_NORM = 1e18  # FAISS squares sums of two components, in float32


def prepared(vectors: NDArray[np.float32], metric: str) -> NDArray[np.float32]:
    """Vectors as FAISS compares them: unit length for cosine; zero vectors stay zero."""
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if metric != "cosine":
        return vectors
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    small = norms[:, 0] < _SMALL_NORM
    if small.any():  # squares may underflow in float32
        norms = norms.astype(np.float64)
        norms[small] = np.linalg.norm(vectors[small].astype(np.float64), axis=1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)


def similarities(query: NDArray[np.float32], vectors: NDArray[np.float32], metric: str) -> NDArray[np.float32]:
    """The exact similarity of the query, shape (dimension,), with each vector, shape (n, dimension)."""
    query, vectors = prepared(query[None, :], metric)[0], prepared(vectors, metric)
    result: NDArray[np.float32] = (
        1.0 / (1.0 + ((vectors - query) ** 2).sum(axis=1)) if metric == "l2" else vectors @ query
    )
    return result


def validated(vector: Any, dimension: int | None, owner: str) -> NDArray[np.float32]:
    """A vector as float32 of shape (dimension,).

    Args:
        vector: A sequence of numbers.
        dimension: The dimension of the index; None: any.
        owner: What has the vector, for error messages.

    Raises:
        StoreError: It is missing, not a sequence of finite numbers, or has another dimension.
    """
    if vector is None:
        raise StoreError(f"{owner} has no vector")
    try:
        array = np.asarray(vector, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise StoreError(f"{owner} has a vector that is not a list of numbers: {error}") from error
    if array.ndim != 1 or array.size == 0:
        raise StoreError(f"{owner} has a vector of shape {array.shape}; a list of numbers is expected")
    if dimension is not None:
        check_dimension(array.size, dimension, owner)
    if not np.isfinite(array).all():
        raise StoreError(f"{owner} has a vector with NaN or infinity in it")
    if not is_measurable(array[None, :]):
        raise StoreError(f"{owner} has a vector with numbers so large that its length overflows float32")
    return array


def check_dimension(size: int, dimension: int, owner: str) -> None:
    """Raise a `StoreError` if a vector of `size` does not fit an index of `dimension`."""
    if size != dimension:
        raise StoreError(
            f"{owner} has a vector of dimension {size}, and this index has dimension {dimension}: "
            "the vectors are from another encoder"
        )


def is_measurable(vectors: NDArray[np.float32]) -> bool:
    """Whether all numbers are finite, and small enough for FAISS to multiply in float32."""
    if not vectors.shape[1]:
        return False
    largest = max(float(vectors.max()), -float(vectors.min()))
    return largest <= _MAX_NORM / vectors.shape[1] ** 0.5  # False for NaN too

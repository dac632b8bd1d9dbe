"""Projection of vectors to two dimensions."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from ..components.encoders.matrix import unit_rows
from ..errors import MissingPackage, QuestionError
from .space import Space

if TYPE_CHECKING:
    from numpy.typing import NDArray

Method = Literal["pca", "umap"]
METHODS: tuple[Method, ...] = get_args(Method)
_MIN_UMAP_POINTS = 5


@dataclass(frozen=True, eq=False)
class Projection:
    """Points in two dimensions.

    `points` are float64, shape (n, 2). `explained_variance` is the share of the variance on each axis, between 0 and
    1; None for UMAP. `transform` projects other vectors, shape (m, dimension), to points, shape (m, 2).
    """

    method: Method
    points: NDArray[np.float64]
    explained_variance: tuple[float, float] | None
    transform: Callable[[NDArray[np.floating[Any]]], NDArray[np.float64]]


def project(space: Space, method: Method = "pca") -> Projection:
    """Project the directions of a space's vectors to two dimensions.

    Args:
        space: At least one piece.
        method: `pca` keeps the largest variance and is deterministic. `umap` keeps neighbours together, its distances
            mean little, and it needs the extra `umap`.

    Raises:
        QuestionError: The space is empty, or too small for UMAP.
        MissingPackage: UMAP is not installed.
    """
    if method not in METHODS:
        raise QuestionError(f"there is no method {method!r}: {', '.join(METHODS)}")
    if not len(space):
        raise QuestionError("there is nothing to draw")
    return _pca(space.directions) if method == "pca" else _umap(space.directions)


def _pca(vectors: NDArray[np.float32]) -> Projection:
    exact = vectors.astype(np.float64)
    mean = exact.mean(axis=0)
    centred = exact - mean
    count, dimension = centred.shape
    # Eigenvectors of the smaller of the two Gram matrices; a full singular value decomposition takes ten times longer.
    if count >= dimension:
        values, axes = np.linalg.eigh(centred.T @ centred)
        axes = axes[:, ::-1][:, :2]
    else:
        values, rows = np.linalg.eigh(centred @ centred.T)
        axes = centred.T @ rows[:, ::-1][:, :2]
        norms = np.linalg.norm(axes, axis=0)
        axes = np.where(norms > 1e-9, axes / np.where(norms > 1e-9, norms, 1.0), 0.0)
    if axes.shape[1] < 2:
        axes = np.pad(axes, ((0, 0), (0, 2 - axes.shape[1])))
    # The sign of an eigenvector is arbitrary; its largest component becomes positive.
    largest = axes[np.abs(axes).argmax(axis=0), [0, 1]]
    axes = axes * np.where(largest < 0, -1.0, 1.0)
    values = np.pad(np.maximum(values[::-1], 0.0), (0, 2))
    total = float(values.sum())
    explained = (0.0, 0.0)
    if total > 1e-12 * max(1, count):
        explained = (float(values[0] / total), float(values[1] / total))
    else:  # all points are equal
        axes = np.zeros_like(axes)

    def transform(others: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        projected: NDArray[np.float64] = (unit_rows(others).astype(np.float64) - mean) @ axes
        return projected

    return Projection("pca", centred @ axes, explained, transform)


def _umap(vectors: NDArray[np.float32]) -> Projection:
    if len(vectors) < _MIN_UMAP_POINTS:
        raise QuestionError(f"UMAP needs at least {_MIN_UMAP_POINTS} points, got {len(vectors)}; use the method pca")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation warnings of its dependencies
        try:
            import umap
        except ImportError as error:
            raise MissingPackage("the method 'umap'", "umap-learn", '"rag-plugin[umap]"') from error
        # A seed and one thread make it deterministic.
        reducer = umap.UMAP(
            n_components=2,
            n_neighbors=min(15, len(vectors) - 1),
            metric="cosine",
            init="spectral" if len(vectors) > 50 else "random",
            random_state=0,
            n_jobs=1,
        )
        points = np.asarray(reducer.fit_transform(vectors), dtype=np.float64)

    def transform(others: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(reducer.transform(unit_rows(others)), dtype=np.float64)

    return Projection("umap", points, None, transform)

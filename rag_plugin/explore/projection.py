"""Vectors in two dimensions."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from ..errors import MissingPackage, QuestionError
from .space import Space, directions

if TYPE_CHECKING:
    from numpy.typing import NDArray

Method = Literal["pca", "umap"]
METHODS: tuple[Method, ...] = get_args(Method)
_FEWEST = 5  # points that UMAP can make a neighbourhood of


@dataclass(frozen=True, eq=False)
class Projection:
    """Points in the plane.

    `points` are float64 of shape (n, 2). `explained` is the share of the variance that each axis shows, between 0
    and 1; None where the method knows none. `place` gives other vectors, shape (m, dimension), their points in the
    same plane, shape (m, 2).
    """

    method: Method
    points: NDArray[np.float64]
    explained: tuple[float, float] | None
    place: Callable[[NDArray[np.floating[Any]]], NDArray[np.float64]]


def project(space: Space, method: Method = "pca") -> Projection:
    """Lay a space out in two dimensions; the lengths of its vectors do not count.

    Args:
        space: At least one piece.
        method: `pca` keeps as much of the variance as two dimensions can, and is the same everywhere. `umap` keeps
            neighbours together, says nothing by its distances, and needs the extra `umap`.

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
    middle = exact.mean(axis=0)
    centred = exact - middle
    count, dimension = centred.shape
    # The eigenvectors of the smaller of the two squares; a singular value decomposition of all takes ten times longer.
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
    # An axis has no right way round: the number that is largest is the one that is above zero.
    largest = axes[np.abs(axes).argmax(axis=0), [0, 1]]
    axes = axes * np.where(largest < 0, -1.0, 1.0)
    values = np.pad(np.maximum(values[::-1], 0.0), (0, 2))
    total = float(values.sum())
    tiny = total <= 1e-12 * max(1, count)  # all in one place
    explained = (0.0, 0.0) if tiny else (float(values[0] / total), float(values[1] / total))
    if tiny:
        axes = np.zeros_like(axes)

    def place(others: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        return (directions(others).astype(np.float64) - middle) @ axes  # type: ignore[no-any-return]

    return Projection("pca", centred @ axes, explained, place)


def _umap(vectors: NDArray[np.float32]) -> Projection:
    if len(vectors) < _FEWEST:
        raise QuestionError(f"UMAP needs {_FEWEST} points at least, and there are {len(vectors)}; take the method pca")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its packages deprecate each other
        try:
            import umap
        except ImportError as error:
            raise MissingPackage("the method 'umap'", "umap-learn", '"rag-plugin[umap]"') from error
        # One thread and a seed: the same points each time.
        reducer = umap.UMAP(
            n_components=2,
            n_neighbors=min(15, len(vectors) - 1),
            metric="cosine",
            init="spectral" if len(vectors) > 50 else "random",
            random_state=0,
            n_jobs=1,
        )
        points = np.asarray(reducer.fit_transform(vectors), dtype=np.float64)

    def place(others: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(reducer.transform(directions(others)), dtype=np.float64)

    return Projection("umap", points, None, place)

"""A map: pieces of text as points in the plane, coloured by group, with a question and its hits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import QuestionError
from .projection import Method, Projection, project
from .space import Piece, Space

if TYPE_CHECKING:
    from numpy.typing import NDArray

# By Okabe and Ito, whom those who do not see red or green can tell apart (https://jfly.uni-koeln.de/color/), without
# black and yellow, which one of the two backgrounds would swallow. With the shapes there are 18 groups to tell apart.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9")
SHAPES = ("circle", "square", "triangle")
OTHERS = "#8a8a8a"
MOST_GROUPS = len(COLOURS) * len(SHAPES)


@dataclass(frozen=True)
class Group:
    """Points that are drawn alike; `colour` and `shape` are of `COLOURS` and `SHAPES`, grey for the many small ones."""

    name: str
    count: int
    colour: str
    shape: str


@dataclass(frozen=True)
class Hit:
    """A point that was found for the question, by its number on the map; the score is None where there is none."""

    number: int
    score: float | None


@dataclass(frozen=True)
class MapQuery:
    """A question on a map, and what was found for it, best first."""

    text: str
    point: tuple[float, float]
    hits: tuple[Hit, ...]


@dataclass(frozen=True, eq=False)
class Map:
    """What is drawn.

    `of` says what the points are, such as `nodes`; `groups` are what the legend says and `group_of` the number of
    each point's group; without groups both are empty. `labelled`: whether the points have names worth writing.
    """

    of: str
    pieces: tuple[Piece, ...]
    projection: Projection
    colour_by: str
    groups: tuple[Group, ...]
    group_of: tuple[int, ...]
    asked: MapQuery | None
    labelled: bool

    @property
    def points(self) -> NDArray[np.float64]:
        """Shape (len(pieces), 2)."""
        return self.projection.points

    @property
    def title(self) -> str:
        return f"{len(self.pieces):,} {self.of}"

    @property
    def method(self) -> str:
        """How it was made, and what it shows of the truth, in words."""
        if self.projection.explained is None:
            return "UMAP: neighbours stay together; distances between groups say little"
        across, up = self.projection.explained
        return f"PCA: {across:.1%} of the variance across, {up:.1%} up; the rest is not to be seen here"

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        points = [
            {
                "text": piece.text,
                "document": piece.document,
                "node": piece.node,
                "x": float(x),
                "y": float(y),
                "group": self.groups[self.group_of[number]].name if self.groups else "",
            }
            for number, (piece, (x, y)) in enumerate(zip(self.pieces, self.points))
        ]
        asked = None
        if self.asked is not None:
            asked = {
                "text": self.asked.text,
                "x": self.asked.point[0],
                "y": self.asked.point[1],
                "hits": [{"point": hit.number, "score": hit.score} for hit in self.asked.hits],
            }
        explained = self.projection.explained
        return {
            "of": self.of,
            "method": self.projection.method,
            "explained_variance": None if explained is None else list(explained),
            "colour_by": self.colour_by,
            "points": points,
            "question": asked,
        }


def make_map(
    space: Space,
    *,
    of: str = "texts",
    method: Method = "pca",
    colour_by: str = "",
    question: str = "",
    question_vector: NDArray[np.floating[Any]] | None = None,
    hits: Sequence[Hit] = (),
    labelled: bool = False,
) -> Map:
    """Lay a space out and group it.

    Args:
        space: What is drawn.
        of: What the points are called.
        method: `pca` or `umap`; see `project`.
        colour_by: `document`, a metadata key, or empty for one colour.
        question: Its text.
        question_vector: Its vector, shape (dimension,); without it no question is drawn.
        hits: What was found for it.
        labelled: Whether the points' texts are short enough to be written beside them.

    Raises:
        QuestionError: There is nothing to draw, or no piece has that metadata.
    """
    projection = project(space, method)
    groups, group_of = group_by(space.pieces, colour_by)
    asked = None
    if question_vector is not None:
        x, y = projection.place(np.asarray(question_vector)[None, :])[0]
        asked = MapQuery(question, (float(x), float(y)), tuple(hits))
    return Map(of, space.pieces, projection, colour_by, groups, group_of, asked, labelled)


def group_by(pieces: Sequence[Piece], key: str) -> tuple[tuple[Group, ...], tuple[int, ...]]:
    """The groups by size, and the number of each piece's group; the smallest share one where there are too many."""
    if not key:
        return (), ()
    if key == "document":
        names = [piece.document or "(no document)" for piece in pieces]
    else:
        if not any(key in piece.metadata for piece in pieces):
            known = sorted({name for piece in pieces for name in piece.metadata})
            listing = f"what there is: document, {', '.join(known)}" if known else "there is none; document always is"
            raise QuestionError(f"nothing here has metadata {key!r}; {listing}")
        names = [str(piece.metadata.get(key, "(none)")) for piece in pieces]
    counts = sorted(Counter(names).items(), key=lambda item: (-item[1], item[0]))
    shown = counts if len(counts) <= MOST_GROUPS else counts[: MOST_GROUPS - 1]
    groups = [
        Group(name, count, COLOURS[place % len(COLOURS)], SHAPES[place // len(COLOURS)])
        for place, (name, count) in enumerate(shown)
    ]
    rest = counts[len(shown) :]
    if rest:
        groups.append(Group(f"{len(rest)} others", sum(count for _, count in rest), OTHERS, SHAPES[0]))
    number = {name: place for place, (name, _) in enumerate(shown)}
    return tuple(groups), tuple(number.get(name, len(shown)) for name in names)

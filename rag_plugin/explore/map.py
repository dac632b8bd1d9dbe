"""Maps: pieces of text as points in two dimensions, coloured by group, with a question and its hits."""

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

# The palette of Okabe and Ito, for colour-blind readers (https://jfly.uni-koeln.de/color/), without black and yellow,
# which have too little contrast on one of the two backgrounds. With the shapes it distinguishes 18 groups.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9")
SHAPES = ("circle", "square", "triangle")
OTHERS = "#8a8a8a"
MAX_GROUPS = len(COLOURS) * len(SHAPES)


@dataclass(frozen=True)
class Group:
    """Points drawn alike: a colour of `COLOURS` and a shape of `SHAPES`; grey for the merged smallest groups."""

    name: str
    count: int
    colour: str
    shape: str


@dataclass(frozen=True)
class Hit:
    """A point among the results for the question: its index on the map, and its score if it has one."""

    number: int
    score: float | None


@dataclass(frozen=True)
class MapQuery:
    """A question on a map, with its hits, best first."""

    text: str
    point: tuple[float, float]
    hits: tuple[Hit, ...]


@dataclass(frozen=True, eq=False)
class Map:
    """The content of a drawing.

    `of` names the points, such as `nodes`. `groups` are the legend, `group_of` is the index of each point's group;
    both are empty without groups. `labelled` draws the texts beside the points.
    """

    of: str
    pieces: tuple[Piece, ...]
    projection: Projection
    colour_by: str
    groups: tuple[Group, ...]
    group_of: tuple[int, ...]
    query: MapQuery | None
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
        """The projection and its limits, for a reader."""
        if self.projection.explained_variance is None:
            return "UMAP: keeps neighbours together; distances between groups mean little"
        horizontal, vertical = self.projection.explained_variance
        return f"PCA: {horizontal:.1%} of the variance horizontally, {vertical:.1%} vertically; the rest is not shown"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        points = [
            {
                "text": piece.text,
                "document": piece.document,
                "node": piece.node,
                "x": float(x),
                "y": float(y),
                "group": self.groups[self.group_of[index]].name if self.groups else "",
            }
            for index, (piece, (x, y)) in enumerate(zip(self.pieces, self.points))
        ]
        question = None
        if self.query is not None:
            question = {
                "text": self.query.text,
                "x": self.query.point[0],
                "y": self.query.point[1],
                "hits": [{"point": hit.number, "score": hit.score} for hit in self.query.hits],
            }
        variance = self.projection.explained_variance
        return {
            "of": self.of,
            "method": self.projection.method,
            "explained_variance": None if variance is None else list(variance),
            "colour_by": self.colour_by,
            "points": points,
            "question": question,
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
    """Project a space to two dimensions and group its pieces.

    Args:
        space: The pieces to draw.
        of: The name of the points in the title.
        method: `pca` or `umap`; see `project`.
        colour_by: `document`, a metadata key, or empty for one colour.
        question: Its text.
        question_vector: Its vector, shape (dimension,); without it no question is drawn.
        hits: Its hits.
        labelled: Draw the texts beside the points; they should be short.

    Raises:
        QuestionError: The space is empty, or no piece has that metadata.
    """
    projection = project(space, method)
    groups, group_of = group_by(space.pieces, colour_by)
    query = None
    if question_vector is not None:
        x, y = projection.transform(np.asarray(question_vector)[None, :])[0]
        query = MapQuery(question, (float(x), float(y)), tuple(hits))
    return Map(of, space.pieces, projection, colour_by, groups, group_of, query, labelled)


def group_by(pieces: Sequence[Piece], key: str) -> tuple[tuple[Group, ...], tuple[int, ...]]:
    """Groups by descending size and the index of each piece's group; the smallest are merged above `MAX_GROUPS`."""
    if not key:
        return (), ()
    if key == "document":
        names = [piece.document or "(no document)" for piece in pieces]
    else:
        keys = sorted({name for piece in pieces for name in piece.metadata})
        if key not in keys:
            raise QuestionError(f"no piece has metadata {key!r}; available: {', '.join(['document', *keys])}")
        names = [str(piece.metadata.get(key, "(none)")) for piece in pieces]
    counts = sorted(Counter(names).items(), key=lambda item: (-item[1], item[0]))
    separate = counts if len(counts) <= MAX_GROUPS else counts[: MAX_GROUPS - 1]
    groups = [
        Group(name, count, COLOURS[index % len(COLOURS)], SHAPES[index // len(COLOURS)])
        for index, (name, count) in enumerate(separate)
    ]
    merged = counts[len(separate) :]
    if merged:
        groups.append(Group(f"{len(merged)} others", sum(count for _, count in merged), OTHERS, SHAPES[0]))
    index_of = {name: index for index, (name, _) in enumerate(separate)}
    return tuple(groups), tuple(index_of.get(name, len(separate)) for name in names)

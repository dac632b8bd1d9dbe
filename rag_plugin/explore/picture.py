"""Heat maps and maps as PNG, drawn by matplotlib."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import MissingPackage, QuestionError
from .map import OTHERS, Map, MapQuery
from .space import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox
    from numpy.typing import NDArray

_MARKERS = {"circle": "o", "square": "s", "triangle": "^"}
_MAX_ROWS_WITH_NUMBERS = 16  # of a heat map
_MAX_ROWS_WITH_NAMES = 60
_MAX_LABELS = 80  # on a map


@contextmanager
def _missing_glyphs() -> Iterator[None]:
    """Hides warnings about characters that matplotlib's font lacks; it draws boxes for them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+")
        yield


@_missing_glyphs()
def write_heatmap(path: str | os.PathLike[str], texts: Sequence[str], matrix: NDArray[np.float32]) -> None:
    """Write a similarity matrix, shape (len(texts), len(texts)), as a PNG.

    Raises:
        MissingPackage: matplotlib is not installed.
        QuestionError: The file cannot be written.
    """
    figure_class = _figure_class("a heat map")
    count = len(texts)
    side = min(12.0, max(3.2, 1.2 + 0.46 * count))
    figure = figure_class(figsize=(side + 2.6, side + 1.2), layout="constrained")
    axes = figure.add_subplot()
    low = min(0.0, float(matrix.min(initial=0.0)))
    image = axes.imshow(matrix, cmap="viridis", vmin=low, vmax=1.0)
    if count <= _MAX_ROWS_WITH_NAMES:
        size = 10 if count <= 25 else 6.5
        axes.set_yticks(range(count), [shortened(text, 34) for text in texts], fontsize=size)
        names = [shortened(text, 22) for text in texts]
        axes.set_xticks(range(count), names, rotation=45, ha="right", rotation_mode="anchor", fontsize=size)
        for text in [*axes.get_xticklabels(), *axes.get_yticklabels()]:
            text.set_parse_math(False)  # a dollar sign would start a formula
    axes.tick_params(length=0)
    if count <= _MAX_ROWS_WITH_NUMBERS:
        for (row, column), value in np.ndenumerate(matrix):
            ink = "black" if (value - low) / (1.0 - low) > 0.6 else "white"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=ink, fontsize=9)
    for edge in axes.spines.values():
        edge.set_visible(False)
    figure.colorbar(image, ax=axes, shrink=0.8, label="cosine")
    _save(figure, path)


@_missing_glyphs()
def write_map(path: str | os.PathLike[str], drawn: Map, *, dark: bool = False, dots: int = 110) -> None:
    """Write a map as a PNG.

    Args:
        path: The file.
        drawn: The map.
        dark: Use a dark background.
        dots: Dots per inch; the picture is 10 inches wide.

    Raises:
        MissingPackage: matplotlib is not installed.
        QuestionError: The file cannot be written.
    """
    figure_class = _figure_class("a map as PNG")
    background, ink, soft = ("#14171b", "#e8eaed", "#a2abb6") if dark else ("#ffffff", "#1b1f24", "#5a6370")
    figure = figure_class(figsize=(10, 7.2), facecolor=background, layout="constrained", dpi=dots)
    axes = figure.add_subplot(facecolor=background)
    points = drawn.points
    size = 42 if len(points) <= 600 else 18 if len(points) <= 4000 else 6 if len(points) <= 20000 else 2.5
    alpha = 0.9 if len(points) <= 2000 else 0.6
    style: dict[str, Any] = {"s": size, "alpha": alpha, "linewidths": 0.4 if size > 6 else 0, "edgecolors": background}
    if drawn.groups:
        group_of = np.array(drawn.group_of)
        for number, group in enumerate(drawn.groups):
            members = points[group_of == number]
            axes.scatter(
                members[:, 0],
                members[:, 1],
                c=group.colour,
                marker=_MARKERS[group.shape],
                label=f"{group.count:,}  {shortened(group.name, 34)}",  # matplotlib hides a label that begins with _
                zorder=1 if group.colour == OTHERS else 2,
                **style,
            )
        legend = axes.legend(
            loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8.5, labelcolor=ink,
            title=f"by {drawn.colour_by}", title_fontsize=8.5, markerscale=1.0 if size > 18 else 2.5,
        )  # fmt: skip
        legend.get_title().set_color(soft)
        for text in legend.get_texts():
            text.set_parse_math(False)
        for handle in legend.legend_handles:
            if handle is not None:
                handle.set_alpha(1.0)
    else:
        axes.scatter(points[:, 0], points[:, 1], c="#7fa8dd" if dark else "#4a6fa5", **style)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xticks([])
    axes.set_yticks([])
    for edge in axes.spines.values():
        edge.set_color(soft)
        edge.set_linewidth(0.5)
    axes.set_title(f"{drawn.title}\n", loc="left", color=ink, fontsize=12, fontweight="bold", parse_math=False)
    axes.text(0, 1.012, drawn.method, transform=axes.transAxes, color=soft, fontsize=8.5, parse_math=False)
    axes.margins(0.06)
    figure.canvas.draw()  # sets the transformation from data to pixels
    query = drawn.query
    labels = _Labels(axes, points if query is None else np.vstack([points, query.point]), background, ink)
    if query is not None:
        _draw_question(axes, drawn, query, labels, size)
    if drawn.labelled:
        hits = set() if query is None else {hit.number for hit in query.hits}
        for number, piece in enumerate(drawn.pieces[: 20 * _MAX_LABELS]):
            if labels.count >= _MAX_LABELS:
                break
            if number not in hits:
                labels.write(shortened(piece.text, 32), points[number])
    _save(figure, path)


def _draw_question(axes: Axes, drawn: Map, query: MapQuery, labels: _Labels, size: float) -> None:
    background, ink = labels.background, labels.ink
    for rank, hit in enumerate(query.hits, 1):
        x, y = drawn.points[hit.number]
        axes.plot([query.point[0], x], [query.point[1], y], color=ink, linewidth=0.7, linestyle=(0, (4, 4)), alpha=0.55)
        for width, colour in ((3.2, background), (1.5, ink)):
            axes.scatter(x, y, s=max(size, 30) * 3.2, facecolors="none", edgecolors=colour, linewidths=width, zorder=4)
        name = f"{rank} {shortened(drawn.pieces[hit.number].text, 32)}" if drawn.labelled else str(rank)
        labels.write(name, (x, y), bold=True, always=True)
    axes.scatter(*query.point, s=260, marker="*", c=ink, edgecolors=background, linewidths=1.4, zorder=5)
    labels.write(shortened(query.text, 60), query.point, bold=True, always=True)


class _Labels:
    """Writes labels right, left, above or below of points, wherever they cover least."""

    _SIDES = (
        (7, 0, "left", "center"),
        (-7, 0, "right", "center"),
        (0, 6, "center", "bottom"),
        (0, -6, "center", "top"),
    )

    def __init__(self, axes: Axes, points: NDArray[np.float64], background: str, ink: str) -> None:
        self.axes, self.background, self.ink = axes, background, ink
        self.pixels = axes.transData.transform(points)
        self.frame = axes.get_window_extent()
        self.boxes: list[Bbox] = []
        self.count = 0

    def write(self, text: str, point: Sequence[float], *, bold: bool = False, always: bool = False) -> None:
        from matplotlib.patheffects import withStroke

        label = self.axes.annotate(
            text,
            (point[0], point[1]),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=8.5,
            fontweight="bold" if bold else "normal",
            color=self.ink,
            path_effects=[withStroke(linewidth=2.5, foreground=self.background)],
            zorder=6,
            parse_math=False,
            annotation_clip=False,
            in_layout=False,
        )
        distance = 2.0 if bold else 1.0  # beyond the ring or the star
        candidates = []
        for right, up, horizontal, vertical in self._SIDES:
            side = {"position": (right * distance, up * distance), "ha": horizontal, "va": vertical}
            label.set(**side)
            box = label.get_window_extent().padded(2.0)
            candidates.append((self._cost(box), box, side))
            if not candidates[-1][0]:
                break
        cost, box, side = min(candidates, key=lambda candidate: candidate[0])
        if cost >= 100 and not always:
            label.remove()
            return
        label.set(**side)
        self.boxes.append(box)
        self.count += 1

    def _cost(self, box: Bbox) -> int:
        """100 for each label below the box, 1 for each point, and 1000 for leaving the frame."""
        x, y = self.pixels.T
        points = int(((x > box.x0) & (x < box.x1) & (y > box.y0) & (y < box.y1)).sum())
        outside = box.x0 < self.frame.x0 or box.x1 > self.frame.x1
        return 1000 * outside + 100 * sum(box.overlaps(other) for other in self.boxes) + min(points, 50)


def _figure_class(part: str) -> type[Figure]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackage(part, "matplotlib", '"rag-plugin[plot]"') from error
    return Figure


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    try:
        figure.savefig(path, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None})
    except OSError as error:
        raise QuestionError(f"{os.fspath(path)}: {error.strerror}") from error

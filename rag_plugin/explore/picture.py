"""Heat maps and maps as PNG, by matplotlib, which is imported here and nowhere else."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import MissingPackage, QuestionError
from .map import OTHERS, Map
from .space import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_MARKERS = {"circle": "o", "square": "s", "triangle": "^"}
_MOST_NUMBERS = 16  # rows of a heat map that have their numbers written in
_MOST_NAMES = 60  # rows whose names can be read
_MOST_LABELS = 80


def write_heatmap(path: str | os.PathLike[str], texts: Sequence[str], matrix: NDArray[np.float32]) -> None:
    """Write a matrix of similarities as a PNG, shape (len(texts), len(texts)).

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
    if count <= _MOST_NAMES:
        names = [shortened(text, 34) for text in texts]
        size = 10 if count <= 25 else 6.5
        axes.set_yticks(range(count), names, fontsize=size)
        axes.set_xticks(range(count), [shortened(text, 22) for text in texts], rotation=45, ha="right",
                        rotation_mode="anchor", fontsize=size)  # fmt: skip
        for text in [*axes.get_xticklabels(), *axes.get_yticklabels()]:
            text.set_parse_math(False)  # a dollar is a dollar
    axes.tick_params(length=0)
    if count <= _MOST_NUMBERS:
        for row in range(count):
            for column in range(count):
                value = float(matrix[row, column])
                ink = "black" if (value - low) / (1.0 - low) > 0.6 else "white"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=ink, fontsize=9)
    for edge in axes.spines.values():
        edge.set_visible(False)
    figure.colorbar(image, ax=axes, shrink=0.8, label="cosine")
    _save(figure, path)


def write_map(path: str | os.PathLike[str], drawn: Map, *, dark: bool = False, dots: int = 110) -> None:
    """Write a map as a PNG.

    Args:
        path: The file.
        drawn: The map.
        dark: On a dark background.
        dots: To an inch; the picture is 10 inches wide.

    Raises:
        MissingPackage: matplotlib is not installed.
        QuestionError: The file cannot be written.
    """
    figure_class = _figure_class("a map as PNG")
    back, ink, soft = ("#14171b", "#e8eaed", "#a2abb6") if dark else ("#ffffff", "#1b1f24", "#5a6370")
    figure = figure_class(figsize=(10, 7.2), facecolor=back, layout="constrained", dpi=dots)
    axes = figure.add_subplot(facecolor=back)
    points = drawn.points
    size = 42 if len(points) <= 600 else 18 if len(points) <= 4000 else 6 if len(points) <= 20000 else 2.5
    alpha = 0.9 if len(points) <= 2000 else 0.6
    style: dict[str, Any] = {"s": size, "alpha": alpha, "linewidths": 0.4 if size > 6 else 0, "edgecolors": back}
    if drawn.groups:
        group_of = np.array(drawn.group_of)
        for number, group in enumerate(drawn.groups):
            chosen = points[group_of == number]
            axes.scatter(
                chosen[:, 0],
                chosen[:, 1],
                c=group.colour,
                marker=_MARKERS[group.shape],
                label=f"{group.count:,}  {shortened(group.name, 34)}",  # one that begins with _ is not shown
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
    with _missing_glyphs():
        figure.canvas.draw()  # from here on it is known where a point is on the picture
    every = points if drawn.asked is None else np.vstack([points, drawn.asked.point])
    labels = _Labels(axes, every, back, ink)
    if drawn.asked is not None:
        _draw_question(axes, drawn, labels, size, back, ink)
    if drawn.labelled:
        named = set() if drawn.asked is None else {hit.number for hit in drawn.asked.hits}
        for number, piece in enumerate(drawn.pieces[: 20 * _MOST_LABELS]):
            if labels.count >= _MOST_LABELS:
                break
            if number not in named:
                labels.write(shortened(piece.text, 32), points[number])
    _save(figure, path)


def _draw_question(axes: Axes, drawn: Map, labels: _Labels, size: float, back: str, ink: str) -> None:
    asked = drawn.asked
    assert asked is not None
    for rank, hit in enumerate(asked.hits, 1):
        x, y = drawn.points[hit.number]
        axes.plot([asked.point[0], x], [asked.point[1], y], color=ink, linewidth=0.7, linestyle=(0, (4, 4)), alpha=0.55)
        for width, colour in ((3.2, back), (1.5, ink)):
            axes.scatter(x, y, s=max(size, 30) * 3.2, facecolors="none", edgecolors=colour, linewidths=width, zorder=4)
        name = f"{rank} {shortened(drawn.pieces[hit.number].text, 32)}" if drawn.labelled else str(rank)
        labels.write(name, (x, y), bold=True, always=True)
    axes.scatter(asked.point[0], asked.point[1], s=260, marker="*", c=ink, edgecolors=back, linewidths=1.4, zorder=5)
    labels.write(shortened(asked.text, 60), asked.point, bold=True, always=True)


class _Labels:
    """Writes names beside points where nothing else is: to the right, to the left, above or below."""

    _SIDES = (
        (7, 0, "left", "center"),
        (-7, 0, "right", "center"),
        (0, 6, "center", "bottom"),
        (0, -6, "center", "top"),
    )

    def __init__(self, axes: Axes, points: NDArray[np.float64], back: str, ink: str) -> None:
        self.axes, self.back, self.ink = axes, back, ink
        self.places = axes.transData.transform(points)  # in dots of the picture
        self.frame = axes.get_window_extent()
        self.boxes: list[Any] = []
        self.count = 0

    def write(self, text: str, point: Any, *, bold: bool = False, always: bool = False) -> None:
        from matplotlib.patheffects import withStroke

        written = self.axes.annotate(
            text,
            point,
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=8.5,
            fontweight="bold" if bold else "normal",
            color=self.ink,
            path_effects=[withStroke(linewidth=2.5, foreground=self.back)],
            zorder=6,
            parse_math=False,
            annotation_clip=False,
            in_layout=False,
        )
        best, least = None, None
        for across, up, horizontal, vertical in self._SIDES:
            further = 2.0 if bold else 1.0  # past the ring or the star
            written.set(position=(across * further, up * further), ha=horizontal, va=vertical)
            with _missing_glyphs():
                box = written.get_window_extent().padded(2.0)
            x, y = self.places.T
            covered = int(((x > box.x0) & (x < box.x1) & (y > box.y0) & (y < box.y1)).sum())
            crossed = sum(box.overlaps(other) for other in self.boxes)
            outside = box.x0 < self.frame.x0 or box.x1 > self.frame.x1
            badness = 1000 * outside + 100 * crossed + min(covered, 50)
            if least is None or badness < least:
                best, least, side = box, badness, (across * further, up * further, horizontal, vertical)
            if not badness:
                break
        if not always and least is not None and least >= 100:
            written.remove()
            return
        written.set(position=side[:2], ha=side[2], va=side[3])
        self.boxes.append(best)
        self.count += 1


def _figure_class(part: str) -> type[Figure]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackage(part, "matplotlib", '"rag-plugin[plot]"') from error
    return Figure


@contextmanager
def _missing_glyphs() -> Iterator[None]:
    """The font that comes with matplotlib lacks some of the world's letters, and draws boxes for them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+")
        yield


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    try:
        with _missing_glyphs():
            figure.savefig(path, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None})
    except OSError as error:
        raise QuestionError(f"{os.fspath(path)}: {error.strerror}") from error

"""A similarity matrix as an aligned, coloured table for a terminal."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
from wcwidth import wcswidth

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.floating[Any]] | Sequence[Sequence[float]]

_MAX_ROW_NAME_COLUMNS = 44
_MAX_HEADER_COLUMNS = 12  # with longer names, columns are numbered
_SCALE = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))  # viridis, from 0 to 1


def width(text: str) -> int:
    """The number of terminal columns of a text."""
    return max(0, wcswidth(text))


def printable(text: str) -> str:
    """The text on one line, with spaces for control characters."""
    return "".join(character if character.isprintable() else " " for character in " ".join(text.split()))


def fitted(text: str, columns: int) -> str:
    """The text on one line, cut or padded to a number of columns."""
    line = printable(text)
    if width(line) > columns:
        while width(line) > columns - 1:
            line = line[:-1]
        line += "…"
    return line + " " * (columns - width(line))


def similarity_table(names: Sequence[str], matrix: Matrix, columns: int | None = None) -> list[str]:
    """The lines of a table of cosines with names beside its rows.

    Args:
        names: Of rows and columns.
        matrix: Shape (len(names), len(names)).
        columns: The terminal's; a wider table is split into several, one below the other.
    """
    lines = [printable(name) for name in names]
    numbered = any(width(line) > _MAX_HEADER_COLUMNS for line in lines)
    headers = [str(number) for number in range(1, len(names) + 1)] if numbered else lines
    rows = [f"{number} {line}" for number, line in enumerate(lines, 1)] if numbered else lines
    first = min(_MAX_ROW_NAME_COLUMNS, max(map(width, rows)))
    sizes = [max(5, width(header)) for header in headers]
    table: list[str] = []
    start = 0
    while start < len(names):
        end, room = start, (columns or 10**9) - first
        while end < len(names) and (end == start or room >= sizes[end] + 2):
            room -= sizes[end] + 2
            end += 1
        table += [""] if table else []
        header_cells = (" " * (sizes[i] + 2 - width(headers[i])) + headers[i] for i in range(start, end))
        table.append(" " * first + "".join(header_cells))
        for row, values in zip(rows, matrix):
            cells = (_shaded(f" {values[i]:{sizes[i]}.2f}", float(values[i])) for i in range(start, end))
            table.append(fitted(row, first) + "".join(" " + cell for cell in cells))
        start = end
    return table


def _shaded(text: str, value: float) -> str:
    if "NO_COLOR" in os.environ:
        return text
    position = min(1.0, max(0.0, value)) * (len(_SCALE) - 1)
    low = min(int(position), len(_SCALE) - 2)
    red, green, blue = (round(a + (b - a) * (position - low)) for a, b in zip(_SCALE[low], _SCALE[low + 1]))
    is_bright = 0.299 * red + 0.587 * green + 0.114 * blue > 120
    return click.style(text, fg="black" if is_bright else "bright_white", bg=(red, green, blue))

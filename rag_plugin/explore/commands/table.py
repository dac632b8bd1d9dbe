"""A matrix of similarities in a terminal: aligned, and coloured where colours are seen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import click
from wcwidth import wcswidth

_LONGEST = 44  # columns of a row's name
_HEADER = 12  # columns of a column's name; where one is longer, the columns have numbers
# From none to full likeness: dark to bright, which those who see few colours can tell apart too (viridis).
_STOPS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))


def width(text: str) -> int:
    """The columns of a terminal that a text takes."""
    return max(0, wcswidth(text))


def fitted(text: str, columns: int) -> str:
    """A text on one line, cut or filled up to so many columns."""
    line = "".join(character if character.isprintable() else " " for character in " ".join(text.split()))
    if width(line) > columns:
        while width(line) > columns - 1:
            line = line[:-1]
        line += "…"
    return line + " " * (columns - width(line))


def similarity_table(names: Sequence[str], matrix: Any, columns: int | None = None) -> list[str]:
    """The lines of a table of cosines; the rows carry the names.

    Args:
        names: Of rows and columns.
        matrix: Shape (len(names), len(names)).
        columns: Of the terminal; a wider table is broken into several, one below the other.
    """
    lines = [" ".join(name.split()) for name in names]
    heads = [str(number) for number in range(1, len(names) + 1)]
    numbered = any(width(line) > _HEADER for line in lines)
    if not numbered:
        heads = lines
    rows = [f"{number} {line}" for number, line in enumerate(lines, 1)] if numbered else lines
    first = min(_LONGEST, max(map(width, rows)))
    sizes = [max(5, width(fitted(head, _HEADER).rstrip())) for head in heads]
    table: list[str] = []
    start = 0
    while start < len(names):
        end, room = start, (columns or 10**9) - first
        while end < len(names) and (end == start or room >= sizes[end] + 2):
            room -= sizes[end] + 2
            end += 1
        table += [""] if table else []
        table.append(" " * first + "".join("  " + _right(heads[place], sizes[place]) for place in range(start, end)))
        for row, values in zip(rows, matrix):
            cells = (_shaded(f"{values[place]:{sizes[place]}.2f}", float(values[place])) for place in range(start, end))
            table.append(fitted(row, first) + "".join(" " + cell for cell in cells))
        start = end
    return table


def _right(text: str, columns: int) -> str:
    return " " * (columns - width(text)) + text


def _shaded(text: str, value: float) -> str:
    text = f" {text}"
    if "NO_COLOR" in os.environ:
        return text
    place = min(1.0, max(0.0, value)) * (len(_STOPS) - 1)
    low = min(int(place), len(_STOPS) - 2)
    red, green, blue = (round(a + (b - a) * (place - low)) for a, b in zip(_STOPS[low], _STOPS[low + 1]))
    ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 120 else "bright_white"
    return click.style(text, fg=ink, bg=(red, green, blue))

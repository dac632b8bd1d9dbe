"""Text that arrives in pieces, wrapped at words as it is printed."""

from __future__ import annotations

import re
import shutil
import sys

import click
from wcwidth import wcswidth

_MIN_WIDTH = 40


def terminal_width() -> int | None:
    """Columns of the terminal; None if stdout is not one."""
    return max(_MIN_WIDTH, shutil.get_terminal_size().columns) if sys.stdout.isatty() else None


class WrappedOutput:
    """Prints text on stdout; on a terminal, lines are wrapped at words.

    Args:
        indent: Put before each line.
    """

    def __init__(self, indent: str = "") -> None:
        self._indent, self._width = indent, terminal_width()
        self._column = 0  # 0 at the start of a line
        self._space = self._word = ""  # not printed yet

    def write(self, text: str) -> None:
        """Print a piece; its last word is kept until it is known to be complete."""
        if self._width is None and not self._indent:
            click.echo(text, nl=False)
            sys.stdout.flush()
            return
        for space, word in re.findall(r"(\s*)(\S*)", text):
            if space:
                self._print_word()
                self._space += space
            self._word += word
        if self._width is None:
            self._print_word()
        sys.stdout.flush()

    def end(self) -> None:
        """Print the rest, and end the line."""
        self._print_word()
        click.echo()
        self._column, self._space = 0, ""

    def _print_word(self) -> None:
        if not self._word:
            return
        lines, space = self._space.count("\n"), self._space.rpartition("\n")[2]
        if lines:
            click.echo("\n" * lines, nl=False)
            self._column = 0
        width = max(wcswidth(self._word), 0) or len(self._word)
        if self._column and self._width is not None and self._column + len(space) + width > self._width:
            click.echo()
            self._column, space = 0, ""
        start = self._indent if not self._column else ""
        click.echo(f"{start}{space}{self._word}", nl=False)
        self._column += len(start) + len(space) + width
        self._space = self._word = ""


def print_wrapped(text: str, indent: str = "") -> None:
    """Print a whole text, wrapped at words on a terminal."""
    output = WrappedOutput(indent)
    output.write(text)
    output.end()

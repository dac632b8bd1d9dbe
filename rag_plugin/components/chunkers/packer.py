"""Packs a text into spans of a maximum size, at its strongest boundaries."""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .breaks import HEADING, LINE, SENTENCE, WORD

if TYPE_CHECKING:
    from numpy.typing import NDArray

Span = tuple[int, int]
Counts = Callable[[Sequence[str]], "NDArray[np.int64]"]


class Packer:
    """Packs one text into spans of a maximum number of tokens.

    A span ends at the strongest boundary in the second half of the size; among equal ones, a hash of the surrounding
    text decides. The choice does not depend on earlier text, so two versions of a text have the same boundaries soon
    after an edit, and most nodes of an edited document are not encoded again.

    Args:
        text: The whole text.
        starts: Offsets of its tokens in characters, ascending.
        breaks: Boundary strengths, shape (len(text) + 1,).
    """

    def __init__(self, text: str, starts: NDArray[np.int64], breaks: NDArray[np.uint8]) -> None:
        self._text, self._starts, self._breaks = text, starts, breaks

    def _before(self, offset: int) -> int:
        """The number of tokens that start before an offset."""
        return int(np.searchsorted(self._starts, offset))

    def tokens(self, start: int, end: int) -> int:
        """The number of tokens that start within a span."""
        return self._before(end) - self._before(start)

    def pack(self, start: int, end: int, size: int, overlap: int = 0, *, full: bool = False) -> list[Span]:
        """Contiguous spans from `start` to `end` of at most `size` tokens each.

        Args:
            overlap: How many tokens a span may share with the previous one, from the start of a sentence if possible.
            full: Fill each span as far as words allow, whatever the strength of the boundary.
        """
        if self.tokens(start, end) <= size:
            return [(start, end)]
        bodies = self._bodies(start, end, size - overlap, full)
        if not overlap:
            return bodies
        return [bodies[0], *((self._shared(start, begin, overlap, full), stop) for begin, stop in bodies[1:])]

    def fit(self, spans: Iterable[Span], size: int, counts: Counts, *, strip: bool = True) -> list[Span]:
        """The spans without white space at their ends; those with more than `size` tokens on their own are divided.

        A part can have more tokens than the whole text has there, since a word at its edge is tokenized differently.
        """

        def trimmed(span: Span) -> Span:
            return stripped(self._text, span) if strip else span

        done: list[Span] = []
        pending = [(trimmed(span), size) for span in spans]
        while pending:
            texts = [self._text[slice(*span)] for span, _ in pending]
            divided: list[tuple[Span, int]] = []
            for (span, limit), tokens in zip(pending, counts(texts).tolist()):
                if tokens <= size or limit == 1:
                    done.append(span)
                else:
                    smaller = limit * 3 // 4
                    divided += [(trimmed(part), smaller) for part in self.pack(*span, smaller)]
            pending = divided
        return sorted(span for span in done if span[0] < span[1])

    def _bodies(self, start: int, end: int, size: int, full: bool) -> list[Span]:
        spans = []
        minimum = size if full else (size + 1) // 2
        last = self._before(end)
        while last - (first := self._before(start)) > size:
            # Leave enough tokens for the last span.
            maximum = size if full else min(size, last - first - minimum)
            low, high, limit = (self._offset(first + count, start) for count in (minimum, maximum, size))
            cut = self._best(low, high, limit, start, full)
            spans.append((start, cut))
            start = cut
        spans.append((start, end))
        return spans

    def _offset(self, token: int, start: int) -> int:
        """The offset of a token, at least that of the next one behind `start`: one character can have many tokens."""
        offset = int(self._starts[token])
        if offset > start:
            return offset
        following = int(np.searchsorted(self._starts, start, side="right"))
        return int(self._starts[following]) if following < len(self._starts) else len(self._text)

    def _best(self, low: int, high: int, limit: int, start: int, full: bool) -> int:
        """The strongest boundary from `low` to `high`; without one, the last boundary before, else `high` itself.

        A boundary up to `limit` is preferred to a split line.
        """
        if not full:
            window = self._breaks[low : high + 1]
            strongest = window.max()
            if strongest <= WORD:  # prefer a shorter node to a split line
                earlier = np.flatnonzero(self._breaks[start + 1 : low] >= LINE)
                if earlier.size:
                    return start + 1 + int(earlier[-1])
                later = np.flatnonzero(self._breaks[high + 1 : limit + 1] >= LINE)
                if later.size:
                    return high + 1 + int(later[0])
            if strongest:
                equal = low + np.flatnonzero(window == strongest)
                return int(equal[0]) if len(equal) == 1 else min(equal.tolist(), key=self._rank)
        boundaries = np.flatnonzero(self._breaks[start + 1 : high + 1])
        if boundaries.size:
            return start + 1 + int(boundaries[-1])
        cut = high
        while cut > start + 1 and _joins(self._text[cut - 1 : cut + 1]):
            cut -= 1
        return cut if cut > start + 1 else high

    def _rank(self, offset: int) -> tuple[int, int]:
        return zlib.crc32(self._text[max(0, offset - 24) : offset + 24].encode("utf-8", "surrogatepass")), offset

    def _shared(self, start: int, begin: int, overlap: int, full: bool) -> int:
        """The start of a span that shares at most `overlap` tokens before `begin`."""
        earliest = max(start, int(self._starts[max(0, self._before(begin) - overlap)]))
        if full:
            strong = weak = np.flatnonzero(self._breaks[earliest:begin])
        else:
            # Text above a heading belongs to another topic.
            headings = np.flatnonzero(self._breaks[earliest : begin + 1] >= HEADING)
            earliest += int(headings[-1]) if headings.size else 0
            window = self._breaks[earliest:begin]
            strong, weak = np.flatnonzero(window >= SENTENCE), np.flatnonzero(window)
        for boundaries in (strong, weak):
            if boundaries.size:
                return earliest + int(boundaries[0])
        return earliest


def _joins(pair: str) -> bool:
    """Whether two adjacent characters are displayed as one: a letter and its accent, an emoji and its modifier."""
    if len(pair) < 2:
        return False
    code = ord(pair[1])
    return (
        bool(unicodedata.combining(pair[1]))
        or "\u200d" in pair
        or 0xFE00 <= code <= 0xFE0F
        or 0x1F3FB <= code <= 0x1F3FF
    )


def stripped(text: str, span: Span) -> Span:
    """The span without the white space at its ends."""
    part = text[span[0] : span[1]]
    start = span[0] + len(part) - len(part.lstrip())
    return start, max(start, span[1] - (len(part) - len(part.rstrip())))

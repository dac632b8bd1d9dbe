"""Places to cut and a size in; the spans of nodes out."""

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
    """Packs one text into spans of at most so many tokens.

    A node ends at the best place in the second half of the size; where several are equally good, a hash of the text
    around them decides. Since that depends on nothing that stands before, two versions of a text are cut alike again
    soon after the place where they differ: most nodes of an edited document stay what they were, and are not encoded
    again. Filling each node as far as it goes would move every node behind an edit.

    Args:
        text: The whole text.
        starts: Where its tokens begin, ascending.
        breaks: How good each place is for a node to begin, shape (len(text) + 1,).
    """

    def __init__(self, text: str, starts: NDArray[np.int64], breaks: NDArray[np.uint8]) -> None:
        self._text, self._starts, self._breaks = text, starts, breaks

    def _before(self, place: int) -> int:
        """How many tokens begin before a place."""
        return int(np.searchsorted(self._starts, place))

    def tokens(self, start: int, end: int) -> int:
        """How many tokens begin within a span."""
        return self._before(end) - self._before(start)

    def pack(self, start: int, end: int, size: int, overlap: int = 0, *, full: bool = False) -> list[Span]:
        """Spans that lie one behind the other from `start` to `end`, each with at most `size` tokens.

        Args:
            start: The first character.
            end: The end, in characters.
            size: The most tokens of a span.
            overlap: How many of them may be shared with the span before, beginning at a sentence where there is one.
            full: Fill each span as far as words allow, whatever the place.
        """
        if self.tokens(start, end) <= size:
            return [(start, end)]
        bodies = self._bodies(start, end, size - overlap, full)
        if not overlap:
            return bodies
        return [bodies[0], *((self._shared(start, begin, overlap, full), stop) for begin, stop in bodies[1:])]

    def fit(self, spans: Iterable[Span], size: int, counts: Counts, *, strip: bool = True) -> list[Span]:
        """The spans, those that have more than `size` tokens by themselves divided; without white space at their ends.

        A part can have more tokens than the whole had there, since a word that is cut is divided otherwise.
        """

        def trimmed(span: Span) -> Span:
            return stripped(self._text, span) if strip else span

        done: list[Span] = []
        waiting = [(trimmed(span), size) for span in spans]
        while waiting:
            texts = [self._text[slice(*span)] for span, _ in waiting]
            again: list[tuple[Span, int]] = []
            for (span, most), tokens in zip(waiting, counts(texts).tolist()):
                if tokens <= size or most == 1:
                    done.append(span)
                else:
                    smaller = most * 3 // 4
                    again += [(trimmed(part), smaller) for part in self.pack(*span, smaller)]
            waiting = again
        return sorted(span for span in done if span[0] < span[1])

    def _bodies(self, start: int, end: int, size: int, full: bool) -> list[Span]:
        spans = []
        least = size if full else (size + 1) // 2
        last = self._before(end)
        while last - (first := self._before(start)) > size:
            # What is left for the last span should not be a scrap.
            most = size if full else min(size, last - first - least)
            cut = self._best(self._place(first + least, start), self._place(first + most, start), start, full)
            spans.append((start, cut))
            start = cut
        spans.append((start, end))
        return spans

    def _place(self, token: int, start: int) -> int:
        """Where a token begins, and in any case behind `start`: a character can have more tokens than a node holds."""
        place = int(self._starts[token])
        if place > start:
            return place
        behind = int(np.searchsorted(self._starts, start, side="right"))
        return int(self._starts[behind]) if behind < len(self._starts) else len(self._text)

    def _best(self, low: int, high: int, start: int, full: bool) -> int:
        """The best place from `low` to `high`; where there is none, the last good one before, else `high` itself."""
        if not full:
            window = self._breaks[low : high + 1]
            strongest = window.max()
            if strongest <= WORD:  # a shorter node is better than a torn line
                earlier = np.flatnonzero(self._breaks[start + 1 : low] >= LINE)
                if earlier.size:
                    return start + 1 + int(earlier[-1])
            if strongest:
                equal = low + np.flatnonzero(window == strongest)
                return int(equal[0]) if len(equal) == 1 else min(equal.tolist(), key=self._rank)
        good = np.flatnonzero(self._breaks[start + 1 : high + 1])
        if good.size:
            return start + 1 + int(good[-1])
        cut = high
        while cut > start + 1 and _joins(self._text[cut - 1 : cut + 1]):
            cut -= 1
        return cut if cut > start + 1 else high

    def _rank(self, place: int) -> tuple[int, int]:
        return zlib.crc32(self._text[max(0, place - 24) : place + 24].encode("utf-8", "surrogatepass")), place

    def _shared(self, start: int, begin: int, overlap: int, full: bool) -> int:
        """Where a span begins that shares what stands before `begin`, at most `overlap` tokens of it."""
        earliest = max(start, int(self._starts[max(0, self._before(begin) - overlap)]))
        if full:
            strong = weak = np.flatnonzero(self._breaks[earliest:begin])
        else:
            # What stands above a heading is about something else.
            headings = np.flatnonzero(self._breaks[earliest : begin + 1] >= HEADING)
            earliest += int(headings[-1]) if headings.size else 0
            window = self._breaks[earliest:begin]
            strong, weak = np.flatnonzero(window >= SENTENCE), np.flatnonzero(window)
        for good in (strong, weak):
            if good.size:
                return earliest + int(good[0])
        return earliest


def _joins(pair: str) -> bool:
    """Whether two neighbouring characters are one sign for the eye: a letter and its accent, an emoji and its skin."""
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

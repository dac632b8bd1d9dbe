"""Boundary strengths: how suitable each offset of a text is for the start of a node.

The result is one byte for each offset, 0 where no node should start. It depends on the surrounding text alone, so an
edit changes it only near the edit.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORD, CLAUSE, LINE, SENTENCE, PARAGRAPH, HEADING, PAGE = range(1, 8)

_SPACES = [
    *range(9, 14),
    *range(28, 33),
    0x85,
    0xA0,
    0x1680,
    *range(0x2000, 0x200B),
    0x2028,
    0x2029,
    0x202F,
    0x205F,
    0x3000,
]
_MAX_PARAGRAPH_CHARACTERS = 2_000
_MAX_HEADINGS_CHARACTERS = 300  # of headings in a row that stay together
_BLANK_LINE = re.compile(r"\n\s*\n")
_LINE_END = re.compile(r"[\n\f]\s*")
_ITEM = re.compile(r"(?:[-*+•‣–]|\d{1,3}[.)]|\[[ x]\]|\|) ")
_CLOSING_MARKS = re.compile(r"(?:[*_`]+|[)\]\"'”’»]+)\s+")
_HEADING = re.compile(
    r"""\#{1,6}[ \t]+\S[^\n\f]{0,199}(?=[\n\f]|\Z)      # Markdown
    | (={1,6})[ ][^\n=]+[ ]\1[ \t]*(?:\n|$)          # wiki
    | [^\n]{1,200}\n([-=~^"'`#*+_.:])\2{2,}[ \t]*(?:\n|$)  # underlined, as in Markdown and reStructuredText
    """,
    re.VERBOSE,
)
HEADING_LINE = re.compile(rf"\s*(?:{_HEADING.pattern})[ \t]*\n?", re.VERBOSE)
"""A heading with the white space above it, to the end of its line."""
# Full stops of scripts without a space behind them, with closing brackets and quotes.
_FULL_STOP = re.compile("[。！？｡．][」』）】〉》”’\"')\\]]*\\s*")


def prose_breaks(text: str) -> NDArray[np.uint8]:
    """Strengths for prose, shape (len(text) + 1,)."""
    breaks, solid = _words(text)
    for start in _sentences(text):
        breaks[start] = SENTENCE
    for match in _FULL_STOP.finditer(text):
        breaks[match.end()] = SENTENCE
    _lines(text, breaks)
    breaks[~solid] = 0
    return breaks


def line_breaks(text: str) -> NDArray[np.uint8]:
    """Strengths for text whose structure is its lines, such as code; shape (len(text) + 1,)."""
    breaks, solid = _words(text)
    _lines(text, breaks)
    breaks[~solid] = 0
    return breaks


def word_breaks(text: str) -> NDArray[np.uint8]:
    """Equal strengths at the starts of words, shape (len(text) + 1,)."""
    return np.minimum(line_breaks(text), WORD)


def sentence_starts(text: str) -> list[int]:
    """Offsets of sentences, paragraphs and list items; the first is 0 unless the text is empty."""
    starts = np.flatnonzero(prose_breaks(text) >= SENTENCE).tolist()
    return [start for start in sorted({0, *starts}) if start < len(text)]


def _sentences(text: str) -> Iterator[int]:
    """Offsets of sentences by NLTK's Punkt, one paragraph at a time: its time is quadratic on some long texts."""
    tokenizer = _sentence_tokenizer()
    begin = 0
    while begin < len(text):
        blank = _BLANK_LINE.search(text, begin, begin + _MAX_PARAGRAPH_CHARACTERS)
        end = blank.end() if blank else min(begin + _MAX_PARAGRAPH_CHARACTERS, len(text))
        if blank is None and end < len(text):
            end = max(text.rfind(space, begin + _MAX_PARAGRAPH_CHARACTERS // 2, end) for space in "\n ") + 1 or end
        spans = tokenizer.span_tokenize(text[begin:end])
        # The first sentence starts with the paragraph, which is a boundary already or an arbitrary cut.
        for start, _ in itertools.islice(spans, 1, None):
            closing = _CLOSING_MARKS.match(text, begin + start)
            yield closing.end() if closing else begin + start
        begin = end


def _words(text: str) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Strengths of words and clauses, and a mask of the characters that are not white space."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    solid = np.append(~np.isin(codes, _SPACES), False)
    breaks = np.zeros(len(text) + 1, dtype=np.uint8)
    if not len(text):
        return breaks, solid
    starts = np.flatnonzero(solid[1:] & ~solid[:-1]) + 1
    breaks[starts] = WORD
    # For each offset, the last character before it that is not white space.
    last = np.maximum.accumulate(np.where(solid[:-1], np.arange(len(text)), 0))
    breaks[starts[np.isin(codes[last[starts - 1]], [ord(mark) for mark in ",;:"])]] = CLAUSE
    breaks[np.flatnonzero(np.isin(codes, [ord(mark) for mark in "，、；："])) + 1] = CLAUSE
    return breaks, solid


def _lines(text: str, breaks: NDArray[np.uint8]) -> None:
    first_of_headings = len(text) - len(text.lstrip())
    heading = _HEADING.match(text, first_of_headings)
    for match in _LINE_END.finditer(text):
        space, offset = match.group(), match.end()
        if heading is not None and offset < heading.end():  # between a heading and its underline
            continue
        previous, heading = heading, _HEADING.match(text, offset)
        if previous is not None and "\f" not in space:  # a heading stays whole, and with the text below it
            breaks[previous.start() + 1 : offset] = 0
            is_long = heading is not None and offset - first_of_headings > _MAX_HEADINGS_CHARACTERS
            breaks[offset] = WORD if is_long else 0
            continue
        if "\f" in space:
            strength = PAGE
        elif heading is not None:
            strength, first_of_headings = HEADING, offset
        elif space.count("\n") > 1:
            strength = PARAGRAPH
        elif _ITEM.match(text, offset):
            strength = SENTENCE
        else:
            strength = LINE
        breaks[offset] = max(breaks[offset], strength)
    if heading is not None and not text[heading.end() :].strip():
        breaks[first_of_headings] = 0  # headings without text below stay with the text above


@lru_cache(maxsize=1)
def _sentence_tokenizer() -> Any:
    from llama_index.core.utils import globals_helper

    return globals_helper.punkt_tokenizer  # NLTK's, with the model that LlamaIndex ships

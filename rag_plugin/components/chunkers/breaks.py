"""A text in; how good a place each character is for a new node to begin, out.

The answer is an array of one byte per position, 0 where a node should not begin. It follows from the text around the
position alone, so that an edit changes it nowhere else.
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
_PARAGRAPH = 2_000  # characters
_BLANK_LINE = re.compile(r"\n\s*\n")
_LINE_END = re.compile(r"[\n\f]\s*")
_ITEM = re.compile(r"(?:[-*+•‣–]|\d{1,3}[.)]|\[[ x]\]|\|) ")
_HEADING = re.compile(
    r"""\#{1,6}[ \t]+\S                              # Markdown
    | (={1,6})[ ][^\n=]+[ ]\1[ \t]*(?:\n|$)          # wiki
    | [^\n]{1,200}\n([-=~^"'`#*+_.:])\2{2,}[ \t]*(?:\n|$)  # underlined, as in Markdown and reStructuredText
    """,
    re.VERBOSE,
)
# Full stops of scripts that put no space behind them, with the brackets and quotes that may close there.
_FULL_STOP = re.compile("[。！？｡．][」』）】〉》”’\"')\\]]*\\s*")


def prose_breaks(text: str) -> NDArray[np.uint8]:
    """How good each place is in prose, shape (len(text) + 1,)."""
    breaks, solid = _words(text)
    for start in _sentences(text):
        breaks[start] = SENTENCE
    for match in _FULL_STOP.finditer(text):
        breaks[match.end()] = SENTENCE
    _lines(text, breaks)
    breaks[~solid] = 0
    return breaks


def line_breaks(text: str) -> NDArray[np.uint8]:
    """How good each place is where lines say more than sentences do, as in code."""
    breaks, solid = _words(text)
    _lines(text, breaks)
    breaks[~solid] = 0
    return breaks


def word_breaks(text: str) -> NDArray[np.uint8]:
    """The beginnings of words, all of them equally good."""
    breaks, _ = _words(text)
    return np.minimum(breaks, WORD)


def sentence_starts(text: str) -> list[int]:
    """Where sentences, paragraphs and list items begin, in characters; the first is 0 unless the text is empty."""
    found = np.flatnonzero(prose_breaks(text) >= SENTENCE).tolist()
    return [start for start in sorted({0, *found}) if start < len(text)]


def _sentences(text: str) -> Iterator[int]:
    """Where sentences begin, by NLTK's Punkt, a paragraph at a time: on some long texts it takes quadratic time."""
    tokenizer = _sentence_tokenizer()
    begin = 0
    while begin < len(text):
        blank = _BLANK_LINE.search(text, begin, begin + _PARAGRAPH)
        end = blank.end() if blank else min(begin + _PARAGRAPH, len(text))
        if blank is None and end < len(text):
            end = max(text.rfind(space, begin + _PARAGRAPH // 2, end) for space in "\n ") + 1 or end
        spans = tokenizer.span_tokenize(text[begin:end])
        # The first begins where the paragraph does, which is a place by itself or, in a long one, no place at all.
        yield from (begin + start for start, _ in itertools.islice(spans, 1, None))
        begin = end


def _words(text: str) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Words and clauses; and which places hold anything but white space."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    solid = np.append(~np.isin(codes, _SPACES), False)
    breaks = np.zeros(len(text) + 1, dtype=np.uint8)
    if not len(text):
        return breaks, solid
    starts = np.flatnonzero(solid[1:] & ~solid[:-1]) + 1
    breaks[starts] = WORD
    # The last character before each word that is no space.
    last = np.maximum.accumulate(np.where(solid[:-1], np.arange(len(text)), 0))
    breaks[starts[np.isin(codes[last[starts - 1]], [ord(mark) for mark in ",;:"])]] = CLAUSE
    breaks[np.flatnonzero(np.isin(codes, [ord(mark) for mark in "，、；："])) + 1] = CLAUSE
    return breaks, solid


def _lines(text: str, breaks: NDArray[np.uint8]) -> None:
    heading: re.Match[str] | None = None
    for match in _LINE_END.finditer(text):
        space, place = match.group(), match.end()
        after_heading = heading is not None
        if heading is not None and place < heading.end():  # between a heading and its underline
            breaks[place] = 0
            continue
        heading = _HEADING.match(text, place)
        if "\f" in space:
            strength = PAGE
        elif heading is not None:
            strength = HEADING
        elif after_heading:  # a heading stays with what it stands above
            breaks[place] = WORD
            continue
        elif space.count("\n") > 1:
            strength = PARAGRAPH
        elif _ITEM.match(text, place):
            strength = SENTENCE
        else:
            strength = LINE
        breaks[place] = max(breaks[place], strength)


@lru_cache(maxsize=1)
def _sentence_tokenizer() -> Any:
    from llama_index.core.utils import globals_helper

    return globals_helper.punkt_tokenizer  # NLTK's, with the model that LlamaIndex brings along

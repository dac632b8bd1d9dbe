"""The parts of a node's text that can be quoted: a text in, spans out."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..chunkers.breaks import HEADING_LINE, sentence_starts
from ..chunkers.packer import stripped

_MAX_QUOTE_CHARACTERS = 600  # a longer sentence is quoted from one of its lines on
_MIN_WORDS = 4  # a shorter sentence, such as a lead-in in bold, is quoted with the next one
_FENCED_CODE = re.compile(r"^ {0,3}(`{3,}|~{3,})[^\n]*\n.*?(?:^ {0,3}\1[`~]*[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})[ \t]*([^\n]*)\n?", re.MULTILINE)
_WORD = re.compile(r"[^\W\d_]{2,}|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+")


def quotable_spans(text: str, *, follows: bool = False) -> Iterator[tuple[int, int]]:
    """Spans of sentences, list items, table rows and code blocks in characters; headings are left out.

    Args:
        text: The text of a node.
        follows: Whether other text precedes the node, which may then start inside of a code block.
    """
    codes = [match.span() for match in _FENCED_CODE.finditer(text)]
    fences = list(_FENCE.finditer(text))
    if follows and len(fences) % 2 and not fences[0].group(2):
        rest = fences[0].end()
        codes = [(0, rest), *(match.span() for match in _FENCED_CODE.finditer(text, rest))]
    starts = {0, *(bound for code in codes for bound in code)}
    starts.update(start for start in sentence_starts(text) if not any(begin < start < end for begin, end in codes))
    bounds = [*sorted(start for start in starts if start < len(text)), len(text)]
    begin: int | None = None
    for start, end in zip(bounds, bounds[1:]):
        while heading := None if (start, end) in codes else HEADING_LINE.match(text, start, end):
            if begin is not None:
                yield from _with_words(text, begin, start)
            start, begin = heading.end(), None
        begin = start if begin is None else begin
        part = text[begin:end]
        is_lead_in = part.rstrip().endswith(":") or len(_TOKEN.findall(part)) < _MIN_WORDS
        is_block = part.lstrip().startswith("|") or any(end == stop for _, stop in codes)
        if is_lead_in and not is_block and end < len(text):
            continue
        yield from _with_words(text, begin, end)
        begin = None


def _with_words(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    for span in _short(text, start, end):
        if _WORD.search(text, *span):
            yield stripped(text, span)


def _short(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while end - start > _MAX_QUOTE_CHARACTERS:
        cut = max(text.rfind(space, start, start + _MAX_QUOTE_CHARACTERS) for space in "\n ") + 1
        cut = cut if cut > start else start + _MAX_QUOTE_CHARACTERS
        yield start, cut
        start = cut
    yield start, end

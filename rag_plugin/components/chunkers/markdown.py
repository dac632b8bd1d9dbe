"""Chunker `markdown`: splits Markdown at headings; tables and code blocks stay whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from llama_index.core.schema import BaseNode, MetadataMode, TextNode

from .breaks import LINE, PARAGRAPH, WORD, line_breaks, prose_breaks
from .packer import Packer, Span
from .span_chunker import NodeSpan, SpanChunker

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FRONT_MATTER = re.compile(r"---[ \t]*\n.*?\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_MAX_CHARACTERS_ABOVE_BLOCK = 1_000  # in which its headings are looked for
_NEWLINE = re.compile(r"\r\n|\r|\n")
_ATTRIBUTES = re.compile(r"\s*\{[^{}]*\}\s*$")


@dataclass(frozen=True)
class MarkdownSection:
    """A heading with the text below it; `path` holds the headings above, `/` if there is none."""

    start: int
    end: int
    path: str


@dataclass(frozen=True)
class Outline:
    """The structure of a Markdown text.

    Attributes:
        sections: Contiguous, from the first character to the last.
        blocks: Spans of tables, code and HTML.
    """

    sections: list[MarkdownSection]
    blocks: list[Span]


def markdown_outline(text: str) -> Outline:
    """Parse a Markdown text."""
    front = _FRONT_MATTER.match(text)
    begin = front.end() if front else 0
    lines = [begin, *(begin + match.end() for match in _NEWLINE.finditer(text[begin:])), len(text)]
    headings: list[tuple[int, int, int, str]] = []  # start, end of its lines, level, words
    blocks: list[Span] = []
    tokens = _parser().parse(text[begin:])
    for token, following in zip(tokens, [*tokens[1:], None]):
        if token.map is None:
            continue
        start, end = lines[token.map[0]], lines[min(token.map[1], len(lines) - 1)]
        if token.type == "heading_open" and token.level == 0:
            words = _ATTRIBUTES.sub("", following.content if following is not None else "")
            headings.append((start, end, int(token.tag[1:]), " ".join(words.split())))
        elif token.type in ("fence", "code_block", "table_open", "html_block"):
            blocks.append((start, end))
    return Outline(list(_sections(text, headings)), blocks)


def _sections(text: str, headings: list[tuple[int, int, int, str]]) -> Iterator[MarkdownSection]:
    above: list[tuple[int, str]] = []
    start, end = 0, len(text)
    # Headings without text below stay with the text above.
    while headings and text[: headings[-1][0]].strip() and not text[headings[-1][1] : end].strip():
        end = headings[-1][0]
        headings = headings[:-1]
    if not headings or text[: headings[0][0]].strip():
        yield MarkdownSection(0, headings[0][0] if headings else len(text), "/")
        start = headings[0][0] if headings else len(text)
    for number, (_, body, level, words) in enumerate(headings):
        end = headings[number + 1][0] if number + 1 < len(headings) else len(text)
        above = [*((depth, name) for depth, name in above if depth < level), (level, words)]
        # A heading without text of its own belongs to the next section.
        if not text[body:end].strip() and number + 1 < len(headings):
            continue
        yield MarkdownSection(start, end, "/" + "".join(f"{name}/" for _, name in above))
        start = end


def markdown_breaks(text: str, blocks: list[Span], starts: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    """Boundary strengths, shape (len(text) + 1,); 0 inside a block of at most `size` tokens.

    Args:
        text: The Markdown text.
        blocks: The blocks of its outline.
        starts: Offsets of the text's tokens, in characters.
        size: The maximum size of a node in tokens.
    """
    breaks = prose_breaks(text)
    lines = line_breaks(text) if blocks else breaks
    for start, end in blocks:
        first = start + len(text[start:end]) - len(text[start:end].lstrip())
        begin = start
        if breaks[first]:
            breaks[first] = max(breaks[first], PARAGRAPH)
        else:  # the text of a heading, which has to fit with it
            near = max(0, first - _MAX_CHARACTERS_ABOVE_BLOCK)
            begin = near + int(np.flatnonzero(np.append(True, breaks[near + 1 : first] >= LINE))[-1])
        fits = np.diff(np.searchsorted(starts, [begin, end]))[0] <= size
        inside = lines[first + 1 : end]
        breaks[first + 1 : end] = 0 if fits else np.where(inside < LINE, np.minimum(inside, WORD), LINE)
    return breaks


@lru_cache(maxsize=1)
def _parser() -> Any:
    from markdown_it import MarkdownIt

    # Inline markup is irrelevant here.
    return MarkdownIt("commonmark").enable("table").disable("inline")


class MarkdownChunker(SpanChunker):
    """Splits at headings, and long sections at paragraphs; a table or code block stays whole if it fits.

    A node's headings, its own included, are in its metadata as `header_path`.
    """

    def node_spans(self, document: BaseNode, text: str, size: int) -> Iterator[NodeSpan]:
        outline = markdown_outline(text)
        if "header_path" not in document.excluded_embed_metadata_keys:
            longest = max((section.path for section in outline.sections), key=len, default="")
            sample = TextNode(metadata={**document.metadata, "header_path": longest})
            sample.excluded_embed_metadata_keys = document.excluded_embed_metadata_keys
            size = self._size_beside(sample.get_metadata_str(mode=MetadataMode.EMBED), document)
        starts = self._tokens.starts(text)
        packer = Packer(text, starts, markdown_breaks(text, outline.blocks, starts, size))
        for section in outline.sections:
            for span in self._spans(packer, section.start, section.end, size):
                yield NodeSpan(*span, {"header_path": section.path})

"""Chunker `code`: splits program code at definitions and statements, found by tree-sitter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from llama_index.core.schema import BaseNode

from ...errors import ComponentError, MissingPackage
from .breaks import CLAUSE, LINE, PAGE, PARAGRAPH, SENTENCE, WORD, line_breaks, prose_breaks
from .span_chunker import NodeSpan, SpanChunker

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STRENGTHS = (PAGE, PARAGRAPH, SENTENCE, LINE)  # by nesting depth
_ATTACHED_TYPES = ("comment", "decorator", "attribute", "annotation")

_LANGUAGES = {
    "bash": ".bash .sh",
    "c": ".c .h",
    "cpp": ".cc .cpp .cxx .hh .hpp",
    "csharp": ".cs",
    "css": ".css",
    "dart": ".dart",
    "elixir": ".ex .exs",
    "go": ".go",
    "haskell": ".hs",
    "java": ".java",
    "javascript": ".cjs .js .jsx .mjs",
    "json": ".json",
    "julia": ".jl",
    "kotlin": ".kt .kts",
    "lua": ".lua",
    "perl": ".pl .pm",
    "php": ".php",
    "proto": ".proto",
    "python": ".py .pyi",
    "r": ".r",
    "ruby": ".rb",
    "rust": ".rs",
    "scala": ".scala",
    "sql": ".sql",
    "swift": ".swift",
    "toml": ".toml",
    "tsx": ".tsx",
    "typescript": ".ts",
    "yaml": ".yaml .yml",
    "zig": ".zig",
}
_BY_SUFFIX = {suffix: language for language, suffixes in _LANGUAGES.items() for suffix in suffixes.split()}


def language_of(document: BaseNode) -> str | None:
    """The programming language of a file by its suffix; None for other files."""
    name = str(document.metadata.get("file_name") or document.metadata.get("file_path") or document.node_id)
    return _BY_SUFFIX.get(os.path.splitext(name)[1].lower())


def parser_of(language: str) -> Any:
    """tree-sitter's parser for a language.

    Raises:
        MissingPackage: The grammars are not installed.
        ComponentError: There is no grammar for this language.
    """
    try:
        from tree_sitter_language_pack import get_parser
    except ImportError as error:
        name = error.name or "tree_sitter_language_pack"
        raise MissingPackage("chunker 'code'", name, '"rag-plugin[code]"') from error
    try:
        return get_parser(language)  # type: ignore[arg-type]
    except LookupError as error:
        raise ComponentError(
            f"chunker 'code': tree-sitter has no language {language!r}; it has {', '.join(_LANGUAGES)} and others"
        ) from error


def code_breaks(text: str, language: str) -> NDArray[np.uint8]:
    """Boundary strengths, shape (len(text) + 1,): strongest between the outermost definitions."""
    breaks = np.minimum(line_breaks(text), CLAUSE)
    # tree-sitter's rows end at \n alone.
    lines = text.split("\n")
    starts, indents, offset = [], [], 0
    for line in lines:
        indent = line[: len(line) - len(line.lstrip())]
        starts.append(offset + len(indent))
        indents.append(len(indent.encode()))
        offset += len(line) + 1
    tree = parser_of(language).parse(text.encode("utf-8", "surrogatepass"))
    pending = [(tree.root_node, 0)]
    while pending:
        node, level = pending.pop()
        has_boundary = False
        previous: Any = None
        for child in node.children:
            row = child.start_point.row
            is_first = child.start_point.column <= indents[row]
            if is_first and child.is_named and previous is not None and starts[row] < len(text):
                is_sibling_first, sibling = previous
                if is_sibling_first and not _is_attached(sibling, row):
                    strength = _STRENGTHS[min(level, len(_STRENGTHS) - 1)]
                    breaks[starts[row]] = max(breaks[starts[row]], strength)
                    has_boundary = True
                else:  # below a comment or the head of a definition
                    breaks[starts[row]] = WORD
            previous = (is_first, child)
        pending += [
            (child, level + has_boundary) for child in node.children if child.end_point.row > child.start_point.row
        ]
    return breaks


def _is_attached(sibling: Any, row: int) -> bool:
    """Whether a comment or decorator directly above belongs to the row."""
    return sibling.end_point.row >= row - 1 and any(word in sibling.type for word in _ATTACHED_TYPES)


class CodeChunker(SpanChunker):
    """Splits at the outermost definitions and statements that fit; files that are not code are split as prose.

    Attributes:
        language: A tree-sitter language; None for the language of the file's suffix.
    """

    language: str | None = None

    def node_spans(self, document: BaseNode, text: str, size: int) -> Iterator[NodeSpan]:
        language = self.language or language_of(document)
        breaks = prose_breaks(text) if language is None else code_breaks(text, language)
        previous_end = 0
        for start, end in self._spans(self._packer(text, breaks), 0, len(text), size):
            line = text.rfind("\n", 0, start) + 1
            if language is not None and line >= previous_end and text[line:start].isspace():
                start = line  # include the first line's indentation
            previous_end = end
            yield NodeSpan(start, end, {"language": language} if language else {})

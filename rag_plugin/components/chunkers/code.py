"""Program code: which places between definitions and statements are good, by tree-sitter."""

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

_STRENGTHS = (PAGE, PARAGRAPH, SENTENCE, LINE)  # by how deep in the program a place is
_BELONGS_TO_NEXT = ("comment", "decorator", "attribute", "annotation")

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
    """The language of a file by the end of its name; None where that is not one of a programming language."""
    name = str(document.metadata.get("file_name") or document.metadata.get("file_path") or document.node_id)
    return _BY_SUFFIX.get(os.path.splitext(name)[1].lower())


def parser_of(language: str) -> Any:
    """tree-sitter's parser for a language.

    Raises:
        MissingPackage: The grammars are not installed.
        ComponentError: There is none for this language.
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
            f"chunker 'code': tree-sitter knows no language {language!r}; it knows {', '.join(_LANGUAGES)} and others"
        ) from error


def code_breaks(text: str, language: str) -> NDArray[np.uint8]:
    """How good each place is: the outermost definitions best, then what stands within them, then any line."""
    breaks = np.minimum(line_breaks(text), CLAUSE)
    # Rows are lines by \n alone, whatever else looks like the end of a line.
    lines = text.split("\n")
    begins, indents, place = [], [], 0
    for line in lines:
        indent = line[: len(line) - len(line.lstrip())]
        begins.append(place + len(indent))
        indents.append(len(indent.encode()))
        place += len(line) + 1
    tree = parser_of(language).parse(text.encode("utf-8", "surrogatepass"))
    waiting = [(tree.root_node, 0)]
    while waiting:
        node, level = waiting.pop()
        found = False
        before: Any = None
        for child in node.children:
            row = child.start_point.row
            first = child.start_point.column <= indents[row]
            if first and child.is_named and before is not None and begins[row] < len(text):
                begins_line, previous = before
                if begins_line and not _belongs(previous, row):
                    strength = _STRENGTHS[min(level, len(_STRENGTHS) - 1)]
                    breaks[begins[row]] = max(breaks[begins[row]], strength)
                    found = True
                else:  # what stands above it is a comment, or the head of a definition
                    breaks[begins[row]] = WORD
            before = (first, child)
        waiting += [(child, level + found) for child in node.children if child.end_point.row > child.start_point.row]
    return breaks


def _belongs(previous: Any, row: int) -> bool:
    """Whether what stands directly above is about what follows, as a comment or a decorator is."""
    return previous.end_point.row >= row - 1 and any(word in previous.type for word in _BELONGS_TO_NEXT)


class CodeChunker(SpanChunker):
    """Cuts between definitions and statements, the outermost that fit; a file that is no code, as prose.

    Args:
        language: A language of tree-sitter, or None to tell by the file's name.
    """

    language: str | None = None

    def spans_of(self, document: BaseNode, text: str, size: int) -> Iterator[NodeSpan]:
        language = self.language or language_of(document)
        breaks = prose_breaks(text) if language is None else code_breaks(text, language)
        before = 0
        for start, end in self._spans(self._packer(text, breaks), 0, len(text), size):
            line = text.rfind("\n", 0, start) + 1
            if language is not None and line >= before and text[line:start].isspace():
                start = line  # the indentation of the first line belongs to it
            before = end
            yield NodeSpan(start, end, {"language": language} if language else {})

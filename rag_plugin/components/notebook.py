"""Markdown for notebooks, which show the last value of a cell by its method `_repr_markdown_`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from llama_index.core.base.response.schema import Response

from .places import source, source_of_node


class MarkdownResponse(Response):
    """A LlamaIndex `Response` that a notebook shows as its answer and sources."""

    def _repr_markdown_(self) -> str:
        quotes = (self.metadata or {}).get("quotes")
        if quotes:
            return "\n\n".join(f"{item['text']}\n\n— `{source(item['document'], item['place'])}`" for item in quotes)
        sources = [
            ["" if item.score is None else f"{item.score:.3f}", source_of_node(item.node)] for item in self.source_nodes
        ]
        return f"{self}\n\n{markdown_table(('score', 'source'), sources)}" if sources else str(self)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; vertical bars and line ends in a cell are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")

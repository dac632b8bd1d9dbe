"""Chunker `hierarchical`: small nodes with the spans of the larger ones around them."""

from __future__ import annotations

from collections.abc import Iterator

from llama_index.core.bridge.pydantic import Field
from llama_index.core.schema import BaseNode

from .breaks import prose_breaks
from .packer import Packer, Span, stripped
from .span_chunker import NodeSpan, SpanChunker


class HierarchicalChunker(SpanChunker):
    """Small nodes with the spans of their parents, for retrieval that replaces children by their parent.

    Only the smallest spans are nodes. `parents` in their metadata holds the spans of the larger ones, nearest first, as
    `start:end start:end`. Nodes are contiguous, so a parent's text is the concatenation of its nodes.

    Attributes:
        parent_sizes: In tokens, from large to small, each larger than `chunk_size`.
    """

    parent_sizes: list[int] = Field(default_factory=list)

    def node_spans(self, document: BaseNode, text: str, size: int) -> Iterator[NodeSpan]:
        packer = self._packer(text, prose_breaks(text))
        document_span = stripped(text, (0, len(text)))
        levels = [*(parent for parent in self.parent_sizes if parent > size), size]
        yield from self._level(packer, document_span, levels, [])

    def _level(self, packer: Packer, span: Span, sizes: list[int], parents: list[Span]) -> Iterator[NodeSpan]:
        parts = packer.pack(*span, sizes[0])
        if len(sizes) > 1:
            for part in parts:
                yield from self._level(packer, part, sizes[1:], [part, *parents])
            return
        parent_spans = " ".join(f"{start}:{end}" for start, end in parents)
        for part in packer.fit(parts, sizes[0], self._tokens.counts, strip=False):
            yield NodeSpan(*part, {"parents": parent_spans} if parent_spans else {})

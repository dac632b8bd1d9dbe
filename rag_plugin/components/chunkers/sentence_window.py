"""Chunker `sentence_window`: a node for each sentence, with the sentences around it in the metadata."""

from __future__ import annotations

from collections.abc import Iterator

from llama_index.core.bridge.pydantic import Field
from llama_index.core.schema import BaseNode

from .breaks import prose_breaks, sentence_starts
from .packer import stripped
from .span_chunker import NodeSpan, SpanChunker


class SentenceWindowChunker(SpanChunker):
    """Each sentence is a node; the text around it, as in the document, is in its metadata as `window`."""

    window_size: int = Field(default=3, ge=0)

    def node_spans(self, document: BaseNode, text: str, size: int) -> Iterator[NodeSpan]:
        packer = self._packer(text, prose_breaks(text))
        starts = sentence_starts(text)
        ends = [*starts[1:], len(text)]
        last = len(starts) - 1
        for number, (start, end) in enumerate(zip(starts, ends)):
            begin, stop = stripped(
                text, (starts[max(0, number - self.window_size)], ends[min(last, number + self.window_size)])
            )
            for span in self._spans(packer, start, end, size):
                yield NodeSpan(*span, {"window": text[begin:stop], "window_start": begin})

"""Chunker `semantic`: splits prose where the meaning changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.schema import BaseNode

from ...protocols import Tokens
from .breaks import SENTENCE, prose_breaks, sentence_starts
from .packer import Packer
from .span_chunker import NodeSpan, SpanChunker

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class SemanticChunker(SpanChunker):
    """Splits where the meaning changes most from one sentence to the next.

    Each sentence is encoded together with its neighbours. The cosine distance between adjacent vectors is the strength
    of the boundary between them, after G. Kamradt's method. Unlike LlamaIndex's `SemanticSplitterNodeParser`, nodes
    never exceed the size, and the strength of a boundary depends on its neighbourhood alone.
    """

    buffer_size: int = Field(default=1, ge=0)
    _encode: Callable[[list[str]], NDArray[np.float32]] = PrivateAttr()

    def __init__(self, tokens: Tokens, encode: Callable[[list[str]], NDArray[np.float32]], **fields: Any) -> None:
        super().__init__(tokens, **fields)
        self._encode = encode

    def node_spans(self, document: BaseNode, text: str, size: int) -> Iterator[NodeSpan]:
        starts = self._tokens.starts(text)
        breaks = prose_breaks(text)
        if len(starts) > size:
            breaks = self._semantic_breaks(text, breaks)
        for span in self._spans(Packer(text, starts, breaks), 0, len(text), size):
            yield NodeSpan(*span)

    def _semantic_breaks(self, text: str, breaks: NDArray[np.uint8]) -> NDArray[np.uint8]:
        import numpy as np

        starts = sentence_starts(text)
        ends = [*starts[1:], len(text)]
        last = len(starts) - 1
        windows = [
            text[starts[max(0, number - self.buffer_size)] : ends[min(last, number + self.buffer_size)]].strip() or "."
            for number in range(len(starts))
        ]
        vectors = self._encode(windows)
        norms = np.linalg.norm(vectors, axis=1)
        norms[norms == 0] = 1
        cosine = np.einsum("ij,ij->i", vectors[:-1], vectors[1:]) / (norms[:-1] * norms[1:])
        scale = 255 - SENTENCE
        strengths = np.minimum(breaks, SENTENCE - 1)
        strengths[starts[1:]] = (SENTENCE + np.clip((1 - cosine) / 2, 0, 1) ** 0.5 * scale).astype(np.uint8)
        return strengths

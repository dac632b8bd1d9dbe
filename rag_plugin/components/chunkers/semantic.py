"""Chunker `semantic`: prose cut where the meaning changes."""

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
    """Cuts where the meaning changes most from one sentence to the next.

    Each sentence is encoded together with its neighbours; the cosine distance from what stands before a place to what
    stands behind it says how good the place is. After G. Kamradt's method, which LlamaIndex's
    `SemanticSplitterNodeParser` has too: here a node never gets longer than the size, and what a place is worth
    depends on its neighbourhood alone.
    """

    buffer_size: int = Field(default=1, ge=0)
    _encode: Callable[[list[str]], NDArray[np.float32]] = PrivateAttr()

    def __init__(self, tokens: Tokens, encode: Callable[[list[str]], NDArray[np.float32]], **fields: Any) -> None:
        super().__init__(tokens, **fields)
        self._encode = encode

    def spans_of(self, document: BaseNode, text: str, size: int) -> Iterator[NodeSpan]:
        starts = self._tokens.starts(text)
        breaks = prose_breaks(text)
        if len(starts) > size:
            breaks = self._meaning(text, breaks)
        for span in self._spans(Packer(text, starts, breaks), 0, len(text), size):
            yield NodeSpan(*span)

    def _meaning(self, text: str, breaks: NDArray[np.uint8]) -> NDArray[np.uint8]:
        import numpy as np

        starts = sentence_starts(text)
        ends = [*starts[1:], len(text)]
        last = len(starts) - 1
        around = [
            text[starts[max(0, number - self.buffer_size)] : ends[min(last, number + self.buffer_size)]].strip() or "."
            for number in range(len(starts))
        ]
        vectors = self._encode(around)
        norms = np.linalg.norm(vectors, axis=1)
        norms[norms == 0] = 1
        likeness = np.einsum("ij,ij->i", vectors[:-1], vectors[1:]) / (norms[:-1] * norms[1:])
        scale = 255 - SENTENCE
        found = np.minimum(breaks, SENTENCE - 1)
        found[starts[1:]] = (SENTENCE + np.clip((1 - likeness) / 2, 0, 1) ** 0.5 * scale).astype(np.uint8)
        return found

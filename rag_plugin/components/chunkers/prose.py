"""Chunkers `sentence` and `token`: split prose at sentences or at words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode

from ...protocols import Tokens
from .span_chunker import NodeSpan, SpanChunker

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class ProseChunker(SpanChunker):
    """Splits at the best boundaries of `breaks`, or with `full` at the last one that fits."""

    full: bool = False
    _breaks: Callable[[str], NDArray[np.uint8]] = PrivateAttr()

    def __init__(self, tokens: Tokens, breaks: Callable[[str], NDArray[np.uint8]], **fields: Any) -> None:
        super().__init__(tokens, **fields)
        self._breaks = breaks

    def node_spans(self, document: BaseNode, text: str, size: int) -> Iterator[NodeSpan]:
        for span in self._spans(self._packer(text, self._breaks(text)), 0, len(text), size, full=self.full):
            yield NodeSpan(*span)

"""The base class of the chunkers: a LlamaIndex node parser whose nodes are exact spans of the document."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.node_parser import NodeParser
from llama_index.core.node_parser.node_utils import build_nodes_from_splits
from llama_index.core.schema import BaseNode, Document, MetadataMode, TextNode

from ...errors import DocumentError
from ...protocols import Tokens
from ..tables import TABLE_HEADER
from .packer import Packer, Span

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class NodeSpan:
    """The span of a node in characters, and its metadata besides the document's."""

    start: int
    end: int
    metadata: dict[str, Any] = field(default_factory=dict)


class SpanChunker(NodeParser):
    """A chunker whose nodes are spans of the document: `document.text[node.start_char_idx:node.end_char_idx]`.

    Attributes:
        chunk_size: The maximum size of a node in tokens, including the metadata that is encoded with it.
        chunk_overlap: How many tokens a node may share with the previous one.
    """

    chunk_size: int = Field(gt=0)
    chunk_overlap: int = Field(default=0, ge=0)
    _tokens: Tokens = PrivateAttr()

    def __init__(self, tokens: Tokens, **fields: Any) -> None:
        super().__init__(**fields)
        self._tokens = tokens

    def __reduce__(self) -> NoReturn:
        # LlamaIndex's own pickling would leave the tokenizer out, and the copy would fail at its first document.
        raise TypeError(f"{type(self).__name__} holds its encoder's tokenizer: pickle the config or the engine instead")

    @abstractmethod
    def node_spans(self, document: BaseNode, text: str, size: int) -> Iterator[NodeSpan]:
        """The spans of a document's nodes, of at most `size` tokens each."""

    @classmethod
    def class_name(cls) -> str:
        return cls.__name__

    def _parse_nodes(self, nodes: Sequence[BaseNode], show_progress: bool = False, **kwargs: Any) -> list[BaseNode]:
        return [node for document in nodes for node in self._split(document)]

    def _split(self, document: BaseNode) -> Iterator[BaseNode]:
        text = document.get_content(metadata_mode=MetadataMode.NONE)
        spans = [span for span in self.node_spans(document, text, self._size(document)) if span.end > span.start]
        nodes = build_nodes_from_splits([text[span.start : span.end] for span in spans], document, id_func=self.id_func)
        for span, node in zip(spans, nodes):
            # The document's own metadata has precedence.
            node.metadata = {key: value for key, value in span.metadata.items() if key not in document.metadata}
            node.start_char_idx, node.end_char_idx = span.start, span.end
            yield node

    def _size(self, document: BaseNode) -> int:
        """The tokens that remain for text beside the metadata that is encoded with it."""
        metadata = document.get_metadata_str(mode=MetadataMode.EMBED)
        return self._size_beside(metadata, document)

    def _size_beside(self, metadata: str, document: BaseNode) -> int:
        if not metadata:
            return self.chunk_size
        left = self.chunk_size - int(self._tokens.counts([f"{metadata}\n\n"])[0])
        if left < min(16, self.chunk_size // 2):
            raise DocumentError(document.node_id, no_room(left, self.chunk_size))
        return left

    def _postprocess_parsed_nodes(self, nodes: list[BaseNode], parent_doc_map: dict[str, Document]) -> list[BaseNode]:
        # LlamaIndex searches the text again, and finds the wrong offset if a text occurs twice.
        offsets = [(node.start_char_idx, node.end_char_idx) for node in nodes if isinstance(node, TextNode)]
        done = super()._postprocess_parsed_nodes(nodes, parent_doc_map)
        for node, (start, end) in zip(done, offsets):
            assert isinstance(node, TextNode)
            node.start_char_idx, node.end_char_idx = start, end
        return done

    def _packer(self, text: str, breaks: NDArray[np.uint8]) -> Packer:
        return Packer(text, self._tokens.starts(text), breaks)

    def _spans(self, packer: Packer, start: int, end: int, size: int, *, full: bool = False) -> list[Span]:
        spans = packer.pack(start, end, size, min(self.chunk_overlap, size // 2), full=full)
        return packer.fit(spans, size, self._tokens.counts)


def no_room(left: int, size: int) -> str:
    """The message for metadata that leaves too few tokens for text."""
    return (
        f"the metadata that is encoded with its text leaves {max(0, left)} of {size} tokens for the text; remove long "
        "fields from chunker.embed_metadata"
    )


ADDED_METADATA = ("line", "page", "header_path", "language", "window", "window_start", "parents", TABLE_HEADER)
"""Metadata keys of nodes besides the document's."""

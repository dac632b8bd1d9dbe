"""The chunkers: LlamaIndex node parsers that cut a document at exact places, by sizes in the encoder's own tokens."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.node_parser import NodeParser
from llama_index.core.node_parser.node_utils import build_nodes_from_splits
from llama_index.core.schema import BaseNode, Document, MetadataMode, TextNode

from ...errors import DocumentError
from ...protocols import Tokens
from .packer import Packer, Span

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class NodeSpan:
    """A node to be: its place in the document, and what its metadata has besides the document's."""

    start: int
    end: int
    metadata: dict[str, Any] = field(default_factory=dict)


class SpanChunker(NodeParser):
    """A chunker whose nodes are spans of the document: `document.text[node.start_char_idx:node.end_char_idx]`.

    Attributes:
        chunk_size: The most tokens a node has, the metadata that is encoded with it included.
        overlap: How many of them it may share with the node before.
    """

    chunk_size: int = Field(gt=0)
    overlap: int = Field(default=0, ge=0)
    _tokens: Tokens = PrivateAttr()

    def __init__(self, tokens: Tokens, **fields: Any) -> None:
        super().__init__(**fields)
        self._tokens = tokens

    @abstractmethod
    def spans_of(self, document: BaseNode, text: str, size: int) -> Iterator[NodeSpan]:
        """The spans_of of a document that is longer than `size` tokens, or is to be cut in any case."""

    def _parse_nodes(self, nodes: Sequence[BaseNode], show_progress: bool = False, **kwargs: Any) -> list[BaseNode]:
        return [node for document in nodes for node in self._cut(document)]

    def _cut(self, document: BaseNode) -> Iterator[BaseNode]:
        text = document.get_content(metadata_mode=MetadataMode.NONE)
        spans_of = [piece for piece in self.spans_of(document, text, self._size(document)) if piece.end > piece.start]
        made = build_nodes_from_splits(
            [text[piece.start : piece.end] for piece in spans_of], document, id_func=self.id_func
        )
        for piece, node in zip(spans_of, made):
            # Of a key that the document has already, its own value stays.
            node.metadata = {key: value for key, value in piece.metadata.items() if key not in document.metadata}
            node.start_char_idx, node.end_char_idx = piece.start, piece.end
            yield node

    def _size(self, document: BaseNode) -> int:
        """What is left of the size for text, once the metadata that is encoded with it has its tokens."""
        metadata = document.get_metadata_str(mode=MetadataMode.EMBED)
        return self._left_beside(metadata, document)

    def _left_beside(self, metadata: str, document: BaseNode) -> int:
        if not metadata:
            return self.chunk_size
        left = self.chunk_size - int(self._tokens.counts([f"{metadata}\n\n"])[0])
        if left < min(16, self.chunk_size // 2):
            raise DocumentError(document.node_id, no_room(left, self.chunk_size))
        return left

    def _postprocess_parsed_nodes(self, nodes: list[BaseNode], parent_doc_map: dict[str, Document]) -> list[BaseNode]:
        # LlamaIndex looks for the text again, and finds the wrong place where a text occurs twice.
        places = [(node.start_char_idx, node.end_char_idx) for node in nodes if isinstance(node, TextNode)]
        done = super()._postprocess_parsed_nodes(nodes, parent_doc_map)
        for node, (start, end) in zip(done, places):
            assert isinstance(node, TextNode)
            node.start_char_idx, node.end_char_idx = start, end
        return done

    def _packer(self, text: str, breaks: NDArray[np.uint8]) -> Packer:
        return Packer(text, self._tokens.starts(text), breaks)

    def _spans(self, packer: Packer, start: int, end: int, size: int, *, full: bool = False) -> list[Span]:
        spans = packer.pack(start, end, size, min(self.overlap, size // 2), full=full)
        return packer.fit(spans, size, self._tokens.counts)


def no_room(left: int, size: int) -> str:
    """What to tell of a document whose metadata leaves its text too little."""
    return (
        f"the metadata that is encoded with its text leaves {max(0, left)} of {size} tokens for the text; take long "
        "fields out of chunker.embed_metadata"
    )


ADDED_METADATA = ("line", "page", "header_path", "language", "window", "parents")
"""What a node's metadata can have besides the document's."""

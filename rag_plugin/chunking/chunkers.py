"""The chunkers: LlamaIndex node parsers that cut a document at exact places, by sizes in the encoder's own tokens."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.node_parser import NodeParser
from llama_index.core.node_parser.node_utils import build_nodes_from_splits
from llama_index.core.schema import BaseNode, Document, MetadataMode, TextNode

from ..errors import DocumentError
from ..tokens import Tokens
from .breaks import SENTENCE, prose_breaks, sentence_starts
from .code import code_breaks, language_of
from .packing import Packer, Span, stripped
from .sections import markdown_breaks, markdown_outline

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Piece:
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
    def pieces(self, document: BaseNode, text: str, size: int) -> Iterator[Piece]:
        """The pieces of a document that is longer than `size` tokens, or is to be cut in any case."""

    def _parse_nodes(self, nodes: Sequence[BaseNode], show_progress: bool = False, **kwargs: Any) -> list[BaseNode]:
        return [node for document in nodes for node in self._cut(document)]

    def _cut(self, document: BaseNode) -> Iterator[BaseNode]:
        text = document.get_content(metadata_mode=MetadataMode.NONE)
        pieces = [piece for piece in self.pieces(document, text, self._size(document)) if piece.end > piece.start]
        made = build_nodes_from_splits(
            [text[piece.start : piece.end] for piece in pieces], document, id_func=self.id_func
        )
        for piece, node in zip(pieces, made):
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


class Packed(SpanChunker):
    """Cuts where `breaks` says that places are good, or at any word and as late as possible (`full`)."""

    full: bool = False
    _breaks: Callable[[str], NDArray[np.uint8]] = PrivateAttr()

    def __init__(self, tokens: Tokens, breaks: Callable[[str], NDArray[np.uint8]], **fields: Any) -> None:
        super().__init__(tokens, **fields)
        self._breaks = breaks

    def pieces(self, document: BaseNode, text: str, size: int) -> Iterator[Piece]:
        for span in self._spans(self._packer(text, self._breaks(text)), 0, len(text), size, full=self.full):
            yield Piece(*span)


class MarkdownChunker(SpanChunker):
    """Cuts at headings, and within a long section between paragraphs; a table or code stays whole if it fits.

    The path of the headings above a node, its own included, stands in its metadata as `header_path`.
    """

    def pieces(self, document: BaseNode, text: str, size: int) -> Iterator[Piece]:
        outline = markdown_outline(text)
        if "header_path" not in document.excluded_embed_metadata_keys:
            longest = max((section.path for section in outline.sections), key=len, default="")
            like = TextNode(metadata={**document.metadata, "header_path": longest})
            like.excluded_embed_metadata_keys = document.excluded_embed_metadata_keys
            size = self._left_beside(like.get_metadata_str(mode=MetadataMode.EMBED), document)
        starts = self._tokens.starts(text)
        packer = Packer(text, starts, markdown_breaks(text, outline.blocks, starts, size))
        for section in outline.sections:
            for span in self._spans(packer, section.start, section.end, size):
                yield Piece(*span, {"header_path": section.path})


class CodeChunker(SpanChunker):
    """Cuts between definitions and statements, the outermost that fit; a file that is no code, as prose.

    Args:
        language: A language of tree-sitter, or None to tell by the file's name.
    """

    language: str | None = None

    def pieces(self, document: BaseNode, text: str, size: int) -> Iterator[Piece]:
        language = self.language or language_of(document)
        breaks = prose_breaks(text) if language is None else code_breaks(text, language)
        before = 0
        for start, end in self._spans(self._packer(text, breaks), 0, len(text), size):
            line = text.rfind("\n", 0, start) + 1
            if language is not None and line >= before and text[line:start].isspace():
                start = line  # the indentation of the first line belongs to it
            before = end
            yield Piece(start, end, {"language": language} if language else {})


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

    def pieces(self, document: BaseNode, text: str, size: int) -> Iterator[Piece]:
        starts = self._tokens.starts(text)
        breaks = prose_breaks(text)
        if len(starts) > size:
            breaks = self._meaning(text, breaks)
        for span in self._spans(Packer(text, starts, breaks), 0, len(text), size):
            yield Piece(*span)

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


class SentenceWindowChunker(SpanChunker):
    """Each sentence is a node; the sentences around it stand in its metadata as `window`, for the LLM to read.

    As LlamaIndex's `SentenceWindowNodeParser`, with the window as it stands in the document.
    """

    window_size: int = Field(default=3, ge=0)

    def pieces(self, document: BaseNode, text: str, size: int) -> Iterator[Piece]:
        packer = self._packer(text, prose_breaks(text))
        starts = sentence_starts(text)
        ends = [*starts[1:], len(text)]
        last = len(starts) - 1
        for number, (start, end) in enumerate(zip(starts, ends)):
            window = text[starts[max(0, number - self.window_size)] : ends[min(last, number + self.window_size)]]
            for span in self._spans(packer, start, end, size):
                yield Piece(*span, {"window": window.strip()})


class HierarchicalChunker(SpanChunker):
    """Small nodes that know the larger ones around them: for retrieval that gives back a parent for its children.

    Only the smallest are nodes; `parents` in their metadata are the spans of the larger ones, the nearest first, as
    `start:end start:end`. The nodes lie one behind the other without a gap, so that a parent's text is its nodes'.

    Attributes:
        parent_sizes: In tokens, from large to small, each larger than `chunk_size`.
    """

    parent_sizes: list[int] = Field(default_factory=list)

    def pieces(self, document: BaseNode, text: str, size: int) -> Iterator[Piece]:
        packer = self._packer(text, prose_breaks(text))
        whole = stripped(text, (0, len(text)))
        levels = [*(parent for parent in self.parent_sizes if parent > size), size]
        yield from self._level(packer, whole, levels, [])

    def _level(self, packer: Packer, span: Span, sizes: list[int], parents: list[Span]) -> Iterator[Piece]:
        parts = packer.pack(*span, sizes[0])
        if len(sizes) > 1:
            for part in parts:
                yield from self._level(packer, part, sizes[1:], [part, *parents])
            return
        shown = " ".join(f"{start}:{end}" for start, end in parents)
        for part in packer.fit(parts, sizes[0], self._tokens.counts, strip=False):
            yield Piece(*part, {"parents": shown} if shown else {})


class WholeDocument(NodeParser):
    """One node per document, its text as it is."""

    def _parse_nodes(self, nodes: Sequence[BaseNode], show_progress: bool = False, **kwargs: Any) -> list[BaseNode]:
        whole = []
        for node in nodes:
            text = node.get_content(metadata_mode=MetadataMode.NONE)
            if text.strip():
                whole += build_nodes_from_splits([text], node, id_func=self.id_func)
        return list(whole)


def no_room(left: int, size: int) -> str:
    """What to tell of a document whose metadata leaves its text too little."""
    return (
        f"the metadata that is encoded with its text leaves {max(0, left)} of {size} tokens for the text; take long "
        "fields out of chunker.embed_metadata"
    )


ADDED_METADATA = ("line", "page", "header_path", "language", "window", "parents")
"""What a node's metadata can have besides the document's."""

"""Splits documents into the nodes of an index: by any chunker, within the encoder's input length, with stable ids."""

from __future__ import annotations

import hashlib
import logging
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llama_index.core.node_parser import NodeParser
from llama_index.core.schema import (
    BaseNode,
    Document,
    MetadataMode,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
    TransformComponent,
)

from ...errors import DocumentError
from ...protocols import Tokens
from ..tables import TABLE_HEADER, markdown_tables
from .breaks import prose_breaks
from .packer import Packer
from .span_chunker import ADDED_METADATA, SpanChunker, no_room
from .whole_document import WholeDocument

_log = logging.getLogger(__package__)

_NODE_IDS = uuid.UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")  # the OID namespace of RFC 4122

TooLong = Literal["split", "warn", "error"]


@dataclass
class TruncationReport:
    """Counts nodes that are longer than the encoder's input.

    Attributes:
        split: Nodes that were split.
        truncated: Nodes that were kept, so that the end of their text is in no vector.
        characters: Characters of all nodes.
        unencoded_characters: Characters that are in no vector.
    """

    split: int = 0
    truncated: int = 0
    characters: int = 0
    unencoded_characters: int = 0


class DocumentSplitter:
    """Splits documents into the nodes of an index.

    Args:
        chunker: Any LlamaIndex node parser.
        tokens: The encoder's tokens.
        max_tokens: The encoder's input length; None if it is unknown.
        embed_metadata: Metadata keys that are encoded together with a node's text.
        too_long: What happens to a node that is longer than `max_tokens`: it is split, kept with a warning, or the
            document is rejected.

    Attributes:
        truncation: Counts over all documents so far.
    """

    def __init__(
        self,
        chunker: NodeParser,
        tokens: Tokens,
        max_tokens: int | None,
        embed_metadata: Sequence[str] = (),
        too_long: TooLong = "split",
    ) -> None:
        self._chunker, self._tokens, self._max_tokens = chunker, tokens, max_tokens
        self._embed_metadata, self._too_long = frozenset((*embed_metadata, TABLE_HEADER)), too_long
        self._keys_with_warning: set[str] = set()
        self.truncation = TruncationReport()

    def __call__(self, document: Document) -> list[BaseNode]:
        """Split one document.

        A node's id is a hash of the document's id, the text that is encoded, and the number of its earlier occurrences:
        an edit changes the ids of the edited nodes only. The metadata gets `line` (or `page`, if the reader marks pages
        by form feeds), where the node starts.

        Raises:
            DocumentError: A node is too long and may not be split, or its metadata leaves too little room for text.
        """
        document = self._with_embed_metadata(document)
        text = document.text
        nodes = [node for node in self._chunker.get_nodes_from_documents([document]) if _has_text(node)]
        tables = list(markdown_tables(text))
        for node in nodes:
            _drop_wrong_offsets(node, text)
            _add_table_header(node, tables)
            # The chunker's own choice is replaced: a path or a date would change the vectors of each copy of a file.
            node.excluded_embed_metadata_keys = [key for key in node.metadata if not self._is_embedded(key, node)]
        parts_of = self._within_limit(document.id_, nodes)
        _assign_ids(document, parts_of)
        result = [part for parts in parts_of.values() for part in parts]
        _add_positions(text, document.metadata, result)
        return result

    def _with_embed_metadata(self, document: Document) -> Document:
        """The document for the chunker, which counts embedded metadata towards the size."""
        keys = list(dict.fromkeys([*document.metadata, *ADDED_METADATA]))
        added = [key for key in ADDED_METADATA if key not in document.metadata and key != TABLE_HEADER]
        return document.model_copy(
            update={
                "excluded_embed_metadata_keys": [key for key in keys if not self._is_embedded(key, document)],
                "excluded_llm_metadata_keys": list(dict.fromkeys([*document.excluded_llm_metadata_keys, *added])),
            }
        )

    def _is_embedded(self, key: str, node: BaseNode) -> bool:
        if key not in self._embed_metadata:
            return False
        value = node.metadata.get(key)
        if isinstance(value, str) and os.path.isabs(value) and key not in ADDED_METADATA:
            if key not in self._keys_with_warning:
                self._keys_with_warning.add(key)
                _log.warning("%s is an absolute path in some documents; it is not encoded there", key)
            return False
        return True

    def _within_limit(self, document_id: str, nodes: Sequence[BaseNode]) -> dict[str, list[BaseNode]]:
        """By the id of each node, the node itself, or its parts if it is too long."""
        texts = [node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
        self.truncation.characters += sum(map(len, texts))
        limit = self._max_tokens
        # The nodes of a SpanChunker never exceed its size.
        is_sized = isinstance(self._chunker, SpanChunker) and self._chunker.chunk_size <= (limit or 0)
        has_metadata = len(self._embed_metadata) > 1 or any(TABLE_HEADER in node.metadata for node in nodes)
        if limit is None or not texts or (is_sized and not has_metadata):
            return {node.node_id: [node] for node in nodes}
        parts_of: dict[str, list[BaseNode]] = {}
        for node, text, count in zip(nodes, texts, self._tokens.counts(texts).tolist()):
            parts_of[node.node_id] = [node]
            if count <= limit:
                continue
            if self._too_long == "error":
                raise DocumentError(
                    document_id,
                    f"a node of {count} tokens is longer than the encoder's input of {limit}; reduce the chunker's "
                    "size, or set chunker.too_long to split",
                )
            if self._too_long == "split" and isinstance(node, TextNode):
                self.truncation.split += 1
                parts_of[node.node_id] = list(self._parts(document_id, node, count, limit))
            else:
                self.truncation.truncated += 1
                beyond = self._tokens.starts(text)[limit:]
                self.truncation.unencoded_characters += len(text) - int(beyond[0]) if beyond.size else 0
        return parts_of

    def _parts(self, document_id: str, node: TextNode, count: int, limit: int) -> Iterator[TextNode]:
        text = node.text
        size = limit - count + int(self._tokens.counts([text])[0])
        if size < min(16, limit // 2):
            raise DocumentError(document_id, no_room(size, limit))
        packer = Packer(text, self._tokens.starts(text), prose_breaks(text))
        for start, end in packer.fit(packer.pack(0, len(text), size), size, self._tokens.counts):
            part = node.model_copy(
                update={
                    "id_": str(uuid.uuid4()),
                    "text": text[start:end],
                    "metadata": dict(node.metadata),
                    "relationships": dict(node.relationships),
                }
            )
            if node.start_char_idx is not None:
                part.start_char_idx, part.end_char_idx = node.start_char_idx + start, node.start_char_idx + end
            yield part


class GivenNodeSplitter(DocumentSplitter):
    """Returns nodes that the caller made, as they are; counts those that are longer than the encoder's input."""

    def __init__(self, nodes: Mapping[str, Sequence[BaseNode]], tokens: Tokens, max_tokens: int | None) -> None:
        super().__init__(WholeDocument(), tokens, max_tokens, too_long="warn")
        self._nodes = nodes

    def __call__(self, document: Document) -> list[BaseNode]:
        """The nodes of a document, whose source they get where they have none."""
        nodes = [
            node.model_copy(update={"relationships": dict(node.relationships)}) for node in self._nodes[document.id_]
        ]
        for node in nodes:
            node.relationships.setdefault(NodeRelationship.SOURCE, RelatedNodeInfo(node_id=document.id_))
        self._within_limit(document.id_, nodes)
        return nodes


class LazyDocumentSplitter(TransformComponent):
    """A LlamaIndex transformation that builds the splitter when a document is first added to an index by hand."""

    _make: Callable[[], DocumentSplitter]

    def __init__(self, make: Callable[[], DocumentSplitter]) -> None:
        super().__init__()
        object.__setattr__(self, "_make", make)

    def __reduce__(self) -> tuple[type[LazyDocumentSplitter], tuple[Callable[[], DocumentSplitter]]]:
        # LlamaIndex's own pickling removes what it cannot pickle from the live object.
        return type(self), (self._make,)

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        split = self._make()
        return [part for node in nodes for part in (split(node) if isinstance(node, Document) else [node])]


def _has_text(node: BaseNode) -> bool:
    return bool(node.get_content(metadata_mode=MetadataMode.NONE).strip())


def _add_table_header(node: BaseNode, tables: Sequence[tuple[int, int, str]]) -> None:
    """Name the columns of the table that a node starts in."""
    start = getattr(node, "start_char_idx", None)
    for first, end, header in tables:
        if start is not None and first <= start < end:
            node.metadata[TABLE_HEADER] = header


def _drop_wrong_offsets(node: BaseNode, text: str) -> None:
    if isinstance(node, TextNode):
        start, end = node.start_char_idx, node.end_char_idx
        if start is None or end is None or text[start:end] != node.text:
            node.start_char_idx = node.end_char_idx = None


def _assign_ids(document: Document, parts_of: dict[str, list[BaseNode]]) -> None:
    """Give nodes their stable ids, and replace the old ids in their relationships."""
    occurrences: dict[str, int] = {}
    nodes = [(old_id, number, part) for old_id, parts in parts_of.items() for number, part in enumerate(parts)]
    for _, _, node in nodes:
        text = node.get_content(metadata_mode=MetadataMode.EMBED)
        occurrences[text] = occurrences.get(text, 0) + 1
        name = f"{document.id_}\0{occurrences[text]}\0{text}".encode("utf-8", "surrogatepass")
        node.id_ = str(uuid.uuid5(_NODE_IDS, hashlib.sha256(name).hexdigest()))
    source = document.as_related_node_info()
    for old_id, number, node in nodes:
        parts = parts_of[old_id]
        if node.ref_doc_id != document.id_:  # stores delete a document's nodes by this relationship
            node.relationships[NodeRelationship.SOURCE] = source
        for kind, related in list(node.relationships.items()):
            if kind == NodeRelationship.SOURCE:
                continue
            # Of a split node, the part that touches this node.
            touching = {NodeRelationship.PREVIOUS: slice(-1, None), NodeRelationship.CHILD: slice(None)}
            infos = [
                # Without metadata, which the related node has itself.
                RelatedNodeInfo(node_id=other.node_id, node_type=info.node_type, hash=info.hash)
                for info in (related if isinstance(related, list) else [related])
                for other in parts_of.get(info.node_id, [])[touching.get(kind, slice(0, 1))]
            ]
            if not infos:
                del node.relationships[kind]
            else:
                node.relationships[kind] = infos if isinstance(related, list) else infos[0]
        for kind, neighbours in (
            (NodeRelationship.PREVIOUS, parts[max(0, number - 1) : number]),
            (NodeRelationship.NEXT, parts[number + 1 : number + 2]),
        ):
            for other in neighbours:
                node.relationships[kind] = RelatedNodeInfo(node_id=other.node_id, node_type=other.get_type())


def _add_positions(text: str, document_metadata: Mapping[str, Any], nodes: Sequence[BaseNode]) -> None:
    """Add the line or page where each node starts to its metadata, excluded from encoding and prompts."""
    has_pages = "\f" in text
    key = "page" if has_pages else "line"
    if key in document_metadata:
        return
    offset = number = 0
    for node in nodes:
        start = getattr(node, "start_char_idx", None)
        if start is None:
            continue
        if start < offset:
            offset = number = 0
        number += text.count("\f" if has_pages else "\n", offset, start)
        offset = start
        node.metadata[key] = number + 1
        for keys in (node.excluded_embed_metadata_keys, node.excluded_llm_metadata_keys):
            if key not in keys:
                keys.append(key)

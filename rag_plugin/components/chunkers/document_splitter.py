"""A document in, its nodes out: by any chunker, none longer than the encoder sees, with ids that stay."""

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
from .breaks import prose_breaks
from .packer import Packer
from .span_chunker import ADDED_METADATA, SpanChunker, no_room

_log = logging.getLogger(__package__)

_NODE_IDS = uuid.UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")  # RFC 4122's namespace for names of this kind

TooLong = Literal["split", "warn", "error"]


@dataclass
class TruncationReport:
    """What became of nodes that were longer than the encoder sees: nodes as the chunker made them, and characters."""

    split: int = 0
    left: int = 0
    characters: int = 0
    unseen: int = 0


class DocumentSplitter:
    """Cuts documents into the nodes that an index keeps.

    Args:
        chunker: Any LlamaIndex node parser.
        tokens: The encoder's.
        limit: How many tokens of a text the encoder sees; None where that is not known.
        embed_metadata: What of a node's metadata is encoded together with its text.
        too_long: What is done with a node that is longer than the limit: split it, leave it and warn, or refuse the
            document.
    """

    def __init__(
        self,
        chunker: NodeParser,
        tokens: Tokens,
        limit: int | None,
        embed_metadata: Sequence[str] = (),
        too_long: TooLong = "split",
    ) -> None:
        self._chunker, self._tokens, self._limit = chunker, tokens, limit
        self._embed_metadata, self._too_long = frozenset(embed_metadata), too_long
        self._refused: set[str] = set()
        self.unseen = TruncationReport()

    def __call__(self, document: Document) -> list[BaseNode]:
        """Cut one document.

        A node's id follows from the document's id, its text as the encoder sees it, and how many times that text came
        before: editing one paragraph leaves the ids of all others alone. `line` (or `page`, where the reader marked
        pages by form feeds) in the metadata says where the node begins.

        Raises:
            DocumentError: A node is too long and is not to be split, or what is encoded with it leaves it no room.
        """
        document = self._prepared(document)
        text = document.text
        made = [node for node in self._chunker.get_nodes_from_documents([document]) if _place(node, text)]
        for node in made:
            self._choose(node)
        fitting = self._fitting(document.id_, made)
        _name(document, fitting)
        nodes = [part for parts in fitting.values() for part in parts]
        _locate(text, document.metadata, nodes)
        return nodes

    def _prepared(self, document: Document) -> Document:
        """The document as the chunker gets it: what is encoded of its metadata counts there as text."""
        keys = list(dict.fromkeys([*document.metadata, *ADDED_METADATA]))
        hidden = [key for key in ADDED_METADATA if key not in document.metadata]
        return document.model_copy(
            update={
                "excluded_embed_metadata_keys": [key for key in keys if not self._is_chosen(key, document)],
                "excluded_llm_metadata_keys": list(dict.fromkeys([*document.excluded_llm_metadata_keys, *hidden])),
            }
        )

    def _is_chosen(self, key: str, node: BaseNode) -> bool:
        if key not in self._embed_metadata:
            return False
        value = node.metadata.get(key)
        if isinstance(value, str) and os.path.isabs(value) and key not in ADDED_METADATA:
            if key not in self._refused:
                self._refused.add(key)
                _log.warning("%s is an absolute path in some documents; there it is not encoded with the text", key)
            return False
        return True

    def _choose(self, node: BaseNode) -> None:
        # Whatever the chunker made of it: a path or a date in the vectors would change them with every copy of a file.
        node.excluded_embed_metadata_keys = [key for key in node.metadata if not self._is_chosen(key, node)]

    def _fitting(self, document: str, nodes: Sequence[BaseNode]) -> dict[str, list[BaseNode]]:
        """By the id of each node, the node itself, or its parts where it is too long."""
        texts = [node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
        self.unseen.characters += sum(map(len, texts))
        # Our own chunkers see to their size themselves.
        sized = isinstance(self._chunker, SpanChunker) and self._chunker.chunk_size <= (self._limit or 0)
        if self._limit is None or not texts or (sized and not self._embed_metadata):
            return {node.node_id: [node] for node in nodes}
        fitting: dict[str, list[BaseNode]] = {}
        for node, text, count in zip(nodes, texts, self._tokens.counts(texts).tolist()):
            if count <= self._limit:
                fitting[node.node_id] = [node]
            elif self._too_long == "error":
                raise DocumentError(
                    document,
                    f"a node of {count} tokens is longer than the {self._limit} that the encoder sees; let the chunker "
                    "make smaller ones, or set chunker.too_long to split",
                )
            elif self._too_long == "split" and isinstance(node, TextNode):
                self.unseen.split += 1
                fitting[node.node_id] = list(self._parts(document, node, count, self._limit))
            else:
                self.unseen.left += 1
                unseen = self._tokens.starts(text)[self._limit :]
                self.unseen.unseen += len(text) - int(unseen[0]) if unseen.size else 0
                fitting[node.node_id] = [node]
        return fitting

    def _parts(self, document: str, node: TextNode, count: int, limit: int) -> Iterator[TextNode]:
        text = node.text
        room = limit - count + int(self._tokens.counts([text])[0])
        if room < min(16, limit // 2):
            raise DocumentError(document, no_room(room, limit))
        packer = Packer(text, self._tokens.starts(text), prose_breaks(text))
        for start, end in packer.fit(packer.pack(0, len(text), room), room, self._tokens.counts):
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


class LazyDocumentSplitter(TransformComponent):
    """Makes the chunker when a document is first put into the index by hand, and not before."""

    _make: Callable[[], DocumentSplitter]

    def __init__(self, make: Callable[[], DocumentSplitter]) -> None:
        super().__init__()
        object.__setattr__(self, "_make", make)

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        cut = self._make()
        return [made for node in nodes for made in (cut(node) if isinstance(node, Document) else [node])]


def _place(node: BaseNode, text: str) -> bool:
    """Forget a place that is wrong; whether the node has any text."""
    if isinstance(node, TextNode):
        start, end = node.start_char_idx, node.end_char_idx
        if start is None or end is None or text[start:end] != node.text:
            node.start_char_idx = node.end_char_idx = None
    return bool(node.get_content(metadata_mode=MetadataMode.NONE).strip())


def _name(document: Document, fitting: dict[str, list[BaseNode]]) -> None:
    """Give nodes their lasting ids, and let what they say of each other follow."""
    seen: dict[str, int] = {}
    nodes = [(made, number, part) for made, parts in fitting.items() for number, part in enumerate(parts)]
    for _, _, node in nodes:
        text = node.get_content(metadata_mode=MetadataMode.EMBED)
        seen[text] = seen.get(text, 0) + 1
        name = hashlib.sha256(f"{document.id_}\0{seen[text]}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()
        node.id_ = str(uuid.uuid5(_NODE_IDS, name))
    source = document.as_related_node_info()
    for made, number, node in nodes:
        parts = fitting[made]
        if node.ref_doc_id != document.id_:  # stores delete a document's nodes by this
            node.relationships[NodeRelationship.SOURCE] = source
        for kind, related in list(node.relationships.items()):
            if kind == NodeRelationship.SOURCE:
                continue
            infos = related if isinstance(related, list) else [related]
            which = {NodeRelationship.PREVIOUS: slice(-1, None), NodeRelationship.CHILD: slice(None)}.get(
                kind, slice(0, 1)
            )
            # Their metadata stands with themselves already.
            kept = [
                RelatedNodeInfo(node_id=other.node_id, node_type=info.node_type, hash=info.hash)
                for info in infos
                for other in fitting.get(info.node_id, [])[which]
            ]
            if not kept:
                del node.relationships[kind]
            else:
                node.relationships[kind] = kept if isinstance(related, list) else kept[0]
        for kind, neighbours in (
            (NodeRelationship.PREVIOUS, parts[max(0, number - 1) : number]),
            (NodeRelationship.NEXT, parts[number + 1 : number + 2]),
        ):
            for other in neighbours:
                node.relationships[kind] = RelatedNodeInfo(node_id=other.node_id, node_type=other.get_type())


def _locate(text: str, of_document: Mapping[str, Any], nodes: Sequence[BaseNode]) -> None:
    """Put the line or the page where each node begins into its metadata, neither encoded nor shown to an LLM."""
    paged = "\f" in text
    key = "page" if paged else "line"
    if key in of_document:
        return
    position = number = 0
    for node in nodes:
        start = getattr(node, "start_char_idx", None)
        if start is None:
            continue
        if start < position:
            position = number = 0
        number += text.count("\f" if paged else "\n", position, start)
        position = start
        node.metadata[key] = number + 1
        for keys in (node.excluded_embed_metadata_keys, node.excluded_llm_metadata_keys):
            if key not in keys:
                keys.append(key)

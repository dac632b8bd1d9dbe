"""What LlamaIndex lacks about chunkers: sizes in the encoder's tokens, stable node ids, places in the document."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from llama_index.core.node_parser import MarkdownNodeParser, NodeParser
from llama_index.core.node_parser.node_utils import build_nodes_from_splits
from llama_index.core.node_parser.text.sentence import SentenceSplitter
from llama_index.core.schema import BaseNode, Document, MetadataMode, NodeRelationship, TransformComponent

_NODE_IDS = uuid.UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")  # RFC 4122's namespace for names of this kind


class LazyChunker(TransformComponent):
    """Builds the chunker when a document is first put into the index by hand, and not before."""

    _make: Callable[[], NodeParser]

    def __init__(self, make: Callable[[], NodeParser]) -> None:
        super().__init__()
        object.__setattr__(self, "_make", make)

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        return self._make()(nodes, **kwargs)


class WholeDocument(NodeParser):
    """One node per document, its text as it is."""

    def _parse_nodes(self, nodes: Sequence[BaseNode], show_progress: bool = False, **kwargs: Any) -> list[BaseNode]:
        whole = []
        for node in nodes:
            text = node.get_content(metadata_mode=MetadataMode.NONE)
            if text.strip():
                whole += build_nodes_from_splits([text], node, id_func=self.id_func)
        return list(whole)


class SizedMarkdown(NodeParser):
    """Cuts at headings, and cuts what is still too long at sentences.

    LlamaIndex's own Markdown parser knows no size, so a long section would be cut off by the encoder.
    The path of headings above a node stands in its metadata as `header_path`.
    """

    headings: MarkdownNodeParser
    sizes: SentenceSplitter

    def _parse_nodes(self, nodes: Sequence[BaseNode], show_progress: bool = False, **kwargs: Any) -> list[BaseNode]:
        parts: list[BaseNode] = []
        for document in nodes:
            metadata = self.sizes._get_metadata_str(document)  # it is encoded and shown with each node's text
            for section in self.headings.get_nodes_from_node(document):
                text = section.get_content(metadata_mode=MetadataMode.NONE)
                splits = self.sizes.split_text_metadata_aware(text, metadata)
                for node in build_nodes_from_splits(splits, document, id_func=self.id_func):
                    parts.append(node)
                    if "header_path" in document.metadata:
                        continue
                    node.metadata = {"header_path": section.metadata.get("header_path", "/")}
                    node.excluded_embed_metadata_keys = [*node.excluded_embed_metadata_keys, "header_path"]
                    node.excluded_llm_metadata_keys = [*node.excluded_llm_metadata_keys, "header_path"]
        return parts


def cut(chunker: NodeParser, document: Document) -> list[BaseNode]:
    """Cut one document into nodes with deterministic ids.

    A node's id follows from the document's id, its text as the encoder sees it, and how many times that
    text came before: editing one paragraph leaves the ids of all others alone. `line` (or `page`, where
    the reader marked pages by form feeds) in the metadata says where the node begins.
    """
    made = chunker.get_nodes_from_documents([document])
    nodes = [node for node in made if _has_text(node)]
    left_out = {node.node_id for node in made} - {node.node_id for node in nodes}
    seen: dict[str, int] = {}
    new_ids: dict[str, str] = {}
    for node in nodes:
        text = node.get_content(metadata_mode=MetadataMode.EMBED)
        seen[text] = seen.get(text, 0) + 1
        name = hashlib.sha256(f"{document.id_}\0{seen[text]}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()
        new_ids[node.node_id] = str(uuid.uuid5(_NODE_IDS, name))
    position = line = page = 0
    paged = "\f" in document.text
    for node in nodes:
        if node.ref_doc_id != document.id_:  # stores delete a document's nodes by this
            node.relationships[NodeRelationship.SOURCE] = document.as_related_node_info()
        node.id_ = new_ids[node.node_id]
        for kind, related in list(node.relationships.items()):
            infos = related if isinstance(related, list) else [related]
            kept = [info for info in infos if info.node_id not in left_out]
            for info in kept:
                info.node_id = new_ids.get(info.node_id, info.node_id)
            if not kept:
                del node.relationships[kind]
            elif isinstance(related, list):
                node.relationships[kind] = kept
        start = getattr(node, "start_char_idx", None)
        if start is not None:
            if start < position:
                position = line = page = 0
            line += document.text.count("\n", position, start)
            page += document.text.count("\f", position, start)
            position = start
            key, number = ("page", page + 1) if paged else ("line", line + 1)
            if key in document.metadata:
                continue
            node.metadata[key] = number
            node.excluded_embed_metadata_keys = [*node.excluded_embed_metadata_keys, key]
            node.excluded_llm_metadata_keys = [*node.excluded_llm_metadata_keys, key]
    return nodes


def _has_text(node: BaseNode) -> bool:
    return bool(node.get_content(metadata_mode=MetadataMode.NONE).strip())

"""Readers of documents and nodes that the caller already has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.readers.base import BaseReader
from llama_index.core.schema import BaseNode, Document, MetadataMode


class GivenDocuments(BaseReader):
    """Lists the given documents. One without an id of its own is identified by its content."""

    def __init__(self, documents: Sequence[Document]) -> None:
        for document in documents:
            if not isinstance(document, Document):
                raise TypeError(f"documents holds a {type(document).__name__}: pass Document objects, or nodes=")
        self._documents = list(documents)

    def load_data(self, *args: Any, **kwargs: Any) -> list[Document]:
        """Copies of the documents."""
        return [document.model_copy() for document in self._documents]


class GivenNodes(BaseReader):
    """Lists the documents of the given nodes; a node without a source is a document of its own.

    Attributes:
        nodes: The nodes by document id.
    """

    def __init__(self, nodes: Sequence[BaseNode]) -> None:
        self.nodes: dict[str, list[BaseNode]] = {}
        for node in nodes:
            if not isinstance(node, BaseNode):
                raise TypeError(f"nodes holds a {type(node).__name__}: pass LlamaIndex nodes")
            self.nodes.setdefault(node.ref_doc_id or node.node_id, []).append(node)

    def load_data(self, *args: Any, **kwargs: Any) -> list[Document]:
        """One document for each group of nodes; its text and metadata are those of the nodes, to detect changes."""
        return [
            Document(
                id_=document_id,
                text="\n".join(node.get_content(metadata_mode=MetadataMode.NONE) for node in nodes),
                metadata={node.node_id: node.metadata for node in nodes},
            )
            for document_id, nodes in self.nodes.items()
        ]

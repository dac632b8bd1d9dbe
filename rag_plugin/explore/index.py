"""Spaces of an index: its nodes and documents with their stored vectors; nothing is encoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..components.encoders.matrix import unit_rows
from ..errors import IndexNotBuilt, StoreError
from ..faiss_store import FaissStore
from .space import Piece, Space

if TYPE_CHECKING:
    from llama_index.core.vector_stores.types import BasePydanticVectorStore


def node_space(store: BasePydanticVectorStore) -> Space:
    """The nodes of an index with their vectors, in the order of insertion.

    Raises:
        StoreError: The store does not return vectors.
        IndexNotBuilt: The index is empty.
    """
    from llama_index.core.schema import MetadataMode

    if not isinstance(store, FaissStore):
        raise StoreError(
            f"a {type(store).__name__} does not return its vectors; use the store 'faiss', or a vocabulary"
        )
    nodes, vectors = store.nodes_with_vectors()
    if not nodes:
        raise IndexNotBuilt(f"{store.path}: the index is empty; ", python="call sync()", shell="run `rag-plugin sync`")
    pieces = (
        Piece(
            node.get_content(metadata_mode=MetadataMode.NONE),
            document=node.ref_doc_id or "",
            node=node.node_id,
            metadata=node.metadata,
        )
        for node in nodes
    )
    return Space(tuple(pieces), vectors)


def document_space(nodes: Space) -> Space:
    """The documents of nodes, in the order of their first nodes.

    A document's vector is the mean of its nodes' directions, weighted by their length in characters, so that a last
    node of one line does not count like a page. Its metadata is what all its nodes have in common. A node without a
    document is a document of its own.
    """
    names = [piece.document or piece.node for piece in nodes.pieces]
    rows = {name: row for row, name in enumerate(dict.fromkeys(names))}
    weights = np.array([max(1, len(piece.text)) for piece in nodes.pieces], dtype=np.float64)
    sums = np.zeros((len(rows), nodes.vectors.shape[1]))
    np.add.at(sums, np.array([rows[name] for name in names], dtype=np.int64), nodes.directions * weights[:, None])
    metadata: dict[str, dict[str, Any]] = {}
    for name, piece in zip(names, nodes.pieces):
        common = metadata.setdefault(name, dict(piece.metadata))
        metadata[name] = {
            key: value for key, value in common.items() if key in piece.metadata and piece.metadata[key] == value
        }
    pieces = tuple(Piece(name, document=name, metadata=metadata[name]) for name in rows)
    return Space(pieces, unit_rows(sums))

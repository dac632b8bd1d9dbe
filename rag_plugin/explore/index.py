"""An index as a space: its nodes and documents with the vectors that it holds; nothing is encoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import IndexNotBuilt, StoreError
from ..faiss_store import FaissStore
from .space import Piece, Space, directions

if TYPE_CHECKING:
    from llama_index.core.vector_stores.types import BasePydanticVectorStore

_ABSENT = object()


def node_space(store: BasePydanticVectorStore) -> Space:
    """The nodes of an index with their vectors, in the order they were written.

    Raises:
        StoreError: The store is none that gives its vectors back.
        IndexNotBuilt: Nothing was ever synced into it.
    """
    if not isinstance(store, FaissStore):
        raise StoreError(
            f"a {type(store).__name__} does not give its vectors back; this needs the store 'faiss', or a vocabulary"
        )
    nodes, vectors = store.nodes_with_vectors()
    if not nodes:
        raise IndexNotBuilt(f"{store.path}: nothing is in it; run `rag-plugin sync`")
    pieces = tuple(
        Piece(_text(node), document=node.ref_doc_id or "", node=node.node_id, metadata=node.metadata) for node in nodes
    )
    return Space(pieces, vectors)


def _text(node: Any) -> str:
    from llama_index.core.schema import MetadataMode

    return str(node.get_content(metadata_mode=MetadataMode.NONE))


def document_space(nodes: Space) -> Space:
    """The documents that nodes are of, in the order in which they come.

    A document's vector is the mean of its nodes' directions, each weighted by the node's length in characters, so
    that a last node of one line does not count like a page. Its metadata is what its nodes have in common. A node
    of no document is a document of its own.
    """
    names = [piece.document or piece.node for piece in nodes.pieces]
    number = {name: place for place, name in enumerate(dict.fromkeys(names))}
    places = np.array([number[name] for name in names], dtype=np.int64)
    weights = np.array([max(1, len(piece.text)) for piece in nodes.pieces], dtype=np.float64)
    sums = np.zeros((len(number), nodes.vectors.shape[1]))
    np.add.at(sums, places, nodes.directions * weights[:, None])
    shared: list[dict[str, Any]] = [{} for _ in number]
    first = [True] * len(number)
    for piece, place in zip(nodes.pieces, places.tolist()):
        if first[place]:
            shared[place], first[place] = dict(piece.metadata), False
        else:
            theirs = piece.metadata
            shared[place] = {key: value for key, value in shared[place].items() if theirs.get(key, _ABSENT) == value}
    pieces = tuple(Piece(name, document=name, metadata=shared[place]) for name, place in number.items())
    return Space(pieces, directions(sums))

"""A read-only LlamaIndex docstore whose contents are those of a vector store."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from llama_index.core.schema import BaseNode, NodeRelationship, RelatedNodeInfo
from llama_index.core.storage.docstore.keyval_docstore import KVDocumentStore
from llama_index.core.storage.docstore.utils import doc_to_json
from llama_index.core.storage.kvstore.types import DEFAULT_COLLECTION, BaseKVStore
from llama_index.core.vector_stores.types import BasePydanticVectorStore

from ...errors import StoreError
from ...protocols import SyncStore


class StoreDocstore(KVDocumentStore):
    """The nodes and documents of a vector store that keeps text, for parts of LlamaIndex that read a docstore.

    A document's hash is the one that its nodes record, so `refresh_ref_docs` replaces changed documents only.

    Raises:
        StoreError: A node that is not in the store is added here.
    """

    def __init__(self, store: BasePydanticVectorStore) -> None:
        super().__init__(_StoreView(store))

    def persist(self, persist_path: str = "./storage/docstore.json", fs: Any = None) -> None:
        """Write the file that LlamaIndex expects, empty: the nodes are in the store."""
        if fs is not None:
            with fs.open(persist_path, "w") as file:
                file.write(json.dumps({}))
            return
        Path(persist_path).parent.mkdir(parents=True, exist_ok=True)
        Path(persist_path).write_text(json.dumps({}), encoding="utf-8")


def shows_nodes(store: BasePydanticVectorStore) -> bool:
    """Whether a store returns nodes with their text by id."""
    return store.stores_text and type(store).get_nodes is not BasePydanticVectorStore.get_nodes


class _StoreView(BaseKVStore):
    """The collections that `KVDocumentStore` reads: `data`, `ref_doc_info` and `metadata`."""

    def __init__(self, store: BasePydanticVectorStore) -> None:
        self._store = store

    def get(self, key: str, collection: str = DEFAULT_COLLECTION) -> dict[str, Any] | None:
        if collection.endswith("/ref_doc_info"):
            return _ref_docs(self._nodes_of(key)).get(key)
        nodes = self._store.get_nodes([key])
        if collection.endswith("/metadata") and not nodes:
            return _hashes(self._nodes_of(key)).get(key)
        return next(iter(_values(nodes, collection).values()), None)

    def get_all(self, collection: str = DEFAULT_COLLECTION) -> dict[str, dict[str, Any]]:
        nodes = self._store.get_nodes()
        if collection.endswith("/ref_doc_info"):
            return _ref_docs(nodes)
        return _values(nodes, collection) | (_hashes(nodes) if collection.endswith("/metadata") else {})

    def _nodes_of(self, document: str) -> list[BaseNode]:
        if isinstance(self._store, SyncStore):
            live = self._store.live_generation()
            return [] if live is None else self._store.nodes_of(live, [document])
        return [node for node in self._store.get_nodes() if node.ref_doc_id == document]

    def put(self, key: str, val: dict[str, Any], collection: str = DEFAULT_COLLECTION) -> None:
        # An index puts its nodes here after it has put them into the store.
        if collection.endswith("/data") and not self._store.get_nodes([key]):
            raise StoreError("this docstore shows the nodes of a vector store: add nodes with index.insert_nodes")

    def put_all(self, kv_pairs: Any, collection: str = DEFAULT_COLLECTION, batch_size: int = 1) -> None:
        for key, value in kv_pairs:
            self.put(key, value, collection)

    def delete(self, key: str, collection: str = DEFAULT_COLLECTION) -> bool:
        if collection.endswith("/data") and self._store.get_nodes([key]):
            raise StoreError("this docstore shows the nodes of a vector store: remove them with index.delete_nodes")
        return True

    async def aget(self, key: str, collection: str = DEFAULT_COLLECTION) -> dict[str, Any] | None:
        return await asyncio.to_thread(self.get, key, collection)

    async def aget_all(self, collection: str = DEFAULT_COLLECTION) -> dict[str, dict[str, Any]]:
        return await asyncio.to_thread(self.get_all, collection)

    async def aput(self, key: str, val: dict[str, Any], collection: str = DEFAULT_COLLECTION) -> None:
        await asyncio.to_thread(self.put, key, val, collection)

    async def aput_all(self, kv_pairs: Any, collection: str = DEFAULT_COLLECTION, batch_size: int = 1) -> None:
        await asyncio.to_thread(self.put_all, kv_pairs, collection)

    async def adelete(self, key: str, collection: str = DEFAULT_COLLECTION) -> bool:
        return await asyncio.to_thread(self.delete, key, collection)


def _values(nodes: list[BaseNode], collection: str) -> dict[str, dict[str, Any]]:
    """By node id, what the collection `data` or `metadata` has of each node."""
    if collection.endswith("/data"):
        return {node.node_id: doc_to_json(node) for node in nodes}
    return {node.node_id: {"doc_hash": node.hash, "ref_doc_id": node.ref_doc_id} for node in nodes}


def _ref_docs(nodes: list[BaseNode]) -> dict[str, dict[str, Any]]:
    """By document id, the ids of its nodes, and the metadata of the document as its nodes record it."""
    documents: dict[str, dict[str, Any]] = {}
    for node in nodes:
        source = node.source_node
        if source is not None:
            entry = documents.setdefault(source.node_id, {"node_ids": [], "metadata": source.metadata or node.metadata})
            entry["node_ids"].append(node.node_id)
    return documents


def _hashes(nodes: list[BaseNode]) -> dict[str, dict[str, Any]]:
    """By document id, the hash of the document."""
    sources = [node.relationships.get(NodeRelationship.SOURCE) for node in nodes]
    return {
        source.node_id: {"doc_hash": source.hash}
        for source in sources
        if isinstance(source, RelatedNodeInfo) and source.hash is not None
    }

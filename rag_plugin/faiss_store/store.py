"""`FaissStore`, the LlamaIndex vector store."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import os
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
from llama_index.core.bridge.pydantic import PrivateAttr, ValidationError
from llama_index.core.schema import BaseNode, MetadataMode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryResult,
)
from numpy.typing import NDArray

from ..errors import StoreError
from ..protocols import DocumentRecord
from .directory import IndexDirectory
from .filters import restricts
from .search import EMBEDDINGS, search
from .settings import FaissSettings
from .sqlite.commit_position import CommitPosition
from .sqlite.database import Database, StoredNode
from .sqlite.node_rows import add_hidden_metadata, from_row, to_rows
from .sync_store import SyncStoreMixin
from .vectors.faiss_index import IndexSpec

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding

    from .health import IntegrityProblem, StoreInfo


P = ParamSpec("P")
T = TypeVar("T")


def _in_a_thread(method: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """The asynchronous form of a method, which does not block the event loop."""

    @functools.wraps(method)
    async def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.to_thread(method, *args, **kwargs)

    return run


class FaissStore(SyncStoreMixin, FaissSettings, BasePydanticVectorStore):
    """A vector store in a directory, usable wherever LlamaIndex takes one.

    Every write is one SQLite transaction: atomic and, when it returns, durable. FAISS and BM25 are derived from SQLite
    and follow the commits of all processes. Scores are similarities, higher is better. All methods may be called from
    any thread.

    Args:
        path: The index directory. The first write creates it; the constructor accesses no file.
        settings: The fields of `FaissSettings`, which documents them.

    Raises:
        TypeError: There is no such setting.
        StoreError: The value of a setting is invalid.
    """

    stores_text: bool = True
    is_embedding_query: bool = True
    path: Path

    _directory: IndexDirectory = PrivateAttr()

    def __init__(self, path: str | os.PathLike[str], **settings: Any) -> None:
        unknown = [name for name in settings if name not in FaissSettings.model_fields]
        if unknown:
            names = ", ".join(FaissSettings.model_fields)
            raise TypeError(f"FaissStore has no setting {', '.join(unknown)}; it has {names}")
        try:
            super().__init__(path=Path(path), **settings)  # type: ignore[call-arg]
        except ValidationError as error:
            problems = (f"{item['loc'][0]}: {item['msg']}, not {item['input']!r}" for item in error.errors())
            raise StoreError("; ".join(problems)) from error
        spec = IndexSpec(self.index, self.precision, self.metric, self.recall)
        spec.check()
        self._directory = IndexDirectory(
            self.path,
            spec,
            language=self.language if self.lexical else None,
            memory_map=self.memory_map,
            rescore=self.rescore,
            cache_size=self.cache_size,
        )

    @classmethod
    def class_name(cls) -> str:
        return "FaissStore"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled and copied as its path and settings; both stores share the directory."""
        return _restore, (self.to_dict(),)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> FaissStore:
        return _restore(self.to_dict())

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """Path and settings as JSON data, for `from_dict`."""
        return {
            "class_name": self.class_name(),
            "path": str(self.path),
            **self.model_dump(include={*FaissSettings.model_fields}),
        }

    @property
    def client(self) -> Any:
        """The FAISS index, or None before the first vector. It is derived: changes to it are lost."""

        def client(database: Database, position: CommitPosition) -> Any:
            index = self._directory.memory_index.index
            return None if index is None else index.tail if index.base is None else index.base

        return self._directory.with_current_view(client)

    # ------------------------------------------------------------------ LlamaIndex's vector store

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Write nodes with their vectors in one commit; a node with an existing id replaces it.

        Raises:
            StoreError: A node has no vector, a vector that does not fit, or metadata that JSON cannot represent.
            IndexLocked: Another process or thread is writing.
        """
        rows = to_rows(nodes)
        with self._directory.transaction() as database:
            self._directory.put(database, self._directory.live_or_new(database), rows)
        return [node.node_id for node in nodes]

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Remove a document: its nodes and its sync record."""
        if self._directory.exists():
            with self._directory.transaction() as database:
                live = database.live_generation()
                if live is not None:
                    database.delete_documents(live, [ref_doc_id], self.cache_size)

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Remove the nodes with these ids that pass the filters; without both, nothing."""
        if (node_ids is not None or restricts(filters)) and self._directory.exists():
            with self._directory.lock.held():
                rows = self._directory.rows(node_ids, filters)
                with self._directory.transaction() as database:
                    database.delete_rows(rows, self.cache_size)

    def clear(self) -> None:
        """Remove all nodes, all sync records, and the cache."""
        if self._directory.exists():
            with self._directory.transaction() as database:
                database.make_live(database.add_generation({}), 0)
                database.clear_cache()

    def clear_cache(self) -> None:
        """Remove the cached vectors of removed nodes."""
        if self._directory.exists():
            with self._directory.transaction() as database:
                database.clear_cache()

    def get_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        *,
        include_embeddings: bool = False,
    ) -> list[BaseNode]:
        """The nodes with these ids, in their order, that pass the filters; without arguments, all nodes.

        Args:
            node_ids: The ids; None: all.
            filters: Conditions on the metadata.
            include_embeddings: Set `embedding` of the nodes to their exact vectors.
        """
        return self._nodes(self._directory.nodes(node_ids, filters), include_embeddings)

    def _nodes(self, rows: Sequence[StoredNode], include_embeddings: bool) -> list[BaseNode]:
        nodes = [from_row(row) for row in rows]
        if include_embeddings:
            vectors = self._directory.vectors([row[0] for row in rows])
            for node, row in zip(nodes, rows):
                if row[0] in vectors:  # else removed meanwhile
                    node.embedding = vectors[row[0]].tolist()
        return nodes

    def nodes_with_vectors(self) -> tuple[list[BaseNode], NDArray[np.float32]]:
        """All nodes in the order they were written, and their exact vectors, of the same commit.

        Returns:
            The nodes, and float32 of shape (len(nodes), dimension); (0, 0) where there are none.
        """
        rows, vectors = self._directory.rows_with_vectors()
        return [from_row(row) for row in rows], vectors

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The best hits of a query.

        All fields of the query are supported: `similarity_top_k`, `node_ids` (an empty list does not restrict, since
        LlamaIndex's own retrievers send it), `doc_ids` (an empty list allows nothing), `filters`, and the modes DEFAULT
        (vector search), TEXT_SEARCH and SPARSE (BM25; `sparse_top_k` before `similarity_top_k`), HYBRID (fusion of
        both; `alpha` is the weight of vector search, `sparse_top_k` the number of BM25 hits, `hybrid_top_k` the number
        of results) and MMR (`mmr_threshold`: 0 for maximal diversity, 1 for none). A query without a vector that is
        restricted by filters or ids returns what they allow, in the order of writing and without scores.

        The metadata of hybrid hits has the two scores that were fused, `vector_score` and `lexical_score`, excluded
        from encoding and prompts.

        Args:
            query: The query.
            kwargs: `fusion`: `relative_score` or `reciprocal_rank`, for HYBRID; `mmr_prefetch_k`: the number of
                candidates for MMR, by default four times `similarity_top_k`; `mmr_threshold`: instead of the query's;
                `include_embeddings`: set `embedding` of the nodes to their exact vectors.

        Raises:
            UnsupportedQuery: The mode is not supported, or needs the BM25 index and there is none.
            StoreError: The query lacks its vector or text, or has a vector that does not fit the index.
        """
        include_embeddings = kwargs.pop(EMBEDDINGS, False)
        hits = search(self._directory, query, kwargs)
        nodes = self._nodes([hit.node for hit in hits], include_embeddings)
        for node, hit in zip(nodes, hits):
            add_hidden_metadata(node, vector_score=hit.vector_score, lexical_score=hit.lexical_score)
        scores = [hit.score for hit in hits if hit.score is not None]
        return VectorStoreQueryResult(
            nodes=nodes, similarities=scores if len(scores) == len(hits) else None, ids=[node.node_id for node in nodes]
        )

    async_add = _in_a_thread(add)
    adelete = _in_a_thread(delete)
    adelete_nodes = _in_a_thread(delete_nodes)
    aclear = _in_a_thread(clear)
    aget_nodes = _in_a_thread(get_nodes)
    aquery = _in_a_thread(query)

    def persist(self, persist_path: str, fs: Any = None) -> None:
        """Write a note in place of LlamaIndex's file: every commit is in the index directory already.

        `StorageContext.from_defaults(persist_dir=...)` reads that file where no `vector_store` is passed, as numbers:
        the note is what its error then says.
        """
        note = f"pass vector_store=engine.store to StorageContext.from_defaults: the index is in {self.path}"
        data = json.dumps({"embedding_dict": {"": [note]}})
        if fs is not None:
            with fs.open(persist_path, "w") as file:
                file.write(data)
            return
        Path(persist_path).parent.mkdir(parents=True, exist_ok=True)
        Path(persist_path).write_text(data, encoding="utf-8")

    # ------------------------------------------------------------------ the directory

    def snapshot(self) -> None:
        """Write the derived files now, so that the next process opens the index faster."""
        self._directory.update_derived_files(force=True)

    def close(self) -> None:
        """Write the derived files if there are enough changes, and close all files; the next use reopens them."""
        self._directory.close()

    def info(self) -> StoreInfo:
        """Facts about the index: contents, size, fingerprint, recall."""
        from .health import info

        return info(self._directory)

    def verify(self, *, repair: bool = False) -> list[IntegrityProblem]:
        """Check all rows, vectors and derived indexes against each other; returns the defects.

        Args:
            repair: Rebuild defective derived files, and remove nodes that cannot be read; the next sync restores them.
        """
        from .health import verify

        return verify(self._directory, repair=repair)

    @classmethod
    def from_storage(
        cls,
        storage: str | os.PathLike[str],
        path: str | os.PathLike[str],
        *,
        encoder: BaseEmbedding | None = None,
        **settings: Any,
    ) -> FaissStore:
        """Import a folder that LlamaIndex persisted with one of its FAISS stores, without encoding its texts.

        Args:
            storage: The folder: docstore, index store and FAISS file.
            path: The new index directory.
            encoder: The embedding model that made the vectors. With it a sync continues from the imported documents,
                and encodes no text again; without it a sync refuses the index.
            settings: As for `FaissStore`; `metric` defaults to that of the folder.

        Raises:
            StoreError: The files are incomplete or do not belong together, the vectors are not of this encoder, or
                `path` is not empty.
        """
        from .llama_index_storage import check_empty, read_storage

        check_empty(Path(path), "name a new index directory")
        nodes, metric = read_storage(Path(storage))
        store = cls(path, **{"metric": metric, **settings})
        if encoder is None:
            store.add(nodes)
            return store
        from ..components.encoders.identity import encoder_fingerprint, text_key
        from .llama_index_storage import check_encoder

        check_encoder(Path(storage), nodes, encoder)
        keys = {node.node_id: text_key(node.get_content(MetadataMode.EMBED)) for node in nodes}
        by_document: dict[str, list[BaseNode]] = {}
        for node in nodes:
            by_document.setdefault(node.ref_doc_id or node.node_id, []).append(node)
        # Records without a hash: the first sync reads each document, and splits it as its config says.
        documents = [(DocumentRecord(id_, "", None, ""), members) for id_, members in by_document.items()]
        with store.writing():
            generation = store.open_generation(encoder_fingerprint(encoder), lambda first, second: False)
            store.commit(generation, documents, keys=keys)
            store.finish(generation, encoder_fingerprint(encoder))
        return store

    def to_storage(self, storage: str | os.PathLike[str]) -> None:
        """Write a folder for LlamaIndex's `load_index_from_storage` with a stock `FaissVectorStore`.

        Raises:
            StoreError: The folder is not empty, or the store has no vectors.
        """
        from .llama_index_storage import check_empty, write_storage

        check_empty(Path(storage), "name a new folder")
        with self._directory.reading() as (database, live):
            dimension = None if live is None else database.dimension(live)
        if dimension is None:
            raise StoreError(f"{self.path} has no vectors to write")
        nodes, vectors = self.nodes_with_vectors()
        write_storage(Path(storage), nodes, vectors.reshape(len(nodes), dimension), self.metric)

    def __len__(self) -> int:
        """The number of nodes that queries search."""
        return self._directory.count()

    def __bool__(self) -> bool:
        # LlamaIndex writes `vector_store or default`: an empty store must not be replaced.
        return True


def _restore(data: dict[str, Any]) -> FaissStore:
    return FaissStore.from_dict(data)


# The signature of the constructor lists the settings in place of `**settings`.
*_own, _ = inspect.signature(FaissStore.__init__).parameters.values()
FaissStore.__init__.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [*_own, *inspect.signature(FaissSettings).parameters.values()]
)

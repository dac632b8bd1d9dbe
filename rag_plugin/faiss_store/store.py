"""`FaissStore`: the vector store that LlamaIndex sees."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryResult,
)

from ..errors import StoreError
from .directory import IndexDirectory
from .filters import restricts
from .lexical.bm25_index import LANGUAGES
from .search import search
from .sqlite.node_rows import from_row, to_rows
from .sync_store import SyncStoreMixin
from .vectors.faiss_index import IndexSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .health import IntegrityProblem, StoreInfo
    from .sqlite.commit_position import CommitPosition
    from .sqlite.database import Database


class FaissStore(SyncStoreMixin, BasePydanticVectorStore):
    """A vector store in a directory, usable wherever LlamaIndex takes one.

    Every write is one SQLite transaction: it is there wholly or not at all, and what returned survives the end of
    the process and the loss of power. FAISS and the lexical leg are derived from SQLite and catch up with what any
    process commits. Scores are similarities, higher is better. All methods may be called from any thread.

    Args:
        path: The index directory. It is made at the first write; making a `FaissStore` touches nothing.
        index: `Flat` compares with every vector; `HNSW` and `IVF` look at a part of them; or any FAISS factory
            string. An index that needs training is searched exactly until there is enough to train it.
        metric: `cosine`, `inner_product` or `l2`.
        lexical: Keep a BM25 index of the texts too, for text and hybrid search.
        language: Whose stemmer and stop words it uses; `none` for neither.
        precision: Of the vectors in FAISS; SQLite keeps the exact ones.
        memory_map: Map the FAISS snapshot into memory instead of reading it.
        rescore: Score what an index of shortened vectors finds by the exact vectors.
        recall: The share of the true nearest 10 that an index other than Flat is tuned to find.
        cache_size: How many vectors of removed nodes are kept, should their text come again.

    Raises:
        StoreError: A setting is none that FAISS or the lexical leg knows.
    """

    stores_text: bool = True
    is_embedding_query: bool = True
    path: Path
    index: str = "Flat"
    metric: Literal["cosine", "inner_product", "l2"] = "cosine"
    lexical: bool = True
    language: str = "english"
    precision: Literal["float32", "float16", "int8"] = "float32"
    memory_map: bool = True
    rescore: bool = True
    recall: float = 0.95
    cache_size: int = 100_000

    _directory: IndexDirectory = PrivateAttr()

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        index: str = "Flat",
        metric: Literal["cosine", "inner_product", "l2"] = "cosine",
        lexical: bool = True,
        language: str = "english",
        precision: Literal["float32", "float16", "int8"] = "float32",
        memory_map: bool = True,
        rescore: bool = True,
        recall: float = 0.95,
        cache_size: int = 100_000,
    ) -> None:
        if metric not in ("cosine", "inner_product", "l2") or precision not in ("float32", "float16", "int8"):
            raise StoreError("metric is cosine, inner_product or l2, and precision float32, float16 or int8")
        if not 0 < recall <= 1 or not 0 <= cache_size <= 10**9:
            raise StoreError("recall is above 0 and at most 1, and cache_size between 0 and 1,000,000,000")
        kind = IndexSpec(index, precision, metric, recall)
        kind.check()
        if language not in ("none", *LANGUAGES):
            raise StoreError(f"the lexical leg knows no language {language!r}: none, {', '.join(LANGUAGES)}")
        super().__init__(  # type: ignore[call-arg]
            path=Path(path),
            index=index,
            metric=metric,
            lexical=lexical,
            language=language,
            precision=precision,
            memory_map=memory_map,
            rescore=rescore,
            recall=recall,
            cache_size=cache_size,
        )
        self._directory = IndexDirectory(
            self.path,
            kind,
            language=language if lexical else None,
            memory_map=memory_map,
            rescore=rescore,
            cache_size=cache_size,
        )

    @classmethod
    def class_name(cls) -> str:
        return "FaissStore"

    @property
    def client(self) -> Any:
        """The FAISS index, or None before there is a vector; it is derived, so do not write to it."""

        def client(database: Database, state: CommitPosition) -> Any:
            index = self._directory.view.index
            return None if index is None else index.tail if index.base is None else index.base

        return self._directory.with_current_view(client)

    # ------------------------------------------------------------------ LlamaIndex's vector store

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Write nodes with their vectors in one commit; one whose id is there already replaces it.

        Raises:
            StoreError: A node has no vector, or one that does not fit, or metadata that JSON cannot hold.
            IndexLocked: Another process or thread is writing.
        """
        rows = to_rows(nodes)
        with self._directory.transaction() as database:
            self._directory.put(database, self._directory.live_or_new(database), rows)
        return [node.node_id for node in nodes]

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Remove a document's nodes, and the record that it was synced."""
        if self._directory.exists():
            with self._directory.transaction() as database:
                live = database.live()
                if live is not None:
                    database.delete_documents(live, [ref_doc_id], self.cache_size)

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Remove the nodes with these ids that the filters let through; one of the two has to be given."""
        if node_ids is None and not restricts(filters):
            raise StoreError("delete_nodes needs node ids or filters; clear() removes everything")
        if self._directory.exists():
            with self._directory.writing():
                rows = self._directory.rows(node_ids, filters)
                with self._directory.transaction() as database:
                    database.delete_rows(rows, self.cache_size)

    def clear(self) -> None:
        """Remove all nodes, all records of what was synced, and the cache."""
        if self._directory.exists():
            with self._directory.transaction() as database:
                database.make_live(database.add_generation({}), 0)
                database.clear_cache()

    def clear_cache(self) -> None:
        """Forget the vectors of removed nodes."""
        if self._directory.exists():
            with self._directory.transaction() as database:
                database.clear_cache()

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """The nodes with these ids (in this order) that the filters let through; without either, all."""
        return [from_row(row) for row in self._directory.nodes(node_ids, filters)]

    def nodes_with_vectors(self) -> tuple[list[BaseNode], NDArray[np.float32]]:
        """All nodes in the order they were written, and their exact vectors, of one and the same commit.

        Returns:
            The nodes, and float32 of shape (len(nodes), dimension); (0, 0) where there are none.
        """
        rows, vectors = self._directory.rows_with_vectors()
        return [from_row(row) for row in rows], vectors

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The nodes that fit a question best.

        Every field of the query is honoured: `similarity_top_k`, `node_ids`, `doc_ids` (empty lists do not
        restrict, since LlamaIndex's own retrievers send them), `filters`, and the modes DEFAULT (the nearest
        vectors), TEXT_SEARCH and SPARSE (BM25), HYBRID (both, joined; `alpha` is the weight of the vectors,
        `sparse_top_k` how many the words contribute, `hybrid_top_k` how many are returned) and MMR
        (`mmr_threshold`, 0 for the most variety, 1 for none).

        Args:
            query: What is asked.
            kwargs: `fusion`: `relative_score` or `reciprocal_rank`, for HYBRID; `mmr_prefetch_k`: how many MMR
                chooses from, four times `similarity_top_k` unless said.

        Raises:
            UnsupportedQuery: The mode is another one, or needs the lexical leg and there is none.
            StoreError: The query has no vector (no text), or one that does not fit the index.
        """
        found = search(self._directory, query, kwargs)
        nodes = [from_row(row) for row, _ in found]
        return VectorStoreQueryResult(
            nodes=nodes, similarities=[score for _, score in found], ids=[node.node_id for node in nodes]
        )

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """As `add`, without blocking the event loop."""
        return await asyncio.to_thread(self.add, nodes, **kwargs)

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """As `delete`, without blocking the event loop."""
        await asyncio.to_thread(self.delete, ref_doc_id, **delete_kwargs)

    async def adelete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """As `delete_nodes`, without blocking the event loop."""
        await asyncio.to_thread(self.delete_nodes, node_ids, filters, **delete_kwargs)

    async def aclear(self) -> None:
        """As `clear`, without blocking the event loop."""
        await asyncio.to_thread(self.clear)

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """As `get_nodes`, without blocking the event loop."""
        return await asyncio.to_thread(self.get_nodes, node_ids, filters)

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """As `query`, without blocking the event loop."""
        return await asyncio.to_thread(self.query, query, **kwargs)

    # ------------------------------------------------------------------ the directory

    def snapshot(self) -> None:
        """Write what is derived to files now, so that the next process to open the index has less to catch up with."""
        self._directory.update_derived_files(force=True)

    def close(self) -> None:
        """Write what is derived to files if much was written, and let go of the files; the next use opens them."""
        self._directory.close()

    def info(self) -> StoreInfo:
        """What is in the index, how large it is, what made it, and how much of the truth its search finds."""
        from .health import info

        return info(self._directory)

    def verify(self, *, repair: bool = False) -> list[IntegrityProblem]:
        """Check every row, vector and derived index against each other; an empty list means that all is well.

        Args:
            repair: Mend what can be mended: derived files are made anew; a node that cannot be read is removed
                and its document forgotten, so that the next sync brings it back.
        """
        from .health import verify

        return verify(self._directory, repair=repair)

    @classmethod
    def from_storage(cls, storage: str | os.PathLike[str], path: str | os.PathLike[str], **settings: Any) -> FaissStore:
        """Take over a folder that LlamaIndex persisted with one of its FAISS stores, without encoding anything.

        Args:
            storage: The folder: docstore, index store and FAISS file.
            path: The index directory to make; nothing may be in it yet.
            settings: As for `FaissStore`; `metric` is the folder's own unless said.

        Raises:
            StoreError: The folder is not one, or does not fit together; the message says what is missing.
        """
        from .llama_index_storage import from_storage

        return from_storage(cls, Path(storage), Path(path), settings)

    def to_storage(self, storage: str | os.PathLike[str]) -> None:
        """Write a folder that LlamaIndex's `load_index_from_storage` opens, with a stock `FaissVectorStore`.

        Raises:
            StoreError: The folder is there already and not empty.
        """
        from .llama_index_storage import to_storage

        to_storage(self, Path(storage))

    def __len__(self) -> int:
        """How many nodes a query sees."""
        return self._directory.count()

    def __bool__(self) -> bool:
        # LlamaIndex writes `vector_store or a_default`: an empty store is a store all the same.
        return True

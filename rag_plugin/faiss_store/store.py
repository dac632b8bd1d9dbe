"""`FaissStore`: the vector store that LlamaIndex sees."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from filelock import FileLock, Timeout
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from ..errors import IndexLocked, StoreError, UnsupportedQuery
from .database import Database, DocumentRecord, file_identity
from .nodes import from_row, to_row
from .vectors import VectorIndex, checked

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOCK_SECONDS = 10.0
"""How long a writer waits for another one."""


class FaissStore(BasePydanticVectorStore):
    """A vector store in a directory, usable wherever LlamaIndex takes one.

    Every write is one SQLite transaction: it is there wholly or not at all, and what returned survives the
    end of the process. FAISS is filled from SQLite when the store is first used, and catches up with what
    other processes commit. Scores are similarities, higher is better. All methods may be called from any thread.

    Args:
        path: The index directory. It is made at the first write; making a `FaissStore` touches nothing.
        metric: `cosine`, `inner_product` or `l2`.
    """

    stores_text: bool = True
    is_embedding_query: bool = True
    path: Path
    metric: Literal["cosine", "inner_product", "l2"] = "cosine"

    _lock: Any = PrivateAttr(default_factory=threading.RLock)
    _writer_lock: Any = PrivateAttr(default_factory=threading.RLock)
    _file_lock: Any = PrivateAttr(default=None)
    _writing: int = PrivateAttr(default=0)
    _database: Database | None = PrivateAttr(default=None)
    _index: VectorIndex | None = PrivateAttr(default=None)
    _generation: int | None = PrivateAttr(default=None)
    _position: tuple[int, int] = PrivateAttr(default=(0, 0))
    _seen: int | None = PrivateAttr(default=None)

    def __init__(
        self, path: str | os.PathLike[str], *, metric: Literal["cosine", "inner_product", "l2"] = "cosine"
    ) -> None:
        super().__init__(path=Path(path), metric=metric)  # type: ignore[call-arg]

    @classmethod
    def class_name(cls) -> str:
        return "FaissStore"

    @property
    def client(self) -> Any:
        """The FAISS index, or None before there is a vector; it is derived, so do not write to it."""
        with self._reading() as (database, live):
            if live is not None:
                self._catch_up(database)
            return None if self._index is None else self._index._index

    # ------------------------------------------------------------------ LlamaIndex's vector store

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Write nodes with their vectors in one commit; one whose id is there already replaces it.

        Raises:
            StoreError: A node has no vector, or one that does not fit, or metadata that JSON cannot hold.
        """
        with self._transaction() as database:
            self._put(database, self._live_or_new(database), nodes)
        return [node.node_id for node in nodes]

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Remove a document's nodes, and the record that it was synced."""
        self._remove(lambda database, generation: database.delete_documents(generation, [ref_doc_id]))

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Remove the nodes with these ids that the filters let through; one of the two has to be given."""
        if node_ids is None and (filters is None or not filters.filters):
            raise StoreError("delete_nodes needs node ids or filters; clear() removes everything")

        def remove(database: Database, generation: int) -> None:
            chosen = [row[1] for row in self._filtered(database, generation, node_ids, filters)]
            database.delete_nodes(generation, "id", chosen)

        self._remove(remove)

    def clear(self) -> None:
        """Remove all nodes and all records of what was synced."""
        with self._reading() as (database, _):
            if database is None:
                return
        with self._transaction() as database:
            database.make_live(database.add_generation({}))

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """The nodes with these ids (in this order) that the filters let through; without either, all."""
        if node_ids is not None:
            node_ids = list(dict.fromkeys(node_ids))
        with self._reading() as (database, live):
            rows = [] if live is None else self._filtered(database, live, node_ids, filters)
        if node_ids is not None:
            order = {name: number for number, name in enumerate(node_ids)}
            rows.sort(key=lambda row: order[row[1]])
        return [from_row(row) for row in rows]

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The nearest nodes to a vector.

        `similarity_top_k`, `node_ids`, `doc_ids` and `filters` are honoured; empty lists of ids do not
        restrict, since LlamaIndex's own retrievers send them.

        Raises:
            UnsupportedQuery: The mode is another than DEFAULT.
            StoreError: The query has no vector, or one that does not fit the index.
        """
        if query.mode != VectorStoreQueryMode.DEFAULT:
            raise UnsupportedQuery(f"{self.path}: this store compares vectors; it has no mode {query.mode.value!r}")
        if query.similarity_top_k < 1:
            raise StoreError(f"similarity_top_k has to be 1 or more, not {query.similarity_top_k}")
        with self._reading() as (database, live):
            if live is not None:
                self._catch_up(database)
            if live is None or self._index is None:
                return VectorStoreQueryResult(nodes=[], similarities=[], ids=[])
            vector = checked(query.query_embedding, self._index.dimension, "the question")
            only = self._only(database, live, query)
            found = self._index.search(vector, query.similarity_top_k, only)
            rows = database.nodes_by_row([row for row, _ in found])
        nodes = [from_row(rows[row]) for row, _ in found]
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

    def close(self) -> None:
        """Let go of the files; the next use opens them again."""
        with self._lock:
            if self._database is not None:
                self._database.close()
            self._database = None
            self._forget()

    def __len__(self) -> int:
        """How many nodes a query sees."""
        with self._reading() as (database, live):
            return 0 if live is None else database.count("node", live)

    def __bool__(self) -> bool:
        # LlamaIndex writes `vector_store or a_default`: an empty store is a store all the same.
        return True

    # ------------------------------------------------------------------ what a sync needs

    def live_fingerprint(self) -> dict[str, Any] | None:
        """What made the vectors that a query sees; None if nothing was ever finished."""
        with self._reading() as (database, live):
            return None if live is None else database.fingerprint(live)

    def live_generation(self) -> int | None:
        """The generation that a query sees."""
        with self._reading() as (_, live):
            return live

    def is_begun(self) -> bool:
        """Whether a first sync was begun and never finished."""
        with self._reading() as (database, live):
            return live is None and database is not None and database.newest() is not None

    def open_generation(
        self, fingerprint: Mapping[str, Any], same: Callable[[Mapping[str, Any], Mapping[str, Any]], bool]
    ) -> int:
        """The generation to write vectors of this fingerprint to: the live one, an unfinished one, or a new one."""
        with self._transaction() as database:
            for found in (database.live(), database.newest()):
                if found is not None and same(database.fingerprint(found), fingerprint):
                    return found
            live = database.live()
            generation = database.add_generation(fingerprint)
            if live is not None:
                # An unfinished one of yet other settings will never be finished.
                for table in ("node", "document"):
                    database.connection.execute(
                        f"DELETE FROM {table} WHERE generation NOT IN (?, ?)", (live, generation)
                    )
                database.connection.execute("DELETE FROM generation WHERE id NOT IN (?, ?)", (live, generation))
            else:
                database.drop_generations(keep=generation)
            return generation

    def synced(self, generation: int) -> dict[str, DocumentRecord]:
        """The documents of a generation by id."""
        with self._reading() as (database, _):
            return {} if database is None else database.documents(generation)

    def known_vectors(self, generation: int, node_ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """The vectors of those of these nodes that the generation has."""
        with self._reading() as (database, _):
            found = {} if database is None else database.vectors_of(generation, node_ids)
        return {name: np.frombuffer(vector, dtype=np.float32) for name, vector in found.items()}

    def commit(
        self,
        generation: int,
        changed: Sequence[tuple[DocumentRecord, Sequence[BaseNode]]] = (),
        untouched: Sequence[DocumentRecord] = (),
        removed: Sequence[str] = (),
    ) -> None:
        """Replace the nodes of changed documents, renew the records of untouched ones, drop removed ones: at once."""
        with self._transaction() as database:
            database.delete_documents(generation, [*(record.id for record, _ in changed), *removed])
            self._put(database, generation, [node for _, nodes in changed for node in nodes])
            database.put_documents(generation, [*(record for record, _ in changed), *untouched])

    def finish(self, generation: int, fingerprint: Mapping[str, Any]) -> None:
        """Note that a sync into this generation is complete: from now on it is what a query sees."""
        with self._transaction() as database:
            database.set_fingerprint(generation, fingerprint)
            if database.live() != generation:
                database.make_live(generation)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the one writer, for one write or for a whole sync; may be nested. Reading goes on meanwhile.

        Raises:
            IndexLocked: Another process or thread is writing and did not end within `LOCK_SECONDS`.
        """
        if not self._writer_lock.acquire(timeout=LOCK_SECONDS):
            raise IndexLocked(f"{self.path} is being written to by another thread of this process")
        try:
            if self._writing == 0:
                self._take_lock()
            self._writing += 1
            try:
                yield
            finally:
                self._writing -= 1
                if self._writing == 0:
                    self._file_lock.release()
        finally:
            self._writer_lock.release()

    # ------------------------------------------------------------------ inside

    @contextmanager
    def _transaction(self) -> Iterator[Database]:
        """One commit, or nothing; FAISS has it when this ends."""
        with self.writing(), self._lock:
            database = self._reader()
            if database is None:
                database = self._database = Database(self.path / "index.sqlite", create=True)
            with database.transaction():
                yield database
            with database.snapshot():
                self._catch_up(database, own_commit=True)

    @contextmanager
    def _reading(self) -> Iterator[tuple[Any, int | None]]:
        """The last commit, with its live generation; (None, None) before the first."""
        with self._lock:
            database = self._reader()
            if database is None:
                yield None, None
            else:
                with database.snapshot():
                    yield database, database.live()

    def _take_lock(self) -> None:
        holder = self.path / "writer.json"
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if self._file_lock is None:
                # Not of one thread: `writing` may begin and end in different ones of a thread pool.
                self._file_lock = FileLock(self.path / "write.lock", thread_local=False)
            self._file_lock.acquire(timeout=LOCK_SECONDS)
            holder.write_text(json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": now}))
        except Timeout as error:
            raise IndexLocked(f"{self.path} is being written to by {_holder(holder)}") from error
        except OSError as error:
            if self._file_lock is not None:
                self._file_lock.release()
            raise StoreError(f"{self.path} cannot be written to: {error.strerror or error}") from error

    def _reader(self) -> Database | None:
        file = self.path / "index.sqlite"
        identity = file_identity(file)
        if self._database is not None and self._database.identity != identity:
            self.close()  # another file is there now, or none: what is open can be seen by nobody else
        if self._database is None and identity is not None:
            database = Database(file, create=False)
            if database.is_blank():
                database.close()
            else:
                self._database = database
        return self._database

    def _live_or_new(self, database: Database) -> int:
        live = database.live()
        if live is None:
            live = database.add_generation({})
            database.make_live(live)
        return live

    def _put(self, database: Database, generation: int, nodes: Sequence[BaseNode]) -> None:
        dimension = database.dimension(generation)
        rows = []
        for node in {node.node_id: node for node in nodes}.values():
            rows.append(to_row(node, dimension))
            if dimension is None:
                dimension = len(rows[0].vector) // 4
                database.set_dimension(generation, dimension)
        database.put_nodes(generation, rows)

    def _remove(self, remove: Callable[[Database, int], None]) -> None:
        with self._reading() as (_, live):
            if live is None:
                return
        with self._transaction() as database:
            live = database.live()
            if live is not None:
                remove(database, live)

    def _filtered(
        self, database: Database, generation: int, ids: Sequence[str] | None, filters: MetadataFilters | None
    ) -> list[tuple[Any, ...]]:
        rows = database.nodes(generation, ids)
        if filters is None or not filters.filters:
            return rows
        metadata = {row[1]: json.loads(row[3]) for row in rows}
        passes = build_metadata_filter_fn(lambda name: metadata[name], filters)
        try:
            return [row for row in rows if passes(row[1])]
        except ValueError as error:
            raise UnsupportedQuery(f"{self.path}: {error}") from error
        except TypeError as error:
            raise StoreError(f"{self.path}: the filters do not fit the metadata: {error}") from error

    def _only(self, database: Database, generation: int, query: VectorStoreQuery) -> list[int] | None:
        """The row numbers that a query is restricted to; None if it is not."""
        chosen: set[int] | None = None
        for column, values in (("id", query.node_ids), ("document", query.doc_ids)):
            if values:
                rows = set(database.rows_of(generation, column, values))
                chosen = rows if chosen is None else chosen & rows
        if query.filters is not None and query.filters.filters:
            rows = {row[0] for row in self._filtered(database, generation, None, query.filters)}
            chosen = rows if chosen is None else chosen & rows
        return None if chosen is None else sorted(chosen)

    def _catch_up(self, database: Database, own_commit: bool = False) -> None:
        """Bring FAISS in line with the commit that the open snapshot shows."""
        version = database.data_version()
        if version == self._seen and not own_commit:  # an own commit does not change this number
            return
        try:
            self._fill(database)
        except BaseException:
            self._forget()  # FAISS may have a part of it
            raise
        self._seen = version

    def _forget(self) -> None:
        self._index = self._generation = self._seen = None
        self._position = (0, 0)

    def _fill(self, database: Database) -> None:
        live = database.live()
        if live != self._generation:
            self._index, self._generation, self._position = None, live, (0, 0)
        position = database.position()
        if live is not None and position != self._position:
            dimension = database.dimension(live)
            if self._index is None and dimension is not None:
                self._index = VectorIndex(dimension, self.metric)
            if self._index is not None:
                self._index.remove(database.removed_after(self._position[1]))
                for batch in database.vectors_after(live, self._position[0]):
                    vectors = np.frombuffer(b"".join(vector for _, vector in batch), dtype=np.float32)
                    self._index.add([row for row, _ in batch], vectors.reshape(len(batch), -1))
            self._position = position


def _holder(path: Path) -> str:
    try:
        found = json.loads(path.read_text())
        return f"process {found['process']} on {found['host']} since {found['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"

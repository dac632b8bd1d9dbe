"""One index directory in this process: connections, memory index, locks, derived files.

Lock order: the writer lock, the memory index's lock, SQLite. No thread waits for the writer lock while it holds the
memory index's.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from llama_index.core.vector_stores.types import MetadataFilters
from numpy.typing import NDArray

from ..errors import IndexLocked, StoreError
from .filters import restricts
from .lexical.bm25_overlay import position_of_files, write_files
from .locks.readers_writer import ReadersWriterLock
from .locks.writer_lock import WriterLock
from .memory_index import MemoryIndex
from .sqlite.commit_position import NOTHING, CommitPosition
from .sqlite.connection_pool import ConnectionPool
from .sqlite.database import Database, NodeRow, StoredNode
from .vectors.faiss_index import IndexSpec
from .vectors.similarity import check_dimension
from .vectors.snapshot_policy import UPDATE_INTERVAL_CHANGES, is_due, is_overdue, write_base
from .vectors.snapshots import read_record, remove_old

_log = logging.getLogger(__package__)
T = TypeVar("T")

_MAX_TRIES = 3
_MAX_CHANGES_INDEXED_BY_A_READER = 5 * UPDATE_INTERVAL_CHANGES


class IndexDirectory:
    """The state of one index directory that the threads of this process share."""

    def __init__(
        self, path: Path, spec: IndexSpec, *, language: str | None, memory_map: bool, rescore: bool, cache_size: int
    ) -> None:
        self.path, self.spec, self.cache_size = path, spec, cache_size
        self._new_memory_index: Callable[[], MemoryIndex] = lambda: MemoryIndex(
            path, spec, language, memory_map, rescore
        )
        self._begin()
        _ALL.add(self)

    def _begin(self) -> None:
        self.memory_index = self._new_memory_index()
        self._pool = ConnectionPool(self.path / "index.sqlite")
        self.lock = WriterLock(self.path)
        self._memory_index_lock = ReadersWriterLock()
        self._unindexed_nodes = 0  # written by this process and not in the lexical files yet
        self._checked_position = NOTHING  # the last commit after which a snapshot was considered
        self._wrote = False

    def after_fork(self) -> None:
        """In a forked process: replace locks and connections."""
        self._pool.abandon()
        _ABANDONED.append(self.memory_index)  # freeing it may wait for threads that do not exist here
        self._begin()

    @property
    def file(self) -> Path:
        return self.path / "index.sqlite"

    def exists(self) -> bool:
        """Whether the directory has a commit."""
        with self.connection() as database:
            return database is not None

    # ------------------------------------------------------------------ reading

    def connection(self, *, create: bool = False) -> AbstractContextManager[Database | None]:
        """A connection for this thread alone; None before the first commit, unless `create`."""
        return self._pool.connection(create=create)

    @contextmanager
    def reading(self) -> Iterator[tuple[Any, int | None]]:
        """A `Database` in a snapshot of the last commit, and its live generation; (None, None) before the first."""
        with self.connection() as database:
            if database is None:
                yield None, None
            else:
                with database.snapshot():
                    yield database, database.live_generation()

    def with_current_view(self, use: Callable[[Database, CommitPosition], T], *, lexical: bool = False) -> T | None:
        """Call `use` while the memory index shows the last commit; returns None before the first commit.

        Args:
            use: Called with a connection in a snapshot, and the snapshot's position.
            lexical: The lexical index has to show that commit as well.
        """
        with self.connection() as database:
            if database is None:
                return None
            for number in range(_MAX_TRIES):
                with self._memory_index_lock.reading(), database.snapshot():
                    position = database.position()
                    if self._is_current(position, lexical):
                        return use(database, position)
                if lexical and number == 0:
                    self._write_lexical_files_if_quick(position)
                with self._memory_index_lock.writing(), database.snapshot():
                    self._catch_up(database, lexical, wait_for_files=True)
            # Commits arrive faster than this thread acquires the lock: read while holding it.
            with self._memory_index_lock.writing(), database.snapshot():
                self._catch_up(database, lexical, wait_for_files=False)
                return use(database, self.memory_index.position)

    def _is_current(self, position: CommitPosition, lexical: bool) -> bool:
        memory_index = self.memory_index
        if lexical and memory_index.lexical is not None and memory_index.lexical.position != position:
            return False
        return memory_index.position == position

    def _catch_up(self, database: Database, lexical: bool, *, wait_for_files: bool) -> None:
        self.memory_index.catch_up(database)
        if lexical and self.memory_index.lexical is not None:
            self.memory_index.lexical.catch_up(database, wait_for_files=wait_for_files)

    def _write_lexical_files_if_quick(self, position: CommitPosition) -> None:
        """Update the lexical files before a query reads them, if that is quick and no other writer is active."""
        lexical = self.memory_index.lexical
        if lexical is None or lexical.position == position:
            return
        files_position = position_of_files(lexical.folder, lexical.language)
        if files_position.changes_until(position) > _MAX_CHANGES_INDEXED_BY_A_READER:
            return  # it would block writers for too long
        try:
            with self.lock.held(0):
                self._write_lexical_files()
        except (OSError, StoreError) as error:  # another writer, or a read-only folder
            _log.debug("%s: new texts are indexed in memory: %s", self.path, error)

    def nodes(self, ids: Sequence[str] | None, filters: MetadataFilters | None) -> list[StoredNode]:
        """The nodes with these ids (None: all) that pass the filters, in the order of the ids."""

        def read(database: Database, position: CommitPosition) -> list[StoredNode]:
            if position.generation is None:
                return []
            if ids is None and not restricts(filters):
                return database.nodes(position.generation)
            nodes = list(database.nodes_by_row(self._rows(database, position.generation, ids, filters)).values())
            if ids is not None:
                order = {id_: number for number, id_ in reversed(list(enumerate(ids)))}
                nodes.sort(key=lambda node: order[node[1]])
            return nodes

        return self.with_current_view(read) or []

    def rows(self, ids: Sequence[str] | None, filters: MetadataFilters | None) -> list[int]:
        """The row numbers of the nodes with these ids that pass the filters; at least one of the two is set."""

        def read(database: Database, position: CommitPosition) -> list[int]:
            return [] if position.generation is None else self._rows(database, position.generation, ids, filters)

        return self.with_current_view(read) or []

    def _rows(
        self, database: Database, generation: int, ids: Sequence[str] | None, filters: MetadataFilters | None
    ) -> list[int]:
        rows = database.rows_of(generation, "id", list(dict.fromkeys(ids or ())))
        columns = self.memory_index.columns
        if filters is None or not restricts(filters) or columns is None:
            return rows
        mask = columns.mask(database, filters)
        if ids is None:
            return mask.nonzero()[0].tolist()  # type: ignore[no-any-return]
        return [row for row in rows if row < len(mask) and mask[row]]

    def rows_with_vectors(self) -> tuple[list[StoredNode], NDArray[np.float32]]:
        """All nodes, and their vectors of shape (nodes, dimension)."""
        with self.reading() as (database, live):
            batches = [] if live is None else list(database.vectors_after(live, 0))
            if not batches:
                return [], np.zeros((0, 0), dtype=np.float32)
            nodes = {node[0]: node for node in database.nodes(live)}
        rows = [row for numbers, _ in batches for row in numbers]
        vectors = np.concatenate([part for _, part in batches])
        kept = [position for position, row in enumerate(rows) if row in nodes]
        return [nodes[rows[position]] for position in kept], vectors[kept]

    def vectors(self, rows: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """The exact vectors of these rows, shape (dimension,) each, without those of removed rows."""
        with self.reading() as (database, _):
            return {} if database is None else database.vectors_by_row(rows)

    def count(self) -> int:
        with self.reading() as (database, live):
            return 0 if live is None else int(database.count("node", live))

    # ------------------------------------------------------------------ writing

    @contextmanager
    def transaction(self) -> Iterator[Database]:
        """One commit: all of it or nothing. Takes the writer lock.

        Raises:
            IndexLocked: Another process or thread is writing and did not finish in time.
        """
        with self.lock.held():
            with self.connection(create=True) as database:
                assert database is not None
                with database.transaction():
                    before = database.position()
                    yield database
                    position = database.position()
                    if position != before:
                        database.record_position(position)
            self._wrote = True
            try:
                self._after_commit(position)
            except (StoreError, OSError, RuntimeError, sqlite3.Error) as error:
                _log.warning("%s: %s", self.path, error)  # committed; derived files can be written later

    def live_or_new(self, database: Database) -> int:
        """The generation for nodes that are added without a sync.

        Raises:
            StoreError: A first sync is unfinished; it would drop the nodes when it finishes.
        """
        live = database.live_generation()
        if live is None:
            if database.newest_generation() is not None:
                raise StoreError(f"{self.path}: the first sync is unfinished; finish it, or clear() the store")
            live = database.add_generation({})
            database.make_live(live, self.cache_size)
        return live

    def put(self, database: Database, generation: int, rows: Sequence[NodeRow]) -> None:
        """Write nodes into a generation.

        Raises:
            StoreError: Their vectors do not fit the index.
        """
        if not rows:
            return
        dimension, size = database.dimension(generation), len(rows[0].vector) // 4
        if dimension != size:
            if dimension is not None and not database.is_empty(generation):
                check_dimension(size, dimension, f"node {rows[0].id!r}")
            self.spec.new(size, 0)  # refuse a dimension that FAISS does not support before anything is written
            database.set_dimension(generation, size)
        database.put_nodes(generation, rows, self.cache_size)
        self._unindexed_nodes += len(rows)

    def _after_commit(self, position: CommitPosition) -> None:
        if self._unindexed_nodes > UPDATE_INTERVAL_CHANGES:
            self._write_lexical_files()
        if abs(self._checked_position.changes_until(position)) > UPDATE_INTERVAL_CHANGES:
            self._checked_position = position
            with self.reading() as (database, _):
                record = read_record(database.meta("snapshot"))
            if is_overdue(self.spec, position, record):
                self.update_derived_files()

    def _write_lexical_files(self) -> None:
        """Bring the lexical files to the last commit while queries go on; needs the writer lock."""
        lexical = self.memory_index.lexical
        if lexical is None:
            return
        with self.connection() as database:
            if database is not None:
                with database.snapshot():
                    if database.live_generation() is not None:
                        write_files(database, lexical.folder, lexical.language)
        self._unindexed_nodes = 0

    def update_derived_files(self, *, force: bool = False) -> None:
        """Bring the derived files to the last commit, if there are enough changes; with `force`, if there are any.

        Raises:
            IndexLocked: Another process or thread is writing.
            StoreError: They cannot be written, and `force` is set.
        """
        with self.lock.held():
            lexical_is_current = True
            try:
                self._write_lexical_files()
            except OSError as error:
                lexical_is_current = False
                if force:
                    raise StoreError(f"{self.path}: {error}") from error
                _log.warning("%s: %s", self.path, error)
            with self.connection() as database:
                if database is None:
                    return
                with database.snapshot():
                    position = database.position()
                    record = read_record(database.meta("snapshot"))
                    is_damaged = self.memory_index.is_snapshot_damaged
                    if not is_due(self.path, self.spec, position, record, is_damaged=is_damaged, force=force):
                        return
                    rescore = self.memory_index.rescore
                    written = write_base(self.path, self.spec, database, position, record, rescore=rescore, force=force)
                if written is None:
                    return
                with database.transaction():
                    database.set_meta("snapshot", written.to_json())
                    if lexical_is_current:  # else the lexical index still needs the history
                        database.prune_history(position, written.removed_from)
            remove_old(self.path, written.file)
            with self._memory_index_lock.writing():
                self.memory_index.reset_vectors()  # the next query opens the new snapshot

    def discard_derived(self) -> None:
        """Remove all derived files; they are rebuilt when they are next needed."""
        with self.lock.held():
            with self.connection() as database:
                if database is not None:
                    with database.transaction():
                        database.connection.execute("DELETE FROM meta WHERE key = 'snapshot'")
            with self._memory_index_lock.writing():
                self.memory_index.reset()
                shutil.rmtree(self.path / "lexical", ignore_errors=True)
            remove_old(self.path, None)

    def close(self) -> None:
        """Update the derived files if this process wrote, and close all files."""
        if self._wrote:
            try:
                with self.lock.held(0):
                    self.update_derived_files()
                self._wrote = False
            except IndexLocked:
                pass  # the active writer updates them
            except (StoreError, RuntimeError, sqlite3.Error) as error:
                _log.warning("%s: %s", self.path, error)  # derived files can be written later
        with self._memory_index_lock.writing():
            self.memory_index.reset()
        self._pool.close()


_ABANDONED: list[MemoryIndex] = []
_ALL: weakref.WeakSet[IndexDirectory] = weakref.WeakSet()


def _after_fork() -> None:
    faiss = sys.modules.get("faiss")
    if faiss is not None:
        faiss.omp_set_num_threads(1)  # OpenMP's other threads do not exist here, and FAISS would wait for them
    for directory in list(_ALL):
        directory.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)

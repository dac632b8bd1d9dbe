"""One index directory in this process: connections, the view, the lock, and the order in which they are taken.

The order is: the writer's lock, then the view's, then SQLite's. Nobody waits for the writer's lock while holding
the view's.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..errors import IndexLocked, StoreError
from .filters import restricts
from .lexical.bm25_overlay import covered, write_files
from .locks.readers_writer import ReadersWriterLock
from .locks.writer_lock import WriterLock
from .memory_index import MemoryIndex
from .sqlite.commit_position import NOTHING, CommitPosition
from .sqlite.connection_pool import ConnectionPool
from .sqlite.database import Database, NodeRow
from .vectors.faiss_index import IndexSpec
from .vectors.snapshot_policy import MANY, changes_between, is_due, write_base
from .vectors.snapshots import read_record, remove_old

if TYPE_CHECKING:
    from llama_index.core.vector_stores.types import MetadataFilters
    from numpy.typing import NDArray

_log = logging.getLogger(__package__)
T = TypeVar("T")

_TRIES = 3
_INDEXED_BY_A_READER = 5 * MANY  # nodes whose words a question brings to the files, if nobody is writing


class IndexDirectory:
    """What threads of this process share about one index directory."""

    def __init__(
        self, path: Path, kind: IndexSpec, *, language: str | None, memory_map: bool, rescore: bool, cache_size: int
    ) -> None:
        self.path, self.kind, self.cache_size = path, kind, cache_size
        self._new_view: Callable[[], MemoryIndex] = lambda: MemoryIndex(path, kind, language, memory_map, rescore)
        self._begin()
        _ALL.add(self)

    def _begin(self) -> None:
        self.view = self._new_view()
        self._pool = ConnectionPool(self.path / "index.sqlite")
        self.lock = WriterLock(self.path)
        self._view_lock = ReadersWriterLock()
        self._unindexed = 0
        self._looked_at = NOTHING
        self._wrote = False

    def after_fork(self) -> None:
        """In a forked process: have locks and connections of its own."""
        self._pool.abandon()
        _ABANDONED.append(self.view)  # what it has open may wait for threads that are not here
        self._begin()

    @property
    def file(self) -> Path:
        return self.path / "index.sqlite"

    def exists(self) -> bool:
        """Whether anything was ever written."""
        with self.connection() as database:
            return database is not None

    # ------------------------------------------------------------------ reading

    def connection(self, *, create: bool = False) -> AbstractContextManager[Database | None]:
        """A connection that nobody else uses meanwhile; None before the first commit, unless `create`."""
        return self._pool.connection(create=create)

    @contextmanager
    def reading(self) -> Iterator[tuple[Any, int | None]]:
        """The last commit, with its live generation; (None, None) before the first."""
        with self.connection() as database:
            if database is None:
                yield None, None
            else:
                with database.snapshot():
                    yield database, database.live()

    def with_current_view(self, use: Callable[[Database, CommitPosition], T], *, words: bool = False) -> T | None:
        """Call `use` with the last commit while the view shows that very commit; None before the first commit.

        Args:
            use: Called with a connection in a snapshot, and what it shows.
            words: The lexical leg is needed too.
        """
        with self.connection() as database:
            if database is None:
                return None
            for number in range(_TRIES):
                with self._view_lock.reading(), database.snapshot():
                    state = database.state()
                    if self._shows(state, words):
                        return use(database, state)
                if words and number == 0:
                    self._index_some_words(state)
                with self._view_lock.writing(), database.snapshot():
                    self._catch_up(database, words, patient=True)
            # Somebody commits faster than this thread is let in: let nobody in between.
            with self._view_lock.writing(), database.snapshot():
                self._catch_up(database, words, patient=False)
                return use(database, self.view.state)

    def _shows(self, state: CommitPosition, words: bool) -> bool:
        return state == self.view.state and not (words and self.view.words and self.view.words.state != state)

    def _catch_up(self, database: Database, words: bool, *, patient: bool) -> None:
        self.view.catch_up(database)
        if words and self.view.words is not None:
            self.view.words.catch_up(database, patient=patient)

    def _index_some_words(self, state: CommitPosition) -> None:
        """Bring words to the files before a question reads them, if that is quick and nobody else is writing."""
        words = self.view.words
        if words is None or words.state == state:
            return
        if changes_between(covered(words.folder, words.language), state) > _INDEXED_BY_A_READER:
            return  # it would keep writers waiting for too long
        try:
            with self.lock.held(0):
                self._index_words()
        except (OSError, StoreError) as error:  # somebody writes, or nothing can be written here
            _log.debug("%s: words are kept in memory: %s", self.path, error)

    def nodes(self, ids: Sequence[str] | None, filters: MetadataFilters | None) -> list[tuple[Any, ...]]:
        """(row, id, text, metadata, rest) of the nodes with these ids, in this order, that the filters let through."""
        unique = None if ids is None else list(dict.fromkeys(ids))

        def nodes(database: Database, state: CommitPosition) -> list[tuple[Any, ...]]:
            if state.generation is None:
                return []
            if filters is None or not restricts(filters) or self.view.columns is None:
                found = database.nodes(state.generation, unique)
            else:
                mask = self.view.columns.mask(database, filters)
                if unique is None:
                    found = list(database.nodes_by_row(mask.nonzero()[0].tolist()).values())
                else:
                    found = [
                        row for row in database.nodes(state.generation, unique) if row[0] < len(mask) and mask[row[0]]
                    ]
            if unique is not None:
                order = {name: number for number, name in enumerate(unique)}
                found.sort(key=lambda row: order[row[1]])
            return found

        return self.with_current_view(nodes) or []

    def rows_with_vectors(self) -> tuple[list[tuple[Any, ...]], NDArray[np.float32]]:
        """(row, id, text, metadata, rest) of all nodes, and their vectors, shape (nodes, dimension)."""
        with self.reading() as (database, live):
            found = [] if live is None else list(database.vectors_after(live, 0))
            if not found:
                return [], np.zeros((0, 0), dtype=np.float32)
            numbers = [number for rows, _ in found for number in rows]
            vectors = np.concatenate([part for _, part in found])
            nodes = {row[0]: row for row in database.nodes(live)}
        kept = [place for place, number in enumerate(numbers) if number in nodes]
        return [nodes[numbers[place]] for place in kept], vectors[kept]

    def rows(self, ids: Sequence[str] | None, filters: MetadataFilters | None) -> list[int]:
        """The row numbers of those nodes."""

        def rows(database: Database, state: CommitPosition) -> list[int]:
            if state.generation is None:
                return []
            if filters is None or not restricts(filters) or self.view.columns is None:
                return database.rows_of(state.generation, "id", list(dict.fromkeys(ids or ())))
            mask = self.view.columns.mask(database, filters)
            if ids is None:
                return mask.nonzero()[0].tolist()  # type: ignore[no-any-return]
            named = database.rows_of(state.generation, "id", list(dict.fromkeys(ids)))
            return [row for row in named if row < len(mask) and mask[row]]

        return self.with_current_view(rows) or []

    def count(self) -> int:
        with self.reading() as (database, live):
            return 0 if live is None else int(database.count("node", live))

    # ------------------------------------------------------------------ writing

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the one writer, for one write or for a whole sync; may be nested. Reading goes on meanwhile.

        Raises:
            IndexLocked: Another process or thread is writing and did not end in time.
        """
        with self.lock.held():
            yield

    @contextmanager
    def transaction(self) -> Iterator[Database]:
        """One commit, or nothing."""
        with self.lock.held():
            with self.connection(create=True) as database:
                assert database is not None
                with database.transaction():
                    before = database.state()
                    yield database
                    state = database.state()
                    if state != before:
                        database.note_history(state)
            self._wrote = True
            try:
                self._after_commit(state)
            except (StoreError, OSError, RuntimeError, sqlite3.Error) as error:
                _log.warning("%s: %s", self.path, error)  # the commit is made; what is derived can wait

    def live_or_new(self, database: Database) -> int:
        """The generation that nodes are added to by hand.

        Raises:
            StoreError: A first sync has been begun and not finished: what is added would be lost to it.
        """
        live = database.live()
        if live is None:
            if database.newest() is not None:
                raise StoreError(
                    f"{self.path}: a first sync was begun and never finished; finish it, or clear() the store"
                )
            live = database.add_generation({})
            database.make_live(live, self.cache_size)
        return live

    def put(self, database: Database, generation: int, rows: Sequence[NodeRow]) -> None:
        """Write nodes into a generation.

        Raises:
            StoreError: Their vectors are of another length than those that are there.
        """
        if not rows:
            return
        dimension, size = database.dimension(generation), len(rows[0].vector) // 4
        if dimension != size:
            if dimension is not None and not database.is_empty(generation):
                raise StoreError(
                    f"node {rows[0].id!r} has a vector of {size} numbers, and this index holds vectors of "
                    f"{dimension}: another encoder made them"
                )
            self.kind.new(size, 0)  # that FAISS cannot make one is better known before anything is written
            database.set_dimension(generation, size)
        database.put_nodes(generation, rows, self.cache_size)
        self._unindexed += len(rows)

    def _after_commit(self, state: CommitPosition) -> None:
        if self._unindexed > MANY:
            self._index_words()
        if abs(changes_between(self._looked_at, state)) <= MANY:
            return
        self._looked_at = state
        with self.reading() as (database, _):
            stamp = read_record(database.meta("snapshot"))
        ours = stamp is not None and stamp.generation == state.generation
        enough = max(10 * MANY if self.kind.is_exact else MANY, stamp.count // 2 if stamp is not None and ours else 0)
        if changes_between(stamp.state if stamp is not None and ours else NOTHING, state) > enough:
            self.update_derived_files()

    def _index_words(self) -> None:
        """Bring the words' files in line with the last commit; questions go on meanwhile. For the one writer."""
        words = self.view.words
        if words is None:
            return
        with self.connection() as database:
            if database is not None:
                with database.snapshot():
                    if database.live() is not None:
                        write_files(database, words.folder, words.language)
        self._unindexed = 0

    def update_derived_files(self, *, force: bool = False) -> None:
        """Bring the derived files in line with the last commit, if it is worth it; `force`: in any case.

        Raises:
            IndexLocked: Another process or thread is writing.
            StoreError: They cannot be written, and `force` is set.
        """
        with self.lock.held():
            indexed = True
            try:
                self._index_words()
            except OSError as error:
                indexed = False
                if force:
                    raise StoreError(f"{self.path}: {error}") from error
                _log.warning("%s: %s", self.path, error)
            with self.connection() as database:
                if database is None:
                    return
                with database.snapshot():
                    state = database.state()
                    stamp = read_record(database.meta("snapshot"))
                    if not is_due(self, state, stamp, force):
                        return
                    made = write_base(self, database, state, stamp, force)
                if made is None:
                    return
                with database.transaction():
                    database.set_meta("snapshot", made.to_json())
                    if indexed:  # else the words still need what came before
                        database.forget_before(state, made.removed_from)
            remove_old(self.path, made.file)
            with self._view_lock.writing():
                self.view.forget_vectors()  # the next question opens the new snapshot

    def discard_derived(self) -> None:
        """Forget and remove every derived file; they are made anew when they are next needed."""
        with self.lock.held():
            with self.connection() as database:
                if database is not None:
                    with database.transaction():
                        database.connection.execute("DELETE FROM meta WHERE key = 'snapshot'")
            with self._view_lock.writing():
                self.view.reset()
                shutil.rmtree(self.path / "lexical", ignore_errors=True)
            remove_old(self.path, None)

    def close(self) -> None:
        """Settle if this process wrote, and let go of the files."""
        if self._wrote:
            try:
                with self.lock.held(0):
                    self.update_derived_files()
                self._wrote = False
            except IndexLocked:
                pass  # whoever is writing settles
            except (StoreError, RuntimeError, sqlite3.Error) as error:
                _log.warning("%s: %s", self.path, error)  # what is derived can wait
        with self._view_lock.writing():
            self.view.reset()
        self._pool.close()


_ABANDONED: list[MemoryIndex] = []
_ALL: weakref.WeakSet[IndexDirectory] = weakref.WeakSet()


def _after_fork() -> None:
    for directory in list(_ALL):
        directory.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_after_fork)

"""One index directory in this process: connections, the view, the lock, and the order in which they are taken.

The order is: the writer's lock, then SQLite's, then the view's. Nobody waits for the writer's lock while holding
the view's.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fasteners import ReaderWriterLock

from ..errors import IndexLocked, StoreError
from .base import Kind, make_base
from .connection import file_identity
from .database import Database, NodeRow
from .filters import restricts
from .lock import WriterLock
from .snapshots import Stamp, load_snapshot, read_stamp, remove_old, write_snapshot
from .state import NOTHING, State
from .view import View

if TYPE_CHECKING:
    from llama_index.core.vector_stores.types import MetadataFilters

_log = logging.getLogger(__package__)
T = TypeVar("T")

_MANY = 20_000  # changes that derived files take in without being asked
_FEW = 2_000  # changes that opening rather replays than a snapshot is written for


class IndexDirectory:
    """What threads of this process share about one index directory."""

    def __init__(
        self, path: Path, kind: Kind, *, language: str | None, memory_map: bool, rescore: bool, cache_size: int
    ) -> None:
        self.path, self.kind, self.cache_size, self.memory_map = path, kind, cache_size, memory_map
        self.view = View(path, kind, language, memory_map, rescore)
        self.lock = WriterLock(path)
        self._view_lock = ReaderWriterLock()
        self._pool: list[Database] = []
        self._pool_lock = threading.Lock()
        self._unindexed = 0
        self._looked_at = NOTHING
        self._wrote = False

    @property
    def file(self) -> Path:
        return self.path / "index.sqlite"

    def exists(self) -> bool:
        """Whether anything was ever written."""
        with self.connection() as database:
            return database is not None

    # ------------------------------------------------------------------ reading

    @contextmanager
    def connection(self, *, create: bool = False) -> Iterator[Database | None]:
        """A connection that nobody else uses meanwhile; None before the first commit, unless `create`."""
        identity = file_identity(self.file)
        database = None
        with self._pool_lock:
            while self._pool and database is None:
                database = self._pool.pop()
                if not database.is_current():
                    database.close()  # another file is there now, or none
                    database = None
        if database is None and (create or identity is not None):
            database = Database(self.file, create=create)
            if not create and database.is_blank():
                database.close()
                database = None
        try:
            yield database
        finally:
            if database is not None:
                with self._pool_lock:
                    self._pool.append(database)

    @contextmanager
    def reading(self) -> Iterator[tuple[Any, int | None]]:
        """The last commit, with its live generation; (None, None) before the first."""
        with self.connection() as database:
            if database is None:
                yield None, None
            else:
                with database.snapshot():
                    yield database, database.live()

    def seeing(self, use: Callable[[Database, State], T], *, words: bool = False) -> T | None:
        """Call `use` with the last commit while the view shows that very commit; None before the first commit.

        Args:
            use: Called with a connection in a snapshot, and what it shows.
            words: The lexical leg is needed too.
        """
        with self.connection() as database:
            if database is None:
                return None
            for _ in range(3):
                with self._view_lock.read_lock(), database.snapshot():
                    state = database.state()
                    if state == self.view.state and (not words or self.view.has_words(state)):
                        return use(database, state)
                with self._view_lock.write_lock(), database.snapshot():
                    self._catch_up(database, words)
            # Somebody commits faster than this thread is let in: let nobody in between.
            with self._view_lock.write_lock(), database.snapshot():
                self._catch_up(database, words)
                return use(database, self.view.state)

    def _catch_up(self, database: Database, words: bool) -> None:
        self.view.catch_up(database)
        if words:
            self.view.catch_up_words(database, lambda: self.lock.held(0))

    def nodes(self, ids: Sequence[str] | None, filters: MetadataFilters | None) -> list[tuple[Any, ...]]:
        """(row, id, text, metadata, rest) of the nodes with these ids, in this order, that the filters let through."""
        unique = None if ids is None else list(dict.fromkeys(ids))

        def nodes(database: Database, state: State) -> list[tuple[Any, ...]]:
            if state.generation is None:
                return []
            found = database.nodes(state.generation, unique)
            if filters is not None and restricts(filters) and self.view.columns is not None:
                mask = self.view.columns.mask(database, filters)
                found = [row for row in found if row[0] < len(mask) and mask[row[0]]]
            if unique is not None:
                order = {name: number for number, name in enumerate(unique)}
                found.sort(key=lambda row: order[row[1]])
            return found

        return self.seeing(nodes) or []

    def rows(self, ids: Sequence[str] | None, filters: MetadataFilters | None) -> list[int]:
        """The row numbers of those nodes."""
        return [row[0] for row in self.nodes(ids, filters)]

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
            self._after_commit(state)

    def live_or_new(self, database: Database) -> int:
        live = database.live()
        if live is None:
            live = database.add_generation({})
            database.make_live(live, 0)
        return live

    def put(self, database: Database, generation: int, rows: Sequence[NodeRow]) -> None:
        """Write nodes into a generation.

        Raises:
            StoreError: Their vectors are of another length than those that are there.
        """
        if not rows:
            return
        dimension, size = database.dimension(generation), len(rows[0].vector) // 4
        if dimension is None:
            database.set_dimension(generation, size)
        elif dimension != size:
            raise StoreError(
                f"node {rows[0].id!r} has a vector of {size} numbers, and this index holds vectors of {dimension}: "
                "another encoder made them"
            )
        database.put_nodes(generation, rows, self.cache_size)
        self._unindexed += len(rows)

    def _after_commit(self, state: State) -> None:
        if self.view.language is not None and self._unindexed > _MANY:
            self._index_words()
        if abs(_behind(self._looked_at, state)) <= _MANY:
            return
        self._looked_at = state
        with self.reading() as (database, _):
            stamp = read_stamp(database.meta("snapshot"))
        covered = NOTHING if stamp is None or stamp.generation != state.generation else stamp.state
        enough = max(10 * _MANY if self.kind.is_exact else _MANY, 0 if stamp is None else stamp.count // 2)
        if _behind(covered, state) > enough:
            self.settle()

    def _index_words(self) -> None:
        with self.connection() as database:
            if database is not None:
                with self._view_lock.write_lock(), database.snapshot():
                    self.view.catch_up_words(database, nullcontext)
        self._unindexed = 0

    def settle(self, *, force: bool = False) -> None:
        """Bring the derived files in line with the last commit, if it is worth it; `force`: in any case.

        Raises:
            IndexLocked: Another process or thread is writing.
        """
        with self.lock.held():
            if self.view.language is not None:
                self._index_words()
            with self.connection() as database:
                if database is None:
                    return
                with database.snapshot():
                    state = database.state()
                    stamp = read_stamp(database.meta("snapshot"))
                    if not self._is_due(state, stamp, force) or not self._has_vectors(database, state):
                        return
                    made = self._write_base(database, state, force)
                if made is not None:
                    self._publish(database, state, *made)

    def _is_due(self, state: State, stamp: Stamp | None, force: bool) -> bool:
        if state.generation is None:
            return False
        if stamp is None or stamp.generation != state.generation or stamp.kind != self.kind.name():
            return force or state.row + state.removal > _FEW or not self.kind.is_exact
        behind = _behind(stamp.state, state)
        if self.view.damaged or not (self.path / stamp.file).exists():
            return True
        if self.kind.is_exact:
            return behind > (0 if force else max(_FEW, stamp.count // 10))
        return behind > max(_FEW, stamp.count // 10 if force else stamp.count // 2)

    def _has_vectors(self, database: Database, state: State) -> bool:
        """Whether there is a vector at all."""
        generation = state.generation
        return generation is not None and bool(database.dimension(generation) and database.count("node", generation))

    def _write_base(self, database: Database, state: State, force: bool) -> tuple[Any, Stamp] | None:
        """A new base of what the snapshot shows, and its file; searches go on in the old one meanwhile."""
        assert state.generation is not None
        dimension = database.dimension(state.generation)
        assert dimension is not None
        view = self.view
        count = database.count("node", state.generation)
        if view.state == state and view.base_state == state and view.index is not None and view.index.base is not None:
            base, recall = view.index.base, view.recall  # made when the index was opened, and in no file yet
        else:
            base, recall = make_base(
                self.kind, dimension, count, lambda: database.vectors_after(state.generation or 0, 0)
            )
        if base is None:
            return None
        try:
            stamp = write_snapshot(self.path, base, self.kind.name(), dimension, state, recall)
        except OSError as error:
            if force:
                raise StoreError(f"{self.path}: {error}") from error
            _log.warning("%s: %s", self.path, error)
            return None
        if self.memory_map:
            base = load_snapshot(self.path, stamp, memory_map=True) or base
        return base, stamp

    def _publish(self, database: Database, state: State, base: Any, stamp: Stamp) -> None:
        with database.transaction():
            database.set_meta("snapshot", stamp.to_json())
            words = self.view.lexical.state if self.view.lexical is not None else state
            if self.view.language is None or words == state:
                database.forget_before(state)
        remove_old(self.path, stamp.file)
        with self._view_lock.write_lock(), database.snapshot():
            if self.view.state == state:
                self.view.take(base, stamp.dimension, state, stamp, stamp.recall)
            else:
                self.view.forget_vectors()  # the next question opens the snapshot

    def discard_derived(self) -> None:
        """Forget and remove every derived file; they are made anew when they are next needed."""
        with self.lock.held():
            with self.connection() as database:
                if database is not None:
                    with database.transaction():
                        database.connection.execute("DELETE FROM meta WHERE key = 'snapshot'")
            with self._view_lock.write_lock():
                self.view.reset()
                shutil.rmtree(self.path / "lexical", ignore_errors=True)
            remove_old(self.path, None)

    def close(self) -> None:
        """Settle if this process wrote, and let go of the files."""
        if self._wrote:
            try:
                with self.lock.held(0):
                    self.settle()
                self._wrote = False
            except IndexLocked:
                pass  # whoever is writing settles
            except (StoreError, sqlite3.Error) as error:
                _log.warning("%s: %s", self.path, error)  # what is derived can wait
        with self._view_lock.write_lock():
            self.view.reset()
        with self._pool_lock:
            while self._pool:
                self._pool.pop().close()


def _behind(covered: State, state: State) -> int:
    """How many changes lie between two commits."""
    return state.row - covered.row + state.removal - covered.removal

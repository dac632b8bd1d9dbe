"""What a sync needs of the store: generations, and commits of whole documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from llama_index.core.schema import BaseNode

from ..protocols import DocumentRecord
from .sqlite.database import Database
from .sqlite.node_rows import from_row, to_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .directory import IndexDirectory


class SyncStoreMixin:
    """The part of `FaissStore` that a sync talks to; it keeps its record in the same commit as the nodes."""

    _directory: IndexDirectory

    @property
    def location(self) -> str:
        """The index directory, for messages."""
        return str(self._directory.path)

    def live_fingerprint(self) -> dict[str, Any] | None:
        """What made the vectors that a query sees; None if nothing was ever finished."""
        with self._directory.reading() as (database, live):
            return None if live is None else database.fingerprint(live)

    def live_generation(self) -> int | None:
        """The generation that a query sees."""
        with self._directory.reading() as (_, live):
            return live

    def is_begun(self) -> bool:
        """Whether a first sync was begun and never finished."""
        with self._directory.reading() as (database, live):
            return live is None and database is not None and database.newest() is not None

    def open_generation(
        self, fingerprint: Mapping[str, Any], same: Callable[[Mapping[str, Any], Mapping[str, Any]], bool]
    ) -> int:
        """The generation to write vectors of this fingerprint to: the live one, an unfinished one, or a new one."""
        cache_size = self._directory.cache_size
        with self._directory.transaction() as database:
            found = _fitting(database, fingerprint, same)
            if found is not None:
                return found
            live = database.live()
            generation = database.add_generation(fingerprint, same)
            # An unfinished one of yet other settings will never be finished.
            database.drop_generations((generation,) if live is None else (live, generation), cache_size)
            return generation

    def find_generation(
        self, fingerprint: Mapping[str, Any], same: Callable[[Mapping[str, Any], Mapping[str, Any]], bool]
    ) -> int | None:
        """The generation that `open_generation` would return, if it is there already."""
        with self._directory.reading() as (database, _):
            return None if database is None else _fitting(database, fingerprint, same)

    def synced(self, generation: int) -> dict[str, DocumentRecord]:
        """The documents of a generation by id."""
        with self._directory.reading() as (database, _):
            return {} if database is None else database.documents(generation)

    def known_vectors(self, generation: int, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        """The vectors of those of these texts that this generation's encoder has encoded, by key."""
        with self._directory.reading() as (database, _):
            return {} if database is None else database.known_vectors(generation, keys)

    def removed_vectors(
        self,
        fingerprint: Mapping[str, Any],
        same: Callable[[Mapping[str, Any], Mapping[str, Any]], bool],
        keys: Sequence[bytes],
    ) -> dict[bytes, NDArray[np.float32]]:
        """The vectors that are kept of an encoder which has no generation now, by key."""
        with self._directory.reading() as (database, _):
            return {} if database is None else database.removed_vectors(database.encoder_of(fingerprint, same), keys)

    def nodes_of(self, generation: int, documents: Sequence[str]) -> list[BaseNode]:
        """The nodes of these documents, without their vectors."""
        with self._directory.reading() as (database, _):
            if database is None:
                return []
            found = database.nodes_by_row(database.rows_of(generation, "document", documents))
        return [from_row(found[row]) for row in sorted(found)]

    def commit(
        self,
        generation: int,
        changed: Sequence[tuple[DocumentRecord, Sequence[BaseNode]]] = (),
        untouched: Sequence[DocumentRecord] = (),
        removed: Sequence[str] = (),
        keys: Mapping[str, bytes] | None = None,
    ) -> None:
        """Replace the nodes of changed documents, renew the records of untouched ones, drop removed ones: at once."""
        rows = to_rows([node for _, nodes in changed for node in nodes], keys)
        cache_size = self._directory.cache_size
        with self._directory.transaction() as database:
            database.delete_documents(generation, [*(record.id for record, _ in changed), *removed], cache_size)
            self._directory.put(database, generation, rows)
            database.put_documents(generation, [*(record for record, _ in changed), *untouched])

    def finish(self, generation: int, fingerprint: Mapping[str, Any]) -> None:
        """Note that a sync into this generation is complete: from now on it is what a query sees."""
        with self._directory.transaction() as database:
            database.set_fingerprint(generation, fingerprint)
            database.make_live(generation, self._directory.cache_size)

    def writing(self) -> AbstractContextManager[None]:
        """Be the one writer, for one write or for a whole sync; may be nested. Reading goes on meanwhile.

        Raises:
            IndexLocked: Another process or thread is writing and did not end in time.
        """
        return self._directory.writing()

    def update_derived_files(self) -> None:
        """Bring the derived files in line with the last commit, if it is worth it."""
        self._directory.update_derived_files()


def _fitting(
    database: Database,
    fingerprint: Mapping[str, Any],
    same: Callable[[Mapping[str, Any], Mapping[str, Any]], bool],
) -> int | None:
    for found in (database.live(), database.newest()):
        if found is not None and same(database.fingerprint(found), fingerprint):
            return found
    return None

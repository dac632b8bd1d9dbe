"""The methods of `FaissStore` for a sync: generations, and commits of complete documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from llama_index.core.schema import BaseNode
from numpy.typing import NDArray

from ..protocols import DocumentRecord, FailureRecord, Fingerprint, SameEncoder
from .directory import IndexDirectory
from .sqlite.database import Database
from .sqlite.node_rows import from_row, to_rows


class SyncStoreMixin:
    """The `SyncStore` protocol for `FaissStore`: documents' records are in the same commit as their nodes."""

    _directory: IndexDirectory

    @property
    def location(self) -> str:
        return str(self._directory.path)

    def live_fingerprint(self) -> dict[str, Any] | None:
        with self._directory.reading() as (database, live):
            return None if live is None else database.fingerprint(live)

    def live_generation(self) -> int | None:
        with self._directory.reading() as (_, live):
            return live

    def is_first_sync_unfinished(self) -> bool:
        with self._directory.reading() as (database, live):
            return live is None and database is not None and database.newest_generation() is not None

    def open_generation(self, fingerprint: Fingerprint, same: SameEncoder) -> int:
        with self._directory.transaction() as database:
            existing = _matching(database, fingerprint, same)
            if existing is not None:
                return existing
            live = database.live_generation()
            generation = database.add_generation(fingerprint, same)
            # An unfinished generation of other settings would never be finished.
            database.drop_generations((generation,) if live is None else (live, generation), self._directory.cache_size)
            return generation

    def find_generation(self, fingerprint: Fingerprint, same: SameEncoder) -> int | None:
        with self._directory.reading() as (database, _):
            return None if database is None else _matching(database, fingerprint, same)

    def document_records(self, generation: int) -> dict[str, DocumentRecord]:
        with self._directory.reading() as (database, _):
            return {} if database is None else database.documents(generation)

    def failure_records(self, generation: int) -> dict[str, FailureRecord]:
        with self._directory.reading() as (database, _):
            return {} if database is None else database.failures(generation)

    def vectors_by_key(self, generation: int, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        with self._directory.reading() as (database, _):
            return {} if database is None else database.vectors_by_key(generation, keys)

    def removed_vectors(
        self, fingerprint: Fingerprint, same: SameEncoder, keys: Sequence[bytes]
    ) -> dict[bytes, NDArray[np.float32]]:
        with self._directory.reading() as (database, _):
            return {} if database is None else database.removed_vectors(database.encoder_of(fingerprint, same), keys)

    def nodes_of(self, generation: int, documents: Sequence[str]) -> list[BaseNode]:
        with self._directory.reading() as (database, _):
            if database is None:
                return []
            nodes = database.nodes_by_row(database.rows_of(generation, "document", documents))
        return [from_row(nodes[row]) for row in sorted(nodes)]

    def commit(
        self,
        generation: int,
        changed: Sequence[tuple[DocumentRecord, Sequence[BaseNode]]] = (),
        untouched: Sequence[DocumentRecord] = (),
        removed: Sequence[str] = (),
        keys: Mapping[str, bytes] | None = None,
    ) -> None:
        rows = to_rows([node for _, nodes in changed for node in nodes], keys)
        with self._directory.transaction() as database:
            database.delete_documents(
                generation, [*(record.id for record, _ in changed), *removed], self._directory.cache_size
            )
            self._directory.put(database, generation, rows)
            database.put_documents(generation, [*(record for record, _ in changed), *untouched])

    def finish(self, generation: int, fingerprint: Fingerprint, failures: Sequence[FailureRecord] = ()) -> None:
        with self._directory.transaction() as database:
            database.set_failures(generation, failures)
            database.set_fingerprint(generation, fingerprint)
            database.make_live(generation, self._directory.cache_size)

    def writing(self) -> AbstractContextManager[None]:
        return self._directory.lock.held()

    def update_derived_files(self) -> None:
        self._directory.update_derived_files()


def _matching(database: Database, fingerprint: Fingerprint, same: SameEncoder) -> int | None:
    for generation in (database.live_generation(), database.newest_generation()):
        if generation is not None and same(database.fingerprint(generation), fingerprint):
            return generation
    return None

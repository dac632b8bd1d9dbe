"""Decides when a FAISS snapshot is written, and provides the base to write."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ...errors import StoreError
from ..sqlite.commit_position import NOTHING, CommitPosition
from ..sqlite.database import Database
from .faiss_index import IndexSpec, extend_base, make_base
from .snapshots import SnapshotRecord, load_snapshot, write_snapshot

_log = logging.getLogger(__package__)

SNAPSHOT_MIN_CHANGES = 2_000
"""Up to this many changes are replayed at open instead of writing a snapshot."""
UPDATE_INTERVAL_CHANGES = 20_000
"""After this many changes a writer updates the derived files before it closes."""
_MAX_GROWTH = 4  # an index with this many times its original vectors is rebuilt


def is_overdue(spec: IndexSpec, position: CommitPosition, record: SnapshotRecord | None) -> bool:
    """Whether a snapshot is written between two commits, before the writer closes."""
    interval = 10 * UPDATE_INTERVAL_CHANGES if spec.is_exact else UPDATE_INTERVAL_CHANGES
    if record is None or record.generation != position.generation:
        return NOTHING.changes_until(position) > interval
    return record.position.changes_until(position) > max(interval, record.count // 2)


def is_due(
    path: Path,
    spec: IndexSpec,
    position: CommitPosition,
    record: SnapshotRecord | None,
    *,
    is_damaged: bool,
    force: bool,
) -> bool:
    """Whether a new snapshot is worth writing; with `force`, whether it would contain any change."""
    if position.generation is None:
        return False
    if record is None or record.generation != position.generation or record.kind != spec.name():
        return force or not spec.is_exact or NOTHING.changes_until(position) > SNAPSHOT_MIN_CHANGES
    if is_damaged or not (path / record.file).exists():
        return True
    threshold = max(SNAPSHOT_MIN_CHANGES, record.count // (10 if spec.is_exact else 50))
    return record.position.changes_until(position) > (0 if force else threshold)


def write_base(
    path: Path,
    spec: IndexSpec,
    database: Database,
    position: CommitPosition,
    record: SnapshotRecord | None,
    *,
    rescore: bool,
    force: bool,
) -> SnapshotRecord | None:
    """Write a base of the open SQLite snapshot to a new file; None while there are too few vectors for the index.

    Searches use the previous base meanwhile.

    Raises:
        StoreError: The file cannot be written, and `force` is set.
    """
    generation = position.generation
    dimension = None if generation is None else database.dimension(generation)
    if generation is None or not dimension:
        return None
    count = database.count("node", generation)
    extended: SnapshotRecord | None = None
    recall: float | None = None
    base: Any = None
    if record is not None and _can_grow(spec, database, position, record):
        base = load_snapshot(path, record, memory_map=False)
        if base is not None:
            extended, recall, since = record, record.recall, record.row
            extend_base(spec, base, lambda: database.vectors_after(generation, since))
    if base is None and count:
        base, recall = make_base(spec, dimension, count, lambda: database.vectors_after(generation, 0), rescore)
    if base is None:
        return None
    try:
        return write_snapshot(path, base, spec.name(), dimension, position, recall, extended)
    except OSError as error:
        if force:
            raise StoreError(f"{path}: {error}") from error
        _log.warning("%s: %s", path, error)  # derived files can be written later
        return None


def _can_grow(spec: IndexSpec, database: Database, position: CommitPosition, record: SnapshotRecord) -> bool:
    """Whether the base is extended instead of rebuilt; for an exact one both cost the same, so it is rebuilt."""
    return (
        not spec.is_exact
        and record.kind == spec.name()
        and record.generation == position.generation
        and database.has_position(record.position)
        and record.count + position.row - record.row < _MAX_GROWTH * record.built
        and position.removal - record.removed_from < record.count // 4
    )

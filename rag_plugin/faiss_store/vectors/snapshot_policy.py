"""When the FAISS snapshot is worth writing, and the base that is written."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ...errors import StoreError
from .faiss_index import extend_base, make_base
from .snapshots import SnapshotRecord, load_snapshot, write_snapshot

if TYPE_CHECKING:
    from ..directory import IndexDirectory
    from ..sqlite.commit_position import CommitPosition
    from ..sqlite.database import Database

_log = logging.getLogger(__package__)

FEW = 2_000
"""Changes that opening rather replays than a snapshot is written for."""
MANY = 20_000
"""Changes that derived files take in without being asked."""
_GROWTH = 4  # times as many vectors as it was made of, and an index is made anew


def changes_between(covered: CommitPosition, state: CommitPosition) -> int:
    """How many changes lie between two commits."""
    return state.row - covered.row + state.removal - covered.removal


def is_due(directory: IndexDirectory, state: CommitPosition, stamp: SnapshotRecord | None, force: bool) -> bool:
    """Whether a new snapshot is worth its writing; `force`: whether there is anything new in it."""
    if state.generation is None:
        return False
    exact = directory.kind.is_exact
    if stamp is None or stamp.generation != state.generation or stamp.kind != directory.kind.name():
        return force or not exact or state.row + state.removal > FEW
    if directory.view.damaged or not (directory.path / stamp.file).exists():
        return True
    changes = changes_between(stamp.state, state)
    return changes > (0 if force else max(FEW, stamp.count // (10 if exact else 50)))


def write_base(
    directory: IndexDirectory, database: Database, state: CommitPosition, stamp: SnapshotRecord | None, force: bool
) -> SnapshotRecord | None:
    """Write what the open snapshot of SQLite shows to a new file; None while there is too little for an index.

    Searches go on in the old base meanwhile.

    Raises:
        StoreError: The file cannot be written, and `force` is set.
    """
    generation = state.generation
    dimension = None if generation is None else database.dimension(generation)
    if generation is None or not dimension:
        return None
    kind, view = directory.kind, directory.view
    count = database.count("node", generation)
    extended: SnapshotRecord | None = None
    recall: float | None = None
    base: Any = None
    if view.stamp is None and view.built == state and view.index is not None:
        base, recall = view.index.base, view.recall  # made when the index was opened, and in no file yet
    if base is None and stamp is not None and _can_grow(directory, database, state, stamp):
        base = load_snapshot(directory.path, stamp, memory_map=False)
        if base is not None:
            extended, recall, since = stamp, stamp.recall, stamp.row
            extend_base(kind, base, lambda: database.vectors_after(generation, since))
    if base is None and count:
        base, recall = make_base(kind, dimension, count, lambda: database.vectors_after(generation, 0), view.rescore)
    if base is None:
        return None
    try:
        return write_snapshot(directory.path, base, kind.name(), dimension, state, recall, extended)
    except OSError as error:
        if force:
            raise StoreError(f"{directory.path}: {error}") from error
        _log.warning("%s: %s", directory.path, error)  # what is derived can wait
        return None


def _can_grow(directory: IndexDirectory, database: Database, state: CommitPosition, stamp: SnapshotRecord) -> bool:
    """Whether adding to an index is as good as making it anew; for an exact one that is no more work."""
    return (
        not directory.kind.is_exact
        and stamp.kind == directory.kind.name()
        and stamp.generation == state.generation
        and database.was(stamp.state)
        and stamp.count + state.row - stamp.row < _GROWTH * stamp.built
        and state.removal - stamp.removed_from < stamp.count // 4
    )

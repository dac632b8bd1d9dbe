"""The snapshot file of the FAISS base: written beside and named in SQLite, mapped into memory when opened.

The stamp is a row of SQLite, so it belongs to that very database and to that very past: another index's file,
or one of a restored backup, is never taken for this one's. What is written in the stamp is checked before the
file is used; a file that is missing, torn or changed is passed over, and the base is made anew.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import secrets
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import faiss
import xxhash

from ..sqlite.commit_position import CommitPosition

_log = logging.getLogger(__package__)


@dataclass(frozen=True)
class SnapshotRecord:
    """What a snapshot file is of, and how to know that it is whole.

    The base in it was made of `built` vectors, at the removal `removed_from`; what was added since is in it too, and
    what was removed since is in it still.
    """

    file: str
    size: int
    hash: str
    kind: str
    faiss: str
    dimension: int
    count: int
    generation: int
    row: int
    removal: int
    token: str
    recall: float | None
    built: int
    removed_from: int

    @property
    def state(self) -> CommitPosition:
        return CommitPosition(self.generation, self.row, self.removal, self.token)

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def read_record(text: str | None) -> SnapshotRecord | None:
    """The stamp that SQLite holds, if it holds one."""
    try:
        return None if text is None else SnapshotRecord(**json.loads(text))
    except (ValueError, TypeError):
        return None


def write_snapshot(
    folder: Path,
    base: Any,
    kind: str,
    dimension: int,
    state: CommitPosition,
    recall: float | None,
    extended: SnapshotRecord | None = None,
) -> SnapshotRecord:
    """Write a base to a new file; it counts from the moment its stamp is committed.

    Args:
        folder: The index directory.
        base: What is written.
        kind: The name of its kind.
        dimension: Length of its vectors.
        state: The commit that it covers.
        recall: As measured.
        extended: The stamp of the base that this one is more of; None if it was made anew.
    """
    path = folder / f"vectors-{state.row}-{secrets.token_hex(4)}.faiss"
    try:
        faiss.write_index(base, str(path))
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
            hashed = _hash(file)
        _sync_folder(folder)
        return SnapshotRecord(
            path.name,
            path.stat().st_size,
            hashed,
            kind,
            type_of(base),
            dimension,
            int(base.ntotal),
            int(state.generation or 0),
            state.row,
            state.removal,
            state.token,
            recall,
            int(base.ntotal) if extended is None else extended.built,
            state.removal if extended is None else extended.removed_from,
        )
    except (RuntimeError, OSError) as error:  # FAISS raises RuntimeError where the disk is full
        path.unlink(missing_ok=True)
        raise OSError(f"the FAISS snapshot cannot be written: {str(error).splitlines()[-1]}") from error


def type_of(base: Any) -> str:
    """The name of the FAISS class that holds the vectors."""
    name = type(faiss.downcast_index(base.index)).__name__
    return "IndexFlat" if name.startswith("IndexFlat") else name  # one and the same has several names


def load_snapshot(folder: Path, stamp: SnapshotRecord, memory_map: bool) -> Any:
    """The base of a snapshot, or None if its file is not as it was written."""
    path = folder / stamp.file
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size != stamp.size or _hash(file) != stamp.hash:
                _log.warning("%s is not as it was written; the FAISS index is made anew", path)
                return None
        # Mapped, a file costs no memory of its own and is shared by all who read it.
        base = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC if memory_map else 0)
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError) as error:
        _log.warning("%s cannot be read (%s); the FAISS index is made anew", path, str(error).splitlines()[-1])
        return None
    return base


def remove_old(folder: Path, keep: str | None) -> None:
    """Remove the snapshot files that no stamp names; who has one open keeps with_current_view it."""
    for path in folder.glob("vectors-*.faiss"):
        if path.name != keep:
            try:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            except OSError as error:  # on Windows, while a reader has it open
                _log.debug("%s cannot be removed yet: %s", path, error)


def _hash(file: Any) -> str:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return xxhash.xxh3_64_hexdigest(content)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

"""Snapshot files of the FAISS base: written under a new name, recorded in SQLite, mapped into memory when opened.

The record is in SQLite, so it belongs to exactly that database and history: the file of another index or of a restored
backup is never used. Size and hash are checked before a file is used; if it is missing, torn or changed, the base is
rebuilt.
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
from typing import IO, Any

import faiss
import xxhash

from ..sqlite.commit_position import CommitPosition

_log = logging.getLogger(__package__)


@dataclass(frozen=True)
class SnapshotRecord:
    """What a snapshot file covers, and the size and hash of the complete file. Its JSON is stored in SQLite.

    The base was built from `built` vectors at the removal number `removed_from`. The file includes vectors added since
    then, and still contains vectors removed since then. `kind` is the name of its `IndexSpec`.
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
    def position(self) -> CommitPosition:
        return CommitPosition(self.generation, self.row, self.removal, self.token)

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def read_record(text: str | None) -> SnapshotRecord | None:
    """The record of its JSON; None if there is none, or one of another version."""
    try:
        return None if text is None else SnapshotRecord(**json.loads(text))
    except (ValueError, TypeError):
        return None


def write_snapshot(
    folder: Path,
    base: Any,
    kind: str,
    dimension: int,
    position: CommitPosition,
    recall: float | None,
    extended: SnapshotRecord | None = None,
) -> SnapshotRecord:
    """Write a base to a new file, which becomes valid when its record is committed.

    Args:
        folder: The index directory.
        base, kind, dimension, position, recall: For the record.
        extended: The record of the base that this one adds vectors to; None for a new base.

    Raises:
        OSError: The file cannot be written.
    """
    path = folder / f"vectors-{position.row}-{secrets.token_hex(4)}.faiss"
    try:
        faiss.write_index(base, str(path))
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
            file_hash = _hash(file)
        _sync_folder(folder)
        return SnapshotRecord(
            file=path.name,
            size=path.stat().st_size,
            hash=file_hash,
            kind=kind,
            faiss=type_of(base),
            dimension=dimension,
            count=int(base.ntotal),
            generation=int(position.generation or 0),
            row=position.row,
            removal=position.removal,
            token=position.token,
            recall=recall,
            built=int(base.ntotal) if extended is None else extended.built,
            removed_from=position.removal if extended is None else extended.removed_from,
        )
    except (RuntimeError, OSError) as error:  # FAISS raises RuntimeError when the disk is full
        path.unlink(missing_ok=True)
        raise OSError(f"the FAISS snapshot cannot be written: {str(error).splitlines()[-1]}") from error


def type_of(base: Any) -> str:
    """The name of the FAISS class that stores the vectors."""
    name = type(faiss.downcast_index(base.index)).__name__
    return "IndexFlat" if name.startswith("IndexFlat") else name  # IndexFlatIP and IndexFlatL2 after loading


def load_snapshot(folder: Path, record: SnapshotRecord, memory_map: bool) -> Any:
    """The base of a snapshot; None if its file is missing or damaged."""
    path = folder / record.file
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size != record.size or _hash(file) != record.hash:
                _log.warning("%s is damaged; the FAISS index is rebuilt", path)
                return None
        # A mapped file is shared by all processes that read it and needs no private memory.
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC if memory_map else 0)
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError) as error:
        _log.warning("%s cannot be read (%s); the FAISS index is rebuilt", path, str(error).splitlines()[-1])
        return None


def remove_old(folder: Path, keep: str | None) -> None:
    """Remove all snapshot files but `keep`; readers that have one open can still use it."""
    for path in folder.glob("vectors-*.faiss"):
        if path.name != keep:
            try:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            except OSError as error:  # on Windows, while a reader has it open
                _log.debug("%s cannot be removed yet: %s", path, error)


def _hash(file: IO[bytes]) -> str:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return xxhash.xxh3_64_hexdigest(content)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

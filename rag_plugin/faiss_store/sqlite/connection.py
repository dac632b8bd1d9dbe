"""One connection to the SQLite file of an index directory: opening, transactions, format and commit position."""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from ...errors import StoreError
from .commit_position import CommitPosition

FORMAT = 2

# AUTOINCREMENT: row numbers are never reused, because FAISS, BM25 and readers identify nodes by them.
# Vectors have their own table: scans of texts and metadata do not read them, and the other way round.
# `history` identifies every commit that changed nodes, to check that a derived file belongs to this history.
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE generation (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    encoder INTEGER NOT NULL,
    fingerprint TEXT NOT NULL,
    dimension INTEGER,
    dropped INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE document (
    generation INTEGER NOT NULL REFERENCES generation (id),
    id TEXT NOT NULL,
    hash TEXT NOT NULL,
    stamp TEXT,
    recipe TEXT NOT NULL,
    PRIMARY KEY (generation, id)
) WITHOUT ROWID;
CREATE TABLE node (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    generation INTEGER NOT NULL REFERENCES generation (id),
    id TEXT NOT NULL,
    document TEXT,
    key BLOB,
    metadata TEXT NOT NULL,
    rest TEXT NOT NULL,
    text TEXT NOT NULL,
    UNIQUE (generation, id)
);
CREATE INDEX node_document ON node (generation, document);
CREATE INDEX node_key ON node (generation, key) WHERE key IS NOT NULL;
CREATE TABLE vector (row INTEGER PRIMARY KEY, vector BLOB NOT NULL);
CREATE TABLE removal (seq INTEGER PRIMARY KEY AUTOINCREMENT, node_row INTEGER NOT NULL);
CREATE TABLE history (
    row INTEGER NOT NULL,
    removal INTEGER NOT NULL,
    token TEXT NOT NULL,
    PRIMARY KEY (row, removal)
) WITHOUT ROWID;
CREATE TABLE cached (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    encoder INTEGER NOT NULL,
    key BLOB NOT NULL,
    vector BLOB NOT NULL,
    UNIQUE (encoder, key)
);
"""


def file_identity(path: Path) -> tuple[int, int] | None:
    """Device and inode, which change when the file is replaced; None if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _version(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


_ABANDONED: list[sqlite3.Connection] = []


class Connection:
    """One connection to the SQLite file; one thread at a time uses it."""

    def __init__(self, path: Path, *, create: bool) -> None:
        self.path = path
        self._immutable_version: tuple[int, int] | None = None  # of a file opened as immutable
        try:
            self._open("rwc" if create else "rw", create)
        except sqlite3.OperationalError as error:
            if create or not any(reason in str(error) for reason in ("readonly", "unable to open")):
                raise StoreError(f"{path} cannot be opened: {error}") from error
            self._open_read_only(error)
        except sqlite3.Error as error:
            # An OperationalError can be transient; this one is a defect of the file.
            hint = "delete the directory; the next sync rebuilds it from the documents"
            raise StoreError(f"{path} cannot be opened: {error}; {hint}") from error

    def _open(self, mode: str, create: bool) -> None:
        uri = f"{self.path.absolute().as_uri()}?mode={mode}"
        self.connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=30)
        # A store that is garbage-collected without close() releases its files.
        self._close = weakref.finalize(self, self.connection.close)
        try:
            self.identity = file_identity(self.path)
            self._set_up(create)
        except BaseException:
            self.close()
            raise

    def _open_read_only(self, cause: sqlite3.Error) -> None:
        """Open a file in a read-only folder, where SQLite cannot create the files of a WAL."""
        try:
            try:
                self._open("ro", False)
            except sqlite3.OperationalError:
                if not self._is_wal_empty():
                    raise  # an immutable open would miss the commits in the WAL
                self._immutable_version = _version(self.path)
                self._open("ro&immutable=1", False)
        except sqlite3.Error:
            raise StoreError(f"{self.path} cannot be opened: {cause}") from cause

    def is_current(self) -> bool:
        """Whether the path still leads to the open file."""
        if self.identity != file_identity(self.path):
            return False
        version = self._immutable_version
        return version is None or (version == _version(self.path) and self._is_wal_empty())

    def _is_wal_empty(self) -> bool:
        try:
            return self.path.with_name(self.path.name + "-wal").stat().st_size == 0
        except OSError:
            return True

    def _set_up(self, create: bool) -> None:
        run = self.connection.execute
        if create and self.is_blank():
            run("PRAGMA page_size = 8192")
            run("PRAGMA journal_mode = WAL")
        # FULL: a commit is on the disk when it returns and survives a power loss.
        run("PRAGMA synchronous = FULL")
        run("PRAGMA fullfsync = ON")  # macOS: a plain fsync may leave data in the drive's cache
        run("PRAGMA checkpoint_fullfsync = ON")
        run(f"PRAGMA journal_size_limit = {64 * 2**20}")
        run("PRAGMA foreign_keys = ON")
        run("PRAGMA wal_autocheckpoint = 4000")
        if self.is_blank():
            if not create:
                return
            with self.transaction():
                if self.is_blank():
                    for statement in _SCHEMA.split(";\n"):
                        run(statement)
                    run("INSERT INTO meta VALUES ('format', ?)", (str(FORMAT),))
        try:
            version = self.meta("format")
        except sqlite3.OperationalError as error:
            raise StoreError(f"{self.path} is not an index of this package: {error}") from error
        if version != str(FORMAT):
            raise StoreError(
                f"{self.path} has format {version}; this version of rag-plugin reads format {FORMAT}: "
                "use the version that wrote it, or build a new index at another path"
            )

    def close(self) -> None:
        self._close()

    def abandon(self) -> None:
        """Leave the connection to the parent process after a fork: SQLite forbids even closing it in the child."""
        self._close.detach()
        _ABANDONED.append(self.connection)

    def is_blank(self) -> bool:
        """Whether the file has no schema yet: its writer is about to create it, or ended before that."""
        return self.value("SELECT 1 FROM sqlite_master") is None

    def transaction(self) -> AbstractContextManager[None]:
        """An atomic write: an exception, or the end of the process, leaves the last commit."""
        return self._between("BEGIN IMMEDIATE")

    def snapshot(self) -> AbstractContextManager[None]:
        """Consistent reads: all of them read the same commit."""
        return self._between("BEGIN")

    @contextmanager
    def _between(self, begin: str) -> Iterator[None]:
        try:
            self.connection.execute(begin)
            try:
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:  # SQLite itself ends it when the disk is full
                    self.connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}") from error

    # ------------------------------------------------------------------ meta and position

    def value(self, query: str, *arguments: Any) -> Any:
        """The first column of the first row of a query; None if there is no row."""
        row = self.connection.execute(query, arguments).fetchone()
        return None if row is None else row[0]

    def meta(self, key: str) -> str | None:
        value: str | None = self.value("SELECT value FROM meta WHERE key = ?", key)
        return value

    def set_meta(self, key: str, value: str) -> None:
        self.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def position(self) -> CommitPosition:
        """The commit that the open snapshot shows."""
        # sqlite_sequence, not max(): the newest rows may be removed again
        row = self.connection.execute(
            "SELECT live, row, removal, (SELECT token FROM history WHERE row = n.row AND removal = n.removal) FROM "
            "(SELECT (SELECT value FROM meta WHERE key = 'live') AS live,"
            " ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'node'), 0) AS row,"
            " ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'removal'), 0) AS removal) AS n"
        ).fetchone()
        return CommitPosition(None if row[0] is None else int(row[0]), int(row[1]), int(row[2]), row[3] or "")

    def has_position(self, position: CommitPosition) -> bool:
        """Whether the history of this index contains a commit, and all removals since."""
        query = "SELECT token FROM history WHERE row = ? AND removal = ?"
        return bool(self.value(query, position.row, position.removal) == position.token)

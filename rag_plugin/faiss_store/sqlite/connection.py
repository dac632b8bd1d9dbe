"""One connection to the SQLite file of an index directory: opening, transactions, its format and identity."""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from ...errors import StoreError
from .commit_position import CommitPosition

FORMAT = 2

# AUTOINCREMENT, so that a row number is never used twice: FAISS, the lexical leg and readers know nodes by it.
# Vectors have a table of their own: a scan of texts and metadata does not drag them along, nor the other way.
# `history` names each commit that changed nodes, so that a derived file is known to belong to this very past.
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
    """What tells a file from another one put in its place; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _version(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


_ABANDONED: list[sqlite3.Connection] = []


class Connection:
    """One connection to the SQLite file; the caller sees to it that one thread uses it at a time."""

    def __init__(self, path: Path, *, create: bool) -> None:
        self.path = path
        self._fixed: tuple[int, int] | None = None  # of a file that may only be read: what it was when opened
        try:
            self._open("rwc" if create else "rw", create)
        except sqlite3.OperationalError as error:
            if create or not any(word in str(error) for word in ("readonly", "unable to open")):
                raise StoreError(f"{path} cannot be opened: {error}") from error
            self._open_to_read(error)
        except sqlite3.Error as error:
            # What SQLite calls an operational error may pass; this one is about the file.
            hint = "delete the directory, and the next sync builds it again from the documents"
            raise StoreError(f"{path} cannot be opened: {error}; {hint}") from error

    def _open(self, mode: str, create: bool) -> None:
        uri = f"{self.path.absolute().as_uri()}?mode={mode}"
        self.connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=30)
        # A store that nobody closed lets go of its files when it is collected.
        self._close = weakref.finalize(self, self.connection.close)
        try:
            self.identity = file_identity(self.path)
            self._set_up(create)
        except BaseException:
            self.close()
            raise

    def _open_to_read(self, refused: sqlite3.Error) -> None:
        """Open a file in a folder that may only be read, where SQLite cannot make the files that go with a WAL."""
        try:
            try:
                self._open("ro", False)
            except sqlite3.OperationalError:
                if _size(self._log()) > 0:
                    raise  # what is in the log could not be seen
                self._fixed = _version(self.path)
                self._open("ro&immutable=1", False)
        except sqlite3.Error:
            raise StoreError(f"{self.path} cannot be opened: {refused}") from refused

    def is_current(self) -> bool:
        """Whether the path still leads to the file that is open."""
        if self.identity != file_identity(self.path):
            return False
        return self._fixed is None or (self._fixed == _version(self.path) and _size(self._log()) == 0)

    def _log(self) -> Path:
        return self.path.with_name(self.path.name + "-wal")

    def _set_up(self, create: bool) -> None:
        run = self.connection.execute
        if create and self.is_blank():
            run("PRAGMA page_size = 8192")
            run("PRAGMA journal_mode = WAL")
        # FULL: a commit is on the disk when it returns, whatever happens to the power then.
        run("PRAGMA synchronous = FULL")
        run("PRAGMA fullfsync = ON")  # macOS, where a plain fsync may leave it in the drive's cache
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
            found = self.meta("format")
        except sqlite3.OperationalError as error:
            raise StoreError(f"{self.path} is no index of this package: {error}") from error
        if found != str(FORMAT):
            raise StoreError(
                f"{self.path} has format {found}; this version of rag-plugin reads format {FORMAT}: "
                "use the version that wrote it, or build the index anew at another path"
            )

    def close(self) -> None:
        self._close()

    def abandon(self) -> None:
        """Leave it to the process that this one was forked from: SQLite may not even be closed here."""
        self._close.detach()
        _ABANDONED.append(self.connection)

    def is_blank(self) -> bool:
        """Whether the file was made and nothing more: its writer is about to fill it, or died before."""
        return self.connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing: an exception, or the end of the process, leaves the last commit."""
        return self._between("BEGIN IMMEDIATE")

    def snapshot(self) -> AbstractContextManager[None]:
        """Several reads of one and the same commit."""
        return self._between("BEGIN")

    @contextmanager
    def _between(self, begin: str) -> Iterator[None]:
        try:
            self.connection.execute(begin)
            try:
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:  # SQLite ends it by itself where the disk is full
                    self.connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}") from error

    # ------------------------------------------------------------------ meta and position

    def meta(self, key: str) -> str | None:
        row = self.connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str) -> None:
        self.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def state(self) -> CommitPosition:
        """Where the open snapshot stands: what a derived index has to agree with."""
        # sqlite_sequence, not max(): the newest rows may be gone again
        row = self.connection.execute(
            "SELECT live, row, removal, (SELECT token FROM history WHERE row = n.row AND removal = n.removal) FROM "
            "(SELECT (SELECT value FROM meta WHERE key = 'live') AS live,"
            " ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'node'), 0) AS row,"
            " ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'removal'), 0) AS removal) AS n"
        ).fetchone()
        return CommitPosition(None if row[0] is None else int(row[0]), int(row[1]), int(row[2]), row[3] or "")

    def was(self, state: CommitPosition) -> bool:
        """Whether this index has been at a commit, and still knows what came after it."""
        row = self.connection.execute(
            "SELECT token FROM history WHERE row = ? AND removal = ?", (state.row, state.removal)
        ).fetchone()
        return row is not None and row[0] == state.token

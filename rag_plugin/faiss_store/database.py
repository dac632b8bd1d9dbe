"""The SQLite file of an index directory: documents, nodes, vectors, and what made them.

Everything of one encoder is a generation. A new encoder fills a new generation while readers still see
the old one; when it is complete it becomes the live one in the same commit that drops the old.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..errors import StoreError

FORMAT = 1

# AUTOINCREMENT, so that a row number is never used twice: FAISS and readers know nodes by it.
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE generation (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    fingerprint TEXT NOT NULL,
    dimension INTEGER
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
    text TEXT NOT NULL,
    metadata TEXT NOT NULL,
    rest TEXT NOT NULL,
    vector BLOB NOT NULL,
    UNIQUE (generation, id)
);
CREATE INDEX node_document ON node (generation, document);
CREATE TABLE removal (seq INTEGER PRIMARY KEY AUTOINCREMENT, node_row INTEGER NOT NULL);
"""

T = TypeVar("T")
_MOST_VARIABLES = 500  # in one statement; SQLite's own limit was 999 for long


def file_identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from another one put in its place; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


@dataclass(frozen=True)
class DocumentRecord:
    """What is known of a document that was synced.

    `hash` is its content's, `stamp` tells cheaply whether it may have changed (None: not known), `recipe`
    names the reader and chunker that its nodes were made with.
    """

    id: str
    hash: str
    stamp: str | None
    recipe: str


@dataclass(frozen=True)
class NodeRow:
    """A node as it is kept: `rest` is the JSON of all but text, metadata and vector; `vector` is float32 bytes."""

    id: str
    document: str | None
    text: str
    metadata: str
    rest: str
    vector: bytes


class Database:
    """One connection to the SQLite file; the caller sees to it that one thread uses it at a time."""

    def __init__(self, path: Path, *, create: bool) -> None:
        self.path = path
        self.identity = None
        mode = "rwc" if create else "rw"
        try:
            uri = f"{path.absolute().as_uri()}?mode={mode}"
            self.connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=30)
        except sqlite3.Error as error:
            raise StoreError(f"{path} cannot be opened: {error}") from error
        # A store that nobody closed lets go of its files when it is collected.
        self._close = weakref.finalize(self, self.connection.close)
        try:
            self.identity = file_identity(path)
            self._set_up(create)
        except sqlite3.Error as error:
            self.close()
            raise StoreError(f"{path} cannot be opened: {error}") from error
        except BaseException:
            self.close()
            raise

    def _set_up(self, create: bool) -> None:
        run = self.connection.execute
        if create and self.is_blank():
            run("PRAGMA journal_mode = WAL")
        # FULL: a commit is on the disk when it returns, whatever happens to the power then.
        run("PRAGMA synchronous = FULL")
        run("PRAGMA foreign_keys = ON")
        if self.is_blank():
            if not create:
                return
            with self.transaction():
                if self.is_blank():
                    for statement in _SCHEMA.split(";\n"):
                        run(statement)
                    run("INSERT INTO meta VALUES ('format', ?), ('id', ?)", (str(FORMAT), uuid.uuid4().hex))
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

    def data_version(self) -> int:
        """A number that changes when another connection commits; in a snapshot, with the snapshot."""
        return int(self.connection.execute("PRAGMA data_version").fetchone()[0])

    # ------------------------------------------------------------------ meta and generations

    def meta(self, key: str) -> str | None:
        row = self.connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str) -> None:
        self.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def live(self) -> int | None:
        """The generation that readers see; None before anything was written."""
        value = self.meta("live")
        return None if value is None else int(value)

    def newest(self) -> int | None:
        return self.connection.execute("SELECT max(id) FROM generation").fetchone()[0]  # type: ignore[no-any-return]

    def add_generation(self, fingerprint: Mapping[str, Any]) -> int:
        text = json.dumps(fingerprint, sort_keys=True)
        cursor = self.connection.execute("INSERT INTO generation (fingerprint) VALUES (?)", (text,))
        return int(cursor.lastrowid or 0)

    def fingerprint(self, generation: int) -> dict[str, Any]:
        row = self.connection.execute("SELECT fingerprint FROM generation WHERE id = ?", (generation,)).fetchone()
        return json.loads(row[0]) if row else {}

    def set_fingerprint(self, generation: int, fingerprint: Mapping[str, Any]) -> None:
        text = json.dumps(fingerprint, sort_keys=True)
        self.connection.execute("UPDATE generation SET fingerprint = ? WHERE id = ?", (text, generation))

    def dimension(self, generation: int) -> int | None:
        row = self.connection.execute("SELECT dimension FROM generation WHERE id = ?", (generation,)).fetchone()
        return None if row is None else row[0]

    def set_dimension(self, generation: int, dimension: int) -> None:
        self.connection.execute("UPDATE generation SET dimension = ? WHERE id = ?", (dimension, generation))

    def make_live(self, generation: int) -> None:
        """Let readers see this generation, and drop every other."""
        self.set_meta("live", str(generation))
        self.drop_generations(keep=generation)

    def drop_generations(self, keep: int) -> None:
        for table in ("node", "document"):
            self.connection.execute(f"DELETE FROM {table} WHERE generation <> ?", (keep,))
        self.connection.execute("DELETE FROM generation WHERE id <> ?", (keep,))

    # ------------------------------------------------------------------ documents

    def documents(self, generation: int) -> dict[str, DocumentRecord]:
        query = "SELECT id, hash, stamp, recipe FROM document WHERE generation = ?"
        return {row[0]: DocumentRecord(*row) for row in self.connection.execute(query, (generation,))}

    def put_documents(self, generation: int, records: Iterable[DocumentRecord]) -> None:
        self.connection.executemany(
            "INSERT OR REPLACE INTO document VALUES (?, ?, ?, ?, ?)",
            ((generation, record.id, record.hash, record.stamp, record.recipe) for record in records),
        )

    def delete_documents(self, generation: int, ids: Sequence[str]) -> None:
        """Forget documents and remove their nodes."""
        self.connection.executemany(
            "DELETE FROM document WHERE generation = ? AND id = ?", ((generation, name) for name in ids)
        )
        self.delete_nodes(generation, "document", ids)

    # ------------------------------------------------------------------ nodes

    def put_nodes(self, generation: int, nodes: Sequence[NodeRow]) -> None:
        """Write nodes; one whose id is there already replaces it, under a new row number."""
        self.delete_nodes(generation, "id", [node.id for node in nodes])
        self.connection.executemany(
            "INSERT INTO node (generation, id, document, text, metadata, rest, vector) VALUES (?, ?, ?, ?, ?, ?, ?)",
            ((generation, n.id, n.document, n.text, n.metadata, n.rest, n.vector) for n in nodes),
        )

    def delete_nodes(self, generation: int, column: str, values: Sequence[str]) -> None:
        """Remove the nodes whose `column` (`id` or `document`) is one of the values, and note that they went."""

        def remove(marks: str, part: Sequence[str]) -> list[Any]:
            where = f"FROM node WHERE generation = ? AND {column} IN ({marks})"
            self.connection.execute(f"INSERT INTO removal (node_row) SELECT row {where}", (generation, *part))
            self.connection.execute(f"DELETE {where}", (generation, *part))
            return []

        self._in_parts(values, remove)

    def nodes(self, generation: int, ids: Sequence[str] | None = None) -> list[tuple[Any, ...]]:
        """(row, id, text, metadata, rest) of the nodes with these ids, or of all."""
        query = "SELECT row, id, text, metadata, rest FROM node WHERE generation = ?"
        if ids is None:
            return self.connection.execute(query + " ORDER BY row", (generation,)).fetchall()
        return self._in_parts(
            ids,
            lambda marks, part: self.connection.execute(f"{query} AND id IN ({marks})", (generation, *part)).fetchall(),
        )

    def nodes_by_row(self, rows: Sequence[int]) -> dict[int, tuple[Any, ...]]:
        """(row, id, text, metadata, rest) by row number."""
        query = "SELECT row, id, text, metadata, rest FROM node WHERE row IN "
        found = self._in_parts(
            rows, lambda marks, part: self.connection.execute(f"{query} ({marks})", tuple(part)).fetchall()
        )
        return {row[0]: row for row in found}

    def rows_of(self, generation: int, column: str, values: Sequence[str]) -> list[int]:
        """The row numbers of the nodes whose `column` (`id` or `document`) is one of the values."""
        query = f"SELECT row FROM node WHERE generation = ? AND {column} IN "
        found = self._in_parts(
            values, lambda marks, part: self.connection.execute(f"{query} ({marks})", (generation, *part)).fetchall()
        )
        return [row[0] for row in found]

    def vectors_of(self, generation: int, ids: Sequence[str]) -> dict[str, bytes]:
        """The vectors of the nodes with these ids."""
        query = "SELECT id, vector FROM node WHERE generation = ? AND id IN "
        found = self._in_parts(
            ids, lambda marks, part: self.connection.execute(f"{query} ({marks})", (generation, *part)).fetchall()
        )
        return dict(found)

    def count(self, table: str, generation: int) -> int:
        row = self.connection.execute(f"SELECT count(*) FROM {table} WHERE generation = ?", (generation,)).fetchone()
        return int(row[0])

    # ------------------------------------------------------------------ what a reader has to catch up with

    def position(self) -> tuple[int, int]:
        """(highest node row, highest removal) at this commit."""
        # sqlite_sequence, not max(): the newest rows may be gone again
        found = dict(self.connection.execute("SELECT name, seq FROM sqlite_sequence"))
        return int(found.get("node", 0)), int(found.get("removal", 0))

    def vectors_after(self, generation: int, row: int, size: int = 4096) -> Iterator[list[tuple[int, bytes]]]:
        """Batches of (row, vector) of the nodes written after `row`."""
        cursor = self.connection.execute(
            "SELECT row, vector FROM node WHERE generation = ? AND row > ? ORDER BY row", (generation, row)
        )
        while batch := cursor.fetchmany(size):
            yield batch

    def removed_after(self, seq: int) -> list[int]:
        return [row[0] for row in self.connection.execute("SELECT node_row FROM removal WHERE seq > ?", (seq,))]

    def _in_parts(self, values: Sequence[Any], run: Callable[[str, Sequence[Any]], list[T]]) -> list[T]:
        found: list[T] = []
        for start in range(0, len(values), _MOST_VARIABLES):
            part = values[start : start + _MOST_VARIABLES]
            found += run(",".join("?" * len(part)), part)
        return found

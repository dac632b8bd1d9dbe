"""What is in an index, and whether its parts agree."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from .nodes import from_row
from .snapshots import load_snapshot, read_stamp
from .vectors import prepared

if TYPE_CHECKING:
    from .database import Database
    from .directory import IndexDirectory
    from .state import State


@dataclass(frozen=True)
class StoreInfo:
    """What is in an index.

    `bytes` is the size of all its files. `recall` is the share of the true nearest 10 that the FAISS index finds,
    measured when it was made; None where it compares with every vector. `not_in_snapshot` counts the changes that
    opening the index has to catch up with. `unfinished` counts the documents that a sync with another encoder has
    got ready so far. `fingerprint` is what made the vectors; empty where they were added by hand.
    """

    path: str
    bytes: int
    documents: int
    nodes: int
    dimension: int | None
    index: str
    metric: str
    precision: str
    faiss: str
    recall: float | None
    not_in_snapshot: int
    lexical: bool
    language: str | None
    cached_vectors: int
    unfinished: int
    fingerprint: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be: `what`, and whether it was mended."""

    what: str
    repaired: bool = False

    def __str__(self) -> str:
        return f"{self.what} (repaired)" if self.repaired else self.what


def info(directory: IndexDirectory) -> StoreInfo:
    """What is in an index; an index that was never written to is an empty one."""

    def collect(database: Database, state: State) -> dict[str, Any]:
        live, view = state.generation, directory.view
        stamp = read_stamp(database.meta("snapshot"))
        covered = stamp if stamp is not None and stamp.generation == live else None
        newest = database.newest()
        unfinished = 0 if newest in (None, live) else database.count("document", newest or 0)
        base = None if view.index is None or view.index.base is None else faiss.downcast_index(view.index.base.index)
        return {
            "documents": 0 if live is None else database.count("document", live),
            "nodes": 0 if live is None else database.count("node", live),
            "dimension": None if live is None else database.dimension(live),
            "faiss": "searched exactly" if base is None else type(base).__name__,
            "recall": view.recall,
            "not_in_snapshot": (state.row + state.removal) - (covered.row + covered.removal if covered else 0),
            "cached_vectors": database.cached_count(),
            "unfinished": unfinished,
            "fingerprint": {} if live is None else database.fingerprint(live),
        }

    found: dict[str, Any] = directory.seeing(collect) or {
        "documents": 0,
        "nodes": 0,
        "dimension": None,
        "faiss": "searched exactly",
        "recall": None,
        "not_in_snapshot": 0,
        "cached_vectors": 0,
        "unfinished": 0,
        "fingerprint": {},
    }
    kind = directory.kind
    size = sum(file.stat().st_size for file in directory.path.rglob("*") if file.is_file())
    return StoreInfo(
        path=str(directory.path),
        bytes=size,
        index=kind.index,
        metric=kind.metric,
        precision=kind.precision,
        lexical=directory.view.language is not None,
        language=directory.view.language,
        **found,
    )


def verify(directory: IndexDirectory, *, repair: bool) -> list[Finding]:
    """Everything that is not as it should be; with `repair`, mended where that can be done."""
    if not directory.exists():
        return []
    if not repair:
        return [Finding(what) for what, _ in _problems(directory)]
    with directory.writing():
        found = list(_problems(directory))
        broken = sorted({row for _, rows in found for row in rows or ()})
        if broken:
            _remove(directory, broken)
        if any(rows is None for _, rows in found):
            directory.discard_derived()
        with directory.connection() as database:
            if database is not None:
                with database.transaction():
                    database.connection.execute("DELETE FROM vector WHERE row NOT IN (SELECT row FROM node)")
                    database.connection.execute("REINDEX")
        directory.settle(force=True)
        left = {what for what, _ in _problems(directory)}
    return [Finding(what, what not in left) for what, _ in found]


def _remove(directory: IndexDirectory, rows: list[int]) -> None:
    """Remove nodes that cannot be read, and forget their documents: the next sync brings them back."""
    with directory.transaction() as database:
        for start in range(0, len(rows), 500):
            part = rows[start : start + 500]
            marks = ",".join("?" * len(part))
            database.connection.execute(
                "DELETE FROM document WHERE (generation, id) IN "
                f"(SELECT generation, document FROM node WHERE row IN ({marks}))",
                part,
            )
        database.delete_rows(rows, 0)


def _problems(directory: IndexDirectory) -> Iterator[tuple[str, list[int] | None]]:
    """(what is wrong, the rows of SQLite that it is about, or None where a derived file is)."""
    with directory.reading() as (database, live):
        if database is None:
            return
        try:
            yield from _of_sqlite(database)
            if live is not None:
                yield from _of_rows(database, live)
                yield from _of_snapshot(directory, database)
        except sqlite3.DatabaseError as error:
            yield f"{directory.file} is damaged ({error}); delete the directory and sync again", []
            return
    yield from directory.seeing(lambda found, state: list(_of_derived(directory, found, state)), words=True) or ()


def _of_sqlite(database: Database) -> Iterator[tuple[str, list[int]]]:
    for (message,) in database.connection.execute("PRAGMA integrity_check(20)"):
        if message != "ok":
            yield f"SQLite: {' '.join(message.split())}", []
    (orphans,) = database.connection.execute(
        "SELECT count(*) FROM vector WHERE row NOT IN (SELECT row FROM node)"
    ).fetchone()
    if orphans:
        yield f"{orphans} vectors belong to no node", []


def _of_rows(database: Database, live: int) -> Iterator[tuple[str, list[int]]]:
    dimension = database.dimension(live)
    query = (
        "SELECT row, id, text, metadata, rest, vector, document FROM node LEFT JOIN vector USING (row)"
        " WHERE generation = ? ORDER BY row"
    )
    # A document that is not recorded was removed, or its nodes were added by hand.
    synced = database.documents(live).keys() if database.fingerprint(live) else None
    for *node, vector, document in database.connection.execute(query, (live,)):
        what = f"node {node[1]!r} of document {document!r}"
        if vector is None:
            yield f"{what} has no vector", [node[0]]
        elif dimension is None or len(vector) != 4 * dimension:
            yield f"{what} has a vector of {len(vector)} bytes; {4 * (dimension or 0)} are expected", [node[0]]
        elif not np.isfinite(np.frombuffer(vector, dtype=np.float32)).all():
            yield f"{what} has a vector with NaN or infinity in it", [node[0]]
        else:
            try:
                json.loads(node[3])
                if from_row(tuple(node)).node_id != node[1]:
                    yield f"{what} says that it is another one", [node[0]]
                elif synced is not None and document is not None and document not in synced:
                    yield f"{what} is there, and the document is not", [node[0]]
            except (ValueError, KeyError, TypeError) as error:
                yield f"{what} cannot be read: {error!r}", [node[0]]


def _of_snapshot(directory: IndexDirectory, database: Database) -> Iterator[tuple[str, None]]:
    stamp = read_stamp(database.meta("snapshot"))
    if stamp is not None and stamp.generation == database.live():
        if not (directory.path / stamp.file).exists():
            yield f"the FAISS snapshot {stamp.file} is gone", None
        elif load_snapshot(directory.path, stamp, directory.memory_map) is None:
            yield f"the FAISS snapshot {stamp.file} is not as it was written", None
    kept = None if stamp is None else stamp.file
    left = [file.name for file in directory.path.glob("vectors-*.faiss") if file.name != kept]
    if left:
        yield f"{len(left)} FAISS files are left over from writes that did not end: {left[0]}", None


def _of_derived(directory: IndexDirectory, database: Database, state: State) -> Iterator[tuple[str, None]]:
    if state.generation is None:
        return
    view = directory.view
    true_rows = {
        row for (row,) in database.connection.execute("SELECT row FROM node WHERE generation = ?", (state.generation,))
    }
    if view.index is not None:
        rows = view.index.rows().tolist()
        if len(rows) != len(set(rows)) or set(rows) != true_rows:
            yield _difference("FAISS", set(rows), true_rows), None
        elif view.kind.is_exact:
            wrong = _wrong_vectors(database, view.index, view.kind.metric, state.generation)
            if wrong:
                yield f"FAISS has another vector than SQLite for {wrong} nodes", None
    elif true_rows and database.dimension(state.generation) is not None:
        yield "FAISS has no vectors", None
    if view.language is not None:
        words = set(view.word_rows())
        if words != true_rows:
            yield _difference("the lexical leg", words, true_rows), None


def _wrong_vectors(database: Database, index: Any, metric: str, generation: int) -> int:
    place = {row: number for number, row in enumerate(index.base_rows.tolist())}
    base = None if index.base is None else faiss.downcast_index(index.base.index)
    tail = {row: number for number, row in enumerate(index.tail_rows.tolist())}
    wrong = 0
    for rows, vectors in database.vectors_after(generation, 0):
        for row, vector in zip(rows, prepared(vectors, metric)):
            found = index.tail.reconstruct(tail[row]) if base is None or row in tail else base.reconstruct(place[row])
            wrong += not np.array_equal(found, vector)
    return wrong


def _difference(what: str, found: set[int], true: set[int]) -> str:
    return f"{what} lacks {len(true - found)} nodes and has {len(found - true)} that are not there"

"""Information about an index, and checks that its parts agree."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from .directory import IndexDirectory
from .sqlite.commit_position import CommitPosition
from .sqlite.database import Database
from .sqlite.node_rows import from_row
from .vectors.similarity import is_measurable, prepared
from .vectors.snapshots import load_snapshot, read_record, type_of
from .vectors.vector_index import VectorIndex

EXACT = "searched exactly"


@dataclass(frozen=True)
class StoreInfo:
    """Facts about an index.

    Attributes:
        bytes: Total size of its files.
        faiss: The FAISS class that stores the vectors.
        recall: The recall@10 measured when the FAISS index was built; None where search is exact.
        not_in_snapshot: Number of changes to replay when the index is opened.
        unfinished: Documents that an unfinished sync with another encoder has completed.
        writer: The active writer, if any.
        fingerprint: Encoder, chunker and reader that made the vectors; empty where nodes were added without a sync.
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
    writer: str | None
    fingerprint: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class IntegrityProblem:
    """A defect of an index, and whether it was repaired."""

    what: str
    repaired: bool = False

    def __str__(self) -> str:
        return f"{self.what} (repaired)" if self.repaired else self.what


def info(directory: IndexDirectory) -> StoreInfo:
    """Facts about an index; one that was never written to is empty."""
    spec, memory_index, lexical = directory.spec, directory.memory_index, directory.memory_index.lexical
    facts: dict[str, Any] = dict.fromkeys(("documents", "nodes", "not_in_snapshot", "cached_vectors", "unfinished"), 0)
    facts |= {"dimension": None, "recall": None, "fingerprint": {}, "faiss": EXACT}
    with directory.reading() as (database, live):
        if database is not None:
            newest = database.newest_generation()
            facts["cached_vectors"] = database.cached_count()
            facts["unfinished"] = 0 if newest in (None, live) else database.count("document", newest or 0)
        if live is not None:
            facts["documents"], facts["nodes"] = database.count("document", live), database.count("node", live)
            facts["dimension"], facts["fingerprint"] = database.dimension(live), database.fingerprint(live)
            facts["not_in_snapshot"] = facts["nodes"]
            record = read_record(database.meta("snapshot"))
            if record is not None and (record.generation, record.kind) == (live, spec.name()):
                facts["recall"], facts["faiss"] = record.recall, record.faiss
                facts["not_in_snapshot"] = record.position.changes_until(database.position())
            if memory_index.index is not None and memory_index.index.base is not None:
                facts["recall"], facts["faiss"] = memory_index.recall, type_of(memory_index.index.base)
    return StoreInfo(
        path=str(directory.path),
        bytes=sum(map(_size, directory.path.rglob("*"))),
        index=spec.index,
        metric=spec.metric,
        precision=spec.precision,
        lexical=lexical is not None,
        writer=directory.lock.holder(),
        language=None if lexical is None else lexical.language,
        **facts,
    )


def _size(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except OSError:  # a writer has just removed it
        return 0


def verify(directory: IndexDirectory, *, repair: bool) -> list[IntegrityProblem]:
    """All defects of an index; with `repair`, those that can be repaired are."""
    if not directory.exists():
        return []
    if not repair:
        return [IntegrityProblem(what) for what, _ in _problems(directory)]
    with directory.lock.held():
        problems = list(_problems(directory))
        broken = sorted({row for _, rows in problems for row in rows or ()})
        with directory.transaction() as database:
            _repair(database, broken)
        if any(rows is None for _, rows in problems):
            directory.discard_derived()
        directory.update_derived_files(force=True)
        remaining = [what for what, _ in _problems(directory)]
    before = [what for what, _ in problems]
    return [IntegrityProblem(what, what not in remaining) for what in before] + [
        IntegrityProblem(what) for what in remaining if what not in before
    ]


def _repair(database: Database, broken: list[int]) -> None:
    """Remove unreadable nodes; the next sync processes their documents again."""
    live = database.live_generation()
    if live is not None:
        size = _usual_vector_size(database, live)
        if size is not None:
            database.set_dimension(live, size // 4)
    database.invalidate_documents_of(broken)
    database.delete_rows(broken, 0)
    database.connection.execute("DELETE FROM vector WHERE row NOT IN (SELECT row FROM node)")
    database.connection.execute("REINDEX")


def _usual_vector_size(database: Database, live: int) -> int | None:
    """The most frequent size of a vector in bytes."""
    query = (
        "SELECT length(vector) FROM node JOIN vector USING (row) WHERE generation = ?"
        " GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"
    )
    size: int | None = database.value(query, live)
    return size


def _problems(directory: IndexDirectory) -> Iterator[tuple[str, list[int] | None]]:
    """(defect, the broken rows in SQLite, or None for a defect of a derived file)."""
    with directory.reading() as (database, live):
        if database is None:
            return
        try:
            yield from _sqlite_problems(database)
            if live is not None:
                problems = list(_row_problems(database, live))
                yield from problems
                yield from _snapshot_problems(directory, database)
                if problems:
                    return  # defects of derived data would only repeat these
        except sqlite3.DatabaseError as error:
            yield f"{directory.file} is damaged ({error}); delete the directory and sync again", []
            return
    yield from (
        directory.with_current_view(
            lambda database, position: list(_derived_problems(directory, database, position)), lexical=True
        )
        or ()
    )


def _sqlite_problems(database: Database) -> Iterator[tuple[str, list[int]]]:
    for (message,) in database.connection.execute("PRAGMA integrity_check(20)"):
        if message != "ok":
            yield f"SQLite: {' '.join(message.split())}", []
    if orphans := database.value("SELECT count(*) FROM vector WHERE row NOT IN (SELECT row FROM node)"):
        yield f"{orphans} vectors belong to no node", []


def _row_problems(database: Database, live: int) -> Iterator[tuple[str, list[int]]]:
    size, dimension = _usual_vector_size(database, live), database.dimension(live)
    if size is not None and size != 4 * (dimension or 0):
        yield f"the recorded dimension is {dimension}, and that of the vectors is {size // 4}", []
    query = (
        "SELECT node.row, id, text, metadata, rest, vector, document FROM node"
        " LEFT JOIN vector ON vector.row = node.row WHERE +generation = ? ORDER BY node.row"
    )
    for *node, vector, document in database.connection.execute(query, (live,)):
        what = f"node {node[1]!r} of document {document!r}"
        if vector is None:
            yield f"{what} has no vector", [node[0]]
        elif len(vector) != size:
            yield f"{what} has a vector of {len(vector)} bytes instead of {size}", [node[0]]
        elif not is_measurable(np.frombuffer(vector, dtype=np.float32)[None, :]):
            yield f"{what} has a vector with NaN, infinity or too large numbers in it", [node[0]]
        else:
            try:
                json.loads(node[3])
                if from_row((node[0], node[1], node[2], node[3], node[4])).node_id != node[1]:
                    yield f"{what} contains another node's id", [node[0]]
            except (ValueError, KeyError, TypeError) as error:
                yield f"{what} cannot be read: {error!r}", [node[0]]


def _snapshot_problems(directory: IndexDirectory, database: Database) -> Iterator[tuple[str, None]]:
    record = read_record(database.meta("snapshot"))
    if record is not None and record.generation == database.live_generation():
        if not (directory.path / record.file).exists():
            yield f"the FAISS snapshot {record.file} is missing", None
        elif load_snapshot(directory.path, record, memory_map=True) is None:
            yield f"the FAISS snapshot {record.file} is damaged", None
    current = None if record is None else record.file
    unused = [file.name for file in directory.path.glob("vectors-*.faiss") if file.name != current]
    if unused:
        yield f"{len(unused)} FAISS files are left over from unfinished writes: {unused[0]}", None


def _derived_problems(
    directory: IndexDirectory, database: Database, position: CommitPosition
) -> Iterator[tuple[str, None]]:
    if position.generation is None:
        return
    memory_index = directory.memory_index
    query = "SELECT row FROM node WHERE generation = ?"
    expected = {row for (row,) in database.connection.execute(query, (position.generation,))}
    if memory_index.index is not None:
        rows = memory_index.index.rows().tolist()
        if len(rows) != len(set(rows)) or set(rows) != expected:
            yield _difference("FAISS", set(rows), expected), None
        elif memory_index.spec.is_exact:
            wrong = _count_wrong_vectors(database, memory_index.index, position.generation)
            if wrong:
                yield f"FAISS has a different vector than SQLite for {wrong} nodes", None
    elif expected and database.dimension(position.generation) is not None:
        yield "FAISS has no vectors", None
    if memory_index.lexical is not None:
        rows = memory_index.lexical.rows()
        if set(rows) != expected:
            yield _difference("the lexical index", set(rows), expected), None


def _count_wrong_vectors(database: Database, index: VectorIndex, generation: int) -> int:
    parts: list[tuple[Any, NDArray[np.int64]]] = [(index.tail, index.tail_rows)]
    if index.base is not None:
        parts.append((faiss.downcast_index(index.base.index), index.base_rows))
    location = {row: (part, position) for part, rows in parts for position, row in enumerate(rows.tolist())}
    wrong = 0
    for rows, vectors in database.vectors_after(generation, 0):
        for row, vector in zip(rows, prepared(vectors, index.metric)):
            part, position = location[row]
            wrong += not np.array_equal(part.reconstruct(position), vector)
    return wrong


def _difference(part: str, rows: set[int], expected: set[int]) -> str:
    return f"{part} lacks {len(expected - rows)} nodes and has {len(rows - expected)} that do not exist"

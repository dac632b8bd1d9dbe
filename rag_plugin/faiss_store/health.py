"""What is in an index, and whether its parts agree."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from .sqlite.node_rows import from_row
from .vectors.snapshot_policy import changes_between
from .vectors.snapshots import load_snapshot, read_record, type_of
from .vectors.vector_index import is_measurable, prepared

if TYPE_CHECKING:
    from .directory import IndexDirectory
    from .sqlite.commit_position import CommitPosition
    from .sqlite.database import Database


EXACT = "searched exactly"


@dataclass(frozen=True)
class StoreInfo:
    """What is in an index.

    `bytes` is the size of all its files. `recall` is the share of the true nearest 10 that the FAISS index finds,
    measured when it was made; None where it compares with every vector. `not_in_snapshot` counts the changes that
    opening the index has to catch up with. `unfinished` counts the documents that a sync with another encoder has
    got ready so far. `writer` says who is writing to it now, if anybody is. `fingerprint` is what made the vectors;
    empty where they were added by hand.
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
    """Something that is not as it should be: `what`, and whether it was mended."""

    what: str
    repaired: bool = False

    def __str__(self) -> str:
        return f"{self.what} (repaired)" if self.repaired else self.what


def info(directory: IndexDirectory) -> StoreInfo:
    """What is in an index; an index that was never written to is an empty one."""
    kind, words = directory.kind, directory.view.words
    found: dict[str, Any] = dict.fromkeys(("documents", "nodes", "not_in_snapshot", "cached_vectors", "unfinished"), 0)
    found |= {"dimension": None, "recall": None, "fingerprint": {}, "faiss": EXACT}
    if not kind.is_exact:
        directory.with_current_view(lambda database, state: None)  # a small index is made when it is first asked
    view = directory.view
    with directory.reading() as (database, live):
        if database is not None:
            newest = database.newest()
            found["cached_vectors"] = database.cached_count()
            found["unfinished"] = 0 if newest in (None, live) else database.count("document", newest or 0)
        if live is not None:
            stamp = read_record(database.meta("snapshot"))
            ours = stamp is not None and (stamp.generation, stamp.kind) == (live, kind.name())
            found["documents"], found["nodes"] = database.count("document", live), database.count("node", live)
            found["dimension"], found["fingerprint"] = database.dimension(live), database.fingerprint(live)
            if view.index is not None and view.index.base is not None:
                found["recall"], found["faiss"] = view.recall, type_of(view.index.base)
            elif stamp is not None and ours:
                found["recall"], found["faiss"] = stamp.recall, stamp.faiss
            if stamp is not None and ours:
                found["not_in_snapshot"] = changes_between(stamp.state, database.state())
            else:
                found["not_in_snapshot"] = found["nodes"]
    return StoreInfo(
        path=str(directory.path),
        bytes=sum(map(_size, directory.path.rglob("*"))),
        index=kind.index,
        metric=kind.metric,
        precision=kind.precision,
        lexical=words is not None,
        writer=directory.lock.holder(),
        language=None if words is None else words.language,
        **found,
    )


def _size(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except OSError:  # a writer has just removed it
        return 0


def verify(directory: IndexDirectory, *, repair: bool) -> list[IntegrityProblem]:
    """Everything that is not as it should be; with `repair`, mended where that can be done."""
    if not directory.exists():
        return []
    if not repair:
        return [IntegrityProblem(what) for what, _ in _problems(directory)]
    with directory.writing():
        found = list(_problems(directory))
        broken = sorted({row for _, rows in found for row in rows or ()})
        with directory.transaction() as database:
            _mend(database, broken)
        if any(rows is None for _, rows in found):
            directory.discard_derived()
        directory.update_derived_files(force=True)
        left = [what for what, _ in _problems(directory)]
    before = [what for what, _ in found]
    return [IntegrityProblem(what, what not in left) for what in before] + [
        IntegrityProblem(what) for what in left if what not in before
    ]


def _mend(database: Database, broken: list[int]) -> None:
    """Remove nodes that cannot be read; the next sync cuts their documents anew."""
    live = database.live()
    if live is not None:
        length = _usual_length(database, live)
        if length is not None:
            database.set_dimension(live, length // 4)
    database.doubt_documents_of(broken)
    database.delete_rows(broken, 0)
    database.connection.execute("DELETE FROM vector WHERE row NOT IN (SELECT row FROM node)")
    database.connection.execute("REINDEX")


def _usual_length(database: Database, live: int) -> int | None:
    """How many bytes the vectors have, by and large."""
    row = database.connection.execute(
        "SELECT length(vector) FROM node JOIN vector USING (row) WHERE generation = ?"
        " GROUP BY 1 ORDER BY count(*) DESC LIMIT 1",
        (live,),
    ).fetchone()
    return None if row is None else int(row[0])


def _problems(directory: IndexDirectory) -> Iterator[tuple[str, list[int] | None]]:
    """(what is wrong, the rows of SQLite that it is about, or None where a derived file is)."""
    with directory.reading() as (database, live):
        if database is None:
            return
        try:
            yield from _of_sqlite(database)
            if live is not None:
                rows = list(_of_rows(database, live))
                yield from rows
                yield from _of_snapshot(directory, database)
                if rows:
                    return  # what is derived from broken rows is no finding of its own
        except sqlite3.DatabaseError as error:
            yield f"{directory.file} is damaged ({error}); delete the directory and sync again", []
            return
    yield from (
        directory.with_current_view(lambda found, state: list(_of_derived(directory, found, state)), words=True) or ()
    )


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
    length, dimension = _usual_length(database, live), database.dimension(live)
    if length is not None and length != 4 * (dimension or 0):
        yield f"the index says that vectors have {dimension} numbers, and they have {length // 4}", []
    query = (
        "SELECT node.row, id, text, metadata, rest, vector, document FROM node"
        " LEFT JOIN vector ON vector.row = node.row WHERE +generation = ? ORDER BY node.row"
    )
    for *node, vector, document in database.connection.execute(query, (live,)):
        what = f"node {node[1]!r} of document {document!r}"
        if vector is None:
            yield f"{what} has no vector", [node[0]]
        elif len(vector) != length:
            yield f"{what} has a vector of {len(vector)} bytes; {length} are expected", [node[0]]
        elif not is_measurable(np.frombuffer(vector, dtype=np.float32)[None, :]):
            yield f"{what} has a vector with NaN, infinity or too large numbers in it", [node[0]]
        else:
            try:
                json.loads(node[3])
                if from_row(tuple(node)).node_id != node[1]:
                    yield f"{what} says that it is another one", [node[0]]
            except (ValueError, KeyError, TypeError) as error:
                yield f"{what} cannot be read: {error!r}", [node[0]]


def _of_snapshot(directory: IndexDirectory, database: Database) -> Iterator[tuple[str, None]]:
    stamp = read_record(database.meta("snapshot"))
    if stamp is not None and stamp.generation == database.live():
        if not (directory.path / stamp.file).exists():
            yield f"the FAISS snapshot {stamp.file} is gone", None
        elif load_snapshot(directory.path, stamp, memory_map=True) is None:
            yield f"the FAISS snapshot {stamp.file} is not as it was written", None
    kept = None if stamp is None else stamp.file
    left = [file.name for file in directory.path.glob("vectors-*.faiss") if file.name != kept]
    if left:
        yield f"{len(left)} FAISS files are left over from writes that did not end: {left[0]}", None


def _of_derived(directory: IndexDirectory, database: Database, state: CommitPosition) -> Iterator[tuple[str, None]]:
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
    if view.words is not None:
        words = set(view.words.rows())
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

"""What goes wrong around a store: kill -9, power, full and read-only disks, torn and swapped files, odd input.

The short form of each; scripts/faults runs the same functions for longer.
"""

from __future__ import annotations

import errno
import json
import math
import os
import random
import resource
import shutil
import signal
import socket
import sqlite3
import tempfile
import threading
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import FilterOperator, MetadataFilters, VectorStoreQueryMode

from rag_plugin.errors import IndexLocked, StoreError
from rag_plugin.faiss_store import FaissStore
from tests.faiss_store.nodes import DIMENSION, METRICS
from tests.faiss_store.store_model import (
    KINDS,
    RARE_WORDS,
    WRITES,
    Known,
    Model,
    Turn,
    ask,
    ask_words,
    bytes_of,
    check_nearest,
    check_store,
    check_words,
    close_to,
    contents,
    copy_index,
    derived,
    having,
    outcome,
    refused,
    remove,
    scores,
    start,
    turn,
    vector,
    where,
)


def some(count: int, first: int = 0, document: str = "d") -> list[Known]:
    """Nodes that differ in everything; each rare word is in some of them."""
    return [
        Known(
            f"{document}/{number}",
            vector(number),
            document,
            f"note {number} {RARE_WORDS[number % len(RARE_WORDS)]}",
            {"number": number, "part": number % 7},
        )
        for number in range(first, first + count)
    ]


def put(store: FaissStore, model: Model, given: list[Known]) -> None:
    store.add([known.node() for known in given])
    model.add(given)


def filled(path: Path, model: Model, given: list[Known] | None = None, **settings: Any) -> None:
    """An index with nodes, closed: with a snapshot and a text index on the disk."""
    store = FaissStore(path, **settings)
    put(store, model, some(200) if given is None else given)
    store.snapshot()
    store.close()


def in_sqlite(path: Path, sql: str, *values: str) -> tuple[Any, ...]:
    """Run one statement in an index behind the store's back; the first row."""
    connection = sqlite3.connect(path / "index.sqlite")
    row = connection.execute(sql, values).fetchone()
    connection.commit()
    connection.close()
    return row or ()


def check_opened(path: Path, model: Model, metric: Any = "cosine") -> None:
    """Assert that an index opens, answers, takes writes, and is still right when it is opened again."""
    store = FaissStore(path, metric=metric)
    check_store(store, model, metric)
    put(store, model, some(3, 10_000, "later"))
    store.delete("later")
    model.delete("later")
    put(store, model, some(5, 20_000, "kept"))
    check_store(store, model, metric)
    store.close()
    store = FaissStore(path, metric=metric)
    check_store(store, model, metric)
    # A damaged file may have been passed over until now; from here on it is whole.
    assert all(finding.repaired for finding in store.verify(repair=True))
    assert store.verify() == []
    check_store(store, model, metric)
    store.close()


# ---------------------------------------------------------------------------------- kill -9


def _write_for_ever(path: Path, first: int, forced: dict[int, str], pipe: Any) -> None:
    store, number = FaissStore(path), first
    while True:
        mine = turn(number, forced.get(number))
        pipe.send(("begin", number, mine.kind, time.monotonic()))
        store = mine.on_store(store)
        pipe.send(("end", number, mine.kind, time.monotonic()))
        number += 1


@dataclass
class Killing:
    """A writer that is killed again and again, and what was seen."""

    path: Path
    chance: random.Random
    model: Model = field(default_factory=Model)
    number: int = 0
    landed: Counter[str] = field(default_factory=Counter)
    """In which kind of turn the writer died; "between" is after the end of one and before the next."""
    in_flight: int = 0
    """How often the turn that was cut off had been committed all the same."""
    seconds: dict[str, float] = field(default_factory=dict)

    def once(self, kind: str) -> None:
        """Kill it within a turn of this kind, look at what is there.

        Raises:
            AssertionError: The index is not exactly what was committed last.
        """
        aimed = self.number + self.chance.randrange(1, 5)
        process, heard = start(_write_for_ever, self.path, self.number, {aimed: kind})
        heard.wait(lambda item: item[:2] == ("begin", aimed))
        time.sleep(self.chance.random() * 1.1 * self.seconds.get(kind, 0.02))
        process.kill()
        process.join()
        begun: Turn | None = None
        forced = {aimed: kind}
        started = 0.0
        for what, number, name, at in heard.rest():
            if what == "begin":
                begun, started, self.number = turn(number, forced.get(number)), at, number + 1
            elif begun is not None:
                begun.on_model(self.model)
                begun, self.seconds[name] = None, at - started
        self.landed[begun.kind if begun else "between"] += 1
        self._check(begun)

    def _check(self, begun: Turn | None) -> None:
        store = FaissStore(self.path)
        first_answer = store.query(ask(3, 10_000))  # before anything else could put things right
        found = contents(store)
        if begun is not None and found != self.model.shown():
            begun.on_model(self.model)
            self.in_flight += 1
        told = f"killed in {begun and (begun.number, begun.kind)}, the next is {self.number}"
        assert found == self.model.shown(), told
        check_nearest(first_answer, self.model.nodes, vector(3), 10_000, "cosine")
        check_store(store, self.model)
        store.verify(repair=True)
        assert store.verify() == [], told
        store.close()
        assert len(list(self.path.glob("vectors-*.faiss"))) <= 2, f"{told}: snapshots are left lying about"


@pytest.mark.slow
def test_a_writer_killed_in_any_call_leaves_exactly_what_it_committed(path: Path) -> None:
    killing = Killing(path, random.Random(7))
    for kind in KINDS:
        killing.once(kind)
    assert sum(killing.landed.values()) == len(KINDS)
    assert len(killing.landed) > 3, killing.landed


def _add_and_stay(path: Path, given: list[Known], pipe: Any) -> None:
    store = FaissStore(path)
    for known in given:
        store.add([known.node()])
    pipe.send("done")
    time.sleep(60)


# ---------------------------------------------------------------------------------- power


@dataclass
class PowerLoss:
    """An index as it lies on the disk with some commits in the write-ahead log, and every state it went through."""

    folder: Path
    states: list[Model]

    @classmethod
    def prepared(cls, tmp_path: Path, turns: int, seed: int) -> PowerLoss:
        chance, model, path = random.Random(seed), Model(), tmp_path / f"running {seed}"
        store = FaissStore(path)
        for number in range(3):
            mine = turn(1000 * seed + number, "add", size=20)
            mine.on_store(store)
            mine.on_model(model)
        store.close()
        before = (path / "index.sqlite").read_bytes()
        store, states = FaissStore(path), [model.copy()]
        for number in range(3, 3 + turns):
            mine = turn(1000 * seed + number, chance.choice(WRITES[:-1]), size=8)
            mine.on_store(store)
            mine.on_model(model)
            states.append(model.copy())
        lost = copy_index(path, tmp_path / f"lost {seed}")
        # Frames that are in the database already were on the disk before: only what is younger can be lost.
        assert (path / "index.sqlite").read_bytes() == before, "a checkpoint came between: fewer turns"
        store.close()
        return cls(lost, states)

    def without(self, target: Path, spoil: Callable[[bytearray], bytearray], *, shared_memory: bool) -> int:
        """Spoil the log in a copy and look at what is there; how many commits it has."""
        path = copy_index(self.folder, target)
        log = path / "index.sqlite-wal"
        log.write_bytes(spoil(bytearray(log.read_bytes())))
        if not shared_memory:
            remove(path / "index.sqlite-shm")
        store = FaissStore(path)
        first_answer = store.query(ask(3, 10_000))
        found = contents(store)
        kept = [number for number, state in enumerate(self.states) if state.shown() == found]
        assert kept, "no state that was ever committed"
        state = self.states[kept[-1]]
        check_nearest(first_answer, state.nodes, vector(3), 10_000, "cosine")
        check_store(store, state)
        store.close()
        check_opened(path, state.copy())
        remove(path)
        return kept[-1]


def spoiled(chance: random.Random) -> tuple[str, Callable[[bytearray], bytearray]]:
    """One of the ways in which the end of a log can be missing."""
    share = chance.random()

    def cut(log: bytearray) -> bytearray:
        return log[: int(share * len(log))]

    def zeros(log: bytearray) -> bytearray:
        at = int(share * len(log))
        log[at:] = bytes(len(log) - at)
        return log

    def hole(log: bytearray) -> bytearray:
        at = int(share * len(log)) // 512 * 512
        log[at : at + 512] = bytes(len(log[at : at + 512]))
        return log

    def noise(log: bytearray) -> bytearray:
        at = int(share * len(log))
        log[at:] = chance.randbytes(len(log) - at)
        return log

    ways = {"cut": cut, "zeros": zeros, "hole": hole, "noise": noise}
    name = chance.choice(list(ways))
    return name, ways[name]


@pytest.mark.slow
def test_a_log_that_lost_its_end_gives_a_state_that_was_committed(tmp_path: Path) -> None:
    chance = random.Random(11)
    power = PowerLoss.prepared(tmp_path, turns=12, seed=1)
    kept = {
        power.without(tmp_path / f"{number}", spoiled(chance)[1], shared_memory=bool(number % 2))
        for number in range(16)
    }
    assert len(kept) > 3, f"only {kept}: the log was never cut where it matters"
    untouched = power.without(tmp_path / "whole", lambda log: log, shared_memory=True)
    assert untouched == len(power.states) - 1


def staged(tmp_path: Path, stages: int) -> tuple[list[Path], list[Model]]:
    """Copies of one index after each of some commits of ten nodes, with a snapshot of each."""
    store, model = FaissStore(tmp_path / "running"), Model()
    folders, models = [], []
    for stage in range(stages):
        put(store, model, some(10, stage * 10, f"d{stage}"))
        store.snapshot()
        folders.append(copy_index(store.path, tmp_path / f"stage {stage}"))
        models.append(model.copy())
    store.close()
    return folders, models


def mixed(tmp_path: Path, database: Path, others: Path) -> Path:
    """index.sqlite of one copy with the derived files of another."""
    path = copy_index(others, tmp_path / f"mixed of {database.name} and {others.name}")
    for each in path.glob("index.sqlite*"):
        each.unlink()
    for each in database.glob("index.sqlite*"):
        shutil.copy2(each, path)
    return path


@pytest.mark.parametrize(("database", "others"), [(1, 4), (4, 1), (0, 5), (5, 0)], ids=lambda stage: f"{stage}")
def test_derived_files_of_another_time_are_made_anew(tmp_path: Path, database: int, others: int) -> None:
    folders, models = staged(tmp_path, 6)
    check_opened(mixed(tmp_path, folders[database], folders[others]), models[database])


def test_a_snapshot_of_a_future_that_was_lost_is_not_taken_for_the_present(tmp_path: Path) -> None:
    # index.sqlite comes back from a backup and gets as many other commits of as many other nodes: every counter in
    # it then says the same as in the snapshot that lies beside it. Nobody asks it anything before it is killed.
    folders, models = staged(tmp_path, 6)
    path, model = mixed(tmp_path, folders[2], folders[5]), models[2]
    store = FaissStore(path)
    for stage in range(3):
        seeds = range(9000 + stage * 10, 9010 + stage * 10)
        put(store, model, [Known(f"other {seed}", vector(seed), f"other {stage}", "an osprey") for seed in seeds])
    copy = copy_index(path, tmp_path / "copy")
    store.close()
    check_opened(copy, model.copy())
    check_opened(path, model)


def test_an_index_restored_under_an_open_reader_is_noticed(tmp_path: Path) -> None:
    folders, models = staged(tmp_path, 4)
    path = copy_index(folders[3], tmp_path / "index")
    reader = FaissStore(path)
    check_store(reader, models[3])
    shutil.rmtree(path)
    copy_index(folders[1], path)
    check_store(reader, models[1])
    reader.close()


@pytest.mark.parametrize("turns", [1, 3])
def test_another_index_of_as_many_nodes_put_under_an_open_store_is_noticed(tmp_path: Path, turns: int) -> None:
    # Its counters are the same, and the file system may well give it the same inode.
    path, store, model = tmp_path / "index", FaissStore(tmp_path / "index"), Model()
    put(store, model, some(10))
    check_store(store, model)
    for number in range(1, turns + 1):
        model = Model()
        filled(tmp_path / "other", model, some(10, 100 * number, f"other {number}"))
        shutil.rmtree(path)
        (tmp_path / "other").rename(path)
        check_store(store, model)
    put(store, model, some(5, 900, "more"))
    store.close()
    check_opened(path, model)


def test_an_index_that_is_copied_over_an_open_one_in_place_is_noticed(tmp_path: Path) -> None:
    # The same files with other bytes, as rsync --inplace and cp do; nobody writes meanwhile.
    path, model, other = tmp_path / "index", Model(), Model()
    filled(path, model, some(10))
    filled(tmp_path / "other", other, some(10, 100, "other"))
    store = FaissStore(path)
    check_store(store, model)
    (path / "index.sqlite").write_bytes((tmp_path / "other" / "index.sqlite").read_bytes())
    store.close()
    check_opened(path, other)


# ---------------------------------------------------------------------------------- full and read-only disks


def fill(path: Path, room: int | None, enough: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Write until the disk is full, go on when there is room again; to be run in a process of its own.

    Args:
        room: How many bytes the largest file may still grow; None where the disk itself ends it.
        enough: Makes room again.
    """
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store, model = FaissStore(path), Model()
    put(store, model, some(20))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if room is not None:
        largest = max(each.stat().st_size for each in path.rglob("*") if each.is_file())
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest + room, hard))
    messages, at = [], 1000
    while len(messages) < 3:
        given = [Known(k.id, k.vector, "big", k.text + " long" * 200, k.metadata) for k in some(20, at, "big")]
        at += 20
        assert at < 200_000, "it is never full"
        message = refused(lambda given=given: store.add([known.node() for known in given]))
        if message is None:
            model.add(given)
        else:
            messages.append(message)
            assert contents(store) == model.shown()
            check_nearest(store.query(ask(1, 50)), model.nodes, vector(1), 50, "cosine")
    messages.append(refused(store.snapshot) or f"{path}: a snapshot had room")
    refused(store.close)
    if room is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
    enough()
    put(store, model, some(20, 500_000, "after"))
    check_store(store, model)
    store.close()
    store = FaissStore(path)
    check_store(store, model)
    store.close()
    return {"messages": messages, "nodes": len(model.nodes)}


def fill_with_ballast(place: Path) -> dict[str, Any]:
    """`fill` on a small disk of its own: room again is a large file that goes."""
    ballast = place / "ballast"
    ballast.write_bytes(bytes(3 * 512 * 1024))
    return fill(place / "index", None, enough=ballast.unlink)


@pytest.mark.parametrize("room", [0, 30_000, 200_000, 1_000_000])
def test_a_full_disk_loses_nothing_and_is_told(path: Path, room: int) -> None:
    seen = outcome(fill, path, room)
    assert seen["nodes"] >= 40
    for message in seen["messages"]:
        assert message.startswith(str(path))
    check_opened(path, _as_found(path))


def _as_found(path: Path) -> Model:
    """The model that an index itself tells; its vectors are those of `some`."""
    store, model = FaissStore(path), Model()
    for node in store.get_nodes():
        number = int(node.node_id.split("/")[1])
        model.add([Known(node.node_id, vector(number), node.ref_doc_id, node.get_content(), node.metadata)])
    store.close()
    return model


@pytest.mark.parametrize("name", ["replace", "rename", "fsync", "link", "mkdir"])
@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
def test_a_call_of_the_file_system_that_fails_is_a_store_error_or_costs_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str, reason: int
) -> None:
    model = Model()
    filled(path, model, some(50))
    store = FaissStore(path)
    check_store(store, model)
    with monkeypatch.context() as patch:

        def fails(*args: Any, **kwargs: Any) -> Any:
            raise OSError(reason, os.strerror(reason))

        patch.setattr(os, name, fails)
        more = some(5, 100)
        told = [refused(lambda: store.add([known.node() for known in more]))]
        if told[0] is None:
            model.add(more)
        assert contents(store) == model.shown()
        check_nearest(store.query(ask(1, 100)), model.nodes, vector(1), 100, "cosine")
        told += [refused(store.snapshot), refused(store.close)]
    for message in told:
        assert message is None or (message.startswith(str(path)) and os.strerror(reason) in message)
    check_opened(path, model)
    store.close()


def read_without_leave(path: Path, user: int | None) -> dict[str, Any]:
    """What a process that may only read gets; to be run in a process of its own."""
    if user is not None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    store = FaissStore(path)
    seen: dict[str, Any] = {
        "refused": [refused(lambda: store.add([Known("new", vector(1)).node()])), refused(lambda: store.delete("d"))]
    }
    seen["length"] = len(store)
    seen["contents"] = contents(store)
    found = store.query(ask(1, 5))
    seen["near"] = (found.ids, found.similarities)
    seen["words"] = sorted(store.query(ask_words(RARE_WORDS[0], 1000)).ids or [])
    store.close()
    return seen


def check_read_only(path: Path, model: Model, user: int | None, reason: str) -> None:
    """Assert that a folder that cannot be written to is read as any other, and says so to a writer."""
    before = bytes_of(path)
    seen = outcome(read_without_leave, path, user)
    assert bytes_of(path) == before
    assert seen["refused"] == [f"{path} cannot be written to: {reason}"] * 2
    assert (seen["length"], seen["contents"]) == (len(model.nodes), model.shown())
    near = scores("cosine", model.nodes, vector(1))
    ids, similarities = seen["near"]
    assert ids == sorted(near, key=lambda name: -near[name])[:5]
    assert similarities == close_to(near[name] for name in ids)
    assert set(seen["words"]) == having(RARE_WORDS[0], model.nodes)


@pytest.mark.parametrize("without", ["", "vectors*", "lexical"], ids=["whole", "no snapshot", "no text index"])
def test_a_folder_that_may_only_be_read_is_read(without: str) -> None:
    # Not in pytest's folder, which nobody but its owner may enter.
    folder = Path(tempfile.mkdtemp())
    path, model = folder / "index", Model()
    filled(path, model)
    for each in path.glob(without) if without else ():
        remove(each)
    try:
        folder.chmod(0o755)
        for each in path.rglob("*"):
            each.chmod(0o555 if each.is_dir() else 0o444)
        path.chmod(0o555)
        # To root all permissions are given, so root has to become somebody else.
        check_read_only(path, model, 65534 if os.geteuid() == 0 else None, "Permission denied")
    finally:
        path.chmod(0o755)
        for each in path.rglob("*"):
            each.chmod(0o755 if each.is_dir() else 0o644)
        shutil.rmtree(folder)


# ---------------------------------------------------------------------------------- derived files that are damaged

Damage = Callable[[Path, Path], None]
"""Spoils the derived files of the first index; the second is of other nodes and may lend its own."""


def _stamp(path: Path) -> dict[str, Any]:
    """What SQLite holds about the snapshot."""
    (text,) = in_sqlite(path, "SELECT value FROM meta WHERE key = 'snapshot'")
    return json.loads(text)


def _stamped(change: Callable[[dict[str, Any]], Any]) -> Damage:
    """Put something else there."""

    def damage(path: Path, _: Path) -> None:
        changed = change(_stamp(path))
        text = changed if isinstance(changed, str) else json.dumps(changed)
        in_sqlite(path, "UPDATE meta SET value = ? WHERE key = 'snapshot'", text)

    return damage


def _faiss(path: Path) -> Path:
    (found,) = path.glob("vectors-*.faiss")
    return found


def _put(target: Callable[[Path], Path], content: bytes) -> Damage:
    return lambda path, _: target(path).write_bytes(content) and None


def _change(target: Callable[[Path], Path], change: Callable[[bytearray], bytes | bytearray]) -> Damage:
    return lambda path, _: target(path).write_bytes(change(bytearray(target(path).read_bytes()))) and None


def _flipped(raw: bytearray, *shares: float) -> bytearray:
    for share in shares:
        raw[int(share * (len(raw) - 1))] ^= 0x41
    return raw


def _zeroed(raw: bytearray, share: float) -> bytearray:
    at = int(share * len(raw))
    raw[at:] = bytes(len(raw) - at)
    return raw


def _names_another_file(path: Path, other: Path) -> None:
    shutil.copy(_faiss(other), path.parent / "outside.faiss")
    _stamped(lambda stamp: {**stamp, "file": "../outside.faiss"})(path, other)


def _a_folder_instead(target: Callable[[Path], Path]) -> Damage:
    def damage(path: Path, _: Path) -> None:
        place = target(path)
        remove(place)
        place.mkdir()

    return damage


def _a_link_to_nowhere(target: Callable[[Path], Path]) -> Damage:
    def damage(path: Path, _: Path) -> None:
        place = target(path)
        remove(place)
        place.symlink_to(path / "nowhere")

    return damage


def _swap_snapshot(path: Path, other: Path) -> None:
    _faiss(path).unlink()
    shutil.copy(_faiss(other), path)


def _swap_faiss(path: Path, other: Path) -> None:
    shutil.copy(_faiss(other), _faiss(path))


def _swap_lexical(path: Path, other: Path) -> None:
    shutil.rmtree(path / "lexical")
    shutil.copytree(other / "lexical", path / "lexical")


def _swap_all(path: Path, other: Path) -> None:
    _swap_snapshot(path, other)
    _swap_lexical(path, other)


def _litter(path: Path, other: Path) -> None:
    for name in ("vectors-older.faiss", "vectors-1.faiss", "vectors.json", "vectors-x.faiss.tmp"):
        (path / name).write_bytes(b"half a snap")


def _lexical_emptied(path: Path, _: Path) -> None:
    for each in (path / "lexical").iterdir():
        remove(each)


def _lexical_a_file(path: Path, _: Path) -> None:
    shutil.rmtree(path / "lexical")
    (path / "lexical").write_text("notes of mine")


def _segments(path: Path) -> list[Path]:
    found = [each for each in sorted((path / "lexical").rglob("*")) if each.is_file() and each.suffix != ".lock"]
    assert found
    return found


def _each_segment(change: Callable[[Path], Any]) -> Damage:
    def damage(path: Path, _: Path) -> None:
        for each in _segments(path):
            change(each)

    return damage


def _one_segment(number: int, change: Callable[[Path], Any]) -> Damage:
    def damage(path: Path, _: Path) -> None:
        found = _segments(path)
        change(found[number % len(found)])

    return damage


def _halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _all_gone(path: Path, _: Path) -> None:
    for each in derived(path):
        remove(each)


def _all_but_the_truth(path: Path, _: Path) -> None:
    for each in path.iterdir():
        if each.name != "index.sqlite":
            remove(each)


DAMAGE: dict[str, Damage] = {
    "no stamp": lambda path, _: in_sqlite(path, "DELETE FROM meta WHERE key = 'snapshot'") and None,
    "empty stamp": _stamped(lambda _: ""),
    "garbage stamp": _stamped(lambda _: "{]garbage"),
    "half a stamp": _stamped(lambda stamp: json.dumps(stamp)[: len(json.dumps(stamp)) // 2]),
    "stamp is a list": _stamped(lambda _: []),
    "stamp is an empty object": _stamped(lambda _: {}),
    "stamp is null": _stamped(lambda _: None),
    "stamp holds huge numbers": _stamped(lambda stamp: dict.fromkeys(stamp, 10**30)),
    "stamp names a file outside": _names_another_file,
    "stamp names a folder": _stamped(lambda stamp: {**stamp, "file": "lexical"}),
    "stamp names the truth": _stamped(lambda stamp: {**stamp, "file": "index.sqlite"}),
    "stamp of a version with more to say": _stamped(lambda stamp: {**stamp, "invented later": 1}),
    "no snapshot": lambda path, _: _faiss(path).unlink(),
    "empty snapshot": _put(_faiss, b""),
    "random snapshot": _put(_faiss, random.Random(1).randbytes(9000)),
    "half a snapshot": _change(_faiss, lambda raw: raw[: len(raw) // 2]),
    "snapshot short of one byte": _change(_faiss, lambda raw: raw[:-1]),
    "snapshot with one byte more": _change(_faiss, lambda raw: raw + b"x"),
    "snapshot with a tail of zeros": _change(_faiss, lambda raw: _zeroed(raw, 0.7)),
    "snapshot with a flipped byte in the middle": _change(_faiss, lambda raw: _flipped(raw, 0.5)),
    "snapshot with a flipped byte in the head": _change(_faiss, lambda raw: _flipped(raw, 0.001)),
    "snapshot with flipped bytes": _change(_faiss, lambda raw: _flipped(raw, 0.1, 0.3, 0.6, 0.9, 1.0)),
    "snapshot is a folder": _a_folder_instead(_faiss),
    "snapshot is a link to nowhere": _a_link_to_nowhere(_faiss),
    "faiss file of another index": _swap_faiss,
    "snapshot of another index": _swap_snapshot,
    "everything derived of another index": _swap_all,
    "left-over files": _litter,
    "no text index": lambda path, _: shutil.rmtree(path / "lexical"),
    "empty text index": _lexical_emptied,
    "text index is a file": _lexical_a_file,
    "text index of another index": _swap_lexical,
    "text index with empty files": _each_segment(lambda each: each.write_bytes(b"")),
    "text index with halved files": _each_segment(_halved),
    "text index with files of zeros": _each_segment(lambda each: each.write_bytes(bytes(each.stat().st_size))),
    "text index with random files": _each_segment(
        lambda each: each.write_bytes(random.Random(2).randbytes(each.stat().st_size))
    ),
    **{f"text index with file {n} halved": _one_segment(n, _halved) for n in range(8)},
    **{f"text index without file {n}": _one_segment(n, remove) for n in range(8)},
    "nothing derived": _all_gone,
    "nothing but index.sqlite": _all_but_the_truth,
}  # fmt: skip


def damaged(tmp_path: Path, damage: Damage, metric: Any = "cosine", dimension: int = DIMENSION) -> tuple[Path, Model]:
    """An index with that damage, and what it holds; the index that lends files is of as many nodes."""
    path, other, model = tmp_path / "index", tmp_path / "other", Model()
    filled(path, model, metric=metric)
    # As many nodes with the same ids, so that only the vectors and words tell the two apart.
    lent = [Known(k.id, vector(7000 + n, dimension), k.document, "walnut", {}) for n, k in enumerate(some(200))]
    filled(other, Model(), lent, metric=metric)
    damage(path, other)
    return path, model


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_derived_is_made_anew_where_it_is_damaged(tmp_path: Path, name: str) -> None:
    path, model = damaged(tmp_path, DAMAGE[name])
    check_opened(path, model)


@pytest.mark.parametrize("name", ["faiss file of another index", "snapshot of another index"])
@pytest.mark.parametrize("dimension", [DIMENSION - 1, 2 * DIMENSION])
def test_a_snapshot_of_another_dimension_is_made_anew(tmp_path: Path, name: str, dimension: int) -> None:
    path, model = damaged(tmp_path, DAMAGE[name], dimension=dimension)
    check_opened(path, model)


@pytest.mark.parametrize("metric", METRICS[1:])
def test_a_snapshot_of_another_metric_is_made_anew(path: Path, metric: Any) -> None:
    model = Model()
    filled(path, model)
    check_opened(path, model, metric)
    check_opened(path, model)


@pytest.mark.parametrize("name", ["half a snapshot", "no snapshot", "no text index", "text index with empty files"])
def test_verify_says_what_is_damaged_and_repairs_it(tmp_path: Path, name: str) -> None:
    path, model = damaged(tmp_path, DAMAGE[name])
    store = FaissStore(path)
    findings = store.verify(repair=True)
    assert all(finding.what and finding.repaired for finding in findings)
    assert store.verify() == []
    check_store(store, model)
    store.close()


def test_verify_without_repair_changes_nothing_that_was_written(tmp_path: Path) -> None:
    path, model = damaged(tmp_path, DAMAGE["half a snapshot"])
    before = (path / "index.sqlite").read_bytes()
    store = FaissStore(path)
    assert not any(finding.repaired for finding in store.verify())
    store.close()
    assert (path / "index.sqlite").read_bytes() == before
    check_opened(path, model)


@pytest.mark.parametrize("reopen", [False, True], ids=["the writer goes on", "a reader looks on"])
def test_derived_files_that_vanish_under_an_open_store_are_no_error(path: Path, reopen: bool) -> None:
    model = Model()
    filled(path, model)
    store, reader = FaissStore(path), FaissStore(path)
    check_store(store, model)
    check_store(reader, model)
    for turn_number in range(4):
        for each in derived(path):
            remove(each)
        put(store, model, some(10, 1000 + 10 * turn_number, f"more {turn_number}"))
        store.delete_nodes([f"d/{turn_number}"])
        model.delete_nodes([f"d/{turn_number}"], None)
        if reopen:
            store.snapshot()
        check_store(reader, model)
        check_store(store, model)
    store.close()
    reader.close()
    check_opened(path, model)


# ---------------------------------------------------------------------------------- the truth itself


@pytest.mark.parametrize("found", ["0", "99", "-1", "banana", ""])
def test_a_format_that_is_not_this_ones_is_told_and_left_alone(path: Path, found: str) -> None:
    model = Model()
    filled(path, model, some(20))
    (own,) = in_sqlite(path, "SELECT value FROM meta WHERE key = 'format'")
    in_sqlite(path, "UPDATE meta SET value = ? WHERE key = 'format'", found)
    before = bytes_of(path)
    store = FaissStore(path)
    uses: list[Callable[[], Any]] = [
        lambda: store.query(ask(1)),
        lambda: store.get_nodes(),
        lambda: store.add([Known("new", vector(1)).node()]),
        lambda: store.delete("d"),
        store.clear,
        store.snapshot,
        lambda: store.verify(repair=True),
    ]
    expected = (
        f"{path / 'index.sqlite'} has format {found}; this version of rag-plugin reads format {own}: "
        "use the version that wrote it, or build a new index at another path"
    )
    assert [refused(use) for use in uses] == [expected] * len(uses)
    store.close()
    after = bytes_of(path)
    assert {name: after.get(name) for name in before if name != "writer.json"} == {
        name: raw for name, raw in before.items() if name != "writer.json"
    }
    in_sqlite(path, "UPDATE meta SET value = ? WHERE key = 'format'", own)
    check_opened(path, model)


def _unrelated(path: Path) -> None:
    remove(path)
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT)")
    connection.execute("INSERT INTO meta VALUES ('title', 'my recipes')")
    connection.execute("CREATE TABLE node (row INTEGER PRIMARY KEY, recipe TEXT)")
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda file: file.write_bytes(random.Random(3).randbytes(9000)), "file is not a database"),
        (lambda file: file.write_bytes(b"SQLite format 3\0" + random.Random(4).randbytes(9000)), None),
        (lambda file: file.write_bytes(file.read_bytes()[:5000]), None),
        (lambda file: file.write_bytes(file.read_bytes()[:100] + bytes(file.stat().st_size - 100)), None),
        (_unrelated, None),
    ],
    ids=["random bytes", "random bytes after the magic", "cut off", "zeros after the head", "unrelated"],
)
@pytest.mark.parametrize("was_open", [False, True], ids=["closed", "open"])
def test_a_truth_that_is_none_is_a_store_error_and_left_alone(
    path: Path, spoil: Callable[[Path], Any], reason: str | None, was_open: bool
) -> None:
    model = Model()
    filled(path, model)
    store, file = FaissStore(path), path / "index.sqlite"
    if was_open:
        check_store(store, model)
        store.close()
    spoil(file)
    before = file.read_bytes()
    for use in (
        lambda: store.query(ask(1)),
        lambda: store.add([Known("new", vector(1)).node()]),
        lambda: store.get_nodes(),
        lambda: len(store),
        lambda: store.delete("d"),
    ):
        message = refused(use)
        assert message is not None
        assert message.startswith(str(file))
        if reason:
            hint = "delete the directory; the next sync rebuilds it from the documents"
            assert message == f"{file} cannot be opened: {reason}; {hint}"
    store.close()
    assert file.read_bytes() == before
    assert not (path / "index.sqlite-wal").exists() or (path / "index.sqlite-wal").stat().st_size == 0


def test_a_page_of_the_truth_that_is_spoiled_is_never_answered_from(path: Path) -> None:
    # Either the answer does not need that page, or it is an error: nothing is made up, and verify finds it.
    model = Model()
    filled(path, model)
    file, refusals = path / "index.sqlite", 0
    whole = file.read_bytes()
    pages = len(whole) // 4096
    for page in range(1, pages, max(1, pages // 12)):
        raw = bytearray(whole)
        raw[page * 4096 : page * 4096 + 4096] = random.Random(page).randbytes(4096)
        file.write_bytes(bytes(raw))
        store, found = FaissStore(path), []
        message = refused(lambda store=store, found=found: found.append(contents(store)))
        store.close()
        if message is None:
            assert found[0] == model.shown()
        else:
            refusals += 1
            assert message.startswith(str(file))
    assert refusals
    file.write_bytes(whole)
    check_opened(path, model)


def test_a_write_waits_for_another_connection(store: FaissStore, path: Path) -> None:
    model = Model()
    put(store, model, some(5))
    holder = sqlite3.connect(path / "index.sqlite", check_same_thread=False, isolation_level=None)
    for seconds, write in ((1.0, lambda: put(store, model, some(5, 10))), (0.3, lambda: store.delete_nodes(["d/0"]))):
        holder.execute("BEGIN IMMEDIATE")
        release = threading.Timer(seconds, holder.execute, ("ROLLBACK",))
        release.start()
        write()
        assert not holder.in_transaction
        release.join()
    holder.close()
    model.delete_nodes(["d/0"], None)
    check_store(store, model)


def test_a_reader_does_not_wait_for_a_writer(store: FaissStore, path: Path) -> None:
    model = Model()
    put(store, model, some(50))
    holder = sqlite3.connect(path / "index.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    reader = FaissStore(path)
    check_store(reader, model)  # the lock is held all the time
    holder.execute("ROLLBACK")
    holder.close()
    reader.close()


# ---------------------------------------------------------------------------------- two writers


def _add_each(path: Path, document: str, count: int) -> int:
    store = FaissStore(path)
    for known in some(count, 0, document):
        store.add([known.node()])
    store.close()
    return count


def test_two_processes_that_write_at_once_wait_for_each_other(path: Path) -> None:
    model = Model()
    both = [threading.Thread(target=outcome, args=(_add_each, path, name, 40)) for name in ("one", "two")]
    for each in both:
        each.start()
    for each in both:
        each.join()
    for name in ("one", "two"):
        model.add(some(40, 0, name))
    check_opened(path, model)


def _add_one(path: Path, pipe: Any) -> None:
    store = FaissStore(path)
    pipe.send("begun")
    store.add([Known("theirs", vector(1), text="osprey").node()])
    pipe.send("done")
    time.sleep(60)


def test_a_second_writer_is_told_which_process_writes_and_takes_over_when_that_is_killed(
    store: FaissStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model()
    put(store, model, some(20))
    monkeypatch.setattr("rag_plugin.faiss_store.locks.writer_lock.LOCK_SECONDS", 0.3)
    # The other process has the lock and waits for SQLite, which this connection holds.
    holder = sqlite3.connect(path / "index.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    process, heard = start(_add_one, path)
    try:
        heard.wait(lambda item: item == "begun")
        deadline = time.monotonic() + 20
        while json.loads((path / "writer.json").read_text() or "{}").get("process") != process.pid:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        since = json.loads((path / "writer.json").read_text())["since"]
        for write in (lambda: store.add([Known("mine", vector(2)).node()]), lambda: store.delete("d"), store.clear):
            with pytest.raises(IndexLocked) as caught:
                write()
            assert str(caught.value) == (
                f"{path} is being written to by process {process.pid} on {socket.gethostname()} since {since}"
            )
        check_store(store, model)
    finally:
        process.kill()
        process.join()
    holder.execute("ROLLBACK")
    holder.close()
    put(store, model, some(5, 900, "mine"))
    check_store(store, model)


# ---------------------------------------------------------------------------------- the clock


def test_a_clock_that_goes_backwards_changes_no_answer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [4_000_000_000.0]

    def backwards() -> float:
        now[0] -= 3600
        return now[0]

    model = Model()
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", backwards)
        patch.setattr(time, "time_ns", lambda: int(backwards() * 1e9))
        store, reader = FaissStore(path), FaissStore(path)
        for number in range(6):
            put(store, model, some(20, number * 20, f"d{number}"))
            store.snapshot()
            check_store(reader, model)
        store.close()
        reader.close()
        check_opened(path, model)
    check_opened(path, model)


@pytest.mark.parametrize("times", [[2_000_000_000], [4_000_000_000, 1, 2_000_000_000]], ids=["the same", "odd"])
def test_the_times_of_files_mean_nothing(path: Path, times: list[int]) -> None:
    store, reader, model = FaissStore(path), FaissStore(path), Model()
    for number in range(8):
        if number % 2:
            store.delete_nodes([f"d{number - 1}/{20 * (number - 1)}"])
            model.delete_nodes([f"d{number - 1}/{20 * (number - 1)}"], None)
        else:
            put(store, model, some(20, number * 20, f"d{number}"))
        store.snapshot()
        if number % 3 == 2:
            store.close()
            store = FaissStore(path)
        for each in path.rglob("*"):
            os.utime(each, (times[number % len(times)],) * 2)
        check_store(reader, model)
        check_store(store, model)
    store.close()
    reader.close()
    check_opened(path, model)


# ---------------------------------------------------------------------------------- odd input

ODD_IDS = {
    "empty": "",
    "space": " ",
    "10 kB": "x" * 10_240,
    "quotes": 'it\'s "quoted" `so`',
    "NUL": "before\0after",
    "emoji": "👩‍👩‍👧‍👦",
    "newlines": "one\ntwo\r\nthree\t",
    "SQL": "x'); DROP TABLE node; --",
    "wildcards": "%_*?",
    "composed": "é",
    "decomposed": "e\u0301",
    "right to left": "‮עברית‬",
    "control": "\x01\x1f\x7f",
    "path": "../../etc/passwd",
    "not a character": "\uffff\U0010ffff",
}


def nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def test_ids_of_any_characters_are_kept_apart_and_found(store: FaissStore, path: Path) -> None:
    model = Model()
    for number, odd in enumerate(ODD_IDS.values()):
        put(store, model, [Known(odd, vector(number), f"of {odd}", f"zephyr {number}", {"k": odd})])
    check_store(store, model)
    store.close()
    for odd in ODD_IDS.values():
        only = {odd: model.nodes[odd]}
        assert [node.node_id for node in store.get_nodes([odd])] == [odd]
        check_nearest(store.query(ask(1, 50, node_ids=[odd])), only, vector(1), 50, "cosine")
        check_nearest(store.query(ask(1, 50, doc_ids=[f"of {odd}"])), only, vector(1), 50, "cosine")
        # Filters compare names in one normal form.
        equal = {name: known for name, known in model.nodes.items() if nfc(name) == nfc(odd)}
        check_nearest(store.query(ask(1, 50, filters=where("k", odd))), equal, vector(1), 50, "cosine")
        check_words(store.query(ask_words("zephyr", 50, node_ids=[odd])), only, "zephyr", 50)
    for number, odd in enumerate(ODD_IDS.values()):
        if number % 2:
            store.delete(f"of {odd}")
        else:
            store.delete_nodes([odd])
        model.delete_nodes([odd], None)
        check_store(store, model)
    assert len(store) == 0


HALF = "cut \ud83d off"


def test_half_a_surrogate_pair_is_refused_where_it_would_be_kept(store: FaissStore) -> None:
    put(store, model := Model(), some(5))
    for bad in (
        Known(HALF, vector(1)),
        Known("n", vector(1), document=HALF),
        Known("n", vector(1), text=HALF),
        Known("n", vector(1), metadata={HALF: 1}),
        Known("n", vector(1), metadata={"k": {"deep": [HALF]}}),
    ):
        assert refused(lambda bad=bad: store.add([bad.node()])) == (
            f"node {bad.id!r} contains a lone surrogate, which UTF-8 cannot encode"
        )
    check_store(store, model)


def test_half_a_surrogate_pair_that_is_asked_for_is_not_found(store: FaissStore) -> None:
    put(store, model := Model(), some(5))
    assert store.get_nodes([HALF]) == []
    assert store.get_nodes(filters=where("number", HALF)) == []
    assert store.get_nodes(filters=where(HALF, 1)) == []
    assert len(store.get_nodes(filters=where("number", HALF, FilterOperator.NE))) == 5
    assert store.query(ask(1, 9, node_ids=[HALF])).ids == []
    assert store.query(ask(1, 9, doc_ids=[HALF])).ids == []
    assert store.query(ask_words(f"{HALF} nowhere", 9)).ids == []
    assert store.query(ask_words(f"\ud83d {RARE_WORDS[0]}", 9)).ids == ["d/0"]
    store.delete(HALF)
    store.delete_nodes([HALF])
    check_store(store, model)


@pytest.mark.parametrize("metric", METRICS)
def test_vectors_at_the_edges_of_float32_are_kept_and_scored(path: Path, metric: Any) -> None:
    store, model = FaissStore(path, metric=metric), Model()
    edges = {"zeros": 0.0, "negative zeros": -0.0, "tiny": 1e-30, "small": 1e-10, "large": 1e15, "ones": 1.0}
    put(store, model, [Known(name, (value,) * DIMENSION, text="quokka") for name, value in edges.items()])
    for question in ((0.0,) * DIMENSION, (1.0,) * DIMENSION, (1.0, -1.0) * (DIMENSION // 2)):
        check_nearest(store.query(ask(question, 9)), model.nodes, question, 9, metric)
    check_store(store, model, metric)
    store.close()
    check_opened(path, model, metric)


@pytest.mark.parametrize("metric", METRICS)
def test_numbers_whose_squares_are_beyond_float32_are_refused(path: Path, metric: Any) -> None:
    # Their squares are beyond float32, in which FAISS computes.
    store = FaissStore(path, metric=metric)
    nodes = {name: Known(name, (value,) * DIMENSION) for name, value in (("huge", 3e38), ("less", -2e30), ("one", 1.0))}
    too_large = "has a vector with numbers so large that its length overflows float32"
    assert refused(lambda: store.add([known.node() for known in nodes.values()])) == f"node 'huge' {too_large}"
    put(store, Model(), [nodes["one"]])
    assert refused(lambda: store.query(ask((3e38,) * DIMENSION, 9))) == f"the query {too_large}"
    found = store.query(ask((1.0,) * DIMENSION, 9))
    assert found.ids == ["one"]
    assert all(math.isfinite(score) for score in found.similarities or [])
    store.close()


@pytest.mark.parametrize(
    ("embedding", "reason"),
    [
        ([math.nan] + [1.0] * 5, "has a vector with NaN or infinity in it"),
        ([1.0] * 5 + [math.inf], "has a vector with NaN or infinity in it"),
        ([1.0] * 5 + [-math.inf], "has a vector with NaN or infinity in it"),
        (
            [1.0] * 7,
            "has a vector of dimension 7, and this index has dimension 6: the vectors are from another encoder",
        ),
        (None, "has no vector"),
    ],
    ids=["NaN", "infinity", "minus infinity", "too long", "none"],
)
def test_a_bad_vector_among_many_is_named_and_none_of_them_is_written(
    store: FaissStore, embedding: Any, reason: str
) -> None:
    put(store, model := Model(), some(20))
    bad = TextNode(id_="the bad one", text="quokka")
    bad.embedding = embedding
    many = [known.node() for known in some(500, 1000)]
    assert refused(lambda: store.add([*many[:250], bad, *many[250:]])) == f"node 'the bad one' {reason}"
    check_store(store, model)


def test_vectors_of_two_lengths_in_the_first_call_are_refused(store: FaissStore) -> None:
    nodes = [Known("six", vector(1)).node(), Known("five", vector(2, 5)).node()]
    assert refused(lambda: store.add(nodes)) == (
        "node 'five' has a vector of dimension 5, and this index has dimension 6: the vectors are from another encoder"
    )
    check_store(store, Model())


def test_no_text_and_much_text_are_kept_and_found(store: FaissStore, path: Path) -> None:
    model = Model()
    long = ("lorem ipsum dolor " * 60_000)[: 1024 * 1024 - 8] + " walnut"
    texts = {"none": "", "spaces": " \n\t ", "signs": "?! ... --- ()", "long": long}
    put(store, model, [Known(name, vector(number), text=text) for number, (name, text) in enumerate(texts.items())])
    check_store(store, model)
    store.close()
    check_opened(path, model)


MODES = {
    "default": lambda top_k: ask(1, top_k),
    "text": lambda top_k: ask_words("quokka", top_k),
    "hybrid": lambda top_k: ask(1, top_k, VectorStoreQueryMode.HYBRID, query_str="quokka"),
    "diverse": lambda top_k: ask(1, top_k, VectorStoreQueryMode.MMR),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("top_k", [0, -1, -(2**63)])
def test_fewer_than_one_hit_is_refused_in_every_mode(store: FaissStore, mode: str, top_k: int) -> None:
    put(store, Model(), some(20))
    query = MODES[mode](top_k)
    query.sparse_top_k = None
    assert refused(lambda: store.query(query)) == f"similarity_top_k has to be 1 or more, not {top_k}"


@pytest.mark.parametrize("setting", ["sparse_top_k", "hybrid_top_k"])
def test_fewer_than_one_hit_of_a_leg_is_refused(store: FaissStore, setting: str) -> None:
    put(store, Model(), some(20))
    query = MODES["hybrid"](3)
    setattr(query, setting, 0)
    assert refused(lambda: store.query(query)) == f"{setting} has to be 1 or more, not 0"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("top_k", [21, 10**6, 2**31, 2**63])
def test_more_hits_than_there_are_gives_all_in_every_mode(path: Path, mode: str, top_k: int) -> None:
    # In a process of its own: room for so many is more than there is, and asking for it may be the end.
    model = Model()
    filled(path, model, some(20))
    expected = {name for name, known in model.nodes.items() if mode != "text" or "quokka" in known.text}
    assert expected
    assert outcome(_ids_of, path, mode, top_k) == sorted(expected)


def _ids_of(path: Path, mode: str, top_k: int) -> list[str]:
    store = FaissStore(path)
    found = store.query(MODES[mode](top_k))
    store.close()
    return sorted(found.ids or [])


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.text(st.characters(exclude_categories=["L", "N", "Cs", "M"]), max_size=12),
        st.sampled_from(
            [
                '"',
                '""',
                "(",
                ")",
                "((",
                ":",
                "title:",
                "+",
                "-",
                "^2",
                "~3",
                "[a TO",
                "{",
                "\\",
                "/x/",
                "*",
                "?",
                "AND",
                "OR",
                "NOT",
                "IN [",
                "id:>",
                "'",
                "`",
                "\0",
                "\n",
                "NEAR/3",
                "-",
                "!",
                "text:",
            ]  # fmt: skip
        ),
    )
)
def test_signs_in_a_question_are_not_taken_for_a_language(store_of_words: tuple[FaissStore, Model], junk: str) -> None:
    store, model = store_of_words
    for words in (f"{junk} quokka", f"quokka {junk}", f"{junk} quokka {junk} zephyr"):
        # What the signs spell is in no text, so it adds nothing and takes nothing away.
        wanted = " ".join(word for word in ("quokka", "zephyr") if word in words)
        check_words(store.query(ask_words(words, 500)), model.nodes, wanted, 500)


@pytest.fixture(scope="module")
def store_of_words(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FaissStore, Model]]:
    store, model = FaissStore(tmp_path_factory.mktemp("words") / "index"), Model()
    # No numbers in the texts: some of the signs have one.
    put(store, model, [Known(known.id, known.vector, text=f"note {known.text.split()[-1]}") for known in some(60)])
    yield store, model
    store.close()


@pytest.mark.parametrize("words", ["", "   ", "?!", "the and of", None], ids=["empty", "spaces", "signs", "stop", "no"])
def test_a_question_without_words_finds_nothing_or_is_told(
    store_of_words: tuple[FaissStore, Model], words: str | None
) -> None:
    store, _ = store_of_words
    query = ask_words("x", 5)
    query.query_str = words
    if words is None:
        message = refused(lambda: store.query(query))
        assert message is not None
        assert "query_str" in message or "text" in message
    else:
        assert store.query(query).ids == []


def test_a_filter_on_a_million_characters_is_answered(store: FaissStore) -> None:
    put(store, model := Model(), some(10))
    assert store.get_nodes(filters=where("number", "x" * 10**6)) == []
    many = MetadataFilters(filters=where("number", list(range(5000)), FilterOperator.IN).filters * 50)
    assert len(store.get_nodes(filters=many)) == 10
    deep = where("number", 3)
    for _ in range(30):
        deep = MetadataFilters(filters=[deep])
    assert [node.node_id for node in store.get_nodes(filters=deep)] == ["d/3"]
    check_store(store, model)


@pytest.mark.slow
def test_a_document_of_100_000_nodes_comes_and_goes(path: Path) -> None:
    store, count = FaissStore(path), 100_000
    vectors = np.random.default_rng(5).normal(size=(count, DIMENSION)).astype(np.float32)
    nodes = []
    for number in range(count):
        node = Known(f"n{number}", (), "one document", f"note {number}" + " osprey" * (number % 50_000 == 7)).node()
        node.embedding = vectors[number].tolist()
        nodes.append(node)
    store.add(nodes)
    assert len(store) == count
    for number in (0, 77_777, count - 1):
        found = store.query(ask(vectors[number].tolist(), 1))
        assert (found.ids, found.similarities) == ([f"n{number}"], [pytest.approx(1.0)])
    assert sorted(store.query(ask_words("osprey", 10)).ids or []) == ["n50007", "n7"]
    store.close()
    store = FaissStore(path)
    found = store.query(ask(vectors[5].tolist(), count, doc_ids=["one document"]))
    assert len(set(found.ids or [])) == count
    store.delete_nodes([f"n{number}" for number in range(0, count, 2)])
    assert len(store) == count // 2
    store.delete("one document")
    check_store(store, Model())
    assert store.verify() == []
    store.close()


def test_an_error_says_more_than_what_python_says(path: Path) -> None:
    # Every StoreError here has a text of its own; none is the bare text of another library's exception.
    path.mkdir()
    (path / "index.sqlite").mkdir()
    store = FaissStore(path)
    with pytest.raises(StoreError) as caught:
        store.query(ask(1))
    assert str(caught.value) == f"{path / 'index.sqlite'} cannot be opened: unable to open database file"

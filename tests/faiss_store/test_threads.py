"""Many threads on one store, and processes that read while one writes: every answer is one that was true.

The short form; scripts/faults runs the same functions for longer.
"""

from __future__ import annotations

import itertools
import logging
import random
import threading
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rag_plugin.faiss_store import FaissStore
from tests.faiss_store.store_model import (
    NEAR,
    Known,
    Model,
    ask,
    ask_words,
    check_store,
    contents,
    outcome,
    scores,
    shown,
    start,
    vector,
)
from tests.processes import PROCESSES

# ---------------------------------------------------------------------------------- threads of one process


@dataclass
class Version:
    """One node as it was written, and when: between `began` and `there` it may be seen, from then on it must be."""

    known: Known
    began: float
    there: float = float("inf")
    leaving: float = float("inf")
    gone: float = float("inf")

    def may_be_seen(self, since: float, until: float) -> bool:
        return self.began <= until and self.gone >= since

    def must_be_seen(self, since: float, until: float) -> bool:
        return self.there <= since and self.leaving >= until


@dataclass
class History:
    """Every version of every node. A thread writes only nodes of its own, so that their order is known."""

    versions: dict[str, list[Version]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, added: list[Known], removed: list[str]) -> None:
        now = time.monotonic()
        with self.lock:
            for name in [*(known.id for known in added), *removed]:
                for version in self.versions.get(name, ())[-1:]:
                    version.leaving = min(version.leaving, now)
            for known in added:
                self.versions.setdefault(known.id, []).append(Version(known, now))

    def end(self, added: list[Known], removed: list[str]) -> None:
        now = time.monotonic()
        with self.lock:
            for known in added:
                mine = self.versions[known.id]
                mine[-1].there = now
                for version in mine[-2:-1]:
                    version.gone = min(version.gone, now)
            for name in removed:
                for version in self.versions.get(name, ())[-1:]:
                    version.gone = min(version.gone, now)

    def at(self, since: float, until: float) -> tuple[dict[str, list[Known]], dict[str, Known]]:
        """What may have been seen in that time, and what must have been."""
        with self.lock:
            mine = {name: list(versions) for name, versions in self.versions.items()}
            may = {
                name: [version.known for version in versions if version.may_be_seen(since, until)]
                for name, versions in mine.items()
            }
            must = {
                name: version.known
                for name, versions in mine.items()
                for version in versions
                if version.must_be_seen(since, until)
            }
        return may, must


WORD = "osprey"


@dataclass
class Threads:
    """Eight threads that add, replace, delete and query at once, each answer checked against the history."""

    path: Path
    seconds: float
    count: int = 8
    history: History = field(default_factory=History)
    problems: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)

    def run(self) -> None:
        self.store = FaissStore(self.path)
        fixed = [Known(f"fixed/{n}", vector(n), "fixed", f"{WORD} fixed {n}", {"serial": n}) for n in range(20)]
        self.history.begin(fixed, [])
        self.store.add([known.node() for known in fixed])
        self.history.end(fixed, [])
        self.until = time.monotonic() + self.seconds
        threads = [threading.Thread(target=self._work, args=(number,)) for number in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self, thread: int) -> None:
        chance = random.Random(thread)
        mine: dict[str, Known] = {}
        serials = itertools.count(1 + 1_000_000 * thread)
        while time.monotonic() < self.until and not self.problems:
            what = chance.choice(["add", "add", "replace", "delete", "delete nodes", "near", "near", "words", "get"])
            try:
                getattr(self, "_" + what.replace(" ", "_"))(thread, chance, mine, serials)
                self.done[what] += 1
            except Exception:
                self.problems.append(f"thread {thread}, {what}:\n{traceback.format_exc()}")

    def _made(self, name: str, serial: int) -> Known:
        document = name.rsplit("/", 1)[0]
        return Known(name, vector(serial), document, f"{WORD} {name} {serial}", {"serial": serial, "of": name})

    def _write(self, mine: dict[str, Known], added: list[Known], removed: list[str], write: Any) -> None:
        self.history.begin(added, removed)
        write()
        self.history.end(added, removed)
        for name in removed:
            del mine[name]
        mine.update((known.id, known) for known in added)

    def _add(self, thread: int, chance: random.Random, mine: dict[str, Known], serials: Any) -> None:
        document = f"{thread}/{chance.randrange(3)}"
        names = {f"{document}/{chance.randrange(12)}" for _ in range(chance.randrange(1, 6))}
        added = [self._made(name, next(serials)) for name in sorted(names)]
        self._write(mine, added, [], lambda: self.store.add([known.node() for known in added]))

    def _replace(self, thread: int, chance: random.Random, mine: dict[str, Known], serials: Any) -> None:
        added = [self._made(name, next(serials)) for name in sorted(mine)[:8]]
        self._write(mine, added, [], lambda: self.store.add([known.node() for known in added]))

    def _delete(self, thread: int, chance: random.Random, mine: dict[str, Known], serials: Any) -> None:
        document = f"{thread}/{chance.randrange(3)}"
        removed = [name for name, known in mine.items() if known.document == document]
        self._write(mine, [], removed, lambda: self.store.delete(document))

    def _delete_nodes(self, thread: int, chance: random.Random, mine: dict[str, Known], serials: Any) -> None:
        removed = chance.sample(sorted(mine), min(3, len(mine)))
        self._write(mine, [], removed, lambda: self.store.delete_nodes([*removed, "never there"]))

    def _seen(self, nodes: Any, may: dict[str, list[Known]]) -> dict[str, Known]:
        """The versions that came back, each one that was there."""
        found = {}
        for node in nodes:
            candidates = [known for known in may.get(node.node_id, ()) if known.shown() == shown(node)]
            assert candidates, f"{node.node_id} with {node.get_content()!r} was not there at the time"
            assert node.node_id not in found, f"{node.node_id} twice in one answer"
            found[node.node_id] = candidates[-1]
        return found

    def _near(self, thread: int, chance: random.Random, mine: dict[str, Known], serials: Any) -> None:
        question, top_k = vector(chance.randrange(10**6)), chance.choice([1, 5, 1000])
        since = time.monotonic()
        result = self.store.query(ask(question, top_k))
        may, must = self.history.at(since, time.monotonic())
        found = self._seen(result.nodes, may)
        expected = scores("cosine", found, question)
        assert result.ids == list(found)
        assert result.similarities == pytest.approx([expected[name] for name in found], abs=NEAR)
        assert result.similarities == sorted(result.similarities or [], reverse=True)
        # What was there all the time and is nearer than the last one has to be in the answer.
        least = min(result.similarities or [1]) + 2 * NEAR if len(found) == top_k else float("-inf")
        missed = [name for name, score in scores("cosine", must, question).items() if score > least]
        assert set(missed) <= set(found), f"missing: {set(missed) - set(found)}"

    def _words(self, thread: int, chance: random.Random, mine: dict[str, Known], serials: Any) -> None:
        since = time.monotonic()
        result = self.store.query(ask_words(WORD, 10_000))
        may, must = self.history.at(since, time.monotonic())
        found = self._seen(result.nodes, may)
        assert set(must) <= set(found), f"missing: {set(must) - set(found)}"

    def _get(self, thread: int, chance: random.Random, mine: dict[str, Known], serials: Any) -> None:
        since = time.monotonic()
        nodes = self.store.get_nodes()
        may, must = self.history.at(since, time.monotonic())
        found = self._seen(nodes, may)
        assert set(must) <= set(found), f"missing: {set(must) - set(found)}"
        # A thread sees its own writes, at once and in every leg.
        own = {name: known.shown() for name, known in found.items() if name.startswith(f"{thread}/")}
        assert own == {name: known.shown() for name, known in mine.items()}

    def check(self) -> None:
        """Assert that nothing went wrong, that all was done, and that the index is right in the end."""
        assert self.problems == [], self.problems[0]
        assert min(self.done[what] for what in ("add", "replace", "delete", "delete nodes", "near", "words", "get")) > 0
        _, must = self.history.at(time.monotonic(), time.monotonic())
        check_store(self.store, Model(must))
        self.store.close()
        store = FaissStore(self.path)
        check_store(store, Model(must))
        assert store.verify() == []
        store.close()


@pytest.mark.slow
def test_eight_threads_only_ever_see_what_was_there(tmp_path: Path) -> None:
    threads = Threads(tmp_path / "index", 3)
    threads.run()
    threads.check()


def test_a_store_that_is_closed_in_one_thread_goes_on_in_the_others(tmp_path: Path) -> None:
    store, model, problems = FaissStore(tmp_path / "index"), Model(), []
    model.add(Known(f"n{n}", vector(n), "d", f"{WORD} {n}") for n in range(50))
    store.add([known.node() for known in model.nodes.values()])
    until, asked = time.monotonic() + 0.7, Counter()

    def read() -> None:
        while time.monotonic() < until:
            try:
                assert len(store.query(ask(3, 100)).ids or []) == 50
                assert len(store.query(ask_words(WORD, 100)).ids or []) == 50
                asked["answers"] += 1
            except Exception:
                problems.append(traceback.format_exc())

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    while time.monotonic() < until:
        store.close()
        time.sleep(0.005)
    for thread in threads:
        thread.join()
    assert problems == []
    assert asked["answers"] > 3
    check_store(store, model)
    store.close()


# ---------------------------------------------------------------------------------- readers in other processes

NODES = 20


def _generation(number: int) -> list[Known]:
    """All nodes of the index in a generation; one commit replaces them all."""
    return [
        Known(f"n{n}", vector(1000 * number + n), f"d{n % 4}", f"{WORD} of {number}", {"generation": number})
        for n in range(NODES)
    ]


class Warned(logging.Handler):
    """Keeps what the package warns of: in a healthy index nothing is ever thrown away and made anew."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []
        logging.getLogger("rag_plugin").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def read_for(path: Path, seconds: float, committed: Any, pipe: Any) -> None:
    """Ask again and again in a process of its own, and tell what was seen that cannot be."""
    warned = Warned()
    store, seen, last, problems = FaissStore(path), Counter(), 0, []
    until, generations = time.monotonic() + seconds, set()
    pipe.send("begun")
    while time.monotonic() < until and not problems:
        at_least = committed.value
        question = vector(seen["answers"])
        what = ("near", "words", "get")[seen["answers"] % 3]
        scored: list[float] | None = None
        try:
            if what == "near":
                result = store.query(ask(question, 100))
                nodes, scored = list(result.nodes or []), list(result.similarities or [])
            elif what == "words":
                nodes = list(store.query(ask_words(WORD, 100)).nodes or [])
            else:
                nodes = store.get_nodes()
        except Exception:
            problems.append(f"{what}: {traceback.format_exc()}")
            break
        found = {node.metadata["generation"] for node in nodes}
        if len(found) != 1 or len(nodes) != NODES:
            problems.append(f"{what}: {len(nodes)} nodes of generations {sorted(found)} in one answer")
            break
        (number,) = found
        expected = {known.id: known for known in _generation(number)}
        if {node.node_id: shown(node) for node in nodes} != {name: known.shown() for name, known in expected.items()}:
            problems.append(f"{what}: generation {number} is not as it was written")
        if scored is not None:
            right = scores("cosine", expected, question)
            if [right[node.node_id] for node in nodes] != pytest.approx(scored, abs=NEAR):
                problems.append(f"{what}: scores of vectors of another generation than {number}")
        if number < last:
            problems.append(f"{what}: generation {number} after {last}")
        if number < at_least:
            problems.append(f"{what}: generation {number} when {at_least} was committed")
        last = number
        generations.add(number)
        seen["answers"] += 1
        if seen["answers"] % 50 == 0:  # opening reads files that the writer is just renewing
            store.close()
            store = FaissStore(path)
    store.close()
    pipe.send({"answers": seen["answers"], "generations": len(generations), "problems": problems + warned.messages})


def write_for(path: Path, seconds: float, committed: Any) -> int:
    """Write generation after generation; how many."""
    store, number, chance = FaissStore(path), committed.value, random.Random(1)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        number += 1
        store.add([known.node() for known in _generation(number)])
        committed.value = number
        if number % 7 == 0:
            store.snapshot()
        if number % 23 == 0:
            store.close()
            store = FaissStore(path)
        time.sleep(chance.random() * 0.01)
    store.close()
    return number


@dataclass
class Readers:
    """Processes that read while this one writes, and what they saw."""

    path: Path
    seconds: float
    count: int = 4
    generations: int = 0
    reports: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def run(self) -> None:
        committed = PROCESSES.Value("q", 0)
        store = FaissStore(self.path)
        store.add([known.node() for known in _generation(0)])
        store.close()
        readers = [start(read_for, self.path, self.seconds, committed) for _ in range(self.count)]
        for _, heard in readers:
            heard.wait(lambda item: item == "begun")
        warned = Warned()
        self.generations = write_for(self.path, self.seconds, committed)
        logging.getLogger("rag_plugin").removeHandler(warned)
        self.problems = warned.messages
        for process, heard in readers:
            self.reports.append(heard.wait(lambda item: isinstance(item, dict)))
            process.join(10)

    def check(self) -> None:
        """Assert that each reader saw many generations, each whole, and never an older one after a newer."""
        problems = self.problems + [problem for report in self.reports for problem in report["problems"]]
        assert problems == [], problems[0]
        assert self.generations > 4
        assert all(report["generations"] > 1 for report in self.reports), self.reports
        model = Model()
        model.add(_generation(self.generations))
        store = FaissStore(self.path)
        check_store(store, model)
        store.close()


@pytest.mark.slow
def test_four_processes_that_read_see_whole_commits_in_their_order(tmp_path: Path) -> None:
    readers = Readers(tmp_path / "index", 2)
    readers.run()
    readers.check()


def _forked_answer(path: Path) -> dict[str, Any]:
    store = FaissStore(path)
    found = contents(store)
    store.add([Known("child", vector(77), "child", WORD).node()])
    store.close()
    return found


def test_a_process_that_opens_an_index_beside_an_open_one_writes_for_both(tmp_path: Path) -> None:
    store, model = FaissStore(tmp_path / "index"), Model()
    model.add(Known(f"n{n}", vector(n), "d", f"{WORD} {n}") for n in range(20))
    store.add([known.node() for known in model.nodes.values()])
    check_store(store, model)
    assert outcome(_forked_answer, store.path) == model.shown()
    model.add([Known("child", vector(77), "child", WORD)])
    check_store(store, model)
    store.close()

"""SIGKILL at random moments: what was committed is there, what was not is not, and FAISS agrees with SQLite."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tqdm import tqdm

from rag_plugin.config import load_config
from rag_plugin.engine import build_engine
from rag_plugin.errors import IndexMismatch, IndexNotBuilt
from rag_plugin.faiss_store import FaissStore
from rag_plugin.protocols import DocumentRecord
from rag_plugin.sync import SyncReport, sync
from tests.faiss_store.nodes import agrees, ask, make, vector
from tests.fakes import Hashes
from tests.processes import PROCESSES

KILLS = int(os.environ.get("RAG_PLUGIN_KILLS", "25"))
"""How often each writer is killed; set it to some hundreds to look closer."""

Model = dict[str, tuple["str | None", int, str]]


# ---------------------------------------------------------------------------------- a writer that is killed


def _turn(number: int) -> tuple[str, Any]:
    """What the writer does in a turn: it follows from the turn's number, here and in the other process."""
    chance = random.Random(number)
    document = f"d{chance.randrange(8)}"
    nodes = [(f"{document}/{chance.randrange(60)}", chance.randrange(10**6)) for _ in range(chance.randrange(1, 40))]
    return chance.choice(["add", "add", "replace", "replace", "delete", "delete nodes"]), (document, dict(nodes))


def _do(store: FaissStore, generation: int, number: int) -> None:
    what, (document, nodes) = _turn(number)
    made = [make(name, seed, document, text=f"{name} of turn {number}") for name, seed in nodes.items()]
    if what == "add":
        store.add(made)
    elif what == "replace":
        store.commit(generation, [(DocumentRecord(document, str(number), None, ""), made)])
    elif what == "delete":
        store.delete(document)
    else:
        store.delete_nodes(list(nodes))


def _after(model: Model, number: int) -> Model:
    """What the index holds after a turn, if it held `model` before."""
    what, (document, nodes) = _turn(number)
    if what == "delete nodes":
        return {name: known for name, known in model.items() if name not in nodes}
    if what != "add":
        model = {name: known for name, known in model.items() if known[0] != document}
    if what != "delete":
        model = {**model, **{name: (document, seed, f"{name} of turn {number}") for name, seed in nodes.items()}}
    return model


def _write_for_ever(path: Path, number: int, report: Any) -> None:
    store = FaissStore(path)
    store.add([])
    generation = store.live_generation()
    assert generation is not None
    report.send(number - 1)
    while True:
        _do(store, generation, number)
        report.send(number)
        number += 1


def _killed(target: Callable[..., None], *args: Any, after: Callable[[Any], None]) -> list[Any]:
    """Run `target(*args, pipe)` in another process, kill it when `after(pipe)` returns; what it sent."""
    here, there = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=target, args=(*args, there))
    process.start()
    there.close()
    sent = _Noting(here)
    after(sent)
    process.kill()
    process.join(60)
    sent.rest()
    return sent.items


class _Noting:
    """The reading end of a pipe that remembers what came."""

    def __init__(self, pipe: Any) -> None:
        self.pipe, self.items = pipe, []

    def wait(self, count: int = 1) -> None:
        while len(self.items) < count:
            assert self.pipe.poll(60), "the other process says nothing"
            self.items.append(self.pipe.recv())

    def rest(self) -> None:
        try:
            while self.pipe.poll(0):
                self.items.append(self.pipe.recv())
        except EOFError:
            pass


def _contents(store: FaissStore) -> dict[str, tuple[str | None, str]]:
    return {node.node_id: (node.ref_doc_id, node.get_content()) for node in store.get_nodes()}


def _shown(model: Model) -> dict[str, tuple[str | None, str]]:
    return {name: (document, text) for name, (document, _, text) in model.items()}


def test_a_killed_writer_leaves_exactly_what_it_committed(tmp_path: Path) -> None:
    path, chance = tmp_path / "index", random.Random(1)
    model: Model = {}
    done = in_flight = 0
    for kill in range(KILLS):

        def soon(pipe: _Noting) -> None:
            pipe.wait()
            time.sleep(chance.random() * 0.12)

        last = _killed(_write_for_ever, path, done + 1, after=soon)[-1]
        while done < last:
            done += 1
            model = _after(model, done)
        store = FaissStore(path)
        found = _contents(store)
        if found != _shown(model):  # the commit in flight was made, and its report was not
            done += 1
            in_flight += 1
            model = _after(model, done)
        assert found == _shown(model), f"after kill {kill}, turn {done}"
        for question in range(5):
            given = {name: vector(seed) for name, (_, seed, _) in model.items()}
            agrees(store.query(ask(question, top_k=40)), given, vector(question), 40, "cosine")
        assert (store.client.ntotal if store.client else 0) == len(model)
        store.close()
    assert done > KILLS
    print(f"{KILLS} kills, {done} commits, {in_flight} in flight when killed")  # noqa: T201


def test_a_writer_killed_while_it_makes_the_index_leaves_one_that_opens(tmp_path: Path) -> None:
    chance = random.Random(2)
    for kill in range(KILLS):
        path = tmp_path / str(kill)

        def at_once(pipe: _Noting, path: Path = path) -> None:
            deadline = time.monotonic() + 60
            while not path.exists() and time.monotonic() < deadline:
                time.sleep(0.0005)
            time.sleep(chance.random() * 0.03)

        sent = _killed(_write_for_ever, path, 1, after=at_once)
        store = FaissStore(path)
        assert len(store) == 0 or sent
        assert store.is_first_sync_unfinished() is False
        store.add([make("after", 5)])
        assert "after" in (store.query(ask(5, top_k=1)).ids or [])
        store.close()


# ---------------------------------------------------------------------------------- a sync that is killed


DOCUMENTS = 200


@pytest.fixture
def corpus(tmp_path: Path) -> dict[str, Any]:
    """A config over 200 documents of two nodes each, committed sixteen nodes at a time."""
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(DOCUMENTS):
        (folder / f"{number:03}.txt").write_text(f"first of {number} " * 12 + "\n\n\n" + f"second of {number} " * 12)
    return {
        "reader": {"type": "directory", "path": str(folder)},
        "chunker": {"type": "sentence", "chunk_size": 80, "chunk_overlap": 0},
        "store": {"type": "faiss", "path": str(tmp_path / "index")},
        "sync": {"batch_size": 16, "on_change": "resync"},
    }


def _sync(corpus: dict[str, Any], encoder: Hashes) -> SyncReport:
    config = load_config(corpus, provided=("encoder",))
    return sync(config.assemble({"encoder": encoder}), config.sync)


def _sync_there(corpus: dict[str, Any], salt: int, pipe: Any) -> None:
    tqdm.set_lock(threading.RLock())  # a killed process would leave tqdm's own lock, a system semaphore, acquired
    _sync(corpus, Hashes(salt, pipe, pause=0.0005))
    pipe.send("finished")


def _fresh(corpus: dict[str, Any], encoder: Hashes, path: Path) -> dict[str, tuple[str | None, str]]:
    _sync({**corpus, "store": {"type": "faiss", "path": str(path)}}, encoder)
    return _contents(FaissStore(path))


def _all_found(corpus: dict[str, Any], salt: int) -> None:
    """Assert that each node is the best hit for its own text."""
    engine = build_engine(corpus, sync="never", encoder=Hashes(salt), overrides={"retriever.top_k": 1})
    for node in engine.store.get_nodes()[::17]:
        hit = engine.retrieve(node.get_content())[0]
        assert (hit.node.node_id, hit.score) == (node.node_id, pytest.approx(1.0))


@pytest.mark.parametrize("turn", range(max(1, KILLS // 25)))
def test_a_first_sync_that_is_killed_is_gone_on_with(corpus: dict[str, Any], tmp_path: Path, turn: int) -> None:
    chance, path = random.Random(turn), Path(corpus["store"]["path"])
    kept = 0
    for _ in range(4):  # of 400 texts, at most 90 each time
        texts = _killed(_sync_there, corpus, 0, after=lambda pipe: pipe.wait(chance.randrange(40, 90)))
        assert "finished" not in texts
        store = FaissStore(path)
        assert (store.is_first_sync_unfinished(), len(store), store.query(ask(1)).ids) == (True, 0, [])
        assert len(store.document_records(1)) >= kept  # 1: the first generation
        kept = len(store.document_records(1))
        store.close()
        with pytest.raises(IndexNotBuilt) as caught:
            build_engine(corpus, sync="never", encoder=Hashes())
        assert str(caught.value) == (
            f'{path}: a first sync was started and never completed; call build_engine(..., sync="auto")'
        )
    assert kept > 10
    encoder = Hashes()
    report = _sync(corpus, encoder)
    assert (len(report.unchanged), len(report.added), report.changed) == (kept, DOCUMENTS - kept, [])
    assert report.texts_encoded == len(encoder.texts) == 2 * (DOCUMENTS - kept)
    assert _contents(FaissStore(path)) == _fresh(corpus, Hashes(), tmp_path / "fresh")
    _all_found(corpus, 0)


def test_a_sync_with_another_encoder_that_is_killed_leaves_the_old_version(
    corpus: dict[str, Any], tmp_path: Path
) -> None:
    path = Path(corpus["store"]["path"])
    _sync(corpus, Hashes(0))
    before = _contents(FaissStore(path))
    assert len(before) == 2 * DOCUMENTS
    reader = build_engine(corpus, sync="never", encoder=Hashes(0), overrides={"retriever.top_k": 1})
    for count in (60, 90):
        assert "finished" not in _killed(_sync_there, corpus, 1, after=lambda pipe, count=count: pipe.wait(count))
        assert _contents(FaissStore(path)) == before
        _all_found(corpus, 0)
        assert reader.retrieve(next(iter(before.values()))[1])[0].score == pytest.approx(1.0)
        with pytest.raises(IndexMismatch) as caught:
            build_engine(corpus, sync="never", encoder=Hashes(1))
        assert caught.value.differences == ["encoder.salt: 0 then, 1 now"]
    encoder = Hashes(1)
    report = _sync(corpus, encoder)
    assert 0 < report.texts_encoded == len(encoder.texts) < 2 * DOCUMENTS
    assert _contents(FaissStore(path)) == before  # the same nodes, other vectors
    _all_found(corpus, 1)
    with pytest.raises(IndexMismatch):
        build_engine(corpus, sync="never", encoder=Hashes(0))


def test_a_sync_that_is_killed_among_changes_leaves_each_document_old_or_new(
    corpus: dict[str, Any], tmp_path: Path
) -> None:
    path, folder = Path(corpus["store"]["path"]), Path(corpus["reader"]["path"])
    _sync(corpus, Hashes())
    before = _contents(FaissStore(path))
    for number in range(0, DOCUMENTS, 2):
        (folder / f"{number:03}.txt").write_text(
            f"changed: {f'first of {number} ' * 12}\n\n\nchanged: {f'second of {number} ' * 12}"
        )
    for number in range(1, 40, 2):
        (folder / f"{number:03}.txt").unlink()
    after = _fresh(corpus, Hashes(), tmp_path / "fresh")
    for count in (30, 60):
        _killed(_sync_there, corpus, 0, after=lambda pipe, count=count: pipe.wait(count))
        store = FaissStore(path)
        found = _contents(store)
        for number in range(DOCUMENTS):
            name = f"{number:03}.txt"
            mine, old, new = (
                {key: value for key, value in state.items() if value[0] == name} for state in (found, before, after)
            )
            assert mine in (old, new), name
        _all_found(corpus, 0)
        store.close()
    _sync(corpus, Hashes())
    assert _contents(FaissStore(path)) == after

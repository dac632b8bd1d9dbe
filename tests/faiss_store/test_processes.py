"""Forks and interrupts: what an application does to a store without asking it."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.schema import TextNode

from rag_plugin import FaissStore, StoreError
from rag_plugin.faiss_store.locks.readers_writer import ReadersWriterLock
from tests.faiss_store.nodes import ask, make
from tests.sync.bench import Bench

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def in_child(work: Callable[[], Any]) -> None:
    """Run `work` in a forked process and assert that it went through."""
    process = os.fork()
    if not process:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    assert os.waitpid(process, 0)[1] == 0


@pytest.fixture
def store(tmp_path: Path) -> FaissStore:
    store = FaissStore(tmp_path / "index")
    store.add([make(f"n{number}", number) for number in range(3)])
    assert store.query(ask(1, top_k=1)).ids == ["n1"]
    return store


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_writes_and_reads_for_itself(store: FaissStore, tmp_path: Path) -> None:
    def work() -> None:
        store.add([make("child", 7)])
        assert store.query(ask(7, top_k=1)).ids == ["child"]
        store.close()

    in_child(work)
    assert store.query(ask(7, top_k=1)).ids == ["child"]
    store.add([make("parent", 8)])
    assert sorted(node.node_id for node in FaissStore(tmp_path / "index").get_nodes()) == [
        "child",
        "n0",
        "n1",
        "n2",
        "parent",
    ]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_what_a_forked_process_commits_is_there_after_the_parent_closed(tmp_path: Path) -> None:
    writer, reader = FaissStore(tmp_path / "index"), FaissStore(tmp_path / "index")
    writer.add([make("a", 1)])
    writer.close()
    assert len(reader) == 1  # has a connection, and nothing to write
    closed_read, closed_write = os.pipe()
    process = os.fork()
    if not process:
        os.read(closed_read, 1)
        try:
            reader.add([make("child", 7)])
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    reader.close()
    os.write(closed_write, b"x")
    assert os.waitpid(process, 0)[1] == 0
    assert len(FaissStore(tmp_path / "index")) == 2


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_while_another_thread_writes_does_not_hang(store: FaissStore) -> None:
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with store._directory._memory_index_lock.writing():
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(30)

    def work() -> None:
        assert store.query(ask(1, top_k=1)).ids == ["n1"]

    try:
        in_child(work)
    finally:
        leave.set()
        thread.join()


def test_an_interrupt_while_a_lock_is_waited_for_leaves_it_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = ReadersWriterLock()

    def interrupted(timeout: float | None = None) -> bool:
        raise KeyboardInterrupt

    with lock.reading():
        with monkeypatch.context() as patch:
            patch.setattr(lock._condition, "wait", interrupted)
            with pytest.raises(KeyboardInterrupt), lock.writing():
                pass
        with lock.reading():  # no writer is waiting any more
            pass
    with lock.writing():
        with monkeypatch.context() as patch:
            patch.setattr(lock._condition, "wait", interrupted)
            with pytest.raises(KeyboardInterrupt), lock.reading():
                pass
    with lock.writing():
        pass


def test_readers_go_together_and_a_writer_goes_alone() -> None:
    lock, seen, problems = ReadersWriterLock(), {"readers": 0, "writers": 0, "most": 0}, []
    guard = threading.Lock()

    def read() -> None:
        for _ in range(300):
            with lock.reading():
                with guard:
                    seen["readers"] += 1
                    seen["most"] = max(seen["most"], seen["readers"])
                    if seen["writers"]:
                        problems.append("a reader beside a writer")
                with guard:
                    seen["readers"] -= 1

    def write() -> None:
        for _ in range(100):
            with lock.writing():
                with guard:
                    seen["writers"] += 1
                    if seen["writers"] > 1 or seen["readers"]:
                        problems.append("a writer beside another")
                with guard:
                    seen["writers"] -= 1

    threads = [threading.Thread(target=work) for work in (read, read, read, write, write)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert problems == []


def test_a_connection_that_was_left_inside_a_transaction_is_not_used_again(store: FaissStore) -> None:
    with store._directory.connection() as database:
        assert database is not None
        database.connection.execute("BEGIN")
    assert store.query(ask(1, top_k=1)).ids == ["n1"]
    store.add([make("later", 9)])
    assert len(store) == 4


def test_adding_by_hand_does_not_throw_away_a_first_sync_that_was_begun(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.txt").write_text("something to encode")
    bench = Bench(folder, tmp_path / "index")
    store = FaissStore(bench.index)
    store.open_generation({"encoder": {"type": "x"}}, lambda old, new: False)
    with pytest.raises(StoreError) as caught:
        store.add([TextNode(id_="hand", text="x", embedding=[1.0, 2.0])])
    assert str(caught.value) == (f"{bench.index}: the first sync is unfinished; finish it, or clear() the store")
    assert store.is_first_sync_unfinished()
    store.clear()
    store.add([TextNode(id_="hand", text="x", embedding=[1.0, 2.0])])
    assert len(store) == 1


def test_a_commit_is_made_even_if_what_follows_it_fails(
    store: FaissStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(state: Any) -> None:
        raise RuntimeError("no more memory")

    monkeypatch.setattr(store._directory, "_after_commit", failing)
    store.add([make("late", 9)])
    assert len(store) == 4
    assert f"{store.path}: no more memory" in caplog.messages


def test_what_comes_after_a_commit_is_looked_for_by_row_and_not_sorted(store: FaissStore) -> None:
    with store._directory.connection() as database:
        assert database is not None
        statements: list[str] = []
        database.connection.set_trace_callback(statements.append)
        list(database.column_after(1, "metadata", 2))
        list(database.column_after(1, "text", 2))
        list(database.vectors_after(1, 2))
        database.connection.set_trace_callback(None)
        for statement in statements:
            plan = " / ".join(row[3] for row in database.connection.execute(f"EXPLAIN QUERY PLAN {statement}"))
            assert "TEMP B-TREE" not in plan, (statement, plan)
            assert "SCAN node" not in plan, (statement, plan)

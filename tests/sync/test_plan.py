"""What a sync would do and what it does: plans, the cache of vectors, reading beside encoding, and its retrievers."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from llama_index.core.schema import TextNode

from rag_plugin.cli import cli
from rag_plugin.components.readers.directory import DirectoryReader
from rag_plugin.errors import ComponentError, DocumentError, IndexMismatch
from rag_plugin.faiss_store import FaissStore
from rag_plugin.faiss_store.locks.writer_lock import WriterLock
from rag_plugin.sync import SyncPlan, plan_sync
from tests.conftest import config_with_hashes
from tests.faiss_store.nodes import make
from tests.fakes import Hashes
from tests.sync.bench import NAMES, Bench, told


def planned(bench: Bench, encoder: Any = None, **overrides: Any) -> SyncPlan:
    """A plan by parts built anew."""
    return plan_sync(*bench.assembly(encoder, **overrides))


def shown(plan: SyncPlan) -> dict[str, Any]:
    """What a plan says, empty fields and estimates left out."""
    return {name: value for name, value in plan.to_dict().items() if value and name not in ("seconds", "tokens")}


def comes_true(bench: Bench, plan: SyncPlan, encoder: Any = None, **overrides: Any) -> None:
    """Assert that the sync that follows reports what the plan said."""
    report = bench.sync(encoder, **overrides)
    for name in ("added", "changed", "removed", "unchanged", "failed"):
        assert getattr(report, name) == getattr(plan, name), name
    assert (report.nodes_written, report.texts_encoded) == (plan.nodes, plan.texts)


# ---------------------------------------------------------------------------------- plans


def test_a_plan_of_a_first_sync_names_every_document(bench: Bench) -> None:
    plan = planned(bench)
    assert shown(plan) == {"added": NAMES, "nodes": 4, "texts": 4}
    assert plan.tokens > 4
    assert plan.seconds > 0
    assert not bench.index.exists()
    comes_true(bench, plan)


def test_a_plan_says_what_would_become_of_each_document(bench: Bench) -> None:
    bench.sync()
    bench.write("oven.txt", "Bake the bread at 250 degrees.")
    bench.write("new/mill.txt", "The mill grinds rye on Mondays.")
    bench.write("broken.pdf", b"%PDF-1.4 and nothing more")
    (bench.folder / "harbour.txt").unlink()
    plan = planned(bench)
    ((failed, reason),) = plan.failed
    assert shown(plan) == {
        "added": ["new/mill.txt"],
        "changed": ["oven.txt"],
        "removed": ["harbour.txt"],
        "unchanged": ["birds/heron.md", "birds/lapwing.md"],
        "failed": [("broken.pdf", reason)],
        "nodes": 2,
        "texts": 2,
    }
    assert str(plan) == (
        f"1 added, 1 changed, 1 removed, 2 unchanged; 2 nodes to write, 2 texts with {plan.tokens} tokens to encode, "
        f"about {plan.seconds:.0f} s"
    )
    json.dumps(plan.to_dict())
    comes_true(bench, plan)


def test_a_plan_of_nothing_says_so(bench: Bench) -> None:
    bench.sync()
    assert shown(planned(bench)) == {"unchanged": NAMES}
    assert str(SyncPlan()) == "no documents; 0 nodes to write, 0 texts with 0 tokens to encode, about 0 s"


def test_a_plan_locks_nothing_and_writes_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.sync()
    bench.write("oven.txt", "Bake the bread at 250 degrees.")
    (bench.folder / "harbour.txt").unlink()

    def locked(self: WriterLock, seconds: float) -> None:
        raise AssertionError("the writer's lock was taken")

    reader = FaissStore(bench.index)  # keeps the log file of SQLite there
    len(reader)
    before = {
        file: file.read_bytes() for file in bench.index.rglob("*") if file.is_file() and file.suffix != ".sqlite-shm"
    }
    monkeypatch.setattr(WriterLock, "_acquire", locked)
    for encoder in (Hashes(), Hashes(1)):
        planned(bench, encoder)
    after = {
        file: file.read_bytes() for file in bench.index.rglob("*") if file.is_file() and file.suffix != ".sqlite-shm"
    }
    assert {file: text for file, text in after.items() if not file.name.endswith("-shm")} == {
        file: text for file, text in before.items() if not file.name.endswith("-shm")
    }
    reader.close()


def test_a_plan_is_made_while_another_one_writes(bench: Bench) -> None:
    bench.sync()
    writer = FaissStore(bench.index)
    with writer.writing():
        assert shown(planned(bench)) == {"unchanged": NAMES}
    writer.close()


def test_a_plan_encodes_no_more_than_a_sample(bench: Bench) -> None:
    for number in range(200):
        bench.write(f"many/{number}.txt", f"Document {number} is about {number * number}.")
    encoder = Hashes()
    plan = planned(bench, encoder)
    assert plan.texts == 204
    assert len(set(encoder.texts)) <= 32
    assert len(encoder.texts) <= 33


@pytest.mark.parametrize("on_change", ["resync", "error"])
def test_a_plan_names_the_settings_that_changed_and_whether_a_sync_refuses(bench: Bench, on_change: str) -> None:
    bench.sync()
    overrides = {"sync__on_change": on_change, "chunker__type": "sentence", "chunker__chunk_size": 77}
    plan = planned(bench, **overrides)
    assert plan.refused == (on_change == "error")
    assert any(
        change.startswith("chunker.chunk_size: ") and change.endswith(" then, 77 now") for change in plan.changes
    )
    if plan.refused:
        with pytest.raises(IndexMismatch) as caught:
            bench.sync(**overrides)
        assert list(caught.value.differences) == plan.changes
    else:
        comes_true(bench, plan, **overrides)


def test_a_plan_for_another_encoder_encodes_everything(bench: Bench) -> None:
    bench.sync()
    (bench.folder / "harbour.txt").unlink()
    bench.write("new.txt", "Something new.")
    plan = planned(bench, Hashes(1))
    assert plan.changes == ["encoder.salt: 0 then, 1 now"]
    assert (plan.removed, plan.added, plan.texts) == (["harbour.txt"], ["new.txt"], 4)
    comes_true(bench, plan, Hashes(1))


def test_a_plan_for_an_encoder_that_was_there_before_encodes_nothing(bench: Bench) -> None:
    bench.sync(Hashes(0))
    bench.sync(Hashes(1))
    plan = planned(bench, Hashes(0))
    assert (plan.nodes, plan.texts, plan.tokens) == (4, 0, 0)
    comes_true(bench, plan, Hashes(0))


def test_a_plan_for_a_store_filled_by_hand_says_that_a_sync_refuses(bench: Bench) -> None:
    store = FaissStore(bench.index)
    store.add([make("mine", 1)])
    store.close()
    with pytest.raises(IndexMismatch) as caught:
        bench.sync()
    plan = planned(bench)
    assert plan.refused
    assert plan.changes == list(caught.value.differences)


def test_a_plan_stops_where_a_sync_would(bench: Bench) -> None:
    bench.write("broken.pdf", b"%PDF-1.4 and nothing more")
    with pytest.raises(DocumentError) as caught:
        planned(bench, sync__on_error="stop")
    with pytest.raises(DocumentError) as again:
        bench.sync(sync__on_error="stop")
    assert str(caught.value) == str(again.value)
    missing = str(bench.folder / "missing")
    with pytest.raises(ComponentError) as first:
        planned(bench, reader__path=missing)
    with pytest.raises(ComponentError) as second:
        bench.sync(reader__path=missing)
    assert str(first.value) == str(second.value)


def test_a_chunker_that_cannot_be_built_is_no_fault_of_the_documents(bench: Bench) -> None:
    bench.config["chunker"] = {
        "type": "llama_index.core.node_parser.SentenceSplitter",
        "chunk_size": 10,
        "chunk_overlap": 20,
    }
    overrides: dict[str, Any] = {}
    with pytest.raises(ComponentError) as caught:
        bench.sync(**overrides)
    with pytest.raises(ComponentError) as planning:
        planned(bench, **overrides)
    assert str(planning.value) == str(caught.value)


def test_a_text_that_comes_again_much_later_is_planned_once(bench: Bench) -> None:
    for number in range(12):
        bench.write(f"many/{number:02}.txt", "The same text." if number % 4 == 0 else f"Text number {number}.")
    plan = planned(bench, sync__batch_size=1)
    assert plan.texts == 4 + 1 + 9
    comes_true(bench, plan, sync__batch_size=1)


@pytest.mark.slow
@hypothesis_settings(
    max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate]
)
@given(
    st.lists(
        st.tuples(st.sampled_from(["write", "delete", "encoder", "break"]), st.integers(0, 5), st.integers(0, 4)),
        min_size=3,
        max_size=12,
    ),
    st.sampled_from([1, 3, 256]),
)
def test_every_plan_comes_true(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, int, int]], size: int
) -> None:
    root = tmp_path_factory.mktemp("plans")
    (root / "docs").mkdir()
    bench = Bench(root / "docs", root / "index")
    salt = 0
    for number, (what, name, text) in enumerate(changes):
        file = bench.folder / f"{name}.txt"
        if what == "write":
            file.write_text(f"This is text {text}.")
        elif what == "delete":
            file.unlink(missing_ok=True)
        elif what == "break":
            file.write_bytes(b"\xff\xfe\x00broken\x00\xd8")
        else:
            salt = text % 2
        if number % 3 == 2:
            plan = planned(bench, Hashes(salt), sync__batch_size=size)
            comes_true(bench, plan, Hashes(salt), sync__batch_size=size)


# ---------------------------------------------------------------------------------- the command


@pytest.fixture
def config(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return config_with_hashes(tmp_path)


def command(*arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--allow", "tests"])


def test_the_command_shows_the_plan_and_writes_nothing(config: Path, bench: Bench) -> None:
    done = command("sync", "--dry-run")
    assert done.exit_code == 0, done.output
    *names, last = done.stdout.splitlines()
    assert names == ["+ harbour.txt", "+ oven.txt", "+ birds/  2 documents"]
    assert last.startswith("4 added; 4 nodes to write, 4 texts with ")
    assert not bench.index.exists()
    done = command("sync", "--dry-run", "--json")
    shown = json.loads(done.stdout)
    assert (shown["added"], shown["texts"], shown["refused"]) == (NAMES, 4, False)
    assert command("sync").exit_code == 0
    (bench.folder / "oven.txt").unlink()
    bench.write("harbour.txt", "Changed.")
    done = command("sync", "--dry-run")
    assert done.stdout.splitlines()[:2] == ["~ harbour.txt", "- oven.txt"]


def test_the_command_says_that_a_sync_would_stop(config: Path, bench: Bench) -> None:
    assert command("sync").exit_code == 0
    arguments = ["sync", "--dry-run", "--set", "chunker.chunk_size=50", "--set", "sync.on_change=error"]
    done = command(*arguments)
    assert done.exit_code == 0
    assert done.stdout.startswith("* chunker.chunk_size: unset then, 50 now\n")
    assert "a sync would stop at the changes marked *: sync.on_change is error" in done.stderr


# ---------------------------------------------------------------------------------- the cache of vectors


def test_a_moved_file_encodes_nothing(bench: Bench) -> None:
    bench.sync()
    (bench.folder / "oven.txt").rename(bench.folder / "bread.txt")
    encoder = Hashes()
    report = bench.sync(encoder)
    assert (report.added, report.removed, report.texts_encoded, encoder.texts) == (["bread.txt"], ["oven.txt"], 0, [])
    assert bench.engine().retrieve("Bake the bread")[0] is not None


@pytest.mark.parametrize("how", ["deleted", "changed"])
def test_a_text_that_goes_and_comes_back_encodes_nothing(bench: Bench, how: str) -> None:
    bench.sync()
    file = bench.folder / "oven.txt"
    text = file.read_text()
    if how == "deleted":
        file.unlink()
    else:
        file.write_text("Another text for a while.")
    bench.sync()
    bench.sync()
    file.write_text(text)
    encoder = Hashes()
    report = bench.sync(encoder)
    assert (report.texts_encoded, report.nodes_written, encoder.texts) == (0, 1, [])
    hit = bench.engine().retrieve(text.strip())[0]
    assert (hit.node.ref_doc_id, hit.score) == ("oven.txt", pytest.approx(1.0))


def test_another_chunk_overlap_encodes_only_what_is_new(bench: Bench) -> None:
    sentences = [f"Sentence number {number} tells of the thing {number}." for number in range(200)]
    bench.write("long.txt", " ".join(sentences))
    overrides: dict[str, Any] = {"chunker__type": "sentence", "chunker__chunk_size": 60}
    first = bench.sync(chunker__chunk_overlap=0, **overrides)
    assert first.texts_encoded > 30
    before = {text for _, text in bench.contents().values()}
    encoder = Hashes()
    report = bench.sync(encoder, chunker__chunk_overlap=20, **overrides)
    after = {text for _, text in bench.contents().values()}
    assert report.texts_encoded == len(encoder.texts) == len(after - before)
    again = Hashes()
    assert bench.sync(again, chunker__chunk_overlap=0, **overrides).texts_encoded == 0
    assert (again.texts, {text for _, text in bench.contents().values()}) == ([], before)


def test_going_back_to_an_encoder_encodes_nothing(bench: Bench) -> None:
    first, second = bench.sync(Hashes(0)), bench.sync(Hashes(1))
    assert (first.texts_encoded, second.texts_encoded) == (4, 4)
    for salt in (0, 1, 0):
        encoder = Hashes(salt)
        report = bench.sync(encoder)
        assert (report.texts_encoded, report.nodes_written, encoder.texts) == (0, 4, [])
        hit = bench.engine(Hashes(salt)).retrieve(
            "The harbour pump runs every night from ten to four. Its code is OSPREY-31."
        )
        assert hit[0].score == pytest.approx(1.0)


def test_vectors_of_one_encoder_are_never_given_to_another(bench: Bench) -> None:
    for salt in (0, 1, 2, 1):
        (bench.folder / "oven.txt").write_text("The same text in each.")
        bench.sync(Hashes(salt))
        hit = bench.engine(Hashes(salt)).retrieve("The same text in each.")[0]
        assert (hit.node.ref_doc_id, hit.score) == ("oven.txt", pytest.approx(1.0))


def test_without_a_cache_what_comes_back_is_encoded(bench: Bench) -> None:
    bench.config["store"]["cache_size"] = 0
    bench.sync()
    text = (bench.folder / "oven.txt").read_text()
    (bench.folder / "oven.txt").unlink()
    bench.sync()
    assert FaissStore(bench.index, cache_size=0).info().cached_vectors == 0
    bench.write("oven.txt", text)
    assert bench.sync().texts_encoded == 1


def test_the_cache_keeps_no_more_than_it_may(bench: Bench) -> None:
    bench.config["store"]["cache_size"] = 10
    for number in range(30):
        bench.write(f"many/{number}.txt", f"Document number {number}.")
    bench.sync()
    for number in range(30):
        (bench.folder / f"many/{number}.txt").unlink()
    bench.sync()
    store = FaissStore(bench.index, cache_size=10)
    assert store.info().cached_vectors == 10
    (bench.folder / "oven.txt").unlink()
    bench.sync()
    assert store.info().cached_vectors == 10
    bench.write("oven.txt", "Bake the bread at 240 degrees for forty minutes, with steam for the first ten.\n")
    assert bench.sync().texts_encoded == 0  # the newest are kept
    store.close()


def test_a_cleared_cache_is_empty_and_the_index_as_it_was(bench: Bench) -> None:
    bench.sync()
    text = (bench.folder / "oven.txt").read_text()
    (bench.folder / "oven.txt").unlink()
    bench.sync()
    store = FaissStore(bench.index)
    assert store.info().cached_vectors == 1
    store.clear_cache()
    assert (store.info().cached_vectors, len(store)) == (0, 3)
    store.close()
    bench.write("oven.txt", text)
    assert bench.sync().texts_encoded == 1


def test_clearing_the_cache_of_nothing_touches_nothing(tmp_path: Path) -> None:
    FaissStore(tmp_path / "index").clear_cache()
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------- reading beside encoding


def many(bench: Bench, count: int) -> None:
    for number in range(count):
        bench.write(f"many/{number:03}.txt", f"Document number {number} is about {number * number}.")


class Calling(Hashes):
    """Calls a function before it encodes, and not for the probe sentence."""

    def __init__(self, call: Callable[[Sequence[str]], None], salt: int = 0) -> None:
        super().__init__(salt)
        object.__setattr__(self, "_call", call)

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        if not any("quick brown fox" in text for text in texts):
            try:
                self._call(texts)  # type: ignore[attr-defined]
            except BaseException as error:
                object.__setattr__(self, "_gone", error)  # it does not encode the probe sentence either
                raise
        elif getattr(self, "_gone", None) is not None:
            raise RuntimeError("gone")
        return [self._get_text_embedding(text) for text in texts]


def test_documents_are_read_while_others_are_encoded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    many(bench, 6)
    reading, load = threading.Event(), DirectoryReader._load
    count: list[str] = []
    waited: list[bool] = []

    def spy(self: DirectoryReader, path: Path, relative: str) -> Any:
        count.append(relative)
        if len(count) == 2:
            reading.set()
        return load(self, path, relative)

    def wait(texts: Sequence[str]) -> None:
        if not waited:
            waited.append(reading.wait(20))

    monkeypatch.setattr(DirectoryReader, "_load", spy)
    bench.sync(Calling(wait), sync__batch_size=1)
    assert waited == [True]  # the second was read before the first was encoded
    assert len(bench.documents()) == 10


def test_on_error_stop_keeps_what_was_ready(bench: Bench) -> None:
    many(bench, 6)
    bench.write("zz/broken.pdf", b"%PDF-1.4 and nothing more")
    with pytest.raises(DocumentError) as caught:
        bench.sync(sync__on_error="stop", sync__batch_size=1)
    assert str(caught.value).startswith("zz/broken.pdf")
    store = FaissStore(bench.index)
    generation = store.open_generation({}, lambda old, new: True)
    ready = set(store.document_records(generation))
    store.close()
    assert ready == {*NAMES, *(f"many/{number:03}.txt" for number in range(6))}
    (bench.folder / "zz/broken.pdf").unlink()
    encoder = Hashes()
    report = bench.sync(encoder)
    assert (report.texts_encoded, encoder.texts, len(bench.documents())) == (0, [], 10)


@pytest.mark.parametrize("error", [RuntimeError("the encoder is gone"), KeyboardInterrupt(), MemoryError()], ids=repr)
def test_an_encoder_that_raises_stops_the_sync_and_what_was_encoded_stays(bench: Bench, error: BaseException) -> None:
    many(bench, 8)
    calls: list[Sequence[str]] = []

    def fail(texts: Sequence[str]) -> None:
        calls.append(texts)
        if len(calls) == 4:
            raise error

    before = threading.active_count()
    with pytest.raises(type(error)) as caught:
        bench.sync(Calling(fail), sync__batch_size=1)
    assert caught.value is error
    assert threading.active_count() <= before  # no thread is left behind
    encoder = Hashes()
    report = bench.sync(encoder, sync__batch_size=1)
    assert len(encoder.texts) == 12 - 3
    assert (len(bench.documents()), report.failed) == (12, [])


def test_an_encoder_that_raises_leaves_the_old_version_searchable(bench: Bench) -> None:
    bench.sync()
    before = bench.contents()
    bench.write("oven.txt", "Something else.")

    def fail(texts: Sequence[str]) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="^no$"):
        bench.sync(Calling(fail))
    assert bench.contents() == before
    bench.sync()
    assert bench.documents()["oven.txt"] == "Something else."


def test_no_more_than_three_batches_of_nodes_are_alive(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from rag_plugin.components.chunkers import document_splitter as chunking

    many(bench, 60)
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    most: list[int] = []
    calls: list[int] = []
    cut = chunking.DocumentSplitter.__call__

    class Node(TextNode):
        """A node that can be weakly referred to and told apart."""

        def __hash__(self) -> int:
            return id(self)

    def counted(splitter: Any, document: Any) -> Any:
        nodes = cut(splitter, document)
        for node in nodes:
            node.__class__ = Node
            alive.add(node)
        return nodes

    def measure(texts: Sequence[str]) -> None:
        calls.append(len(texts))
        if len(calls) % 4 == 0:
            gc.collect()
            most.append(len(alive))

    monkeypatch.setattr(chunking.DocumentSplitter, "__call__", counted)
    report = bench.sync(Calling(measure), sync__batch_size=5)
    assert report.nodes_written == 64
    assert len(most) >= 3
    # One being encoded, one being written, one being read, and one document more.
    assert 0 < max(most) <= 3 * 5 + 1


def test_a_sync_logs_and_counts_the_same_in_one_batch_and_in_many(bench: Bench, tmp_path: Path) -> None:
    many(bench, 20)
    bench.write("many/copy.txt", "Document number 3 is about 9.")
    one = told(bench.sync(sync__batch_size=1000))
    other = Bench(bench.folder, tmp_path / "other")
    assert told(other.sync(sync__batch_size=1)) == one
    assert other.contents() == bench.contents()


# ---------------------------------------------------------------------------------- retrievers


class Asked(Hashes):
    """Counts the questions that are encoded."""

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "_asked", [])

    @property
    def asked(self) -> list[str]:
        return self._asked  # type: ignore[attr-defined, no-any-return]

    def _get_query_embedding(self, query: str) -> list[float]:
        self.asked.append(query)
        return super()._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)


@pytest.fixture
def asked(bench: Bench) -> Asked:
    bench.sync(Asked())
    return Asked()


@pytest.mark.parametrize("way", ["sync", "async"])
def test_the_retriever_lexical_finds_by_words_and_encodes_no_question(bench: Bench, asked: Asked, way: str) -> None:
    engine = bench.engine(asked, retriever__type="lexical", retriever__top_k=3)
    question = "Which code has the harbour pump?"
    hits = engine.retrieve(question) if way == "sync" else asyncio.run(engine.aretrieve(question))
    assert [hit.node.ref_doc_id for hit in hits] == ["harbour.txt"]
    assert hits[0].score > 0
    assert (asked.asked, asked.texts) == ([], [])


def test_the_retriever_lexical_finds_nothing_by_other_words(bench: Bench, asked: Asked) -> None:
    engine = bench.engine(asked, retriever__type="lexical")
    assert engine.retrieve("quokka zephyr") == []


def test_the_retriever_lexical_gives_no_more_than_top_k(bench: Bench, asked: Asked) -> None:
    for top_k in (1, 2):
        engine = bench.engine(asked, retriever__type="lexical", retriever__top_k=top_k)
        assert len(engine.retrieve("heron lapwing bread harbour")) == top_k


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("fusion", ["relative_score", "reciprocal_rank"])
def test_the_retriever_hybrid_encodes_the_question_once_and_uses_both(
    bench: Bench, asked: Asked, fusion: str, way: str
) -> None:
    engine = bench.engine(asked, retriever__type="hybrid", retriever__top_k=4, retriever__fusion=fusion)
    question = "OSPREY-31"
    hits = engine.retrieve(question) if way == "sync" else asyncio.run(engine.aretrieve(question))
    assert asked.asked == [question]
    assert len(hits) == 4
    # It is the only one that has the word, so it has at least half of the best score.
    (harbour,) = (hit for hit in hits if hit.node.ref_doc_id == "harbour.txt")
    assert harbour.score >= (0.5 if fusion == "relative_score" else 0.5 / 61)
    most = 1.0 if fusion == "relative_score" else 1 / 61
    assert max(hit.score for hit in hits) <= most + 1e-6


def test_the_weight_of_the_retriever_hybrid_is_that_of_the_vectors(bench: Bench, asked: Asked) -> None:
    question = "the harbour pump and the heron"

    def ids(**overrides: Any) -> list[str]:
        hits = bench.engine(asked, retriever__top_k=4, **overrides).retrieve(question)
        return [str(hit.node.ref_doc_id) for hit in hits]

    assert ids(retriever__type="hybrid", retriever__alpha=1) == ids(retriever__type="vector")
    assert ids(retriever__type="hybrid", retriever__alpha=0) == ids(retriever__type="lexical")


def test_the_retrievers_see_what_is_synced_later(bench: Bench, asked: Asked) -> None:
    engines = [bench.engine(asked, retriever__type=kind, retriever__top_k=1) for kind in ("lexical", "hybrid")]
    for engine in engines:
        engine.retrieve("mill")
    bench.write("mill.txt", "The mill grinds rye on Mondays.")
    bench.sync(Asked())
    assert [engine.retrieve("The mill grinds rye on Mondays.")[0].node.ref_doc_id for engine in engines] == [
        "mill.txt",
        "mill.txt",
    ]


def test_a_plan_logs_nothing_above_debug_that_a_sync_would_not(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        planned(bench)
    assert caplog.records == []

"""Documents that cannot be read: they are recorded, and opened again only if they may be readable."""

from __future__ import annotations

import logging
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.readers.base import BaseReader
from llama_index.core.schema import Document

from rag_plugin import build_engine
from rag_plugin.components.readers.directory import DirectoryReader
from rag_plugin.components.readers.jsonl import JsonlReader
from rag_plugin.errors import DocumentError
from rag_plugin.faiss_store import FaissStore
from rag_plugin.faiss_store.locks.writer_lock import WriterLock
from rag_plugin.protocols import Listed, Unlisted
from rag_plugin.sync import plan_sync
from tests.fakes import Hashes
from tests.sync.bench import NAMES, Bench, told
from tests.sync.test_sync import Picky

BINARY = b"\x00\x01\x02\x03" * 100
REASON = "it is binary data, not text"

pytestmark = pytest.mark.usefixtures("settled")


@pytest.fixture
def nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function after which no sync may take the writer's lock, without which nothing is written."""

    def locked(self: WriterLock, seconds: float) -> None:
        raise AssertionError("the writer's lock was taken")

    return lambda: monkeypatch.setattr(WriterLock, "_acquire", locked)


def recorded(bench: Bench) -> list[str]:
    """The ids of the failure records of the live generation."""
    store = FaissStore(bench.index)
    try:
        return sorted(store.failure_records(store.live_generation() or 0))
    finally:
        store.close()


# ---------------------------------------------------------------------------------- not opened again


def test_a_failed_document_is_opened_once_and_listed_by_every_sync(
    bench: Bench, loaded: list[str], nothing_is_written: Callable[[], None]
) -> None:
    bench.write("notes.txt", BINARY)
    first = bench.sync()
    assert (first.failed, "notes.txt" in loaded) == ([("notes.txt", REASON)], True)
    loaded.clear()
    nothing_is_written()
    for _ in range(2):
        assert told(bench.sync()) == {"unchanged": NAMES, "failed": [("notes.txt", REASON)]}
        plan = plan_sync(*bench.assembly())
        assert (plan.unchanged, plan.failed) == (NAMES, [("notes.txt", REASON)])
    assert loaded == []


def test_a_failed_document_is_not_opened_when_others_changed(bench: Bench, loaded: list[str]) -> None:
    bench.write("notes.txt", BINARY)
    bench.sync()
    loaded.clear()
    bench.write("oven.txt", "Changed.")
    assert bench.sync().failed == [("notes.txt", REASON)]
    assert loaded == ["oven.txt"]
    assert recorded(bench) == ["notes.txt"]


def test_a_failed_document_is_no_document(bench: Bench) -> None:
    bench.write("notes.txt", BINARY)
    bench.sync()
    store = FaissStore(bench.index)
    assert (len(store), store.info().documents, store.info().nodes) == (4, 4, 4)
    assert "notes.txt" not in store.document_records(store.live_generation() or 0)
    assert (store.verify(), set(bench.documents())) == ([], set(NAMES))
    store.close()


def test_a_young_failed_document_is_recorded_when_its_dates_can_be_trusted(
    bench: Bench, loaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write("notes.txt", BINARY)
    with monkeypatch.context() as patch:
        patch.setattr("rag_plugin.components.readers.directory._CLOCK_RESOLUTION_NANOSECONDS", 10**15)
        bench.sync()
        assert recorded(bench) == []
    bench.sync()
    assert recorded(bench) == ["notes.txt"]
    loaded.clear()
    assert len(bench.sync().failed) == 1
    assert loaded == []


def test_an_entry_that_cannot_be_listed_has_no_record_and_writes_nothing(
    bench: Bench, loaded: list[str], nothing_is_written: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = DirectoryReader.list_documents

    def with_a_closed_folder(self: DirectoryReader) -> Iterator[Listed | Unlisted]:
        yield from listing(self)
        yield Unlisted("closed/", "the folder cannot be opened: Permission denied", prefix="closed/")

    monkeypatch.setattr(DirectoryReader, "list_documents", with_a_closed_folder)
    first = bench.sync()
    assert (recorded(bench), len(first.failed)) == ([], 1)
    loaded.clear()
    nothing_is_written()
    assert told(bench.sync()) == {"unchanged": NAMES, "failed": first.failed}
    assert loaded == []


def test_a_store_without_sync_records_remembers_failures_as_long_as_the_engine(bench: Bench, loaded: list[str]) -> None:
    bench.config["store"] = {"type": "llama_index.core.vector_stores.SimpleVectorStore"}
    bench.write("notes.txt", BINARY)
    engine = build_engine(bench.config, encoder=bench.encoder)
    loaded.clear()
    assert engine.sync().failed == [("notes.txt", REASON)]
    assert loaded == []


# ---------------------------------------------------------------------------------- opened again


def test_the_record_goes_when_the_document_is_readable(bench: Bench) -> None:
    bench.write("notes.txt", BINARY)
    bench.sync()
    bench.write("notes.txt", "Readable now.")
    assert told(bench.sync())["added"] == ["notes.txt"]
    assert (recorded(bench), bench.documents()["notes.txt"]) == ([], "Readable now.")


def test_the_record_goes_when_the_document_is_removed(bench: Bench) -> None:
    bench.write("notes.txt", BINARY)
    bench.sync()
    (bench.folder / "notes.txt").unlink()
    report = bench.sync()
    assert (report.failed, report.removed, recorded(bench)) == ([], [], [])


def test_a_document_that_breaks_and_is_restored_is_unchanged(
    bench: Bench, tmp_path: Path, nothing_is_written: Callable[[], None]
) -> None:
    # A record of JSON Lines has the same change token as before when its old content is back.
    path = tmp_path / "records.jsonl"
    bench.config["reader"] = {"type": "jsonl", "path": str(path), "id": "id"}
    bench.config["chunker"] = {"type": "none", "too_long": "error"}
    encoder = Limited()
    short, long = '{"id": "a", "text": "short"}\n', '{"id": "a", "text": "' + "long " * 50 + '"}\n'
    path.write_text(short)
    bench.sync(encoder)
    path.write_text(long)
    for _ in range(2):
        report = bench.sync(encoder)
        assert ([name for name, _ in report.failed], report.removed) == (["a"], [])
        assert (recorded(bench), bench.documents()) == (["a"], {"a": "short"})
    path.write_text(short)
    assert told(bench.sync(encoder)) == {"unchanged": ["a"]}
    assert recorded(bench) == []
    nothing_is_written()
    assert told(bench.sync(encoder)) == {"unchanged": ["a"]}


@pytest.mark.parametrize("overrides", [{"chunker": "none"}], ids=["chunker"])
def test_other_settings_open_it_again(bench: Bench, loaded: list[str], overrides: dict[str, Any]) -> None:
    bench.write("notes.txt", BINARY)
    bench.sync()
    loaded.clear()
    assert bench.sync(**overrides).failed == [("notes.txt", REASON)]
    assert "notes.txt" in loaded
    loaded.clear()
    assert bench.sync(**overrides).failed == [("notes.txt", REASON)]
    assert loaded == []


def test_an_installed_package_opens_it_at_once(
    bench: Bench, loaded: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "site-packages"
    packages.mkdir()
    monkeypatch.syspath_prepend(packages)
    bench.write("letter.rtf", r"{\rtf1 A letter about the mill.}")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "llama_index.readers.file", None)
        ((name, reason),) = bench.sync().failed
        assert (name, reason.endswith(': pip install "rag-plugin[files]"')) == ("letter.rtf", True)
        loaded.clear()
        assert len(bench.sync().failed) == 1
        assert loaded == []
    (packages / "llama_index_readers_file-9.9.dist-info").mkdir()
    report = bench.sync()
    assert (report.added, report.failed, recorded(bench)) == (["letter.rtf"], [], [])
    assert bench.documents()["letter.rtf"] == "A letter about the mill."


def test_another_version_of_this_package_opens_it_again(
    bench: Bench, loaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write("notes.txt", BINARY)
    bench.sync()
    loaded.clear()
    monkeypatch.setattr("rag_plugin.sync.fingerprint.__version__", "99")
    bench.sync()
    assert loaded == ["notes.txt"]


@pytest.mark.parametrize(
    "error",
    [OSError(24, "Too many open files"), MemoryError(), ImportError("libxml2.so.2: cannot open shared object file")],
    ids=["disk", "memory", "system library"],
)
def test_a_cause_outside_the_document_is_not_recorded(
    bench: Bench, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write("letter.rtf", r"{\rtf1 A letter about the mill.}")

    def fail() -> Any:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("rag_plugin.components.readers.text_extraction._llama_index_readers", fail)
        assert [name for name, _ in bench.sync().failed] == ["letter.rtf"]
    assert recorded(bench) == []
    assert bench.sync().added == ["letter.rtf"]


def test_a_chunker_that_raised_is_tried_again(bench: Bench) -> None:
    # It may use a server.
    bench.parts["chunker"] = Picky()
    assert [name for name, _ in bench.sync().failed] == ["oven.txt"]
    assert recorded(bench) == []


def test_a_file_that_changed_while_it_was_read_is_read_again(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text('{"id": "a", "text": "one"}\n{"id": "b", "text": "two"}\n')
    moved = '{"id": "b", "text": "two"}\n{"id": "a", "text": "one"}\n'

    class Moved(JsonlReader):
        def list_documents(self) -> Iterator[Listed | Unlisted]:
            items = list(super().list_documents())
            path.write_text(moved)
            return iter(items)

    bench.parts["reader"] = Moved(path, "text", "id", ())
    assert len(bench.sync().failed) == 2
    assert bench.sync().added == ["b", "a"]


def test_any_reader_may_say_that_a_failure_is_temporary(bench: Bench) -> None:
    calls: list[str] = []

    class Source(BaseReader):
        def list_documents(self) -> Iterator[Listed | Unlisted]:
            yield Listed("page", "etag", lambda: self.load("page"))

        def load(self, name: str) -> Document:
            calls.append(name)
            raise DocumentError(name, "no text", temporary=len(calls) == 1)

    bench.parts["reader"] = Source()
    for _ in range(4):
        assert bench.sync().failed == [("page", "no text")]
    assert calls == ["page", "page"]


class Limited(Hashes):
    """Reads 20 tokens."""

    def max_input_tokens(self) -> int | None:
        return 20

    def tokens(self) -> Any:
        from rag_plugin.components.encoders.tokens import tokens_of

        return tokens_of(Hashes())


# ---------------------------------------------------------------------------------- encoders, errors


def test_another_encoder_records_failures_of_its_own(
    bench: Bench, loaded: list[str], nothing_is_written: Callable[[], None]
) -> None:
    bench.sync()
    bench.write("oven.txt", BINARY)
    bench.write("notes.txt", BINARY)
    before = bench.documents()
    failed = [("notes.txt", REASON), ("oven.txt", REASON)]
    assert bench.sync(Hashes(1)).failed == failed
    assert (bench.documents(), recorded(bench)) == (before, ["notes.txt", "oven.txt"])
    loaded.clear()
    nothing_is_written()
    assert bench.sync(Hashes(1)).failed == failed
    assert loaded == []


def test_on_error_stop_raises_the_recorded_reason_without_opening(bench: Bench, loaded: list[str]) -> None:
    bench.write("notes.txt", BINARY)
    bench.sync()
    loaded.clear()
    with pytest.raises(DocumentError) as caught:
        bench.sync(sync__on_error="stop")
    assert (str(caught.value), loaded) == (f"notes.txt: {REASON}", [])


def test_a_sync_that_is_interrupted_keeps_the_records_of_the_last_one(bench: Bench) -> None:
    bench.write("notes.txt", BINARY)
    bench.sync()

    class Failing(Hashes):
        def _get_text_embedding(self, text: str) -> list[float]:
            if "Bread" in text:
                raise KeyboardInterrupt
            return super()._get_text_embedding(text)

    Failing.__module__, Failing.__qualname__ = Hashes.__module__, Hashes.__qualname__
    bench.write("oven.txt", "Bread.")
    bench.write("other.txt", BINARY)
    with pytest.raises(KeyboardInterrupt):
        bench.sync(Failing())
    assert recorded(bench) == ["notes.txt"]
    assert [name for name, _ in bench.sync().failed] == ["notes.txt", "other.txt"]
    assert recorded(bench) == ["notes.txt", "other.txt"]


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_only_broken_documents_are_listed_and_none_is_opened_twice(
    bench: Bench, loaded: list[str], seed: int
) -> None:
    chance = random.Random(seed)
    shutil.rmtree(bench.folder)
    bench.folder.mkdir()
    salt = 0
    for turn in range(12):
        for name in chance.sample(["a.txt", "b.txt", "sub/c.txt", "d.txt"], chance.randrange(3)):
            what = chance.choice(["write", "break", "break", "delete"])
            if what == "delete":
                (bench.folder / name).unlink(missing_ok=True)
            else:
                bench.write(name, f"Text of turn {turn}." if what == "write" else BINARY + bytes([turn]))
        salt = chance.choice([salt, salt, 0, 1])
        plan = plan_sync(*bench.assembly(Hashes(salt)))
        report = bench.sync(Hashes(salt))
        broken = {file.relative_to(bench.folder).as_posix() for file in bench.folder.rglob("*.txt")
                  if file.read_bytes().startswith(BINARY)}  # fmt: skip
        assert {name for name, _ in report.failed} == broken == set(recorded(bench))
        for name in ("added", "changed", "removed", "unchanged", "failed"):
            assert getattr(report, name) == getattr(plan, name), name
        loaded.clear()
        again = bench.sync(Hashes(salt))
        assert (again.failed, again.added, again.changed, loaded) == (report.failed, [], [], [])


# ---------------------------------------------------------------------------------- the warning


@pytest.mark.parametrize(
    ("count", "names"),
    [(1, "1 document cannot be read: 0.txt"), (3, "3 documents cannot be read: 0.txt, 1.txt, 2.txt"),
     (5, "5 documents cannot be read: 0.txt, 1.txt, 2.txt, 2 more")],
)  # fmt: skip
def test_an_engine_logs_one_warning_with_the_count_and_some_names(
    bench: Bench, caplog: pytest.LogCaptureFixture, count: int, names: str
) -> None:
    for number in range(count):
        bench.write(f"{number}.txt", BINARY)
    engine = build_engine(bench.config, encoder=bench.encoder)
    assert len(engine.sync().failed) == count
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [f"{names}; engine.sync().failed has the reasons"] * 2

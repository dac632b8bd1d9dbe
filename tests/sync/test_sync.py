"""Sync: what changed is read, cut, encoded and committed, and nothing else; whatever happens, the index stays right."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from llama_index.core.node_parser import NodeParser
from llama_index.core.readers.base import BaseReader
from llama_index.core.schema import BaseNode, Document, TextNode
from llama_index.core.vector_stores import SimpleVectorStore

from rag_plugin.components.readers.directory import DirectoryReader
from rag_plugin.config import load_config
from rag_plugin.engine import build_engine
from rag_plugin.errors import ComponentError, DocumentError, IndexLocked, IndexMismatch, IndexNotBuilt
from rag_plugin.faiss_store import FaissStore
from rag_plugin.faiss_store.locks.writer_lock import WriterLock
from rag_plugin.protocols import Listed, Unlisted
from rag_plugin.sync import SyncReport, sync
from rag_plugin.sync.fingerprint import HINTS
from tests.conftest import DOCUMENTS
from tests.fakes import Hashes
from tests.processes import PROCESSES
from tests.sync.bench import NAMES, Bench, told

Hits = dict[str, tuple["str | None", str]]


# ---------------------------------------------------------------------------------- the report


def test_a_first_sync_adds_every_document(bench: Bench) -> None:
    report = bench.sync()
    assert told(report) == {"added": NAMES, "nodes_written": 4, "texts_encoded": 4}
    assert report.seconds > 0
    assert set(bench.documents()) == set(NAMES)
    assert len(bench.encoder.texts) == 4


def test_the_report_says_what_became_of_each_document(bench: Bench) -> None:
    bench.sync()
    bench.write("oven.txt", "Bake the bread at 250 degrees.")
    bench.write("new/mill.txt", "The mill grinds rye on Mondays.")
    bench.write("broken.pdf", b"%PDF-1.4 and nothing more")
    (bench.folder / "harbour.txt").unlink()
    report = bench.sync()
    ((failed, reason),) = report.failed
    assert (failed, report.to_dict()["failed"]) == ("broken.pdf", [("broken.pdf", reason)])
    assert told(report) == {
        "added": ["new/mill.txt"],
        "changed": ["oven.txt"],
        "removed": ["harbour.txt"],
        "unchanged": ["birds/heron.md", "birds/lapwing.md"],
        "failed": [("broken.pdf", reason)],
        "nodes_written": 2,
        "texts_encoded": 2,
    }
    assert str(report).startswith(
        "1 added, 1 changed, 1 removed, 2 unchanged, 1 failed; 2 nodes written, 2 encoded in "
    )
    json.dumps(report.to_dict())


def test_a_sync_without_changes_builds_no_chunker(bench: Bench, settled: None) -> None:
    bench.sync()
    assembly, settings = bench.assembly()
    assert told(sync(assembly, settings)) == {"unchanged": NAMES}
    assert "chunker" not in vars(assembly)


def test_a_report_of_nothing_says_so() -> None:
    assert str(SyncReport()) == "no documents; 0 nodes written, 0 encoded in 0.0 s"


def test_a_sync_says_through_logging_what_it_does_and_prints_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    bench.write("broken.pdf", b"%PDF-1.4 and nothing more")
    with caplog.at_level(logging.INFO, logger="rag_plugin.sync"):
        report = bench.sync()
    said = [record.getMessage() for record in caplog.records if record.name == "rag_plugin.sync"]
    assert said == [
        f"{bench.index}: 5 documents listed",
        f"{bench.index}: {report}",
    ]
    assert capfd.readouterr().out == ""


def test_a_changed_document_replaces_its_nodes(bench: Bench) -> None:
    bench.sync()
    bench.write("oven.txt", "Bake the bread at 250 degrees.")
    bench.sync()
    assert bench.documents()["oven.txt"] == "Bake the bread at 250 degrees."
    hit = bench.engine().retrieve("Bake the bread at 250 degrees.")[0]
    assert (hit.node.ref_doc_id, hit.score) == ("oven.txt", pytest.approx(1.0))


def test_a_removed_document_is_not_found_any_more(bench: Bench) -> None:
    bench.sync()
    shutil.rmtree(bench.folder / "birds")
    assert bench.sync().removed == ["birds/heron.md", "birds/lapwing.md"]
    assert set(bench.documents()) == {"harbour.txt", "oven.txt"}


def test_a_renamed_document_is_a_removed_and_an_added_one(bench: Bench) -> None:
    bench.sync()
    (bench.folder / "oven.txt").rename(bench.folder / "bread.txt")
    report = bench.sync()
    assert (report.added, report.removed, report.changed) == (["bread.txt"], ["oven.txt"], [])
    assert set(bench.documents()) == {*NAMES, "bread.txt"} - {"oven.txt"}


def test_documents_that_change_places_change_both(bench: Bench) -> None:
    bench.sync()
    (bench.folder / "oven.txt").rename(bench.folder / "x.txt")
    (bench.folder / "harbour.txt").rename(bench.folder / "oven.txt")
    (bench.folder / "x.txt").rename(bench.folder / "harbour.txt")
    assert bench.sync().changed == ["harbour.txt", "oven.txt"]
    assert "OSPREY" in bench.documents()["oven.txt"]


def test_an_empty_folder_gives_an_index_that_answers(bench: Bench) -> None:
    shutil.rmtree(bench.folder)
    bench.folder.mkdir()
    assert told(bench.sync()) == {}
    assert bench.engine().retrieve("anything") == []
    bench.write("a.txt", "Something after all.")
    assert bench.sync().added == ["a.txt"]


def test_a_document_without_text_is_a_document_without_nodes(bench: Bench, settled: None, loaded: list[str]) -> None:
    bench.write("empty.txt", "")
    bench.write("spaces.txt", " \n\t\n")
    report = bench.sync()
    assert (len(report.added), report.nodes_written) == (6, 4)
    loaded.clear()
    assert (len(bench.sync().unchanged), loaded) == (6, [])


def test_the_same_text_in_two_documents_is_encoded_once_and_found_in_both(bench: Bench) -> None:
    bench.write("copy.txt", DOCUMENTS["oven.txt"])
    report = bench.sync()
    assert (report.nodes_written, report.texts_encoded) == (5, 4)
    hits = bench.engine(retriever__top_k=2, retriever__dedupe=False).retrieve(DOCUMENTS["oven.txt"].strip())
    assert sorted(str(hit.node.ref_doc_id) for hit in hits) == ["copy.txt", "oven.txt"]


# ---------------------------------------------------------------------------------- what did not change costs nothing


def test_a_second_sync_loads_nothing_locks_nothing_and_writes_nothing(
    bench: Bench, settled: None, loaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.sync()
    assert loaded == NAMES

    def state() -> dict[str, tuple[int, int]]:
        return {
            file.name: (file.stat().st_mtime_ns, file.stat().st_size)
            for file in bench.index.iterdir()
            if file.is_file()
        }

    def locked(self: WriterLock, seconds: float) -> None:
        raise AssertionError("the writer's lock was taken")

    reader = FaissStore(bench.index)  # keeps the log file of SQLite there
    len(reader)
    before = state()
    loaded.clear()
    encoder = Hashes()
    monkeypatch.setattr(WriterLock, "_acquire", locked)
    assert told(bench.sync(encoder)) == {"unchanged": NAMES}
    assert (loaded, encoder.texts, state()) == ([], [], before)
    reader.close()


def test_a_touched_document_is_read_and_not_encoded(bench: Bench, settled: None, loaded: list[str]) -> None:
    bench.sync()
    loaded.clear()
    os.utime(bench.folder / "oven.txt", (1, 1))
    assert told(bench.sync()) == {"unchanged": NAMES}
    assert loaded == ["oven.txt"]
    loaded.clear()
    bench.sync()
    assert loaded == []  # its new dates are known now


def test_a_moved_folder_is_read_and_not_encoded(bench: Bench, settled: None, loaded: list[str], tmp_path: Path) -> None:
    bench.sync()
    shutil.copytree(bench.folder, tmp_path / "elsewhere")
    loaded.clear()
    report = bench.sync(reader__path=str(tmp_path / "elsewhere"))
    assert told(report) == {"unchanged": NAMES}
    assert loaded == NAMES


def test_a_change_that_leaves_size_and_date_alone_is_seen(bench: Bench, settled: None) -> None:
    path = bench.write("oven.txt", "Bake at 240.")
    os.utime(path, (1000, 1000))
    bench.sync()
    path.write_text("Bake at 250.")
    os.utime(path, (1000, 1000))
    assert bench.sync().changed == ["oven.txt"]


def test_a_change_right_after_a_sync_is_seen(bench: Bench) -> None:
    # Within the clock's grain a file can change and keep its dates: young files are read again.
    for turn in range(5):
        bench.write("oven.txt", f"Turn {turn}.")
        bench.sync()
        assert bench.documents()["oven.txt"] == f"Turn {turn}."


def test_editing_one_paragraph_encodes_only_what_it_changed(bench: Bench) -> None:
    paragraphs = [f"Paragraph {number} is about the number {number}. " * 12 for number in range(40)]
    bench.write("long.txt", "\n\n\n".join(paragraphs))
    bench.config["chunker"] = {"type": "sentence", "chunk_size": 200}
    first = bench.sync()
    assert first.texts_encoded > 39
    before = bench.contents()
    paragraphs[20] = paragraphs[20].replace("about", "after")
    bench.write("long.txt", "\n\n\n".join(paragraphs))
    report = bench.sync()
    assert report.changed == ["long.txt"]
    assert 1 <= report.texts_encoded <= 4
    assert report.nodes_written >= 40
    after = bench.contents()
    assert len(before.keys() & after.keys()) >= len(after) - 4


def test_putting_a_paragraph_in_front_keeps_the_others_vectors(bench: Bench) -> None:
    bench.config["chunker"] = {"type": "markdown"}
    sections = [f"## Section {number}\n\nAbout the number {number}.\n" for number in range(30)]
    bench.write("long.md", "\n".join(sections))
    bench.sync()
    bench.write("long.md", "\n".join(["## First of all\n\nSomething new.\n", *sections]))
    assert bench.sync().texts_encoded == 1


# ---------------------------------------------------------------------------------- documents that fail


def test_a_failed_document_is_listed_until_it_is_mended(bench: Bench, settled: None) -> None:
    bench.write("notes.txt", b"\x00\x01\x02\x03" * 100)
    for _ in range(3):
        report = bench.sync()
        assert report.failed == [("notes.txt", "it is binary data, not text")]
        assert (len(report.added) or len(report.unchanged)) == 4
    bench.write("notes.txt", "Readable now.")
    report = bench.sync()
    assert (report.added, report.failed) == (["notes.txt"], [])


def test_a_failed_document_is_listed_until_it_is_gone(bench: Bench) -> None:
    bench.write("notes.txt", b"\x00\x01\x02\x03" * 100)
    assert len(bench.sync().failed) == 1
    (bench.folder / "notes.txt").unlink()
    report = bench.sync()
    assert (report.failed, report.removed) == ([], [])


def test_a_document_that_breaks_stays_searchable_as_it_was(bench: Bench, settled: None) -> None:
    bench.sync()
    bench.write("oven.txt", b"\x00\x01\x02\x03" * 100)
    for _ in range(2):
        report = bench.sync()
        assert (report.failed, report.removed) == ([("oven.txt", "it is binary data, not text")], [])
        assert bench.documents()["oven.txt"] == DOCUMENTS["oven.txt"].strip()
    bench.write("oven.txt", "Mended.")
    assert (bench.sync().changed, bench.documents()["oven.txt"]) == (["oven.txt"], "Mended.")


def test_a_document_that_breaks_stays_as_it_was_through_a_change_of_chunker(bench: Bench) -> None:
    bench.sync()
    bench.write("oven.txt", b"\x00\x01\x02\x03" * 100)
    report = bench.sync(chunker="none")
    assert [name for name, _ in report.failed] == ["oven.txt"]
    assert len(bench.documents()) == 4
    assert [name for name, _ in bench.sync(chunker="none").failed] == ["oven.txt"]


def test_on_error_stop_stops_and_keeps_what_was_committed(bench: Bench) -> None:
    bench.write("m.txt", b"\x00\x01\x02\x03" * 100)  # after harbour, before oven and the birds
    bench.config["sync"] = {"on_error": "stop", "batch_size": 1}
    with pytest.raises(DocumentError) as caught:
        bench.sync()
    assert str(caught.value) == "m.txt: it is binary data, not text"
    (bench.folder / "m.txt").unlink()
    report = bench.sync()
    assert (report.added, report.unchanged) == (NAMES[1:], NAMES[:1])


def test_a_folder_that_cannot_be_opened_keeps_its_documents(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.sync()
    scandir = os.scandir

    def closed(path: Any = ".") -> Any:
        if str(path).endswith("birds"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    report = bench.sync()
    assert report.failed == [("birds/", "the folder cannot be opened: Permission denied")]
    assert (report.removed, report.unchanged) == ([], ["harbour.txt", "oven.txt"])
    assert set(bench.documents()) == set(NAMES)
    monkeypatch.undo()
    report = bench.sync()
    assert (report.failed, report.unchanged) == ([], NAMES)


def test_a_missing_root_is_an_error_and_removes_nothing(bench: Bench) -> None:
    bench.sync()
    shutil.rmtree(bench.folder)
    with pytest.raises(ComponentError) as caught:
        bench.sync()
    assert str(caught.value) == f"reader 'directory': {bench.folder}: there is no such folder"
    assert set(bench.documents()) == set(NAMES)


def test_a_root_that_cannot_be_opened_is_an_error_and_removes_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.sync()

    def closed(path: Any = ".") -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(ComponentError) as caught:
        bench.sync()
    assert str(caught.value) == f"reader 'directory': {bench.folder}: Permission denied"
    monkeypatch.undo()
    assert set(bench.documents()) == set(NAMES)


def test_a_file_that_goes_between_listing_and_reading_is_reported(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = DirectoryReader.list_documents

    def then_gone(self: DirectoryReader) -> Iterator[Listed | Unlisted]:
        items = list(listing(self))
        (bench.folder / "oven.txt").unlink()
        return iter(items)

    monkeypatch.setattr(DirectoryReader, "list_documents", then_gone)
    report = bench.sync()
    assert report.failed == [("oven.txt", "the file cannot be read: No such file or directory")]
    monkeypatch.undo()
    assert bench.sync().failed == []


def test_a_name_that_is_not_utf8_is_reported_in_a_form_that_can_be_shown(bench: Bench) -> None:
    (Path(os.fsdecode(os.fsencode(bench.folder) + b"/caf\xe9.txt"))).write_text("Coffee.")
    report = bench.sync()
    assert report.failed == [("caf\\xe9.txt", "its name is not UTF-8")]
    assert len(report.added) == 4
    json.dumps(report.to_dict()).encode()
    str(report.failed).encode()


class Given(BaseReader):
    """A reader of ready documents, or of errors in their place."""

    def __init__(self, *documents: Document | tuple[str, Exception]) -> None:
        self.items = list(documents)

    def list_documents(self) -> Iterator[Listed | Unlisted]:
        for item in self.items:
            if isinstance(item, Document):
                yield Listed(item.id_, None, lambda item=item: item)  # type: ignore[misc]
            else:
                yield Listed(item[0], None, lambda error=item[1]: _raise(error))  # type: ignore[misc]


def _raise(error: Exception) -> Any:
    raise error


class Plain(BaseReader):
    """A LlamaIndex reader as they all are: `load_data` and nothing more."""

    def __init__(self, *documents: Document) -> None:
        self.documents = documents

    def load_data(self, *args: Any, **kwargs: Any) -> list[Document]:
        return [document.model_copy(deep=True) for document in self.documents]


def test_metadata_that_json_cannot_hold_fails_that_document_alone(bench: Bench) -> None:
    bench.parts["reader"] = Given(
        Document(id_="good", text="A good one."), Document(id_="bad", text="A bad one.", metadata={"tags": {"a"}})
    )
    report = bench.sync()
    assert report.added == ["good"]
    assert report.failed == [
        ("bad", "its metadata 'tags' is not representable in JSON: Object of type set is not JSON serializable")
    ]
    assert report.texts_encoded == 1


@pytest.mark.parametrize(
    "document",
    [
        Document(id_="bad", text="half an emoji \ud83d here"),
        Document(id_="bad", text="fine", metadata={"title": "half \ud83d"}),
    ],
    ids=["text", "metadata"],
)
def test_text_that_no_encoding_holds_fails_that_document_alone(bench: Bench, document: Document) -> None:
    bench.parts["reader"] = Given(document, Document(id_="good", text="A good one."))
    report = bench.sync()
    assert report.added == ["good"]
    what = "text" if document.text != "fine" else "metadata"
    assert report.failed == [("bad", f"its {what} contains a lone surrogate, so it is not UTF-8")]


class Picky(NodeParser):
    """A chunker that cannot cut everything."""

    def _parse_nodes(self, nodes: Any, show_progress: bool = False, **kwargs: Any) -> list[BaseNode]:
        if "bread" in nodes[0].get_content():
            raise IndexError("list index\nout of range")
        return [TextNode(text=node.get_content()) for node in nodes]


def test_a_document_that_the_chunker_cannot_cut_fails_alone(bench: Bench) -> None:
    bench.parts["chunker"] = Picky()
    report = bench.sync()
    assert report.failed == [("oven.txt", "it cannot be split: IndexError: list index out of range")]
    assert len(report.added) == 3


def test_nodes_of_a_chunker_that_names_no_source_belong_to_their_document(bench: Bench) -> None:
    bench.parts["chunker"] = Picky()
    (bench.folder / "oven.txt").unlink()
    bench.sync()
    assert set(bench.documents()) == set(NAMES) - {"oven.txt"}
    bench.write("harbour.txt", "Changed.")
    bench.sync()
    assert bench.documents()["harbour.txt"] == "Changed."


def test_an_error_that_a_reader_did_not_foresee_is_not_swallowed(bench: Bench) -> None:
    bench.parts["reader"] = Given(("x", ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError):
        bench.sync()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError], ids=["Ctrl-C", "encoder fails"])
def test_a_sync_that_is_broken_off_is_gone_on_with(bench: Bench, error: type[BaseException]) -> None:
    class Failing(Hashes):
        def _get_text_embedding(self, text: str) -> list[float]:
            if "Bake" in text:
                object.__setattr__(self, "_gone", True)
            if getattr(self, "_gone", False):
                raise error("enough")
            return super()._get_text_embedding(text)

    Failing.__module__, Failing.__qualname__ = Hashes.__module__, Hashes.__qualname__
    bench.config["sync"] = {"batch_size": 1}
    with pytest.raises(error):
        bench.sync(Failing())
    with pytest.raises(IndexNotBuilt):
        bench.engine()
    report = bench.sync()
    assert (report.unchanged, report.added, report.texts_encoded) == (NAMES[:1], NAMES[1:], 3)


# ---------------------------------------------------------------------------------- JSON Lines


@pytest.fixture
def lines(bench: Bench, tmp_path: Path) -> Callable[..., None]:
    """Write the records that the bench reads from now on."""
    path = tmp_path / "records.jsonl"
    bench.config["reader"] = {"type": "jsonl", "path": str(path), "id": "id"}

    def write(*records: Any) -> None:
        text = [record if isinstance(record, str) else json.dumps(record) for record in records]
        path.write_text("\n".join(text) + "\n")

    return write


A, B, C = ({"id": name, "text": f"The text of {name}."} for name in "abc")


def test_records_are_added_changed_and_removed(bench: Bench, lines: Callable[..., None]) -> None:
    lines(A, B, C)
    assert bench.sync().added == ["a", "b", "c"]
    lines(C, {**A, "text": "Another text."})
    assert told(bench.sync()) == {
        "changed": ["a"], "removed": ["b"], "unchanged": ["c"], "nodes_written": 1, "texts_encoded": 1
    }  # fmt: skip


def test_records_that_only_change_places_are_unchanged_and_not_loaded(
    bench: Bench, lines: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines(A, B, C)
    bench.sync()
    lines(C, A, B)
    monkeypatch.setattr(
        "rag_plugin.components.readers.jsonl.JsonlReader._load", lambda *_: pytest.fail("a record was loaded")
    )
    assert told(bench.sync()) == {"unchanged": ["c", "a", "b"]}


def test_a_record_without_its_text_fails_under_its_id_and_stays_as_it_was(
    bench: Bench, lines: Callable[..., None]
) -> None:
    lines(A, B)
    bench.sync()
    lines(A, {"id": "b"})
    for _ in range(2):
        report = bench.sync()
        assert report.failed == [("b", "line 2: the record has no field 'text'; it has id")]
        assert (report.removed, bench.documents()["b"]) == ([], "The text of b.")


def test_while_a_line_cannot_be_read_no_record_is_removed(bench: Bench, lines: Callable[..., None]) -> None:
    # It may be the line of any record that is missing: a file that an export left half written removes nothing.
    lines(A, B, C)
    bench.sync()
    lines(A, '{"id": "b", "te')
    report = bench.sync()
    assert [name for name, _ in report.failed] == ["line 2"]
    assert report.failed[0][1].startswith("the line is not JSON: ")
    assert (report.removed, set(bench.documents())) == ([], {"a", "b", "c"})
    lines(A)
    assert bench.sync().removed == ["b", "c"]


def test_half_an_emoji_in_a_record_takes_nothing_along(bench: Bench, lines: Callable[..., None]) -> None:
    lines(A, '{"id": "b", "text": "cut off \\ud83d"}', '{"id": "\\ud83dc", "text": "third"}')
    report = bench.sync()
    assert (report.added, report.failed) == (["a", "b", "\ufffdc"], [])
    assert bench.documents()["b"] == "cut off \ufffd"


# ---------------------------------------------------------------------------------- settings that change


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_another_chunker_cuts_anew_and_encodes_what_differs(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.write("long.txt", "\n\n\n".join(f"Paragraph {number} stands alone. " * 20 for number in range(10)))
    bench.config["chunker"] = {"type": "sentence", "chunk_size": 256, "chunk_overlap": 0}
    bench.sync()
    before = len(bench.contents())
    caplog.clear()
    report = bench.sync(chunker__chunk_size=128)
    assert sorted(report.changed) == sorted([*NAMES, "long.txt"])
    assert warnings_of(caplog) == [
        f"{bench.index}: chunker.chunk_size: 256 then, 128 now; the documents are split again"
    ]
    after = bench.contents()
    assert len(after) > before
    assert 0 < report.texts_encoded == len(after) - 4  # the four short documents are cut as before
    caplog.clear()
    assert told(bench.sync(chunker__chunk_size=128)).keys() == {"unchanged"}
    assert warnings_of(caplog) == []


def test_another_encoder_encodes_everything_while_the_old_version_answers(bench: Bench) -> None:
    bench.write("more.txt", "One more document.")
    bench.sync()
    seen: list[tuple[str | None, float]] = []
    old_reader = bench.engine()

    class Watched(Hashes):
        def _get_text_embedding(self, text: str) -> list[float]:
            for engine in (old_reader, bench.engine()):  # one that was open, one opened now
                hit = engine.retrieve(DOCUMENTS["oven.txt"].strip())[0]
                seen.append((hit.node.ref_doc_id, round(hit.score, 3)))
            return super()._get_text_embedding(text)

    Watched.__module__, Watched.__qualname__ = Hashes.__module__, Hashes.__qualname__
    bench.config["sync"] = {"batch_size": 1, "on_change": "resync"}
    report = bench.sync(Watched(salt=1))
    assert told(report) == {
        "changed": ["harbour.txt", "more.txt", "oven.txt", "birds/heron.md", "birds/lapwing.md"],
        "nodes_written": 5,
        "texts_encoded": 5,
    }
    assert len(seen) == 12
    assert set(seen) == {("oven.txt", 1.0)}
    with pytest.raises(IndexMismatch):
        bench.engine()
    assert bench.engine(Hashes(salt=1)).retrieve(DOCUMENTS["oven.txt"].strip())[0].score == pytest.approx(1.0)


def test_documents_that_went_are_reported_removed_by_another_encoder_too(bench: Bench) -> None:
    bench.sync()
    (bench.folder / "oven.txt").unlink()
    bench.write("new.txt", "A new one.")
    report = bench.sync(Hashes(salt=1))
    assert (report.added, report.removed) == (["new.txt"], ["oven.txt"])
    assert report.changed == [name for name in NAMES if name != "oven.txt"]


def test_going_back_to_the_first_encoder_half_way_costs_nothing(bench: Bench, settled: None) -> None:
    bench.sync()

    class Failing(Hashes):
        def _get_text_embedding(self, text: str) -> list[float]:
            if "Bake" in text:
                raise KeyboardInterrupt
            return super()._get_text_embedding(text)

    with pytest.raises(KeyboardInterrupt):
        bench.sync(Failing(salt=1), sync__batch_size=1)
    assert told(bench.sync()) == {"unchanged": NAMES}
    assert bench.engine().retrieve(DOCUMENTS["oven.txt"].strip())[0].score == pytest.approx(1.0)


def test_on_change_error_names_each_difference_and_the_cure(bench: Bench) -> None:
    bench.config["chunker"] = {"type": "sentence", "chunk_size": 256}
    bench.sync()
    before = bench.contents()
    bench.config["sync"] = {"on_change": "error"}
    with pytest.raises(IndexMismatch) as caught:
        bench.sync(Hashes(salt=1), chunker__chunk_size=128, reader__recursive=False)  # recursive only selects
    assert caught.value.differences == [
        "encoder.salt: 0 then, 1 now",
        "chunker.chunk_size: 256 then, 128 now",
    ]
    assert str(caught.value) == (
        f"{bench.index} was built with other settings:\n"
        "  encoder.salt: 0 then, 1 now\n"
        "  chunker.chunk_size: 256 then, 128 now\n"
        f"{HINTS[0]}"
    )
    assert bench.contents() == before
    assert bench.sync().unchanged == NAMES


def test_another_dimension_is_named(bench: Bench, minilm: Any) -> None:
    bench.sync()
    bench.config["sync"] = {"on_change": "error"}
    with pytest.raises(IndexMismatch) as caught:
        bench.sync(minilm)
    assert caught.value.differences[-1] == "encoder: vectors of 16 numbers then, of 384 now"


def test_other_weights_under_the_same_name_are_noticed(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.sync()
    other = Hashes(weights="fine-tuned")
    with pytest.raises(IndexMismatch) as caught:
        bench.engine(other)
    (difference,) = caught.value.differences
    assert difference.startswith("encoder: other weights under the same name (the same sentence gives cosine ")
    assert str(caught.value) == (f"{bench.index} was built with other settings:\n  {difference}\n{HINTS[0]}")
    caplog.clear()
    report = bench.sync(other)
    assert report.changed == NAMES
    assert warnings_of(caplog) == [f"{bench.index}: {difference}; everything is encoded again"]
    bench.engine(other)


def test_vectors_that_differ_in_their_last_digits_are_the_same_encoder(bench: Bench, settled: None) -> None:
    class Other(Hashes):
        def _get_text_embedding(self, text: str) -> list[float]:
            return [number * 1.0001 + 1e-5 for number in super()._get_text_embedding(text)]

    Other.__module__, Other.__qualname__ = Hashes.__module__, Hashes.__qualname__
    bench.sync()
    assert told(bench.sync(Other())) == {"unchanged": NAMES}


def test_an_engine_that_does_not_sync_says_that_the_chunker_changed(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.config["chunker"] = {"type": "sentence", "chunk_size": 256}
    bench.sync()
    caplog.clear()
    bench.engine(chunker__chunk_size=128)
    assert warnings_of(caplog) == [
        f"{bench.index}: chunker.chunk_size: 256 then, 128 now; the index has the old version until the next sync"
    ]


def test_settings_that_change_only_the_speed_are_no_difference(settings: dict[str, Any], settled: None) -> None:
    build_engine(settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WriterLock, "_acquire", lambda self, seconds: pytest.fail("the index was written to"))
        build_engine(settings, overrides={"encoder.batch_size": 7, "encoder.device": "cpu"})


def test_an_index_that_was_never_built_says_so(bench: Bench) -> None:
    with pytest.raises(IndexNotBuilt) as caught:
        bench.engine()
    assert str(caught.value) == (f'{bench.index}: it was never synced; call build_engine(..., sync="auto")')
    assert not bench.index.exists()


def test_what_came_from_the_environment_is_not_in_the_index(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "sw0rdf1sh")
    bench.config["chunker"] = {"type": "sentence", "embed_metadata": ["${SECRET}"]}
    bench.sync()
    assert b"sw0rdf1sh" not in b"".join(file.read_bytes() for file in bench.index.rglob("*") if file.is_file())
    monkeypatch.setenv("SECRET", "another")
    with pytest.raises(IndexMismatch) as caught:
        bench.sync(sync__on_change="error", chunker__embed_metadata=["${SECRET}", "x"])
    assert caught.value.differences == ["chunker.embed_metadata: ['${SECRET}'] then, ['${SECRET}', 'x'] now"]


# ---------------------------------------------------------------------------------- nodes added by hand


def _by_hand(encoder: Hashes, name: str) -> TextNode:
    node = TextNode(id_=name, text=f"By hand: {name}.")
    node.embedding = encoder.get_text_embedding(node.text)
    return node


def test_nodes_added_by_hand_stay(bench: Bench) -> None:
    bench.sync()
    store = FaissStore(bench.index)
    store.add([_by_hand(bench.encoder, "mine")])
    bench.write("oven.txt", "Changed.")
    (bench.folder / "harbour.txt").unlink()
    bench.sync()
    bench.sync(chunker="none")
    assert [node.node_id for node in store.get_nodes(["mine"])] == ["mine"]
    store.close()


def test_a_store_filled_by_hand_is_not_taken_over(bench: Bench) -> None:
    store = FaissStore(bench.index)
    store.add([_by_hand(bench.encoder, "mine")])
    assert bench.engine().retrieve("By hand: mine.")[0].node.node_id == "mine"
    with pytest.raises(IndexMismatch) as caught:
        bench.sync()
    assert str(caught.value) == (
        f"{bench.index} was built with other settings:\n"
        "  its vectors were added by hand, with an encoder that is not recorded\n"
        "A sync would remove them: set store.path to another directory, or clear() the store first."
    )
    assert len(store) == 1
    store.clear()
    assert bench.sync().added == NAMES
    store.close()


def test_a_document_put_into_the_engines_index_by_hand_is_found_and_stays(bench: Bench) -> None:
    bench.sync()
    engine = bench.engine()
    engine.index.insert(Document(id_="mine", text="Put in by hand."))
    assert engine.retrieve("Put in by hand.")[0].node.ref_doc_id == "mine"
    engine.sync()
    assert engine.retrieve("Put in by hand.")[0].node.ref_doc_id == "mine"


# ---------------------------------------------------------------------------------- any LlamaIndex part by its path


@pytest.mark.parametrize("reader", ["own", "by path"])
def test_any_llama_index_store_is_synced(bench: Bench, reader: str) -> None:
    bench.config["store"] = {"type": "llama_index.core.vector_stores.SimpleVectorStore"}
    if reader == "by path":
        bench.config["reader"] = {
            "type": "llama_index.core.SimpleDirectoryReader",
            "input_dir": str(bench.folder),
            "recursive": True,
            "filename_as_id": True,
        }
    engine = build_engine(bench.config, encoder=bench.encoder, overrides={"retriever.top_k": 9})
    texts = {text.strip() for text in DOCUMENTS.values()}
    assert len(bench.encoder.texts) == 4

    def found() -> set[str]:
        return {hit.node.get_content() for hit in engine.retrieve("anything")}

    assert found() == texts
    count = len(bench.encoder.texts)
    assert len(engine.sync().unchanged) == 4
    assert len(bench.encoder.texts) == count
    bench.write("oven.txt", "Another text.")
    (bench.folder / "harbour.txt").unlink()
    report = engine.sync()
    assert (len(report.changed), len(report.removed), len(report.unchanged)) == (1, 1, 2)
    texts = {text.strip() for name, text in DOCUMENTS.items() if name.startswith("birds")} | {"Another text."}
    assert found() == texts
    assert len(engine.store.data.embedding_dict) == 3


def test_a_reader_by_its_path_gives_the_same_ids_at_every_sync(bench: Bench) -> None:
    # Its documents have new random ids each time, and dates of the files in their metadata.
    bench.config["reader"] = {
        "type": "llama_index.core.SimpleDirectoryReader",
        "input_dir": str(bench.folder),
        "recursive": True,
    }
    first = bench.sync()
    assert len(set(first.added)) == 4
    for name in NAMES:
        os.utime(bench.folder / name, (10**9, 10**9))
    assert told(bench.sync()) == {"unchanged": first.added}
    bench.write("oven.txt", "Another text.")
    report = bench.sync()
    assert (report.changed, report.added, report.removed) == ([str(bench.folder / "oven.txt")], [], [])
    assert len(report.unchanged) == 3
    assert report.texts_encoded == 1


def test_a_reader_that_raises_is_named(bench: Bench) -> None:
    class Broken(BaseReader):
        def load_data(self, *args: Any, **kwargs: Any) -> list[Document]:
            raise ConnectionError("no route\nto host")

    bench.sync()
    bench.parts["reader"] = Broken()
    with pytest.raises(ComponentError) as caught:
        bench.sync()
    assert str(caught.value) == "Broken: ConnectionError: no route to host"
    assert set(bench.documents()) == set(NAMES)


def test_documents_of_one_reader_with_one_id_are_all_kept(bench: Bench) -> None:
    bench.parts["reader"] = Plain(Document(id_="page", text="One."), Document(id_="page", text="Two."))
    assert bench.sync().added == ["page", "page#2"]
    assert sorted(bench.documents().values()) == ["One.", "Two."]


def test_a_store_that_is_handed_in_is_synced(bench: Bench) -> None:
    store = SimpleVectorStore()
    engine = build_engine(bench.config, encoder=bench.encoder, store=store)
    assert len(store.data.embedding_dict) == 4
    assert engine.sync().unchanged == NAMES


# ---------------------------------------------------------------------------------- batches, locks, warnings


def test_memory_is_bounded_by_the_batch(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(40):
        bench.write(f"many/{number}.txt", f"Document number {number}.")
    committed: list[int] = []
    at_once: list[int] = []
    commit = FaissStore.commit

    def spy(self: FaissStore, generation: int, changed: Any = (), *args: Any, **kwargs: Any) -> None:
        committed.append(sum(len(nodes) for _, nodes in changed))
        commit(self, generation, changed, *args, **kwargs)

    class Counted(Hashes):
        def get_text_embedding_batch(self, texts: list[str], *args: Any, **kwargs: Any) -> Any:
            at_once.append(len(texts))
            return super().get_text_embedding_batch(texts, *args, **kwargs)

    monkeypatch.setattr(FaissStore, "commit", spy)
    report = bench.sync(Counted(), sync__batch_size=8)
    assert (sum(committed), max(committed), len(committed)) == (44, 8, 6)
    assert max(at_once) <= 8
    assert report.nodes_written == 44


def test_nodes_longer_than_the_encoder_sees_are_counted_and_warned_of(
    bench: Bench, minilm: Any, caplog: pytest.LogCaptureFixture
) -> None:
    # 2 x 254 tokens in each of two copies: half of their text is in no vector; the batches are of one document each.
    long = "one " * 508
    bench.write("long.txt", long)
    bench.write("same.txt", long)
    report = bench.sync(minilm, chunker={"type": "none", "too_long": "warn"}, sync__batch_size=1)
    assert (report.nodes_truncated, report.nodes_written) == (2, 6)
    short = sum(len(text) for text in DOCUMENTS.values())
    share = 100 * 2 * len(long) / 2 / (2 * len(long) + short)
    assert warnings_of(caplog) == [
        f"{bench.index}: 2 nodes are longer than the encoder's input, and {share:.0f} % of the text of this sync is in "
        "no vector; set chunker.too_long to split"
    ]
    caplog.clear()
    assert bench.sync(minilm).nodes_truncated == 0
    assert not any("longer than the encoder sees" in said for said in warnings_of(caplog))
    report = bench.sync(minilm, chunker="none")
    assert (report.nodes_truncated, report.nodes_written) == (0, 10)
    assert warnings_of(caplog)[-1] == (
        f"{bench.index}: 2 nodes were longer than the encoder's input, and were split; leave chunker.chunk_size unset, "
        "or use a chunker with a chunk_size"
    )
    report = bench.sync(minilm, chunker={"type": "none", "too_long": "error"})
    assert [name for name, _ in report.failed] == ["long.txt", "same.txt"]


def _sync_from_there(config: dict[str, Any], pipe: Any) -> None:
    pipe.recv()
    checked = load_config(config, provided=("encoder",))
    try:
        pipe.send(sync(checked.assemble({"encoder": Hashes(pause=0.002)}), checked.sync))
    except IndexLocked as error:
        pipe.send(str(error))


def test_two_processes_that_sync_at_once_leave_the_index_right(bench: Bench, tmp_path: Path) -> None:
    for number in range(60):
        bench.write(f"many/{number}.txt", f"Document number {number}.")
    bench.config["sync"] = {"batch_size": 10}
    running = []
    for _ in range(2):
        here, there = PROCESSES.Pipe()
        process = PROCESSES.Process(target=_sync_from_there, args=(bench.config, there))
        process.start()
        running.append((process, here))
    for _, pipe in running:
        pipe.send("go")
    reports = []
    for process, pipe in running:
        assert pipe.poll(60)
        reports.append(pipe.recv())
        process.join(60)
    assert all(isinstance(report, SyncReport) for report in reports)  # the second waited for the first
    assert sorted((len(report.added), len(report.unchanged)) for report in reports) == [(0, 64), (64, 0)]
    assert bench.contents() == _fresh(bench, tmp_path)


def test_a_sync_that_waits_too_long_for_another_says_who_writes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.sync()
    monkeypatch.setattr("rag_plugin.faiss_store.locks.writer_lock.LOCK_SECONDS", 0.1)
    bench.write("oven.txt", "Changed.")
    store = FaissStore(bench.index)
    with store.writing():
        with pytest.raises(IndexLocked) as caught:
            bench.sync()
        assert str(caught.value).startswith(f"{bench.index} is being written to by process {os.getpid()} on ")
        assert bench.engine().retrieve("anything")
    assert bench.sync().changed == ["oven.txt"]


def test_questions_are_answered_while_a_sync_runs(bench: Bench) -> None:
    bench.sync()
    engine = build_engine(bench.config, sync="never", encoder=Hashes(), overrides={"retriever.top_k": 1})
    for number in range(100):
        bench.write(f"many/{number}.txt", f"Document number {number}.")
    stop = threading.Event()
    wrong: list[Any] = []

    def ask() -> None:
        while not stop.is_set():
            hit = engine.retrieve(DOCUMENTS["oven.txt"].strip())[0]
            if hit.node.ref_doc_id != "oven.txt":
                wrong.append(hit)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    bench.sync(Hashes(pause=0.001), sync__batch_size=5)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert engine.retrieve("Document number 77.")[0].node.ref_doc_id == "many/77.txt"


def test_a_real_encoder_finds_what_was_synced(bench: Bench, minilm: Any) -> None:
    bench.sync(minilm)
    engine = bench.engine(minilm)
    assert engine.retrieve("What do herons eat?")[0].node.ref_doc_id == "birds/heron.md"
    bench.write("heron2.txt", "Penguins swim under the ice of Antarctica.")
    engine.sync()
    assert engine.retrieve("Which animal lives in Antarctica?")[0].node.ref_doc_id == "heron2.txt"


# ---------------------------------------------------------------------------------- random changes


def _fresh(bench: Bench, folder: Path) -> Hits:
    """What an index made at once of the present files holds."""
    index = Path(tempfile.mkdtemp(dir=folder))
    other = Bench(bench.folder, index / "fresh")
    other.config = {**bench.config, "store": {"type": "faiss", "path": str(other.index)}}
    other.sync(Hashes())
    return other.contents()


FILES = st.sampled_from(["a.txt", "b.md", "sub/c.txt", "sub/deep/d.md", "e.txt"])
TEXTS = st.lists(
    st.sampled_from(
        [
            "# Title",
            "One sentence here.",
            "Two more of them. And a second.",
            "",
            "LexicalView " * 60,
            "café 東京",
            "\f",
            "x",
        ]
    ),
    max_size=6,
).map("\n\n".join)
CHANGES = st.one_of(
    st.tuples(st.just("write"), FILES, TEXTS),
    st.tuples(st.just("append"), FILES, TEXTS),
    st.tuples(st.just("binary"), FILES, st.just("")),
    st.tuples(st.just("delete"), FILES, st.just("")),
    st.tuples(st.just("rename"), FILES, FILES),
    st.tuples(st.just("touch"), FILES, st.just("")),
    st.tuples(st.just("sync"), st.just(""), st.sampled_from(["sentence", "none", "markdown"])),
)


def _change(folder: Path, what: str, name: str, other: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if what == "write":
        path.write_text(other)
    elif what == "append":
        path.write_text((path.read_text(errors="replace") if path.exists() else "") + other)
    elif what == "binary":
        path.write_bytes(bytes(range(256)))
    elif path.exists():
        if what == "delete":
            path.unlink()
        elif what == "touch":
            os.utime(path, (12345, 12345))
        else:
            (folder / other).parent.mkdir(parents=True, exist_ok=True)
            path.rename(folder / other)


@pytest.mark.slow
@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(CHANGES, min_size=1, max_size=15), st.sampled_from([1, 3, 100]), st.booleans())
def test_whatever_happens_to_the_files_the_index_is_as_if_made_anew(
    changes: list[tuple[str, str, str]], batch_size: int, old_files: bool
) -> None:
    folder = Path(tempfile.mkdtemp())
    with pytest.MonkeyPatch.context() as patch:
        if old_files:  # the dates are trusted
            patch.setattr(
                "rag_plugin.components.readers.directory.time",
                SimpleNamespace(time_ns=lambda: time.time_ns() + 60 * 10**9),
            )
        try:
            (folder / "docs").mkdir()
            bench = Bench(folder / "docs", folder / "index")
            bench.config["chunker"] = {"type": "sentence"}
            bench.config["sync"] = {"batch_size": batch_size, "on_change": "resync"}
            for what, name, other in [*changes, ("sync", "", "sentence")]:
                if what != "sync":
                    _change(bench.folder, what, name, other)
                    continue
                bench.config["chunker"] = {"type": other}
                report = bench.sync()
                stale = {name for name, _ in report.failed}
                found = {key: value for key, value in bench.contents().items() if value[0] not in stale}
                assert found == _fresh(bench, folder)
        finally:
            shutil.rmtree(folder)


def test_what_cannot_be_read_stays_searchable_through_a_change_of_encoder(bench: Bench) -> None:
    bench.sync()
    before = {name: value for name, value in bench.contents().items() if value[0] == "oven.txt"}
    assert before
    bench.write("oven.txt", b"\xff\xfe\x00\x00\x00\xd8" * 3)  # no text in any encoding
    report = bench.sync(Hashes(salt=1))
    assert [name for name, _ in report.failed] == ["oven.txt"]
    assert report.removed == []
    after = bench.contents()
    assert {value[1] for value in after.values() if value[0] == "oven.txt"} == {value[1] for value in before.values()}
    assert [name for name, _ in bench.sync(Hashes(salt=1)).failed] == ["oven.txt"]  # told until it is mended
    bench.write("oven.txt", "Bake it again.")
    assert bench.sync(Hashes(salt=1)).changed == ["oven.txt"]


def test_a_notebook_shows_what_a_sync_did_and_what_failed() -> None:
    report = SyncReport(added=["a"], failed=[("b.pdf", "not a PDF | broken")], nodes_written=1, texts_encoded=1)
    assert report._repr_markdown_() == (
        "1 added, 1 failed; 1 nodes written, 1 encoded in 0.0 s\n\n"
        "| cannot be read | reason |\n| --- | --- |\n| b.pdf | not a PDF \\| broken |"
    )
    assert SyncReport()._repr_markdown_() == str(SyncReport())


# ---------------------------------------------------------------------------------- which documents are read


def test_other_patterns_add_and_remove_documents_without_a_resync(
    bench: Bench, settled: None, loaded: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    bench.config["sync"] = {"on_change": "error"}
    bench.sync()
    loaded.clear()
    report = bench.sync(reader__include=["birds/*"])
    assert (loaded, warnings_of(caplog)) == ([], [])
    assert (report.removed, report.unchanged) == (NAMES[:2], NAMES[2:])
    assert (report.nodes_written, report.texts_encoded) == (0, 0)
    report = bench.sync(reader__exclude=["oven.txt"])
    assert (report.added, report.unchanged) == (NAMES[:1], NAMES[2:])
    report = bench.sync(reader__recursive=False)
    assert (report.added, report.removed) == (["oven.txt"], NAMES[2:])


def test_another_folder_in_the_list_only_adds_its_documents(bench: Bench, tmp_path: Path, settled: None) -> None:
    bench.config["sync"] = {"on_change": "error"}
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "gull.txt").write_text("Gulls steal chips.", encoding="utf-8")
    folder = bench.folder.name
    bench.sync(reader__path=[str(bench.folder)])
    report = bench.sync(reader__path=[str(bench.folder), str(tmp_path / "more")])
    assert (report.added, report.unchanged) == (["more/gull.txt"], [f"{folder}/{name}" for name in NAMES])

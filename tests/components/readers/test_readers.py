"""The directory and JSON Lines readers: what is a document, what is reported, and nothing in silence."""

from __future__ import annotations

import json
import os
import socket
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.schema import Document, MetadataMode

from rag_plugin.components.readers.components import directory
from rag_plugin.components.readers.directory import DirectoryReader
from rag_plugin.components.readers.jsonl import JsonlReader
from rag_plugin.components.readers.listing import content_hash, source_of
from rag_plugin.components.registry.bound_reader import BoundReader
from rag_plugin.config import load_config
from rag_plugin.errors import ComponentError, DocumentError
from rag_plugin.protocols import DocumentSource, Listed, Unlisted
from tests.conftest import MINILM


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    return tmp_path / "docs"


def fill(folder: Path, *names: str) -> None:
    """Make files, each with its own name for a text."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"This is {name}.")


def ids(reader: Any) -> list[str]:
    """The ids of the documents that a reader lists; what it cannot list is an error here."""
    items = list(reader.list_documents())
    assert [item for item in items if isinstance(item, Unlisted)] == []
    return [item.id for item in items]


def failures(reader: Any) -> list[tuple[str, str]]:
    """What a reader could not list, and what it listed and cannot load."""
    found = []
    for item in reader.list_documents():
        if isinstance(item, Unlisted):
            found.append((item.id, item.reason))
            continue
        try:
            item.load()
        except DocumentError as error:
            found.append((error.document_id, error.reason))
    return found


def texts(reader: Any) -> dict[str, str]:
    return {item.id: item.load().text for item in reader.list_documents() if isinstance(item, Listed)}


# ---------------------------------------------------------------------------------- directory


def test_files_of_all_folders_are_documents_in_a_stable_order(folder: Path) -> None:
    fill(folder, "b.txt", "a.md", "sub/deep/d.rst", "sub/c.txt", "zoo/e.html")
    reader = DirectoryReader(folder)
    assert ids(reader) == ["a.md", "b.txt", "sub/c.txt", "sub/deep/d.rst", "zoo/e.html"]
    assert texts(reader)["sub/deep/d.rst"] == "This is sub/deep/d.rst."
    assert isinstance(reader, DocumentSource)


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (["*.md"], [], ["a.md", "docs/b.md", "docs/deep/c.md"]),
        (["/*.md"], [], ["a.md"]),
        (["docs/*.md"], [], ["docs/b.md"]),
        (["docs/**/*.md"], [], ["docs/b.md", "docs/deep/c.md"]),
        (["docs/"], [], ["docs/b.md", "docs/deep/c.md", "docs/deep/d.txt"]),
        (["*.md", "!docs/b.md"], [], ["a.md", "docs/deep/c.md"]),
        (["*.xyz"], [], ["odd.xyz"]),
        ([], ["docs/"], ["a.md", "e.txt"]),
        ([], ["*.md"], ["docs/deep/d.txt", "e.txt"]),
        ([], ["*", "!e.txt"], ["e.txt"]),
        (["*.md"], ["deep/"], ["a.md", "docs/b.md"]),
        (["a.md"], ["a.md"], []),
    ],
)
def test_patterns_choose_documents_as_in_gitignore(
    folder: Path, include: list[str], exclude: list[str], expected: list[str]
) -> None:
    fill(folder, "a.md", "docs/b.md", "docs/deep/c.md", "docs/deep/d.txt", "e.txt", "odd.xyz")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sorted(ids(DirectoryReader(folder, include, exclude))) == expected


def test_folders_in_the_folder_are_left_out_on_request(folder: Path) -> None:
    fill(folder, "a.txt", "sub/b.txt")
    assert ids(DirectoryReader(folder, recursive=False)) == ["a.txt"]


def test_hidden_files_and_folders_are_read_on_request_only(folder: Path) -> None:
    fill(folder, "a.txt", ".hidden.txt", ".git/config.txt", "sub/.b.txt")
    assert ids(DirectoryReader(folder)) == ["a.txt"]
    assert sorted(ids(DirectoryReader(folder, hidden=True))) == [
        ".git/config.txt",
        ".hidden.txt",
        "a.txt",
        "sub/.b.txt",
    ]


def test_a_folder_below_a_hidden_one_is_not_hidden(tmp_path: Path) -> None:
    # SimpleDirectoryReader looks at the whole path and finds no files in ~/.cache/docs.
    fill(tmp_path / ".cache" / "docs", "a.txt")
    assert ids(DirectoryReader(tmp_path / ".cache" / "docs")) == ["a.txt"]


def test_files_of_unknown_kinds_are_counted_in_one_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(folder, "a.txt", "b.xyz", "sub/c.XYZ", "d.exe", "Makefile")
    assert ids(DirectoryReader(folder)) == ["a.txt"]
    assert caplog.messages == [f"{folder}: skipped files: 2 .xyz, 1 without a suffix, 1 .exe"]


def test_an_upper_case_suffix_is_known(folder: Path) -> None:
    fill(folder, "A.TXT", "B.Md", "C.HTML")
    assert ids(DirectoryReader(folder)) == ["A.TXT", "B.Md", "C.HTML"]


@pytest.mark.parametrize(
    "name",
    ["-dash.txt", "with space.txt", "naïve – draft (v2).md", "отчёт.txt", "🚀.txt", "a" * 200 + ".txt", "#x%20$y.txt",
     "new\nline.txt", "back\\slash.txt", "'quote\".txt", "..dots.txt"[1:], "a.b.c.txt", "עברית.txt"],
)  # fmt: skip
def test_odd_names_are_names(folder: Path, name: str) -> None:
    (folder / name).write_text("Some text.")
    hidden = name.startswith(".")
    assert texts(DirectoryReader(folder, hidden=hidden)) == {name: "Some text."}


def test_a_name_that_is_not_utf8_is_reported(folder: Path) -> None:
    raw = os.fsencode(folder)
    (Path(os.fsdecode(raw + b"/caf\xe9.txt"))).write_text("x")
    os.mkdir(raw + b"/d\xe9")
    (Path(os.fsdecode(raw + b"/d\xe9/in.txt"))).write_text("x")
    (Path(os.fsdecode(raw + b"/odd.\xe9"))).write_text("x")
    assert failures(DirectoryReader(folder)) == [
        ("caf\\xe9.txt", "its name is not UTF-8"),
        ("d\\xe9/in.txt", "its name is not UTF-8"),
    ]


def test_links_are_left_out_and_told(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, "outside/secret.txt")
    fill(folder, "a.txt")
    (folder / "link.txt").symlink_to(tmp_path / "outside" / "secret.txt")
    (folder / "inner.txt").symlink_to(folder / "a.txt")
    (folder / "linked").symlink_to(tmp_path / "outside")
    assert ids(DirectoryReader(folder)) == ["a.txt"]
    assert caplog.messages == [
        f"{folder}: skipped files: 2 links (follow_links: true reads them), "
        "1 links to folders (follow_links: true reads them)"
    ]
    reader = DirectoryReader(folder, follow_links=True)
    assert ids(reader) == ["a.txt", "inner.txt", "link.txt", "linked/secret.txt"]
    assert texts(reader)["linked/secret.txt"] == "This is outside/secret.txt."


def test_a_root_that_is_a_link_is_followed(folder: Path, tmp_path: Path) -> None:
    fill(folder, "a.txt")
    (tmp_path / "link").symlink_to(folder)
    assert ids(DirectoryReader(tmp_path / "link")) == ["a.txt"]


def test_links_in_a_circle_end(folder: Path) -> None:
    fill(folder, "a/a.txt", "b/b.txt")
    (folder / "self").symlink_to(folder)
    (folder / "a" / "up").symlink_to(folder)
    (folder / "a" / "b").symlink_to(folder / "b")
    (folder / "b" / "a").symlink_to(folder / "a")
    (folder / "round.txt").symlink_to(folder / "round.txt")
    assert ids(DirectoryReader(folder)) == ["a/a.txt", "b/b.txt"]
    reader = DirectoryReader(folder, follow_links=True)
    items = list(reader.list_documents())
    assert {"a/a.txt", "b/b.txt"} <= {item.id for item in items}
    assert len(items) < 12
    assert [item.id for item in items if isinstance(item, Unlisted)] == ["round.txt"]


def test_a_link_to_nothing_is_reported_where_links_are_followed(folder: Path) -> None:
    fill(folder, "a.txt")
    (folder / "broken.txt").symlink_to(folder / "nowhere")
    assert failures(DirectoryReader(folder)) == []
    assert failures(DirectoryReader(folder, follow_links=True)) == [
        ("broken.txt", "the file cannot be opened: No such file or directory")
    ]


def test_pipes_and_sockets_are_not_opened(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(folder, "a.txt")
    os.mkfifo(folder / "pipe.txt")  # opening it would wait for ever
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s.txt"))
        assert texts(DirectoryReader(folder, ["*"])) == {"a.txt": "This is a.txt."}
    assert caplog.messages == [f"{folder}: skipped files: 2 pipes, sockets or devices"]


def test_a_folder_that_looks_like_a_file_is_a_folder(folder: Path) -> None:
    fill(folder, "notes.txt/inner.txt")
    assert ids(DirectoryReader(folder)) == ["notes.txt/inner.txt"]


def test_a_file_that_goes_after_listing_is_reported(folder: Path) -> None:
    fill(folder, "a.txt")
    (item,) = DirectoryReader(folder).list_documents()
    (folder / "a.txt").unlink()
    assert isinstance(item, Listed)
    with pytest.raises(DocumentError) as caught:
        item.load()
    assert str(caught.value) == "a.txt: the file cannot be read: No such file or directory"


def test_a_file_that_cannot_be_opened_is_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(folder, "a.txt", "b.txt")
    read = Path.read_bytes

    def closed(self: Path) -> bytes:
        if self.name == "a.txt":
            raise PermissionError(13, "Permission denied", str(self))
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", closed)
    assert failures(DirectoryReader(folder)) == [("a.txt", "the file cannot be read: Permission denied")]


def test_a_folder_that_cannot_be_opened_is_reported_with_all_below_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, "a.txt", "closed/b.txt", "open/c.txt")
    scandir = os.scandir

    def closed(path: Any = ".") -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    items = list(DirectoryReader(folder).list_documents())
    assert [item.id for item in items if isinstance(item, Listed)] == ["a.txt", "open/c.txt"]
    assert [item for item in items if isinstance(item, Unlisted)] == [
        Unlisted("closed/", "the folder cannot be opened: Permission denied", prefix="closed/")
    ]


@pytest.mark.parametrize(("name", "what"), [("nowhere", "there is no such folder"), ("a.txt", "this is not a folder")])
def test_a_root_that_is_no_folder_is_an_error(folder: Path, name: str, what: str) -> None:
    fill(folder, "a.txt")
    with pytest.raises(ComponentError) as caught:
        list(DirectoryReader(folder / name).list_documents())
    assert str(caught.value) == f"reader 'directory': {folder / name}: {what}"


def test_nothing_of_the_metadata_depends_on_place_or_time(folder: Path, tmp_path: Path) -> None:
    fill(folder, "sub/a.txt")
    fill(tmp_path / "other", "sub/a.txt")
    os.utime(tmp_path / "other" / "sub" / "a.txt", (1, 1))
    (one,), (two,) = DirectoryReader(folder).load_data(), DirectoryReader(tmp_path / "other").load_data()
    assert one == two
    assert one.metadata == {"file_path": "sub/a.txt", "file_name": "a.txt"}
    assert content_hash(one) == content_hash(two)


def test_nothing_of_the_metadata_is_encoded_or_shown_to_the_llm(folder: Path) -> None:
    fill(folder, "sub/a.txt")
    (document,) = DirectoryReader(folder).load_data()
    for mode in (MetadataMode.EMBED, MetadataMode.LLM):
        assert document.get_content(metadata_mode=mode) == "This is sub/a.txt."


def test_a_stamp_is_given_to_files_that_rest_and_changes_with_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change_token() -> str | None:
        (item,) = DirectoryReader(folder).list_documents()
        assert isinstance(item, Listed)
        return item.change_token

    path = folder / "a.txt"
    path.write_text("one")
    assert change_token() is None  # it may change again without a trace in its dates
    monkeypatch.setattr(
        "rag_plugin.components.readers.directory.time", SimpleNamespace(time_ns=lambda: time.time_ns() + 10**10)
    )
    first = change_token()
    assert first is not None
    assert change_token() == first
    os.utime(path, (1, 1))
    second = change_token()
    path.write_text("two")
    os.utime(path, (1, 1))
    third = change_token()
    path.unlink()
    path.write_text("two")
    os.utime(path, (1, 1))
    assert len({first, second, third, change_token()}) == 4


def test_load_data_gives_what_can_be_read_and_warns_of_the_rest(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(folder, "a.txt")
    (folder / "b.txt").write_bytes(bytes(range(256)) * 4)
    assert [document.id_ for document in DirectoryReader(folder).load_data()] == ["a.txt"]
    assert caplog.messages == ["b.txt: it is not UTF-8, and no other encoding fits it"]


def test_listing_a_large_folder_opens_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2000):
        (folder / f"{number}.txt").touch()
    monkeypatch.setattr(Path, "open", None)
    monkeypatch.setattr(Path, "read_bytes", None)
    assert len(ids(DirectoryReader(folder))) == 2000


# ---------------------------------------------------------------------------------- JSON Lines

Lines = Callable[..., Path]


@pytest.fixture
def lines(tmp_path: Path) -> Lines:
    """Write a JSON Lines file: records, or lines as they are."""

    def write(*records: Any, end: bytes = b"\n", start: bytes = b"") -> Path:
        raw = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
        path = tmp_path / "records.jsonl"
        path.write_bytes(start + end.join(raw) + end)
        return path

    return write


def jsonl(path: Path, text: str | list[str] = "text", id: str | None = "id", metadata: Any = ()) -> JsonlReader:
    return JsonlReader(path, text, id, metadata)


def test_a_record_is_a_document(lines: Lines) -> None:
    path = lines({"id": "a", "text": "First.", "page": 3, "tags": ["x"], "other": 1}, {"id": "b", "text": "Second."})
    one, two = jsonl(path, metadata=["page", "tags"]).load_data()
    assert (one.id_, one.text, one.metadata) == ("a", "First.", {"page": 3, "tags": ["x"]})
    assert (two.id_, two.text, two.metadata) == ("b", "Second.", {})
    assert one.get_content(metadata_mode=MetadataMode.EMBED) == "First."
    assert one.get_content(metadata_mode=MetadataMode.LLM) == "First."


def test_several_fields_are_joined_by_a_newline(lines: Lines) -> None:
    path = lines({"id": 1, "title": "Title", "body": "Body.", "n": 3, "l": ["ä"], "none": None})
    (document,) = jsonl(path, ["title", "body", "n", "l", "none"]).load_data()
    assert document.text == 'Title\nBody.\n3\n["ä"]\n'


@pytest.mark.parametrize(
    ("given", "expected"), [(7, "7"), (0, "0"), (1.5, "1.5"), ("ü/x", "ü/x"), (False, "False")], ids=repr
)
def test_an_id_may_be_a_number(lines: Lines, given: Any, expected: str) -> None:
    assert ids(jsonl(lines({"id": given, "text": "x"}))) == [expected]


def test_without_an_id_field_the_id_follows_from_the_record(lines: Lines) -> None:
    one, two = {"text": "One."}, {"text": "Two."}
    first = ids(jsonl(lines(one, two, one, one), id=None))
    assert len(set(first)) == 4
    again = ids(jsonl(lines({"text": "Zero."}, one, one, two, one), id=None))
    assert set(again[1:]) == set(first)  # also those of the same record three times


@pytest.mark.parametrize(
    ("line", "name", "reason"),
    [
        (b'{"text": "x"}', "line 2", "the record has no field 'id'; it has text"),
        (b'{"id": null, "text": "x"}', "line 2", "the id in the field 'id' is empty"),
        (b'{"id": "", "text": "x"}', "line 2", "the id in the field 'id' is empty"),
        (b'{"id": "a", "text": "x"}', "line 2", "the id 'a' is already used on line 1"),
        (b'{"id": "b", "body": "x"}', "b", "line 2: the record has no field 'text'; it has id, body"),
        (b'{"id": "b", "te', "line 2",
         "the line is not JSON: Unterminated string starting at: line 1 column 13 (char 12)"),
        (b"[1, 2]", "line 2", "the line is not a JSON object"),
        (b'"text"', "line 2", "the line is not a JSON object"),
        (b'{"id": "b", "text": "caf\xe9"}', "line 2", "the line is not UTF-8"),
        (b"{}", "line 2", "the record has no field 'id'; it has none"),
        (b"[" * 100_000, "line 2", "the line is nested too deeply"),
    ],
    ids=["no id", "null id", "empty id", "id twice", "no text", "half", "list", "string", "latin-1", "empty", "deep"],
)  # fmt: skip
def test_a_bad_record_is_reported_with_its_line_and_no_other_suffers(
    lines: Lines, line: bytes, name: str, reason: str
) -> None:
    path = lines({"id": "a", "text": "First."}, line, {"id": "c", "text": "Third."})
    assert failures(jsonl(path)) == [(name, reason)]
    assert texts(jsonl(path)) == {"a": "First.", "c": "Third."}


def test_only_a_line_that_cannot_be_read_hides_records(lines: Lines) -> None:
    def prefixes(**settings: Any) -> list[str | None]:
        path = lines(b"{half", {"text": "no id"}, {"id": "b"})
        items = jsonl(path, **settings).list_documents()
        return [item.prefix for item in items if isinstance(item, Unlisted)]

    assert prefixes() == ["", None, None]
    assert prefixes(id=None) == [None, None]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n", b"\n  \n"], ids=["LF", "CRLF", "empty lines", "spaces"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b"\n\n"], ids=["plain", "byte order mark", "empty start"])
def test_line_ends_and_marks_do_not_matter(lines: Lines, end: bytes, start: bytes) -> None:
    path = lines({"id": "a", "text": "É."}, {"id": "b", "text": "ü\nx"}, end=end, start=start)
    assert texts(jsonl(path)) == {"a": "É.", "b": "ü\nx"}


def test_a_last_line_without_an_end_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"id": 1, "text": "a"}\n{"id": 2, "text": "b"}')
    assert texts(jsonl(tmp_path / "x.jsonl")) == {"1": "a", "2": "b"}


def test_a_record_put_behind_the_last_line_leaves_it_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "a"}')
    before = ids(jsonl(path, id=None))
    path.write_text('{"text": "a"}\r\n{"text": "b"}')
    assert ids(jsonl(path, id=None))[:1] == before


def test_an_empty_file_holds_no_documents(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").touch()
    assert ids(jsonl(tmp_path / "x.jsonl")) == []


@pytest.mark.parametrize(("name", "what"), [("nowhere", "No such file or directory"), ("", "Is a directory")])
def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path, name: str, what: str) -> None:
    with pytest.raises(ComponentError) as caught:
        ids(jsonl(tmp_path / name))
    assert str(caught.value) == f"reader 'jsonl': {tmp_path / name}: {what}"


@pytest.mark.parametrize("change", ["replace", "shorten", "delete"])
def test_a_file_that_changes_while_it_is_read_gives_no_wrong_text(lines: Lines, change: str) -> None:
    path = lines({"id": "a", "text": "First."}, {"id": "b", "text": "Second."})
    _, item = jsonl(path).list_documents()
    assert isinstance(item, Listed)
    if change == "replace":
        lines({"id": "a", "text": "Another."}, {"id": "b", "text": "Second."})
    elif change == "shorten":
        lines({"id": "a", "text": "x"})
    else:
        path.unlink()
    with pytest.raises(DocumentError) as caught:
        item.load()
    assert str(caught.value) == (
        "b: the file cannot be read: No such file or directory"
        if change == "delete"
        else "b: the file changed while it was being read; sync again"
    )


def test_half_a_surrogate_pair_becomes_the_replacement_character(lines: Lines) -> None:
    path = lines(b'{"id": "a", "text": "whole \\uD83D\\uDE00, half \\ud83d.", "k": ["\\uDC00"]}')
    (document,) = jsonl(path, metadata=["k"]).load_data()
    assert (document.text, document.metadata) == ("whole 😀, half \ufffd.", {"k": ["\ufffd"]})
    assert texts(jsonl(lines(b'{"id": "a", "text": "a path: C:\\\\udata"}'))) == {"a": "a path: C:\\udata"}


JSON_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@given(st.dictionaries(JSON_TEXT, JSON_TEXT, max_size=8), st.booleans(), st.sampled_from([b"\n", b"\r\n", b"\n\n"]))
def test_whatever_text_a_record_holds_comes_back(
    tmp_path_factory: pytest.TempPathFactory, records: dict[str, str], escaped: bool, end: bytes
) -> None:
    path = tmp_path_factory.mktemp("jsonl") / "x.jsonl"
    raw = [json.dumps({"id": name, "text": text}, ensure_ascii=escaped).encode() for name, text in records.items()]
    path.write_bytes(end.join(raw))
    assert texts(jsonl(path)) == records


def test_a_long_file_is_not_held_in_memory(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "long.jsonl"
    with path.open("w") as file:
        for number in range(300):
            file.write(json.dumps({"id": number, "text": "x" * 100_000}) + "\n")
    tracemalloc.start()
    count = sum(len(item.load().text) for item in jsonl(path).list_documents() if isinstance(item, Listed))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 30_000_000
    assert peak < 5_000_000


# ---------------------------------------------------------------------------------- from the config


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"type": "directory", "path": "docs", "include": ["*.md"]}, ["b.md"]),
        ({"type": "directory", "path": "docs", "exclude": ["*.md"], "recursive": False}, ["a.txt"]),
        ({"type": "jsonl", "path": "docs/r.jsonl", "text": ["t", "u"], "id": "k"}, ["7"]),
    ],
    ids=["include", "exclude", "jsonl"],
)
def test_a_reader_is_built_from_its_section(folder: Path, section: dict[str, Any], expected: list[str]) -> None:
    fill(folder, "a.txt", "b.md", "sub/c.txt")
    (folder / "r.jsonl").write_text('{"k": 7, "t": "one", "u": "two"}\n')
    section = {**section, "path": str(folder.parent / section["path"])}
    if section.get("exclude"):
        section["exclude"] = ["*.md", "*.jsonl"]
    config = load_config({"reader": section, "encoder": {"type": "huggingface", "model": MINILM},
                          "store": {"type": "faiss", "path": str(folder / "index")}})  # fmt: skip
    assert ids(config.build("reader")) == expected


def test_arguments_of_load_data_go_to_the_reader() -> None:
    from llama_index.core.readers import StringIterableReader

    reader = BoundReader(StringIterableReader(), {"texts": ["One.", "Two."]})
    assert [document.text for document in reader.load_data()] == ["One.", "Two."]
    items = list(source_of(reader).list_documents())
    again = list(source_of(reader).list_documents())
    assert len({item.id for item in items}) == 2
    assert [item.id for item in items] == [item.id for item in again]


def test_the_hash_of_a_document_leaves_out_dates_and_nothing_else() -> None:
    document = Document(text="x", metadata={"a": 1, "last_modified_date": "2024-01-01", "file_size": 3})
    same = Document(text="x", metadata={"file_size": 4, "creation_date": "1999", "a": 1})
    assert content_hash(document) == content_hash(same)
    assert content_hash(document) != content_hash(Document(text="y", metadata={"a": 1}))
    assert content_hash(document) != content_hash(Document(text="x", metadata={"a": 2}))


# ---------------------------------------------------------------------------------- several folders


def test_several_folders_are_read_as_one(tmp_path: Path) -> None:
    for folder, name in (("docs", "a.txt"), ("wiki", "a.txt"), ("wiki", "deep/b.txt"), ("x/notes", "c.txt")):
        (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / name).write_text(f"This is {folder}/{name}.", encoding="utf-8")
    reader = directory(path=[tmp_path / "docs", tmp_path / "wiki", tmp_path / "x/notes"])
    assert texts(reader) == {
        "docs/a.txt": "This is docs/a.txt.",
        "notes/c.txt": "This is x/notes/c.txt.",
        "wiki/a.txt": "This is wiki/a.txt.",
        "wiki/deep/b.txt": "This is wiki/deep/b.txt.",
    }
    (tmp_path / "y/notes").mkdir(parents=True)
    (tmp_path / "y/notes/c.txt").write_text("Another.", encoding="utf-8")
    assert set(texts(directory(path=[tmp_path / "x/notes", tmp_path / "y/notes"]))) == {
        "x/notes/c.txt",
        "y/notes/c.txt",
    }
    assert ids(directory(path=[tmp_path / "docs"])) == ["docs/a.txt"]
    with pytest.raises(ComponentError, match="there is no such folder"):
        list(directory(path=[tmp_path / "docs", tmp_path / "missing"]).list_documents())  # type: ignore[attr-defined]


# ---------------------------------------------------------------------------------- patterns and names


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (["*.txt"], [], ["A.TXT", "b.txt"]),
        (["*.TXT"], [], ["A.TXT", "b.txt"]),
        ([], ["a.txt"], ["b.txt", "re\u0301sume\u0301.md"]),
        (["r\u00e9sum\u00e9.md"], [], ["re\u0301sume\u0301.md"]),
        (["R\u00c9SUM\u00c9.*"], [], ["re\u0301sume\u0301.md"]),
        ([], ["r\u00e9*"], ["A.TXT", "b.txt"]),
    ],
)
def test_patterns_match_in_any_case_and_normal_form(
    tmp_path: Path, include: list[str], exclude: list[str], expected: list[str]
) -> None:
    for name in ("A.TXT", "b.txt", "re\u0301sume\u0301.md"):
        (tmp_path / name).write_text("Some text.", encoding="utf-8")
    assert ids(DirectoryReader(tmp_path, include, exclude)) == expected


@pytest.mark.parametrize("include", [[], ["*"]])
def test_files_that_programs_keep_beside_documents_are_no_documents(tmp_path: Path, include: list[str]) -> None:
    for name in (
        "~$report.docx", "desktop.ini", "Desktop.ini", "Thumbs.db", "~WRL0001.tmp", ".~lock.report.odt#", ".DS_Store",
        ".notes.txt.swp", "notes.txt~", "#notes.txt#", "notes.txt", "design.ini", "a~b.txt",
    ):  # fmt: skip
        (tmp_path / name).write_text("Some text.", encoding="utf-8")
    for hidden in (False, True):
        reader = DirectoryReader(tmp_path, include, hidden=hidden)
        assert ids(reader) == ["a~b.txt", "design.ini", "notes.txt"]

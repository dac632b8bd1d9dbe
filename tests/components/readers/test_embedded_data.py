"""Text that is no prose: data URIs, tables, escapes of JSON."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_plugin import build_engine
from rag_plugin.components.readers.components import directory, jsonl
from rag_plugin.components.readers.listing_reader import without_data_uris
from rag_plugin.components.tables import header_of_rows, markdown_tables
from tests.fakes import Hashes

DATA = base64.b64encode(bytes(range(256)) * 200).decode()
WRAPPED = "\n".join(DATA[start : start + 76] for start in range(0, len(DATA), 76))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"See ![the plan](data:image/png;base64,{DATA}) here.", "See ![the plan]() here."),
        (f"<img alt='x' src='data:image/jpeg;base64,{DATA}'/> end", "<img alt='x' src=''/> end"),
        (f"[plan]: data:image/png;base64,{DATA}\nnext line", "[plan]: \nnext line"),
        (f"url(data:font/woff2;charset=utf-8;base64,{DATA}) x", "url() x"),
        ('url("data:image/svg+xml;utf8,%3Csvg%20' + "x" * 200 + '") x', 'url("") x'),
        (f'"DATA:IMAGE/PNG;BASE64,{DATA}"', '""'),
        ("short: data:text/plain,hello", "short: data:text/plain,hello"),
        ("no data: here, and metadata:image/png is text", "no data: here, and metadata:image/png is text"),
    ],
)
def test_data_uris_are_removed_and_the_text_around_them_stays(text: str, expected: str) -> None:
    assert without_data_uris(text) == expected


@pytest.mark.parametrize("after", [")", '" />', "\n\nnext"])
def test_wrapped_data_keeps_the_numbers_of_the_lines(after: str) -> None:
    cleaned = without_data_uris(f"first ![alt](data:image/png;base64,{WRAPPED}{after}\nlast line")
    assert "ABCD" not in cleaned
    assert cleaned.startswith("first ![alt](")
    line = cleaned.split("\n").index("last line")
    assert line == f"{WRAPPED}{after}".count("\n") + 1


@given(st.text("data:imge/png;base64,+=\n (\"'" + DATA[:20], max_size=400))
def test_short_texts_stay_as_they_are(text: str) -> None:
    if len(text) < 100:
        assert without_data_uris(text) == text
    assert without_data_uris(text).count("\n") == text.count("\n")


@pytest.mark.parametrize("name", ["a.md", "a.html", "a.txt", "a.json"])
def test_a_picture_in_a_file_makes_no_nodes(settings: dict[str, Any], documents: Path, name: str) -> None:
    image = f'<img alt="the harbour" src="data:image/png;base64,{DATA}">'
    text = {"a.json": json.dumps({"image": f"data:image/png;base64,{DATA}", "alt": "the harbour"})}.get(name)
    (documents / name).write_text(text or f"<p>Before.</p>\n{image}\n<p>After.</p>", encoding="utf-8")
    engine = build_engine(settings, encoder=Hashes())
    (node,) = [node for node in engine.store.get_nodes() if node.ref_doc_id == name]
    assert "the harbour" in node.get_content()


# ---------------------------------------------------------------------------------- tables


@pytest.mark.parametrize(
    ("name", "line", "header"),
    [
        ("a.csv", "name,city,code\n", "name | city | code"),
        ("a.csv", "name;city;code\n", "name | city | code"),
        ("a.tsv", "name\tcity\tcode\n", "name | city | code"),
        ("a.csv", '"last, first",city\n', "last, first | city"),
        ("a.md", "| name | city |\n|------|:----:|\n", "name | city"),
        ("a.txt", "name | city\n--- | ---\n", "name | city"),
    ],
)
@pytest.mark.parametrize("chunker", ["sentence", "markdown", "token"])
def test_each_node_of_a_table_names_its_columns(
    settings: dict[str, Any], documents: Path, minilm: Any, name: str, line: str, header: str, chunker: str
) -> None:
    separator = next(mark for mark in "|;\t," if mark in line)
    rows = [f"person {number} {separator} a town in the north {separator} {number}\n" for number in range(300)]
    before = "Some words before the table.\n\n" if name in ("a.md", "a.txt") else ""
    (documents / name).write_text(f"{before}{line}{''.join(rows)}\nAfter the table.\n", encoding="utf-8")
    engine = build_engine(settings, overrides={"chunker.type": chunker}, encoder=minilm)
    nodes = [node for node in engine.store.get_nodes() if node.ref_doc_id == name]
    assert len(nodes) > 5
    for node in nodes[1:-1]:
        assert node.metadata["table_header"] == header
        for text in (node.get_content("embed"), node.get_content("llm")):  # type: ignore[arg-type]
            assert header in text
    counts = minilm.tokens().counts([node.get_content("embed") for node in nodes])  # type: ignore[arg-type]
    assert counts.max() <= minilm.max_input_tokens()
    covered = "".join(sorted(set("".join(node.get_content() for node in nodes).split())))
    assert all(f"{number}" in covered for number in range(300))


@pytest.mark.parametrize("text", ["1,2,3\n4,5,6\n", "one column\nmore\n", "a,,c\n", "", "\n\n"])
def test_a_first_row_that_is_no_header(text: str) -> None:
    assert header_of_rows(text, ".csv") is None


def test_markdown_tables_are_found() -> None:
    text = "x | y\n\n| A | B |\n|---|:-:|\n| 1 | 2 |\n| 3 | 4 |\n\nText | no\n\nC | D\n--|--\n5|6"
    assert [(text[start:end], header) for start, end, header in markdown_tables(text)] == [
        ("\n| 1 | 2 |\n| 3 | 4 |", "A | B"),
        ("\n5|6", "C | D"),
    ]
    assert list(markdown_tables("a heading\n---------\n")) == []


# ---------------------------------------------------------------------------------- JSON


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_escapes_of_json_are_decoded_and_lines_stay(tmp_path: Path, name: str) -> None:
    text = (
        '{"city": "K\\u00f6ln", "note": "two\\nlines \\"quoted\\"", "path": "a\\/b\\\\c"}\n'
        '{"emoji": "\\ud83d\\ude80", "lone": "\\ud83d", "plain": "x"}\n'
    )
    (tmp_path / name).write_text(text, encoding="utf-8")
    (document,) = directory(path=tmp_path).load_data()
    assert document.text.split("\n")[0] == '{"city": "Köln", "note": "two lines "quoted"", "path": "a/b\\c"}'
    assert "🚀" in document.text
    assert document.text.count("\n") == 2


def test_the_reader_jsonl_decodes_by_itself(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "K\\u00f6ln\\nam Rhein"}\n', encoding="utf-8")
    (document,) = jsonl(path=tmp_path / "a.jsonl").load_data()
    assert document.text == "Köln\nam Rhein"


def test_json_with_mistakes_is_text(tmp_path: Path) -> None:
    text = '{"a": "bad \\x escape", // a comment\n "open: "\\u12'
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    (document,) = directory(path=tmp_path).load_data()
    assert document.text == text

"""Files into text: encodings, HTML, office formats, and a folder of 181 real and awkward files."""

from __future__ import annotations

import codecs
import contextlib
import csv
import importlib
import io
import json
import logging
import mailbox
import os
import random
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_plugin.components.readers.directory import DirectoryReader
from rag_plugin.components.readers.text_extraction import FORMATS, decode, extract
from rag_plugin.errors import DocumentError
from rag_plugin.protocols import Listed

SENTENCE = "The café's crème brûlée is naïve, said Müller."


def read(folder: Path, name: str, raw: bytes | str) -> str:
    """What a file of that name and content says."""
    (folder / name).write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    return extract(folder / name, name)


def refused(folder: Path, name: str, raw: bytes | str) -> str:
    """Why a file of that name and content cannot be read."""
    with pytest.raises(DocumentError) as caught:
        read(folder, name, raw)
    assert caught.value.document_id == name
    return caught.value.reason


def squeezed(text: str) -> str:
    return " ".join(text.split())


# ---------------------------------------------------------------------------------- bytes to text


@pytest.mark.parametrize(
    "raw",
    [
        SENTENCE.encode(),
        codecs.BOM_UTF8 + SENTENCE.encode(),
        codecs.BOM_UTF16_LE + SENTENCE.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + SENTENCE.encode("utf-16-be"),
        codecs.BOM_UTF32_LE + SENTENCE.encode("utf-32-le"),
        codecs.BOM_UTF32_BE + SENTENCE.encode("utf-32-be"),
        SENTENCE.encode("latin-1"),
        SENTENCE.encode("cp1252"),
    ],
    ids=["UTF-8", "UTF-8 marked", "UTF-16 LE", "UTF-16 BE", "UTF-32 LE", "UTF-32 BE", "Latin-1", "Windows 1252"],
)
def test_text_is_read_in_its_encoding(raw: bytes) -> None:
    assert decode(raw, "x") == SENTENCE


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        (
            "cp1252",
            "“Smart quotes” – and an ellipsis… are what Windows writes. It costs 5 €, he said, and left the room.",
        ),
        ("cp1251", "Гавань: насос работает каждую ночь с десяти до четырёх. Код насоса знает только смотритель маяка."),
        ("shift_jis", "港のポンプは毎晩十時から四時まで動いています。その番号を知っているのは灯台守だけです。"),
        ("gb18030", "港口的水泵每天晚上从十点运行到四点。只有灯塔看守人知道它的号码。"),
        ("euc_kr", "항구의 펌프는 매일 밤 열 시부터 네 시까지 작동합니다. 그 번호는 등대지기만 알고 있습니다."),
        ("cp1253", "Η αντλία του λιμανιού λειτουργεί κάθε βράδυ από τις δέκα έως τις τέσσερις το πρωί."),
    ],
)
def test_an_older_encoding_is_guessed_and_told(encoding: str, text: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="rag_plugin"):
        assert decode(text.encode(encoding), "notes.txt") == text
    (message,) = caplog.messages
    assert re.fullmatch(r"notes\.txt: not UTF-8, read as \w+", message)


def test_nul_bytes_in_a_text_are_dropped() -> None:
    assert decode(b"some \0text" + b" and more" * 20, "x") == "some text" + " and more" * 20


@pytest.mark.parametrize(("raw", "text"), [(b"a\r\nb\rc\n", "a\nb\nc\n"), (b"a\r\n\r\nb", "a\n\nb")])
def test_line_ends_become_newlines(raw: bytes, text: str) -> None:
    assert decode(raw, "x") == text


def test_tabs_and_form_feeds_are_kept() -> None:
    assert decode(b"a\tb\fc\x1b[1mbold\n", "x") == "a\tb\fc\x1b[1mbold\n"


def test_an_empty_file_is_an_empty_text() -> None:
    assert decode(b"", "x") == decode(codecs.BOM_UTF8, "x") == decode(codecs.BOM_UTF16_LE, "x") == ""


PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\0\0\0\1\0\x08\6\0\0\0"


@pytest.mark.parametrize(
    "raw",
    [
        PNG + random.Random(1).randbytes(3000),
        random.Random(2).randbytes(20_000),
        random.Random(3).randbytes(200),
        bytes(range(256)) * 20,
        b"\x7fELF\2\1\1" + b"\0" * 9 + b"\3\0\x3e\0" * 100,
        b"\0" * 4000,
        b"\xff" * 4000,
        b"\x87" * 40_000,
        "UTF-16 without its mark".encode("utf-16-le"),
        b"PK\3\4" + random.Random(4).randbytes(2000),
    ],
    ids=["png", "random", "little random", "all bytes", "elf", "NUL", "FF", "one byte", "UTF-16", "zip"],
)
def test_binary_data_is_not_taken_for_text(raw: bytes) -> None:
    with pytest.raises(DocumentError) as caught:
        decode(raw, "notes.txt")
    assert caught.value.reason in (
        "it is binary data, not text",
        "it is not UTF-8, and no other encoding fits it",
    )


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=300))
def test_every_utf8_text_comes_back(text: str) -> None:
    text = text.replace("\ufffd", "").lstrip("\ufeff")
    assert decode(text.encode(), "x") == text


@given(st.binary(max_size=400))
def test_any_bytes_are_a_text_or_a_document_error(raw: bytes) -> None:
    with contextlib.suppress(DocumentError):
        text = decode(raw, "x")
        text.encode()
        assert not {"\0", "\r"} & set(text)


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.PY", "a.csv", "a.json", "noext", "odd.xyz"])
def test_a_text_file_is_its_text(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, name, "# Title\n\nText, {really}; <b>so</b>.\n") == "# Title\n\nText, {really}; <b>so</b>.\n"


# ---------------------------------------------------------------------------------- HTML


def html(folder: Path, body: str | bytes) -> str:
    return read(folder, "page.html", body)


def test_html_gives_its_words_and_not_its_code(tmp_path: Path) -> None:
    page = """<!DOCTYPE html><html><head><title>Harbour</title><style>p {color: red}</style>
    <script>var secret = "do not index";</script><meta name="x" content="meta"></head>
    <body onload="run()"><!-- a comment --><noscript>switch it on</noscript><template>not shown</template>
    <h1>The pump</h1><p>It runs <b>every</b>
    night.</p><ul><li>ten</li><li>four</li></ul></body></html>"""
    lines = [line for line in html(tmp_path, page).splitlines() if line]
    assert lines == ["Harbour", "The pump", "It runs every", "night.", "ten", "four"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("<p>one</p><p>two</p>", ["one", "two"]),
        ("<div>one<div>two</div>three</div>", ["one", "two", "three"]),
        ("one<br>two<br/>three", ["one", "two", "three"]),
        ("<table><tr><th>a</th><td>b</td></tr><tr><td>c</td></tr></table>", ["a", "b", "c"]),
        ("<p>in<i>si</i>de a wo<b>rd</b></p>", ["inside a word"]),
        ("a &amp; b &lt;c&gt; &eacute; &#8364; &#x1F600;", ["a & b <c> é € 😀"]),
        ("a&nbsp;&nbsp;b   c\td", ["a b c d"]),
        ("<p>not closed<p>nor this<li>or that", ["not closed", "nor this", "or that"]),
        ("<pre>def f():\n    return 1\n</pre>", ["def f():", "    return 1"]),
        ("<pre><span>x = <b>1</b></span>\n  <i>y</i></pre>", ["x = 1", "  y"]),
    ],
    ids=["paragraphs", "nested", "breaks", "table", "inline", "entities", "spaces", "unclosed", "code", "marked code"],
)  # fmt: skip
def test_html_blocks_stand_on_lines_of_their_own(tmp_path: Path, body: str, expected: list[str]) -> None:
    assert [line for line in html(tmp_path, f'<meta charset="utf-8">{body}').splitlines() if line] == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ('<meta charset="iso-8859-1"><p>café</p>'.encode("latin-1"), "café"),
        ('<meta charset="shift_jis"><p>港のポンプ</p>'.encode("shift_jis"), "港のポンプ"),
        (
            '<meta http-equiv="Content-Type" content="text/html; charset=euc-kr"><p>항구의</p>'.encode("euc_kr"),
            "항구의",
        ),
        ('<?xml version="1.0" encoding="windows-1251"?><html><p>Гавань</p></html>'.encode("cp1251"), "Гавань"),
        (codecs.BOM_UTF16_LE + "<p>café</p>".encode("utf-16-le"), "café"),
        ("<p>café</p>".encode(), "café"),
        ('<meta charset="us-ascii"><p>café</p>'.encode(), "café"),
        ('<meta charset="no-such-charset"><p>café</p>'.encode(), "café"),
    ],
    ids=["latin-1", "shift_jis", "euc-kr", "xml", "UTF-16", "undeclared", "declared wrongly", "unknown"],
)
def test_html_is_read_in_the_charset_it_declares(tmp_path: Path, raw: bytes, expected: str) -> None:
    assert html(tmp_path, raw).strip() == expected


@pytest.mark.parametrize("suffix", [".html", ".htm", ".xhtml", ".HTML"])
def test_every_html_suffix_is_html(tmp_path: Path, suffix: str) -> None:
    assert read(tmp_path, f"a{suffix}", "<p>word</p>") == "word\n"


def test_binary_data_named_html_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, "a.html", PNG + random.Random(1).randbytes(3000)) == "it is binary data, not text"


@pytest.mark.parametrize("tag", ["div", "p", "b", "pre", "li"])
@pytest.mark.timeout(120)  # quadratic time would be many minutes
def test_elements_that_are_never_closed_cost_no_more_than_others(tmp_path: Path, tag: str) -> None:
    assert squeezed(html(tmp_path, f"<{tag}>word " * 10_000)) == squeezed("word " * 10_000)


def test_a_document_nested_too_deeply_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deep(path: Path, document_id: str) -> str:
        return deep(path, document_id)

    monkeypatch.setitem(FORMATS, ".html", deep)
    assert refused(tmp_path, "a.html", "x") == "the file is nested too deeply"


# ---------------------------------------------------------------------------------- formats that LlamaIndex reads


def pdf(*pages: str) -> bytes:
    """A PDF with a line of text on each page, written out by hand."""
    kids = " ".join(f"{3 + 2 * number} 0 R" for number in range(len(pages)))
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>"]
    font = "<< /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >>"
    for number, text in enumerate(pages):
        stream = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET"
        objects.append(f"<< /Type /Page /Parent 2 0 R /Resources {font} /Contents {4 + 2 * number} 0 R >>")
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    out = io.BytesIO(b"")
    out.write(b"%PDF-1.4\n")
    places = []
    for number, content in enumerate(objects, 1):
        places.append(out.tell())
        out.write(f"{number} 0 obj\n{content}\nendobj\n".encode())
    table = out.tell()
    out.write(f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode())
    out.write("".join(f"{place:010} 00000 n \n" for place in places).encode())
    out.write(f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n".encode())
    return out.getvalue()


def docx(*paragraphs: str) -> bytes:
    space = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    body = "".join(f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>" for text in paragraphs)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("word/document.xml", f'<w:document xmlns:w="{space}"><w:body>{body}</w:body></w:document>')
    return out.getvalue()


def xlsx(*rows: list[Any]) -> bytes:
    workbook = pytest.importorskip("openpyxl").Workbook()
    for row in rows:
        workbook.active.append(row)
    out = io.BytesIO()
    workbook.save(out)
    return out.getvalue()


def pptx(*titles: str) -> bytes:
    show = pytest.importorskip("pptx").Presentation()
    for title in titles:
        show.slides.add_slide(show.slide_layouts[5]).shapes.title.text = title
    out = io.BytesIO()
    show.save(out)
    return out.getvalue()


def epub(*chapters: str) -> bytes:
    ebooklib = pytest.importorskip("ebooklib.epub")
    pytest.importorskip("html2text")
    book = ebooklib.EpubBook()
    book.set_identifier("x")
    book.set_title("A book")
    for number, text in enumerate(chapters):
        chapter = ebooklib.EpubHtml(title=f"C{number}", file_name=f"c{number}.xhtml")
        chapter.content = f"<html><body><p>{text}</p></body></html>"
        book.add_item(chapter)
        book.spine.append(chapter)
        book.toc.append(chapter)
    book.add_item(ebooklib.EpubNcx())
    out = io.BytesIO()
    ebooklib.write_epub(out, book)
    return out.getvalue()


def notebook(*cells: tuple[str, str], **metadata: Any) -> str:
    made = [{"cell_type": kind, "metadata": {}, "source": source.splitlines(True)} for kind, source in cells]
    return json.dumps({"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


needs_files = pytest.mark.skipif(
    importlib.util.find_spec("llama_index.readers.file") is None, reason="rag-plugin[files] is not installed"
)
pytestmark = [
    # LlamaIndex's MboxReader does not close its file.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@needs_files
def test_a_pdf_gives_its_pages_divided_by_form_feeds(tmp_path: Path) -> None:
    pages = read(tmp_path, "a.pdf", pdf("First page.", "Second page.")).split("\f")
    assert [page.strip() for page in pages] == ["First page.", "Second page."]


@needs_files
def test_a_word_file_gives_its_paragraphs(tmp_path: Path) -> None:
    assert read(tmp_path, "a.docx", docx("First.", "Zweiter: ä.")).split() == ["First.", "Zweiter:", "ä."]


@needs_files
def test_a_sheet_gives_its_cells(tmp_path: Path) -> None:
    text = read(tmp_path, "a.xlsx", xlsx(["name", "price"], ["bread", 3.5], ["salt", None]))
    assert {"bread", "3.5", "salt"} <= set(re.split(r"[\s,]+", text))


@needs_files
def test_slides_give_their_titles(tmp_path: Path) -> None:
    text = read(tmp_path, "a.pptx", pptx("The first slide", "The second slide"))
    assert "The first slide" in text
    assert "The second slide" in text


@needs_files
def test_rich_text_gives_its_words(tmp_path: Path) -> None:
    text = read(tmp_path, "a.rtf", r"{\rtf1\ansi{\fonttbl\f0 Times;}\f0 A {\b bold} word, caf\'e9.\par Next.}")
    assert text.split() == ["A", "bold", "word,", "café.", "Next."]


@needs_files
def test_a_mailbox_gives_its_messages(tmp_path: Path) -> None:
    box = mailbox.mbox(tmp_path / "a.mbox")
    for subject in ("First subject", "Second subject"):
        message = mailbox.mboxMessage()
        message["From"], message["To"], message["Subject"] = "a@x.org", "b@x.org", subject
        message.set_payload(f"<p>The body of {subject}.</p>")
        box.add(message)
    box.close()
    text = extract(tmp_path / "a.mbox", "a.mbox")
    assert "The body of First subject." in text
    assert "The body of Second subject." in text


@needs_files
def test_an_e_book_gives_its_chapters(tmp_path: Path) -> None:
    text = read(tmp_path, "a.epub", epub("The first chapter.", "The second chapter."))
    assert squeezed(text).index("The first chapter.") < squeezed(text).index("The second chapter.")


def test_a_notebook_gives_its_cells_in_order(tmp_path: Path) -> None:
    # LlamaIndex's reader drops everything before the first code cell.
    raw = notebook(
        ("markdown", "# Heading\n\nBefore *any* code."),
        ("code", "x = 1\nif x:\n    print(x)"),
        ("markdown", "Between."),
        ("raw", "Raw words."),
        ("code", "%matplotlib inline"),
        title="The title",
    )
    assert read(tmp_path, "a.ipynb", raw) == (
        "The title\n\n# Heading\n\nBefore *any* code.\n\nx = 1\nif x:\n    print(x)\n\nBetween.\n\nRaw words.\n\n"
        "%matplotlib inline\n"
    )


def test_a_notebook_of_an_older_format_is_read(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "heading", "level": 1, "source": "Heading"},
        {"cell_type": "code", "input": ["x = 1\n", "y = 2"], "outputs": []},
    ]
    raw = json.dumps({"worksheets": [{"cells": cells}], "metadata": {"name": ""}, "nbformat": 3})
    assert read(tmp_path, "a.ipynb", raw) == "Heading\n\nx = 1\ny = 2\n"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("{half", "it is broken: JSONDecodeError: "),
        ("[1]", "it is not a notebook: it has no cells"),
        ('{"cells": 3}', "it is not a notebook: it has no cells"),
        ("{}", "it is not a notebook: it has no cells"),
        (notebook(), "it contains no text"),
    ],
    ids=["half", "list", "number", "empty", "no cells"],
)
def test_a_broken_notebook_is_refused(tmp_path: Path, raw: str, reason: str) -> None:
    assert refused(tmp_path, "a.ipynb", raw).startswith(reason)


@needs_files
@pytest.mark.parametrize(
    ("name", "raw", "reason"),
    [
        ("a.pdf", b"The station keeps a log.", "it is broken: PdfStreamError: Stream has ended unexpectedly"),
        ("a.pdf", pdf("A page.")[:200], "it is broken: PdfStreamError: Stream has ended unexpectedly"),
        ("a.pdf", b"", "it is broken: EmptyFileError: Cannot read an empty file"),
        ("a.docx", docx("x")[:100], "it is broken: BadZipFile: File is not a zip file"),
        ("a.docx", b"", "it is broken: BadZipFile: File is not a zip file"),
        ("a.xlsx", b"nothing", "it is broken: ValueError: Excel file format cannot be determined"),
        ("a.pptx", b"nothing", "it is broken: "),
        ("a.epub", b"nothing", "it is broken: "),
        ("a.pdf", pdf(""), "it contains no text; scanned pages need OCR first"),
    ],
    ids=["text.pdf", "half.pdf", "empty.pdf", "half.docx", "empty.docx", "xlsx", "pptx", "epub", "no text"],
)
def test_a_broken_file_is_refused_with_the_reason(tmp_path: Path, name: str, raw: bytes, reason: str) -> None:
    if name.endswith(".epub"):
        pytest.importorskip("ebooklib")
    found = refused(tmp_path, name, raw)
    assert found.startswith(reason)
    assert " at 0x" not in found  # of an object: another text at each run
    assert "RetryError" not in found


@needs_files
def test_a_pdf_with_a_password_is_refused(tmp_path: Path) -> None:
    pypdf = pytest.importorskip("pypdf")
    writer = pypdf.PdfWriter(io.BytesIO(pdf("Secret.")))
    writer.encrypt("password", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    assert refused(tmp_path, "a.pdf", out.getvalue()) == (
        "it is broken: FileNotDecryptedError: File has not been decrypted"
    )


@pytest.mark.parametrize(
    ("name", "extra"), [("a.pdf", "files"), ("a.docx", "files"), ("a.XLSX", "files"), ("a.epub", "epub")]
)
def test_a_missing_package_names_its_cure(
    tmp_path: Path, name: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llama_index.readers.file", None)
    assert refused(tmp_path, name, b"x") == (
        f'this file type needs a package (llama_index.readers.file): pip install "rag-plugin[{extra}]"'
    )


@needs_files
def test_a_package_missing_below_the_reader_names_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The PDF reader imports pypdf late, and LlamaIndex wraps what it raises after three tries.
    monkeypatch.setitem(sys.modules, "pypdf", None)
    reason = refused(tmp_path, "a.pdf", pdf("A page."))
    assert reason.startswith("this file type needs a package (")
    assert "pypdf" in reason
    assert reason.endswith('): pip install "rag-plugin[files]"')


def test_reading_leaves_the_root_logger_alone() -> None:
    code = (
        "import logging; from rag_plugin.components.readers.text_extraction import extract; from pathlib import Path\n"
        "try: extract(Path('nothing.pdf'), 'x')\n"
        "except Exception as error: print(type(error).__name__)\n"
        "print(logging.getLogger().handlers)\n"
        "print(logging.getLogger().level)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["DocumentError", "[]", "30"]


def test_every_suffix_is_lower_case_and_has_its_dot() -> None:
    assert all(re.fullmatch(r"\.[a-z0-9]+", suffix) for suffix in FORMATS)
    assert {".txt", ".md", ".html", ".pdf", ".docx", ".csv", ".ipynb", ".py"} <= FORMATS.keys()


# ---------------------------------------------------------------------------------- 181 files

# LlamaIndex has no reader for these, and neither do we: they are told of in a warning and left out.
NO_READER = {".eml", ".odt", ".doc"}
# pypdf runs these words together ("passagespi"): the space is drawn, not written.
RUN_TOGETHER = {"pdf/multi-column-2p.pdf"}


@needs_files
@pytest.mark.slow
def test_a_realistic_folder_is_delivered(shared_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = shared_data / "docs-open"
    with (root / "manifest.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert len(rows) == 181
    items = {item.id: item for item in DirectoryReader(root / "files").list_documents()}
    assert [message for message in caplog.messages if "skipped files" in message] == [
        f"{root / 'files'}: skipped files: 2 .eml, 1 without a suffix, 1 .doc, 1 .odt"
    ]
    delivered, wrong = [], []
    for row in rows:
        name, expect = row["file"], row["expect"]
        item = items.pop(name, None)
        text, reason = None, ""
        if isinstance(item, Listed):
            try:
                text = item.load().text
            except DocumentError as error:
                reason = error.reason
        if expect == "text" and Path(name).suffix in NO_READER or expect in ("hidden", "unknown-ext"):
            right = item is None
        elif expect == "text":
            needle, found = squeezed(row["must_contain"]), squeezed(text or "")
            if name in RUN_TOGETHER:
                needle, found = needle.replace(" ", ""), found.replace(" ", "")
            right = text is not None and needle in found
            delivered += [name] if right else []
        elif expect in ("duplicate", "text-or-skip"):
            right = text is not None
        elif expect == "empty":
            right = text is not None and not text.strip()
        elif expect == "no-text":
            right = text is None or len(text.split()) < 10
        else:  # broken, encrypted, garbage
            right = text is None and bool(reason) and " at 0x" not in reason
        if not right:
            wrong.append((name, expect, reason or repr((text or "")[:80])))
    assert wrong == []
    assert items == {}
    assert len(delivered) == 167 - 4
    print(f"{len(delivered)} of 167 text files delivered, 4 of a format without a reader")  # noqa: T201


@pytest.mark.slow
def test_a_file_of_a_hundred_megabytes_is_read(tmp_path: Path) -> None:
    line = "The station keeps a daily log of temperature, wind and rainfall.\n"
    with (tmp_path / "log.txt").open("w") as file:
        for _ in range(16):
            file.write(line * 100_000)
    text = extract(tmp_path / "log.txt", "log.txt")
    assert len(text) == len(line) * 1_600_000
    os.unlink(tmp_path / "log.txt")

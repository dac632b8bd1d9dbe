"""Text extraction: the text of a file by its suffix, and the decoding of text files."""

from __future__ import annotations

import codecs
import importlib
import json
import logging
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...errors import DocumentError, describe_error, one_line_reason

_log = logging.getLogger(__name__)

_TEXT = """
.adoc .asciidoc .bib .c .cc .cfg .conf .cpp .cs .css .csv .diff .go .h .hpp .ini .java .js .json .jsonl .jsx .kt .log
.lua .markdown .md .mdx .org .php .pl .po .properties .proto .py .pyi .r .rb .rs .rst .scala .sh .sql .srt .swift .tex
.text .textile .toml .ts .tsv .tsx .txt .vtt .wiki .xml .yaml .yml
""".split()

# LlamaIndex's own file readers.
_LLAMA_INDEX = {
    ".docx": "DocxReader",
    ".epub": "EpubReader",
    ".hwp": "HWPReader",
    ".mbox": "MboxReader",
    ".pdf": "PDFReader",
    ".pptx": "PptxReader",
    ".rtf": "RTFReader",
    ".xls": "PandasExcelReader",
    ".xlsx": "PandasExcelReader",
}

# EpubReader needs EbookLib (AGPL) and html2text (GPL), so it has an extra of its own.
_EXTRA = {".epub": "epub"}


def extract(path: Path, document_id: str) -> str:
    """The text of a file, with form feeds between pages if the format has pages.

    Raises:
        DocumentError: The file contains no text, or cannot be read.
    """
    read = FORMATS.get(path.suffix.lower(), _text)
    try:
        return read(path, document_id)
    except DocumentError:
        raise
    except OSError as error:
        reason = f"the file cannot be read: {error.strerror or error}"
        raise DocumentError(document_id, reason, temporary=True) from error
    except RecursionError as error:
        raise DocumentError(document_id, "the file is nested too deeply") from error
    except Exception as error:  # a format's reader may raise anything
        reason = f"it is broken: {describe_error(error)}"
        raise DocumentError(document_id, reason, temporary=isinstance(error, MemoryError)) from error


def _text(path: Path, document_id: str) -> str:
    return decode(path.read_bytes(), document_id)


def _json(path: Path, document_id: str) -> str:
    """The text of a JSON file, with the characters that its escapes stand for; lines keep their numbers."""
    return _JSON_ESCAPED.sub(_unescaped, decode(path.read_bytes(), document_id))


_JSON_ESCAPED = re.compile(r'"[^"\\\n]*\\(?:[^"\\\n]|\\.)*"')


def _unescaped(literal: re.Match[str]) -> str:
    try:
        value = json.loads(literal[0], strict=False)
    except ValueError:  # JSON with mistakes, which is text all the same
        return literal[0]
    return '"' + re.sub(r"[\n\r\t\f\b\0]+", " ", value) + '"'


def decode(raw: bytes, document_id: str) -> str:
    """Decode bytes by their byte order mark, as UTF-8, or by detection; newlines become `\\n`.

    Raises:
        DocumentError: The bytes are not text.
    """
    for byte_order_mark, encoding in _BYTE_ORDER_MARKS:
        if raw.startswith(byte_order_mark):
            text = raw.decode(encoding, "replace")
            break
    else:
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            text = _guess(raw, document_id)
    if not is_text(text):
        raise DocumentError(document_id, "it is binary data, not text")
    text = text.replace("\0", "")
    return text.replace("\r\n", "\n").replace("\r", "\n")


_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f\ufffd]")


def is_text(text: str) -> bool:
    """Whether at most one character in fifty is a control character."""
    return len(_CONTROL.findall(text)) * 50 <= len(text)


def _guess(raw: bytes, document_id: str) -> str:
    from charset_normalizer import from_bytes

    if raw[:4096].count(0) * 20 > len(raw[:4096]) and raw[:200].count(0) == 0:
        raise DocumentError(document_id, "it is binary data, not text")
    matches = from_bytes(raw)
    best = matches.best()
    if best is None:
        raise DocumentError(document_id, "it is not UTF-8, and no other encoding fits it")
    for match in matches:  # cp1252 is the most common of several equal candidates
        if "cp1252" in match.could_be_from_charset and (match.chaos, match.coherence) == (best.chaos, best.coherence):
            best = match
    text = str(best)
    character, times = Counter(text).most_common(1)[0]
    if times * 2 > len(text) and not character.isascii():  # padding, which fits every single-byte encoding
        raise DocumentError(document_id, "it is binary data, not text")
    _log.info("%s: not UTF-8, read as %s", document_id, best.encoding)
    return text


_BLOCK_ELEMENTS = (
    "address article aside blockquote br caption dd details div dl dt fieldset figcaption figure footer form h1 h2 h3 "
    "h4 h5 h6 header hr li main nav ol p section summary table td th title tr ul"
).split()
_ELEMENTS_WITHOUT_TEXT = ("script", "style", "template", "noscript")
_INDENT = "\ue000"  # replaces the indentation of code while white space is collapsed


def _html(path: Path, document_id: str) -> str:
    import warnings

    from bs4 import BeautifulSoup, XMLParsedAsHTMLWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XMLParsedAsHTMLWarning)
        soup = BeautifulSoup(path.read_bytes(), "html.parser")
    text = _html_text(soup)
    if not is_text(text):
        raise DocumentError(document_id, "it is binary data, not text")
    text = text.replace("\0", "")
    lines = [re.sub(r"[ \t\xa0]+", " ", line).strip() for line in text.splitlines()]
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"
    return text.replace(_INDENT, " ")


def _html_text(soup: Any) -> str:
    """The text of all elements, with block elements on their own lines.

    The tree is not modified: an unclosed element contains everything after it, and each change would traverse it.
    """
    from bs4.element import CData, PreformattedString

    pieces: list[str] = []
    pending: list[Any] = [soup]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            if not isinstance(item, PreformattedString) or isinstance(item, CData):  # no comment or declaration
                pieces.append(item)
        elif item.name == "img":
            pieces.append(item.get("alt") or "")
        elif item.name == "pre":
            code = re.sub(r"(?m)^[ \t]+", lambda indent: _INDENT * len(indent[0].expandtabs()), item.get_text())
            pieces += ["\n", code, "\n"]
        elif item.name not in _ELEMENTS_WITHOUT_TEXT:
            line_breaks = ["\n"] if item.name in _BLOCK_ELEMENTS else []
            pieces += line_breaks
            pending += [*line_breaks, *reversed(item.contents)]
    return "".join(pieces)


def _by_llama_index(name: str) -> Callable[[Path, str], str]:
    def read(path: Path, document_id: str) -> str:
        try:
            module = _llama_index_readers()
            pages = _loaded(getattr(module, name)(), path)
        except ImportError as error:
            missing = error.name or one_line_reason(error, first_line=True)
            extra = _EXTRA.get(path.suffix.lower(), "files")
            reason = f'this file type needs a package ({missing}): pip install "rag-plugin[{extra}]"'
            # Other import errors, as of a missing system library, do not end with the installation of a package.
            is_missing = isinstance(error, ModuleNotFoundError)
            raise DocumentError(document_id, reason, temporary=not is_missing) from error
        texts = [page.text for page in pages]
        text = ("\f" if name == "PDFReader" else "\n\n").join(texts)
        if not text.strip():
            raise DocumentError(document_id, "it contains no text; scanned pages need OCR first")
        return text.replace("\0", "")

    return read


def _loaded(reader: Any, path: Path) -> list[Any]:
    import warnings

    from tenacity import RetryError

    if hasattr(reader, "raise_on_error"):
        reader.raise_on_error = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the format's package
        try:
            return reader.load_data(path)  # type: ignore[no-any-return]
        except RetryError as error:  # of readers that retry
            raise error.last_attempt.exception() or error from None


def _notebook(path: Path, document_id: str) -> str:
    # LlamaIndex's reader drops all cells before the first code cell.
    book = json.loads(decode(path.read_bytes(), document_id))
    try:
        cells = book["cells"] if "cells" in book else [cell for sheet in book["worksheets"] for cell in sheet["cells"]]
        title = book.get("metadata", {}).get("title", "")
        texts = [title, *("".join(cell.get("source", cell.get("input", ""))) for cell in cells)]
    except (AttributeError, KeyError, TypeError):
        raise DocumentError(document_id, "it is not a notebook: it has no cells") from None
    text = "\n\n".join(text.strip("\n") for text in texts if text.strip())
    if not text:
        raise DocumentError(document_id, "it contains no text")
    return text + "\n"


def _llama_index_readers() -> Any:
    # Importing them configures the root logger, which belongs to the application.
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        return importlib.import_module("llama_index.readers.file")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


FORMATS: dict[str, Callable[[Path, str], str]] = {
    **{suffix: _text for suffix in _TEXT},
    **{suffix: _json for suffix in (".json", ".jsonl")},
    **{suffix: _html for suffix in (".html", ".htm", ".xhtml")},
    ".ipynb": _notebook,
    **{suffix: _by_llama_index(name) for suffix, name in _LLAMA_INDEX.items()},
}
"""The extraction function by lower-case suffix."""

"""A reader of JSON Lines: each record of the file is a document."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llama_index.core.schema import Document

from ...errors import ComponentError, DocumentError
from ...protocols import Listed, Unlisted
from .listing_reader import ListingReader, _document, _whole


class JsonlReader(ListingReader):
    """The records of a JSON Lines file, each a document.

    Args:
        path: A UTF-8 file, one JSON object a line; empty lines are passed over.
        text: The field that holds the text, or several whose values are joined by a newline.
        id_field: The field that is the document's id; without it the id follows from the text.
        metadata: Fields that become the document's metadata.
    """

    def __init__(self, path: Path, text: str | Sequence[str], id_field: str | None, metadata: Sequence[str]) -> None:
        self.path = path
        self._text = [text] if isinstance(text, str) else list(text)
        self._id, self._metadata = id_field, list(metadata)

    def list_documents(self) -> Iterator[Listed | Unlisted]:
        seen: dict[str, int] = {}
        position = 0
        try:
            with self.path.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        yield self._listed(line, number, position, seen)
                    position += len(line)
        except OSError as error:
            raise ComponentError(f"reader 'jsonl': {self.path}: {error.strerror}") from error

    def _listed(self, line: bytes, number: int, position: int, seen: dict[str, int]) -> Listed | Unlisted:
        where = f"line {number}"
        try:
            record = _parsed(line)
        except ValueError as error:
            # With ids, any record that is missing may be the one that stood here.
            return Unlisted(where, str(error), prefix="" if self._id else None)
        digest = _digest(line)
        missing = next((field for field in self._text if field not in record), None)
        if self._id is None:
            if missing is not None:
                return Unlisted(where, _lacks(record, missing))
            seen[digest] = seen.get(digest, 0) + 1
            name = digest[:32] if seen[digest] == 1 else f"{digest[:32]}#{seen[digest]}"
        else:
            if self._id not in record:
                return Unlisted(where, _lacks(record, self._id))
            if record[self._id] in (None, ""):
                return Unlisted(where, f"the id in the field {self._id!r} is empty")
            name = str(record[self._id])
            if name in seen:
                return Unlisted(where, f"the id {name!r} stands on line {seen[name]} already")
            seen[name] = number
            if missing is not None:
                return Unlisted(name, f"{where}: {_lacks(record, missing)}")
        # The record is read again when it is needed: a long file is never in memory as a whole.
        return Listed(name, digest, lambda: self._load(name, position, len(line), digest))

    def _load(self, name: str, position: int, length: int, digest: str) -> Document:
        try:
            with self.path.open("rb") as file:
                file.seek(position)
                line = file.read(length)
        except OSError as error:
            raise DocumentError(name, f"the file cannot be read: {error.strerror}") from error
        if _digest(line) != digest:
            raise DocumentError(name, "the file changed while it was being read; sync again")
        record = _parsed(line)
        text = "\n".join(_as_text(record[field]) for field in self._text)
        return _document(text, name, {field: record[field] for field in self._metadata if field in record})


def _digest(line: bytes) -> str:
    return hashlib.sha256(line.strip()).hexdigest()  # how it ends may change when another is put behind it


def _parsed(line: bytes) -> dict[str, Any]:
    """The record of a line; raises `ValueError` with the reason where there is none."""
    try:
        record = json.loads(line.decode("utf-8-sig").strip())
        if b"\\ud" in line.lower():  # only an escape can give half a surrogate pair
            record = json.loads(_whole(json.dumps(record, ensure_ascii=False)))
    except UnicodeDecodeError:
        raise ValueError("the line is not UTF-8") from None
    except RecursionError:
        raise ValueError("the line is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"the line is not JSON: {error}") from None
    if not isinstance(record, dict):
        raise ValueError("the line is not a JSON object")
    return record


def _lacks(record: dict[str, Any], field: str) -> str:
    return f"the record has no field {field!r}; it has {', '.join(list(record)[:8]) or 'none'}"


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

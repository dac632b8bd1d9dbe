"""The reader `jsonl`: the records of a JSON Lines file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llama_index.core.schema import Document

from ...errors import ComponentError, DocumentError, first_names
from ...protocols import Listed, Unlisted
from .listing_reader import ListingReader, make_document, without_surrogates


class JsonlReader(ListingReader):
    """Each record of a JSON Lines file is a document.

    Args:
        path: A UTF-8 file with one JSON object on each line; empty lines are skipped.
        text: The field that contains the text, or several whose values are joined by a newline.
        id_field: The field that contains the document's id; None for a hash of the record.
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
                        yield self._item(line, number, position, seen)
                    position += len(line)
        except OSError as error:
            raise ComponentError(f"reader 'jsonl': {self.path}: {error.strerror}") from error

    def _item(self, line: bytes, number: int, position: int, seen: dict[str, int]) -> Listed | Unlisted:
        location = f"line {number}"
        try:
            record = _parsed(line)
        except ValueError as error:
            # With ids, this line may be any record that is missing.
            return Unlisted(location, str(error), prefix="" if self._id else None)
        digest = _digest(line)
        missing = next((field for field in self._text if field not in record), None)
        if self._id is None:
            if missing is not None:
                return Unlisted(location, _missing_field(record, missing))
            seen[digest] = seen.get(digest, 0) + 1
            name = digest[:32] if seen[digest] == 1 else f"{digest[:32]}#{seen[digest]}"
        else:
            if self._id not in record:
                return Unlisted(location, _missing_field(record, self._id))
            if record[self._id] in (None, ""):
                return Unlisted(location, f"the id in the field {self._id!r} is empty")
            name = str(record[self._id])
            if name in seen:
                return Unlisted(location, f"the id {name!r} is already used on line {seen[name]}")
            seen[name] = number
            if missing is not None:
                return Unlisted(name, f"{location}: {_missing_field(record, missing)}")
        # The record is read again on demand, so that a long file is never held in memory.
        return Listed(name, digest, lambda: self._load(name, position, len(line), digest))

    def _load(self, name: str, position: int, length: int, digest: str) -> Document:
        try:
            with self.path.open("rb") as file:
                file.seek(position)
                line = file.read(length)
        except OSError as error:
            raise DocumentError(name, f"the file cannot be read: {error.strerror}", temporary=True) from error
        if _digest(line) != digest:
            raise DocumentError(name, "the file changed while it was being read; sync again", temporary=True)
        record = _parsed(line)
        text = "\n".join(_as_text(record[field]) for field in self._text)
        return make_document(text, name, {field: record[field] for field in self._metadata if field in record})


def _digest(line: bytes) -> str:
    return hashlib.sha256(line.strip()).hexdigest()  # the line end may change when a record is appended


def _parsed(line: bytes) -> dict[str, Any]:
    """The record of a line; raises `ValueError` with the reason if there is none."""
    try:
        record = json.loads(line.decode("utf-8-sig").strip())
        if b"\\ud" in line.lower():  # only an escape can contain a lone surrogate
            record = json.loads(without_surrogates(json.dumps(record, ensure_ascii=False)))
    except UnicodeDecodeError:
        raise ValueError("the line is not UTF-8") from None
    except RecursionError:
        raise ValueError("the line is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"the line is not JSON: {error}") from None
    if not isinstance(record, dict):
        raise ValueError("the line is not a JSON object")
    return record


def _missing_field(record: dict[str, Any], field: str) -> str:
    return f"the record has no field {field!r}; it has {first_names(list(record), 8) or 'none'}"


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

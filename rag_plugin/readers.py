"""Readers that list before they read: a folder of files, and a file of JSON records."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from llama_index.core.readers.base import BaseReader
from llama_index.core.schema import Document

from .documents import Listed, Unlisted
from .errors import ComponentError, DocumentError
from .file_formats import FORMATS, extract

_log = logging.getLogger(__name__)


class _ListingReader(BaseReader):
    """Gives LlamaIndex's `load_data` to a reader that lists its documents."""

    def list_documents(self) -> Iterator[Listed | Unlisted]:
        raise NotImplementedError

    def load_data(self, *args: Any, **kwargs: Any) -> list[Document]:
        """Every document; one that cannot be read is left out with a warning."""
        documents = []
        for item in self.list_documents():
            if isinstance(item, Unlisted):
                _log.warning("%s: %s", item.id, item.reason)
                continue
            try:
                documents.append(item.load())
            except DocumentError as error:
                _log.warning("%s", error)
        return documents


class DirectoryReader(_ListingReader):
    """The files of a folder, each a document whose id is its path relative to the folder, with `/`.

    Without `include`, files whose suffix is in `file_formats.FORMATS` are documents. Hidden files and
    folders are left out, and so are links, which may lead anywhere.
    """

    def __init__(
        self,
        root: Path,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        *,
        recursive: bool = True,
        hidden: bool = False,
        follow_links: bool = False,
    ) -> None:
        from pathspec import GitIgnoreSpec

        self.root = root
        self._include = GitIgnoreSpec.from_lines(include) if include else None
        self._exclude = GitIgnoreSpec.from_lines(exclude)
        self._recursive, self._hidden, self._follow = recursive, hidden, follow_links

    def list_documents(self) -> Iterator[Listed | Unlisted]:
        if not self.root.is_dir():
            what = "this is not a folder" if self.root.exists() else "there is no such folder"
            raise ComponentError(f"reader 'directory': {self.root}: {what}")
        skipped: Counter[str] = Counter()
        unreadable: list[OSError] = []
        entered = {os.path.realpath(self.root)}
        for folder, folders, files in os.walk(self.root, onerror=unreadable.append, followlinks=self._follow):
            folders[:] = sorted(name for name in folders if self._enters(folder, name, entered, skipped))
            for name in sorted(files):
                item = self._file(Path(folder, name), name, skipped)
                if item is not None:
                    yield item
            while unreadable:
                yield self._closed(unreadable.pop())
        while unreadable:
            yield self._closed(unreadable.pop())
        if skipped:
            listing = ", ".join(f"{count} {what}" for what, count in skipped.most_common(8))
            _log.warning("%s: files that are no documents for this reader: %s", self.root, listing)

    def _closed(self, error: OSError) -> Unlisted:
        name = os.path.relpath(error.filename or self.root, self.root).replace(os.sep, "/")
        if name == ".":
            raise ComponentError(f"reader 'directory': {self.root}: {error.strerror}") from error
        return Unlisted(f"{_shown(name)}/", f"the folder cannot be opened: {error.strerror}", prefix=f"{name}/")

    def _enters(self, folder: str, name: str, entered: set[str], skipped: Counter[str]) -> bool:
        if not self._recursive or (name.startswith(".") and not self._hidden):
            return False
        path = os.path.join(folder, name)
        if os.path.islink(path):
            real = os.path.realpath(path)
            if not self._follow:
                skipped["links to folders (follow_links: true reads them)"] += 1
                return False
            if any(real == seen or seen.startswith(real + os.sep) for seen in entered):
                return False  # a loop
            entered.add(real)
        return True

    def _file(self, path: Path, name: str, skipped: Counter[str]) -> Listed | Unlisted | None:
        if name.startswith(".") and not self._hidden:
            return None
        relative = path.relative_to(self.root).as_posix()
        if self._exclude.match_file(relative):
            return None
        suffix = path.suffix.lower()
        if self._include is not None:
            if not self._include.match_file(relative):
                return None
        elif suffix not in FORMATS:
            skipped[_shown(suffix) or "without a suffix"] += 1
            return None
        if path.is_symlink() and not self._follow:
            skipped["links (follow_links: true reads them)"] += 1
            return None
        try:
            status = path.stat()
        except OSError as error:
            return Unlisted(relative, f"the file cannot be looked at: {error.strerror}")
        if not stat.S_ISREG(status.st_mode):
            skipped["pipes, sockets or devices"] += 1
            return None
        if _shown(relative) != relative:
            return Unlisted(_shown(relative), "its name is not UTF-8")
        return Listed(relative, _file_stamp(status), lambda: self._load(path, relative))

    def _load(self, path: Path, relative: str) -> Document:
        text = extract(path, relative)
        return _document(text, relative, {"file_path": relative, "file_name": path.name})


def _shown(name: str) -> str:
    """A file's name as text: bytes that are no UTF-8 are written out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _file_stamp(status: os.stat_result) -> str | None:
    # A file that changed just now may change again within the clock's grain: then only its content tells.
    if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < 2_000_000_000:
        return None
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}"


class JsonlReader(_ListingReader):
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


def _whole(text: str) -> str:
    """Text with U+FFFD for each half of a surrogate pair, which no encoding can keep."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _document(text: str, name: str, metadata: dict[str, Any]) -> Document:
    # Nothing of the metadata is encoded or put before the LLM: paths and dates would change the vectors.
    keys = [*metadata, "line", "page"]
    return Document(
        text=_whole(text),
        id_=name,
        metadata=metadata,
        excluded_embed_metadata_keys=keys,
        excluded_llm_metadata_keys=keys,
    )


class BoundReader(BaseReader):
    """A LlamaIndex reader together with the arguments of its `load_data`."""

    def __init__(self, reader: BaseReader, arguments: dict[str, Any]) -> None:
        self.reader, self.arguments = reader, arguments

    def load_data(self, *args: Any, **kwargs: Any) -> list[Document]:
        """What the reader loads with these arguments."""
        load: Callable[..., list[Document]] = self.reader.load_data
        return load(*args, **{**self.arguments, **kwargs})

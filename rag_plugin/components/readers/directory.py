"""The reader `directory`: the files of a folder."""

from __future__ import annotations

import logging
import os
import re
import stat
import time
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from llama_index.core.schema import Document

from ...errors import ComponentError, first_names
from ...protocols import Listed, Unlisted
from ..tables import TABLE_HEADER, header_of_rows
from .listing_reader import ListingReader, make_document
from .text_extraction import FORMATS, extract

_log = logging.getLogger(__name__)

_CLOCK_RESOLUTION_NANOSECONDS = 2_000_000_000


# Lock files, backups and settings that programs keep beside documents.
_OF_PROGRAMS = re.compile(
    r"~\$.*|\._.*|~wrl.*\.tmp|\.~lock\..*#|\..*\.sw[op]|.*~|#.*#|desktop\.ini|(eh)?thumbs\.db|\.ds_store", re.IGNORECASE
)


class DirectoryReader(ListingReader):
    """The files of a folder, each a document whose id is its path relative to the folder, with `/`.

    Without `include`, files whose suffix is in `text_extraction.FORMATS` are read. Hidden files and folders are
    skipped, and so are links, which may point outside the folder, and files that programs keep beside documents.
    Patterns match without regard to case and Unicode normal form.
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
        self._include = GitIgnoreSpec.from_lines(map(_comparable, include)) if include else None
        self._exclude = GitIgnoreSpec.from_lines(map(_comparable, exclude))
        self._recursive, self._hidden, self._follow = recursive, hidden, follow_links

    def list_documents(self) -> Iterator[Listed | Unlisted]:
        if not self.root.is_dir():
            problem = "this is not a folder" if self.root.exists() else "there is no such folder"
            raise ComponentError(f"reader 'directory': {self.root}: {problem}")
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
                yield self._unlisted_folder(unreadable.pop())
        while unreadable:
            yield self._unlisted_folder(unreadable.pop())
        if skipped:
            kinds = [f"{count} {kind}" for kind, count in skipped.most_common()]
            _log.warning("%s: skipped files: %s", self.root, first_names(kinds, 8))

    def _unlisted_folder(self, error: OSError) -> Unlisted:
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
                return False  # a cycle of links
            entered.add(real)
        return True

    def _file(self, path: Path, name: str, skipped: Counter[str]) -> Listed | Unlisted | None:
        if (name.startswith(".") and not self._hidden) or _OF_PROGRAMS.fullmatch(name):
            return None
        relative = path.relative_to(self.root).as_posix()
        comparable = _comparable(relative)
        if self._exclude.match_file(comparable):
            return None
        suffix = path.suffix.lower()
        if self._include is not None:
            if not self._include.match_file(comparable):
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
            return Unlisted(relative, f"the file cannot be opened: {error.strerror}")
        if not stat.S_ISREG(status.st_mode):
            skipped["pipes, sockets or devices"] += 1
            return None
        if _shown(relative) != relative:
            return Unlisted(_shown(relative), "its name is not UTF-8")
        return Listed(relative, _change_token(status), lambda: self._load(path, relative))

    def _load(self, path: Path, relative: str) -> Document:
        text = extract(path, relative)
        header = header_of_rows(text, path.suffix.lower())
        metadata = {"file_path": relative, "file_name": path.name, **({TABLE_HEADER: header} if header else {})}
        return make_document(text, relative, metadata)


class FoldersReader(ListingReader):
    """The files of several folders; a document's id begins with the name of its folder.

    Args:
        readers: The folders; where two have one name, the id has the path below their common parent.
    """

    def __init__(self, readers: Sequence[DirectoryReader]) -> None:
        names = Counter(reader.root.name for reader in readers)
        parent = os.path.commonpath([reader.root for reader in readers])
        self._readers = {
            reader.root.name
            if names[reader.root.name] == 1
            else Path(os.path.relpath(reader.root, parent)).as_posix(): reader
            for reader in readers
        }

    def list_documents(self) -> Iterator[Listed | Unlisted]:
        for folder, reader in self._readers.items():
            for item in reader.list_documents():
                name = f"{folder}/{item.id}"
                if isinstance(item, Listed):
                    yield replace(item, id=name, load=partial(_renamed, item, name))
                else:
                    yield replace(item, id=name, prefix=None if item.prefix is None else f"{folder}/{item.prefix}")


def _renamed(item: Listed, name: str) -> Document:
    document = item.load()
    document.id_ = document.metadata["file_path"] = name
    return document


def _comparable(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())


def _shown(name: str) -> str:
    """A file's name as text, with escapes for bytes that are not UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _change_token(status: os.stat_result) -> str | None:
    # A file that changed just now may change again within the clock's resolution.
    if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < _CLOCK_RESOLUTION_NANOSECONDS:
        return None
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}"

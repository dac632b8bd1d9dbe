"""The lexical index of one commit: tantivy's files, and an overlay in memory with later commits.

Only the writer changes the files. Readers keep what is not in the files yet in an overlay of their own.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..hits import Hits, sorted_by_score
from ..sqlite.commit_position import NOTHING, CommitPosition
from ..sqlite.database import Database
from .bm25_index import LexicalIndex, open_lexical, recreate_lexical

_log = logging.getLogger(__package__)


class LexicalView:
    """Lexical search at one commit; changed by one thread at a time, searched by any number in between."""

    def __init__(self, folder: Path, language: str) -> None:
        self.folder, self.language = folder, language
        self.reset()

    def reset(self) -> None:
        """Discard everything."""
        self.position = NOTHING
        self._files: LexicalIndex | None = None
        self._overlay: LexicalIndex | None = None
        self._overlay_base = NOTHING  # the commit that the overlay starts from
        self._removed: list[int] = []  # rows of the files that were removed after that commit

    def catch_up(self, database: Database, *, wait_for_files: bool) -> None:
        """Move to the commit of the open SQLite snapshot.

        Args:
            database: In a snapshot.
            wait_for_files: Change nothing if the files are of a later commit, which the next snapshot will show.
        """
        position = database.position()
        files = self._read_files(position)
        if files is not None and files.position == position:
            self._overlay, self._removed, self._overlay_base, self.position = None, [], NOTHING, position
            return
        base = NOTHING
        if files is not None and _is_earlier(database, files.position, position):
            base = files.position
        elif files is not None and wait_for_files and _is_later(files.position, position):
            return
        overlay = self._overlay
        if overlay is None or self._overlay_base != base or not _is_earlier(database, overlay.position, position):
            overlay = self._overlay = LexicalIndex(None, self.language)
            self._overlay_base = overlay.position = base
        _write(database, overlay, position)
        self._removed = database.removed_after(base.removal) if base != NOTHING else []
        if base == NOTHING:
            self._files = None
        self.position = position

    def _read_files(self, position: CommitPosition) -> LexicalIndex | None:
        try:
            if self._files is None:
                self._files = LexicalIndex(self.folder, self.language) if self.folder.is_dir() else None
            elif self._files.position != position:
                self._files.reload()
        except OSError as error:  # missing, damaged, or in a read-only folder
            _log.debug("%s: texts are indexed in memory: %s", self.folder, error)
            self._files = None
        return self._files

    def search(self, text: str, top_k: int, mask: NDArray[np.bool_] | None) -> Hits:
        """The allowed rows with the highest BM25 scores."""
        hits: Hits = []
        if self._files is not None:
            files_mask = mask
            if self._removed:
                files_mask = np.ones(self.position.row + 1, dtype=bool) if mask is None else mask.copy()
                files_mask[[row for row in self._removed if row < len(files_mask)]] = False
            hits += self._files.search(text, top_k, files_mask)
        if self._overlay is not None:
            hits += self._overlay.search(text, top_k, mask)
        return sorted_by_score(hits, top_k)

    def rows(self) -> list[int]:
        """All row numbers."""
        removed = set(self._removed)
        rows = [] if self._files is None else [row for row in self._files.rows() if row not in removed]
        return rows + ([] if self._overlay is None else self._overlay.rows())


def position_of_files(folder: Path, language: str) -> CommitPosition:
    """The commit that the files cover."""
    try:
        return LexicalIndex(folder, language).position if folder.is_dir() else NOTHING
    except OSError:
        return NOTHING


def write_files(database: Database, folder: Path, language: str) -> None:
    """Bring the files to the commit of the open SQLite snapshot. For the writer.

    Raises:
        OSError: They cannot be written.
    """
    position = database.position()
    files = open_lexical(folder, language)
    if files.position == position:
        return
    needs_rebuild = files.needs_rebuild(len(database.removed_after(files.position.removal)))
    if needs_rebuild or not _is_earlier(database, files.position, position):
        files.position = NOTHING
    try:
        _write(database, files, position)
    except OSError as error:
        # A killed process may leave files that tantivy cannot overwrite.
        _log.warning("%s; the index is rebuilt", error)
        del files
        _write(database, recreate_lexical(folder, language), position)


def _write(database: Database, lexical: LexicalIndex, position: CommitPosition) -> None:
    """Add to an index what it lacks of a commit."""
    if position.generation is None:
        return
    since = lexical.position
    removed = [] if since == NOTHING else database.removed_after(since.removal)
    lexical.write(database.column_after(position.generation, "text", since.row), removed, position)


def _is_earlier(database: Database, earlier: CommitPosition, position: CommitPosition) -> bool:
    """Whether a commit is an ancestor of `position`, or `position` itself."""
    return earlier.generation == position.generation and (earlier == position or database.has_position(earlier))


def _is_later(later: CommitPosition, position: CommitPosition) -> bool:
    return later.generation == position.generation and (later.row, later.removal) > (position.row, position.removal)

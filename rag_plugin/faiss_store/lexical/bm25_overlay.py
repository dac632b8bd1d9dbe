"""The lexical leg of one commit: what tantivy has on disk, and in memory what came after that.

Only the one writer changes the files. Everybody else reads them, and keeps in memory what is not in them yet.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..sqlite.commit_position import NOTHING, CommitPosition
from ..vectors.vector_index import Hits, sorted_by_score
from .bm25_index import LexicalIndex, open_lexical, remake_lexical

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..sqlite.database import Database

_log = logging.getLogger(__package__)


class LexicalView:
    """What a search by words sees; changed by one thread at a time, searched by any number in between."""

    def __init__(self, folder: Path, language: str) -> None:
        self.folder, self.language = folder, language
        self.reset()

    def reset(self) -> None:
        """Know nothing, as at the start."""
        self.state = NOTHING
        self._files: LexicalIndex | None = None
        self._overlay: LexicalIndex | None = None
        self._since = NOTHING  # what the overlay comes after
        self._removed: list[int] = []  # from the files, since then

    def catch_up(self, database: Database, *, patient: bool) -> None:
        """Bring it in line with the commit that the open snapshot shows.

        Args:
            database: In a snapshot.
            patient: Leave it as it is where the files are of a later commit: the next snapshot will show that one.
        """
        state = database.state()
        files = self._read_files(state)
        if files is not None and files.state == state:
            self._overlay, self._removed, self._since, self.state = None, [], NOTHING, state
            return
        since = NOTHING
        if files is not None and fits(database, files.state, state):
            since = files.state
        elif files is not None and patient and _is_later(files.state, state):
            return
        if self._overlay is None or self._since != since or not fits(database, self._overlay.state, state):
            self._overlay, self._since = LexicalIndex(None, self.language), since
            self._overlay.state = since
        write(database, self._overlay, state)
        self._removed = database.removed_after(since.removal) if since != NOTHING else []
        if since == NOTHING:
            self._files = None
        self.state = state

    def _read_files(self, state: CommitPosition) -> LexicalIndex | None:
        try:
            if self._files is None:
                self._files = LexicalIndex(self.folder, self.language) if self.folder.is_dir() else None
            elif self._files.state != state:
                self._files.reload()
        except OSError as error:  # gone, damaged, or in a folder that may only be read
            _log.debug("%s: words are kept in memory: %s", self.folder, error)
            self._files = None
        return self._files

    def search(self, text: str, top_k: int, mask: NDArray[np.bool_] | None) -> Hits:
        """The rows whose texts fit a question's words, with their BM25 scores, best first."""
        allowed = None if mask is None else int(np.count_nonzero(mask))
        found: Hits = []
        if self._files is not None:
            older = mask
            if self._removed:
                older = np.ones(self.state.row + 1, dtype=bool) if mask is None else mask.copy()
                older[[row for row in self._removed if row < len(older)]] = False
            found += self._files.search(text, top_k, older, allowed)
        if self._overlay is not None:
            found += self._overlay.search(text, top_k, mask, allowed)
        return sorted_by_score(found, top_k)

    def rows(self) -> list[int]:
        """The rows that a search can find."""
        gone = set(self._removed)
        found = [] if self._files is None else [row for row in self._files.rows() if row not in gone]
        return found + ([] if self._overlay is None else self._overlay.rows())


def covered(folder: Path, language: str) -> CommitPosition:
    """Which commit the files cover."""
    try:
        return LexicalIndex(folder, language).state if folder.is_dir() else NOTHING
    except OSError:
        return NOTHING


def write_files(database: Database, folder: Path, language: str) -> None:
    """Bring the files in line with the open snapshot; for the one writer.

    Raises:
        OSError: They cannot be written.
    """
    state = database.state()
    files = open_lexical(folder, language)
    if files.state == state:
        return
    if not fits(database, files.state, state) or files.is_worn(len(database.removed_after(files.state.removal))):
        files.state = NOTHING
    try:
        write(database, files, state)
    except OSError as error:
        # A process that was killed may leave files that tantivy will not write over.
        _log.warning("%s; it is made anew", error)
        del files
        write(database, remake_lexical(folder, language), state)


def write(database: Database, lexical: LexicalIndex, state: CommitPosition) -> None:
    """Add to an index what it lacks of the commit `state`."""
    if state.generation is None:
        return
    since = lexical.state
    removed = [] if since == NOTHING else database.removed_after(since.removal)
    lexical.write(database.texts_after(state.generation, since.row), removed, state)


def fits(database: Database, found: CommitPosition, state: CommitPosition) -> bool:
    """Whether what is of one commit can be brought to another by what came in between."""
    return found.generation == state.generation and (found == state or database.was(found))


def _is_later(found: CommitPosition, state: CommitPosition) -> bool:
    return found.generation == state.generation and (found.row, found.removal) > (state.row, state.removal)

"""What is derived from one commit of SQLite and lives in memory: FAISS, the lexical leg, metadata columns.

A view is brought from commit to commit by one thread at a time, and searched by any number in between.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import StoreError
from .base import Kind, keeps_exact, make_base
from .filters import Columns
from .lexical import LexicalIndex, open_lexical
from .snapshots import Stamp, load_snapshot, read_stamp
from .state import NOTHING, State
from .vectors import Found, VectorIndex, scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .database import Database

_log = logging.getLogger(__package__)

_FEW = 2_000  # nodes whose vectors are rather read from SQLite than looked for in an inexact index
_LEAST_TAIL = 20_000  # vectors that are searched exactly before an inexact index takes them in


class View:
    """The derived side of one index directory.

    Args:
        folder: The index directory.
        kind: What the FAISS base is like.
        language: Of the lexical leg; None goes without one.
        memory_map: Map the snapshot into memory instead of reading it.
        rescore: Score what an index of shortened vectors finds by the exact vectors.
    """

    def __init__(self, folder: Path, kind: Kind, language: str | None, memory_map: bool, rescore: bool) -> None:
        self.folder, self.kind, self.language = folder, kind, language
        self.memory_map, self.rescore = memory_map, rescore
        self.reset()

    def reset(self) -> None:
        """Know nothing, as at the start."""
        self.forget_vectors()
        self.lexical: LexicalIndex | None = None
        self.overlay: LexicalIndex | None = None  # what is not in the lexical leg's own commit yet
        self.lexical_state = NOTHING
        self._lexical_removed: list[int] = []

    def forget_vectors(self) -> None:
        """Know nothing of vectors and metadata."""
        self.state = NOTHING
        self.index: VectorIndex | None = None
        self.columns: Columns | None = None
        self.stamp: Stamp | None = None  # of the snapshot that the base is of
        self.recall: float | None = None
        self.base_state = NOTHING
        self.damaged = False  # the snapshot is not as it was written

    # ------------------------------------------------------------------ vectors and metadata

    def catch_up(self, database: Database) -> None:
        """Bring vectors and columns in line with the commit that the open snapshot shows."""
        state = database.state()
        if state == self.state:
            return
        if state.generation != self.state.generation or not database.was(self.state):
            self.forget_vectors()
        generation = state.generation
        try:
            if generation is not None:
                removed = database.removed_after(self.state.removal)
                if self.columns is not None:
                    self.columns.catch_up(database, removed)
                else:
                    self.columns = Columns(generation)
                self._replay(database, generation, state)
        except BaseException:
            self.forget_vectors()  # it may have a part of it
            raise
        self.state = state

    def _replay(self, database: Database, generation: int, state: State) -> None:
        dimension = database.dimension(generation)
        if dimension is None:
            return
        since = self.state
        if self.index is None or self.index.dimension != dimension:
            since = self._open(database, dimension, state)
        assert self.index is not None
        self.index.remove(database.removed_after(since.removal))
        for rows, vectors in database.vectors_after(generation, since.row):
            self.index.add(rows, vectors)
        if not self.kind.is_exact and self.index.tail_count > max(_LEAST_TAIL, self.index.base_count // 2):
            self.rebuild(database, state)
        elif not self.kind.is_exact and self.index.base is None and self._is_trainable(dimension):
            self.rebuild(database, state)

    def _is_trainable(self, dimension: int) -> bool:
        assert self.index is not None
        # Without training there is no reason to wait for many.
        return len(self.index) >= max(1_000, self.kind.least(self.kind.new(dimension, len(self.index))))

    def _open(self, database: Database, dimension: int, state: State) -> State:
        """Take the snapshot if it is of this past; returns the commit that it covers."""
        stamp = read_stamp(database.meta("snapshot"))
        base = None
        if (
            stamp is not None
            and (stamp.generation, stamp.kind, stamp.dimension) == (state.generation, self.kind.name(), dimension)
            and database.was(stamp.state)
        ):
            base = load_snapshot(self.folder, stamp, self.memory_map)
            self.damaged = base is None
        self.index = VectorIndex(dimension, self.kind.metric, base)
        self.stamp = stamp if base is not None else None
        self.recall = stamp.recall if stamp is not None and base is not None else None
        self.base_state = stamp.state if stamp is not None and base is not None else NOTHING
        return self.base_state

    def rebuild(self, database: Database, state: State) -> None:
        """Make the base anew of all that the open snapshot shows; the tail is empty then."""
        generation = state.generation
        dimension = None if generation is None else database.dimension(generation)
        if generation is None or dimension is None:
            return
        count = database.count("node", generation)
        base, recall = make_base(self.kind, dimension, count, lambda: database.vectors_after(generation, 0))
        if base is not None:
            self.take(base, dimension, state, None, recall)

    def take(self, base: Any, dimension: int, state: State, stamp: Stamp | None, recall: float | None) -> None:
        """Let this base be the one that is searched; it covers `state`."""
        self.index = VectorIndex(dimension, self.kind.metric, base)
        self.stamp, self.recall, self.base_state = stamp, recall, state
        self.damaged = False

    # ------------------------------------------------------------------ the lexical leg

    def has_words(self, state: State) -> bool:
        """Whether the lexical leg covers this commit."""
        return self.lexical_state == state

    def catch_up_words(self, database: Database, write: Callable[[], Any] | None) -> None:
        """Bring the lexical leg in line with the commit that the open snapshot shows.

        Args:
            database: In a snapshot.
            write: Gives a context in which this is the only writer, and raises if it is not to be had; what is
                behind is then kept in memory only.
        """
        state = database.state()
        if state.generation is None or self.language is None:
            return
        lexical = self._lexical(database, state)
        if lexical.state != state and write is not None:
            try:
                with write():
                    lexical.reload()  # another process may have brought it further
                    if not self._fits(database, lexical.state, state):
                        lexical.state = NOTHING
                    if lexical.state != state:
                        self._write(database, lexical, lexical.state, state)
            except (OSError, StoreError) as error:  # read-only, full, or somebody else writes
                _log.debug("%s: words are kept in memory: %s", self.folder, error)
        self.overlay, self._lexical_removed = None, []
        if lexical.state != state:
            since = lexical.state if self._fits(database, lexical.state, state) else NOTHING
            self.overlay = LexicalIndex(None, self.language)
            self._write(database, self.overlay, since, state)
            self._lexical_removed = database.removed_after(since.removal)
            if since == NOTHING:
                self.lexical = LexicalIndex(None, self.language)
        self.lexical_state = state

    def _lexical(self, database: Database, state: State) -> LexicalIndex:
        if self.lexical is None or self.lexical.folder is None:
            try:
                self.lexical = open_lexical(self.folder / "lexical", self.language or "none")
            except OSError as error:
                _log.debug("%s: words are kept in memory: %s", self.folder, error)
                self.lexical = LexicalIndex(None, self.language or "none")
        elif self.lexical.state != state:
            try:
                self.lexical.reload()
            except OSError:  # its folder went away under it
                self.lexical = None
                return self._lexical(database, state)
        return self.lexical

    @staticmethod
    def _fits(database: Database, found: State, state: State) -> bool:
        return found.generation == state.generation and database.was(found)

    @staticmethod
    def _write(database: Database, lexical: LexicalIndex, since: State, state: State) -> None:
        assert state.generation is not None
        texts = database.texts_after(state.generation, since.row)
        removed = [] if since == NOTHING else database.removed_after(since.removal)
        lexical.write(texts, removed, state)

    def word_rows(self) -> list[int]:
        """The rows that a search by words can find."""
        if self.lexical is None:
            return []
        if self.overlay is None:
            return self.lexical.rows()
        gone = set(self._lexical_removed)
        return [row for row in self.lexical.rows() if row not in gone] + self.overlay.rows()

    # ------------------------------------------------------------------ searching

    def nearest(
        self, database: Database, question: NDArray[np.float32], top_k: int, mask: NDArray[np.bool_] | None
    ) -> Found:
        """The rows whose vectors are nearest, with their similarity, best first."""
        index = self.index
        if index is None:
            return []
        if index.base is None or self.kind.is_exact:
            return index.search(question, top_k, mask)
        available = len(index) if mask is None else int(np.count_nonzero(mask))
        if mask is not None and available <= _FEW:
            return self._score(database, mask.nonzero()[0].tolist(), question)[:top_k]
        if self.rescore and not keeps_exact(index.base):
            found = index.search(question, max(4 * top_k, top_k + 50), mask)
            return self._score(database, [row for row, _ in found], question)[:top_k]
        found = index.search(question, top_k, mask)
        if len(found) < min(top_k, available):
            # It was not built to find that many; all of them are asked.
            rows = index.rows() if mask is None else mask.nonzero()[0]
            return self._score(database, rows.tolist(), question)[:top_k]
        return found

    def _score(self, database: Database, rows: list[int], question: NDArray[np.float32]) -> Found:
        """These rows, scored by their exact vectors, best first."""
        vectors = database.vectors_by_row(rows)
        if not vectors:
            return []
        values = scores(question, np.stack(list(vectors.values())), self.kind.metric)
        return sorted(zip(vectors, values.tolist()), key=lambda item: (-item[1], item[0]))

    def words(self, text: str, top_k: int, mask: NDArray[np.bool_] | None) -> Found:
        """The rows whose texts fit a question's words, with their BM25 scores, best first."""
        if self.lexical is None:
            return []
        allowed = None if mask is None else int(np.count_nonzero(mask))
        if self.overlay is None:
            return self.lexical.search(text, top_k, mask, allowed)
        older = mask
        if self._lexical_removed:
            older = np.ones(self.state.row + 1, dtype=bool) if mask is None else mask.copy()
            older[[row for row in self._lexical_removed if row < len(older)]] = False
        found = self.lexical.search(text, top_k, older, allowed) + self.overlay.search(text, top_k, mask, allowed)
        return sorted(found, key=lambda item: (-item[1], item[0]))[:top_k]

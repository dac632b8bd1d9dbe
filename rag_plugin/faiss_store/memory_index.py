"""What is derived from one commit of SQLite and lives in memory: FAISS, words, metadata columns.

A view is brought from commit to commit by one thread at a time, and searched by any number in between.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .filters import Columns
from .lexical.bm25_overlay import LexicalView
from .sqlite.commit_position import NOTHING, CommitPosition
from .vectors.faiss_index import IndexSpec, keeps_exact, make_base
from .vectors.snapshots import SnapshotRecord, load_snapshot, read_record
from .vectors.vector_index import Hits, VectorIndex, scores, sorted_by_score

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .sqlite.database import Database

_FEW = 2_000  # nodes whose vectors are rather read from SQLite than looked for in an inexact index
_LONG_TAIL = 2_000  # vectors changes_between the base for which a newer snapshot is opened
_WORTH_IT = 1_000  # vectors that an inexact index is made of at all
_SOON_BUILT = 10_000  # vectors of which an inexact index is made within a question; more wait for the writer
_AT_ONCE = 10_000  # exact vectors that are scored together


class MemoryIndex:
    """The derived side of one index directory.

    Args:
        folder: The index directory.
        kind: What the FAISS base is like.
        language: Of the lexical leg; None goes without one.
        memory_map: Map the snapshot into memory instead of reading it.
        rescore: Score what an index of shortened vectors finds by the exact vectors.
    """

    def __init__(self, folder: Path, kind: IndexSpec, language: str | None, memory_map: bool, rescore: bool) -> None:
        self.folder, self.kind = folder, kind
        self.memory_map, self.rescore = memory_map, rescore
        self.words = None if language is None else LexicalView(folder / "lexical", language)
        self.reset()

    def reset(self) -> None:
        """Know nothing, as at the start."""
        self.forget_vectors()
        if self.words is not None:
            self.words.reset()

    def forget_vectors(self) -> None:
        """Know nothing of vectors and metadata."""
        self.state = NOTHING
        self.index: VectorIndex | None = None
        self.columns: Columns | None = None
        self.stamp: SnapshotRecord | None = None  # of the snapshot that the base is of
        self.built = NOTHING  # the commit that a base in no file was made of
        self.recall: float | None = None
        self.damaged = False  # the snapshot is not as it was written

    # ------------------------------------------------------------------ from commit to commit

    def catch_up(self, database: Database) -> None:
        """Bring vectors and columns in line with the commit that the open snapshot shows."""
        state = database.state()
        if state == self.state:
            return
        if state.generation != self.state.generation or not database.was(self.state):
            self.forget_vectors()
        try:
            if state.generation is not None:
                removed = database.removed_after(self.state.removal)
                if self.columns is not None:
                    self.columns.catch_up(database, removed)
                else:
                    self.columns = Columns(state.generation)
                self._replay(database, state.generation, state, removed)
        except BaseException:
            self.forget_vectors()  # it may have a part of it
            raise
        self.state = state

    def _replay(self, database: Database, generation: int, state: CommitPosition, removed: list[int]) -> None:
        dimension = database.dimension(generation)
        if dimension is None:
            return
        since = self.state.row
        if self.index is None or self.index.dimension != dimension:
            since, removed = self._open(database, dimension, state)
        assert self.index is not None
        self.index.remove(removed)
        for rows, vectors in database.vectors_after(generation, since):
            self.index.add(rows, vectors)
        if self.index.tail_count > _LONG_TAIL:
            newest = read_record(database.meta("snapshot"))
            if newest is not None and self.stamp is not None and newest.file != self.stamp.file:
                # The writer has put what is in the tail into a new base.
                self.index = None
                return self._replay(database, generation, state, [])
        if self.index.base is None and not self.kind.is_exact and self._can_be_made_now(dimension):
            base, self.recall = make_base(
                self.kind, dimension, len(self.index), lambda: database.vectors_after(generation, 0), self.rescore
            )
            if base is not None:
                self.index, self.built = VectorIndex(dimension, self.kind.metric, base), state
        return None

    def _can_be_made_now(self, dimension: int) -> bool:
        assert self.index is not None
        count = len(self.index)
        # Without training there is no reason to wait for many. FAISS is asked last: this is looked at in each commit.
        return _WORTH_IT <= count <= _SOON_BUILT and self.kind.least(dimension, count) <= count

    def _open(self, database: Database, dimension: int, state: CommitPosition) -> tuple[int, list[int]]:
        """Take the snapshot if it is of this past; returns the row that it goes to, and what to remove from it."""
        stamp = read_record(database.meta("snapshot"))
        base = None
        if (
            stamp is not None
            and (stamp.generation, stamp.kind, stamp.dimension) == (state.generation, self.kind.name(), dimension)
            and database.was(stamp.state)
            and (self.folder / stamp.file).exists()
        ):
            base = load_snapshot(self.folder, stamp, self.memory_map)
            self.damaged = base is None
        self.index = VectorIndex(dimension, self.kind.metric, base)
        self.stamp = stamp if base is not None else None
        if stamp is None or base is None:
            self.recall = None
            return 0, []
        self.recall = stamp.recall
        return stamp.row, database.removed_after(stamp.removed_from)

    # ------------------------------------------------------------------ searching

    def nearest(
        self, database: Database, question: NDArray[np.float32], top_k: int, mask: NDArray[np.bool_] | None
    ) -> Hits:
        """The rows whose vectors are nearest, with their similarity, best first."""
        index = self.index
        if index is None:
            return []
        if index.base is None or self.kind.is_exact:
            return index.search(question, top_k, mask)
        available = len(index) if mask is None else int(np.count_nonzero(mask))
        if mask is not None and available <= _FEW:
            return self._score(database, mask.nonzero()[0].tolist(), question, top_k)
        shortened = self.rescore and not keeps_exact(index.base)
        found = index.search(question, self.kind.candidates(top_k) if shortened else top_k, mask)
        if len(found) < min(top_k, available):
            # It was not built to find that many; all of them are asked.
            rows = index.rows() if mask is None else mask.nonzero()[0]
            return self._score(database, rows.tolist(), question, top_k)
        return self._score(database, [row for row, _ in found], question, top_k) if shortened else found

    def _score(self, database: Database, rows: list[int], question: NDArray[np.float32], top_k: int) -> Hits:
        """These rows, scored by their exact vectors, the best first."""
        best: Hits = []
        for start in range(0, len(rows), _AT_ONCE):
            vectors = database.vectors_by_row(rows[start : start + _AT_ONCE])
            if vectors:
                values = scores(question, np.stack(list(vectors.values())), self.kind.metric)
                best = sorted_by_score([*best, *zip(vectors, values.tolist())], top_k)
        return best

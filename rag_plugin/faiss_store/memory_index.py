"""Derived state in memory of one commit: FAISS index, BM25 overlay, metadata columns.

One thread at a time moves it from commit to commit; in between, any number of threads search it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .filters import Columns
from .hits import Hits, sorted_by_score
from .lexical.bm25_overlay import LexicalView
from .sqlite.commit_position import NOTHING, CommitPosition
from .sqlite.database import Database
from .vectors.faiss_index import IndexSpec, keeps_exact
from .vectors.similarity import similarities
from .vectors.snapshots import SnapshotRecord, load_snapshot, read_record
from .vectors.vector_index import VectorIndex

_EXACT_MAX_ROWS = 2_000  # up to this many filtered rows of an approximate index are scored exactly, from SQLite
_RELOAD_MIN_TAIL = 2_000  # from this many vectors in the tail, a newer snapshot is loaded
_SCORING_BATCH_ROWS = 10_000


class MemoryIndex:
    """The derived state of one index directory.

    Args:
        folder: The index directory.
        spec: The specification of the FAISS base.
        language: Of the lexical index; None: no lexical index.
        memory_map: Map the snapshot into memory instead of reading it.
        rescore: Rescore the hits of a quantized index with the exact vectors.
    """

    def __init__(self, folder: Path, spec: IndexSpec, language: str | None, memory_map: bool, rescore: bool) -> None:
        self.folder, self.spec = folder, spec
        self.memory_map, self.rescore = memory_map, rescore
        self.lexical = None if language is None else LexicalView(folder / "lexical", language)
        self.reset()

    def reset(self) -> None:
        """Discard everything."""
        self.reset_vectors()
        if self.lexical is not None:
            self.lexical.reset()

    def reset_vectors(self) -> None:
        """Discard vectors and metadata."""
        self.position = NOTHING
        self.index: VectorIndex | None = None
        self.columns: Columns | None = None
        self.snapshot_record: SnapshotRecord | None = None  # of the base
        self.recall: float | None = None
        self.is_snapshot_damaged = False

    # ------------------------------------------------------------------ from commit to commit

    def catch_up(self, database: Database) -> None:
        """Bring vectors and metadata to the commit of the open SQLite snapshot."""
        position = database.position()
        if position == self.position:
            return
        if position.generation != self.position.generation or not database.has_position(self.position):
            self.reset_vectors()
        try:
            if position.generation is not None:
                removed = database.removed_after(self.position.removal)
                if self.columns is not None:
                    self.columns.catch_up(database, removed)
                else:
                    self.columns = Columns(position.generation)
                self._replay(database, position.generation, position, removed)
        except BaseException:
            self.reset_vectors()  # it may be partly updated
            raise
        self.position = position

    def _replay(self, database: Database, generation: int, position: CommitPosition, removed: list[int]) -> None:
        dimension = database.dimension(generation)
        if dimension is None:
            return
        since = self.position.row
        if self.index is None or self.index.dimension != dimension:
            since, removed = self._open(database, dimension, position)
        assert self.index is not None
        self.index.remove(removed)
        for rows, vectors in database.vectors_after(generation, since):
            self.index.add(rows, vectors)
        if len(self.index.tail_rows) > _RELOAD_MIN_TAIL:
            newest = read_record(database.meta("snapshot"))
            if newest is not None and self.snapshot_record is not None and newest.file != self.snapshot_record.file:
                # The writer has moved the tail into a newer base.
                self.index = None
                self._replay(database, generation, position, [])

    def _open(self, database: Database, dimension: int, position: CommitPosition) -> tuple[int, list[int]]:
        """Load the snapshot if it belongs to this history; returns the row it covers, and the rows to remove."""
        record = read_record(database.meta("snapshot"))
        base = None
        if (
            record is not None
            and (record.generation, record.kind, record.dimension) == (position.generation, self.spec.name(), dimension)
            and database.has_position(record.position)
            and (self.folder / record.file).exists()
        ):
            base = load_snapshot(self.folder, record, self.memory_map)
            self.is_snapshot_damaged = base is None
        self.index = VectorIndex(dimension, self.spec.metric, base)
        if record is None or base is None:
            self.snapshot_record = self.recall = None
            return 0, []
        self.snapshot_record, self.recall = record, record.recall
        return record.row, database.removed_after(record.removed_from)

    # ------------------------------------------------------------------ search

    def nearest(
        self, database: Database, query: NDArray[np.float32], top_k: int, mask: NDArray[np.bool_] | None
    ) -> Hits:
        """The rows with the nearest vectors among those that the mask allows."""
        index = self.index
        if index is None:
            return []
        if index.base is None or self.spec.is_exact:
            return index.search(query, top_k, mask)
        available = len(index) if mask is None else int(np.count_nonzero(mask))
        if mask is not None and available <= _EXACT_MAX_ROWS:
            return self._score(database, mask.nonzero()[0].tolist(), query, top_k)
        rescore = self.rescore and not keeps_exact(index.base)
        hits = index.search(query, self.spec.candidates(top_k) if rescore else top_k, mask)
        if len(hits) < min(top_k, available):
            # More than an approximate index can return: exact scoring of all rows.
            rows = index.rows() if mask is None else mask.nonzero()[0]
            return self._score(database, rows.tolist(), query, top_k)
        return self._score(database, [row for row, _ in hits], query, top_k) if rescore else hits

    def _score(self, database: Database, rows: list[int], query: NDArray[np.float32], top_k: int) -> Hits:
        """The best of these rows by their exact vectors."""
        best: Hits = []
        for start in range(0, len(rows), _SCORING_BATCH_ROWS):
            vectors = database.vectors_by_row(rows[start : start + _SCORING_BATCH_ROWS])
            if vectors:
                scores = similarities(query, np.stack(list(vectors.values())), self.spec.metric)
                best = sorted_by_score([*best, *zip(vectors, scores.tolist())], top_k)
        return best

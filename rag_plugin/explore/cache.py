"""Cached vectors of single words: one SQLite file in the user's cache folder.

Encoding 10,000 words takes all-MiniLM-L6-v2 on one processor 13 s, reading them back 0.06 s. If the file is missing,
damaged or locked, words are encoded again.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from platformdirs import user_cache_dir

from ..components.encoders.identity import pack, probe, unpack
from ..components.encoders.matrix import unit_rows

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from numpy.typing import NDArray

_log = logging.getLogger(__package__)

_MIN_PROBE_COSINE = 0.99999  # the number of threads changes the last digits of a vector, other settings change more
_MAX_VECTORS = 100_000
_MAX_VARIABLES_PER_STATEMENT = 500
_TABLES = """
CREATE TABLE IF NOT EXISTS encoder (id INTEGER PRIMARY KEY, name TEXT NOT NULL, probe TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS word (
    seq INTEGER PRIMARY KEY, encoder INTEGER NOT NULL, text TEXT NOT NULL, vector BLOB NOT NULL, UNIQUE (encoder, text)
);
"""


def cache_folder() -> Path:
    """This user's cache folder: `RAG_PLUGIN_CACHE`, or `rag-plugin` in the system's folder for caches."""
    return Path(os.environ.get("RAG_PLUGIN_CACHE") or user_cache_dir("rag-plugin", appauthor=False))


@dataclass(frozen=True, eq=False)
class VectorCache:
    """The cached vectors of one encoder, identified by class, model name and the vector of a fixed sentence."""

    name: str
    probe: NDArray[np.float32]
    path: Path

    @classmethod
    def of(cls, encoder: BaseEmbedding) -> VectorCache:
        name = f"{encoder.class_name()} {getattr(encoder, 'model_name', '')}"
        return cls(name, probe(encoder), cache_folder() / "words.sqlite")

    def read(self, words: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """The vectors of the words that are in the cache."""
        if not self.path.exists():
            return {}
        try:
            with self._transaction() as connection:
                return self._read(connection, words)
        except (sqlite3.Error, OSError) as error:
            self._warn(error)
            return {}

    def write(self, words: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Add vectors, and remove the oldest above the maximum."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._transaction() as connection:
                connection.execute("BEGIN IMMEDIATE")  # before the look-up: two first writers add one encoder
                self._write(connection, words, vectors)
        except (sqlite3.Error, OSError) as error:
            self._warn(error)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=5)) as connection:
            connection.executescript(_TABLES)
            with connection:
                yield connection

    def _warn(self, error: Exception) -> None:
        _log.warning("%s: %s; vectors of words are not cached, so each run encodes them again", self.path, error)

    def _read(self, connection: sqlite3.Connection, words: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        encoder_id = self._encoder_id(connection)
        vectors: dict[str, NDArray[np.float32]] = {}
        for start in range(0, len(words) if encoder_id is not None else 0, _MAX_VARIABLES_PER_STATEMENT):
            batch = words[start : start + _MAX_VARIABLES_PER_STATEMENT]
            rows = connection.execute(
                f"SELECT text, vector FROM word WHERE encoder = ? AND text IN ({','.join('?' * len(batch))})",
                (encoder_id, *batch),
            )
            vectors.update((text, np.frombuffer(blob, "<f4")) for text, blob in rows if len(blob) == self.probe.nbytes)
        return vectors

    def _write(self, connection: sqlite3.Connection, words: Sequence[str], vectors: NDArray[np.float32]) -> None:
        encoder_id = self._encoder_id(connection)
        if encoder_id is None:
            row = (self.name, pack(self.probe))
            encoder_id = connection.execute("INSERT INTO encoder (name, probe) VALUES (?, ?)", row).lastrowid
        connection.executemany(
            "INSERT OR REPLACE INTO word (encoder, text, vector) VALUES (?, ?, ?)",
            ((encoder_id, word, vector.astype("<f4").tobytes()) for word, vector in zip(words, vectors)),
        )
        connection.execute("DELETE FROM word WHERE seq <= (SELECT max(seq) FROM word) - ?", (_MAX_VECTORS,))
        connection.execute("DELETE FROM encoder WHERE id NOT IN (SELECT DISTINCT encoder FROM word)")

    def _encoder_id(self, connection: sqlite3.Connection) -> int | None:
        direction = unit_rows(self.probe[None, :])[0]
        for encoder_id, text in connection.execute("SELECT id, probe FROM encoder WHERE name = ?", (self.name,)):
            cached = unpack(text)
            if cached.size == direction.size and unit_rows(cached[None, :])[0] @ direction >= _MIN_PROBE_COSINE:
                return int(encoder_id)
        return None

"""Vectors of single words from the last time: one SQLite file in the user's cache folder.

Encoding 10,000 words takes all-MiniLM-L6-v2 on one processor 13 s, and reading them back 0.06 s. Nothing depends on
the file: one that is missing, damaged or in use only means that words are encoded again.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..components.encoders.matrix import pack, probe, unpack
from ..components.model_files.cache_folder import cache_folder
from .space import directions

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from numpy.typing import NDArray

_log = logging.getLogger(__package__)

_SAME = 0.99999  # cosine of two vectors of the probe: other threads change the last digits, other settings much more
_MOST = 100_000  # vectors that are kept; the oldest go
_AT_ONCE = 500
_TABLES = """
CREATE TABLE IF NOT EXISTS encoder (id INTEGER PRIMARY KEY, name TEXT NOT NULL, probe TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS word (
    seq INTEGER PRIMARY KEY, encoder INTEGER NOT NULL, text TEXT NOT NULL, vector BLOB NOT NULL, UNIQUE (encoder, text)
);
"""


@dataclass(frozen=True, eq=False)
class VectorCache:
    """The kept vectors of one encoder, which is known by its name and by its vector of a fixed sentence."""

    name: str
    probe: NDArray[np.float32]
    path: Path

    @classmethod
    def of(cls, encoder: BaseEmbedding) -> VectorCache:
        kind = type(encoder)
        name = f"{kind.__module__}.{kind.__qualname__} {getattr(encoder, 'model_name', '')}"
        return cls(name, probe(encoder), cache_folder() / "words.sqlite")

    def read(self, words: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """The vectors of those of the words that are known."""
        if not self.path.exists():
            return {}
        try:
            with self._transaction() as connection:
                return self._read(connection, words)
        except (sqlite3.Error, OSError) as error:
            self._warn(error)
            return {}

    def write(self, words: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Keep these vectors, and let go of the oldest where there are too many."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._transaction() as connection:
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
        _log.warning("%s: %s; vectors of words are not kept, which costs time and nothing else", self.path, error)

    def _read(self, connection: sqlite3.Connection, words: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        number = self._number(connection)
        found: dict[str, NDArray[np.float32]] = {}
        for start in range(0, len(words) if number is not None else 0, _AT_ONCE):
            part = words[start : start + _AT_ONCE]
            rows = connection.execute(
                f"SELECT text, vector FROM word WHERE encoder = ? AND text IN ({','.join('?' * len(part))})",
                (number, *part),
            )
            found.update({text: np.frombuffer(blob, "<f4") for text, blob in rows if len(blob) == self.probe.nbytes})
        return found

    def _write(self, connection: sqlite3.Connection, words: Sequence[str], vectors: NDArray[np.float32]) -> None:
        number = self._number(connection)
        if number is None:
            row = (self.name, pack(self.probe))
            number = connection.execute("INSERT INTO encoder (name, probe) VALUES (?, ?)", row).lastrowid
        blobs = (vector.astype("<f4").tobytes() for vector in vectors)
        connection.executemany(
            "INSERT OR REPLACE INTO word (encoder, text, vector) VALUES (?, ?, ?)",
            ((number, word, blob) for word, blob in zip(words, blobs)),
        )
        connection.execute("DELETE FROM word WHERE seq <= (SELECT max(seq) FROM word) - ?", (_MOST,))
        connection.execute("DELETE FROM encoder WHERE id NOT IN (SELECT DISTINCT encoder FROM word)")

    def _number(self, connection: sqlite3.Connection) -> int | None:
        """What this encoder's vectors are under."""
        mine = directions(self.probe[None, :])[0]
        for number, text in connection.execute("SELECT id, probe FROM encoder WHERE name = ?", (self.name,)):
            kept = unpack(text)
            if kept.size == mine.size and float(directions(kept[None, :])[0] @ mine) >= _SAME:
                return int(number)
        return None

"""The tables of an index directory: generations, documents, nodes, vectors, removals, cached vectors.

A generation is everything made by one encoder. A new encoder fills a new generation while readers still use the live
one; the commit that makes the new generation live drops the old one.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import StoreError, has_lone_surrogate
from ...protocols import DocumentRecord, FailureRecord, Fingerprint, SameEncoder
from .commit_position import CommitPosition
from .connection import Connection

MAX_VARIABLES_PER_STATEMENT = 500  # older versions of SQLite allow 999
_STORED = "row, id, text, metadata, rest"

StoredNode = tuple[int, str, str, str, str]
"""(row, id, text, metadata as JSON, the rest of the node as JSON)."""


class NodeRow(NamedTuple):
    """A node to write.

    `rest` is the JSON of everything but text, metadata and vector; `vector` is float32 bytes; `key` identifies the
    encoded text, so that the same text is not encoded twice (None: unknown).
    """

    id: str
    document: str | None
    text: str
    metadata: str
    rest: str
    vector: bytes
    key: bytes | None = None


class Database(Connection):
    """Statements on the tables; several of them inside `transaction()` or `snapshot()` are one commit."""

    # ------------------------------------------------------------------ generations

    def live_generation(self) -> int | None:
        """The generation that readers use; None before the first write."""
        value = self.meta("live")
        return None if value is None else int(value)

    def newest_generation(self) -> int | None:
        newest: int | None = self.value("SELECT max(id) FROM generation WHERE NOT dropped")
        return newest

    def add_generation(self, fingerprint: Fingerprint, same: SameEncoder = lambda first, second: False) -> int:
        """A new generation; if its encoder made an earlier one, it shares that one's cached vectors."""
        encoder = self.encoder_of(fingerprint, same)
        text = json.dumps(fingerprint, sort_keys=True)
        cursor = self.connection.execute("INSERT INTO generation (encoder, fingerprint) VALUES (?, ?)", (encoder, text))
        generation = int(cursor.lastrowid or 0)
        if not encoder:
            self.connection.execute("UPDATE generation SET encoder = id WHERE id = ?", (generation,))
        return generation

    def encoder_of(self, fingerprint: Fingerprint, same: SameEncoder) -> int:
        """The number of an encoder in the vector cache; 0 if this index never used it."""
        encoders = self.connection.execute("SELECT encoder, fingerprint FROM generation WHERE id = encoder").fetchall()
        return next((int(number) for number, text in encoders if same(json.loads(text), fingerprint)), 0)

    def fingerprint(self, generation: int) -> dict[str, Any]:
        return json.loads(self.value("SELECT fingerprint FROM generation WHERE id = ?", generation) or "{}")

    def set_fingerprint(self, generation: int, fingerprint: Fingerprint) -> None:
        text = json.dumps(fingerprint, sort_keys=True)
        self.connection.execute("UPDATE generation SET fingerprint = ? WHERE id = ?", (text, generation))

    def dimension(self, generation: int) -> int | None:
        dimension: int | None = self.value("SELECT dimension FROM generation WHERE id = ?", generation)
        return dimension

    def set_dimension(self, generation: int, dimension: int) -> None:
        self.connection.execute("UPDATE generation SET dimension = ? WHERE id = ?", (dimension, generation))

    def make_live(self, generation: int, cache_size: int) -> None:
        """Switch readers to this generation and drop all others."""
        self.set_meta("live", str(generation))
        self.drop_generations((generation,), cache_size)

    def drop_generations(self, keep: Sequence[int], cache_size: int) -> None:
        """Remove all generations but these."""
        placeholders = ",".join("?" * len(keep))
        dropped = self.connection.execute(
            f"SELECT id FROM generation WHERE NOT dropped AND id NOT IN ({placeholders})", tuple(keep)
        ).fetchall()
        for (generation,) in dropped:
            self._cache_vectors("node.generation = ?", (generation,), cache_size)
            self.connection.execute(
                "DELETE FROM vector WHERE row IN (SELECT row FROM node WHERE generation = ?)", (generation,)
            )
            for table in ("node", "document"):
                self.connection.execute(f"DELETE FROM {table} WHERE generation = ?", (generation,))
            # Its row in `generation` stays: cached vectors are looked up by their encoder.
            self.connection.execute("UPDATE generation SET dropped = 1 WHERE id = ?", (generation,))
        if dropped:
            self._trim_cache(cache_size)

    # ------------------------------------------------------------------ documents

    def documents(self, generation: int) -> dict[str, DocumentRecord]:
        query = "SELECT id, hash, stamp, recipe FROM document WHERE generation = ?"
        return {row[0]: DocumentRecord(*row) for row in self.connection.execute(query, (generation,))}

    def put_documents(self, generation: int, records: Iterable[DocumentRecord]) -> None:
        self.connection.executemany(
            "INSERT OR REPLACE INTO document VALUES (?, ?, ?, ?, ?)",
            (
                (generation, record.id, record.content_hash, record.change_token, record.settings_digest)
                for record in records
            ),
        )

    def delete_documents(self, generation: int, ids: Sequence[str], cache_size: int) -> None:
        """Remove documents: their records and their nodes."""
        ids = [id_ for id_ in ids if not has_lone_surrogate(id_)]  # which SQLite cannot store
        self.connection.executemany(
            "DELETE FROM document WHERE generation = ? AND id = ?", ((generation, id_) for id_ in ids)
        )
        self.delete_rows(self.rows_of(generation, "document", ids), cache_size)

    def failures(self, generation: int) -> dict[str, FailureRecord]:
        stored = json.loads(self.meta("failures") or "{}")
        rows = stored["records"] if stored.get("generation") == generation else []
        return {row[0]: FailureRecord(*row) for row in rows}

    def set_failures(self, generation: int, records: Iterable[FailureRecord]) -> None:
        """Replace the failure records. They are JSON in `meta`, which versions without them leave alone."""
        rows = [astuple(record) for record in records]
        self.set_meta("failures", json.dumps({"generation": generation, "records": rows}))

    def invalidate_documents_of(self, rows: Sequence[int]) -> None:
        """Make the next sync process the documents of these nodes again."""
        for placeholders, part in _parts(rows):
            self.connection.execute(
                "UPDATE document SET hash = '', stamp = NULL WHERE (generation, id) IN "
                f"(SELECT generation, document FROM node WHERE row IN ({placeholders}))",
                part,
            )

    # ------------------------------------------------------------------ nodes

    def put_nodes(self, generation: int, nodes: Sequence[NodeRow], cache_size: int) -> None:
        """Write nodes; a node with an existing id replaces it, under a new row number."""
        self.delete_rows(self.rows_of(generation, "id", [node.id for node in nodes]), cache_size)
        first = self.position().row + 1
        self.connection.executemany(
            f"INSERT INTO node (generation, document, key, {_STORED}) VALUES ({generation}, ?, ?, ?, ?, ?, ?, ?)",
            ((n.document, n.key, row, n.id, n.text, n.metadata, n.rest) for row, n in enumerate(nodes, first)),
        )
        self.connection.executemany(
            "INSERT INTO vector VALUES (?, ?)", ((row, node.vector) for row, node in enumerate(nodes, first))
        )

    def delete_rows(self, rows: Sequence[int], cache_size: int) -> None:
        """Remove nodes by row number, and record the removals for the derived indexes."""
        if not rows:
            return
        self.connection.executemany("INSERT INTO removal (node_row) VALUES (?)", ((row,) for row in rows))
        for placeholders, part in _parts(rows):
            self._cache_vectors(f"node.row IN ({placeholders})", part, cache_size)
            for table in ("node", "vector"):
                self.connection.execute(f"DELETE FROM {table} WHERE row IN ({placeholders})", part)
        self._trim_cache(cache_size)

    def nodes(self, generation: int) -> list[StoredNode]:
        """All nodes, by row."""
        query = f"SELECT {_STORED} FROM node WHERE generation = ? ORDER BY row"
        return self.connection.execute(query, (generation,)).fetchall()

    def nodes_by_row(self, rows: Sequence[int]) -> dict[int, StoredNode]:
        return {row[0]: row for row in self._select(f"SELECT {_STORED} FROM node WHERE row IN", rows)}

    def is_empty(self, generation: int) -> bool:
        return self.value("SELECT 1 FROM node WHERE generation = ? LIMIT 1", generation) is None

    def rows_of(self, generation: int, column: str, values: Sequence[str]) -> list[int]:
        """The row numbers of the nodes whose `column` (`id` or `document`) is one of the values."""
        rows = self._select(f"SELECT row FROM node WHERE generation = {generation} AND {column} IN", values)
        return [row[0] for row in rows]

    def column_after(self, generation: int, column: str, row: int) -> Iterator[tuple[int, str]]:
        """(row, `metadata` or `text`) of the nodes written after `row`, in that order."""
        # The plus disables the index on generation, whose use would require a sort.
        return self.connection.execute(
            f"SELECT row, {column} FROM node WHERE +generation = ? AND row > ? ORDER BY row", (generation, row)
        )

    def count(self, table: str, generation: int) -> int:
        return int(self.value(f"SELECT count(*) FROM {table} WHERE generation = ?", generation))

    # ------------------------------------------------------------------ vectors

    def vectors_by_row(self, rows: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """The exact vectors by row number, without those of removed rows."""
        return _by_key(self._select("SELECT row, vector FROM vector WHERE row IN", rows))

    def vectors_after(
        self, generation: int, row: int, size: int = 4096
    ) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
        """Batches of (rows, vectors of shape (len(rows), dimension)) of the nodes written after `row`."""
        if self.value("SELECT count(*) FROM generation WHERE NOT dropped") == 1:
            cursor = self.connection.execute("SELECT row, vector FROM vector WHERE row > ? ORDER BY row", (row,))
        else:  # rows of an unfinished generation may lie between
            cursor = self.connection.execute(
                "SELECT node.row, vector FROM node CROSS JOIN vector ON vector.row = node.row"
                " WHERE node.row > ? AND +generation = ? ORDER BY node.row",
                (row, generation),
            )
        while batch := cursor.fetchmany(size):
            if len({len(vector) for _, vector in batch}) > 1 or len(batch[0][1]) % 4:
                raise StoreError(
                    f"{self.path} has vectors of several lengths; ",
                    python="call verify(repair=True)",
                    shell="run `rag-plugin verify --repair`",
                )
            vectors = np.frombuffer(b"".join(vector for _, vector in batch), dtype=np.float32)
            yield [number for number, _ in batch], vectors.reshape(len(batch), -1)

    def vectors_by_key(self, generation: int, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        """The vectors of texts that this generation's encoder has encoded, by key."""
        query = f"SELECT key, vector FROM node JOIN vector USING (row) WHERE generation = {generation} AND key IN"
        vectors = _by_key(self._select(query, keys))
        encoder = self.value("SELECT encoder FROM generation WHERE id = ?", generation) or 0
        return vectors | self.removed_vectors(encoder, [key for key in keys if key not in vectors])

    def removed_vectors(self, encoder: int, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        """The cached vectors of removed nodes, by key."""
        return _by_key(self._select(f"SELECT key, vector FROM cached WHERE encoder = {encoder} AND key IN", keys))

    def _cache_vectors(self, where: str, arguments: tuple[Any, ...], cache_size: int) -> None:
        """Cache the vectors of nodes that are about to be removed."""
        if cache_size > 0:
            self.connection.execute(
                "INSERT OR REPLACE INTO cached (encoder, key, vector) SELECT encoder, key, vector FROM ("
                "SELECT row, encoder, key, vector FROM node JOIN vector USING (row)"
                " JOIN generation ON generation.id = node.generation"
                f" WHERE key IS NOT NULL AND {where} ORDER BY row DESC LIMIT {cache_size}) ORDER BY row",
                arguments,
            )

    def _trim_cache(self, cache_size: int) -> None:
        """Evict the oldest cached vectors, in batches: the cache may exceed `cache_size` by a tenth."""
        first, last = self.connection.execute("SELECT min(seq), max(seq) FROM cached").fetchone()
        if first is not None and last - first >= cache_size + (cache_size // 10 if cache_size >= 1_000 else 0):
            self.connection.execute("DELETE FROM cached WHERE seq <= ?", (last - cache_size,))

    def clear_cache(self) -> None:
        self.connection.execute("DELETE FROM cached")

    def cached_count(self) -> int:
        return int(self.value("SELECT count(*) FROM cached"))

    # ------------------------------------------------------------------ history, for the derived indexes

    def record_position(self, position: CommitPosition) -> None:
        """Give the position of the current transaction its random token."""
        self.connection.execute(
            "INSERT OR IGNORE INTO history VALUES (?, ?, ?)", (position.row, position.removal, secrets.token_hex(8))
        )

    def prune_history(self, position: CommitPosition, removal: int) -> None:
        """Delete commits before `position` and removals up to `removal`, which no derived index needs."""
        self.connection.execute("DELETE FROM history WHERE (row, removal) < (?, ?)", (position.row, position.removal))
        self.connection.execute("DELETE FROM removal WHERE seq <= ?", (removal,))

    def removed_after(self, removal: int) -> list[int]:
        """The rows of the nodes removed after this removal number."""
        return [row[0] for row in self.connection.execute("SELECT node_row FROM removal WHERE seq > ?", (removal,))]

    def _select(self, query: str, values: Sequence[Any]) -> list[Any]:
        """All rows of a query that ends in IN, for any number of values."""
        valid = [value for value in values if not isinstance(value, str) or not has_lone_surrogate(value)]
        return [
            row
            for placeholders, part in _parts(valid)
            for row in self.connection.execute(f"{query} ({placeholders})", part)
        ]


def _parts(values: Sequence[Any]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """(placeholders, values) for statements of at most `MAX_VARIABLES_PER_STATEMENT` values."""
    for start in range(0, len(values), MAX_VARIABLES_PER_STATEMENT):
        part = tuple(values[start : start + MAX_VARIABLES_PER_STATEMENT])
        yield ",".join("?" * len(part)), part


def _by_key(rows: Iterable[tuple[Any, bytes]]) -> dict[Any, NDArray[np.float32]]:
    return {key: np.frombuffer(vector, dtype=np.float32) for key, vector in rows}

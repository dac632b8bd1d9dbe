"""What the SQLite file of an index directory holds: generations, documents, nodes, vectors, removed vectors.

Everything of one encoder is a generation. A new encoder fills a new generation while readers still see
the old one; when it is complete it becomes the live one in the same commit that drops the old.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from ...errors import StoreError
from ...protocols import DocumentRecord
from .commit_position import CommitPosition
from .connection import Connection

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")
_MOST_VARIABLES = 500  # in one statement; SQLite's own limit was 999 for long
_NODE = "row, id, text, metadata, rest"


class NodeRow(NamedTuple):
    """A node as it is kept.

    `rest` is the JSON of all but text, metadata and vector; `vector` is float32 bytes; `key` names the text
    that was encoded, so that the same text is not encoded again (None: not known).
    """

    id: str
    document: str | None
    text: str
    metadata: str
    rest: str
    vector: bytes
    key: bytes | None = None


class Database(Connection):
    """The tables, one method a statement; inside `transaction()` or `snapshot()` several of them are one commit."""

    # ------------------------------------------------------------------ generations

    def live(self) -> int | None:
        """The generation that readers see; None before anything was written."""
        value = self.meta("live")
        return None if value is None else int(value)

    def newest(self) -> int | None:
        return self.connection.execute("SELECT max(id) FROM generation WHERE NOT dropped").fetchone()[0]  # type: ignore[no-any-return]

    def add_generation(
        self,
        fingerprint: Mapping[str, Any],
        same: Callable[[Mapping[str, Any], Mapping[str, Any]], bool] = lambda old, new: False,
    ) -> int:
        """A new generation; one whose encoder was there before finds that one's removed vectors again."""
        encoder = self.encoder_of(fingerprint, same)
        text = json.dumps(fingerprint, sort_keys=True)
        cursor = self.connection.execute("INSERT INTO generation (encoder, fingerprint) VALUES (?, ?)", (encoder, text))
        generation = int(cursor.lastrowid or 0)
        if not encoder:
            self.connection.execute("UPDATE generation SET encoder = id WHERE id = ?", (generation,))
        return generation

    def encoder_of(
        self, fingerprint: Mapping[str, Any], same: Callable[[Mapping[str, Any], Mapping[str, Any]], bool]
    ) -> int:
        """What the vectors of an encoder are kept under; 0 if it was never here."""
        past = self.connection.execute("SELECT encoder, fingerprint FROM generation WHERE id = encoder").fetchall()
        return next((int(number) for number, text in past if same(json.loads(text), fingerprint)), 0)

    def fingerprint(self, generation: int) -> dict[str, Any]:
        row = self.connection.execute("SELECT fingerprint FROM generation WHERE id = ?", (generation,)).fetchone()
        return json.loads(row[0]) if row else {}

    def set_fingerprint(self, generation: int, fingerprint: Mapping[str, Any]) -> None:
        text = json.dumps(fingerprint, sort_keys=True)
        self.connection.execute("UPDATE generation SET fingerprint = ? WHERE id = ?", (text, generation))

    def dimension(self, generation: int) -> int | None:
        row = self.connection.execute("SELECT dimension FROM generation WHERE id = ?", (generation,)).fetchone()
        return None if row is None else row[0]

    def set_dimension(self, generation: int, dimension: int | None) -> None:
        self.connection.execute("UPDATE generation SET dimension = ? WHERE id = ?", (dimension, generation))

    def make_live(self, generation: int, cache_size: int) -> None:
        """Let readers see this generation, and drop every other."""
        self.set_meta("live", str(generation))
        self.drop_generations((generation,), cache_size)

    def drop_generations(self, keep: Sequence[int], cache_size: int) -> None:
        marks = ",".join("?" * len(keep))
        dropped = self.connection.execute(
            f"SELECT id FROM generation WHERE NOT dropped AND id NOT IN ({marks})", tuple(keep)
        ).fetchall()
        for (generation,) in dropped:
            self._keep_vectors("node.generation = ?", (generation,), cache_size)
            self.connection.execute(
                "DELETE FROM vector WHERE row IN (SELECT row FROM node WHERE generation = ?)", (generation,)
            )
            for table in ("node", "document"):
                self.connection.execute(f"DELETE FROM {table} WHERE generation = ?", (generation,))
            # Its row stays: removed vectors are looked up by the encoder that made them.
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
        """Forget documents and remove their nodes."""
        ids = [name for name in ids if is_utf8(name)]
        self.connection.executemany(
            "DELETE FROM document WHERE generation = ? AND id = ?", ((generation, name) for name in ids)
        )
        self.delete_rows(self.rows_of(generation, "document", ids), cache_size)

    # ------------------------------------------------------------------ nodes

    def put_nodes(self, generation: int, nodes: Sequence[NodeRow], cache_size: int) -> None:
        """Write nodes; one whose id is there already replaces it, under a new row number."""
        self.delete_rows(self.rows_of(generation, "id", [node.id for node in nodes]), cache_size)
        first = self.state().row + 1
        self.connection.executemany(
            f"INSERT INTO node (generation, document, key, {_NODE}) VALUES ({generation}, ?, ?, ?, ?, ?, ?, ?)",
            ((n.document, n.key, row, n.id, n.text, n.metadata, n.rest) for row, n in enumerate(nodes, first)),
        )
        self.connection.executemany(
            "INSERT INTO vector VALUES (?, ?)", ((row, node.vector) for row, node in enumerate(nodes, first))
        )

    def delete_rows(self, rows: Sequence[int], cache_size: int) -> None:
        """Remove nodes by row number, and note that they went."""
        if not rows:
            return
        self.connection.executemany("INSERT INTO removal (node_row) VALUES (?)", ((row,) for row in rows))

        def remove(marks: str, part: Sequence[int]) -> list[Any]:
            self._keep_vectors(f"node.row IN ({marks})", tuple(part), cache_size)
            for table in ("node", "vector"):
                self.connection.execute(f"DELETE FROM {table} WHERE row IN ({marks})", tuple(part))
            return []

        self._in_parts(rows, remove)
        self._trim_cache(cache_size)

    def nodes(self, generation: int, ids: Sequence[str] | None = None) -> list[tuple[Any, ...]]:
        """(row, id, text, metadata, rest) of the nodes with these ids, or of all."""
        query = f"SELECT {_NODE} FROM node WHERE generation = {generation}"
        if ids is None:
            return self.connection.execute(query + " ORDER BY row").fetchall()
        return self._select(f"{query} AND id IN", ids)

    def nodes_by_row(self, rows: Sequence[int]) -> dict[int, tuple[Any, ...]]:
        """(row, id, text, metadata, rest) by row number."""
        return {row[0]: row for row in self._select(f"SELECT {_NODE} FROM node WHERE row IN", rows)}

    def is_empty(self, generation: int) -> bool:
        return (
            self.connection.execute("SELECT 1 FROM node WHERE generation = ? LIMIT 1", (generation,)).fetchone() is None
        )

    def doubt_documents_of(self, rows: Sequence[int]) -> None:
        """Let the next sync cut the documents of these nodes anew."""
        self._in_parts(
            rows,
            lambda marks, part: self.connection.execute(
                "UPDATE document SET hash = '', stamp = NULL WHERE (generation, id) IN "
                f"(SELECT generation, document FROM node WHERE row IN ({marks}))",
                tuple(part),
            ).fetchall(),
        )

    def rows_of(self, generation: int, column: str, values: Sequence[str]) -> list[int]:
        """The row numbers of the nodes whose `column` (`id` or `document`) is one of the values."""
        found = self._select(f"SELECT row FROM node WHERE generation = {generation} AND {column} IN", values)
        return [row[0] for row in found]

    def metadata_after(self, generation: int, row: int) -> Iterator[tuple[int, str]]:
        """(row, metadata) of the nodes written after `row`, in that order."""
        # The plus keeps SQLite from the index by generation, after which it would have to sort all of them.
        return self.connection.execute(
            "SELECT row, metadata FROM node WHERE +generation = ? AND row > ? ORDER BY row", (generation, row)
        )

    def texts_after(self, generation: int, row: int) -> Iterator[tuple[int, str]]:
        """(row, text) of the nodes written after `row`, in that order."""
        return self.connection.execute(
            "SELECT row, text FROM node WHERE +generation = ? AND row > ? ORDER BY row", (generation, row)
        )

    def count(self, table: str, generation: int) -> int:
        row = self.connection.execute(f"SELECT count(*) FROM {table} WHERE generation = ?", (generation,)).fetchone()
        return int(row[0])

    # ------------------------------------------------------------------ vectors

    def vectors_by_row(self, rows: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """The exact vectors by row number; those that are gone are left out."""
        found = self._select("SELECT row, vector FROM vector WHERE row IN", rows)
        return {row: np.frombuffer(vector, dtype=np.float32) for row, vector in found}

    def vectors_after(self, generation: int, row: int, size: int = 4096) -> Iterator[tuple[list[int], Any]]:
        """Batches of (rows, vectors of shape (len(rows), dimension)) of the nodes written after `row`."""
        (generations,) = self.connection.execute("SELECT count(*) FROM generation WHERE NOT dropped").fetchone()
        if generations == 1:
            cursor = self.connection.execute("SELECT row, vector FROM vector WHERE row > ? ORDER BY row", (row,))
        else:  # rows of one that is still being filled may lie between
            cursor = self.connection.execute(
                "SELECT node.row, vector FROM node CROSS JOIN vector ON vector.row = node.row"
                " WHERE node.row > ? AND +generation = ? ORDER BY node.row",
                (row, generation),
            )
        while batch := cursor.fetchmany(size):
            if len({len(vector) for _, vector in batch}) > 1 or len(batch[0][1]) % 4:
                raise StoreError(f"{self.path} holds vectors of several lengths: `rag-plugin verify --repair` mends it")
            vectors = np.frombuffer(b"".join(vector for _, vector in batch), dtype=np.float32)
            yield [number for number, _ in batch], vectors.reshape(len(batch), -1)

    def known_vectors(self, generation: int, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        """The vectors of texts that this generation's encoder has encoded, by key."""
        query = f"SELECT key, vector FROM node JOIN vector USING (row) WHERE generation = {generation} AND key IN"
        found = {key: np.frombuffer(vector, dtype=np.float32) for key, vector in self._select(query, keys)}
        row = self.connection.execute("SELECT encoder FROM generation WHERE id = ?", (generation,)).fetchone()
        missing = [key for key in keys if key not in found]
        return found | self.removed_vectors(int(row[0]) if row else 0, missing)

    def removed_vectors(self, encoder: int, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        """The vectors of nodes that were removed, by key."""
        found = self._select(f"SELECT key, vector FROM cached WHERE encoder = {encoder} AND key IN", keys)
        return {key: np.frombuffer(vector, dtype=np.float32) for key, vector in found}

    def _keep_vectors(self, where: str, arguments: tuple[Any, ...], cache_size: int) -> None:
        """Keep the vectors of nodes that are about to go, should their text come again."""
        if cache_size > 0:
            self.connection.execute(
                "INSERT OR REPLACE INTO cached (encoder, key, vector) SELECT encoder, key, vector FROM ("
                "SELECT row, encoder, key, vector FROM node JOIN vector USING (row)"
                " JOIN generation ON generation.id = node.generation"
                f" WHERE key IS NOT NULL AND {where} ORDER BY row DESC LIMIT {cache_size}) ORDER BY row",
                arguments,
            )

    def _trim_cache(self, cache_size: int) -> None:
        """Let go of the oldest; a tenth more than `cache_size` may stay, so that this is not done each time."""
        first, last = self.connection.execute("SELECT min(seq), max(seq) FROM cached").fetchone()
        if first is not None and last - first >= cache_size + (cache_size // 10 if cache_size >= 1_000 else 0):
            self.connection.execute("DELETE FROM cached WHERE seq <= ?", (last - cache_size,))

    def clear_cache(self) -> None:
        self.connection.execute("DELETE FROM cached")

    def cached_count(self) -> int:
        return int(self.connection.execute("SELECT count(*) FROM cached").fetchone()[0])

    # ------------------------------------------------------------------ what a derived index has to catch up with

    def note_history(self, state: CommitPosition) -> None:
        """Name the commit that is about to be made."""
        self.connection.execute(
            "INSERT OR IGNORE INTO history VALUES (?, ?, ?)", (state.row, state.removal, secrets.token_hex(8))
        )

    def forget_before(self, state: CommitPosition, removal: int) -> None:
        """Forget the past that no derived index needs any more: commits before `state`, removals up to `removal`."""
        self.connection.execute("DELETE FROM history WHERE (row, removal) < (?, ?)", (state.row, state.removal))
        self.connection.execute("DELETE FROM removal WHERE seq <= ?", (removal,))

    def removed_after(self, seq: int) -> list[int]:
        return [row[0] for row in self.connection.execute("SELECT node_row FROM removal WHERE seq > ?", (seq,))]

    def _select(self, query: str, values: Sequence[Any]) -> list[Any]:
        """All rows of a query that ends in IN, for any number of values."""
        known = [value for value in values if not isinstance(value, str) or is_utf8(value)]
        return self._in_parts(
            known, lambda marks, part: self.connection.execute(f"{query} ({marks})", tuple(part)).fetchall()
        )

    def _in_parts(self, values: Sequence[Any], run: Callable[[str, Sequence[Any]], list[T]]) -> list[T]:
        found: list[T] = []
        for start in range(0, len(values), _MOST_VARIABLES):
            part = values[start : start + _MOST_VARIABLES]
            found += run(",".join("?" * len(part)), part)
        return found


def is_utf8(text: str) -> bool:
    """Whether a text can be in the database at all: half a surrogate pair cannot."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False

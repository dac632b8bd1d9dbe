"""BM25 index of the nodes' texts, kept by tantivy and derived from SQLite.

A document of its own, the stamp, records in every tantivy commit which commit of SQLite it covers.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tantivy
from numpy.typing import NDArray
from tantivy import Occur, Query, SchemaBuilder

from ..hits import Hits, search_filtered, sorted_by_score
from ..sqlite.commit_position import NOTHING, CommitPosition
from .analysis import VERSION, Analyzer, indexed_text

_log = logging.getLogger(__package__)

_WRITER_HEAP_BYTES = 64_000_000  # tantivy needs at least 15 million per thread
_MAX_QUERY_TERMS = 256
MAX_ROWS_IN_QUERY = 2_000  # up to this many allowed rows are part of the query; more are filtered afterwards


class LexicalIndex:
    """BM25 over (row number, text); any number of threads search it, one writes while none searches.

    Args:
        folder: The folder of tantivy's files; None: in memory.
        language: Of the stemmer and the stop words; `none` for neither.

    Raises:
        OSError: The files cannot be opened.
    """

    def __init__(self, folder: Path | None, language: str) -> None:
        self.folder, self.language = folder, language
        builder = SchemaBuilder()
        builder.add_integer_field("row", stored=False, indexed=True, fast=True)
        builder.add_text_field("text", stored=False, tokenizer_name="words", index_option="freq")
        builder.add_text_field("stamp", stored=True, tokenizer_name="raw", index_option="basic")
        self._schema = builder.build()
        self._analyzer = Analyzer(language)
        try:
            if folder is None:
                self._index = tantivy.Index(self._schema)
            else:
                folder.mkdir(exist_ok=True)
                self._index = tantivy.Index(self._schema, path=str(folder), reuse=True)
        except ValueError as error:  # the only error type of tantivy
            raise OSError(f"{folder} cannot be opened: {error}") from error
        self._index.register_tokenizer("words", self._analyzer.index_analyzer)
        self._index.config_reader(reload_policy="manual")
        self.reload()

    def reload(self) -> None:
        """Switch to the last tantivy commit, and read which SQLite commit it covers.

        Raises:
            OSError: The files are missing or damaged.
        """
        self.position, self.removed_count = NOTHING, 0
        try:
            self._index.reload()
            self._searcher = self._index.searcher()
            for _, address in self._searcher.search(Query.term_set_query(self._schema, "row", [-1]), 1).hits:
                stamp = json.loads(self._searcher.doc(address)["stamp"][0])
                if (stamp["language"], stamp.get("analysis")) == (self.language, VERSION):
                    self.position, self.removed_count = CommitPosition(*stamp["state"]), stamp["removed"]
        except (ValueError, KeyError, TypeError) as error:
            raise OSError(f"the lexical index cannot be read: {error}") from error

    def needs_rebuild(self, removals: int) -> bool:
        """Whether further removals would leave term statistics with more than a fifth of removed texts.

        tantivy counts removed documents until it merges their segments.
        """
        return self.removed_count + removals > (int(self._searcher.num_docs) + self.removed_count) // 5

    def rows(self) -> list[int]:
        """All row numbers."""
        hits = self._hits(Query.all_query(), max(1, int(self._searcher.num_docs)))
        return [row for row, _ in hits if row >= 0]

    def write(self, texts: Iterable[tuple[int, str]], removed: Sequence[int], position: CommitPosition) -> None:
        """Add and remove rows, and record in the same commit the position that it covers.

        Raises:
            OSError: The files cannot be written, or another process is writing them.
        """
        writer: Any = None
        try:
            writer = self._index.writer(_WRITER_HEAP_BYTES, 2)
            if self.position == NOTHING:
                writer.delete_all_documents()
                self.removed_count = 0
            for row in (*removed, -1):
                writer.delete_documents_by_term("row", row)
            document = tantivy.Document
            for row, text in texts:
                writer.add_document(document(row=row, text=indexed_text(text, self.language)))
            removed_count = self.removed_count + len(removed)
            stamp = json.dumps(
                {"state": position, "language": self.language, "analysis": VERSION, "removed": removed_count}
            )
            writer.add_document(document(row=-1, stamp=stamp))
            writer.commit()
            writer.wait_merging_threads()
        except ValueError as error:
            writer = None  # releases tantivy's lock
            raise OSError(f"the lexical index cannot be written: {error}") from error
        self.reload()

    def search(self, text: str, top_k: int, mask: NDArray[np.bool_] | None = None) -> Hits:
        """The rows with the highest BM25 scores.

        Args:
            text: Plain text without query syntax.
            top_k: Maximum number of hits.
            mask: Allowed rows, by row number; None: all.
        """
        terms = self._analyzer.terms(text)[:_MAX_QUERY_TERMS]
        if not terms or top_k < 1:
            return []
        query = Query.boolean_query([(Occur.Should, Query.term_query(self._schema, "text", term)) for term in terms])
        if mask is None:
            return self._hits(query, top_k)
        if np.count_nonzero(mask) <= MAX_ROWS_IN_QUERY:
            rows = Query.term_set_query(self._schema, "row", mask.nonzero()[0].tolist())
            allowed = Query.const_score_query(rows, 0.0)
            return self._hits(Query.boolean_query([(Occur.Must, query), (Occur.Must, allowed)]), top_k)
        return search_filtered(
            lambda depth: self._hits(query, depth), lambda row: row < len(mask) and bool(mask[row]), top_k
        )

    def _hits(self, query: Query, top_k: int) -> Hits:
        """The best rows; equal scores by row, for which all hits with the last score are fetched."""
        count = max(1, int(self._searcher.num_docs))
        depth = top_k + 1
        while True:
            hits = self._searcher.search(query, min(depth, count), count=False).hits
            if len(hits) < depth or hits[-1][0] < hits[top_k - 1][0]:  # type: ignore[operator]
                break
            depth *= 2
        rows = self._searcher.fast_field_values("row", [address for _, address in hits])
        scored: Hits = [(row, float(score)) for row, (score, _) in zip(rows, hits)]  # type: ignore[arg-type, misc]
        return sorted_by_score(scored, top_k)


def open_lexical(folder: Path, language: str) -> LexicalIndex:
    """The lexical index of a folder, empty if its files cannot be opened. For the writer.

    Raises:
        OSError: The folder cannot be written.
    """
    try:
        return LexicalIndex(folder, language)
    except OSError as error:
        _log.warning("%s; the index is rebuilt", error)
        return recreate_lexical(folder, language)


def recreate_lexical(folder: Path, language: str) -> LexicalIndex:
    """An empty lexical index in place of a folder's contents. For the writer."""
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)
    else:
        folder.unlink()
    return LexicalIndex(folder, language)

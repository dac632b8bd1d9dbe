"""The lexical leg: BM25 over the nodes' texts, kept by tantivy, derived from SQLite.

A document of its own, the stamp, says in each tantivy commit which commit of SQLite it covers.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tantivy
from tantivy import Filter, Occur, Query, SchemaBuilder, TextAnalyzerBuilder, Tokenizer

from ..sqlite.commit_position import NOTHING, CommitPosition
from ..vectors.vector_index import Hits, sorted_by_score

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_log = logging.getLogger(__package__)

LANGUAGES = (
    "arabic", "danish", "dutch", "english", "finnish", "french", "german", "greek", "hungarian", "italian",
    "norwegian", "portuguese", "romanian", "russian", "spanish", "swedish", "tamil", "turkish",
)  # fmt: skip
_WITH_STOP_WORDS = frozenset(LANGUAGES) - {"arabic", "greek", "romanian", "tamil", "turkish"}
_HEAP = 64_000_000  # bytes; tantivy asks for 15 million a thread at least
_LONGEST = 255  # characters of a word; tantivy's own limit is 65,530 bytes
_MOST_TERMS = 256  # of a question
_FEW = 2_000  # rows that are named one by one in a query

# Writing without spaces between words: overlapping pairs of characters stand for words.
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]+")


class LexicalIndex:
    """BM25 over (row number, text); searched by any number of threads, written by one when nobody searches.

    Args:
        folder: Where tantivy keeps it; None keeps it in memory.
        language: Whose stemmer and stop words are used; `none` for neither.

    Raises:
        OSError: The folder's files cannot be opened.
    """

    def __init__(self, folder: Path | None, language: str) -> None:
        self.folder, self.language = folder, language
        builder = SchemaBuilder()
        builder.add_integer_field("row", stored=False, indexed=True, fast=True)
        builder.add_text_field("text", stored=False, tokenizer_name="words", index_option="freq")
        builder.add_text_field("stamp", stored=True, tokenizer_name="raw", index_option="basic")
        self._schema = builder.build()
        self._analyzer = _analyzer(language)
        try:
            if folder is None:
                self._index = tantivy.Index(self._schema)
            else:
                folder.mkdir(exist_ok=True)
                self._index = tantivy.Index(self._schema, path=str(folder), reuse=True)
        except ValueError as error:  # tantivy's every error
            raise OSError(f"{folder} cannot be opened: {error}") from error
        self._index.register_tokenizer("words", self._analyzer)
        self._index.config_reader(reload_policy="manual")
        self.reload()

    def reload(self) -> None:
        """See the last commit, and which commit of SQLite it covers.

        Raises:
            OSError: Its files are gone or damaged.
        """
        try:
            self._index.reload()
        except ValueError as error:  # tantivy's every error
            raise OSError(f"the lexical index cannot be read: {error}") from error
        self._searcher = self._index.searcher()
        self.state, self.removed = NOTHING, 0
        question = Query.term_set_query(self._schema, "row", [-1])
        try:
            for _, address in self._searcher.search(question, 1).hits:
                stamp = json.loads(self._searcher.doc(address)["stamp"][0])
                if stamp["language"] == self.language:
                    self.state, self.removed = CommitPosition(*stamp["state"]), stamp["removed"]
        except (ValueError, KeyError, TypeError) as error:
            raise OSError(f"the lexical index cannot be read: {error!r}") from error

    def is_worn(self, removed: int) -> bool:
        """Whether so many removals more would leave it with statistics of too many texts that are gone.

        tantivy counts what was deleted until it merges its segments.
        """
        return self.removed + removed > (int(self._searcher.num_docs) + self.removed) // 5

    def rows(self) -> list[int]:
        """All row numbers."""
        found = self._hits(Query.all_query(), max(1, int(self._searcher.num_docs)))
        return [row for row, _ in found if row >= 0]

    def write(self, texts: Iterable[tuple[int, str]], removed: Sequence[int], state: CommitPosition) -> None:
        """Add and remove, and say in the same commit what is covered now.

        Raises:
            OSError: It cannot be written, or another process is writing it.
        """
        writer: Any = None
        try:
            writer = self._index.writer(_HEAP, 2)
            if self.state == NOTHING:
                writer.delete_all_documents()
                self.removed = 0
            for row in removed:
                writer.delete_documents_by_term("row", row)
            writer.delete_documents_by_term("row", -1)
            document = tantivy.Document
            for row, text in texts:
                writer.add_document(document(row=row, text=_of_text(text)))
            stamp = json.dumps({"state": state, "language": self.language, "removed": self.removed + len(removed)})
            writer.add_document(document(row=-1, stamp=stamp))
            writer.commit()
            writer.wait_merging_threads()
        except ValueError as error:
            writer = None  # and with it tantivy's lock
            raise OSError(f"the lexical index cannot be written: {error}") from error
        self.reload()

    def search(
        self, question: str, top_k: int, mask: NDArray[np.bool_] | None = None, allowed: int | None = None
    ) -> Hits:
        """The row numbers that score best, with their BM25 scores, best first.

        Args:
            question: Plain text; no character of it is an operator.
            top_k: The most to return.
            mask: By row number, what may be found; None: everything.
            allowed: How many numbers the mask lets through.
        """
        terms = list(dict.fromkeys(self._analyzer.analyze(_of_question(question))))[:_MOST_TERMS]
        if not terms or top_k < 1:
            return []
        query = Query.boolean_query([(Occur.Should, Query.term_query(self._schema, "text", term)) for term in terms])
        if mask is None:
            return self._hits(query, top_k)
        if allowed is not None and allowed <= _FEW:
            rows = Query.term_set_query(self._schema, "row", mask.nonzero()[0].tolist())
            only = Query.const_score_query(rows, 0.0)
            return self._hits(Query.boolean_query([(Occur.Must, query), (Occur.Must, only)]), top_k)
        asked = 4 * top_k
        while True:
            hits = self._hits(query, asked)
            found = [item for item in hits if item[0] < len(mask) and mask[item[0]]]
            if len(found) >= top_k or len(hits) < asked:
                return found[:top_k]
            asked *= 4

    def _hits(self, query: Any, top_k: int) -> Hits:
        """The best, in the order of their rows where they score the same."""
        count = max(1, int(self._searcher.num_docs))
        asked = top_k + 1
        while True:
            hits = self._searcher.search(query, min(asked, count), count=False).hits
            if len(hits) < asked or hits[-1][0] < hits[top_k - 1][0]:
                break
            asked *= 2
        rows = self._searcher.fast_field_values("row", [address for _, address in hits])
        found: Hits = [(row, float(score)) for row, (score, _) in zip(rows, hits)]  # type: ignore[arg-type, misc]
        return sorted_by_score(found, top_k)


def open_lexical(folder: Path, language: str) -> LexicalIndex:
    """The lexical leg in a folder; one that cannot be opened is removed, for it can be made anew. For the one writer.

    Raises:
        OSError: Nothing can be written there.
    """
    try:
        return LexicalIndex(folder, language)
    except OSError as error:
        _log.warning("%s; it is made anew", error)
        return remake_lexical(folder, language)


def remake_lexical(folder: Path, language: str) -> LexicalIndex:
    """The lexical leg, empty, in place of what is in a folder. For the one writer."""
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)
    else:
        folder.unlink()
    return LexicalIndex(folder, language)


def _analyzer(language: str) -> Any:
    builder = TextAnalyzerBuilder(Tokenizer.simple()).filter(Filter.remove_long(_LONGEST)).filter(Filter.lowercase())
    if language in _WITH_STOP_WORDS:
        builder = builder.filter(Filter.stopword(language))
    if language != "none":
        builder = builder.filter(Filter.stemmer(language))
    return builder.build()


def _of_text(text: str) -> str:
    """What is indexed of a text: each character and each pair of characters where words are not spaced."""
    if text.isascii():
        return text
    return _UNSPACED.sub(lambda run: f" {' '.join([*run[0], *_pairs(run[0])])} ", unicodedata.normalize("NFKC", text))


def _of_question(text: str) -> str:
    """What is looked for: pairs of characters, or one that stands alone."""
    text = text.encode("utf-8", "replace").decode()  # half a surrogate pair is in no text
    if text.isascii():
        return text
    return _UNSPACED.sub(lambda run: f" {' '.join(_pairs(run[0]) or run[0])} ", unicodedata.normalize("NFKC", text))


def _pairs(run: str) -> list[str]:
    return [run[place : place + 2] for place in range(len(run) - 1)]

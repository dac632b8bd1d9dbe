"""The sync: changed documents are split, encoded and committed in batches.

Three stages run side by side: one batch is read and split, the previous one is encoded, the one before is written.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..errors import IndexMismatch
from ..protocols import DocumentRecord, Listed, SyncStore, Unlisted
from .change_detector import Batch, ChangeDetector, removed_documents
from .fingerprint import (
    HINTS,
    all_differences,
    encoder_differences,
    fingerprint_of,
    same_vectors,
    splitting_differences,
)
from .report import SyncReport
from .texts import encode_texts, encoded_texts

if TYPE_CHECKING:
    import numpy as np
    from llama_index.core.schema import BaseNode
    from numpy.typing import NDArray

    from ..components.assembly import Assembly
    from ..config import SyncSettings

_log = logging.getLogger(__package__)

_DOCUMENTS_PER_COPY = 100  # documents of the previous generation that are copied in one commit
_PROGRESS_INTERVAL_SECONDS = 0.2


class _Encoded(NamedTuple):
    """The text keys of nodes by node id, and the reasons for documents that cannot be encoded by document id."""

    keys: dict[str, bytes]
    failed: dict[str, str]


class _Bar(Protocol):
    """The part of tqdm's progress bar that is used here."""

    def update(self, n: float | None = 1) -> bool | None: ...
    def set_postfix_str(self, s: str = "", refresh: bool = True) -> None: ...


def sync(assembly: Assembly, settings: SyncSettings) -> SyncReport:
    """Bring the store in line with the documents.

    Raises:
        ComponentError: The reader's source as a whole is missing.
        DocumentError: A document cannot be read and `on_error` is `stop`.
        IndexMismatch: The index was built with other settings and `on_change` is `error`.
        IndexLocked: Another process is writing to the index.
    """
    return _Run(assembly, settings).run()


class _Run:
    def __init__(self, assembly: Assembly, settings: SyncSettings) -> None:
        self._settings, self._encoder, self._store = settings, assembly.encoder, assembly.sync_store
        self._location = self._store.location
        self._fingerprint = fingerprint_of(assembly)
        self._detector = ChangeDetector(assembly, self._fingerprint, settings.on_error)
        self._nodes_written = self._texts_encoded = self._tokens_encoded = 0
        self._encoding_seconds = 0.0
        self._bar: _Bar | None = None
        self._previous: dict[bytes, NDArray[np.float32]] = {}  # vectors of the previous batch, not committed yet
        self._records_before_lock: Mapping[str, DocumentRecord] = {}

    def run(self) -> SyncReport:
        started = time.perf_counter()
        detector, store = self._detector, self._store
        items = self._list()
        removed: list[str] = []
        if not self._is_up_to_date(items):
            with store.writing():
                check_changes(store, self._fingerprint, self._settings.on_change)
                generation = store.open_generation(self._fingerprint, same_vectors)
                records, detector.known_failures = store.document_records(generation), store.failure_records(generation)
                if records != self._records_before_lock:
                    # Another sync wrote since the documents were listed. Its additions must not count as removed.
                    items = self._list()
                self._warn_of_changed_settings()
                _ = detector.splitter  # a failure to build it concerns no single document
                live = store.live_generation()
                if live not in (None, generation):
                    detector.before = store.document_records(live)
                removed = removed_documents(items, {**detector.before, **records})
                self._write_documents(items, records, generation)
                if live is not None and live != generation:
                    self._copy_unread(live, generation, {*removed})
                if removed:
                    store.commit(generation, removed=removed)
                store.finish(generation, self._fingerprint, detector.failure_records)
                store.update_derived_files()
        self._warn_of_truncated_nodes()
        report = SyncReport(
            detector.added,
            detector.changed,
            removed,
            detector.unchanged,
            detector.failed,
            self._nodes_written,
            self._texts_encoded,
            self._tokens_encoded,
            detector.truncation.truncated,
            time.perf_counter() - started,
        )
        if not items:
            _log.warning("there are no documents: add some to the folder of reader.path, or change reader.path")
        _log.info("%s: %s", self._location, report)
        return report

    def _list(self) -> list[Listed | Unlisted]:
        items = self._detector.list_documents()
        _log.info("%s: %d documents listed", self._location, len(items))
        return items

    def _is_up_to_date(self, items: Sequence[Listed | Unlisted]) -> bool:
        """Whether nothing changed, by settings and change tokens alone. Then nothing is read, locked or written."""
        detector, generation = self._detector, self._store.live_generation()
        if generation is None or not self._has_same_settings():
            unfinished = self._store.find_generation(self._fingerprint, same_vectors)
            self._records_before_lock = {} if unfinished is None else self._store.document_records(unfinished)
            return False
        records = self._records_before_lock = self._store.document_records(generation)
        detector.known_failures = self._store.failure_records(generation)
        failed: set[str] = set()
        for item in items:
            record = records.get(item.id)
            if isinstance(item, Unlisted) or (record is not None and detector.is_unchanged(item, record)):
                continue
            if detector.known_failure(item) is None:
                return False
            failed.add(item.id)
        if failed != detector.known_failures.keys() or removed_documents(items, records):
            return False
        for _ in detector.batches(items, records, self._settings.batch_size):
            pass  # fills the lists of the report
        return True

    def _has_same_settings(self) -> bool:
        old = self._store.live_fingerprint()
        return bool(old) and not all_differences(old or {}, self._fingerprint)

    def _warn_of_changed_settings(self) -> None:
        old = self._store.live_fingerprint()
        if not old:
            return
        sentences = encoder_differences(old, self._fingerprint)
        if sentences:
            _log.warning("%s: %s; everything is encoded again", self._location, "; ".join(sentences))
            return
        for sentence in splitting_differences(old, self._fingerprint):
            _log.warning("%s: %s; the documents are split again", self._location, sentence)

    def _warn_of_truncated_nodes(self) -> None:
        truncation = self._detector.truncation
        if truncation.split:
            _log.warning(
                "%s: %d nodes were longer than the encoder's input, and were split; leave chunker.chunk_size unset, or "
                "use a chunker with a chunk_size",
                self._location,
                truncation.split,
            )
        if truncation.truncated:
            _log.warning(
                "%s: %d nodes are longer than the encoder's input, and %.0f %% of the text of this sync is in no "
                "vector; set chunker.too_long to split",
                self._location,
                truncation.truncated,
                max(1, 100 * truncation.unencoded_characters / truncation.characters),
            )

    # ------------------------------------------------------------------ writing

    def _write_documents(
        self, items: Sequence[Listed | Unlisted], records: Mapping[str, DocumentRecord], generation: int
    ) -> None:
        from tqdm import tqdm

        batches = self._detector.batches(items, records, self._settings.batch_size)
        encoded: tuple[Batch, _Encoded] | None = None  # a batch that is not written yet
        # disable=None: on a terminal only
        with (
            tqdm(total=len(items), unit="doc", desc="syncing", disable=None, leave=False) as bar,
            ThreadPoolExecutor(1, "rag-plugin-read") as read_pool,
            ThreadPoolExecutor(1, "rag-plugin-encode") as encode_pool,
        ):
            self._bar = bar
            reading = read_pool.submit(_next, batches)
            try:
                while (batch := reading.result()) is not None:
                    reading = read_pool.submit(_next, batches)
                    encoding = encode_pool.submit(self._encode, batch.nodes, generation)
                    # This thread holds the writer's lock, so it writes.
                    previous, encoded = encoded, None
                    if previous is not None:
                        self._write(*previous, generation)
                    encoded = (batch, encoding.result())
            finally:
                # Also after an error, so that encoded batches are kept.
                if encoded is not None:
                    self._write(*encoded, generation)
                self._bar = None

    def _copy_unread(self, live: int, generation: int, removed: set[str]) -> None:
        """Copy documents that cannot be read now from the live generation; their old nodes are encoded."""
        records = self._store.document_records(generation)
        missing = [name for name in self._detector.before if name not in records and name not in removed]
        for start in range(0, len(missing), _DOCUMENTS_PER_COPY):
            names = missing[start : start + _DOCUMENTS_PER_COPY]
            nodes = self._store.nodes_of(live, names)
            by_document: dict[str, list[BaseNode]] = {name: [] for name in names}
            for node in nodes:
                by_document[str(node.ref_doc_id)].append(node)
            encoded = self._encode(nodes, generation)
            self._detector.fail_encoding(encoded.failed)
            # Without a change token, so that the next sync reads them again, unless their failure is recorded.
            copies = [
                (replace(self._detector.before[name], change_token=None), by_document[name])
                for name in names
                if name not in encoded.failed
            ]
            self._store.commit(generation, copies, keys=encoded.keys)
            self._nodes_written += sum(len(members) for _, members in copies)

    def _write(self, batch: Batch, encoded: _Encoded, generation: int) -> None:
        self._detector.fail_encoding(encoded.failed)
        batch.changed = [item for item in batch.changed if item[0].id not in encoded.failed]
        if batch.changed or batch.untouched:
            self._store.commit(generation, batch.changed, batch.untouched, keys=encoded.keys)
            self._nodes_written += len(batch.nodes)
        if self._bar is not None:
            self._bar.update(batch.listed)

    # ------------------------------------------------------------------ encoding

    def _encode(self, nodes: Sequence[BaseNode], generation: int) -> _Encoded:
        """Set the vector of each node that has none."""
        from ..components.encoders.identity import text_key

        texts = encoded_texts([node for node in nodes if node.embedding is None])
        keys = {text: text_key(text) for text in texts.values()}
        vectors = self._store.vectors_by_key(generation, list(keys.values()))
        vectors.update((key, self._previous[key]) for key in keys.values() if key in self._previous)
        new = [text for text, key in keys.items() if key not in vectors]
        refused: dict[str, str] = {}
        if new:
            encoded, refused = encode_texts(
                self._encoder, new, self._fingerprint["dimension"], self._progress(len(new))
            )
            vectors.update((keys[text], vector) for text, vector in encoded.items())
        self._show("")
        self._previous = vectors
        failed: dict[str, str] = {}
        for node in nodes:
            text = texts.get(node.node_id)
            if text in refused:
                failed.setdefault(str(node.ref_doc_id), refused[text])
            elif text is not None:
                node.embedding = vectors[keys[text]].tolist()
        return _Encoded({node_id: keys[text] for node_id, text in texts.items()}, failed)

    def _progress(self, total: int) -> Callable[[int, int], None]:
        """A callback that counts encoded texts and tokens, and shows count and speed."""
        started = last = time.perf_counter()
        texts_before, seconds_before = self._texts_encoded, self._encoding_seconds

        def count(texts: int, tokens: int) -> None:
            nonlocal last
            now = time.perf_counter()
            self._texts_encoded += texts
            self._tokens_encoded += tokens
            self._encoding_seconds = seconds_before + now - started
            if now - last < _PROGRESS_INTERVAL_SECONDS:
                return
            last = now
            parts = [f"{self._texts_encoded - texts_before:,} of {total:,} texts"]
            for number, unit in ((self._texts_encoded, "texts"), (self._tokens_encoded, "tokens")):
                if number:
                    parts.append(f"{number / self._encoding_seconds:,.0f} {unit}/s")
            self._show(", ".join(parts))

        return count

    def _show(self, text: str) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(text)


def _next(batches: Iterator[Batch]) -> Batch | None:
    return next(batches, None)


def check_changes(store: SyncStore, fingerprint: Mapping[str, object], on_change: str) -> None:
    """Check that a sync may change the index.

    Raises:
        IndexMismatch: It was filled by hand, or built with other settings and `on_change` is `error`.
    """
    old = store.live_fingerprint()
    if old is None or (not old and not len(store)):
        return
    if not old:
        raise IndexMismatch(
            store.location,
            encoder_differences(old, fingerprint),
            "A sync would remove them: set store.path to another directory, or clear() the store first.",
            "A sync would remove them: set store.path to another directory.",
        )
    if on_change == "error":
        sentences = all_differences(old, fingerprint)
        if sentences:
            raise IndexMismatch(store.location, sentences, *HINTS)

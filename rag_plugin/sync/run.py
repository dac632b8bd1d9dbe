"""The sync itself: what changed is cut, encoded and committed, in batches.

While one batch is encoded, the next one is read and cut, and the one before is written.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import IndexMismatch
from ..protocols import DocumentRecord, Listed, SyncStore, Unlisted
from .change_detector import Batch, ChangeDetector, removed_documents
from .fingerprint import HINT, all_differences, differences, encoder_differences, fingerprint_of, same_vectors
from .memory_record import MemoryRecord
from .report import SyncReport

if TYPE_CHECKING:
    import numpy as np
    from llama_index.core.schema import BaseNode
    from numpy.typing import NDArray

    from ..components.assembly import Assembly

_log = logging.getLogger(__package__)

_DOCUMENTS = 100  # carried over together
_OFTEN = 0.2  # seconds between two words about how far encoding is


def sync(assembly: Assembly) -> SyncReport:
    """Bring the store in line with the documents as they are now.

    Raises:
        ComponentError: The reader's source as a whole is not there.
        DocumentError: A document failed and the config says `on_error: stop`.
        IndexMismatch: The index was built by other settings and the config says `on_change: error`.
        IndexLocked: Another process is writing to the index.
    """
    return _Run(assembly).run()


def sync_store(assembly: Assembly) -> SyncStore:
    """The store as a sync sees it: its own record, or one that lives as long as the engine."""
    store = assembly.get("store")
    if isinstance(store, SyncStore):
        return store
    return assembly.keep("memory_record", lambda: MemoryRecord(assembly.get("index")))  # type: ignore[no-any-return]


class _Run:
    def __init__(self, assembly: Assembly) -> None:
        self.assembly = assembly
        self.settings = assembly.config.sync
        store = assembly.get("store")
        self.path = str(getattr(store, "path", type(store).__name__))
        self.store = sync_store(assembly)
        self.encoder = assembly.get("encoder")
        self.fingerprint = fingerprint_of(assembly)
        self.found = ChangeDetector(assembly, self.fingerprint)
        self.nodes_written = self.texts_encoded = self.tokens_encoded = 0
        self.seconds_encoding = 0.0
        self.say: Callable[[str], Any] = str
        self.recent: dict[bytes, NDArray[np.float32]] = {}  # what the batch before encoded, which is not written yet
        self.seen: Mapping[str, DocumentRecord] | None = None  # the records before the lock was taken

    def run(self) -> SyncReport:
        started = time.perf_counter()
        items = self._list()
        removed: list[str] = []
        if not self._nothing_to_do(items):
            with self.store.writing():
                refuse_changes(self.store, self.path, self.fingerprint, self.settings.on_change)
                generation = self.store.open_generation(self.fingerprint, same_vectors)
                known = self.store.synced(generation)
                if known != self.seen:
                    # Another sync wrote after this one looked: what it added must not seem to be gone.
                    items = self._list()
                self._say_what_changed()
                _ = self.found.splitter  # that it cannot be built is no fault of a document
                live = self.store.live_generation()
                if live not in (None, generation):
                    self.found.before = self.store.synced(live)
                removed = removed_documents(items, {**self.found.before, **known})
                self._documents(items, known, generation)
                if live is not None and live != generation:
                    self._carry_over(live, generation, {*removed})
                if removed:
                    self.store.commit(generation, removed=removed)
                self.store.finish(generation, self.fingerprint)
                self.store.update_derived_files()
        self._say_what_is_unseen()
        report = SyncReport(
            self.found.added,
            self.found.changed,
            removed,
            self.found.unchanged,
            self.found.failed,
            self.nodes_written,
            self.texts_encoded,
            self.tokens_encoded,
            self.found.splitter.unseen.left,
            time.perf_counter() - started,
        )
        if not items:
            _log.warning("there are no documents: put some where reader.path says, or let that name others")
        for name, reason in self.found.failed:
            _log.warning("%s was not synced: %s", name, reason)
        _log.info("%s: %s", self.path, report)
        return report

    def _list(self) -> list[Listed | Unlisted]:
        items = self.found.list_documents()
        _log.info("%s: %d documents found", self.path, len(items))
        return items

    def _nothing_to_do(self, items: Sequence[Listed | Unlisted]) -> bool:
        """Whether all is as it was, by the stamps alone; then nothing is locked, and nothing written."""
        generation = self.store.live_generation()
        if generation is None or not self._same_settings():
            begun = self.store.find_generation(self.fingerprint, same_vectors)
            self.seen = {} if begun is None else self.store.synced(begun)
            return False
        known = self.seen = self.store.synced(generation)
        if len(items) != len(known) or not all(
            isinstance(item, Listed) and item.id in known and self.found.is_unchanged(item, known[item.id])
            for item in items
        ):
            return False
        self.found.unchanged = [item.id for item in items]
        return True

    def _same_settings(self) -> bool:
        # Not equality: another device gives the probe other last digits.
        old = self.store.live_fingerprint()
        return (
            bool(old)
            and same_vectors(old or {}, self.fingerprint)
            and all((old or {})[slot] == self.fingerprint[slot] for slot in ("chunker", "reader"))
        )

    def _say_what_changed(self) -> None:
        old = self.store.live_fingerprint()
        if not old:
            return
        found = encoder_differences(old, self.fingerprint)
        if found:
            _log.warning("%s: %s; everything is encoded anew", self.path, "; ".join(found))
            return
        for slot in ("chunker", "reader"):
            for difference in differences(slot, old[slot], self.fingerprint[slot]):
                _log.warning("%s: %s; what it changes is cut anew", self.path, difference)

    def _say_what_is_unseen(self) -> None:
        unseen = self.found.splitter.unseen
        if unseen.split:
            _log.warning(
                "%s: %d nodes were longer than the encoder sees, and were split; leave chunker.chunk_size unset, or "
                "use a chunker that has one",
                self.path,
                unseen.split,
            )
        if unseen.left:
            _log.warning(
                "%s: %d nodes are longer than the encoder sees, and %.0f %% of the text of this sync is in no vector; "
                "set chunker.too_long to split",
                self.path,
                unseen.left,
                max(1, 100 * unseen.unseen / unseen.characters),
            )

    def _documents(
        self, items: Sequence[Listed | Unlisted], known: Mapping[str, DocumentRecord], generation: int
    ) -> None:
        from tqdm import tqdm

        batches = self.found.batches(items, known, self.settings.batch_size)
        waiting: tuple[Batch, dict[str, bytes]] | None = None  # encoded, and not written yet
        # disable=None: on a terminal only
        with (
            tqdm(total=len(items), unit="doc", desc="syncing", disable=None, leave=False) as bar,
            ThreadPoolExecutor(1, "rag-plugin-read") as reading,
            ThreadPoolExecutor(1, "rag-plugin-encode") as encoding,
        ):
            self.say = bar.set_postfix_str
            coming = reading.submit(_next, batches)
            try:
                while (batch := coming.result()) is not None:
                    coming = reading.submit(_next, batches)
                    encoded = encoding.submit(self._encode, batch.nodes, generation)
                    # Writing is this thread's, which holds the lock.
                    done, waiting = waiting, None
                    if done is not None:
                        self._write(*done, generation, bar)
                    waiting = (batch, encoded.result())
            finally:
                # Also where the next document failed and the sync is to stop there: what is ready is kept.
                if waiting is not None:
                    self._write(*waiting, generation, bar)

    def _carry_over(self, live: int, generation: int, removed: set[str]) -> None:
        """What could not be read just now stays as it was: its old nodes are encoded too."""
        there = self.store.synced(generation)
        missing = [name for name in self.found.before if name not in there and name not in removed]
        for start in range(0, len(missing), _DOCUMENTS):
            part = missing[start : start + _DOCUMENTS]
            nodes = self.store.nodes_of(live, part)
            by_document: dict[str, list[BaseNode]] = {name: [] for name in part}
            for node in nodes:
                by_document[str(node.ref_doc_id)].append(node)
            keys = self._encode(nodes, generation)
            # Without a change_token, so that the next sync looks at it again.
            records = [replace(self.found.before[name], change_token=None) for name in part]
            self.store.commit(generation, [(record, by_document[record.id]) for record in records], keys=keys)
            self.nodes_written += len(nodes)

    def _write(self, batch: Batch, keys: Mapping[str, bytes], generation: int, bar: Any) -> None:
        if batch.changed or batch.untouched:
            self.store.commit(generation, batch.changed, batch.untouched, keys=keys)
            self.nodes_written += len(batch.nodes)
        bar.update(batch.looked_at)

    def _encode(self, nodes: Sequence[BaseNode], generation: int) -> dict[str, bytes]:
        """Give each node its vector; returns, by node id, what names its text."""
        from ..components.encoders.matrix import encode_documents

        texts = encoded_texts(nodes)
        names = {text: text_key(text) for text in texts.values()}
        known = self.store.known_vectors(generation, list(names.values()))
        known.update((key, self.recent[key]) for key in names.values() if key in self.recent)
        new = [text for text, name in names.items() if name not in known]
        # All that was read at once, so that the encoder finds texts of one length to put together.
        if new:
            known.update(
                zip([names[text] for text in new], encode_documents(self.encoder, new, self._progress(len(new))))
            )
        self.say("")
        self.recent = known
        for node in nodes:
            node.embedding = known[names[texts[node.node_id]]].tolist()
        return {name: names[text] for name, text in texts.items()}

    def _progress(self, coming: int) -> Callable[[int, int], None]:
        """What counts the texts and tokens while they are encoded, and says how far and how fast it goes."""
        started = last = time.perf_counter()
        before, seconds_before = self.texts_encoded, self.seconds_encoding

        def count(texts: int, tokens: int) -> None:
            nonlocal last
            now = time.perf_counter()
            self.texts_encoded += texts
            self.tokens_encoded += tokens
            self.seconds_encoding = seconds_before + now - started
            if now - last < _OFTEN:
                return
            last = now
            words = [f"{self.texts_encoded - before:,} of {coming:,} texts"]
            for number, what in ((self.texts_encoded, "texts"), (self.tokens_encoded, "tokens")):
                if number:
                    words.append(f"{number / self.seconds_encoding:,.0f} {what}/s")
            self.say(", ".join(words))

        return count


def _next(batches: Iterator[Batch]) -> Batch | None:
    return next(batches, None)


def refuse_changes(store: SyncStore, path: str, fingerprint: Mapping[str, Any], on_change: str) -> None:
    """See to it that a sync may change the index.

    Raises:
        IndexMismatch: It was filled by hand, or built by other settings and `on_change` is `error`.
    """
    old = store.live_fingerprint()
    if old is None:
        return
    if not old:
        if len(store):
            raise IndexMismatch(
                path,
                encoder_differences(old, fingerprint),
                "A sync would remove them: let store.path name another directory, or clear() the store first.",
            )
        return
    if on_change == "error":
        found = all_differences(old, fingerprint)
        if found:
            raise IndexMismatch(path, found, HINT)


def encoded_texts(nodes: Sequence[BaseNode]) -> dict[str, str]:
    """What is encoded of each node, by its id."""
    from llama_index.core.schema import MetadataMode

    return {node.node_id: node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes}


def text_key(text: str, role: str = "document") -> bytes:
    """What names a text in an encoder's cache; a question is another text, since it has another prompt."""
    return hashlib.blake2b(f"{role}\0{text}".encode("utf-8", "surrogatepass"), digest_size=16).digest()

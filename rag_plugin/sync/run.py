"""The sync itself: what changed is cut, encoded and committed, in batches."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..documents import Listed, Unlisted, check_document, content_hash, source_of
from ..errors import DocumentError, IndexMismatch
from ..faiss_store.database import DocumentRecord
from .fingerprint import differences, digest, encoder_differences, fingerprint_of, same_vectors
from .record import MemoryRecord, SyncStore
from .report import SyncReport

if TYPE_CHECKING:
    from llama_index.core.readers.base import BaseReader
    from llama_index.core.schema import BaseNode

    from ..config.build import Assembly

_log = logging.getLogger(__package__)

_AT_ONCE = 512  # texts that the encoder gets together


def sync(assembly: Assembly) -> SyncReport:
    """Bring the store in line with the documents as they are now.

    Raises:
        ComponentError: The reader's source as a whole is not there.
        DocumentError: A document failed and the config says `on_error: stop`.
        IndexMismatch: The index was built by other settings and the config says `on_change: error`.
        IndexLocked: Another process is writing to the index.
    """
    return _Run(assembly).run()


class _Run:
    def __init__(self, assembly: Assembly) -> None:
        self.assembly = assembly
        self.settings = assembly.config.sync
        store = assembly.get("store")
        self.path = str(getattr(store, "path", type(store).__name__))
        if not isinstance(store, SyncStore):
            store = assembly.keep("memory_record", lambda: MemoryRecord(assembly.get("index")))
        self.store: SyncStore = store
        self.encoder = assembly.get("encoder")
        self.fingerprint = fingerprint_of(assembly)
        self.recipe = digest(self.fingerprint["chunker"])
        self.reader_recipe = digest(self.fingerprint["reader"])
        self.added: list[str] = []
        self.changed: list[str] = []
        self.unchanged: list[str] = []
        self.failed: list[tuple[str, str]] = []
        self.nodes_written = self.texts_encoded = self.nodes_cut = 0
        self.length = self.unseen = 0.0  # of the text encoded, in characters
        self.pending: list[tuple[DocumentRecord, list[BaseNode]]] = []
        self.untouched: list[DocumentRecord] = []
        self.before: Mapping[str, DocumentRecord] = {}
        self.say: Callable[[str], Any] = str
        self.seen: Mapping[str, DocumentRecord] | None = None  # the records before the lock was taken

    def run(self) -> SyncReport:
        started = time.perf_counter()
        items = self._list()
        removed: list[str] = []
        if not self._nothing_to_do(items):
            with self.store.writing():
                self._refuse_changes()
                generation = self.store.open_generation(self.fingerprint, same_vectors)
                known = self.store.synced(generation)
                if self.seen is not None and known != self.seen:
                    # Another sync wrote after this one looked: what it added must not seem to be gone.
                    items = self._list()
                self._say_what_changed(generation)
                self.assembly.get("chunker")  # that it cannot be built is no fault of a document
                live = self.store.live_generation()
                if live not in (None, generation):
                    self.before = self.store.synced(live)  # what a new generation will be compared with
                removed = self._removed(items, {**self.before, **known})
                self._documents(items, known, generation)
                if removed:
                    self.store.commit(generation, removed=removed)
                if self.store.live_generation() != generation or not self._same_settings():
                    self.store.finish(generation, self.fingerprint)
                self.store.settle()
        if self.nodes_cut:
            _log.warning(
                "%s: %d nodes are longer than the encoder sees, and %.0f %% of the text of this sync is in no vector; "
                "leave chunker.chunk_size unset, or use a chunker that has one",
                self.path,
                self.nodes_cut,
                100 * self.unseen / self.length,
            )
        report = SyncReport(
            self.added,
            self.changed,
            removed,
            self.unchanged,
            self.failed,
            self.nodes_written,
            self.texts_encoded,
            self.nodes_cut,
            time.perf_counter() - started,
        )
        for name, reason in self.failed:
            _log.warning("%s was not synced: %s", name, reason)
        _log.info("%s: %s", self.path, report)
        return report

    def _list(self) -> list[Listed | Unlisted]:
        items = list(source_of(self._reader()).list_documents())
        _log.info("%s: %d documents found", self.path, len(items))
        return items

    def _reader(self) -> BaseReader:
        """The reader, made anew: LlamaIndex's `SimpleDirectoryReader` lists its files when it is made."""
        injected = self.assembly.injected
        return injected["reader"] if "reader" in injected else self.assembly.make("reader")

    def _nothing_to_do(self, items: Sequence[Listed | Unlisted]) -> bool:
        """Whether all is as it was, by the stamps alone; then nothing is locked, and nothing written."""
        generation = self.store.live_generation()
        if generation is None or not self._same_settings():
            return False
        known = self.seen = self.store.synced(generation)
        if len(items) != len(known) or not all(
            isinstance(item, Listed) and item.id in known and self._is_unchanged(item, known[item.id]) for item in items
        ):
            return False
        self.unchanged = [item.id for item in items]
        return True

    def _same_settings(self) -> bool:
        # Not equality: another device gives the probe other last digits.
        old = self.store.live_fingerprint()
        return (
            bool(old)
            and same_vectors(old or {}, self.fingerprint)
            and all((old or {})[slot] == self.fingerprint[slot] for slot in ("chunker", "reader"))
        )

    def _is_unchanged(self, item: Listed, record: DocumentRecord) -> bool:
        stamp = self._stamp(item)
        return stamp is not None and stamp == record.stamp and record.recipe == self.recipe

    def _stamp(self, item: Listed) -> str | None:
        # A reader with other settings may take another text out of the same file.
        return None if item.stamp is None else f"{self.reader_recipe}:{item.stamp}"

    def _refuse_changes(self) -> None:
        old = self.store.live_fingerprint()
        if old is None:
            return
        if not old:
            if len(self.store):
                raise IndexMismatch(
                    self.path,
                    encoder_differences(old, self.fingerprint),
                    "A sync would remove them: let store.path name another directory, or clear() the store first.",
                )
            return
        if self.settings.on_change == "error":
            found = encoder_differences(old, self.fingerprint)
            for slot in ("chunker", "reader"):
                found += differences(slot, old[slot], self.fingerprint[slot])
            if found:
                raise IndexMismatch(
                    self.path,
                    found,
                    "Put the settings back, or set sync.on_change to resync to build what changed anew.",
                )

    def _say_what_changed(self, generation: int) -> None:
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

    @staticmethod
    def _removed(items: Sequence[Listed | Unlisted], known: Mapping[str, DocumentRecord]) -> list[str]:
        present = {item.id for item in items}
        hidden = tuple(item.prefix for item in items if isinstance(item, Unlisted) and item.prefix is not None)
        return [name for name in known if name not in present and not name.startswith(hidden)]

    def _documents(
        self, items: Sequence[Listed | Unlisted], known: Mapping[str, DocumentRecord], generation: int
    ) -> None:
        from tqdm import tqdm

        waiting = 0
        # disable=None: on a terminal only
        with tqdm(total=len(items), unit="doc", desc="syncing", disable=None, leave=False) as bar:
            self.say = bar.set_postfix_str
            for item in items:
                waiting += self._document(item, known.get(item.id))
                bar.update()
                if waiting >= self.settings.batch_size:
                    self._flush(generation)
                    waiting = 0
            self._flush(generation)

    def _document(self, item: Listed | Unlisted, record: DocumentRecord | None) -> int:
        """Note what became of one document; returns how many nodes of it wait to be written."""
        from ..chunking import cut

        if isinstance(item, Unlisted):
            self._fail(item.id, item.reason)
            return 0
        if record is not None and self._is_unchanged(item, record):
            self.unchanged.append(item.id)
            return 0
        try:
            document = item.load()
            fresh = DocumentRecord(item.id, content_hash(document), self._stamp(item), self.recipe)
            if record is not None and (record.hash, record.recipe) == (fresh.hash, fresh.recipe):
                self.unchanged.append(item.id)
                if record != fresh:
                    self.untouched.append(fresh)
                return 0
            check_document(item.id, document)
            nodes = self._cut(item.id, document, cut)
        except DocumentError as error:
            self._fail(item.id, error.reason)
            return 0
        (self.added if record is None and item.id not in self.before else self.changed).append(item.id)
        self.pending.append((fresh, nodes))
        return len(nodes)

    def _cut(self, name: str, document: Any, cut: Any) -> list[BaseNode]:
        try:
            return cut(self.assembly.get("chunker"), document)  # type: ignore[no-any-return]
        except Exception as error:  # the seam to any chunker: one document that it cannot cut must not stop the rest
            reason = " ".join(str(error).split()) or "no reason given"
            raise DocumentError(name, f"it cannot be cut: {type(error).__name__}: {reason}") from error

    def _fail(self, name: str, reason: str) -> None:
        if self.settings.on_error == "stop":
            raise DocumentError(name, reason)
        self.failed.append((name, reason))

    def _flush(self, generation: int) -> None:
        if not self.pending and not self.untouched:
            return
        nodes = [node for _, part in self.pending for node in part]
        keys = self._encode(nodes, generation)
        self.store.commit(generation, self.pending, self.untouched, keys=keys)
        self.nodes_written += len(nodes)
        self.pending, self.untouched = [], []

    def _encode(self, nodes: Sequence[BaseNode], generation: int) -> dict[str, bytes]:
        """Give each node its vector; returns, by node id, what names its text."""
        from llama_index.core.schema import MetadataMode

        from ..encoding import encode_documents, unseen_share

        texts = {node.node_id: node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes}
        names = {text: text_key(text) for text in texts.values()}
        known = self.store.known_vectors(generation, list(names.values()))
        new = [text for text, name in names.items() if name not in known]
        # Sorted over the whole batch, so that texts of one length are together; in parts, to tell how far it is.
        new.sort(key=len, reverse=True)
        for start in range(0, len(new), _AT_ONCE):
            part = new[start : start + _AT_ONCE]
            self.say(f"{start} of {len(new)} texts encoded")
            known.update(zip([names[text] for text in part], encode_documents(self.encoder, part)))
        self.say("")
        self.texts_encoded += len(new)
        for node in nodes:
            node.embedding = known[names[texts[node.node_id]]].tolist()
        too_long, share = unseen_share(self.encoder, list(texts.values()))
        self.nodes_cut += too_long
        length = sum(map(len, texts.values()))
        self.length += length
        self.unseen += share * length
        return {name: names[text] for name, text in texts.items()}


def text_key(text: str, role: str = "document") -> bytes:
    """What names a text in an encoder's cache; a question is another text, since it has another prompt."""
    return hashlib.blake2b(f"{role}\0{text}".encode("utf-8", "surrogatepass"), digest_size=16).digest()

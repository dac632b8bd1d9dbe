"""Documents as they are now, compared with the record of a sync: what is new, changed, gone, as it was, or broken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..components.readers.listing import check_document, content_hash, source_of
from ..errors import DocumentError
from ..protocols import DocumentRecord, Listed, Unlisted
from .fingerprint import digest

if TYPE_CHECKING:
    from llama_index.core.readers.base import BaseReader
    from llama_index.core.schema import BaseNode, Document

    from ..components.assembly import Assembly
    from ..components.chunkers.document_splitter import DocumentSplitter


@dataclass
class Batch:
    """Documents that are written together: changed ones with their nodes, and others whose record is renewed."""

    changed: list[tuple[DocumentRecord, list[BaseNode]]] = field(default_factory=list)
    untouched: list[DocumentRecord] = field(default_factory=list)
    looked_at: int = 0

    @property
    def nodes(self) -> list[BaseNode]:
        return [node for _, nodes in self.changed for node in nodes]


class ChangeDetector:
    """What became of each document, by id; filled while `batches` is read.

    Args:
        assembly: The parts.
        fingerprint: Of the settings as they are now.
    """

    def __init__(self, assembly: Assembly, fingerprint: Mapping[str, Any]) -> None:
        self.assembly = assembly
        self.settings_digest = digest(fingerprint["chunker"])
        self.reader_digest = digest(fingerprint["reader"])
        self.before: Mapping[str, DocumentRecord] = {}  # what a new generation is compared with
        self.added: list[str] = []
        self.changed: list[str] = []
        self.unchanged: list[str] = []
        self.failed: list[tuple[str, str]] = []
        self._splitter: DocumentSplitter | None = None

    def list_documents(self) -> list[Listed | Unlisted]:
        return list(source_of(self._reader()).list_documents())

    def _reader(self) -> BaseReader:
        """The reader, made anew: LlamaIndex's `SimpleDirectoryReader` lists its files when it is made."""
        injected = self.assembly.injected
        return injected["reader"] if "reader" in injected else self.assembly.make("reader")

    @property
    def splitter(self) -> DocumentSplitter:
        """Cuts the documents; made anew for each comparison, since it counts what it had to split."""
        if self._splitter is None:
            self._splitter = self.assembly.make("splitter")
        return self._splitter

    def is_unchanged(self, item: Listed, record: DocumentRecord) -> bool:
        """Whether a document is as it was, by its change_token alone."""
        change_token = self._change_token(item)
        return (
            change_token is not None
            and change_token == record.change_token
            and record.settings_digest == self.settings_digest
        )

    def _change_token(self, item: Listed) -> str | None:
        # A reader with other settings may take another text out of the same file.
        return None if item.change_token is None else f"{self.reader_digest}:{item.change_token}"

    def batches(
        self, items: Sequence[Listed | Unlisted], known: Mapping[str, DocumentRecord], size: int
    ) -> Iterator[Batch]:
        """What there is to write, in parts of about `size` nodes.

        Raises:
            DocumentError: A document failed and the config says `on_error: stop`.
        """
        batch, waiting = Batch(), 0
        for item in items:
            waiting += self._document(item, known.get(item.id), batch)
            batch.looked_at += 1
            if waiting >= size:
                yield batch
                batch, waiting = Batch(), 0
        if batch.looked_at:
            yield batch

    def _document(self, item: Listed | Unlisted, record: DocumentRecord | None, batch: Batch) -> int:
        """Note what became of one document; returns how many nodes of it are to be written."""
        if isinstance(item, Unlisted):
            self._fail(item.id, item.reason)
            return 0
        if record is not None and self.is_unchanged(item, record):
            self.unchanged.append(item.id)
            return 0
        try:
            document = item.load()
            fresh = DocumentRecord(item.id, content_hash(document), self._change_token(item), self.settings_digest)
            if record is not None and (record.content_hash, record.settings_digest) == (
                fresh.content_hash,
                fresh.settings_digest,
            ):
                self.unchanged.append(item.id)
                if record != fresh:
                    batch.untouched.append(fresh)
                return 0
            check_document(item.id, document)
            nodes = self._cut(item.id, document)
        except DocumentError as error:
            self._fail(item.id, error.reason)
            return 0
        (self.added if record is None and item.id not in self.before else self.changed).append(item.id)
        batch.changed.append((fresh, nodes))
        return len(nodes)

    def _cut(self, name: str, document: Document) -> list[BaseNode]:
        try:
            return self.splitter(document)
        except DocumentError:
            raise
        except Exception as error:  # the seam to any chunker: one document that it cannot cut must not stop the rest
            reason = " ".join(str(error).split()) or "no reason given"
            raise DocumentError(name, f"it cannot be cut: {type(error).__name__}: {reason}") from error

    def _fail(self, name: str, reason: str) -> None:
        if self.assembly.config.sync.on_error == "stop":
            raise DocumentError(name, reason)
        self.failed.append((name, reason))


def removed_documents(items: Sequence[Listed | Unlisted], known: Mapping[str, DocumentRecord]) -> list[str]:
    """The documents that are recorded and not there any more."""
    present = {item.id for item in items}
    hidden = tuple(item.prefix for item in items if isinstance(item, Unlisted) and item.prefix is not None)
    return [name for name in known if name not in present and not name.startswith(hidden)]

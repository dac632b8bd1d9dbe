"""Compares the documents of a reader with the sync record and splits those that changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..components.readers.listing import check_document, content_hash, source_of
from ..errors import DocumentError, describe_error
from ..protocols import DocumentRecord, FailureRecord, Listed, Unlisted
from .fingerprint import digest, installed_packages

if TYPE_CHECKING:
    from llama_index.core.schema import BaseNode, Document

    from ..components.assembly import Assembly
    from ..components.chunkers.document_splitter import DocumentSplitter, TruncationReport


@dataclass
class Batch:
    """Documents of one commit.

    Attributes:
        changed: New and changed documents with their nodes.
        untouched: Records to renew: the file changed, its content did not.
        listed: How many listed documents the batch covers, unchanged ones included.
    """

    changed: list[tuple[DocumentRecord, list[BaseNode]]] = field(default_factory=list)
    untouched: list[DocumentRecord] = field(default_factory=list)
    listed: int = 0

    @property
    def nodes(self) -> list[BaseNode]:
        return [node for _, nodes in self.changed for node in nodes]


class ChangeDetector:
    """Sorts documents by what changed; the lists are filled while `batches` is iterated.

    Args:
        assembly: The parts.
        fingerprint: Of the current settings.
        on_error: `stop` raises at the first document that cannot be read, `skip` collects them in `failed`.

    Attributes:
        splitter: Splits the documents, and counts truncated nodes; built on first use.
        before: Records of the live generation while another one is filled.
        known_failures: Failure records of the generation; a document that would fail again is not read.
        failed: Ids of unreadable documents with the reason.
        failure_records: Of the documents in `failed` whose reason stays valid.
    """

    def __init__(self, assembly: Assembly, fingerprint: Mapping[str, Any], on_error: str) -> None:
        self._assembly, self._on_error = assembly, on_error
        self._chunker_digest = digest(fingerprint["chunker"])
        self._reader_digest = digest(fingerprint["reader"])
        self._splitter: DocumentSplitter | None = None
        self.before: Mapping[str, DocumentRecord] = {}
        self.added: list[str] = []
        self.changed: list[str] = []
        self.unchanged: list[str] = []
        self.known_failures: Mapping[str, FailureRecord] = {}
        self.failed: list[tuple[str, str]] = []
        self.failure_records: list[FailureRecord] = []

    def list_documents(self) -> list[Listed | Unlisted]:
        return list(source_of(self._assembly.new_reader()).list_documents())

    @property
    def splitter(self) -> DocumentSplitter:
        if self._splitter is None:
            self._splitter = self._assembly.new_splitter()
        return self._splitter

    @property
    def truncation(self) -> TruncationReport:
        """Counts of the splitter; zero where no document was split."""
        from ..components.chunkers.document_splitter import TruncationReport

        return TruncationReport() if self._splitter is None else self._splitter.truncation

    def is_unchanged(self, item: Listed, record: DocumentRecord) -> bool:
        """Whether the change token alone shows that a document is unchanged."""
        token = self._change_token(item)
        return token is not None and token == record.change_token and record.settings_digest == self._chunker_digest

    def _change_token(self, item: Listed) -> str | None:
        # A reader with other settings may extract another text from the same file.
        return None if item.change_token is None else f"{self._reader_digest}:{item.change_token}"

    def known_failure(self, item: Listed) -> FailureRecord | None:
        """The failure record of a document that would fail again, if there is one."""
        failure = self.known_failures.get(item.id)
        return failure if failure is not None and failure.token == self._failure_token(item) else None

    def _failure_token(self, item: Listed) -> str | None:
        token = self._change_token(item)
        return None if token is None else f"{self._chunker_digest}:{self._packages_digest}:{token}"

    @cached_property
    def _packages_digest(self) -> str:
        return digest({"packages": installed_packages()})

    def batches(
        self, items: Sequence[Listed | Unlisted], records: Mapping[str, DocumentRecord], size: int
    ) -> Iterator[Batch]:
        """The documents to write, in batches of about `size` nodes.

        Raises:
            DocumentError: A document cannot be read and `on_error` is `stop`.
        """
        batch, node_count = Batch(), 0
        for item in items:
            node_count += self._add(item, records.get(item.id), batch)
            batch.listed += 1
            if node_count >= size:
                yield batch
                batch, node_count = Batch(), 0
        if batch.listed:
            yield batch

    def _add(self, item: Listed | Unlisted, record: DocumentRecord | None, batch: Batch) -> int:
        """Add one document to the batch if it changed; returns the number of its nodes."""
        if isinstance(item, Unlisted):
            self._fail(item.id, item.reason)
            return 0
        if record is not None and self.is_unchanged(item, record):
            self.unchanged.append(item.id)
            return 0
        failure = self.known_failure(item)
        if failure is not None:
            self._fail(item.id, failure.reason, failure.token)
            return 0
        try:
            document = item.load()
            new = DocumentRecord(item.id, content_hash(document), self._change_token(item), self._chunker_digest)
            if record is not None and (record.content_hash, record.settings_digest) == (
                new.content_hash,
                new.settings_digest,
            ):
                self.unchanged.append(item.id)
                if record != new:
                    batch.untouched.append(new)
                return 0
            check_document(item.id, document)
            nodes = self._split(item.id, document)
        except DocumentError as error:
            self._fail(item.id, error.reason, None if error.temporary else self._failure_token(item))
            return 0
        (self.added if record is None and item.id not in self.before else self.changed).append(item.id)
        batch.changed.append((new, nodes))
        return len(nodes)

    def _split(self, document_id: str, document: Document) -> list[BaseNode]:
        try:
            return self.splitter(document)
        except DocumentError:
            raise
        except Exception as error:  # of any chunker: one document must not stop the others
            # Temporary: a chunker may use the encoder, and that a server.
            raise DocumentError(document_id, f"it cannot be split: {describe_error(error)}", temporary=True) from error

    def fail_encoding(self, reasons: Mapping[str, str]) -> None:
        """Count documents as failed whose texts the encoder refuses; the next sync tries them again.

        Raises:
            DocumentError: There is one, and `on_error` is `stop`.
        """
        for document_id, reason in reasons.items():
            for names in (self.added, self.changed):
                if document_id in names:
                    names.remove(document_id)
            self._fail(document_id, reason)

    def _fail(self, document_id: str, reason: str, token: str | None = None) -> None:
        if self._on_error == "stop":
            raise DocumentError(document_id, reason)
        self.failed.append((document_id, reason))
        if token is not None:
            self.failure_records.append(FailureRecord(document_id, token, reason))


def removed_documents(items: Sequence[Listed | Unlisted], records: Mapping[str, DocumentRecord]) -> list[str]:
    """The ids of documents that are recorded and no longer listed."""
    present = {item.id for item in items}
    hidden = tuple(item.prefix for item in items if isinstance(item, Unlisted) and item.prefix is not None)
    return [name for name in records if name not in present and not name.startswith(hidden)]

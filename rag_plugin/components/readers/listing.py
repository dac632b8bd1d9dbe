"""What a reader hands to a sync: documents that can be listed without being read.

A LlamaIndex reader only knows `load_data`, which reads everything each time. The readers here list their
documents first, each with a change_token that changes when its content may have changed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...errors import ComponentError, DocumentError, RagPluginError
from ...protocols import DocumentSource, Listed, Unlisted

if TYPE_CHECKING:
    from llama_index.core.readers.base import BaseReader
    from llama_index.core.schema import Document


def source_of(reader: BaseReader) -> DocumentSource:
    """Any LlamaIndex reader as a `DocumentSource`."""
    return reader if isinstance(reader, DocumentSource) else _Whole(reader)


# LlamaIndex gives a document without an id a random one (a version 4 UUID), new at each run.
_RANDOM_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}(_part_\d+)?")


class _Whole:
    """Lists what `load_data` returns; a random id gives way to one that follows from the content."""

    def __init__(self, reader: BaseReader) -> None:
        self._reader = reader

    def list_documents(self) -> Iterator[Listed | Unlisted]:
        times: dict[str, int] = {}
        try:
            documents = self._reader.load_data()
        except RagPluginError:
            raise
        except Exception as error:  # the seam to any reader: what it raises says nothing of where it comes from
            reason = " ".join(str(error).split()) or "no reason given"
            raise ComponentError(f"{type(self._reader).__name__}: {type(error).__name__}: {reason}") from error
        for document in documents:
            name = document.id_
            if _RANDOM_ID.fullmatch(name):
                name = content_hash(document)[:32]
            times[name] = times.get(name, 0) + 1
            document.id_ = name if times[name] == 1 else f"{name}#{times[name]}"
            yield Listed(document.id_, None, lambda document=document: document)  # type: ignore[misc]


def content_hash(document: Document) -> str:
    """A hash of what a document says: its text and its metadata, dates of the file left out."""
    metadata = {key: value for key, value in document.metadata.items() if key not in VOLATILE_METADATA}
    record = json.dumps([document.text, metadata], sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(record.encode("utf-8", "surrogatepass")).hexdigest()


VOLATILE_METADATA = frozenset({"creation_date", "last_modified_date", "last_accessed_date", "file_size"})


def check_document(document_id: str, document: Document) -> None:
    """Refuse what no store could keep, before anything is encoded for it.

    Raises:
        DocumentError: The metadata is nothing that JSON can hold, or a text is none that UTF-8 can.
    """
    for key, value in document.metadata.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise DocumentError(document_id, f"its metadata {key!r} cannot be kept as JSON: {error}") from error
    metadata = json.dumps(document.metadata, ensure_ascii=False)
    for what, text in (("id", document_id), ("text", document.text), ("metadata", metadata)):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            reason = f"its {what} holds half a surrogate pair, which no encoding can keep"
            raise DocumentError(document_id, reason) from error

"""Documents of any reader for a sync: listing, content hashes and checks."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...errors import ComponentError, DocumentError, RagPluginError, describe_error, has_lone_surrogate
from ...protocols import DocumentSource, Listed, Unlisted

if TYPE_CHECKING:
    from llama_index.core.readers.base import BaseReader
    from llama_index.core.schema import Document

VOLATILE_METADATA = frozenset({"creation_date", "last_modified_date", "last_accessed_date", "file_size"})
"""Metadata that differs between copies of a file."""

# LlamaIndex gives a document without an id a random one, a version 4 UUID.
_RANDOM_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}(_part_\d+)?")


def source_of(reader: BaseReader) -> DocumentSource:
    """Any LlamaIndex reader as a `DocumentSource`."""
    return reader if isinstance(reader, DocumentSource) else _LoadedDocuments(reader)


class _LoadedDocuments:
    """Lists the documents of `load_data`; random ids are replaced by the path of the file, or by a content hash."""

    def __init__(self, reader: BaseReader) -> None:
        self._reader = reader

    def list_documents(self) -> Iterator[Listed | Unlisted]:
        occurrences: dict[str, int] = {}
        try:
            documents = self._reader.load_data()
        except RagPluginError:
            raise
        except Exception as error:  # a reader may raise anything
            raise ComponentError(f"{type(self._reader).__name__}: {describe_error(error)}") from error
        for document in documents:
            name = document.id_
            if _RANDOM_ID.fullmatch(name):
                # Of LlamaIndex's file readers; a file with several documents has one path.
                name = str(document.metadata.get("file_path") or content_hash(document)[:32])
            occurrences[name] = occurrences.get(name, 0) + 1
            document.id_ = name if occurrences[name] == 1 else f"{name}#{occurrences[name]}"
            yield Listed(document.id_, None, lambda document=document: document)  # type: ignore[misc]


def content_hash(document: Document) -> str:
    """SHA-256 of a document's text and metadata without `VOLATILE_METADATA`, in hexadecimal."""
    metadata = {key: value for key, value in document.metadata.items() if key not in VOLATILE_METADATA}
    record = json.dumps([document.text, metadata], sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(record.encode("utf-8", "surrogatepass")).hexdigest()


def check_document(document_id: str, document: Document) -> None:
    """Check that a store can keep a document, before anything is encoded.

    Raises:
        DocumentError: The metadata is not representable in JSON, or a text not in UTF-8.
    """
    for key, value in document.metadata.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise DocumentError(document_id, f"its metadata {key!r} is not representable in JSON: {error}") from error
    metadata = json.dumps(document.metadata, ensure_ascii=False)
    for field, text in (("id", document_id), ("text", document.text), ("metadata", metadata)):
        if has_lone_surrogate(text):
            raise DocumentError(document_id, f"its {field} contains a lone surrogate, so it is not UTF-8")

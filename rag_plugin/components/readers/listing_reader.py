"""The base class of readers that list their documents before reading them."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any

from llama_index.core.readers.base import BaseReader
from llama_index.core.schema import Document

from ...errors import DocumentError
from ...protocols import Listed, Unlisted

_log = logging.getLogger(__name__)


class ListingReader(BaseReader):
    """Implements LlamaIndex's `load_data` by `list_documents`."""

    def list_documents(self) -> Iterator[Listed | Unlisted]:
        raise NotImplementedError

    def load_data(self, *args: Any, **kwargs: Any) -> list[Document]:
        """All documents; unreadable ones are skipped with a warning."""
        documents = []
        for item in self.list_documents():
            if isinstance(item, Unlisted):
                _log.warning("%s: %s", item.id, item.reason)
                continue
            try:
                documents.append(item.load())
            except DocumentError as error:
                _log.warning("%s", error)
        return documents


def make_document(text: str, document_id: str, metadata: dict[str, Any]) -> Document:
    """A document whose metadata is excluded from encoding and prompts: paths and dates would change the vectors."""
    keys = [*metadata, "line", "page"]
    return Document(
        text=without_surrogates(text),
        id_=document_id,
        metadata=metadata,
        excluded_embed_metadata_keys=keys,
        excluded_llm_metadata_keys=keys,
    )


def without_surrogates(text: str) -> str:
    """The text with U+FFFD for each lone surrogate, which is not representable in UTF-8."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)

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
from ..tables import TABLE_HEADER

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
    """A document without data URIs, whose metadata is excluded from encoding and prompts.

    Paths and dates would change the vectors of each copy of a file; `table_header` is part of the text of each node.
    """
    keys = [key for key in (*metadata, "line", "page") if key != TABLE_HEADER]
    return Document(
        text=without_data_uris(without_surrogates(text)),
        id_=document_id,
        metadata=metadata,
        excluded_embed_metadata_keys=keys,
        excluded_llm_metadata_keys=keys,
    )


# Encoded as text, a picture in a `data:` URI would become hundreds of nodes. Base64 may be broken into lines.
_BASE64 = "[a-z0-9+/_%-]"
_DATA_URI = re.compile(
    rf"data:[a-z]+/[a-z0-9.+-]+(?:;[a-z0-9=._-]+)*,(?:(?<=base64,){_BASE64}{{40,}}(?:\n[ \t]*{_BASE64}{{40,}})*"
    rf"(?:\n[ \t]*{_BASE64}+=*(?=[)\"'>]))?=*|[^\s\"'()<>]+)",
    re.IGNORECASE,
)
_MIN_DATA_URI_CHARACTERS = 100


def without_data_uris(text: str) -> str:
    """The text without long `data:` URIs; lines keep their numbers."""

    def replacement(uri: re.Match[str]) -> str:
        return uri[0] if len(uri[0]) < _MIN_DATA_URI_CHARACTERS else "\n" * uri[0].count("\n")

    return _DATA_URI.sub(replacement, text) if "data:" in text.lower() else text


def without_surrogates(text: str) -> str:
    """The text with U+FFFD for each lone surrogate, which is not representable in UTF-8."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)

"""The base of the readers here: they list their documents before they read any."""

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
    """Gives LlamaIndex's `load_data` to a reader that lists its documents."""

    def list_documents(self) -> Iterator[Listed | Unlisted]:
        raise NotImplementedError

    def load_data(self, *args: Any, **kwargs: Any) -> list[Document]:
        """Every document; one that cannot be read is left out with a warning."""
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


def _whole(text: str) -> str:
    """Text with U+FFFD for each half of a surrogate pair, which no encoding can keep."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _document(text: str, name: str, metadata: dict[str, Any]) -> Document:
    # Nothing of the metadata is encoded or put before the LLM: paths and dates would change the vectors.
    keys = [*metadata, "line", "page"]
    return Document(
        text=_whole(text),
        id_=name,
        metadata=metadata,
        excluded_embed_metadata_keys=keys,
        excluded_llm_metadata_keys=keys,
    )

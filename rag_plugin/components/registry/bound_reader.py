"""A LlamaIndex reader with the arguments of its `load_data`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llama_index.core.readers.base import BaseReader
from llama_index.core.schema import Document


class BoundReader(BaseReader):
    """Passes fixed arguments to another reader's `load_data`."""

    def __init__(self, reader: BaseReader, arguments: dict[str, Any]) -> None:
        self.reader, self.arguments = reader, arguments

    def load_data(self, *args: Any, **kwargs: Any) -> list[Document]:
        """The reader's documents for these arguments."""
        load: Callable[..., list[Document]] = self.reader.load_data
        return load(*args, **{**self.arguments, **kwargs})

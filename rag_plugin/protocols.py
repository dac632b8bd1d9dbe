"""What a part may offer beyond its LlamaIndex base class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from llama_index.core.schema import BaseNode, Document
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Listed:
    """A document that a reader knows of.

    `change_token` is equal at two listings only if the content is; None where nothing is known before reading.
    `load` raises `DocumentError` where the document cannot be read.
    """

    id: str
    change_token: str | None
    load: Callable[[], Document]


@dataclass(frozen=True)
class Unlisted:
    """Something that could not be looked into: what the index has of `id`, or of ids with `prefix`, is kept.

    An empty prefix is every id's: which documents are hidden cannot be told at all.
    """

    id: str
    reason: str
    prefix: str | None = None


@runtime_checkable
class DocumentSource(Protocol):
    """A reader that can list its documents without reading them."""

    def list_documents(self) -> Iterator[Listed | Unlisted]:
        """Every document as it is now; raises `ComponentError` if the source as a whole is not there."""
        ...


Progress = Callable[[int, int], None]
"""Called with how many texts, and how many tokens, were encoded since it was last called; 0 tokens where unknown."""


@runtime_checkable
class MatrixEncoder(Protocol):
    """An encoder that encodes any number of texts at once: it sorts and batches them, and gives the matrix itself.

    Both methods return float32 of shape (len(texts), dimension), also for no texts at all.
    """

    def encode_documents(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]: ...
    def encode_queries(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class DocumentRecord:
    """The sync record of one document.

    Attributes:
        id: The document's id.
        content_hash: SHA-256 of its text and metadata, in hexadecimal.
        change_token: Equal tokens mean unchanged content; None: unknown.
        settings_digest: Digest of the chunker settings that made its nodes.
    """

    id: str
    content_hash: str
    change_token: str | None
    settings_digest: str


@runtime_checkable
class SyncStore(Protocol):
    """A store that keeps its own record of what was synced, in the same commit as the nodes."""

    def live_fingerprint(self) -> dict[str, Any] | None: ...
    def is_begun(self) -> bool: ...
    def open_generation(self, fingerprint: Mapping[str, Any], same: Any) -> int: ...
    def find_generation(self, fingerprint: Mapping[str, Any], same: Any) -> int | None: ...
    def live_generation(self) -> int | None: ...
    def synced(self, generation: int) -> dict[str, DocumentRecord]: ...
    def known_vectors(self, generation: int, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]: ...
    def removed_vectors(
        self, fingerprint: Mapping[str, Any], same: Any, keys: Sequence[bytes]
    ) -> dict[bytes, NDArray[np.float32]]: ...
    def nodes_of(self, generation: int, documents: Sequence[str]) -> list[BaseNode]: ...
    def commit(
        self,
        generation: int,
        changed: Sequence[tuple[DocumentRecord, Sequence[BaseNode]]] = (),
        untouched: Sequence[DocumentRecord] = (),
        removed: Sequence[str] = (),
        keys: Mapping[str, bytes] | None = None,
    ) -> None: ...
    def finish(self, generation: int, fingerprint: Mapping[str, Any]) -> None: ...
    def update_derived_files(self) -> None: ...
    def writing(self) -> Any: ...
    def __len__(self) -> int: ...


@runtime_checkable
class WarmUp(Protocol):
    """An LLM that can be loaded before it is asked."""

    def warm_up(self, say: Callable[[Mapping[str, Any]], Any] | None = None) -> Any: ...


@runtime_checkable
class ContextOfServer(Protocol):
    """An LLM whose context a server knows."""

    async def aget_context_window(self) -> int: ...

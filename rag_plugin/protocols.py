"""Optional protocols: what a component may offer beyond its LlamaIndex base class."""

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
"""Progress callback: texts and tokens encoded since the last call; 0 tokens where the encoder does not count them."""


@runtime_checkable
class MatrixEncoder(Protocol):
    """An encoder that sorts and batches any number of texts itself and returns one matrix.

    Both methods return float32 of shape (len(texts), dimension), also for an empty sequence, and raise `EncoderError`
    where a text cannot be encoded. `progress` is called after each batch.
    """

    def encode_documents(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]: ...
    def encode_queries(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]: ...


@runtime_checkable
class Identity(Protocol):
    """An encoder that describes what determines its vectors."""

    def identity(self) -> dict[str, Any]:
        """Settings in effect and a digest of the weights, as JSON data.

        Equal identities mean equal vectors. Device, batch size and other settings of speed are left out.
        An index stores the result; raises `EncoderError` where a server has to be read and does not answer.
        """
        ...


@runtime_checkable
class EncoderPrompts(Protocol):
    """An encoder with the prompts in effect: the text put before a question or a node's text, "" for none."""

    query_prompt: str
    document_prompt: str


@dataclass(frozen=True)
class Tokens:
    """The tokenization of an encoder, without special tokens.

    Attributes:
        starts: Character offset of each token of one text: ascending int64, shape (tokens,). Where a text is cut,
            the parts may have one token more or less than the whole text has there.
        counts: Number of tokens of each text: int64, shape (len(texts),).

    A word that the tokenizer maps to one unknown token because of its length counts as if it were divided.
    """

    starts: Callable[[str], NDArray[np.int64]]
    counts: Callable[[Sequence[str]], NDArray[np.int64]]


@runtime_checkable
class EncoderTokens(Protocol):
    """An encoder whose tokenizer is available in this process."""

    def tokens(self) -> Tokens: ...

    def max_input_tokens(self) -> int | None:
        """Maximum tokens of a text, special tokens and document prompt deducted; None for no limit."""
        ...


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
class TokenCounter(Protocol):
    """An LLM that counts tokens."""

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a text; an estimate is not below the true number."""
        ...


@runtime_checkable
class WarmUp(Protocol):
    """An LLM that can be loaded before the first question."""

    def warm_up(self, on_progress: Callable[[Mapping[str, Any]], Any] | None = None) -> float:
        """Load the model; returns the seconds it took.

        `on_progress` gets the progress of a download: `status`, and `completed` of `total` in bytes.
        Raises `LLMError` where the server or the model is not available.
        """
        ...


@runtime_checkable
class ServerContext(Protocol):
    """An LLM whose context size is read from a server."""

    async def aget_context_window(self) -> int:
        """Context size in tokens; reads it once, without blocking the event loop. Raises `LLMError`."""
        ...

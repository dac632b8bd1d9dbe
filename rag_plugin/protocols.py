"""Optional interfaces of parts, beyond their LlamaIndex base classes.

A part implements a protocol by having its members; nothing has to be inherited or registered. Parts without them work
less efficiently: documents are read at each sync, texts are encoded in lists, tokens are estimated.

Readers     `DocumentSource`
Encoders    `MatrixEncoder`, `Identity`, `EncoderPrompts`, `EncoderTokens`
Stores      `SyncStore`
LLMs        `WarmUp`, `ServerContext`, `TokenCounter`
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from llama_index.core.schema import BaseNode, Document
    from numpy.typing import NDArray

# ---------------------------------------------------------------------------------- readers


@dataclass(frozen=True)
class Listed:
    """A document that a reader can load.

    Attributes:
        id: The document's id, stable between listings.
        change_token: Equal in two listings only if the content is equal; None if that is unknown before reading.
        load: Reads the document; raises `DocumentError` if it cannot be read. A sync calls it again when the change
            token, the settings or the installed packages differ, and at each sync if the error is `temporary`.
    """

    id: str
    change_token: str | None
    load: Callable[[], Document]


@dataclass(frozen=True)
class Unlisted:
    """An entry that could not be listed. A sync keeps what the index holds of it.

    Attributes:
        id: Names the entry in reports.
        reason: Why it could not be listed.
        prefix: Documents whose ids start with it may be hidden by the entry; "" for all documents, None for none.
    """

    id: str
    reason: str
    prefix: str | None = None


@runtime_checkable
class DocumentSource(Protocol):
    """A reader that lists its documents without reading them."""

    def list_documents(self) -> Iterator[Listed | Unlisted]:
        """The documents at this moment.

        Raises:
            ComponentError: The source as a whole is missing.
        """
        ...


# ---------------------------------------------------------------------------------- encoders


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
        """Model, prompts and other settings in effect, as JSON data; without those that affect only the speed.

        An index records it. Different weights under the same name are detected by the vector of a fixed sentence.
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


# ---------------------------------------------------------------------------------- stores


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


@dataclass(frozen=True)
class FailureRecord:
    """The record of a document that cannot be read or split. It is no document: nothing of it is searchable.

    Attributes:
        id: The document's id.
        token: Equal tokens mean that the document fails again: same content, settings and installed packages.
        reason: Why it failed.
    """

    id: str
    token: str
    reason: str


Fingerprint = Mapping[str, Any]
"""Encoder, chunker and reader settings of an index, as plain data for JSON."""

SameEncoder = Callable[[Fingerprint, Fingerprint], bool]
"""Whether two fingerprints describe the same encoder."""


@runtime_checkable
class SyncStore(Protocol):
    """A vector store that keeps its sync record in the same commit as its nodes.

    Documents, nodes and vectors of one encoder form a generation, an integer. Queries use the live generation. Another
    encoder fills a new generation, which replaces the live one in one commit when it is complete.
    """

    @property
    def location(self) -> str:
        """Where the store is, for messages."""
        ...

    def live_generation(self) -> int | None:
        """The generation that queries use; None before the first complete sync."""
        ...

    def live_fingerprint(self) -> dict[str, Any] | None:
        """The fingerprint of the live generation: empty if nodes were added without a sync, None if there is none."""
        ...

    def is_first_sync_unfinished(self) -> bool:
        """Whether a first sync was started and never completed."""
        ...

    def find_generation(self, fingerprint: Fingerprint, same: SameEncoder) -> int | None:
        """The live or unfinished generation of this encoder, if there is one."""
        ...

    def open_generation(self, fingerprint: Fingerprint, same: SameEncoder) -> int:
        """The generation of this encoder, created if there is none."""
        ...

    def document_records(self, generation: int) -> dict[str, DocumentRecord]:
        """The records of a generation's documents, by document id."""
        ...

    def failure_records(self, generation: int) -> dict[str, FailureRecord]:
        """The failures that the last `finish` of this generation recorded, by document id."""
        ...

    def vectors_by_key(self, generation: int, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        """Vectors of texts that this generation's encoder has encoded, by text key; shape (dimension,) each."""
        ...

    def removed_vectors(
        self, fingerprint: Fingerprint, same: SameEncoder, keys: Sequence[bytes]
    ) -> dict[bytes, NDArray[np.float32]]:
        """Cached vectors of removed nodes of an encoder that has no generation now, by text key."""
        ...

    def nodes_of(self, generation: int, documents: Sequence[str]) -> list[BaseNode]:
        """The nodes of these documents, without vectors."""
        ...

    def commit(
        self,
        generation: int,
        changed: Sequence[tuple[DocumentRecord, Sequence[BaseNode]]] = (),
        untouched: Sequence[DocumentRecord] = (),
        removed: Sequence[str] = (),
        keys: Mapping[str, bytes] | None = None,
    ) -> None:
        """Write one commit: all of it is stored, or nothing.

        Args:
            generation: The generation to write to.
            changed: Documents with all their nodes, which replace the nodes in the store; the nodes have vectors.
            untouched: Records to renew without touching nodes.
            removed: Ids of documents to remove with their nodes.
            keys: Text keys of the nodes by node id, for `vectors_by_key`.
        """
        ...

    def finish(self, generation: int, fingerprint: Fingerprint, failures: Sequence[FailureRecord] = ()) -> None:
        """Make a complete generation the live one, and `failures` its only failure records, in one commit."""
        ...

    def update_derived_files(self) -> None:
        """Bring files that are derived from the committed data up to date, where that is worth its time."""
        ...

    def writing(self) -> AbstractContextManager[None]:
        """Hold the writer's lock.

        Raises:
            IndexLocked: Another thread or process holds it.
        """
        ...

    def __len__(self) -> int:
        """The number of nodes that queries search."""
        ...


# ---------------------------------------------------------------------------------- LLMs


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

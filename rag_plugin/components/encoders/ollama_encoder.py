"""An encoder on an Ollama server, by its /api/embed. What LlamaIndex lacks: prompts, no silent cut, clear errors."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field, PrivateAttr, field_serializer
from llama_index.core.callbacks import CallbackManager

from ...errors import CapabilityMissing, ContextOverflow, EncoderError, LLMError
from ...ollama import async_bridge as bridge
from ...ollama.error_mapping import missing
from ...ollama.http import Limits
from ...ollama.server import OllamaServer
from ...ollama.target import MASK, Target, address, masked
from .batching import BatcherPool, RoleEmbedding, batches_by_length, check_texts
from .prompts import family_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...protocols import Progress

_log = logging.getLogger(__name__)

_ROWS, _CHARACTERS = 32, 32_000  # of one request, so that a bar moves, and a time-out is one of some texts
_EVERYTHING = 2048  # the most texts that LlamaIndex hands over together; they are sorted and batched here


class OllamaEncoder(RoleEmbedding, BaseEmbedding):
    """A model on an Ollama server.

    Building it does not talk to the server. A text that is longer than the model reads is an error: the server would
    cut it in silence. `query_prompt` and `document_prompt` are what really stands before a text; where each comes from
    says `query_prompt_from`, `document_prompt_from`: `config`, `family NAME` or `none`.
    """

    base_url: str = Field(description="Where the server listens.")
    query_prompt: str = Field(default="", description="Put before a question.")
    document_prompt: str = Field(default="", description="Put before a node's text.")
    query_prompt_from: str = Field(default="none", description="Where the prompt for questions comes from.")
    document_prompt_from: str = Field(default="none", description="Where the prompt for nodes comes from.")
    normalize: bool = Field(default=True, description="Scale vectors to length 1.")
    truncate_dim: int | None = Field(default=None, description="Keep only so many numbers of a vector.")
    context_window: int | None = Field(default=None, description="How many tokens of a text the server takes.")
    request_timeout: float = Field(default=300.0, description="Seconds to wait for an answer.")
    retries: int = Field(default=2, description="How often a request is sent again that the server did not take.")
    keep_alive: str | float | None = Field(default=None, description="How long the model stays loaded.")

    _headers: dict[str, str] = PrivateAttr(default_factory=dict)
    _together: BatcherPool = PrivateAttr(default_factory=BatcherPool)
    _dimension: int | None = PrivateAttr(default=None)

    def __init__(self, *, headers: Mapping[str, str] | None = None, **fields: Any) -> None:
        unknown = sorted(set(fields) - set(type(self).model_fields))
        if unknown:  # the base class would pass over them
            raise TypeError(f"OllamaEncoder has no setting {unknown[0]!r}")
        if f"//{MASK}@" in fields.get("base_url", ""):
            raise TypeError("credentials were left out when this was written: give base_url again")
        super().__init__(**{"embed_batch_size": _EVERYTHING, **fields})
        self._headers = dict(headers or {})

    @field_serializer("base_url")
    def _masked_url(self, url: str) -> str:
        return masked(url)

    def __repr_args__(self) -> Any:
        for name, value in super().__repr_args__():
            yield name, masked(value) if name == "base_url" else value

    @classmethod
    def class_name(cls) -> str:
        return "OllamaEncoder"

    # ------------------------------------------------------------------ what it is

    @property
    def dimension(self) -> int:
        """How many numbers a vector has; asks the server once."""
        if self._dimension is None:
            self._dimension = int(self._request(["dimension"])[0].shape[1])
        return self._dimension

    def identity(self) -> dict[str, Any]:
        """What decides which vector a text gets, as plain data; the server says which weights the model has.

        Raises:
            EncoderError: The server cannot be reached, or has no such model.
        """
        return {
            "model": self.model_name,
            "weights": self._digest()[:16],
            "query_prompt": self.query_prompt,
            "document_prompt": self.document_prompt,
            "normalize": self.normalize,
            "truncate_dim": self.truncate_dim,
        }

    @property
    def server(self) -> OllamaServer:
        """The server, as this encoder speaks to it."""
        limit = self.request_timeout
        limits = Limits(connect=limit, first_token=limit, token=limit, setting="timeout")
        return OllamaServer(self.base_url, self._headers, limits, self.retries, slot="encoder")

    @property
    def _target(self) -> Target:
        return self.server.target(self.model_name)

    def _digest(self) -> str:
        try:
            found = bridge.run(self.server.listed(self.model_name))
        except LLMError as error:
            raise self._clear_error(error) from error
        if not found:
            raise self._clear_error(missing(self._target))
        return str(found[0].get("digest") or "")

    # ------------------------------------------------------------------ many texts

    def encode_documents(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Encode documents' texts; float32, shape (len(texts), dimension).

        Args:
            texts: Any number; they go to the server some at a time, those of one length together.
            progress: Called with the texts and the tokens that were encoded since the last call.

        Raises:
            EncoderError: The server cannot be reached, has no such model, or a text is too long.
        """
        return self._matrix(texts, "document", progress)

    def encode_queries(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Encode questions; as `encode_documents`, with the prompt for questions."""
        return self._matrix(texts, "query", progress)

    def _matrix(self, texts: Sequence[str], role: str, progress: Progress | None) -> NDArray[np.float32]:
        check_texts(texts)
        prompt = self.query_prompt if role == "query" else self.document_prompt
        found: NDArray[np.float32] | None = None
        for batch in _batches(texts):
            rows, tokens = self._request([prompt + texts[number] for number in batch])
            if found is None:
                self._dimension = rows.shape[1]
                found = np.empty((len(texts), rows.shape[1]), dtype=np.float32)
            found[batch] = rows
            if progress is not None:
                progress(len(batch), tokens)
        return np.empty((0, self.dimension), dtype=np.float32) if found is None else found

    def _request(self, texts: list[str]) -> tuple[NDArray[np.float32], int]:
        """Vectors of texts that have their prompt, and how many tokens they had."""
        try:
            answer = self._embed(texts)
        except LLMError as error:
            if len(texts) > 1 and _is_about_one_text(error):
                self._find_culprit(texts)
            raise self._clear_error(error, texts[0] if len(texts) == 1 else "") from error
        rows = np.asarray(answer.get("embeddings") or [], dtype=np.float32)
        if rows.ndim != 2 or len(rows) != len(texts):
            raise EncoderError(
                f"the Ollama server at {self._target.url} gave {len(rows)} vectors for {len(texts)} texts: "
                f"can {self.model_name!r} make embeddings?"
            )
        if self.normalize:
            norms = np.linalg.norm(rows, axis=1, keepdims=True)
            rows = np.asarray(rows / np.where(norms > 0, norms, 1), dtype=np.float32)
        return rows, int(answer.get("prompt_eval_count") or 0)

    def _embed(self, texts: list[str]) -> dict[str, Any]:
        optional = {
            "options": None if self.context_window is None else {"num_ctx": self.context_window},
            "keep_alive": self.keep_alive,
            "dimensions": self.truncate_dim,
        }
        body = {"model": self.model_name, "input": texts, "truncate": False}
        body.update({name: value for name, value in optional.items() if value is not None})
        return bridge.run(self.server.ask("/api/embed", body, model=self.model_name))

    def _find_culprit(self, texts: list[str]) -> None:
        """Raise what one of the texts alone is refused for: the server does not say whose fault it was."""
        for text in sorted(texts, key=len, reverse=True):
            try:
                self._embed([text])
            except LLMError as error:
                raise self._clear_error(error, text) from error

    def _clear_error(self, error: LLMError, text: str = "") -> EncoderError:
        """The same as an encoder's error."""
        if isinstance(error, ContextOverflow):
            return EncoderError(
                f"a text of {len(text):,} characters is longer than {self._target} reads, and the server "
                "would cut it: make chunker.chunk_size smaller, or set encoder.context_window higher: "
                f"{text[:60]!r}"
            )
        if "no input provided" in str(error):
            return EncoderError(f"{self.model_name!r} has no vector for a text without any characters")
        if isinstance(error, CapabilityMissing):
            return EncoderError(f"{self._target} makes no embeddings: take a model that does, such as nomic-embed-text")
        return EncoderError(str(error))

    # ------------------------------------------------------------------ one text, as LlamaIndex asks

    def _embed_one(self, text: str, role: str) -> list[float]:
        return self._embed_batch([text], role)[0].tolist()  # type: ignore[no-any-return]

    def _embed_batch(self, texts: list[str], role: str) -> NDArray[np.float32]:
        return self._matrix(texts, role, None)


def make_ollama_encoder(
    *,
    model: str,
    base_url: str,
    query_prompt: str | None,
    document_prompt: str | None,
    timeout: float,
    headers: Mapping[str, str] | None,
    callback_manager: CallbackManager,
    **fields: Any,
) -> OllamaEncoder:
    """An encoder with the prompts of its family, where the config says none."""
    family = family_of(model)
    prompts: dict[str, str] = {}
    for role, given in (("query", query_prompt), ("document", document_prompt)):
        if given is not None:
            text, origin = given, "config"
        elif family is not None:
            text, origin = getattr(family, f"{role}_prompt"), f"family {family.name}"
        else:
            text, origin = "", "none"
        prompts |= {f"{role}_prompt": text, f"{role}_prompt_from": origin}
    encoder = OllamaEncoder(
        model_name=model,
        base_url=address(base_url),
        request_timeout=timeout,
        headers=headers,
        callback_manager=callback_manager,
        **prompts,
        **fields,
    )
    _log.info(
        "%s at %s: query prompt %r (%s), document prompt %r (%s)",
        *(model, encoder._target.url, encoder.query_prompt, encoder.query_prompt_from),
        *(encoder.document_prompt, encoder.document_prompt_from),
    )
    return encoder


def _batches(texts: Sequence[str]) -> Iterator[list[int]]:
    lengths = [len(text) for text in texts]
    for batch in batches_by_length(lengths, rows=None, tokens=_CHARACTERS):
        for start in range(0, len(batch), _ROWS):
            yield batch[start : start + _ROWS]


def _is_about_one_text(error: LLMError) -> bool:
    return isinstance(error, ContextOverflow) or "no input provided" in str(error)

"""An encoder on an Ollama server, by /api/embed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from llama_index.core.bridge.pydantic import Field, PrivateAttr, field_serializer

from ...errors import CapabilityMissing, ContextOverflow, EncoderError, LLMError
from ...ollama import async_bridge as bridge
from ...ollama.limits import Limits
from ...ollama.server import OllamaServer
from ...ollama.target import MASK, Target, masked, normalize_address
from .batching import MAX_TEXTS_PER_CALL, batches_by_length, check_texts
from .prompts import effective_prompts, family_of
from .role_embedding import RoleEmbedding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...protocols import Progress

_log = logging.getLogger(__name__)

# Small requests: progress is visible, and a timeout concerns few texts.
_TEXTS_PER_REQUEST, _CHARACTERS_PER_REQUEST = 32, 32_000
_EMPTY_TEXT = "no input provided"  # the server's error for a text without tokens


class OllamaEncoder(RoleEmbedding):
    """A model on an Ollama server.

    Building one sends no request. A text that is longer than the model's context is an error, never cut.
    """

    base_url: str = Field(description="The server's address.")
    normalize: bool = Field(description="Scale vectors to length 1.")
    truncate_dim: int | None = Field(description="Keep only so many leading numbers of a vector.")
    context_window: int | None = Field(description="Maximum tokens of a text; None for the server's default.")
    request_timeout: float = Field(description="Seconds to wait for a response.")
    retries: int = Field(description="How often a request that the server did not accept is repeated.")
    keep_alive: str | float | None = Field(description="How long the model stays loaded.")

    _headers: dict[str, str] = PrivateAttr(default_factory=dict)
    _dimension: int | None = PrivateAttr(default=None)

    def __init__(self, *, headers: Mapping[str, str] | None = None, **fields: Any) -> None:
        unknown = sorted(set(fields) - set(type(self).model_fields))
        if unknown:  # the base class would ignore them
            raise TypeError(f"OllamaEncoder has no setting {unknown[0]!r}")
        if f"//{MASK}@" in fields.get("base_url", ""):
            raise TypeError("credentials are masked in serialized data: pass base_url again")
        super().__init__(**{"embed_batch_size": MAX_TEXTS_PER_CALL, **fields})
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

    @property
    def server(self) -> OllamaServer:
        """The client of the server, with this encoder's settings."""
        seconds = self.request_timeout
        limits = Limits(connect=seconds, first_token=seconds, token=seconds, setting="timeout")
        return OllamaServer(self.base_url, self._headers, limits, self.retries, slot="encoder")

    @property
    def _target(self) -> Target:
        return self.server.target(self.model_name)

    @property
    def dimension(self) -> int:
        """Numbers of a vector; read from the server once."""
        if self._dimension is None:
            self._dimension = int(self._request(["dimension"])[0].shape[1])
        return self._dimension

    def identity(self) -> dict[str, Any]:
        """Model, prompts and settings in effect, as JSON data."""
        return {
            "model": self.model_name,
            "query_prompt": self.query_prompt,
            "document_prompt": self.document_prompt,
            "normalize": self.normalize,
            "truncate_dim": self.truncate_dim,
        }

    def _matrix(self, texts: Sequence[str], role: str, progress: Progress | None) -> NDArray[np.float32]:
        check_texts(texts)
        prompt = self.prompt_of(role)
        matrix: NDArray[np.float32] | None = None
        lengths = [len(text) for text in texts]
        for batch in batches_by_length(lengths, max_texts=_TEXTS_PER_REQUEST, max_tokens=_CHARACTERS_PER_REQUEST):
            rows, tokens = self._request([prompt + texts[index] for index in batch])
            if matrix is None:
                self._dimension = rows.shape[1]
                matrix = np.empty((len(texts), rows.shape[1]), dtype=np.float32)
            matrix[batch] = rows
            if progress is not None:
                progress(len(batch), tokens)
        return np.empty((0, self.dimension), dtype=np.float32) if matrix is None else matrix

    def _request(self, texts: list[str]) -> tuple[NDArray[np.float32], int]:
        """Vectors of texts that include their prompt, and their tokens."""
        try:
            response = self._embed(texts)
        except LLMError as error:
            if len(texts) > 1 and (isinstance(error, ContextOverflow) or _EMPTY_TEXT in str(error)):
                self._raise_for_single_text(texts)
            raise self._encoder_error(error, texts[0] if len(texts) == 1 else "") from error
        rows = np.asarray(response.get("embeddings") or [], dtype=np.float32)
        if rows.ndim != 2 or len(rows) != len(texts):
            raise EncoderError(
                f"the Ollama server at {self._target.url} returned {len(rows)} vectors for {len(texts)} texts: "
                f"is {self.model_name!r} an embedding model?"
            )
        if self.normalize:
            norms = np.linalg.norm(rows, axis=1, keepdims=True)
            rows = np.asarray(rows / np.where(norms > 0, norms, 1), dtype=np.float32)
        return rows, int(response.get("prompt_eval_count") or 0)

    def _embed(self, texts: list[str]) -> dict[str, Any]:
        optional = {
            "options": None if self.context_window is None else {"num_ctx": self.context_window},
            "keep_alive": self.keep_alive,
            "dimensions": self.truncate_dim,
        }
        body = {"model": self.model_name, "input": texts, "truncate": False}
        body.update({name: value for name, value in optional.items() if value is not None})
        return bridge.run(self.server.request("/api/embed", body, model=self.model_name))

    def _raise_for_single_text(self, texts: list[str]) -> None:
        """Raise the error of the text that caused the rejection of a batch, which the server does not identify."""
        for text in sorted(texts, key=len, reverse=True):
            try:
                self._embed([text])
            except LLMError as error:
                raise self._encoder_error(error, text) from error

    def _encoder_error(self, error: LLMError, text: str = "") -> EncoderError:
        if isinstance(error, ContextOverflow):
            return EncoderError(
                f"a text of {len(text):,} characters is longer than the context of {self._target}: make "
                f"chunker.chunk_size smaller, or set encoder.context_window higher: {text[:60]!r}"
            )
        if _EMPTY_TEXT in str(error):
            return EncoderError(f"{self.model_name!r} has no vector for an empty text")
        if isinstance(error, CapabilityMissing):
            return EncoderError(f"{self._target} is not an embedding model: use one, such as nomic-embed-text")
        return EncoderError(str(error))


def build_ollama_encoder(
    *, model: str, base_url: str, query_prompt: str | None, document_prompt: str | None, timeout: float, **fields: Any
) -> OllamaEncoder:
    """Builds an `OllamaEncoder` from the settings of component `ollama`; those that are its fields are passed on."""
    fields |= effective_prompts(family_of(model), {"query": query_prompt, "document": document_prompt})
    encoder = OllamaEncoder(model_name=model, base_url=normalize_address(base_url), request_timeout=timeout, **fields)
    encoder.log_prompts(_log, str(encoder._target))
    return encoder

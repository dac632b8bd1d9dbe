"""Base class of the encoders: LlamaIndex's embedding methods by role, with a prompt for each role."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field, PrivateAttr

from .batching import DynamicBatcher

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ...protocols import Progress


class RoleEmbedding(BaseEmbedding):
    """Maps LlamaIndex's embedding methods to `_matrix(texts, role, progress)`; a role is `query` or `document`.

    `query_prompt` and `document_prompt` are the prompts in effect, "" for none; the fields `..._from` name their
    source: `config`, `model`, `family NAME` or `none`. Asynchronous single texts are encoded in batches by a thread, so
    that no event loop is blocked or kept.
    """

    query_prompt: str = Field(default="", description="Put before a question.")
    document_prompt: str = Field(default="", description="Put before a node's text.")
    query_prompt_from: str = Field(default="none", description="Source of the prompt for questions.")
    document_prompt_from: str = Field(default="none", description="Source of the prompt for nodes.")

    _batcher: DynamicBatcher = PrivateAttr(default_factory=DynamicBatcher)

    def _matrix(self, texts: Sequence[str], role: str, progress: Progress | None) -> NDArray[np.float32]:
        """Vectors of texts, float32, shape (len(texts), dimension)."""
        raise NotImplementedError

    def prompt_of(self, role: str) -> str:
        """The prompt put before texts of a role."""
        return self.query_prompt if role == "query" else self.document_prompt

    def log_prompts(self, log: logging.Logger, name: str) -> None:
        """Log the prompts in effect; `name` identifies model and device or server."""
        prompts = (self.query_prompt, self.query_prompt_from, self.document_prompt, self.document_prompt_from)
        log.info("%s: query prompt %r (%s), document prompt %r (%s)", name, *prompts)

    def encode_documents(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Encode texts of documents.

        Args:
            texts: Any number of texts; they are sorted by length and encoded in batches.
            progress: Called with the texts and tokens encoded since the last call.

        Returns:
            One row for each text, float32, shape (len(texts), dimension).

        Raises:
            EncoderError: A text cannot be encoded, or a server or process failed.
        """
        return self._matrix(texts, "document", progress)

    def encode_queries(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Encode questions; as `encode_documents`, with the prompt for questions."""
        return self._matrix(texts, "query", progress)

    def _embed_batch(self, texts: list[str], role: str) -> NDArray[np.float32]:
        return self._matrix(texts, role, None)

    def _embed_one(self, text: str, role: str) -> list[float]:
        return self._embed_batch([text], role)[0].tolist()

    async def _aembed_one(self, text: str, role: str) -> list[float]:
        return (await asyncio.wrap_future(self._batcher.submit(self._embed_batch, text, role))).tolist()

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._embed_one(query, "query")

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await self._aembed_one(query, "query")

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._embed_one(text, "document")

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await self._aembed_one(text, "document")

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self.encode_documents(texts).tolist()

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)

"""Cheap stand-ins for an encoder and an LLM."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.llms.types import CompletionResponse, LLMMetadata
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.callbacks import llm_completion_callback


class Hashes(BaseEmbedding):
    """A cheap encoder: a vector that follows from the text, the salt and the weights; it tells a pipe of each call.

    The salt is a setting that anyone can see, the weights are not.
    """

    salt: int = 0

    def __init__(self, salt: int = 0, pipe: Any = None, pause: float = 0.0, weights: str = "") -> None:
        super().__init__(salt=salt, callback_manager=CallbackManager([]))
        object.__setattr__(self, "_weights", weights)
        object.__setattr__(self, "_told", pipe)
        object.__setattr__(self, "_pause", pause)
        object.__setattr__(self, "_texts", [])

    @property
    def texts(self) -> list[str]:
        """What was encoded so far, the probe sentence left out."""
        return [text for text in self._texts if "quick brown fox" not in text]  # type: ignore[attr-defined]

    def _get_text_embedding(self, text: str) -> list[float]:
        self._texts.append(text)  # type: ignore[attr-defined]
        if self._told is not None and "quick brown fox" not in text:  # type: ignore[attr-defined]
            self._told.send(text)  # type: ignore[attr-defined]
        time.sleep(self._pause)  # type: ignore[attr-defined]
        seed = int.from_bytes(hashlib.sha256(f"{self.salt}{self._weights}{text}".encode()).digest()[:8], "big")
        return np.random.default_rng(seed).normal(size=16).tolist()  # type: ignore[no-any-return]

    _get_query_embedding = _get_text_embedding

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


class EchoLLM(CustomLLM):
    """Answers with the prompt it was given, and remembers how often it was asked."""

    asked: int = 0

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(context_window=4096, num_output=256, model_name="echo")

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        self.asked += 1
        return CompletionResponse(text=prompt)

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        self.asked += 1
        text = ""
        for word in prompt.split(" "):
            text += word + " "
            yield CompletionResponse(text=text, delta=word + " ")

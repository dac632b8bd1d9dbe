"""Null object for an engine without an LLM."""

from __future__ import annotations

from typing import Any, NoReturn

from llama_index.core.llms import CompletionResponse, CompletionResponseGen, CustomLLM, LLMMetadata

from ...errors import MissingLLM


class NoLLM(CustomLLM):
    """Raises `MissingLLM` for every question."""

    @property
    def metadata(self) -> LLMMetadata:
        # A large context: prompt helpers that read it must not fail before `complete` raises the clear error.
        return LLMMetadata(context_window=1_000_000, num_output=256, model_name="none")

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        self._refuse()

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        self._refuse()

    @staticmethod
    def _refuse() -> NoReturn:
        raise MissingLLM

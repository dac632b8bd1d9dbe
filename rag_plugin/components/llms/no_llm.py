"""The LLM of an engine that has none: it says so, and what to add, instead of asking another provider."""

from __future__ import annotations

from typing import Any, NoReturn

from llama_index.core.llms import CompletionResponse, CompletionResponseGen, CustomLLM, LLMMetadata

from ...errors import MissingLLM


class NoLLM(CustomLLM):
    """Raises `MissingLLM` whenever text is asked of it."""

    @property
    def metadata(self) -> LLMMetadata:
        # Room for any prompt: helpers that measure against it must not fail before the question does.
        return LLMMetadata(context_window=1_000_000, num_output=256, model_name="none")

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        self._refuse()

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        self._refuse()

    @staticmethod
    def _refuse() -> NoReturn:
        raise MissingLLM

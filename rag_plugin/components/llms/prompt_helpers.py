"""How much context fits into a prompt, counted without LlamaIndex's global tokenizer, which is gpt-3.5's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...errors import ComponentError
from ..encoders.tokens import estimated_tokens

_LEAST = 64  # tokens for passages: with less, a question takes dozens of answers

if TYPE_CHECKING:
    from llama_index.core.indices.prompt_helper import ChatPromptHelper, PromptHelper
    from llama_index.core.llms import LLM, ChatMessage


def prompt_helpers(llm: LLM) -> tuple[PromptHelper, ChatPromptHelper]:
    """The helpers that pack nodes into the context of this LLM, counting in its own tokens where it is in reach."""
    from llama_index.core.indices.prompt_helper import ChatPromptHelper, PromptHelper
    from llama_index.core.utilities.token_counting import TokenCounter

    class Counter(TokenCounter):
        """Counts messages as it counts text; LlamaIndex's counts what they say by its global tokenizer."""

        def estimate_tokens_in_messages(self, messages: list[ChatMessage]) -> int:
            said = sum(self.get_string_tokens(message.content or "") for message in messages)
            return said + super().estimate_tokens_in_messages([_silent(message) for message in messages])

        async def aestimate_tokens_in_messages(self, messages: list[ChatMessage]) -> int:
            return self.estimate_tokens_in_messages(messages)

    class Limits:
        """Asks the LLM for its limits when they are needed: what knows them may be a server."""

        num_output: int

        def _get_available_context_size(self, num_prompt_tokens: int) -> int:
            window, answer = self._limits()
            return window - num_prompt_tokens - answer

        def _get_available_chunk_size(self, prompt: Any, num_chunks: int = 1, padding: int = 5, **more: Any) -> int:
            window, answer = self._limits()
            # LlamaIndex leaves 500 tokens for an answer that is refined, also where none can be as long.
            padding = min(padding, max(5, answer))
            left = int(super()._get_available_chunk_size(prompt, num_chunks, padding, **more))  # type: ignore[misc]
            if left <= 0 or left * num_chunks < _LEAST:
                raise ComponentError(
                    f"llm: a context_window of {window} tokens leaves {max(0, left)} for passages, beside {answer} of "
                    f"the answer and {window - answer - left} of prompt and question; set llm.context_window higher "
                    "or llm.max_tokens lower, or ask a shorter question"
                )
            return left

        def _limits(self) -> tuple[int, int]:
            metadata = llm.metadata
            return metadata.context_window, metadata.num_output if metadata.num_output > 0 else self.num_output

    class Live(Limits, PromptHelper):
        pass

    class LiveChat(Limits, ChatPromptHelper):
        pass

    tokenizer = llm_tokenizer(llm)
    helpers = Live(tokenizer=tokenizer), LiveChat(tokenizer=tokenizer)
    for helper in helpers:
        helper._token_counter = Counter(tokenizer)
    return helpers


def _silent(message: ChatMessage) -> ChatMessage:
    return message.model_copy(update={"blocks": []})


def llm_tokenizer(llm: LLM) -> Callable[[str], list[Any]]:
    """A function whose result has as many items as the LLM has tokens for a text, or a safe estimate."""
    count = getattr(llm, "count_tokens", None)
    if callable(count):
        return lambda text: [None] * count(text)
    own = getattr(llm, "_tokenizer", None)
    if callable(getattr(own, "encode", None)):
        return lambda text: own.encode(text, add_special_tokens=False, verbose=False)  # type: ignore[union-attr,no-any-return]
    return estimated_tokens

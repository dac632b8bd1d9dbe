"""Prompt packing with the LLM's own token count instead of LlamaIndex's global tokenizer (that of gpt-3.5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...errors import ComponentError
from ...protocols import TokenCounter
from ..encoders.tokens import estimated_tokens

if TYPE_CHECKING:
    from llama_index.core.indices.prompt_helper import ChatPromptHelper, PromptHelper
    from llama_index.core.llms import LLM, ChatMessage

_MIN_PASSAGE_TOKENS = 64  # with less room for passages, one question takes dozens of answers


def prompt_helpers(llm: LLM) -> tuple[PromptHelper, ChatPromptHelper]:
    """Helpers that pack nodes into the context of this LLM."""
    from llama_index.core.indices.prompt_helper import ChatPromptHelper, PromptHelper
    from llama_index.core.utilities.token_counting import TokenCounter as LlamaIndexCounter

    class MessageCounter(LlamaIndexCounter):
        """Counts the text of messages by the given tokenizer; the base class uses its global one."""

        def estimate_tokens_in_messages(self, messages: list[ChatMessage]) -> int:
            text = sum(self.get_string_tokens(message.content or "") for message in messages)
            without_text = [message.model_copy(update={"blocks": []}) for message in messages]
            return text + super().estimate_tokens_in_messages(without_text)

        async def aestimate_tokens_in_messages(self, messages: list[ChatMessage]) -> int:
            return self.estimate_tokens_in_messages(messages)

    class LiveLimits:
        """Reads the LLM's limits at each use: they may come from a server."""

        num_output: int

        def _get_available_context_size(self, num_prompt_tokens: int) -> int:
            context, answer = self._limits()
            return context - num_prompt_tokens - answer

        def _get_available_chunk_size(self, prompt: Any, num_chunks: int = 1, padding: int = 5, **more: Any) -> int:
            context, answer = self._limits()
            # The base class reserves 500 tokens for an answer to refine, also where answers are shorter.
            padding = min(padding, max(5, answer))
            room = int(super()._get_available_chunk_size(prompt, num_chunks, padding, **more))  # type: ignore[misc]
            if room <= 0 or room * num_chunks < _MIN_PASSAGE_TOKENS:
                raise ComponentError(
                    f"llm: a context_window of {context} tokens leaves {max(0, room)} for passages, beside {answer} of "
                    f"the answer and {context - answer - room} of prompt and question; set llm.context_window higher "
                    "or llm.max_tokens lower, or ask a shorter question"
                )
            return room

        def _limits(self) -> tuple[int, int]:
            metadata = llm.metadata
            return metadata.context_window, metadata.num_output if metadata.num_output > 0 else self.num_output

    class LivePromptHelper(LiveLimits, PromptHelper):
        pass

    class LiveChatPromptHelper(LiveLimits, ChatPromptHelper):
        pass

    tokenizer = llm_tokenizer(llm)
    helpers = LivePromptHelper(tokenizer=tokenizer), LiveChatPromptHelper(tokenizer=tokenizer)
    for helper in helpers:
        helper._token_counter = MessageCounter(tokenizer)
    return helpers


def llm_tokenizer(llm: LLM) -> Callable[[str], list[Any]]:
    """A function whose result has as many items as a text has tokens for the LLM, or a safe estimate."""
    if isinstance(llm, TokenCounter):
        return lambda text: [None] * llm.count_tokens(text)
    return _huggingface_llm_tokenizer(llm) or estimated_tokens


def _huggingface_llm_tokenizer(llm: LLM) -> Callable[[str], list[Any]] | None:
    """The tokenizer of LlamaIndex's HuggingFaceLLM, a private attribute; None for other classes."""
    tokenizer = getattr(llm, "_tokenizer", None)
    if not callable(getattr(tokenizer, "encode", None)):
        return None
    return lambda text: tokenizer.encode(text, add_special_tokens=False, verbose=False)  # type: ignore[union-attr,no-any-return]

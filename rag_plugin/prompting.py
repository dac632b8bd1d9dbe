"""How much context fits into a prompt, counted without LlamaIndex's global tokenizer, which is gpt-3.5's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .errors import ComponentError
from .tokens import estimated_tokens

if TYPE_CHECKING:
    from llama_index.core.indices.prompt_helper import ChatPromptHelper, PromptHelper
    from llama_index.core.llms import LLM


def prompt_helpers(llm: LLM) -> tuple[PromptHelper, ChatPromptHelper]:
    """The helpers that pack nodes into the context of this LLM, counting in its own tokens where it is in reach."""
    from llama_index.core.indices.prompt_helper import ChatPromptHelper, PromptHelper

    tokenizer = llm_tokenizer(llm)

    class Live(PromptHelper):
        """Asks the LLM for its limits when they are needed: what knows them may be a server."""

        def _get_available_context_size(self, num_prompt_tokens: int) -> int:
            return _available(self, llm, num_prompt_tokens)

    class LiveChat(ChatPromptHelper):
        def _get_available_context_size(self, num_prompt_tokens: int) -> int:
            return _available(self, llm, num_prompt_tokens)

    return Live(tokenizer=tokenizer), LiveChat(tokenizer=tokenizer)


def _available(helper: Any, llm: LLM, prompt: int) -> int:
    metadata = llm.metadata
    output = metadata.num_output if metadata.num_output > 0 else helper.num_output
    left = int(metadata.context_window - prompt - output)
    # What is less than this holds no passage; LlamaIndex would say that a size is not positive.
    if left < 16:
        raise ComponentError(
            f"llm: a context_window of {metadata.context_window} tokens leaves {max(0, left)} for passages, beside "
            f"{prompt} of the prompt and {output} of the answer; set llm.context_window higher, or llm.max_tokens lower"
        )
    return left


def llm_tokenizer(llm: LLM) -> Callable[[str], list[Any]]:
    """A function whose result has as many items as the LLM has tokens for a text, or a safe estimate."""
    count = getattr(llm, "count_tokens", None)
    if callable(count):
        return lambda text: [None] * count(text)
    own = getattr(llm, "_tokenizer", None)
    if callable(getattr(own, "encode", None)):
        return lambda text: own.encode(text, add_special_tokens=False, verbose=False)  # type: ignore[union-attr,no-any-return]
    return estimated_tokens

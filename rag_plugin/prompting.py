"""How much context fits into a prompt, counted without LlamaIndex's global tokenizer, which is gpt-3.5's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .tokens import estimated_tokens

if TYPE_CHECKING:
    from llama_index.core.indices.prompt_helper import ChatPromptHelper, PromptHelper
    from llama_index.core.llms import LLM


def prompt_helpers(llm: LLM) -> tuple[PromptHelper, ChatPromptHelper]:
    """The helpers that pack nodes into the context of this LLM, counting in its own tokens where it is in reach."""
    from llama_index.core.indices.prompt_helper import ChatPromptHelper, PromptHelper

    tokenizer = llm_tokenizer(llm)
    metadata = llm.metadata
    return (
        PromptHelper.from_llm_metadata(metadata, tokenizer=tokenizer),
        ChatPromptHelper.from_llm_metadata(metadata, tokenizer=tokenizer),
    )


def llm_tokenizer(llm: LLM) -> Callable[[str], list[Any]]:
    """A function whose result has as many items as the LLM has tokens for a text, or a safe estimate."""
    own = getattr(llm, "_tokenizer", None)
    if callable(getattr(own, "encode", None)):
        return lambda text: own.encode(text, add_special_tokens=False, verbose=False)  # type: ignore[union-attr,no-any-return]
    return estimated_tokens

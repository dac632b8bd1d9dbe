"""LlamaIndex's chat engines with an engine's parts, and with the errors of `RagEngine.query`."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.chat_engine import (
    CondensePlusContextChatEngine,
    CondenseQuestionChatEngine,
    ContextChatEngine,
    SimpleChatEngine,
)
from llama_index.core.chat_engine.condense_question import DEFAULT_PROMPT
from llama_index.core.chat_engine.types import BaseChatEngine, ChatMode
from llama_index.core.llms import LLM
from llama_index.core.memory import ChatMemoryBuffer

from ..errors import MissingLLM, QuestionError
from .llms.errors import llm_errors
from .llms.no_llm import NoLLM
from .llms.prompt_helpers import llm_tokenizer, prompt_helpers

if TYPE_CHECKING:
    from llama_index.core.chat_engine.types import AgentChatResponse, StreamingAgentChatResponse


class _Checked:
    """The checks of an engine's questions for a chat engine; errors of an LLM's client become `LLMError`."""

    _llm: LLM

    def chat(self, message: str, chat_history: list[ChatMessage] | None = None) -> AgentChatResponse:
        with llm_errors(self._llm):
            return super().chat(_text(message), chat_history)  # type: ignore[misc,no-any-return]

    def stream_chat(self, message: str, chat_history: list[ChatMessage] | None = None) -> StreamingAgentChatResponse:
        with llm_errors(self._llm):
            return super().stream_chat(_text(message), chat_history)  # type: ignore[misc,no-any-return]

    async def achat(self, message: str, chat_history: list[ChatMessage] | None = None) -> AgentChatResponse:
        with llm_errors(self._llm):
            return await super().achat(_text(message), chat_history)  # type: ignore[misc,no-any-return]

    async def astream_chat(
        self, message: str, chat_history: list[ChatMessage] | None = None
    ) -> StreamingAgentChatResponse:
        with llm_errors(self._llm):
            return await super().astream_chat(_text(message), chat_history)  # type: ignore[misc,no-any-return]

    def _get_response_synthesizer(self, chat_history: Sequence[ChatMessage], streaming: bool = False) -> Any:
        synthesizer = super()._get_response_synthesizer(chat_history, streaming)  # type: ignore[misc]
        # LlamaIndex takes the helper of the global Settings, or one with the tokenizer of gpt-3.5.
        synthesizer._prompt_helper, synthesizer._chat_prompt_helper = prompt_helpers(self._llm)
        return synthesizer


class _CondensePlusContext(_Checked, CondensePlusContextChatEngine):
    pass


class _CondenseQuestion(_Checked, CondenseQuestionChatEngine):
    pass


class _Context(_Checked, ContextChatEngine):
    pass


class _Simple(_Checked, SimpleChatEngine):
    pass


_CLASSES: dict[ChatMode, type[BaseChatEngine]] = {
    ChatMode.BEST: _CondensePlusContext,
    ChatMode.CONDENSE_PLUS_CONTEXT: _CondensePlusContext,
    ChatMode.CONDENSE_QUESTION: _CondenseQuestion,
    ChatMode.CONTEXT: _Context,
    ChatMode.SIMPLE: _Simple,
}


def new_chat_engine(
    mode: str,
    *,
    llm: LLM,
    retriever: BaseRetriever,
    query_engine: BaseQueryEngine,
    token_limit: int | None = None,
    chat_history: list[ChatMessage] | None = None,
    system_prompt: str | None = None,
    **settings: Any,
) -> BaseChatEngine:
    """A chat engine with memory.

    Args:
        mode: A `ChatMode`: `best`, `condense_plus_context`, `condense_question`, `context` or `simple`.
        llm: The LLM.
        retriever: Finds the nodes for a message.
        query_engine: Answers the questions of `condense_question`.
        token_limit: How many tokens of the conversation are kept; unset, half the LLM's context.
        chat_history: Earlier messages.
        system_prompt: An instruction to the LLM.
        settings: Other arguments of the chat engine; others are ignored, since they may concern the retriever.

    Raises:
        ValueError: There is no such mode.
        MissingLLM: There is no LLM.
    """
    cls = _CLASSES.get(mode)  # type: ignore[call-overload]
    if cls is None:
        modes = ", ".join(known.value for known in _CLASSES)
        raise ValueError(
            f"there is no chat mode {str(mode)!r}: it is one of {modes}; for an agent use engine.as_tool()"
        )
    if isinstance(llm, NoLLM):
        raise MissingLLM
    if settings.get("memory") is None:
        limit = token_limit or llm.metadata.context_window // 2
        settings["memory"] = ChatMemoryBuffer.from_defaults(
            chat_history=chat_history, token_limit=limit, tokenizer_fn=llm_tokenizer(llm)
        )
    accepted = inspect.signature(cls.__init__).parameters
    if "prefix_messages" in accepted:
        prefix = [] if system_prompt is None else [ChatMessage(content=system_prompt, role=llm.metadata.system_role)]
        settings["prefix_messages"] = settings.get("prefix_messages") or prefix
    elif system_prompt is not None and "system_prompt" not in accepted:
        raise ValueError(f"the chat mode {str(mode)!r} takes no system_prompt")
    arguments = {"llm": llm, "retriever": retriever, "system_prompt": system_prompt, **settings}
    if "query_engine" in accepted:
        arguments = {"condense_question_prompt": DEFAULT_PROMPT, **arguments, "query_engine": query_engine}
    # Not from_defaults, which uses the callback manager of the global Settings.
    return cls(**{name: value for name, value in arguments.items() if name in accepted})


def _text(message: str) -> str:
    if not isinstance(message, str):
        raise QuestionError(f"a message is text, not {type(message).__name__}")
    if not message.strip():
        raise QuestionError("the message is empty")
    return message

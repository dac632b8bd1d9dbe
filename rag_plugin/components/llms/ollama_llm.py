"""An Ollama LLM for any LlamaIndex code. Nothing is cut, ignored or repeated in silence. Importing loads LlamaIndex."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from llama_index.core.base.llms.generic_utils import (
    achat_to_completion_decorator,
    astream_chat_to_completion_decorator,
    chat_to_completion_decorator,
    stream_chat_to_completion_decorator,
)
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.bridge.pydantic import (
    BaseModel,
    Field,
    PrivateAttr,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_serializer,
    model_serializer,
)
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.llms.ollama import Ollama

from ...errors import AnswerBroken, CapabilityMissing, ContextOverflow, LLMError, ModelMissing
from ...ollama import async_bridge as bridge
from ...ollama.http import Limits
from ...ollama.model_state import ModelState, OnProgress
from ...ollama.options import check_options, check_own_options
from ...ollama.server import OllamaServer
from ...ollama.target import MASK, masked, masked_headers
from .ollama_request import ChatRequest

if TYPE_CHECKING:
    from llama_index.core.prompts import PromptTemplate
    from llama_index.core.tools import BaseTool

Model = TypeVar("Model", bound=BaseModel)

_INSTANT = (TextBlock, ThinkingBlock, ToolCallBlock)  # blocks of a message that are at hand

# What a call may say besides options, as Ollama's own client names it, and what LlamaIndex says with nothing to send.
_PER_CALL = ("tools", "think", "format", "keep_alive", "options")
_LEFT_OUT = ("tool_required", "tool_choice", "allow_parallel_tool_calls", "formatted")
_TIMES = "connect_timeout, first_token_timeout and token_timeout"
_UNUSED = {"request_timeout": _TIMES, "client": "base_url", "async_client": "base_url"}


class OllamaLLM(Ollama):
    """A `llama_index.llms.ollama.Ollama` that says what went wrong and keeps to what it was told.

    Building one talks to no server. Every failure is an `LLMError`, the same from all forms of asking. A prompt that
    is longer than the context is an error, never cut; an answer that was cut by `max_tokens` is told by a warning and
    `finish_reason` in `additional_kwargs`. It may be asked from any thread and in any number of event loops.

    Attributes:
        max_tokens: The most tokens of an answer.
        pull: Whether a model that is missing is downloaded to the server.
        context_window: Tokens that prompt and answer have together; -1 for 8,192 or the model's limit if that is less,
            asked when it is first needed.
    """

    max_tokens: int = Field(default=1024, gt=0)
    connect_timeout: float = Field(default=5.0, gt=0)
    first_token_timeout: float = Field(default=600.0, gt=0)
    token_timeout: float = Field(default=120.0, gt=0)
    retries: int = Field(default=2, ge=0)
    pull: str = "never"

    _found: tuple[tuple[Any, ...], ModelState] | None = PrivateAttr(default=None)

    def __init__(self, model: str, **fields: Any) -> None:
        for name in sorted(fields):  # the base class would pass over them
            if name in _UNUSED:
                raise TypeError(f"OllamaLLM does not use {name!r}: set {_UNUSED[name]}")
            if name not in type(self).model_fields:
                raise TypeError(f"OllamaLLM has no setting {name!r}")
        check_own_options(fields.get("additional_kwargs") or {})
        if MASK in (fields.get("headers") or {}).values() or f"//{MASK}@" in fields.get("base_url", ""):
            raise TypeError("credentials were left out when this was written: give headers and base_url again")
        super().__init__(model=model, **fields)

    @classmethod
    def class_name(cls) -> str:
        return "Ollama_llm"

    # ------------------------------------------------------------------ nothing that is written holds credentials

    @field_serializer("headers")
    def _masked_headers(self, headers: dict[str, str] | None) -> dict[str, str] | None:
        return masked_headers(headers)

    @field_serializer("base_url")
    def _masked_url(self, url: str) -> str:
        return masked(url)

    @model_serializer(mode="wrap")
    def custom_model_dump(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        """As LlamaIndex's, without a setting that is not used."""
        data: dict[str, Any] = {**handler(self), "class_name": self.class_name()}
        data.pop("request_timeout", None)
        return data

    def __repr_args__(self) -> Any:
        shown = {"headers": masked_headers(self.headers), "base_url": masked(self.base_url)}
        for name, value in super().__repr_args__():
            if name != "request_timeout":
                yield name, shown.get(str(name), value)

    def to_payload(self) -> dict[str, Any]:
        """What events say of this LLM. The server is not asked for it: an event may come in any event loop."""
        window = self._model_state.window or self.context_window
        return {"class_name": self.class_name(), **self._metadata(window).model_dump()}

    # ------------------------------------------------------------------ the server

    @property
    def server(self) -> OllamaServer:
        """The server, as this LLM speaks to it."""
        return self._model_state.server

    @property
    def _model_state(self) -> ModelState:
        # Target for each text that is counted, so it is only made where something has changed.
        times = (self.connect_timeout, self.first_token_timeout, self.token_timeout)
        made_of = (self.base_url, self.headers, times, self.retries, self.model, self.context_window, self.pull)
        found = self._found
        if found is None or found[0] != made_of:
            server = OllamaServer(self.base_url.rstrip("/"), self.headers or {}, Limits(*times), self.retries)
            found = made_of, ModelState(server, self.model, self.context_window, self.pull == "missing")
            self._found = found
        return found[1]

    def get_context_window(self) -> int:
        """Tokens. Asks the server once where the config does not say; the model's limit is kept once it is known."""
        known = self._model_state
        if known.window is None and self.context_window <= 0:
            return bridge.run(known.resolve_context())
        return known.window or self.context_window

    async def aget_context_window(self) -> int:
        """As `get_context_window`, without blocking the event loop; it always asks the server once."""
        return await self._model_state.resolve_context()

    def warm_up(self, on_progress: OnProgress | None = None) -> float:
        """Load the model on the server, so that the first question does not wait for it.

        Args:
            on_progress: Called with each progress line of a download: `status`, and `completed` of `total` bytes.

        Returns:
            The seconds that it took.
        """
        return bridge.run(self._warm_up(on_progress))

    async def _warm_up(self, on_progress: OnProgress | None) -> float:
        started, known = perf_counter(), self._model_state
        options = {name: value for name, value in self.additional_kwargs.items() if value is not None}
        options["num_ctx"] = await known.resolve_context(on_progress)
        body = {"model": self.model, "messages": [], "options": options}
        # With nothing to answer, 0 is how a model is unloaded.
        if self.keep_alive is not None and str(self.keep_alive).rstrip("hms") not in ("0", "0.0"):
            body["keep_alive"] = self.keep_alive

        async def load() -> None:
            async with aclosing(known.server.stream("/api/chat", body, model=self.model)) as lines:
                async for _ in lines:
                    pass

        await known.there(load, on_progress)
        return perf_counter() - started

    # ------------------------------------------------------------------ what LlamaIndex asks

    @property
    def metadata(self) -> LLMMetadata:
        """The context and how much of it answers get; see `get_context_window`."""
        return self._metadata(self.get_context_window())

    def _metadata(self, window: int) -> LLMMetadata:
        facts = self._model_state.info
        without_tools = facts is not None and bool(facts.capabilities) and "tools" not in facts.capabilities
        return LLMMetadata(
            context_window=window,
            num_output=self.max_tokens,
            model_name=self.model,
            is_chat_model=True,
            is_function_calling_model=self.is_function_calling_model and not without_tools,
        )

    def count_tokens(self, text: str) -> int:
        """About how many tokens a text has for this model, rather too many than too few.

        Measured on the prompts that it was sent; until then a token for each three bytes.
        """
        return self._model_state.counter.count(text)

    # ------------------------------------------------------------------ one way to ask

    async def _body(self, messages: Sequence[ChatMessage], given: dict[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in given.items() if name not in _LEFT_OUT and value is not None}
        extra = {name: given.pop(name) for name in _PER_CALL if name in given}
        max_tokens = given.pop("max_tokens", None)
        # Everything else is an option: the server would pass over a name that is none.
        given = {**dict(extra.get("options") or {}), **given}
        check_options(given)
        options = {"temperature": self.temperature, "num_predict": self.max_tokens, **self.additional_kwargs, **given}
        if max_tokens is not None:
            if max_tokens <= 0:
                raise ValueError(f"max_tokens must be greater than 0, not {max_tokens}")
            options["num_predict"] = max_tokens
        if options.get("num_ctx") is None:
            options["num_ctx"] = await self._model_state.resolve_context()
        body = {
            "model": self.model,
            "messages": await self._as_ollama_has_them(messages),
            "stream": True,
            "options": {name: value for name, value in options.items() if value is not None},
            # A prompt that does not fit is refused, and an answer that would push it out ends there.
            "truncate": False,
            "shift": False,
        }
        optional = {
            "tools": extra.get("tools"),
            "think": extra.get("think", self.thinking),
            "format": extra.get("format", "json" if self.json_mode else None),
            "keep_alive": extra.get("keep_alive", self.keep_alive),
        }
        body.update({name: value for name, value in optional.items() if value is not None})
        return body

    async def _as_ollama_has_them(self, messages: Sequence[ChatMessage]) -> Any:
        if all(isinstance(block, _INSTANT) for message in messages for block in message.blocks):
            return self._convert_to_ollama_messages(messages)
        # A picture may have to be fetched, and others wait in this loop.
        return await asyncio.to_thread(self._convert_to_ollama_messages, messages)

    async def _answer(
        self, messages: Sequence[ChatMessage], given: dict[str, Any], *, whole: bool = False
    ) -> AsyncGenerator[ChatResponse, None]:
        """The answer as it grows, or only the whole of it; the last response says why it ended."""
        known = self._model_state
        body = await self._body(messages, given)
        if body.get("tools"):
            can = (await known.fetch_info()).capabilities
            if can and "tools" not in can:
                raise known.target.error(
                    CapabilityMissing,
                    f"{known.target} does not support tools; it can do {', '.join(can)}",
                    ". After engine.warm_up() that is known, and LlamaIndex's routers and agents do without",
                )
        request = ChatRequest(body, known)
        refuses = await known.refuses_long_prompts()
        if refuses is False:
            request.check_length()
        pulled = not known.pull_missing
        while True:
            try:
                async with aclosing(known.server.stream("/api/chat", body, model=self.model)) as lines:
                    async for line in lines:
                        request.answer.add(line["message"])
                        reason = None
                        if line.get("done"):
                            if refuses is not True:
                                request.check_read(line, sure=refuses is None)
                            reason = request.finished(line, self.max_tokens)
                        if reason is not None or not whole:
                            yield request.answer.response(line, reason, whole=whole)
                return
            except ModelMissing:
                if pulled:
                    raise
                pulled = True
                await known.download()
            except ContextOverflow as error:
                if request.overflow is not None:
                    raise
                known.has_refused()
                raise request.too_long() from error

    # ------------------------------------------------------------------ the forms of asking

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """The whole answer."""
        return bridge.run(self._last(messages, kwargs))

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """The whole answer."""
        return await self._last(messages, kwargs)

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """The answer as it grows; letting go of it ends the work on the server."""
        return bridge.iterate(self._answer(messages, kwargs))

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """The answer as it grows; letting go of it ends the work on the server."""
        return self._answer(messages, kwargs)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """The whole answer to a text."""
        return chat_to_completion_decorator(self.chat)(prompt, **kwargs)

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """The whole answer to a text."""
        return await achat_to_completion_decorator(self.achat)(prompt, **kwargs)

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """The answer to a text as it grows."""
        return stream_chat_to_completion_decorator(self.stream_chat)(prompt, **kwargs)

    @llm_completion_callback()
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """The answer to a text as it grows."""
        return await astream_chat_to_completion_decorator(self.astream_chat)(prompt, **kwargs)

    async def _last(self, messages: Sequence[ChatMessage], given: dict[str, Any]) -> ChatResponse:
        response: ChatResponse | None = None
        async for grown in self._answer(messages, given, whole=True):
            response = grown
        if response is None:
            raise self._model_state.target.error(LLMError, f"{self._model_state.target} gave no answer")
        response.delta = None
        return response

    # ------------------------------------------------------------------ tools and forms

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        # LlamaIndex's adds to the history that it was given, and drops what else the call says.
        history = list(chat_history or [])
        return {**super()._prepare_chat_with_tools(list(tools), user_msg, history), **kwargs}

    def structured_predict(
        self, output_cls: type[Model], prompt: PromptTemplate, llm_kwargs: dict[str, Any] | None = None, **values: Any
    ) -> Model:
        """An object of this class, by its JSON schema."""
        with self._whole_form(output_cls):
            return super().structured_predict(output_cls, prompt, llm_kwargs, **values)

    async def astructured_predict(
        self, output_cls: type[Model], prompt: PromptTemplate, llm_kwargs: dict[str, Any] | None = None, **values: Any
    ) -> Model:
        """An object of this class, by its JSON schema."""
        with self._whole_form(output_cls):
            return await super().astructured_predict(output_cls, prompt, llm_kwargs, **values)

    @contextmanager
    def _whole_form(self, output_cls: type[BaseModel]) -> Iterator[None]:
        try:
            yield
        except ValidationError as error:
            target, first = self._model_state.target, error.errors()[0]
            raise target.error(
                AnswerBroken,
                f"the answer of {target} is no whole {output_cls.__name__}: {first['msg']}",
                "; if it was cut, set llm.max_tokens higher",
            ) from error

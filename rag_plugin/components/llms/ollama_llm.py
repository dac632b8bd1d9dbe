"""An Ollama LLM for any LlamaIndex code, with typed errors and without silently cut prompts.

Importing this module loads LlamaIndex.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
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
from llama_index.core.llms.callbacks import llm_chat_callback

from ...errors import AnswerBroken, CapabilityMissing, ContextOverflow, LLMError, ModelMissing
from ...ollama import async_bridge as bridge
from ...ollama import limits
from ...ollama.model_state import ModelState, OnProgress
from ...ollama.options import check_options
from ...ollama.server import OllamaServer
from ...ollama.target import MASK, masked, masked_headers, normalize_address
from .ollama_request import ChatRequest
from .plain_environment import plain_environment

with plain_environment():
    from llama_index.llms.ollama import Ollama

if TYPE_CHECKING:
    from llama_index.core.prompts import PromptTemplate
    from llama_index.core.tools import BaseTool

Model = TypeVar("Model", bound=BaseModel)

_LOCAL_BLOCKS = (TextBlock, ThinkingBlock, ToolCallBlock)  # blocks whose conversion fetches nothing

# Arguments of a call besides model options, by their names in Ollama's client; LlamaIndex's arguments without effect.
_BODY_ARGUMENTS = ("tools", "think", "format", "keep_alive", "options")
_IGNORED_ARGUMENTS = ("tool_required", "tool_choice", "allow_parallel_tool_calls", "formatted")
_REPLACED_FIELDS = {
    "request_timeout": "connect_timeout, first_token_timeout and token_timeout",
    "client": "base_url",
    "async_client": "base_url",
}


class OllamaLLM(Ollama):
    """A `llama_index.llms.ollama.Ollama` with typed errors, time limits, retries and an enforced context.

    Building one sends no request. Every failure is an `LLMError`, the same from all methods. A prompt that exceeds the
    context is an error, never cut; an answer cut by `max_tokens` is reported by a warning and by `finish_reason` in
    `additional_kwargs`. Usable from any thread and any number of event loops.

    Attributes:
        max_tokens: Maximum tokens of an answer.
        pull: `missing`: the server downloads a missing model at the first question.
        split_thinking: Whether `<think>...</think>` at the beginning of an answer is a `ThinkingBlock`.
        context_window: Tokens of prompt and answer together; -1 for 8,192, or the model's maximum if that is less,
            which is read from the server at first use.
    """

    max_tokens: int = Field(default=limits.MAX_ANSWER_TOKENS, gt=0)
    connect_timeout: float = Field(default=limits.CONNECT_TIMEOUT_SECONDS, gt=0)
    first_token_timeout: float = Field(default=limits.FIRST_TOKEN_TIMEOUT_SECONDS, gt=0)
    token_timeout: float = Field(default=limits.TOKEN_TIMEOUT_SECONDS, gt=0)
    retries: int = Field(default=limits.RETRIES, ge=0)
    pull: str = "never"
    split_thinking: bool = True

    _cached_state: tuple[tuple[Any, ...], ModelState] | None = PrivateAttr(default=None)

    def __init__(self, model: str, **fields: Any) -> None:
        for name in sorted(fields):  # the base class would ignore them
            if name in _REPLACED_FIELDS:
                raise TypeError(f"OllamaLLM does not use {name!r}: set {_REPLACED_FIELDS[name]}")
            if name not in type(self).model_fields:
                raise TypeError(f"OllamaLLM has no setting {name!r}")
        check_options(fields.get("additional_kwargs") or {}, for_all_calls=True)
        if MASK in (fields.get("headers") or {}).values() or f"//{MASK}@" in fields.get("base_url", ""):
            raise TypeError("credentials are masked in serialized data: pass headers and base_url again")
        super().__init__(model=model, **fields)

    # ------------------------------------------------------------------ serialization without credentials

    @field_serializer("headers")
    def _masked_headers(self, headers: dict[str, str] | None) -> dict[str, str] | None:
        return masked_headers(headers)

    @field_serializer("base_url")
    def _masked_url(self, url: str) -> str:
        return masked(url)

    @model_serializer(mode="wrap")
    def custom_model_dump(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        """As the base class, without the unused `request_timeout`."""
        data: dict[str, Any] = {**handler(self), "class_name": self.class_name()}
        data.pop("request_timeout", None)
        return data

    def __repr_args__(self) -> Any:
        replaced = {"headers": masked_headers(self.headers), "base_url": masked(self.base_url)}
        for name, value in super().__repr_args__():
            if name != "request_timeout":
                yield name, replaced.get(str(name), value)

    def to_payload(self) -> dict[str, Any]:
        """Description for events. Sends no request: an event may be handled in any event loop."""
        context = self._state.context or self.context_window
        return {"class_name": self.class_name(), **self._metadata(context).model_dump()}

    # ------------------------------------------------------------------ the server

    @property
    def server(self) -> OllamaServer:
        """The client of the server, with this LLM's settings."""
        return self._state.server

    @property
    def _state(self) -> ModelState:
        # Read for every counted text, so it is rebuilt only when a field changes.
        times = (self.connect_timeout, self.first_token_timeout, self.token_timeout)
        fields = (self.base_url, self.headers, times, self.retries, self.model, self.context_window, self.pull)
        cached = self._cached_state
        if cached is None or cached[0] != fields:
            server = OllamaServer(self.base_url.rstrip("/"), self.headers or {}, limits.Limits(*times), self.retries)
            cached = fields, ModelState(server, self.model, self.context_window, self.pull == "missing")
            self._cached_state = cached
        return cached[1]

    def get_context_window(self) -> int:
        """Context in tokens: the configured one, limited by the model once that is known; read once where unset."""
        state = self._state
        if state.context is None and self.context_window <= 0:
            return bridge.run(state.resolve_context())
        return state.context or self.context_window

    async def aget_context_window(self) -> int:
        """Context in tokens, always limited by the model's maximum, which is read from the server once."""
        return await self._state.resolve_context()

    def warm_up(self, on_progress: OnProgress | None = None) -> float:
        """Load the model on the server.

        Args:
            on_progress: Called with each progress line of a download: `status`, and `completed` of `total` in bytes.

        Returns:
            The seconds it took.
        """
        return bridge.run(self._warm_up(on_progress))

    async def _warm_up(self, on_progress: OnProgress | None) -> float:
        started, state = perf_counter(), self._state
        await state.check_version()
        options = {name: value for name, value in self.additional_kwargs.items() if value is not None}
        options["num_ctx"] = await state.resolve_context(on_progress)
        body = {"model": self.model, "messages": [], "options": options}
        # Without messages, a keep_alive of 0 would unload the model.
        if self.keep_alive is not None and str(self.keep_alive).rstrip("hms") not in ("0", "0.0"):
            body["keep_alive"] = self.keep_alive

        async def load() -> None:
            async with aclosing(state.server.stream("/api/chat", body, model=self.model)) as lines:
                async for _ in lines:
                    pass

        await state.with_model(load, on_progress)
        return perf_counter() - started

    # ------------------------------------------------------------------ metadata

    @property
    def metadata(self) -> LLMMetadata:
        """Context and maximum answer in tokens; see `get_context_window`."""
        return self._metadata(self.get_context_window())

    def _metadata(self, context: int) -> LLMMetadata:
        info = self._state.info
        without_tools = info is not None and bool(info.capabilities) and "tools" not in info.capabilities
        return LLMMetadata(
            context_window=context,
            num_output=self.max_tokens,
            model_name=self.model,
            is_chat_model=True,
            is_function_calling_model=self.is_function_calling_model and not without_tools,
        )

    def count_tokens(self, text: str) -> int:
        """Over-estimates a text's tokens: calibrated on earlier prompts, until then one token for three bytes."""
        return self._state.estimator.count(text)

    # ------------------------------------------------------------------ one request for all methods

    async def _body(self, messages: Sequence[ChatMessage], arguments: dict[str, Any]) -> dict[str, Any]:
        options = {
            name: value for name, value in arguments.items() if name not in _IGNORED_ARGUMENTS and value is not None
        }
        body_arguments = {name: options.pop(name) for name in _BODY_ARGUMENTS if name in options}
        max_tokens = options.pop("max_tokens", None)
        # All other arguments are model options; the server would ignore an unknown name.
        options = {**dict(body_arguments.get("options") or {}), **options}
        check_options(options)
        options = {"temperature": self.temperature, "num_predict": self.max_tokens, **self.additional_kwargs, **options}
        if max_tokens is not None:
            if max_tokens <= 0:
                raise ValueError(f"max_tokens must be greater than 0, not {max_tokens}")
            options["num_predict"] = max_tokens
        if options.get("num_ctx") is None:
            options["num_ctx"] = await self._state.resolve_context()
        body = {
            "model": self.model,
            "messages": await self._converted(messages),
            "stream": True,
            "options": {name: value for name, value in options.items() if value is not None},
            "truncate": False,  # a prompt that exceeds the context is rejected
            "shift": False,  # an answer that fills the context ends there; the prompt is kept
        }
        optional = {
            "tools": body_arguments.get("tools"),
            "think": body_arguments.get("think", self.thinking),
            "format": body_arguments.get("format", "json" if self.json_mode else None),
            "keep_alive": body_arguments.get("keep_alive", self.keep_alive),
        }
        body.update({name: value for name, value in optional.items() if value is not None})
        return body

    async def _converted(self, messages: Sequence[ChatMessage]) -> Any:
        if all(isinstance(block, _LOCAL_BLOCKS) for message in messages for block in message.blocks):
            return self._convert_to_ollama_messages(messages)
        # In a thread: an image may have to be downloaded, which would block the event loop.
        return await asyncio.to_thread(self._convert_to_ollama_messages, messages)

    async def _answer(
        self, messages: Sequence[ChatMessage], arguments: dict[str, Any], *, complete: bool = False
    ) -> AsyncGenerator[ChatResponse, None]:
        """The streamed answer, or with `complete` its last response only, which has the finish reason."""
        state = self._state
        await state.check_version()
        body = await self._body(messages, arguments)
        if body.get("tools"):
            capabilities = (await state.fetch_info()).capabilities
            if capabilities and "tools" not in capabilities:
                raise state.target.error(
                    CapabilityMissing,
                    f"{state.target} does not support tools; its capabilities are {', '.join(capabilities)}",
                    ". Call engine.warm_up() first: LlamaIndex's routers and agents then work without tools",
                )
        request = ChatRequest(body, state, split_thinking=self.split_thinking)
        can_pull = state.pull_missing
        while True:
            try:
                async with aclosing(state.server.stream("/api/chat", body, model=self.model)) as lines:
                    async for line in lines:
                        request.answer.add(line["message"], last=bool(line.get("done")))
                        reason = request.finish(line, self.max_tokens) if line.get("done") else None
                        if reason is not None or not complete:
                            yield request.answer.response(line, reason, complete=complete)
                return
            except ModelMissing:
                if not can_pull:
                    raise
                can_pull = False
                await state.download()
            except ContextOverflow as error:
                raise request.overflow() from error

    # ------------------------------------------------------------------ methods that also serve `complete`

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return bridge.run(self._complete_answer(messages, kwargs))

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return await self._complete_answer(messages, kwargs)

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """The streamed answer; closing the generator stops the server."""
        return bridge.iterate(self._answer(messages, kwargs))

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """The streamed answer; closing the generator stops the server."""
        return self._answer(messages, kwargs)

    async def _complete_answer(self, messages: Sequence[ChatMessage], arguments: dict[str, Any]) -> ChatResponse:
        response: ChatResponse | None = None
        async for last in self._answer(messages, arguments, complete=True):
            response = last
        if response is None:
            raise self._state.target.error(LLMError, f"{self._state.target} returned no answer")
        response.delta = None
        return response

    # ------------------------------------------------------------------ tools and structured answers

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
        # The base class appends to the caller's history and drops other arguments.
        return {**super()._prepare_chat_with_tools(list(tools), user_msg, list(chat_history or [])), **kwargs}

    def structured_predict(
        self, output_cls: type[Model], prompt: PromptTemplate, llm_kwargs: dict[str, Any] | None = None, **values: Any
    ) -> Model:
        """An object of `output_cls`, by its JSON schema."""
        with self._validated(output_cls):
            return super().structured_predict(output_cls, prompt, llm_kwargs, **values)

    async def astructured_predict(
        self, output_cls: type[Model], prompt: PromptTemplate, llm_kwargs: dict[str, Any] | None = None, **values: Any
    ) -> Model:
        """An object of `output_cls`, by its JSON schema."""
        with self._validated(output_cls):
            return await super().astructured_predict(output_cls, prompt, llm_kwargs, **values)

    @contextmanager
    def _validated(self, output_cls: type[BaseModel]) -> Iterator[None]:
        try:
            yield
        except ValidationError as error:
            target, first = self._state.target, error.errors()[0]
            raise target.error(
                AnswerBroken,
                f"the answer of {target} is not a complete {output_cls.__name__}: {first['msg']}",
                "; if it was cut, set llm.max_tokens higher",
            ) from error


def build_ollama_llm(
    *,
    base_url: str,
    context_window: int | None,
    seed: int | None,
    stop: tuple[str, ...],
    top_p: float | None,
    top_k: int | None,
    repeat_penalty: float | None,
    options: dict[str, Any] | None,
    **fields: Any,
) -> OllamaLLM:
    """Builds an `OllamaLLM` from the settings of component `ollama`; those that are its fields are passed on."""
    named = {"seed": seed, "top_p": top_p, "top_k": top_k, "repeat_penalty": repeat_penalty, "stop": list(stop) or None}
    return OllamaLLM(
        base_url=normalize_address(base_url),
        context_window=context_window or -1,
        additional_kwargs={**{name: value for name, value in named.items() if value is not None}, **(options or {})},
        **fields,
    )

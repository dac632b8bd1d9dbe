"""An Ollama LLM for any LlamaIndex code. Nothing is cut, ignored or repeated in silence. Importing loads LlamaIndex."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from time import perf_counter
from typing import Any

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
)
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.llms.ollama import Ollama

from .. import bridge
from ..errors import AccessRefused, AnswerBroken, CapabilityMissing, ContextOverflow, LLMError, ModelMissing, NotOllama
from ..finishing import note_finish_reason
from .asked import Asked
from .counting import TokenCounter, size_of
from .exchange import Limits
from .facts import ModelFacts
from .growing import GrowingAnswer
from .options import check_options
from .server import OllamaServer, refuses_long_prompts

_log = logging.getLogger(__package__)

# What a call may say besides options, as Ollama's own client names it.
_PER_CALL = ("tools", "think", "format", "keep_alive", "options")
_LEFT_OUT = ("tool_required", "allow_parallel_tool_calls", "formatted")  # LlamaIndex's own, with nothing to send


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

    _facts: ModelFacts | None = PrivateAttr(default=None)
    _window: int | None = PrivateAttr(default=None)
    _knows_truncate: bool | None = PrivateAttr(default=None)
    _counter: TokenCounter = PrivateAttr(default_factory=TokenCounter)

    def __init__(self, model: str, **fields: Any) -> None:
        unknown = sorted(set(fields) - set(type(self).model_fields) - {"client", "async_client"})
        if unknown:  # the base class would pass over them
            raise TypeError(f"OllamaLLM has no setting {unknown[0]!r}")
        check_options(fields.get("additional_kwargs") or {})
        super().__init__(model=model, **fields)

    @classmethod
    def class_name(cls) -> str:
        return "Ollama_llm"

    def __repr_args__(self) -> Any:
        # Headers hold credentials.
        for name, value in super().__repr_args__():
            yield name, ({key: "***" for key in value} if name == "headers" and value else value)

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """As LlamaIndex's, the headers' values masked."""
        data: dict[str, Any] = super().to_dict(**kwargs)
        if data.get("headers"):
            data["headers"] = {name: "***" for name in data["headers"]}
        return data

    # ------------------------------------------------------------------ the server

    @property
    def server(self) -> OllamaServer:
        """The server, as this LLM speaks to it."""
        limits = Limits(self.connect_timeout, self.first_token_timeout, self.token_timeout)
        return OllamaServer(self.base_url.rstrip("/"), self.headers or {}, limits, self.retries)

    @property
    def _asked(self) -> Asked:
        return self.server.asked(self.model)

    def get_context_window(self) -> int:
        """Tokens. Asks the server once where the config does not say; the model's limit is kept once it is known."""
        if self._window is not None:
            return self._window
        return self.context_window if self.context_window > 0 else bridge.run(self._context())

    async def _context(self, say: Callable[[Mapping[str, Any]], Any] | None = None) -> int:
        """The tokens that each request asks for; the server would take those beyond the model's limit for less."""
        if self._window is None:
            said = self.context_window
            try:
                self._window = (await self._look(say)).window(said)
            except (AccessRefused, NotOllama):
                if said <= 0:
                    raise
                self._window = said  # something between may let nothing pass but questions
            if self._window < said:
                _log.warning(
                    "llm.context_window is %s, and %s has at most %s: that much is taken",
                    *(f"{said:,}", self._asked, f"{self._window:,}"),
                )
        return self._window

    async def _look(self, say: Callable[[Mapping[str, Any]], Any] | None = None) -> ModelFacts:
        """What the server knows of the model, asked once."""
        if self._facts is None:
            self._facts = ModelFacts.of(await self._with_model(lambda: self.server.show(self.model), say))
        return self._facts

    async def _with_model(self, ask: Callable[[], Any], say: Callable[[Mapping[str, Any]], Any] | None = None) -> Any:
        """What `ask` gives; a model that is missing is downloaded first where the settings say so."""
        try:
            return await ask()
        except ModelMissing:
            if self.pull != "missing":
                raise
            await self.download(say)
            return await ask()

    async def download(self, say: Callable[[Mapping[str, Any]], Any] | None = None) -> None:
        """Download the model to the server.

        Args:
            say: Gets each line of progress: `status`, and `completed` of `total` bytes.
        """
        _log.warning("downloading the model %r to the server at %s", self.model, self.base_url)
        async for line in self.server.pull(self.model):
            if say is not None:
                say(line)

    def warm_up(self, say: Callable[[Mapping[str, Any]], Any] | None = None) -> float:
        """Load the model on the server, so that the first question does not wait for it.

        Args:
            say: Gets each line of progress where the model is downloaded first, as for `download`.

        Returns:
            The seconds that it took.
        """
        return bridge.run(self._warm_up(say))

    async def _warm_up(self, say: Callable[[Mapping[str, Any]], Any] | None) -> float:
        started = perf_counter()
        context = await self._context(say)
        options = {name: value for name, value in self.additional_kwargs.items() if value is not None}
        body = {"model": self.model, "messages": [], "options": {**options, "num_ctx": context}}
        if self.keep_alive is not None:
            body["keep_alive"] = self.keep_alive

        async def load() -> None:
            async with aclosing(self.server.stream("/api/chat", body, model=self.model)) as lines:
                async for _ in lines:
                    pass

        await self._with_model(load, say)
        return perf_counter() - started

    # ------------------------------------------------------------------ what LlamaIndex asks

    @property
    def metadata(self) -> LLMMetadata:
        """The context and how much of it answers get; see `get_context_window`."""
        return LLMMetadata(
            context_window=self.get_context_window(),
            num_output=self.max_tokens,
            model_name=self.model,
            is_chat_model=True,
            is_function_calling_model=self.is_function_calling_model,
        )

    def count_tokens(self, text: str) -> int:
        """About how many tokens a text has for this model, rather too many than too few.

        Measured on the prompts that it was sent; until then a token for each three bytes.
        """
        return self._counter.count(text)

    # ------------------------------------------------------------------ one way to ask

    async def _body(self, messages: Sequence[ChatMessage], given: dict[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in given.items() if name not in _LEFT_OUT}
        options = {**self._model_kwargs_without_context(), **dict(given.pop("options", None) or {})}
        extra = {name: given.pop(name) for name in _PER_CALL if name in given}
        max_tokens = given.pop("max_tokens", None)
        if max_tokens is not None:
            options["num_predict"] = max_tokens
        check_options(given)  # everything else is an option: a name that is none would be ignored by the server
        options.update(given)
        options.setdefault("num_ctx", await self._context())
        think = extra["think"] if "think" in extra else self.thinking
        answer_format = extra["format"] if "format" in extra else ("json" if self.json_mode else None)
        keep_alive = extra["keep_alive"] if "keep_alive" in extra else self.keep_alive
        body = {
            "model": self.model,
            "messages": self._convert_to_ollama_messages(messages),
            "stream": True,
            "options": {name: value for name, value in options.items() if value is not None},
            # A prompt that does not fit is refused, and an answer that would push it out ends there.
            "truncate": False,
            "shift": False,
        }
        optional = {"tools": extra.get("tools"), "think": think, "format": answer_format, "keep_alive": keep_alive}
        body.update({name: value for name, value in optional.items() if value is not None})
        return body

    def _model_kwargs_without_context(self) -> dict[str, Any]:
        return {"temperature": self.temperature, "num_predict": self.max_tokens, **self.additional_kwargs}

    async def _answer(
        self, messages: Sequence[ChatMessage], given: dict[str, Any], *, whole: bool = False
    ) -> AsyncGenerator[ChatResponse, None]:
        """The answer as it grows, or only the whole of it; the last response says why it ended."""
        body = await self._body(messages, given)
        if body.get("tools"):
            can = (await self._look()).capabilities
            if can and "tools" not in can:
                raise self._asked.error(
                    CapabilityMissing, f"{self._asked} does not support tools; it can do {', '.join(can)}"
                )
        prompt = [str(message["content"]) for message in body["messages"]]
        size = sum(map(size_of, prompt))
        answer = GrowingAnswer()
        pulled = self.pull != "missing"
        while True:
            try:
                async with aclosing(self.server.stream("/api/chat", body, model=self.model)) as lines:
                    async for line in lines:
                        answer.add(line["message"])
                        reason = None
                        if line.get("done"):
                            if self._seems_cut(line, size, body) and not await self._refuses_long_prompts():
                                raise self._overflow(prompt, body)
                            reason = self._finished(line, size, body, answer)
                        if reason is not None or not whole:
                            yield answer.response(line, reason)
                return
            except ModelMissing:
                if pulled:
                    raise
                pulled = True
                await self.download()
            except ContextOverflow as error:
                raise self._overflow(prompt, body) from error

    def _seems_cut(self, line: Mapping[str, Any], size: int, body: Mapping[str, Any]) -> bool:
        """Whether the server may have cut the prompt, as those do that do not know `truncate`."""
        prompt, context = int(line.get("prompt_eval_count") or 0), int(body["options"]["num_ctx"])
        expected = self._counter.expected(size)
        return bool(prompt) and (prompt >= context or (expected > context and prompt < expected / 2))

    async def _refuses_long_prompts(self) -> bool:
        """Whether the server knows `truncate`, so that it never cuts."""
        if self._knows_truncate is None:
            try:
                self._knows_truncate = refuses_long_prompts(await self.server.version())
            except LLMError:
                return False
        return self._knows_truncate

    def _finished(self, line: Mapping[str, Any], size: int, body: Mapping[str, Any], grown: GrowingAnswer) -> str:
        """Why the answer ended; what is wrong with it is told here."""
        prompt, answer = int(line.get("prompt_eval_count") or 0), int(line.get("eval_count") or 0)
        context = int(body["options"]["num_ctx"])
        self._counter.measured(size, prompt)
        reason = str(line.get("done_reason") or "stop")
        note_finish_reason(reason)
        limit = int(body["options"].get("num_predict") or 0)
        if reason == "length":
            full = bool(prompt) and prompt + answer >= context - 1 and answer < limit
            if full or limit == self.max_tokens:  # whoever gave another limit for this call knows of it
                cure = "llm.context_window" if full else "llm.max_tokens"
                _log.warning(
                    "the answer of %r was cut after %d tokens; set %s higher for longer ones", self.model, answer, cure
                )
        elif grown.is_empty and body["messages"]:
            raise self._asked.error(
                AnswerBroken,
                f"{self._asked} {'thought, and then ' if grown.thinking else ''}gave an empty answer; ask in other "
                "words, or take another model",
            )
        return reason

    def _overflow(self, prompt: Sequence[str], body: Mapping[str, Any]) -> ContextOverflow:
        self._counter.too_long()
        size = sum(len(text.encode("utf-8", "surrogatepass")) for text in prompt)
        context = int(body["options"]["num_ctx"])
        return self._asked.error(
            ContextOverflow,
            f"a prompt of {size:,} bytes is longer than the context of {context:,} tokens that {self._asked} has; set "
            "llm.context_window higher, or retriever.top_k lower",
        )

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
            raise self._asked.error(LLMError, f"{self._asked} gave no answer")
        response.delta = None
        return response

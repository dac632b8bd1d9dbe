"""What is said to an Ollama server and what it answers: one request at a time, each failure an error of its own class.

A connection lives as long as its request, so nothing is tied to an event loop that may be closed by the next question.
"""

from __future__ import annotations

import asyncio
import difflib
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar

import httpx

from ..errors import (
    AccessRefused,
    AnswerBroken,
    CapabilityMissing,
    ContextOverflow,
    LLMError,
    LLMTimeout,
    LoadFailed,
    ModelMissing,
    NotOllama,
    PullFailed,
    ServerBusy,
    ServerUnreachable,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """Seconds: to connect, from the request to the first piece of the answer, and from one piece to the next."""

    connect: float = 5.0
    first_token: float = 600.0
    token: float = 120.0


@dataclass(frozen=True)
class OllamaServer:
    """An Ollama server.

    Attributes:
        url: Where it listens.
        headers: Sent with each request; shown nowhere.
        limits: How long it may take.
        retries: How often a request is sent again that the server did not take: while it starts, or is busy.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    limits: Limits = Limits()
    retries: int = 2

    # ------------------------------------------------------------------ requests

    async def ask(self, path: str, body: Mapping[str, Any] | None = None, *, model: str = "") -> dict[str, Any]:
        """The answer to a request that is answered at once: GET without a body, else POST.

        Raises:
            LLMError: Of the class that says what went wrong.
        """

        async def once() -> dict[str, Any]:
            async with self._answer(path, body, model, self.limits.token, "token_timeout") as response:
                return self._object(await self._in_time(response.aread(), self.limits.token, "token_timeout", model))

        return await self._patiently(once)

    async def stream(self, path: str, body: Mapping[str, Any], *, model: str) -> AsyncGenerator[dict[str, Any], None]:
        """The lines of a streamed answer, the last of which has `done: true`.

        Raises:
            LLMError: Of the class that says what went wrong; `AnswerBroken` where the stream ends before it is done.
        """
        attempt = 0
        while True:
            given = False
            try:
                async for line in self._stream_once(path, body, model):
                    given = True
                    yield line
                return
            except (ServerUnreachable, ServerBusy) as error:
                # Once something of an answer was given out, asking again would give it out twice.
                if given or attempt >= self.retries:
                    raise
                await asyncio.sleep(_pause(error, attempt))
                attempt += 1

    async def _stream_once(
        self, path: str, body: Mapping[str, Any], model: str
    ) -> AsyncGenerator[dict[str, Any], None]:
        first = True
        rest = b""
        async with self._answer(path, body, model, self.limits.first_token, "first_token_timeout") as response:
            pieces = response.aiter_bytes().__aiter__()
            while True:
                limit, name = (
                    (self.limits.first_token, "first_token_timeout") if first else (self.limits.token, "token_timeout")
                )
                try:
                    piece = await self._in_time(pieces.__anext__(), limit, name, model)
                except StopAsyncIteration:
                    break
                *lines, rest = (rest + piece).split(b"\n")
                for line in filter(None, map(bytes.strip, lines)):
                    found = self._line(line, model)
                    first = False
                    yield found
                    if found.get("done"):
                        return
            if rest.strip():
                found = self._line(rest.strip(), model)
                yield found
                if found.get("done"):
                    return
        raise AnswerBroken(
            f"the answer of {model!r} at {self.url} broke off before it was done: the server or something between "
            "closed the connection; ask again, and look into the server's log if it happens again",
            self.url,
            model,
        )

    @asynccontextmanager
    async def _answer(
        self, path: str, body: Mapping[str, Any] | None, model: str, limit: float, name: str
    ) -> AsyncIterator[httpx.Response]:
        """The response, whose body is still to be read; a status that says no becomes an error."""
        seconds = httpx.Timeout(None, connect=self.limits.connect)
        method = "GET" if body is None else "POST"
        async with httpx.AsyncClient(
            base_url=self.url, headers=dict(self.headers), timeout=seconds, verify=_verify(self.url), trust_env=False
        ) as client:
            request = client.build_request(method, path, json=None if body is None else dict(body))
            with_errors = self._translated(model)
            async with with_errors:
                response = await self._in_time(client.send(request, stream=True), limit, name, model)
                try:
                    if response.status_code != 200:
                        text = await self._in_time(response.aread(), self.limits.token, "token_timeout", model)
                        raise await self._refusal(response, text, model)
                    if "html" in response.headers.get("content-type", ""):
                        raise self._not_ollama("a web page", model)
                    yield response
                finally:
                    await response.aclose()

    async def _in_time(self, work: Awaitable[T], limit: float, name: str, model: str) -> T:
        try:
            return await asyncio.wait_for(work, limit)
        except asyncio.TimeoutError as error:
            what = {
                "first_token_timeout": "did not begin to answer within",
                "token_timeout": "went silent for more than",
            }[name]
            timeout = LLMTimeout(
                f"{model or 'the server'!r} at {self.url} {what} {limit:g} s; if it is only slow, set "
                f"llm.{name} higher",
                self.url,
                model,
            )
            timeout.limit = name
            raise timeout from error

    async def _patiently(self, once: Any) -> Any:
        for attempt in range(self.retries + 1):
            try:
                return await once()
            except (ServerUnreachable, ServerBusy) as error:
                if attempt == self.retries:
                    raise
                await asyncio.sleep(_pause(error, attempt))

    # ------------------------------------------------------------------ answers

    def _object(self, raw: bytes) -> dict[str, Any]:
        try:
            found = json.loads(raw)
        except ValueError as error:
            raise self._not_ollama("something that is no JSON", "") from error
        if not isinstance(found, dict):
            raise self._not_ollama("JSON of another form", "")
        return found

    def _line(self, raw: bytes, model: str) -> dict[str, Any]:
        try:
            found = json.loads(raw)
        except ValueError as error:
            shown = raw[:80].decode("utf-8", "replace")
            raise AnswerBroken(
                f"the answer of {model!r} at {self.url} holds a line that is no JSON: {shown!r}; something between may "
                "have changed it",
                self.url,
                model,
            ) from error
        if not isinstance(found, dict):
            raise self._not_ollama("JSON of another form", model)
        if "error" in found:
            raise self._failure(200, str(found["error"]), model)
        return found

    async def _refusal(self, response: httpx.Response, raw: bytes, model: str) -> LLMError:
        status = response.status_code
        if response.is_redirect:
            return self._not_ollama(f"a redirection to {response.headers.get('location', 'elsewhere')}", model)
        if status in (401, 403):
            return AccessRefused(
                f"the server at {self.url} refuses access ({status}): put what it wants into llm.headers, such as "
                "{Authorization: 'Bearer ${NAME}'}",
                self.url,
                model,
            )
        try:
            found = json.loads(raw)
            text = str(found["error"])
        except (ValueError, KeyError, TypeError):
            if status == 503:
                return self._busy(response, "it answers 503", model)
            return self._not_ollama(f"an answer {status} that is none of Ollama's", model)
        if status == 503:
            return self._busy(response, text, model)
        if status == 404 and "not found" in text:
            return await self._missing(model)
        return self._failure(status, text, model)

    def _failure(self, status: int, text: str, model: str) -> LLMError:
        """An error that the server tells in words of its own."""
        said = text.lower()
        where = f"{model!r} at {self.url}"
        if "context length" in said or "context size" in said or "exceed_context" in said:
            return ContextOverflow(f"the prompt is longer than the context of {where}", self.url, model)
        if "does not support" in said:
            what = text.rpartition("does not support")[2].strip() or "this"
            return CapabilityMissing(
                f"{where} does not support {what}: take another model, or leave {what} out", self.url, model
            )
        if any(words in said for words in ("memory", "unable to load", "error loading", "failed to load")):
            return LoadFailed(
                f"the server cannot load {where}: {text}; take a smaller model or llm.context_window, or free memory",
                self.url,
                model,
            )
        if status == 200 or "terminated" in said or "unexpected eof" in said:
            return AnswerBroken(
                f"the answer of {where} broke off: {text}; ask again, and look into the server's log if it "
                "happens again",
                self.url,
                model,
            )
        return LLMError(f"{where} refuses the request ({status}): {text}", self.url, model)

    def _busy(self, response: httpx.Response, text: str, model: str) -> ServerBusy:
        error = ServerBusy(
            f"the server at {self.url} is busy ({text}): ask again later, or let it take more at once by "
            "OLLAMA_NUM_PARALLEL and OLLAMA_MAX_QUEUE",
            self.url,
            model,
        )
        wait = response.headers.get("retry-after", "")
        error.wait = min(float(wait), 30.0) if wait.isdigit() else None
        return error

    def _not_ollama(self, what: str, model: str) -> NotOllama:
        return NotOllama(
            f"what answers at {self.url} is no Ollama server (it sent {what}): is llm.base_url right?", self.url, model
        )

    async def _missing(self, model: str) -> ModelMissing:
        """With the names that there are, those like it first."""
        try:
            names = await OllamaServer(self.url, self.headers, self.limits, 0).models()
        except LLMError:
            names = []
        near = difflib.get_close_matches(model, names, 3, 0.6)
        there = near or names[:8]
        known = f"; it has {', '.join(there)}" if there else "; it has none yet"
        return ModelMissing(
            f"the Ollama server at {self.url} has no model {model!r}: get it with `ollama pull {model}`, or set "
            f"llm.pull to missing{known}",
            self.url,
            model,
        )

    @asynccontextmanager
    async def _translated(self, model: str) -> AsyncIterator[None]:
        """httpx's exceptions, which have no address in them and often no text at all."""
        try:
            yield
        except httpx.ConnectTimeout as error:
            timeout = LLMTimeout(
                f"no connection to {self.url} within {self.limits.connect:g} s: is the address right? if it is far "
                "away, set llm.connect_timeout higher",
                self.url,
                model,
            )
            timeout.limit = "connect_timeout"
            raise timeout from error
        except httpx.ConnectError as error:
            raise ServerUnreachable(
                f"no Ollama server can be reached at {self.url}: start it with `ollama serve`, or set llm.base_url",
                self.url,
                model,
            ) from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise ServerUnreachable(f"{self.url} is no address of a server: {error}", self.url, model) from error
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise AnswerBroken(
                f"the connection to {model or 'the server'!r} at {self.url} broke: {reason}; ask again, and look into "
                "the server's log if it happens again",
                self.url,
                model,
            ) from error

    # ------------------------------------------------------------------ about models

    async def version(self) -> str:
        """The server's version, such as `0.17.4`; `0.0.0` for builds without one."""
        found = await self.ask("/api/version")
        if not isinstance(found.get("version"), str):
            raise self._not_ollama("a version of another form", "")
        return str(found["version"])

    async def models(self) -> list[str]:
        """The names of the models that the server has."""
        found = await self.ask("/api/tags")
        return [str(item.get("name", "")) for item in found.get("models") or []]

    async def show(self, model: str) -> dict[str, Any]:
        """What the server knows of a model: `model_info`, `capabilities`, `details`."""
        return await self.ask("/api/show", {"model": model}, model=model)

    async def running(self) -> list[dict[str, Any]]:
        """The models that are loaded now."""
        return list((await self.ask("/api/ps")).get("models") or [])

    async def pull(self, model: str) -> AsyncGenerator[dict[str, Any], None]:
        """Download a model to the server: its lines, with `status`, `total` and `completed` in bytes.

        Raises:
            PullFailed: There is no such model, no network or no room.
        """
        try:
            async for line in self._stream_once("/api/pull", {"model": model, "stream": True}, model):
                yield line
                if line.get("status") == "success":
                    return
        except AnswerBroken as error:
            # Its last line has a status and no `done`.
            raise PullFailed(
                f"the server at {self.url} could not download {model!r}: {_reason(error)}; is the name right, and has "
                "the server a network and room on its disk?",
                self.url,
                model,
            ) from error
        except (LoadFailed, LLMTimeout, ModelMissing) as error:
            raise PullFailed(
                f"the server at {self.url} could not download {model!r}: {error}", self.url, model
            ) from error


def _reason(error: LLMError) -> str:
    return error.text.partition("broke off: ")[2].partition("; ask again")[0] or error.text


def _pause(error: LLMError, attempt: int) -> float:
    wait = getattr(error, "wait", None)
    return float(wait) if wait is not None else 0.25 * 2.0**attempt


@lru_cache(maxsize=1)
def _trusted() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def _verify(url: str) -> ssl.SSLContext | bool:
    # Making the context takes longer than a small request, and plain HTTP needs none.
    return _trusted() if url.startswith("https:") else False

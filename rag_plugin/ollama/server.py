"""Requests to an Ollama server; each failure is an `LLMError` of its own class."""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

from .. import errors
from .error_mapping import model_missing, not_ollama
from .http import Deadline, Exchange
from .limits import RETRIES, Limits
from .target import Target, without_credentials

_log = logging.getLogger(__package__)

_NAMES_TIMEOUT_SECONDS = 5.0  # to read the models' names for an error message
_LOGGED_PAUSE_SECONDS = 5.0
_REPEATED_TOKENS = 30  # after so many equal tokens the server ends a stream, without `done` and without an error


@dataclass(frozen=True)
class OllamaServer:
    """An Ollama server.

    Attributes:
        url: Its address; a name and a password in it are sent and never shown.
        headers: Sent with each request, never shown.
        limits: Time limits.
        retries: How often a request that the server did not accept is repeated.
        slot: The config section named by errors.
    """

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    limits: Limits = Limits()
    retries: int = RETRIES
    slot: str = "llm"

    # ------------------------------------------------------------------ requests

    async def request(self, path: str, body: Mapping[str, Any] | None = None, *, model: str = "") -> dict[str, Any]:
        """The response to a request that is not streamed: GET without a body, else POST.

        Args:
            model: The model named by errors.

        Raises:
            LLMError: Of the class for the cause.
        """
        deadline = Deadline.token(self.limits)
        attempt = 0
        while True:
            exchange = self._exchange(path, body, model)
            try:
                await exchange.open(deadline)
                return await exchange.read_object(deadline)
            except errors.ModelMissing as error:
                raise await self._with_model_names(error) from error
            except (errors.ServerUnreachable, errors.ServerBusy) as error:
                await self._pause(error, attempt, deadline)
                attempt += 1
            finally:
                await exchange.aclose()

    def stream(self, path: str, body: Mapping[str, Any], *, model: str) -> Stream:
        """The lines of a streamed answer, the last of which has `done: true`."""
        return Stream(self, path, body, model)

    def _exchange(self, path: str, body: Mapping[str, Any] | None, model: str) -> Exchange:
        return Exchange(self.target(model), self.url, path, body, headers=self.headers, limits=self.limits)

    def target(self, model: str = "") -> Target:
        """This server and a model on it, for error messages."""
        return Target(without_credentials(self.url), model, self.slot)

    async def _pause(
        self, error: errors.ServerUnreachable | errors.ServerBusy, attempt: int, deadline: Deadline
    ) -> None:
        """Sleep before the next attempt; raises the error where none is left or the deadline would pass."""
        requested = error.wait if isinstance(error, errors.ServerBusy) else None
        seconds = 0.25 * 2.0**attempt if requested is None else requested
        if attempt >= self.retries or monotonic() + seconds >= deadline.until:
            raise error
        if seconds >= _LOGGED_PAUSE_SECONDS:
            _log.warning("%s Retrying in %g s.", error, seconds)
        await asyncio.sleep(seconds)

    async def _with_model_names(self, error: errors.ModelMissing) -> errors.ModelMissing:
        """The same error with a hint that lists models of the same family, else similar names, else the first few."""
        model = error.model
        limits = replace(self.limits, token=min(self.limits.token, _NAMES_TIMEOUT_SECONDS))
        try:
            names = await replace(self, limits=limits, retries=0).model_names()
        except errors.LLMError:
            available = ""
        else:
            family = [name for name in names if name.partition(":")[0] == model.partition(":")[0]]
            similar = family or difflib.get_close_matches(model, names, 3, 0.6)
            shown = errors.first_names(list(dict.fromkeys([*similar, *names])), len(similar) or 8)
            available = f"; it has {shown or 'none yet'}"
        return model_missing(self.target(model), pull=self.slot == "llm", available=available)

    # ------------------------------------------------------------------ models; `model` is the one named by errors

    async def version(self, model: str = "") -> str:
        """The server's version, such as `0.17.4`; `0.0.0` for development builds."""
        version = (await self.request("/api/version", model=model)).get("version")
        if not isinstance(version, str):
            raise not_ollama("a version of another form", self.target(model))
        return version

    async def list_models(self, model: str = "") -> list[dict[str, Any]]:
        """The server's models: `name`, `digest`, `size` in bytes. With `model`, those of that name only."""
        models = (await self.request("/api/tags", model=model)).get("models") or []
        return [item for item in models if not model or _same_name(str(item.get("name", "")), model)]

    async def model_names(self) -> list[str]:
        return [str(item.get("name", "")) for item in await self.list_models()]

    async def show(self, model: str) -> dict[str, Any]:
        """A model's `model_info`, `capabilities` and `details`."""
        return await self.request("/api/show", {"model": model}, model=model)

    async def running(self, model: str) -> dict[str, Any] | None:
        """A loaded model's `size` and `size_vram` in bytes, `context_length`, ...; None if it is not loaded."""
        models = (await self.request("/api/ps", model=model)).get("models") or []
        return next((item for item in models if _same_name(str(item.get("name", "")), model)), None)

    async def pull(self, model: str) -> AsyncGenerator[dict[str, Any], None]:
        """Download a model to the server; yields lines with `status`, and `completed` of `total` in bytes.

        Raises:
            PullFailed: There is no such model, no network or no disk space.
        """
        exchange = self._exchange("/api/pull", {"model": model, "stream": True}, model)
        deadline = Deadline.first_token(self.limits)
        try:
            await exchange.open(deadline)
            while True:
                line = await exchange.read_line(deadline)
                if line is None:
                    broken = "broke off: the server ended the download before it was complete"
                    raise self.target(model).error(errors.AnswerBroken, broken)
                deadline = Deadline.token(self.limits)
                yield line
                if line.get("status") == "success":
                    return
        except (errors.AccessRefused, errors.NotOllama, errors.ServerBusy, errors.ServerUnreachable):
            raise
        except errors.LLMError as error:
            reason = error.what.partition("broke off: ")[2] or error.text
            raise self.target(model).error(
                errors.PullFailed,
                f"{self.target()} could not download {model!r}: {reason}",
                "; check the name, and the server's network and disk space",
            ) from error
        finally:
            await exchange.aclose()


class Stream:
    """The lines of a streamed answer. Always close it by `aclose`. Returned by `OllamaServer.stream`.

    Raises:
        LLMError: Of the class for the cause; `AnswerBroken` where the stream ends without `done`.
    """

    def __init__(self, server: OllamaServer, path: str, body: Mapping[str, Any], model: str) -> None:
        self._server, self._path, self._body, self._model = server, path, body, model
        self._target = server.target(model)
        self._deadline = Deadline.first_token(server.limits)
        self._exchange: Exchange | None = None
        self._done = False
        self._last_token, self._repetitions = "", 0

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> dict[str, Any]:
        if self._done:
            raise StopAsyncIteration
        line = await (self._first_line() if self._exchange is None else self._exchange.read_line(self._deadline))
        if line is None:
            raise self._ended_early()
        if not isinstance(line.get("message"), dict):
            raise not_ollama("JSON of another form", self._target)
        self._deadline = Deadline.token(self._server.limits)
        self._count_repetitions(line["message"])
        self._done = bool(line.get("done"))
        return line

    async def aclose(self) -> None:
        """Close the connection; the server stops generating."""
        if self._exchange is not None:
            await self._exchange.aclose()

    async def _first_line(self) -> dict[str, Any] | None:
        """The first line, with retries: the caller has received nothing before it, so a retry is safe."""
        self._deadline = Deadline.first_token(self._server.limits)
        attempt = 0
        while True:
            self._exchange = self._server._exchange(self._path, self._body, self._model)
            try:
                await self._exchange.open(self._deadline)
                return await self._exchange.read_line(self._deadline)
            except errors.ModelMissing as error:
                raise await self._server._with_model_names(error) from error
            except (errors.ServerUnreachable, errors.ServerBusy) as error:
                await self._exchange.aclose()
                await self._server._pause(error, attempt, self._deadline)
                attempt += 1

    def _count_repetitions(self, message: Mapping[str, Any]) -> None:
        token = str(message.get("content") or message.get("thinking") or "")
        if token:
            self._repetitions = self._repetitions + 1 if token.strip() == self._last_token else 0
            self._last_token = token.strip()

    def _ended_early(self) -> errors.AnswerBroken:
        if self._repetitions >= _REPEATED_TOKENS - 1:
            return self._target.error(
                errors.AnswerBroken,
                f"{self._target} repeated {self._last_token!r} until the server stopped it",
                "; rephrase the question, set llm.repeat_penalty higher, or use another model",
            )
        return self._target.error(
            errors.AnswerBroken,
            f"the answer of {self._target} broke off before it was complete: the server or a proxy closed the "
            "connection",
            "; ask again, and check the server's log if it happens again",
        )


def _same_name(name: str, model: str) -> bool:
    """Whether two names refer to the same model: tag `latest`, library prefix and case may be omitted."""
    return _full_name(name) == _full_name(model)


def _full_name(name: str) -> str:
    name = name.casefold().removeprefix("registry.ollama.ai/").removeprefix("library/")
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"

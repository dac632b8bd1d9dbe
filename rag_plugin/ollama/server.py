"""What is said to an Ollama server and what it answers; each failure is an error of its own class."""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

from ..errors import (
    AccessRefused,
    AnswerBroken,
    LLMError,
    ModelMissing,
    NotOllama,
    PullFailed,
    ServerBusy,
    ServerUnreachable,
)
from .error_mapping import missing, not_ollama
from .http import Deadline, Exchange, Limits
from .target import Target, without_credentials

_log = logging.getLogger(__package__)

_NAMES_WITHIN = 5.0  # seconds for the names of the models that there are, where an error is waiting for them


@dataclass(frozen=True)
class OllamaServer:
    """An Ollama server.

    Attributes:
        url: Where it listens; a name and a password in it are sent and shown nowhere.
        headers: Sent with each request; shown nowhere.
        limits: How long it may take.
        retries: How often a request is sent again that the server did not take: while it starts, or is busy.
        slot: The part of the config that errors name.
    """

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    limits: Limits = Limits()
    retries: int = 2
    slot: str = "llm"

    # ------------------------------------------------------------------ requests

    async def ask(self, path: str, body: Mapping[str, Any] | None = None, *, model: str = "") -> dict[str, Any]:
        """The answer to a request that is answered at once: GET without a body, else POST.

        Raises:
            LLMError: Of the class that says what went wrong.
        """
        deadline = Deadline.token(self.limits)
        attempt = 0
        while True:
            exchange = self._exchange(path, body, model)
            try:
                await exchange.open(deadline)
                return await exchange.whole(deadline)
            except ModelMissing as error:
                raise await self._with_names(error) from error
            except (ServerUnreachable, ServerBusy) as error:
                await self._wait(error, attempt, deadline)
                attempt += 1
            finally:
                await exchange.aclose()

    def stream(self, path: str, body: Mapping[str, Any], *, model: str) -> Stream:
        """The lines of a streamed answer, the last of which has `done: true`."""
        return Stream(self, path, body, model)

    def _exchange(self, path: str, body: Mapping[str, Any] | None, model: str) -> Exchange:
        return Exchange(self.target(model), self.url, path, body, headers=self.headers, limits=self.limits)

    def target(self, model: str = "") -> Target:
        """This server and a model on it, as errors tell them: without credentials."""
        return Target(without_credentials(self.url), model, self.slot)

    async def _wait(self, error: ServerUnreachable | ServerBusy, attempt: int, deadline: Deadline) -> None:
        """Wait before a request is sent again; raises the error where that is not worth while."""
        pause_requested = getattr(error, "wait", None)
        pause = 0.25 * 2.0**attempt if pause_requested is None else float(pause_requested)
        if attempt >= self.retries or monotonic() + pause >= deadline.until:
            raise error
        if pause >= 5:
            _log.warning("%s Asking again in %g s.", error, pause)
        await asyncio.sleep(pause)

    async def _with_names(self, error: ModelMissing) -> ModelMissing:
        """The same error with its hint and the names that there are: those of the same family or like it, else all."""
        model = error.model
        limits = replace(self.limits, token=min(self.limits.token, _NAMES_WITHIN))
        try:
            names = await replace(self, limits=limits, retries=0).models()
        except LLMError:
            known = ""
        else:
            family = [name for name in names if name.partition(":")[0] == model.partition(":")[0]]
            there = family or difflib.get_close_matches(model, names, 3, 0.6) or names[:8]
            known = f"; it has {', '.join(there)}" if there else "; it has none yet"
        return missing(self.target(model), pull=self.slot == "llm", known=known)

    # ------------------------------------------------------------------ about models

    async def version(self, model: str = "") -> str:
        """The server's version, such as `0.17.4`; `0.0.0` for builds without one.

        Args:
            model: For errors, where a model's sake it is asked for.
        """
        found = await self.ask("/api/version", model=model)
        if not isinstance(found.get("version"), str):
            raise not_ollama("a version of another form", self.target(model))
        return str(found["version"])

    async def listed(self, model: str = "") -> list[dict[str, Any]]:
        """The models that the server has: `name`, `digest`, `size` in bytes; all, or the one of this name.

        Args:
            model: Whose errors they are, too.
        """
        found = (await self.ask("/api/tags", model=model)).get("models") or []
        return [item for item in found if not model or _same(str(item.get("name", "")), model)]

    async def models(self) -> list[str]:
        """The names of the models that the server has."""
        return [str(item.get("name", "")) for item in await self.listed()]

    async def show(self, model: str) -> dict[str, Any]:
        """What the server knows of a model: `model_info`, `capabilities`, `details`."""
        return await self.ask("/api/show", {"model": model}, model=model)

    async def running(self, model: str) -> dict[str, Any] | None:
        """What is known of a model that is loaded now: `size` and `size_vram` in bytes, `context_length`, ..."""
        found = (await self.ask("/api/ps", model=model)).get("models") or []
        return next((item for item in found if _same(str(item.get("name", "")), model)), None)

    async def pull(self, model: str) -> AsyncGenerator[dict[str, Any], None]:
        """Download a model to the server: its lines, with `status`, `total` and `completed` in bytes.

        Raises:
            PullFailed: There is no such model, no network or no room.
        """
        exchange = self._exchange("/api/pull", {"model": model, "stream": True}, model)
        deadline = Deadline.first_token(self.limits)
        try:
            await exchange.open(deadline)
            while True:
                line = await exchange.line(deadline)
                if line is None:
                    broken = "broke off: the server ended the download before it was done"
                    raise self.target(model).error(AnswerBroken, broken)
                deadline = Deadline.token(self.limits)
                yield line
                if line.get("status") == "success":
                    return
        except (AccessRefused, NotOllama, ServerBusy, ServerUnreachable):
            raise
        except LLMError as error:
            raise self.target(model).error(
                PullFailed,
                f"{self.target()} could not download {model!r}: {_reason(error)}",
                "; is the name right, and has the server a network and room on its disk?",
            ) from error
        finally:
            await exchange.aclose()


class Stream:
    """The lines of a streamed answer, one after another; `aclose` it in any case. Made by `OllamaServer.stream`.

    Raises:
        LLMError: Of the class that says what went wrong; `AnswerBroken` where the stream ends before it is done.
    """

    def __init__(self, server: OllamaServer, path: str, body: Mapping[str, Any], model: str) -> None:
        self._server, self._path, self._body, self._model = server, path, body, model
        self._target = server.target(model)
        self._deadline: Deadline | None = None
        self._exchange: Exchange | None = None
        self._done = False
        self._said, self._again = "", 0

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> dict[str, Any]:
        if self._done:
            raise StopAsyncIteration
        if self._exchange is None:
            line = await self._first()
        else:
            assert self._deadline is not None
            line = await self._exchange.line(self._deadline)
        if line is None:
            raise self._ended_early()
        if not isinstance(line.get("message"), dict):
            raise not_ollama("JSON of another form", self._target)
        self._deadline = Deadline.token(self._server.limits)
        self._listen(line["message"])
        self._done = bool(line.get("done"))
        return line

    async def aclose(self) -> None:
        """Close the connection; the server ends the answer."""
        if self._exchange is not None:
            await self._exchange.aclose()

    async def _first(self) -> dict[str, Any] | None:
        """The first line. Until it is there, asking again gives nothing out twice."""
        deadline = Deadline.first_token(self._server.limits)
        attempt = 0
        while True:
            self._exchange = self._server._exchange(self._path, self._body, self._model)
            try:
                await self._exchange.open(deadline)
                return await self._exchange.line(deadline)
            except ModelMissing as error:
                raise await self._server._with_names(error) from error
            except (ServerUnreachable, ServerBusy) as error:
                await self._exchange.aclose()
                await self._server._wait(error, attempt, deadline)
                attempt += 1

    def _listen(self, message: Mapping[str, Any]) -> None:
        said = str(message.get("content") or message.get("thinking") or "")
        if said:
            self._again = self._again + 1 if said.strip() == self._said else 0
            self._said = said.strip()

    def _ended_early(self) -> AnswerBroken:
        # A token that comes 30 times more makes the server end the stream, without `done` and without a word.
        if self._again >= 29:
            return self._target.error(
                AnswerBroken,
                f"{self._target} said {self._said!r} again and again until the server stopped it",
                "; ask in other words, set llm.repeat_penalty higher, or take another model",
            )
        return self._target.error(
            AnswerBroken,
            f"the answer of {self._target} broke off before it was done: the server or something between closed the "
            "connection",
            "; ask again, and look into the server's log if it happens again",
        )


def refuses_long_prompts(version: str) -> bool | None:
    """Whether a server of this version knows `truncate`, so that it never cuts a prompt; None if that is not known.

    It came in October 2025, between 0.12.5 and 0.13. Builds without a version report 0.0.0.
    """
    numbers = [int(number) if number.isdigit() else 0 for number in version.partition("-")[0].split(".")]
    return None if not any(numbers) else numbers >= [0, 13]


def _same(name: str, model: str) -> bool:
    """Whether a server's name for a model is what `model` means."""
    return _whole_name(name) == _whole_name(model)


def _whole_name(name: str) -> str:
    name = name.casefold().removeprefix("registry.ollama.ai/").removeprefix("library/")
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _reason(error: LLMError) -> str:
    return error.what.partition("broke off: ")[2] or error.text

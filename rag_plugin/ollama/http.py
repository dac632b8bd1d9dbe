"""One HTTP request to an Ollama server and its response, with a time limit for each step.

A connection serves one request, so that none is tied to an event loop that may be closed before the next question.
This module has no asynchronous generators: a closing event loop finalizes all of them at once, in no order, and one
that closes another then fails.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic
from typing import Any, TypeVar

import httpx

from ..errors import AnswerBroken, LLMError, LLMTimeout, ServerUnreachable
from .error_mapping import not_ollama, parse_line, response_error, unreachable
from .limits import Limits
from .target import Target

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:
    from contextlib import asynccontextmanager

    import anyio

    @asynccontextmanager
    async def timeout(seconds: float) -> AsyncIterator[None]:
        with anyio.fail_after(seconds):
            yield


T = TypeVar("T")

_MAX_LINE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Deadline:
    """The time by which a step of a request has to finish.

    Attributes:
        until: Value of the monotonic clock.
        seconds: The limit, for messages.
        setting: Name of the setting that holds it.
        missed: Verb phrase for the message.
    """

    until: float
    seconds: float
    setting: str
    missed: str

    @classmethod
    def first_token(cls, limits: Limits) -> Deadline:
        return cls._of(limits.first_token, limits.setting_of("first_token"), "did not begin to answer within")

    @classmethod
    def token(cls, limits: Limits) -> Deadline:
        return cls._of(limits.token, limits.setting_of("token"), "sent nothing for more than")

    @classmethod
    def _of(cls, seconds: float, setting: str, missed: str) -> Deadline:
        return cls(monotonic() + seconds, seconds, setting, missed)


class Exchange:
    """One request and its response. Always close it by `aclose`.

    Args:
        url: The server's address, with credentials if any.
        body: Sent as JSON by POST; None for GET.
        headers: Sent with the request, never shown.
    """

    def __init__(
        self,
        target: Target,
        url: str,
        path: str,
        body: Mapping[str, Any] | None,
        *,
        headers: Mapping[str, str],
        limits: Limits,
    ) -> None:
        self._target, self._url, self._path, self._body = target, url, path, body
        self._headers, self._limits = headers, limits
        self._transport: httpx.AsyncHTTPTransport | None = None
        self._response: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None
        self._incomplete_line = b""
        self._lines: list[bytes] = []

    async def open(self, deadline: Deadline) -> None:
        """Send the request and wait for a response with status 200.

        Raises:
            LLMError: Of the class for the cause.
        """
        self._check_headers()
        with self._translated_errors():
            address = httpx.URL(self._url)
            if address.scheme not in ("http", "https") or not address.host or not 0 < (address.port or 80) < 2**16:
                raise httpx.InvalidURL("it needs http:// or https://, a host, and a port below 65536 if it has one")
            # A transport without a client: a client's features are not needed and cost time for each token.
            self._transport = httpx.AsyncHTTPTransport(verify=self._ssl_context(), trust_env=False)
            method, content = "GET", None
            if self._body is not None:
                # As ASCII with escapes: lone surrogates from files could not be encoded otherwise.
                method, content = "POST", json.dumps(self._body).encode("ascii")
            request = httpx.Request(
                method,
                self._url.rstrip("/") + self._path,
                headers={"Content-Type": "application/json", "User-Agent": "rag-plugin", **self._headers},
                content=content,
                extensions={"timeout": {"connect": self._limits.connect}},
            )
            if address.userinfo:
                request = next(httpx.BasicAuth(address.username, address.password).auth_flow(request))
            self._response = await self._in_time(self._transport.handle_async_request(request), deadline)
            if self._response.status_code != 200:
                raw = await self._in_time(self._response.aread(), deadline)
                raise response_error(self._response.status_code, self._response.headers, raw, self._target)
            if "html" in self._response.headers.get("content-type", ""):
                raise not_ollama("a web page", self._target)
            assert isinstance(self._response.stream, httpx.AsyncByteStream)
            self._chunks = self._response.stream.__aiter__()

    def _ssl_context(self) -> ssl.SSLContext:
        try:
            return _ssl_context(self._url.startswith("https:"))
        except OSError as error:
            # Only the file of keys has its name in the error.
            name = "SSLKEYLOGFILE" if error.filename else "SSL_CERT_FILE"
            raise self._target.error(
                ServerUnreachable,
                f"no TLS connection to {self._target.url}: {name} cannot be used: {error}",
                f"; unset {name}, or set it to a file that can be used",
            ) from error

    async def read_object(self, deadline: Deadline) -> dict[str, Any]:
        """The response as one JSON object."""
        assert self._response is not None
        with self._translated_errors():
            raw = await self._in_time(self._response.aread(), deadline)
        try:
            data = json.loads(raw)
        except ValueError as error:
            raise not_ollama("something that is not JSON", self._target) from error
        if not isinstance(data, dict):
            raise not_ollama("JSON of another form", self._target)
        return data

    async def read_line(self, deadline: Deadline) -> dict[str, Any] | None:
        """The next line of a stream; None at its end."""
        while not self._lines:
            chunk = await self._read_chunk(deadline)
            if chunk is None:
                last, self._incomplete_line = self._incomplete_line.strip(), b""
                if not last:
                    return None
                self._lines = [last]
            else:
                *lines, self._incomplete_line = (self._incomplete_line + chunk).split(b"\n")
                self._lines = [line for line in lines if line.strip()]
                if len(self._incomplete_line) > _MAX_LINE_BYTES:
                    raise not_ollama("a line without an end", self._target)
        return parse_line(self._lines.pop(0), self._target)

    async def _read_chunk(self, deadline: Deadline) -> bytes | None:
        assert self._chunks is not None
        with self._translated_errors():
            try:
                return await self._in_time(self._chunks.__anext__(), deadline)
            except StopAsyncIteration:
                return None

    async def aclose(self) -> None:
        """Close the connection; the server stops working on the request."""
        if self._response is not None:
            await self._response.aclose()
        if self._transport is not None:
            await self._transport.aclose()
        self._transport = self._response = self._chunks = None

    # ------------------------------------------------------------------ errors

    async def _in_time(self, work: Awaitable[T], deadline: Deadline) -> T:
        try:
            async with timeout(max(0.0, deadline.until - monotonic())):
                return await work
        except TimeoutError as error:
            raise self._timeout(f"{self._target} {deadline.missed}", deadline.seconds, deadline.setting) from error

    def _timeout(self, what: str, seconds: float, setting: str, note: str = "") -> LLMTimeout:
        hint = f"; if it is only slow, set {self._target.slot}.{setting} higher{note}"
        error = self._target.error(LLMTimeout, f"{what} {seconds:g} s", hint)
        error.limit = setting
        return error

    def _check_headers(self) -> None:
        # Checked here because HTTP libraries quote the value, which may be a credential, in their errors.
        for name, value in self._headers.items():
            if not value.isascii() or not value.isprintable() or value != value.strip():
                raise self._target.error(
                    LLMError,
                    f"the header {name!r} cannot be sent to {self._target}: its value contains a line break, a space "
                    "at an end or a character outside ASCII",
                    f"; check {self._target.slot}.headers",
                )

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Translates httpx's exceptions, which lack the address and often have no text."""
        target = self._target
        try:
            yield
        except httpx.ConnectTimeout as error:
            what = f"no connection to {target.url}{target.for_model} (is the address right?) within"
            setting = self._limits.setting_of("connect")
            raise self._timeout(what, self._limits.connect, setting, _proxy_note(target)) from error
        except httpx.ConnectError as error:
            if "SSL" in str(error):
                raise target.error(
                    ServerUnreachable,
                    f"no TLS connection to {target.url}{target.for_model}: {error}",
                    "; is it http:// there, or must its certificate be trusted first (SSL_CERT_FILE)?",
                ) from error
            raise unreachable(target, name_unknown=_is_name_error(error), note=_proxy_note(target)) from error
        except (httpx.InvalidURL, UnicodeError) as error:
            raise target.error(
                ServerUnreachable, f"{target.url} is not a server address{target.for_model}: {error}"
            ) from error
        except httpx.HTTPError as error:
            hint = f"is {target.slot}.base_url right? If so, " if self._response is None else ""
            raise target.error(
                AnswerBroken,
                f"the connection to {target} broke: {str(error).rstrip('.') or type(error).__name__}",
                f"; {hint}ask again, and check the server's log if it happens again",
            ) from error


def _is_name_error(error: BaseException | None) -> bool:
    """Whether the host name could not be resolved."""
    while error is not None:
        if isinstance(error, socket.gaierror):
            return True
        error = error.__cause__ or error.__context__
    return False


def _proxy_note(target: Target) -> str:
    """The end of a hint where the environment has a proxy for a remote server."""
    used = (f"{target.url.partition(':')[0]}_proxy", "all_proxy")
    names = [name for name in os.environ if name.lower() in used and os.environ[name]]
    if target.is_local or not names:
        return ""
    return f". {names[0]} is not used: the server must be reachable without a proxy"


@lru_cache(maxsize=2)
def _ssl_context(verified: bool) -> ssl.SSLContext:
    # Cached: creating one takes longer than a small request, and httpx needs one for plain HTTP as well.
    return httpx.create_ssl_context() if verified else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

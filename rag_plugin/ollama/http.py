"""One request to an Ollama server and its response, each part of it in time.

A connection lives as long as its request, so nothing is tied to an event loop that may be closed by the next question.
These are no asynchronous generators: an event loop that ends closes all of those at once, in no order, and one that
closes another complains then.
"""

from __future__ import annotations

import json
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
from .error_mapping import line_of, not_ollama, refusal, unreachable
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

_LONGEST_LINE = 64 * 2**20


@dataclass(frozen=True)
class Limits:
    """Seconds: to connect, from the request to the first piece of the answer, and from one piece to the next."""

    connect: float = 5.0
    first_token: float = 600.0
    token: float = 120.0
    setting: str = ""
    """The one setting that says all three, where it is one."""

    def setting_of(self, kind: str) -> str:
        return self.setting or f"{kind}_timeout"


@dataclass(frozen=True)
class Deadline:
    """When something has to have happened, the setting that says so, and what it is called when it has not."""

    until: float
    limit: float
    setting: str
    missed: str

    @classmethod
    def first_token(cls, limits: Limits) -> Deadline:
        limit = limits.first_token
        return cls(monotonic() + limit, limit, limits.setting_of("first_token"), "did not begin to answer within")

    @classmethod
    def token(cls, limits: Limits) -> Deadline:
        limit = limits.token
        return cls(monotonic() + limit, limit, limits.setting_of("token"), "went silent for more than")


class Exchange:
    """One request and its response. `aclose` it in any case.

    Args:
        url: The server's, with credentials if it has any.
        body: Sent as JSON by POST; None for GET.
        headers: Sent with the request; shown nowhere.
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
        self._pieces: AsyncIterator[bytes] | None = None
        self._rest = b""
        self._lines: list[bytes] = []

    async def open(self, deadline: Deadline) -> None:
        """Send the request and wait for a response that says yes.

        Raises:
            LLMError: Of the class that says what went wrong.
        """
        self._check_headers()
        with self._translated():
            address = httpx.URL(self._url)
            if address.scheme not in ("http", "https") or not address.host or not 0 < (address.port or 80) < 2**16:
                raise httpx.InvalidURL("it needs http:// or https://, a host, and a port below 65536 if it has one")
            # A transport and no client: nothing of what a client adds is wanted, and it costs time for each token.
            self._transport = httpx.AsyncHTTPTransport(verify=_context(self._url.startswith("https:")), trust_env=False)
            method, content = "GET", None
            if self._body is not None:
                # Escaped to ASCII: half characters, which files may hold, could not be sent otherwise.
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
                raise refusal(self._response.status_code, self._response.headers, raw, self._target)
            if "html" in self._response.headers.get("content-type", ""):
                raise not_ollama("a web page", self._target)
            assert isinstance(self._response.stream, httpx.AsyncByteStream)
            self._pieces = self._response.stream.__aiter__()

    async def whole(self, deadline: Deadline) -> dict[str, Any]:
        """The object that the whole response is."""
        assert self._response is not None
        with self._translated():
            raw = await self._in_time(self._response.aread(), deadline)
        try:
            found = json.loads(raw)
        except ValueError as error:
            raise not_ollama("something that is no JSON", self._target) from error
        if not isinstance(found, dict):
            raise not_ollama("JSON of another form", self._target)
        return found

    async def line(self, deadline: Deadline) -> dict[str, Any] | None:
        """The next line of a stream; None where it has ended."""
        while not self._lines:
            piece = await self._piece(deadline)
            if piece is None:
                self._lines, self._rest = [self._rest] if self._rest.strip() else [], b""
                if not self._lines:
                    return None
            else:
                *lines, self._rest = (self._rest + piece).split(b"\n")
                self._lines = [line for line in lines if line.strip()]
                if len(self._rest) > _LONGEST_LINE:
                    raise not_ollama("a line without end", self._target)
        return line_of(self._lines.pop(0), self._target)

    async def _piece(self, deadline: Deadline) -> bytes | None:
        assert self._pieces is not None
        with self._translated():
            try:
                return await self._in_time(self._pieces.__anext__(), deadline)
            except StopAsyncIteration:
                return None

    async def aclose(self) -> None:
        """Close the connection; the server ends what it still does for it."""
        if self._response is not None:
            await self._response.aclose()
        if self._transport is not None:
            await self._transport.aclose()
        self._transport = self._response = self._pieces = None

    # ------------------------------------------------------------------ errors

    async def _in_time(self, work: Awaitable[T], deadline: Deadline) -> T:
        try:
            async with timeout(max(0.0, deadline.until - monotonic())):
                return await work
        except TimeoutError as error:
            raise self._late(f"{self._target} {deadline.missed}", deadline.limit, deadline.setting) from error

    def _late(self, what: str, limit: float, setting: str) -> LLMTimeout:
        late = self._target.error(
            LLMTimeout, f"{what} {limit:g} s", f"; if it is only slow, set {self._target.slot}.{setting} higher"
        )
        late.limit = setting
        return late

    def _check_headers(self) -> None:
        # Here, because HTTP libraries quote the value in what they say of it.
        for name, value in self._headers.items():
            if not value.isascii() or not value.isprintable() or value != value.strip():
                raise self._target.error(
                    LLMError,
                    f"the header {name!r} cannot be sent to {self._target}: its value holds a line end, a space at an "
                    "end or a sign that is no ASCII",
                    f"; look at {self._target.slot}.headers",
                )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """httpx's exceptions, which have no address in them and often no text at all."""
        target = self._target
        try:
            yield
        except httpx.ConnectTimeout as error:
            setting = self._limits.setting_of("connect")
            what = f"no connection to {target.url}{target.for_model} (is the address right?) within"
            raise self._late(what, self._limits.connect, setting) from error
        except httpx.ConnectError as error:
            if "SSL" in str(error):
                raise target.error(
                    ServerUnreachable,
                    f"no safe connection to {target.url}{target.for_model}: {error}",
                    "; is it http:// there, or does its certificate have to be trusted first (SSL_CERT_FILE)?",
                ) from error
            raise unreachable(target, name_unknown=_is_about_a_name(error)) from error
        except (httpx.InvalidURL, UnicodeError) as error:
            raise target.error(
                ServerUnreachable, f"{target.url} is no address of a server{target.for_model}: {error}"
            ) from error
        except httpx.HTTPError as error:
            hint = f"is {target.slot}.base_url right? If so, " if self._response is None else ""
            raise target.error(
                AnswerBroken,
                f"the connection to {target} broke: {str(error).rstrip('.') or type(error).__name__}",
                f"; {hint}ask again, and look into the server's log if it happens again",
            ) from error


def _is_about_a_name(error: BaseException | None) -> bool:
    """Whether the machine's name is not known."""
    while error is not None:
        if isinstance(error, socket.gaierror):
            return True
        error = error.__cause__ or error.__context__
    return False


@lru_cache(maxsize=2)
def _context(safe: bool) -> ssl.SSLContext:
    # Making one takes longer than a small request, and plain HTTP needs none: httpx makes one all the same.
    return httpx.create_ssl_context() if safe else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

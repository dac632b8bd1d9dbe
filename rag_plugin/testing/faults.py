"""Failures between a client and an Ollama server. A fault is a function that changes a reply.

`FakeOllama.fail` takes these and any function of your own. `after` is the number of pieces sent before; for a chat a
piece is a line with one token.

Time: `slow_first_token`, `early_headers`, `stall`, `drip`. Ended connections: `drop`, `close`, `no_done`,
`wrong_content_length`. Inside an answer: `garbage_line`, `error_line`, `torn_characters`, `cut_character`,
`empty_answer`. Other answers: `status`, `busy`, `refused_access`, `html`, `redirect`, `other_json`.

>>> from rag_plugin.testing import Reply, faults
>>> faults.drop(after=1)(Reply(pieces=(b"one\\n", b"two\\n"))).pieces
(b'one\\n', <Moment.RESET: 'reset'>)
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from . import recorded
from .replies import Moment, Piece, Reply, Wait, error_reply, whole_reply

Fault = Callable[[Reply], Reply]


def _insert(after: int, *inserted: Piece, keep_rest: bool = False) -> Fault:
    """Inserts pieces after so many bytes objects, in place of the rest or before it."""

    def fault(reply: Reply) -> Reply:
        chunks = [index for index, piece in enumerate(reply.pieces) if isinstance(piece, bytes)]
        index = chunks[after] if after < len(chunks) else len(reply.pieces)
        rest = reply.pieces[index:] if keep_rest else ()
        return replace(reply, pieces=(*reply.pieces[:index], *inserted, *rest))

    return fault


def _always(reply: Reply) -> Fault:
    return lambda _: reply


# ---------------------------------------------------------------------------------- time


def slow_first_token(seconds: float | None = None) -> Fault:
    """Nothing is sent for a while, as while a model loads."""
    return _insert(0, Wait(seconds), keep_rest=True)


def early_headers(seconds: float | None = None) -> Fault:
    """The headers are sent at once and the first token late, as by some proxies."""
    return _insert(0, Moment.HEADERS, Wait(seconds), keep_rest=True)


def stall(after: int = 2, seconds: float | None = None) -> Fault:
    """The answer pauses in the middle."""
    return _insert(after, Wait(seconds), keep_rest=True)


def drip(seconds: float = 0.02, size: int = 1, after: int = 0) -> Fault:
    """Bytes keep arriving, but never the end of a line."""
    return _insert(after, *[piece for _ in range(5000) for piece in (b" " * size, Wait(seconds))])


# ---------------------------------------------------------------------------------- ended connections


def drop(after: int = 2) -> Fault:
    """The connection is reset; with `after=0` before anything was sent."""
    return _insert(after, Moment.RESET)


def close(after: int = 2) -> Fault:
    """The connection is closed in the middle, as when the server is killed."""
    return _insert(after, Moment.CLOSE)


def no_done(after: int | None = None) -> Fault:
    """The stream ends properly without its last line, as from a server that stopped a repeating model."""
    return _insert(after) if after is not None else lambda reply: replace(reply, pieces=reply.pieces[:-1])


def wrong_content_length(by: int = 10) -> Fault:
    """Content-Length is too large by `by` bytes, or too small (a negative number)."""

    def fault(reply: Reply) -> Reply:
        body = b"".join(piece for piece in reply.pieces if isinstance(piece, bytes))
        return replace(reply, pieces=(body[: len(body) + by] if by < 0 else body, Moment.CLOSE), length=len(body) + by)

    return fault


# ---------------------------------------------------------------------------------- broken lines


def garbage_line(after: int = 2, line: bytes = b"<<< no JSON >>>") -> Fault:
    """A line in the middle is not JSON."""
    return _insert(after, line + b"\n", keep_rest=True)


def error_line(after: int = 2, text: str = recorded.RUNNER_DIED) -> Fault:
    """The last line is an error, as when the model's process dies."""
    return _insert(after, json.dumps({"error": text}).encode() + b"\n")


def torn_characters() -> Fault:
    """Every character of several bytes is sent in two chunks; nothing is lost."""

    def fault(reply: Reply) -> Reply:
        pieces: list[Piece] = []
        for piece in reply.pieces:
            if isinstance(piece, bytes) and (index := _second_byte(piece)):
                pieces += [piece[:index], Wait(0.01), piece[index:]]
            else:
                pieces.append(piece)
        return replace(reply, pieces=tuple(pieces))

    return fault


def cut_character() -> Fault:
    """The first character of several bytes loses a byte; without one, half a character is sent first."""

    def fault(reply: Reply) -> Reply:
        pieces = list(reply.pieces)
        for number, piece in enumerate(pieces):
            if isinstance(piece, bytes) and (index := _second_byte(piece)):
                pieces[number] = piece[:index] + piece[index + 1 :]
                return replace(reply, pieces=tuple(pieces))
        return _insert(0, "é".encode()[:1], keep_rest=True)(reply)

    return fault


def _second_byte(piece: bytes) -> int:
    """Index of the second byte of the first character of several bytes; 0 without one."""
    return next((index for index, byte in enumerate(piece) if 0x80 <= byte < 0xC0), 0)


# ---------------------------------------------------------------------------------- other answers


def empty_answer() -> Fault:
    """The model answers with nothing but `done`."""
    return lambda reply: replace(reply, pieces=reply.pieces[-1:])


def status(code: int = 500, text: str = recorded.CANNOT_LOAD[0]) -> Fault:
    """An error in the server's own form; `rag_plugin.testing.recorded` has its texts."""
    return _always(error_reply(code, text))


def busy(retry_after: str | None = None) -> Fault:
    """503, as when too many requests are queued; `retry_after` is a header added by proxies."""
    reply = error_reply(503, recorded.BUSY)
    return _always(replace(reply, headers={**reply.headers, **({"Retry-After": retry_after} if retry_after else {})}))


def refused_access(code: int = 401) -> Fault:
    """401 or 403, as from a proxy in front of the server."""
    return _always(whole_reply(code, b"Unauthorized\n" if code == 401 else b"Forbidden\n", recorded.PLAIN))


def html(code: int = 200) -> Fault:
    """A web page: another server has this address."""
    page = b"<!DOCTYPE html>\n<html><body><h1>It works!</h1></body></html>\n"
    return _always(whole_reply(code, page, {"Content-Type": "text/html; charset=utf-8"}))


def redirect(to: str = "https://example.org/login", code: int = 307) -> Fault:
    """A redirection, such as to a login page."""
    return _always(whole_reply(code, b"", {"Location": to}))


def other_json(code: int = 404, text: str = '{"detail":"Not Found"}') -> Fault:
    """JSON of another kind of server, such as one with OpenAI's API."""
    return _always(whole_reply(code, text.encode(), recorded.JSON))

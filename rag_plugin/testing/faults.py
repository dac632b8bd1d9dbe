"""What can go wrong between a client and an Ollama server. A fault is a function that spoils a reply.

`FakeOllama.fail` takes these and any function of your own. `after` counts the pieces that are sent before; for a chat
a piece is a line with one token.

In time: `slow_first_token`, `early_headers`, `stall`, `drip`. The connection ends: `drop`, `close`, `no_done`,
`wrong_content_length`. Within an answer: `garbage_line`, `error_line`, `torn_characters`, `cut_character`,
`empty_answer`. Another answer: `status`, `busy`, `refused_access`, `html`, `redirect`, `other_json`.

>>> from rag_plugin.testing import Reply, faults
>>> faults.drop(after=1)(Reply(pieces=(b"one\\n", b"two\\n"))).pieces
(b'one\\n', <Moment.RESET: 'reset'>)
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from . import recorded
from .replies import Moment, Piece, Reply, Wait, error_reply, whole

Fault = Callable[[Reply], Reply]


def _put(reply: Reply, after: int, *pieces: Piece, go_on: bool = False) -> Reply:
    sent = [at for at, piece in enumerate(reply.pieces) if isinstance(piece, bytes)]
    at = sent[after] if after < len(sent) else len(reply.pieces)
    return replace(reply, pieces=(*reply.pieces[:at], *pieces, *(reply.pieces[at:] if go_on else ())))


def _always(reply: Reply) -> Fault:
    return lambda _: reply


# ---------------------------------------------------------------------------------- time


def slow_first_token(seconds: float | None = None) -> Fault:
    """Nothing at all is sent for a while, as where the model is still loading."""
    return lambda reply: _put(reply, 0, Wait(seconds), go_on=True)


def early_headers(seconds: float | None = None) -> Fault:
    """The headers are sent at once and the first token late, as by some proxies."""
    return lambda reply: _put(reply, 0, Moment.HEADERS, Wait(seconds), go_on=True)


def stall(after: int = 2, seconds: float | None = None) -> Fault:
    """The answer stands still in its middle."""
    return lambda reply: _put(reply, after, Wait(seconds), go_on=True)


def drip(seconds: float = 0.02, size: int = 1, after: int = 0) -> Fault:
    """Bytes come again and again, and never the end of a line."""

    def spoil(reply: Reply) -> Reply:
        return _put(reply, after, *[piece for _ in range(5000) for piece in (b" " * size, Wait(seconds))])

    return spoil


# ---------------------------------------------------------------------------------- connections that end


def drop(after: int = 2) -> Fault:
    """The connection is reset; with `after=0` before anything was sent."""
    return lambda reply: _put(reply, after, Moment.RESET)


def close(after: int = 2) -> Fault:
    """The connection is closed in the middle, as where the server is killed."""
    return lambda reply: _put(reply, after, Moment.CLOSE)


def no_done(after: int | None = None) -> Fault:
    """The stream ends well-formed, and its last line is missing; the server itself does so to a model that loops."""
    return lambda reply: replace(reply, pieces=reply.pieces[:-1]) if after is None else _put(reply, after)


def wrong_content_length(by: int = 10) -> Fault:
    """More bytes are promised than are sent (`by` more), or fewer (a negative number)."""

    def spoil(reply: Reply) -> Reply:
        body = b"".join(piece for piece in reply.pieces if isinstance(piece, bytes))
        return replace(reply, pieces=(body[: len(body) + by] if by < 0 else body, Moment.CLOSE), length=len(body) + by)

    return spoil


# ---------------------------------------------------------------------------------- lines that are none


def garbage_line(after: int = 2, line: bytes = b"<<< no JSON >>>") -> Fault:
    """A line in the middle is no JSON."""
    return lambda reply: _put(reply, after, line + b"\n", go_on=True)


def error_line(after: int = 2, text: str = recorded.RUNNER_DIED) -> Fault:
    """The last line tells an error, as where the process that computes dies."""
    return lambda reply: _put(reply, after, json.dumps({"error": text}).encode() + b"\n")


def torn_characters() -> Fault:
    """Every character of several bytes comes in two chunks. Nothing is lost by that."""

    def spoil(reply: Reply) -> Reply:
        pieces: list[Piece] = []
        for piece in reply.pieces:
            at = _inside_a_character(piece) if isinstance(piece, bytes) else None
            if at is None:
                pieces.append(piece)
            else:
                assert isinstance(piece, bytes)
                pieces += [piece[:at], Wait(0.01), piece[at:]]
        return replace(reply, pieces=tuple(pieces))

    return spoil


def cut_character() -> Fault:
    """The first character of several bytes loses its last byte; where there is none, half of one comes first."""

    def spoil(reply: Reply) -> Reply:
        for number, piece in enumerate(reply.pieces):
            at = _inside_a_character(piece) if isinstance(piece, bytes) else None
            if at is not None:
                assert isinstance(piece, bytes)
                return replace(
                    reply, pieces=(*reply.pieces[:number], piece[:at] + piece[at + 1 :], *reply.pieces[number + 1 :])
                )
        return _put(reply, 0, "é".encode()[:1], go_on=True)

    return spoil


def _inside_a_character(piece: bytes) -> int | None:
    """Where the second byte of the first character of several bytes stands."""
    return next((at for at, byte in enumerate(piece) if 0x80 <= byte < 0xC0), None)


# ---------------------------------------------------------------------------------- answers of other kinds


def empty_answer() -> Fault:
    """The model says nothing, and that it is done."""
    return lambda reply: replace(reply, pieces=reply.pieces[-1:])


def status(code: int = 500, text: str = recorded.CANNOT_LOAD[0]) -> Fault:
    """An error in the server's own form; `rag_plugin.testing.recorded` has its texts."""
    return _always(error_reply(code, text))


def busy(retry_after: str | None = None) -> Fault:
    """503, as where too many requests wait; `retry_after` is a header that proxies add."""
    reply = error_reply(503, recorded.BUSY)
    return _always(replace(reply, headers={**reply.headers, **({"Retry-After": retry_after} if retry_after else {})}))


def refused_access(code: int = 401) -> Fault:
    """401 or 403, in the words of a proxy before the server."""
    return _always(whole(code, b"Unauthorized\n" if code == 401 else b"Forbidden\n", recorded.PLAIN))


def html(code: int = 200) -> Fault:
    """A web page: something else listens there."""
    page = b"<!DOCTYPE html>\n<html><body><h1>It works!</h1></body></html>\n"
    return _always(whole(code, page, {"Content-Type": "text/html; charset=utf-8"}))


def redirect(to: str = "https://example.org/login", code: int = 307) -> Fault:
    """Somewhere else, such as a page to log in at."""
    return _always(whole(code, b"", {"Location": to}))


def other_json(code: int = 404, text: str = '{"detail":"Not Found"}') -> Fault:
    """JSON of another server, such as one with OpenAI's interface."""
    return _always(whole(code, text.encode(), recorded.JSON))

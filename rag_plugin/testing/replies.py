"""Replies of an HTTP server, as what is sent when."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Union

from . import recorded


@dataclass(frozen=True)
class Wait:
    """Send nothing for so many seconds; None for as long as the client stays."""

    seconds: float | None = None


class Moment(Enum):
    """Something that happens in a reply, besides bytes and waits."""

    HEADERS = "headers"  # they go out now; else with the first bytes, as a real server sends them
    RESET = "reset"  # the connection is reset
    CLOSE = "close"  # the connection is closed, and a chunked body has no end


Piece = Union[bytes, Wait, Moment]  # | joins no Enum's class in Python 3.10's aliases


@dataclass(frozen=True)
class Reply:
    """What the server sends: each bytes among the pieces as one chunk.

    Attributes:
        length: The Content-Length to promise; None for a chunked body, as all streams have.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: dict(recorded.LINES))
    pieces: tuple[Piece, ...] = ()
    length: int | None = None


def whole(status: int, body: bytes, headers: Mapping[str, str]) -> Reply:
    """A reply of one piece, of known length."""
    return Reply(status, headers, (body,), len(body))


def error_reply(status: int, text: str) -> Reply:
    """An error as the server tells it."""
    return whole(status, json.dumps({"error": text}, ensure_ascii=False).encode(), recorded.JSON)


def line(found: Mapping[str, Any]) -> bytes:
    """A line of a stream."""
    # As Go writes JSON: no spaces, and these three signs escaped.
    text = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text.encode() + b"\n"


def object_reply(found: Mapping[str, Any]) -> Reply:
    """An answer that is not streamed."""
    return whole(200, line(found)[:-1], recorded.JSON)


def not_allowed(methods: str) -> Reply:
    """The path is right and the method is not."""
    return whole(405, b"405 method not allowed", {**recorded.PLAIN, "Allow": methods})


def later(reply: Reply, seconds: float) -> Reply:
    """The same reply after so many seconds."""
    if not seconds:
        return reply
    return Reply(reply.status, reply.headers, (Wait(seconds), *reply.pieces), reply.length)

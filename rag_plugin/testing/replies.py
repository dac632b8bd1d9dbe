"""HTTP replies of the fake server: bytes, and what happens between them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Union

from . import recorded


@dataclass(frozen=True)
class Wait:
    """Send nothing for this many seconds; None: as long as the client stays connected."""

    seconds: float | None = None


class Moment(Enum):
    """An event in a reply besides bytes and waits."""

    HEADERS = "headers"  # send the headers now; otherwise they go out with the first bytes, as from a real server
    RESET = "reset"  # reset the connection
    CLOSE = "close"  # close the connection; a chunked body has no end


Piece = Union[bytes, Wait, Moment]  # Python 3.10 has no | for an Enum class at runtime


@dataclass(frozen=True)
class Reply:
    """What the server sends.

    Attributes:
        pieces: Each bytes object is sent as one chunk.
        length: Value of Content-Length; None for a chunked body, as all streams have.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: dict(recorded.LINES))
    pieces: tuple[Piece, ...] = ()
    length: int | None = None


def whole_reply(status: int, body: bytes, headers: Mapping[str, str]) -> Reply:
    """A reply of one piece with a Content-Length."""
    return Reply(status, headers, (body,), len(body))


def error_reply(status: int, text: str) -> Reply:
    """An error in the server's JSON form."""
    return whole_reply(status, json.dumps({"error": text}, ensure_ascii=False).encode(), recorded.JSON)


def json_line(data: Mapping[str, Any]) -> bytes:
    """A line of a stream, as Go writes JSON: without spaces, and with `<`, `>` and `&` escaped."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode() + b"\n"


def json_reply(data: Mapping[str, Any]) -> Reply:
    """A reply that is not streamed."""
    return whole_reply(200, json_line(data)[:-1], recorded.JSON)


def delayed(reply: Reply, seconds: float) -> Reply:
    """The same reply after a wait."""
    return replace(reply, pieces=(Wait(seconds), *reply.pieces)) if seconds else reply

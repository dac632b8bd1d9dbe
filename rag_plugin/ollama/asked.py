"""Who is asked: a server, a model on it, and the part of the config that names both."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from ..errors import LLMError

E = TypeVar("E", bound=LLMError)

DEFAULT_PORT = 11434


@dataclass(frozen=True)
class Asked:
    """Whom a request goes to, as errors tell it.

    Attributes:
        url: Where the server listens.
        model: The model's name; empty where the server itself is asked.
        slot: The part of the config whose settings are the cure.
    """

    url: str
    model: str = ""
    slot: str = "llm"

    def __str__(self) -> str:
        return f"{self.model!r} at {self.url}" if self.model else f"the server at {self.url}"

    @property
    def on_behalf(self) -> str:
        """The model, for sentences about the server."""
        return f" for {self.model!r}" if self.model else ""

    def error(self, kind: type[E], text: str) -> E:
        """An error of this kind, which knows whom it is about."""
        return kind(text, self.url, self.model)


def address(given: str) -> str:
    """The URL of a server, which may be written as OLLAMA_HOST is: without a scheme, a port, or both."""
    if "://" in given:
        return given.rstrip("/")
    parts = urlsplit(f"//{given}")
    try:
        host, port = parts.hostname or "", parts.port or DEFAULT_PORT
    except ValueError:  # no address; whoever asks there is told
        return f"http://{given}"
    if host in ("", "0.0.0.0", "::"):  # a server that listens to all addresses is here too
        host = "127.0.0.1"
    user = given.rpartition("@")
    return f"http://{user[0]}{user[1]}{f'[{host}]' if ':' in host else host}:{port}"


MASK = "***"
_CREDENTIALS = re.compile(r"(?<=://)[^/]*@")


def without_credentials(url: str) -> str:
    """The same address, without a user's name and password."""
    return _CREDENTIALS.sub("", url)


def masked(url: str) -> str:
    """The same address, which says only that there are credentials in it."""
    return _CREDENTIALS.sub(f"{MASK}@", url)


def masked_headers(headers: Mapping[str, str] | None) -> dict[str, str] | None:
    """The names of headers; their values hold credentials."""
    return None if headers is None else dict.fromkeys(headers, MASK)

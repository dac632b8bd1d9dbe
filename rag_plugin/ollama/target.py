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
class Target:
    """Whom a request goes to, as errors tell it.

    Attributes:
        url: Where the server listens.
        model: The model's name; empty where the server itself is asked.
        slot: The part of the config whose settings are the hint.
    """

    url: str
    model: str = ""
    slot: str = "llm"

    def __str__(self) -> str:
        return f"{self.model!r} at {self.url}" if self.model else f"the server at {self.url}"

    @property
    def for_model(self) -> str:
        """The model, for sentences about the server."""
        return f" for {self.model!r}" if self.model else ""

    def error(self, kind: type[E], what: str, hint: str = "") -> E:
        """An error of this kind, which knows whom it is about.

        Args:
            what: What is wrong.
            hint: What to do, with the sign that stands before it: `: ` or `; `.
        """
        found = kind(what + hint, self.url, self.model)
        found.what, found.hint = what, hint[2:]
        return found

    @property
    def is_here(self) -> bool:
        """Whether the server is on this machine."""
        return urlsplit(self.url).hostname in ("localhost", "127.0.0.1", "::1")

    def command(self, verb: str) -> str:
        """What to type for it to reach this server."""
        parts = urlsplit(self.url)
        usual = self.is_here and parts.port in (None, DEFAULT_PORT)
        return f"`ollama {verb}`" if usual else f"`OLLAMA_HOST={parts.netloc} ollama {verb}`"


def address(given: str) -> str:
    """The URL of a server, which may be written as OLLAMA_HOST is: without a scheme, a port, or both."""
    if "://" in given:
        return given.rstrip("/")
    bare = f"[{given}]" if given.count(":") > 1 and "[" not in given else given.rstrip("/")  # ::1
    parts = urlsplit(f"//{bare}")
    try:
        host, port = parts.hostname or "", parts.port or DEFAULT_PORT
    except ValueError:  # no address; whoever asks there is told
        return f"http://{given}"
    if host in ("", "0.0.0.0", "::"):  # a server that listens to all addresses is here too
        host = "127.0.0.1"
    user = bare.rpartition("@")
    return f"http://{user[0]}{user[1]}{f'[{host}]' if ':' in host else host}:{port}{parts.path}"


def address_problem(given: str) -> tuple[str, str] | None:
    """Why this cannot be a server's address, and what to do; None if it can be one."""
    url = address(given)
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and not re.search(r"\s", url)
        _ = parts.port
    except ValueError:
        known = False
    if not known:
        return "this is no address of a server", "write http://host:port, or host:port as in OLLAMA_HOST"
    api = parts.path.rstrip("/").rpartition("/")[2]
    if api in ("v1", "api"):
        return f"Ollama's own API is target, which is not under /{api}", f"leave /{api} out"
    return None


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

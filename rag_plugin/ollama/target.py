"""Server address and model of a request, for error messages; masking of credentials."""

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
    """Identifies server, model and config section in error messages.

    Attributes:
        url: The server's address, without credentials.
        model: The model's name; "" for a request about the server itself.
        slot: The config section whose settings the hints name.
    """

    url: str
    model: str = ""
    slot: str = "llm"

    def __str__(self) -> str:
        return f"{self.model!r} at {self.url}" if self.model else f"the server at {self.url}"

    @property
    def for_model(self) -> str:
        """ " for 'model'", or "" without one; follows a phrase about the server."""
        return f" for {self.model!r}" if self.model else ""

    def error(self, kind: type[E], what: str, hint: str = "") -> E:
        """Make an error with this target's URL and model.

        Args:
            what: The cause.
            hint: What to do, with its separator: `: ` or `; `.
        """
        error = kind(what + hint, self.url, self.model)
        error.what, error.hint = what, hint[2:]
        return error

    @property
    def is_local(self) -> bool:
        return urlsplit(self.url).hostname in ("localhost", "127.0.0.1", "::1")

    def command(self, arguments: str) -> str:
        """The shell command that runs `ollama` against this server."""
        parts = urlsplit(self.url)
        is_default = self.is_local and parts.port in (None, DEFAULT_PORT)
        return f"`ollama {arguments}`" if is_default else f"`OLLAMA_HOST={parts.netloc} ollama {arguments}`"


def normalize_address(address: str) -> str:
    """The URL of a server; like OLLAMA_HOST, `address` may lack the scheme, the port, or both."""
    if "://" in address:
        return address.rstrip("/")
    bare = f"[{address}]" if address.count(":") > 1 and "[" not in address else address.rstrip("/")  # ::1
    parts = urlsplit(f"//{bare}")
    try:
        host, port = parts.hostname or "", parts.port or DEFAULT_PORT
    except ValueError:  # invalid; the first request raises a clear error
        return f"http://{address}"
    if host in ("", "0.0.0.0", "::"):  # the wildcard a server listens on includes loopback
        host = "127.0.0.1"
    user = bare.rpartition("@")
    return f"http://{user[0]}{user[1]}{f'[{host}]' if ':' in host else host}:{port}{parts.path}"


def address_problem(address: str) -> tuple[str, str] | None:
    """Why an address is invalid, with a hint; None for a valid one."""
    hidden = next((character for character in address if not character.isprintable() or character.isspace()), None)
    if hidden is not None:
        return f"the address {ascii(address)} contains a space or an invisible character", "remove it"
    url = normalize_address(address)
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and not re.search(r"\s", url)
        _ = parts.port
    except ValueError:
        is_valid = False
    if not is_valid:
        return "this is not a server address", "write http://host:port, or host:port as in OLLAMA_HOST"
    last = parts.path.rstrip("/").rpartition("/")[2]
    if last in ("v1", "api"):
        return f"this client uses Ollama's native API, which is not under /{last}", f"leave /{last} out"
    return None


MASK = "***"
_CREDENTIALS = re.compile(r"(?<=://)[^/]*@")


def without_credentials(url: str) -> str:
    """The URL without user name and password."""
    return _CREDENTIALS.sub("", url)


def masked(url: str) -> str:
    """The URL with a mask in place of user name and password."""
    return _CREDENTIALS.sub(f"{MASK}@", url)


def masked_headers(headers: Mapping[str, str] | None) -> dict[str, str] | None:
    """Header names with masked values: values may be credentials."""
    return None if headers is None else dict.fromkeys(headers, MASK)

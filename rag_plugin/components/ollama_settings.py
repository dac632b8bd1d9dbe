"""Settings shared by the components that use an Ollama server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import Field

BaseUrl = Annotated[
    str,
    Field(
        min_length=1,
        description="The server's address; `${OLLAMA_HOST:-http://localhost:11434}` follows the environment.",
    ),
]
KeepAlive = Annotated[
    str | float | None,
    Field(
        description="How long the model stays loaded, such as `10m`, or seconds; -1: for ever; unset, the server's "
        "default."
    ),
]
Retries = Annotated[
    int,
    Field(ge=0, description="How often a request is repeated while the server starts or is busy."),
]
Headers = Annotated[
    dict[str, str] | None, Field(description="HTTP headers for the server; write secrets as `${NAME}`.")
]

DEFAULT_BASE_URL = "http://localhost:11434"


def valid_keep_alive(settings: dict[str, Any]) -> Iterable[tuple[str, str, str]]:
    """Rule: `keep_alive` is a number or a duration."""
    from ..ollama.options import duration_problem

    value = settings["keep_alive"]
    problem = duration_problem(value) if isinstance(value, str) else None
    if problem is not None:
        yield "keep_alive", *problem


def valid_address(settings: dict[str, Any]) -> Iterable[tuple[str, str, str]]:
    """Rule: `base_url` is a valid address."""
    from ..ollama.target import address_problem

    problem = address_problem(settings["base_url"])
    if problem is not None:
        yield "base_url", *problem

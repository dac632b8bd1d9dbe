"""Settings that all parts on an Ollama server have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import Field

BaseUrl = Annotated[
    str,
    Field(
        min_length=1,
        description="Where the server listens; `${OLLAMA_HOST:-http://localhost:11434}` follows the environment.",
    ),
]
KeepAlive = Annotated[
    str | float | None,
    Field(description="How long the model stays loaded, such as `10m`; unset, the server's own."),
]
Retries = Annotated[
    int,
    Field(
        ge=0,
        description="How often a request is sent again that the server did not take, while it starts or is busy.",
    ),
]
Headers = Annotated[
    dict[str, str] | None, Field(description="HTTP headers for the server; put secrets in as `${NAME}`.")
]

LOCAL = "http://localhost:11434"


def address_that_can_be(settings: dict[str, Any]) -> Iterable[tuple[str, str, str]]:
    """A rule for settings with a `base_url`."""
    from ..ollama.target import address_problem

    found = address_problem(settings["base_url"])
    if found is not None:
        yield "base_url", *found

"""Default limits of the Ollama client: time, retries, tokens. Imports the standard library only."""

from __future__ import annotations

from dataclasses import dataclass

CONNECT_TIMEOUT_SECONDS = 5.0
FIRST_TOKEN_TIMEOUT_SECONDS = 600.0
TOKEN_TIMEOUT_SECONDS = 120.0
EMBEDDING_TIMEOUT_SECONDS = 300.0
RETRIES = 2
MAX_ANSWER_TOKENS = 1024

DEFAULT_CONTEXT_TOKENS = 8192
"""Default context size. Ollama's own default of 4,096 tokens holds few passages; the maximum of a model can exceed the
memory of the machine."""


@dataclass(frozen=True)
class Limits:
    """Time limits of a request in seconds.

    Attributes:
        connect: To connect to the server.
        first_token: From the request to the start of the answer.
        token: From one part of the answer to the next.
        setting: Name of the setting that holds all three; "" where each has its own (`connect_timeout`, ...).
    """

    connect: float = CONNECT_TIMEOUT_SECONDS
    first_token: float = FIRST_TOKEN_TIMEOUT_SECONDS
    token: float = TOKEN_TIMEOUT_SECONDS
    setting: str = ""

    def setting_of(self, name: str) -> str:
        """Name of the setting that holds the limit `name`, for error messages."""
        return self.setting or f"{name}_timeout"

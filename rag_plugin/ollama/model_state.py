"""A model on a server, and what was learnt of it by asking."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..errors import AccessRefused, LLMError, ModelMissing, NotOllama
from .model_info import ModelFacts
from .server import OllamaServer, refuses_long_prompts
from .target import Asked
from .token_estimate import TokenCounter

_log = logging.getLogger(__package__)

T = TypeVar("T")
Say = Callable[[Mapping[str, Any]], Any]


@dataclass
class KnownModel:
    """A model on a server.

    Attributes:
        said_window: The tokens of the context that the config says; 0 or less where it says none.
        pulls: Whether a model that is missing is downloaded.
        window: The tokens that each request asks for, once that is known.
        facts: What the server says of the model, once it was asked.
        counter: Counts as the model does.
    """

    server: OllamaServer
    name: str
    said_window: int
    pulls: bool
    window: int | None = None
    facts: ModelFacts | None = None
    counter: TokenCounter = field(default_factory=TokenCounter)
    _refuses: bool | None = None
    _asked_version: bool = False

    @property
    def asked(self) -> Asked:
        return self.server.asked(self.name)

    async def find_facts(self, say: Say | None = None) -> ModelFacts:
        """What the server says of the model, asked once."""
        if self.facts is None:
            self.facts = ModelFacts.of(await self.there(lambda: self.server.show(self.name), say))
        return self.facts

    async def find_window(self, say: Say | None = None) -> int:
        """The tokens that each request asks for; the server would take those beyond the model's limit for less."""
        if self.window is None:
            try:
                window = (await self.find_facts(say)).window(self.said_window)
            except (AccessRefused, NotOllama):
                if self.said_window <= 0:
                    raise
                window = self.said_window  # something between may let nothing pass but questions
            if window < self.said_window:
                _log.warning(
                    "llm.context_window is %s, and %s has at most %s: that much is taken",
                    *(f"{self.said_window:,}", self.asked, f"{window:,}"),
                )
            self.window = window
        return self.window

    async def refuses_long_prompts(self) -> bool | None:
        """Whether the server refuses a prompt that is too long, where others cut it; None if that is not known."""
        if self._refuses is None and not self._asked_version:
            try:
                self._refuses = refuses_long_prompts(await self.server.version(self.name))
            except LLMError:
                return None
            self._asked_version = True
        return self._refuses

    def has_refused(self) -> None:
        """It has just refused one, whatever its version."""
        self._refuses = True

    async def there(self, ask: Callable[[], Awaitable[T]], say: Say | None = None) -> T:
        """What `ask` gives; a model that is missing is downloaded first where the settings say so."""
        try:
            return await ask()
        except ModelMissing:
            if not self.pulls:
                raise
            await self.download(say)
            return await ask()

    async def download(self, say: Say | None = None) -> None:
        """Download the model to the server; `say` gets `status`, and `completed` of `total` bytes."""
        _log.warning("downloading the model %r to %s", self.name, self.server.asked())
        async for line in self.server.pull(self.name):
            if say is not None:
                say(line)

"""A model on a server, and what was learnt of it by asking."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..errors import AccessRefused, LLMError, ModelMissing, NotOllama
from .model_info import ModelInfo
from .server import OllamaServer, refuses_long_prompts
from .target import Target
from .token_estimate import TokenEstimator

_log = logging.getLogger(__package__)

T = TypeVar("T")
OnProgress = Callable[[Mapping[str, Any]], Any]


@dataclass
class ModelState:
    """A model on a server.

    Attributes:
        configured_context: The tokens of the context that the config says; 0 or less where it says none.
        pull_missing: Whether a model that is missing is downloaded.
        window: The tokens that each request asks for, once that is known.
        facts: What the server says of the model, once it was asked.
        counter: Counts as the model does.
    """

    server: OllamaServer
    name: str
    configured_context: int
    pull_missing: bool
    window: int | None = None
    info: ModelInfo | None = None
    counter: TokenEstimator = field(default_factory=TokenEstimator)
    _refuses: bool | None = None
    _version_requested: bool = False

    @property
    def target(self) -> Target:
        return self.server.target(self.name)

    async def fetch_info(self, on_progress: OnProgress | None = None) -> ModelInfo:
        """What the server says of the model, asked once."""
        if self.info is None:
            self.info = ModelInfo.of(await self.there(lambda: self.server.show(self.name), on_progress))
        return self.info

    async def resolve_context(self, on_progress: OnProgress | None = None) -> int:
        """The tokens that each request asks for; the server would take those beyond the model's limit for less."""
        if self.window is None:
            try:
                window = (await self.fetch_info(on_progress)).window(self.configured_context)
            except (AccessRefused, NotOllama):
                if self.configured_context <= 0:
                    raise
                window = self.configured_context  # something between may let nothing pass but questions
            if window < self.configured_context:
                _log.warning(
                    "llm.context_window is %s, and %s has at most %s: that much is taken",
                    *(f"{self.configured_context:,}", self.target, f"{window:,}"),
                )
            self.window = window
        return self.window

    async def refuses_long_prompts(self) -> bool | None:
        """Whether the server refuses a prompt that is too long, where others cut it; None if that is not known."""
        if self._refuses is None and not self._version_requested:
            try:
                self._refuses = refuses_long_prompts(await self.server.version(self.name))
            except LLMError:
                return None
            self._version_requested = True
        return self._refuses

    def has_refused(self) -> None:
        """It has just refused one, whatever its version."""
        self._refuses = True

    async def there(self, ask: Callable[[], Awaitable[T]], on_progress: OnProgress | None = None) -> T:
        """What `ask` gives; a model that is missing is downloaded first where the settings say so."""
        try:
            return await ask()
        except ModelMissing:
            if not self.pull_missing:
                raise
            await self.download(on_progress)
            return await ask()

    async def download(self, on_progress: OnProgress | None = None) -> None:
        """Download the model to the server; `on_progress` gets `status`, and `completed` of `total` bytes."""
        _log.warning("downloading the model %r to %s", self.name, self.server.target())
        async for line in self.server.pull(self.name):
            if on_progress is not None:
                on_progress(line)

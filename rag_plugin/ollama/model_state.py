"""State of a model on a server, read from its responses."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..errors import AccessRefused, ModelMissing, NotOllama
from .error_mapping import check_version
from .model_info import ModelInfo
from .server import OllamaServer
from .target import Target
from .token_estimate import TokenEstimator

_log = logging.getLogger(__package__)

T = TypeVar("T")
OnProgress = Callable[[Mapping[str, Any]], Any]


@dataclass
class ModelState:
    """A model on a server.

    Attributes:
        configured_context: Context tokens of the config; 0 or less where unset.
        pull_missing: Whether a missing model is downloaded.
        context: Context tokens of each request; None before the first.
        info: The model's properties; None before they are read.
        estimator: Estimates tokens of this model.
    """

    server: OllamaServer
    name: str
    configured_context: int
    pull_missing: bool
    context: int | None = None
    info: ModelInfo | None = None
    estimator: TokenEstimator = field(default_factory=TokenEstimator)
    _version_checked: bool = False

    @property
    def target(self) -> Target:
        return self.server.target(self.name)

    async def check_version(self) -> None:
        """Read the server's version once.

        Raises:
            ServerTooOld: It would cut long prompts without notice.
        """
        if self._version_checked:
            return
        try:
            check_version(await self.server.version(self.name), self.target)
        except (AccessRefused, NotOllama):  # a proxy may allow only /api/chat
            return
        self._version_checked = True

    async def fetch_info(self, on_progress: OnProgress | None = None) -> ModelInfo:
        """The model's properties, read once."""
        if self.info is None:
            self.info = ModelInfo.of(await self.with_model(lambda: self.server.show(self.name), on_progress))
        return self.info

    async def resolve_context(self, on_progress: OnProgress | None = None) -> int:
        """Context tokens of each request: the configured number, at most the model's maximum."""
        if self.context is None:
            try:
                context = (await self.fetch_info(on_progress)).context(self.configured_context)
            except (AccessRefused, NotOllama):
                if self.configured_context <= 0:
                    raise
                context = self.configured_context  # a proxy may allow only /api/chat
            if context < self.configured_context:
                _log.warning(
                    "llm.context_window is %s, but the maximum of %s is %s: using the maximum",
                    *(f"{self.configured_context:,}", self.target, f"{context:,}"),
                )
            self.context = context
        return self.context

    async def with_model(self, request: Callable[[], Awaitable[T]], on_progress: OnProgress | None = None) -> T:
        """Send a request; a missing model is downloaded first where the settings allow it."""
        try:
            return await request()
        except ModelMissing:
            if not self.pull_missing:
                raise
            await self.download(on_progress)
            return await request()

    async def download(self, on_progress: OnProgress | None = None) -> None:
        """Download the model to the server; `on_progress` gets `status`, and `completed` of `total` in bytes."""
        _log.warning("downloading the model %r to %s", self.name, self.server.target())
        async for line in self.server.pull(self.name):
            if on_progress is not None:
                on_progress(line)

"""The `sync` section: how the store is brought in line with the documents."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import Field

from ..components.registry.component import Component, component_of
from ..source import MappingNode


@dataclass(frozen=True)
class SyncSettings:
    """The settings of the `sync` section; `raw` are those written in the config."""

    on_error: str
    on_change: str
    batch_size: int
    raw: MappingNode | None = field(default=None, compare=False)

    @property
    def settings(self) -> dict[str, Any]:
        """The values by name."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name != "raw"}

    def __repr__(self) -> str:
        entries = {} if self.raw is None else self.raw.entries
        templates = {key: getattr(entry.node, "template", None) for key, entry in entries.items()}
        # A value from the environment is shown as its `${NAME}`.
        return f"SyncSettings({ {key: templates.get(key) or value for key, value in self.settings.items()} })"


def sync(
    *,
    on_error: Annotated[
        Literal["skip", "stop"],
        Field(description="What to do when one document cannot be read: report it and go on, or stop."),
    ] = "skip",
    on_change: Annotated[
        Literal["error", "resync"],
        Field(
            description="What to do when the index was built with another encoder, chunker or reader: stop with an "
            "error that names the differences, or rebuild what changed while the old version stays readable."
        ),
    ] = "error",
    batch_size: Annotated[
        int, Field(gt=0, description="How many nodes are encoded and committed together; bounds the memory.")
    ] = 2048,
) -> SyncSettings:
    """How the store is brought in line with the documents."""
    return SyncSettings(on_error, on_change, batch_size)


@lru_cache(maxsize=1)
def sync_component() -> Component:
    """The `sync` section as a component, read from its signature."""
    return component_of("sync", "sync", "built in", sync)

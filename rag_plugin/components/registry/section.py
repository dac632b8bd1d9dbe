"""A section of a checked config: a component with its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Union

from ...source import MappingNode, ScalarNode
from .component import Component


@dataclass(frozen=True)
class Section:
    """One component with its settings.

    Attributes:
        path: The section's path in the config, such as `chunker` or `rerankers[0]`.
        settings: The validated values, defaults included.
        type_node: The type as it is written, with its location and `${NAME}` template.
        raw: The settings as written in the config, with their locations.
    """

    slot: str
    path: str
    type: str
    settings: Mapping[str, Any]
    component: Component = field(compare=False, repr=False)
    type_node: ScalarNode = field(compare=False, repr=False)
    raw: MappingNode = field(compare=False, repr=False)

    def __repr__(self) -> str:
        # Settings may hold secrets from the environment, so they are left out.
        return f"Section({self.slot!r}, type={self.type_node.template or self.type!r})"

    @property
    def common(self) -> dict[str, Any]:
        """The settings that belong to the slot; they apply to an injected part too."""
        return {name: self.settings[name] for name in sorted(self.component.common)}


Sections = Mapping[str, Union[Section, tuple[Section, ...], None]]
"""The sections of a config by their keys; `rerankers` is a tuple, None a missing section."""

"""A section of a checked config: a component with its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...source import MappingNode, ScalarNode
from .component import Component


@dataclass(frozen=True)
class Section:
    """One component with its settings.

    `settings` are the validated values, defaults included. `type_node` and `given` are the source of
    what was written, with places and `${NAME}` templates.
    """

    slot: str
    path: str
    type: str
    settings: Mapping[str, Any]
    component: Component = field(compare=False, repr=False)
    type_node: ScalarNode = field(compare=False, repr=False)
    given: MappingNode = field(compare=False, repr=False)

    def __repr__(self) -> str:
        # Settings can hold secrets from the environment, so they are not shown.
        return f"Section({self.slot!r}, type={self.type_node.template or self.type!r})"

"""The reference of all settings, generated from the components' signatures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePath
from typing import Any

from ..components.registry.component import Component, ComponentDefinitionError, ComponentNotFound
from ..components.registry.find import find, names
from ..components.registry.slots import SECTIONS, Slot
from .messages import type_words
from .sync_settings import sync_component


@dataclass(frozen=True)
class Setting:
    """A setting of a component, for documentation."""

    name: str
    type: str
    required: bool
    default: Any
    description: str

    @property
    def default_text(self) -> str:
        if self.required:
            return "required"
        if self.default is None:
            return "unset"
        return str(self.default).lower() if isinstance(self.default, bool) else str(self.default) or "empty"


def settings_of(component: Component) -> list[Setting]:
    """A component's settings in the order of its signature."""
    return [
        Setting(
            name,
            type_words(info.annotation),
            info.is_required(),
            None if info.is_required() else _plain(info.default),
            info.description or "",
        )
        for name, info in component.schema.model_fields.items()
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, PurePath) else value


def components(slot: str) -> Iterator[Component]:
    """Every component of a slot that can be loaded, those of other packages included."""
    for name in names(slot):
        try:
            yield find(slot, name)
        except (ComponentNotFound, ComponentDefinitionError):
            continue  # reported when the name is used


def reference() -> str:
    """The reference of all built-in components as Markdown."""
    lines = [
        "# YAML reference",
        "",
        "Generated from the signatures of the components; do not edit. `rag-plugin components SLOT TYPE` shows the",
        "same, installed plugins included.",
        "",
        "A section is `name: {type: ..., settings}`; a bare `name: type` is short for one without settings.",
        "`reader`, `encoder` and `store` are required. Every setting may be `${NAME}` or `${NAME:-default}`.",
        "",
    ]
    for slot in SECTIONS.values():
        lines += _section(slot)
    lines += ["## `sync`", "", sync_component().summary, "", *_table(settings_of(sync_component()))]
    return "\n".join(lines).rstrip() + "\n"


def _section(slot: Slot) -> list[str]:
    default = f"Default: `{slot.default}`." if slot.default else "Required." if slot.is_required else "Default: none."
    deciding, types = slot.default_by
    for type_, default_there in types.items():
        default += f" With `{deciding}: {type_}`: `{default_there}`."
    lines = [f"## `{slot.section}`", "", f"{slot.summary[:1].upper()}{slot.summary[1:]}. {default}", ""]
    built_in = [component for component in components(slot.name) if component.origin == "built in"]
    common = built_in[0].common
    if common:
        lines += [f"Every {slot.name} has these settings, a LlamaIndex class and a ready object too:", ""]
        lines += _table([item for item in settings_of(built_in[0]) if item.name in common])
    for component in built_in:
        own = [item for item in settings_of(component) if item.name not in common]
        lines += [f"### `{component.name}`", "", component.summary, "", *_table(own)]
    return [
        *lines,
        f"Or the path of a LlamaIndex class, such as `type: {slot.class_path}`, with its own settings.",
        "",
    ]


def _table(settings: list[Setting]) -> list[str]:
    if not settings:
        return ["No settings of its own.", ""]
    lines = ["| setting | value | default | |", "|---|---|---|---|"]
    for item in settings:
        default = item.default_text if item.required or item.default is None else f"`{item.default_text}`"
        lines.append(f"| `{item.name}` | {item.type} | {default} | {item.description.replace('|', chr(92) + '|')} |")
    return [*lines, ""]

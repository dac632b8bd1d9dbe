"""The components' signatures in; their settings as data, as Markdown and as JSON Schema out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePath
from typing import Any

from ..components.registry.component import Component, ComponentDefinitionError, ComponentNotFound
from ..components.registry.find import find, names
from ..components.registry.slots import SLOTS
from .messages import type_words
from .model import sync_component
from .validate import DEFAULT_TYPES, REQUIRED, every_slot


@dataclass(frozen=True)
class Setting:
    """One setting of a component, for people."""

    name: str
    type: str
    required: bool
    default: Any
    description: str

    @property
    def default_words(self) -> str:
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
    """Every component of a slot that can be loaded, plugins included."""
    for name in names(slot):
        try:
            yield find(slot, name)
        except (ComponentNotFound, ComponentDefinitionError):
            continue  # said in full when the name is used; here it must not hide the others


def reference() -> str:
    """The reference of all built-in components as Markdown."""
    lines = [
        "# YAML reference",
        "",
        "Made from the signatures of the components; do not edit. `rag-plugin components SLOT TYPE` shows the same,",
        "installed plugins included.",
        "",
        "A section is `name: {type: ..., settings}`; a bare `name: type` is short for one without settings.",
        "Needed are `reader`, `encoder` and `store`. Every setting may be `${NAME}` or `${NAME:-default}`.",
        "",
    ]
    for section, slot in every_slot():
        default = DEFAULT_TYPES.get(section)
        note = f" Unset, `{default}`." if default else (" Required." if section in REQUIRED else " Unset, none.")
        lines += [f"## `{section}`", "", f"{SLOTS[slot][:1].upper()}{SLOTS[slot][1:]}.{note}", ""]
        known = [component for component in components(slot) if component.origin == "built in"]
        if known[0].common:
            lines += [f"Every {slot} has these settings, a LlamaIndex class and a ready object too:", ""]
            lines += _mapping([item for item in settings_of(known[0]) if item.name in known[0].common])
        for component in known:
            own = [item for item in settings_of(component) if item.name not in component.common]
            lines += [f"### `{component.name}`", "", component.summary, "", *_mapping(own)]
        lines += [
            f"Or the path of a LlamaIndex class, such as `type: {_EXAMPLES[slot]}`, with its own settings.",
            "",
        ]
    lines += ["## `sync`", "", sync_component().summary, "", *_mapping(settings_of(sync_component()))]
    return "\n".join(lines).rstrip() + "\n"


_EXAMPLES = {
    "reader": "llama_index.core.SimpleDirectoryReader",
    "chunker": "llama_index.core.node_parser.SentenceWindowNodeParser",
    "encoder": "llama_index.embeddings.huggingface.HuggingFaceEmbedding",
    "store": "llama_index.core.vector_stores.SimpleVectorStore",
    "llm": "llama_index.llms.ollama.Ollama",
    "retriever": "llama_index.core.retrievers.VectorIndexRetriever",
    "reranker": "llama_index.core.postprocessor.LongContextReorder",
    "synthesizer": "llama_index.core.response_synthesizers.TreeSummarize",
}


def _mapping(settings: list[Setting]) -> list[str]:
    if not settings:
        return ["No settings of its own.", ""]
    lines = ["| setting | value | default | |", "|---|---|---|---|"]
    for item in settings:
        default = item.default_words if item.required or item.default is None else f"`{item.default_words}`"
        lines.append(f"| `{item.name}` | {item.type} | {default} | {item.description.replace('|', chr(92) + '|')} |")
    return [*lines, ""]


# ---------------------------------------------------------------------------------- JSON Schema

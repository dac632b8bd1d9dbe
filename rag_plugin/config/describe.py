"""The components' signatures in; their settings as data, as Markdown and as JSON Schema out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePath
from typing import Any

from ..registry import SLOTS, Component, ComponentDefinitionError, ComponentNotFound, find, names
from .check import DEFAULT_TYPES, REQUIRED, every_slot
from .model import sync_component
from .words import type_words

_ENVIRONMENT = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}"}


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
            lines += _table([item for item in settings_of(known[0]) if item.name in known[0].common])
        for component in known:
            own = [item for item in settings_of(component) if item.name not in component.common]
            lines += [f"### `{component.name}`", "", component.summary, "", *_table(own)]
        lines += [
            f"Or the path of a LlamaIndex class, such as `type: {_EXAMPLES[slot]}`, with its own settings.",
            "",
        ]
    lines += ["## `sync`", "", sync_component().summary, "", *_table(settings_of(sync_component()))]
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


def _table(settings: list[Setting]) -> list[str]:
    if not settings:
        return ["No settings of its own.", ""]
    lines = ["| setting | value | default | |", "|---|---|---|---|"]
    for item in settings:
        default = item.default_words if item.required or item.default is None else f"`{item.default_words}`"
        lines.append(f"| `{item.name}` | {item.type} | {default} | {item.description.replace('|', chr(92) + '|')} |")
    return [*lines, ""]


# ---------------------------------------------------------------------------------- JSON Schema


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a whole config, plugins included, for editors that complete and check YAML."""
    properties: dict[str, Any] = {
        "extends": {"type": "string", "description": "A file whose sections this one changes; relative to this file."}
    }
    definitions: dict[str, Any] = {}
    for section, slot in every_slot():
        one = _slot_schema(slot, definitions)
        description = f"{SLOTS[slot][:1].upper()}{SLOTS[slot][1:]}."
        if section == "rerankers":
            properties[section] = {"type": "array", "items": one, "description": description, "default": []}
        else:
            properties[section] = {**one, "description": description}
            if section in DEFAULT_TYPES:
                properties[section]["default"] = DEFAULT_TYPES[section]
    settings, _ = _object(sync_component(), definitions)
    properties["sync"] = {**settings, "description": sync_component().summary}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "rag-plugin config",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        **({"definitions": definitions} if definitions else {}),
    }


def _slot_schema(slot: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """A bare name, a section of a known type, or one of a class path or `${NAME}`."""
    bare, sections, known = [], [], []
    for component in components(slot):
        schema, required = _object(component, definitions)
        known.append(component.name)
        if not required:
            bare.append(component.name)
        kind = {"const": component.name, "description": component.summary}
        sections.append(
            {
                "title": component.name,
                "description": component.summary,
                **schema,
                "properties": {"type": kind, **schema["properties"]},
                # What a base file says already need not be said again.
                "required": ["type"],
            }
        )
    path = {"type": "string", "pattern": r"[.:]|\$\{"}
    return {
        "anyOf": [
            {"enum": bare, "description": "A type without settings."},
            *sections,
            {
                "type": "object",
                "description": "A LlamaIndex class by its path.",
                "properties": {"type": {**path, "not": {"enum": known}}},
                "required": ["type"],
            },
            {
                "type": "object",
                "description": "Changes to the section of the file that this one extends.",
                "not": {"required": ["type"]},
            },
            path,
        ]
    }


def _object(component: Component, definitions: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A component's settings as the schema of an object, and the names of those that are required.

    What several settings share goes into `definitions`, which stands at the root of the whole schema.
    """
    from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError

    prefix = f"{component.slot}-{component.name}-"
    try:
        full = component.schema.model_json_schema(ref_template="#/definitions/" + prefix + "{model}")
    except (PydanticInvalidForJsonSchema, PydanticSchemaGenerationError):
        return {"type": "object", "properties": {}, "additionalProperties": True}, []
    properties = {}
    for name, schema in full.get("properties", {}).items():
        description = schema.pop("description", None)
        schema.pop("title", None)
        default = schema.pop("default", None)
        any_text = schema.get("type") == "string" and schema.keys() <= {"type", "format", "minLength"}
        entry: dict[str, Any] = schema if any_text else {"anyOf": [schema, _ENVIRONMENT]}
        if description:
            entry["description"] = description
        if default is not None:
            entry["default"] = default
        properties[name] = entry
    definitions.update({prefix + name: schema for name, schema in full.get("$defs", {}).items()})
    result: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return result, list(full.get("required", []))

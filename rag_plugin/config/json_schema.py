"""The components' signatures in; the JSON Schema of a whole config out."""

from __future__ import annotations

from typing import Any

from ..components.registry.component import Component
from ..components.registry.slots import SLOTS
from .model import sync_component
from .reference import components
from .validate import DEFAULT_TYPES, every_slot

_ENVIRONMENT = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}"}


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

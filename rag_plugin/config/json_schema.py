"""The JSON Schema of a config, generated from the components' signatures, for editors that complete and check YAML."""

from __future__ import annotations

from typing import Any

from ..components.registry.component import Component
from ..components.registry.slots import SECTIONS
from .reference import components
from .sync_settings import sync_component

_ENVIRONMENT = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}"}


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a whole config, installed plugins included."""
    properties: dict[str, Any] = {
        "extends": {"type": "string", "description": "The file that this one changes; relative to this file."}
    }
    definitions: dict[str, Any] = {}
    for name, slot in SECTIONS.items():
        schema = _slot_schema(slot.name, definitions)
        description = f"{slot.summary[:1].upper()}{slot.summary[1:]}."
        if name == "rerankers":
            properties[name] = {"type": "array", "items": schema, "description": description, "default": []}
        else:
            properties[name] = {**schema, "description": description}
            if slot.default is not None and not slot.default_by[0]:
                properties[name]["default"] = slot.default
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
    """A bare type, a section of a known type, a class path, or `${NAME}`."""
    bare, sections, types = [], [], []
    for component in components(slot):
        schema, required = _object(component, definitions)
        types.append(component.name)
        if not required:
            bare.append(component.name)
        kind = {"const": component.name, "description": component.summary}
        sections.append(
            {
                "title": component.name,
                "description": component.summary,
                **schema,
                "properties": {"type": kind, **schema["properties"]},
                # Required settings may be in the file that this one extends.
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
                "properties": {"type": {**path, "not": {"enum": types}}},
                "required": ["type"],
            },
            {
                "type": "object",
                "description": "Changes to this section of the file that is extended.",
                "not": {"required": ["type"]},
            },
            path,
        ]
    }


def _object(component: Component, definitions: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The schema of a component's settings, and the names of the required ones; shared parts go into `definitions`."""
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

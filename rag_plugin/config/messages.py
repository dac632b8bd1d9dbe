"""Messages and hints for problems of a config, in words instead of Python types."""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterable, Sequence
from enum import Enum
from pathlib import PurePath
from typing import Annotated, Any, Literal, Union

from ..components.registry.component import is_data
from ..errors import first_names
from ..source import ListNode, MappingNode, Node, ScalarNode, describe

_PLAIN = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    type(None): "null",
    dict: "a mapping",
    list: "a list",
}


def type_words(annotation: Any) -> str:
    """An annotation in words: `int | None` is "a whole number or null"."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return "any value"
    if origin is Annotated:
        return type_words(arguments[0])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_words(argument) for argument in arguments))
    if _literals(annotation):
        return "one of " + ", ".join(_literals(annotation))
    if origin is tuple and Ellipsis not in arguments:
        return f"a list of {len(arguments)} items"
    if origin in (list, tuple, set, frozenset):
        return f"a list of {_plural(arguments[0])}"
    if origin is dict:
        return "a mapping"
    if isinstance(annotation, type):
        if annotation in _PLAIN:
            return _PLAIN[annotation]
        if issubclass(annotation, PurePath):
            return "a path"
        if is_data(annotation):
            return "a mapping"
        return f"an object of type {annotation.__name__}"
    return "an object that only Python code can create"


def _plural(annotation: Any) -> str:
    words = type_words(annotation)
    for singular, plural in (("an object of type", "objects of type"), ("a list", "lists")):
        if words.startswith(singular):
            return words.replace(singular, plural, 1)
    irregular = {"text": "texts", "a mapping": "mappings", "true or false": "true or false each"}
    return irregular.get(words) or (words.removeprefix("a ") + "s" if words.startswith("a ") else words)


def annotation_at(annotation: Any, path: Sequence[str | int]) -> Any:
    """The annotation of the item at `path` inside a value; None if it is unknown."""
    if not path:
        return annotation
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return annotation_at(arguments[0], path)
    if origin in (Union, types.UnionType):
        members = (annotation_at(argument, path) for argument in arguments)
        return next((member for member in members if member is not None), None)
    if origin is tuple and Ellipsis not in arguments and isinstance(path[0], int) and path[0] < len(arguments):
        return annotation_at(arguments[path[0]], path[1:])
    if origin in (list, tuple, set, frozenset) and isinstance(path[0], int):
        return annotation_at(arguments[0], path[1:])
    if origin is dict and isinstance(path[0], str):
        return annotation_at(arguments[1], path[1:])
    field = _model_fields(annotation).get(path[0])
    return annotation_at(field.annotation, path[1:]) if field is not None else None


def _model_fields(annotation: Any) -> dict[Any, Any]:
    """The fields of a pydantic model; empty for any other annotation."""
    fields = getattr(annotation, "model_fields", None) if isinstance(annotation, type) else None
    return fields if isinstance(fields, dict) else {}


def keys_at(annotation: Any) -> list[str]:
    """The keys that a mapping of this type may have."""
    inner = [key for argument in typing.get_args(annotation) for key in keys_at(argument)]
    return [*_model_fields(annotation), *inner]


_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def value_error(kind: str, context: dict[str, Any], annotation: Any, node: Node, fallback: str) -> tuple[str, str]:
    """A message and a hint for a pydantic error on a value.

    Args:
        kind: Pydantic's error type, `several` for different errors on one value.
        context: Pydantic's error context.
        fallback: Pydantic's own message.
    """
    value = describe(node)
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return f"must be {words} {_number(context[key])}, not {value}", ""
    if kind == "multiple_of":
        return f"must be a multiple of {_number(context['multiple_of'])}, not {value}", ""
    if kind == "finite_number":
        return f"must be finite, not {value}", ""
    if kind in ("string_too_short", "too_short"):
        return "must not be empty", ""
    if kind == "string_pattern_mismatch":
        return f"{value} does not have the form {context['pattern']}", ""
    if kind in ("literal_error", "enum"):
        choices = _literals(annotation)
        hint = did_you_mean(node.value, choices) if isinstance(node, ScalarNode) and node.template is None else ""
        if choices and len(type_words(annotation)) > 100:
            hint = hint or f"possible: {', '.join(choices)}"
            return f"{value} is not possible", hint
        return f"must be {type_words(annotation) if choices else fallback}, not {value}", hint
    if kind == "value_error":
        reason = str(context.get("error", fallback))
        return (f"{value}: {reason}" if isinstance(node, ScalarNode) and node.template else reason), ""
    if annotation is None:
        return f"{fallback[:1].lower()}{fallback[1:]}, not {value}", ""
    return f"{type_words(annotation)} is expected, not {value}", _quoting_hint(annotation, node)


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _literals(annotation: Any) -> list[str]:
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return [str(member.value) for member in annotation]
    if typing.get_origin(annotation) is Literal:
        return [str(argument) for argument in typing.get_args(annotation)]
    return [literal for argument in typing.get_args(annotation) for literal in _literals(argument)]


def _quoting_hint(annotation: Any, node: Node) -> str:
    if isinstance(node, (MappingNode, ListNode)):
        return ""
    words = type_words(annotation)
    if node.template is not None:
        if isinstance(node.value, str) and node.quoted and words.startswith(("a whole", "a number", "true or false")):
            return f"write {node.template} without quotes: a quoted value is text"
        if not isinstance(node.value, str) and node.value is not None and words.startswith(("text", "a path")):
            return f'put it in quotes, so that it stays text: "{node.template}"'
        return ""
    if isinstance(node.value, str) and "number" in words and (hint := _comma_hint(node.value, words)):
        return hint
    if isinstance(node.value, str) and node.quoted and "number" in words:
        try:
            float(node.value)
        except ValueError:
            return ""
        return f"write {node.value} without quotes"
    if isinstance(node.value, str) and "true or false" in words and node.value.lower() in ("yes", "no", "on", "off"):
        literal = "true" if node.value.lower() in ("yes", "on") else "false"
        return f"YAML 1.2 has only true and false: write {literal}"
    if not isinstance(node.value, str) and node.value is not None and words.startswith("text"):
        return "put it in quotes"
    if words.startswith("a list") and node.value is not None:
        return "write it as a list: [...]"
    return ""


def _comma_hint(value: str, words: str) -> str:
    if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+", value) and "a number" not in words:
        return f"write it without commas: {value.replace(',', '')}"
    if re.fullmatch(r"[+-]?\d*,\d+", value):
        return f"write it with a decimal point: {value.replace(',', '.')}"
    return ""


def needs_object(annotation: Any) -> bool:
    """Whether no YAML value fits: the annotation is a class that is not plain data, or unknown."""
    return annotation is Any or type_words(annotation).startswith("an object ")


def did_you_mean(word: Any, candidates: Iterable[str], synonyms: dict[str, str] | None = None) -> str:
    """`did you mean 'x'?  (also: y, z)`, or the list of candidates if none is similar."""
    choices = list(candidates)
    near: list[str] = []
    if isinstance(word, str):
        synonyms = synonyms or {}
        # A synonym's name may itself be a synonym in some component.
        resolved = {alias: name if name in choices else synonyms.get(name) for alias, name in synonyms.items()}
        meanings = {alias: name for alias, name in resolved.items() if name in choices}
        meanings.update({choice.lower(): choice for choice in reversed(choices)})
        near = [meanings[match] for match in difflib.get_close_matches(word.lower(), meanings, n=1, cutoff=0.6)]
        if not near and len(word) > 3:
            near = [choice for choice in choices if word.lower() in choice.lower()]
    if not near:
        return possible(choices) if choices else ""
    others = [choice for choice in choices if choice != near[0]]
    return f"did you mean {near[0]!r}?" + (f"  (also: {first_names(others, 8)})" if others else "")


def possible(choices: Sequence[str]) -> str:
    """`possible: x, y, z`, a hint."""
    return f"possible: {first_names(choices, 12)}"

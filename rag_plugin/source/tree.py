"""The tree of a config: values with their source locations and their `${NAME}` templates."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union


@dataclass(frozen=True)
class SourceLocation:
    """A position in a file; line and column count from 1, None for values from elsewhere."""

    file: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return f"{self.file} line {self.line}" if self.line else self.file


@dataclass(frozen=True)
class ScalarNode:
    """A scalar.

    Attributes:
        base: The folder that relative paths are resolved against.
        template: The text as written if it contains `${NAME}`, else None.
        quoted: Whether the text is quoted, which keeps it text.
        substitutions: Each `${NAME}` of the template with its value from the environment.
    """

    value: Any
    location: SourceLocation
    base: Path
    template: str | None = None
    quoted: bool = False
    substitutions: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        # The value may be a secret from the environment.
        return f"ScalarNode({describe(self)}, {self.location})"


class Template(str):
    """Text as written, with `${NAME}` in it; the result of a quoted template stays text."""

    quoted: bool

    def __new__(cls, text: str, quoted: bool) -> Template:
        template = super().__new__(cls, text)
        template.quoted = quoted
        return template

    def __getnewargs__(self) -> tuple[str, bool]:  # type: ignore[override]
        return str(self), self.quoted


@dataclass(frozen=True)
class ListNode:
    """A list."""

    items: tuple[Node, ...]
    location: SourceLocation
    base: Path


@dataclass(frozen=True)
class Entry:
    """A key of a mapping with its value."""

    key_location: SourceLocation
    node: Node


@dataclass(frozen=True)
class MappingNode:
    """A mapping from text keys to nodes."""

    entries: Mapping[str, Entry]
    location: SourceLocation
    base: Path


Node = Union[ScalarNode, ListNode, MappingNode]


DefaultTypes = Mapping[str, str]
"""The default type of each section that may omit `type`."""
BAD = object()
"""The value of `BROKEN`; no setting has its type."""
BROKEN = ScalarNode(BAD, SourceLocation(""), Path())
"""Replaces a value whose problem has been reported; checks skip it."""


def join(path: str, key: str | int) -> str:
    """`rerankers` and 0 make `rerankers[0]`; `llm` and `model` make `llm.model`."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


def truncated(text: str, limit: int) -> str:
    """`text`, truncated to `limit` characters."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def redact(text: str, node: Node) -> str:
    """`text` with the values that `node` has from the environment replaced by their `${NAME}`."""
    secrets = {spelling: variable for spelling, variable in _secrets(node) if any(map(str.isalnum, spelling))}
    # A short value such as 3 is replaced as a whole word only: it occurs inside many words and numbers.
    patterns = [
        re.escape(item) if len(item) > 3 else rf"(?<!\w){re.escape(item)}(?!\w)"
        for item in sorted(secrets, key=len, reverse=True)
    ]
    return re.sub("|".join(patterns), lambda match: secrets[match.group()], text) if patterns else text


def _secrets(node: Node) -> Iterator[tuple[str, str]]:
    """(a value from the environment in each spelling that messages use, its `${NAME}`)."""
    if isinstance(node, ScalarNode):
        if node.substitutions and not isinstance(node.value, str):
            yield str(node.value), str(node.template)
        for variable, text in node.substitutions:
            yield repr(text)[1:-1], variable
            yield text, variable
        return
    for item in node.items if isinstance(node, ListNode) else [entry.node for entry in node.entries.values()]:
        yield from _secrets(item)


def describe(node: Node) -> str:
    """A value for a message: a few words, without values from the environment."""
    if isinstance(node, MappingNode):
        return "a mapping"
    if isinstance(node, ListNode):
        return "a list"
    if node.template is not None:
        return f"the value of {node.template}" + (", which is empty" if node.value in (None, "") else "")
    if node.value is None:
        return "nothing"
    if isinstance(node.value, bool):
        return str(node.value).lower()
    if isinstance(node.value, str):
        return f"the text {truncated(node.value, 60)!r}"
    return str(node.value)


def to_python(node: Node) -> Any:
    """The plain data of a tree."""
    if isinstance(node, MappingNode):
        return {key: to_python(entry.node) for key, entry in node.entries.items()}
    if isinstance(node, ListNode):
        return [to_python(item) for item in node.items]
    return node.value


def walk(node: Node, path: Iterable[str | int]) -> tuple[Node, list[str | int]]:
    """Follow `path` as far as the tree has it; returns the last node and the part of the path that leads to it."""
    followed: list[str | int] = []
    for key in path:
        if isinstance(node, MappingNode) and isinstance(key, str) and key in node.entries:
            node = node.entries[key].node
        elif isinstance(node, ListNode) and isinstance(key, int) and key < len(node.items):
            node = node.items[key]
        else:
            break
        followed.append(key)
    return node, followed


def section(node: Node) -> Node:
    """The node as a mapping: plain text is short for a mapping with that `type`."""
    if isinstance(node, ScalarNode) and isinstance(node.value, str):
        return MappingNode({"type": Entry(node.location, node)}, node.location, node.base)
    return node


def merge(base: MappingNode, over: MappingNode, default_types: DefaultTypes) -> MappingNode:
    """Merge one file into the file that it extends, section by section."""
    return _merge(base, over, lambda old, new, name: merge_section(old, new, default_types.get(name)))


def merge_section(old: Node, new: Node, default_type: str | None = None) -> Node:
    """Merge one section into another key by key. A section of another type, and a list, replaces the old one.

    Args:
        default_type: The type of `old` if it does not name one.
    """
    old_section, new_section = section(old), section(new)
    if not isinstance(old_section, MappingNode) or not isinstance(new_section, MappingNode):
        # A change to a broken section is unusable too, unless it sets a type.
        return BROKEN if old is BROKEN and isinstance(new, MappingNode) and "type" not in new.entries else new
    old_type, new_type = old_section.entries.get("type"), new_section.entries.get("type")
    if new_type is not None:
        replaced = to_python(old_type.node) if old_type is not None else default_type
        if replaced is None:
            return new if isinstance(new, ScalarNode) else _merge(old_section, new_section, merge_setting)
        if replaced != to_python(new_type.node):
            return new
    return _merge(old_section, new_section, merge_setting)


def merge_setting(old: Node, new: Node, name: str = "") -> Node:
    """Merge one setting's value into another: mappings key by key, anything else is replaced."""
    if isinstance(old, MappingNode) and isinstance(new, MappingNode):
        return _merge(old, new, merge_setting)
    return new


def _merge(base: MappingNode, over: MappingNode, merge_entry: Callable[[Node, Node, str], Node]) -> MappingNode:
    entries = dict(base.entries)
    for key, entry in over.entries.items():
        old = entries.get(key)
        entries[key] = entry if old is None else Entry(entry.key_location, merge_entry(old.node, entry.node, key))
    return MappingNode(entries, over.location, over.base)

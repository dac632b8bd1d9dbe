"""What a config says, as a tree: each value with its location, and with `${NAME}` where it came from there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union


@dataclass(frozen=True)
class SourceLocation:
    """Where something was written; line and column count from 1, and are None outside a file."""

    file: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return f"{self.file} line {self.line}" if self.line else self.file


@dataclass(frozen=True)
class ScalarNode:
    """A scalar. `template` is its text as written where `${NAME}` was replaced, and None elsewhere.

    `taken` pairs each `${NAME}` of the template with the text that the environment gave for it.
    """

    value: Any
    location: SourceLocation
    base: Path
    template: str | None = None
    quoted: bool = False
    taken: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        # The value can be a secret from the environment.
        return f"ScalarNode({describe(self)}, {self.location})"


class Template(str):
    """Text with `${NAME}` in it, as written; `quoted` keeps its outcome text whatever it looks like."""

    quoted: bool

    def __new__(cls, text: str, quoted: bool) -> Template:
        made = super().__new__(cls, text)
        made.quoted = quoted
        return made


@dataclass(frozen=True)
class ListNode:
    """A list."""

    items: tuple[Node, ...]
    location: SourceLocation
    base: Path


@dataclass(frozen=True)
class Entry:
    """One key of a `MappingNode` with its value."""

    key_location: SourceLocation
    node: Node


@dataclass(frozen=True)
class MappingNode:
    """A mapping from text keys to nodes."""

    entries: Mapping[str, Entry]
    location: SourceLocation
    base: Path


Node = Union[ScalarNode, ListNode, MappingNode]


UNNAMED_TYPES = {"chunker": "sentence", "retriever": "vector", "synthesizer": "compact"}
"""Sections that may change a setting of a type without naming it, and that type."""
BAD = object()
"""The value of `BROKEN`, which is of no type that a setting can have."""
BROKEN = ScalarNode(BAD, SourceLocation(""), Path())
"""Stands for a value whose problem has been noted already; checks pass over it."""


def join(path: str, key: str | int) -> str:
    """`rerankers` and 0 make `rerankers[0]`; `llm` and `model` make `llm.model`."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


def cut(text: str, most: int) -> str:
    """`text`, or its beginning where it is longer than `most`."""
    return text if len(text) <= most else text[: most - 3] + "..."


def redact(text: str, node: Node) -> str:
    """`text` with what came into `node` from the environment replaced by the `${NAME}` it came from."""
    secrets = {spelling: variable for spelling, variable in _taken(node) if any(map(str.isalnum, spelling))}
    # A short one such as 3 only where it stands alone: it is part of too many words and numbers.
    patterns = [
        re.escape(item) if len(item) > 3 else rf"(?<!\w){re.escape(item)}(?!\w)"
        for item in sorted(secrets, key=len, reverse=True)
    ]
    return re.sub("|".join(patterns), lambda found: secrets[found.group()], text) if patterns else text


def _taken(node: Node) -> Iterator[tuple[str, str]]:
    """(text from the environment in each way a message may spell it, the `${NAME}` it came from)."""
    if isinstance(node, ScalarNode):
        if node.taken and not isinstance(node.value, str):
            yield str(node.value), str(node.template)
        for variable, found in node.taken:
            yield repr(found)[1:-1], variable
            yield found, variable
        return
    for item in node.items if isinstance(node, ListNode) else [entry.node for entry in node.entries.values()]:
        yield from _taken(item)


def describe(node: Node) -> str:
    """A value for a message: never what came from the environment, never more than a few words."""
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
        shown = node.value if len(node.value) <= 60 else node.value[:57] + "..."
        return f"the text {shown!r}"
    return str(node.value)


def to_python(node: Node) -> Any:
    """The plain data of a tree; a `BROKEN` value is an object that is of no type a setting can have."""
    if isinstance(node, MappingNode):
        return {key: to_python(entry.node) for key, entry in node.entries.items()}
    if isinstance(node, ListNode):
        return [to_python(item) for item in node.items]
    return node.value


def walk(node: Node, path: Iterable[str | int]) -> tuple[Node, list[str | int]]:
    """Follow `path` as far as the tree goes; returns where it ended and the part that was followed."""
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
    """A bare text is short for a mapping with that `type`."""
    if isinstance(node, ScalarNode) and isinstance(node.value, str):
        return MappingNode({"type": Entry(node.location, node)}, node.location, node.base)
    return node


def merge(base: MappingNode, over: MappingNode) -> MappingNode:
    """Lay the root of one file over another's, section by section."""
    return _merge(base, over, merge_section)


def merge_section(old: Node, new: Node, name: str = "") -> Node:
    """Lay one section over another key by key; one of another type, and a list, replaces the old whole.

    `name` is the section's: some have a type without naming it.
    """
    whole_old, whole_new = section(old), section(new)
    if not isinstance(whole_old, MappingNode) or not isinstance(whole_new, MappingNode):
        # What is laid over a broken section is as unusable, unless it names a type itself.
        return BROKEN if old is BROKEN and isinstance(new, MappingNode) and "type" not in new.entries else new
    old_type, new_type = whole_old.entries.get("type"), whole_new.entries.get("type")
    if new_type is not None:
        replaced = to_python(old_type.node) if old_type is not None else UNNAMED_TYPES.get(name)
        if replaced is None:
            return new if isinstance(new, ScalarNode) else _merge(whole_old, whole_new, merge_setting)
        if replaced != to_python(new_type.node):
            return new
    return _merge(whole_old, whole_new, merge_setting)


def merge_setting(old: Node, new: Node, name: str = "") -> Node:
    """Lay one setting's value over another: mappings key by key, all else is replaced."""
    if isinstance(old, MappingNode) and isinstance(new, MappingNode):
        return _merge(old, new, merge_setting)
    return new


def _merge(base: MappingNode, over: MappingNode, lay: Callable[[Node, Node, str], Node]) -> MappingNode:
    entries = dict(base.entries)
    for key, entry in over.entries.items():
        old = entries.get(key)
        entries[key] = entry if old is None else Entry(entry.key_location, lay(old.node, entry.node, key))
    return MappingNode(entries, over.location, over.base)

"""YAML text, a mapping and overrides in; one tree of data out, in which every value knows its place.

Reading never runs anything: no tags, no merge with code, no environment beyond `${NAME}`. What is
wrong is collected as `Problem`s, so that a caller can report all of it at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import Problem
from .files import extend, from_python, read_file
from .overrides import order, override
from .scalars import Notes
from .tree import (
    BROKEN,
    UNNAMED_TYPES,
    Entry,
    Items,
    Node,
    Place,
    Table,
    Template,
    Value,
    conceal,
    describe,
    join,
    section,
    to_python,
    walk,
)
from .yaml_parser import parse_text

__all__ = [
    "BROKEN",
    "UNNAMED_TYPES",
    "Entry",
    "Items",
    "Node",
    "Place",
    "Source",
    "Table",
    "Template",
    "Value",
    "conceal",
    "describe",
    "join",
    "read_source",
    "section",
    "to_python",
    "walk",
]


@dataclass(frozen=True)
class Source:
    """What was read: the tree and all that was wrong with the text it came from.

    `files` are the names of the files in the order they were read: the config, what it extends, and so on.
    Where `whole` is false a file could not be parsed at all, and what the tree lacks may stand there.
    """

    name: str
    root: Table
    problems: list[Problem] = field(default_factory=list)
    whole: bool = True
    files: tuple[str, ...] = ()


def read_source(
    config: str | os.PathLike[str] | Mapping[str, Any] | Source,
    overrides: Mapping[str, Any] | None = None,
    *,
    override_name: str = "overrides",
    parse_overrides: bool = False,
) -> Source:
    """Read a file or a mapping, what it extends, and the overrides, into one tree.

    Args:
        config: A path, the data that such a file would hold, or what was read before.
        overrides: Dotted path to new value, such as `{"llm.model": "qwen3"}`.
        override_name: What the place of an override is called in messages.
        parse_overrides: Whether the overrides' values are YAML text, as on a command line.
    """
    notes = Notes()
    if isinstance(config, Source):
        name, root = config.name, config.root
    elif isinstance(config, Mapping):
        base = Path.cwd()
        name = "the mapping"
        node = from_python(notes, config, Place(name), base, "")
        root = node if isinstance(node, Table) else Table({}, Place(name), base)
        root = extend(notes, root, base, [])
    else:
        path = Path(config).expanduser()
        name = str(config)
        root = read_file(notes, path, name, [], None)
    for dotted, raw in sorted((overrides or {}).items(), key=order):
        place = Place(override_name)
        if parse_overrides:
            new = parse_text(notes, str(raw), place, Path.cwd(), str(dotted))
        else:
            new = from_python(notes, raw, place, Path.cwd(), str(dotted))
        root = override(notes, root, str(dotted), BROKEN if new is None else new, place)
    return Source(name, root, notes.problems, notes.whole, tuple(notes.files))

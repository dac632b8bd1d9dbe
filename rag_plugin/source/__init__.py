"""Reads YAML text, a mapping and overrides into one tree, in which every value has its source location.

Reading runs no code: no tags, no merge keys, and `${NAME}` is the only access to the environment. Problems are
collected, so that a caller can report all of them at once.
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
from .scalars import Diagnostics
from .tree import (
    BROKEN,
    DefaultTypes,
    Entry,
    ListNode,
    MappingNode,
    Node,
    ScalarNode,
    SourceLocation,
    Template,
    describe,
    join,
    redact,
    section,
    to_python,
    truncated,
    walk,
)
from .yaml_parser import parse_text

__all__ = [
    "BROKEN",
    "DefaultTypes",
    "Entry",
    "ListNode",
    "MappingNode",
    "Node",
    "ScalarNode",
    "Source",
    "SourceLocation",
    "Template",
    "describe",
    "join",
    "read_source",
    "redact",
    "section",
    "to_python",
    "truncated",
    "walk",
]


@dataclass(frozen=True)
class Source:
    """A tree with the problems of its text.

    Attributes:
        name: The name of the config, for messages.
        complete: False if a file could not be parsed, so that missing sections may be in it.
        files: The names of the files in the order in which they are read: the config, what it extends, and so on.
    """

    name: str
    root: MappingNode
    problems: list[Problem] = field(default_factory=list)
    complete: bool = True
    files: tuple[str, ...] = ()


def read_source(
    config: str | os.PathLike[str] | Mapping[str, Any] | Source,
    overrides: Mapping[str, Any] | None = None,
    *,
    default_types: DefaultTypes,
    override_name: str = "overrides",
    parse_overrides: bool = False,
) -> Source:
    """Read a file or a mapping, the files that it extends, and overrides into one tree.

    Args:
        config: A path, the data of such a file, or a source from an earlier call.
        overrides: Dotted path to new value, such as `{"llm.model": "qwen3"}`.
        default_types: The default type of each section that may omit `type`.
        override_name: The name of the overrides' location in messages.
        parse_overrides: Whether the overrides' values are YAML text, as on a command line.
    """
    diagnostics = Diagnostics()
    if isinstance(config, Source):
        name, root = config.name, config.root
    elif isinstance(config, Mapping):
        base = Path.cwd()
        name = "the mapping"
        node = from_python(diagnostics, config, SourceLocation(name), base, "")
        root = node if isinstance(node, MappingNode) else MappingNode({}, SourceLocation(name), base)
        root = extend(diagnostics, root, base, default_types, [])
    else:
        name = str(config)
        root = read_file(diagnostics, Path(config).expanduser(), name, default_types, [], None)
    for dotted, raw in sorted((overrides or {}).items(), key=order):
        location = SourceLocation(override_name)
        if parse_overrides:
            new = parse_text(diagnostics, str(raw), location, Path.cwd(), str(dotted))
        else:
            new = from_python(diagnostics, raw, location, Path.cwd(), str(dotted))
        root = override(diagnostics, root, str(dotted), BROKEN if new is None else new, location, default_types)
    return Source(name, root, diagnostics.problems, diagnostics.complete, tuple(diagnostics.files))

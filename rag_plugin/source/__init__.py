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
from .scalars import Diagnostics
from .tree import (
    BROKEN,
    UNNAMED_TYPES,
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
    walk,
)
from .yaml_parser import parse_text

__all__ = [
    "BROKEN",
    "UNNAMED_TYPES",
    "Entry",
    "ListNode",
    "Node",
    "SourceLocation",
    "Source",
    "MappingNode",
    "Template",
    "ScalarNode",
    "redact",
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
    root: MappingNode
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
    diagnostics = Diagnostics()
    if isinstance(config, Source):
        name, root = config.name, config.root
    elif isinstance(config, Mapping):
        base = Path.cwd()
        name = "the mapping"
        node = from_python(diagnostics, config, SourceLocation(name), base, "")
        root = node if isinstance(node, MappingNode) else MappingNode({}, SourceLocation(name), base)
        root = extend(diagnostics, root, base, [])
    else:
        path = Path(config).expanduser()
        name = str(config)
        root = read_file(diagnostics, path, name, [], None)
    for dotted, raw in sorted((overrides or {}).items(), key=order):
        location = SourceLocation(override_name)
        if parse_overrides:
            new = parse_text(diagnostics, str(raw), location, Path.cwd(), str(dotted))
        else:
            new = from_python(diagnostics, raw, location, Path.cwd(), str(dotted))
        root = override(diagnostics, root, str(dotted), BROKEN if new is None else new, location)
    return Source(name, root, diagnostics.problems, diagnostics.whole, tuple(diagnostics.files))

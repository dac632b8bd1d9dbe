"""A file or a mapping in, a checked `Config` out."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ..components.registry.section import Section
from ..source import Entry, ListNode, MappingNode, Node, Source, SourceLocation, read_source
from .model import Config, SyncSettings
from .validate import validate_config

_DEFAULT = SourceLocation("default")


def load_config(
    config: str | os.PathLike[str] | Mapping[str, Any] | Config,
    *,
    overrides: Mapping[str, Any] | None = None,
    allow: Collection[str] = (),
    provided: Collection[str] = (),
) -> Config:
    """Read and check a config; nothing is built, and nothing heavy is imported.

    Args:
        config: The path of a YAML file, a mapping of the same form, or a `Config`.
        overrides: Dotted path to new value: `{"llm.model": "qwen3", "rerankers.0.cutoff": 0.4}`. Strings
            follow the same `${NAME}` rules as in the file; relative paths are relative to the working directory.
        allow: Packages whose classes the config may name by path, besides llama_index.
        provided: Sections that may be missing, since the caller has ready objects for them.

    Raises:
        ConfigError: With every problem and its place.
    """

    if isinstance(allow, str):
        raise TypeError("allow is a list of package names, not one text")
    if isinstance(config, Config):
        if not overrides:
            return config
        allow, provided = (*config.allow, *allow), (*config.provided, *provided)
        return validate_config(read_source(_source(config), overrides), allow, provided)
    return validate_config(read_source(config, overrides), allow, provided)


def _source(config: Config) -> Source:
    """What a config was made from, places and `${NAME}` included; its defaults are left to be filled in again."""

    def table(part: Section) -> MappingNode:
        entries = {"type": Entry(part.type_node.location, part.type_node), **part.given.entries}
        return MappingNode(entries, part.given.location, part.given.base)

    nodes: dict[str, Node] = {}
    for name, part in config.sections.items():
        if isinstance(part, Section):
            nodes[name] = table(part)
        elif isinstance(part, SyncSettings) and part.given is not None:
            nodes[name] = part.given
        elif isinstance(part, tuple) and part and part[0].type_node.location != _DEFAULT:
            nodes[name] = ListNode(tuple(table(item) for item in part), part[0].given.location, part[0].given.base)
    entries = {key: Entry(node.location, node) for key, node in nodes.items()}
    return Source(config.name, MappingNode(entries, SourceLocation(config.name), Path.cwd()))

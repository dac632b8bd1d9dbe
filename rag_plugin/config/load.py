"""`load_config`: reads and validates a config."""

from __future__ import annotations

import copyreg
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ..components.registry.section import Section
from ..components.registry.slots import SECTIONS
from ..source import Entry, ListNode, MappingNode, Node, Source, SourceLocation, read_source
from .model import Config
from .validate import DEFAULT, validate_config

_DEFAULT_TYPES = {name: slot.default for name, slot in SECTIONS.items() if slot.type_is_optional and slot.default}


def load_config(
    config: str | os.PathLike[str] | Mapping[str, Any] | Config,
    *,
    overrides: Mapping[str, Any] | None = None,
    allow: Collection[str] = (),
    provided: Collection[str] = (),
) -> Config:
    """Read and validate a config. Nothing is built, and nothing heavy is imported.

    Args:
        config: The path of a YAML file, a mapping of the same form, or a `Config`.
        overrides: Dotted path to new value: `{"llm.model": "qwen3", "rerankers.0.cutoff": 0.4}`. Strings follow the
            `${NAME}` rules of files; relative paths are relative to the working directory.
        allow: Packages besides llama_index whose classes the config may name by path.
        provided: Sections that may be missing, since the caller has ready objects for them.

    Raises:
        ConfigError: With every problem and its location.
    """
    if isinstance(allow, str):
        raise TypeError("allow is a list of package names, not a str")
    if not isinstance(config, Config):
        return validate_config(read_source(config, overrides, default_types=_DEFAULT_TYPES), allow, provided)
    if not overrides and set(provided) <= set(config.provided):
        return config
    source = read_source(_source(config), overrides, default_types=_DEFAULT_TYPES)
    return validate_config(source, (*config.allow, *allow), (*config.provided, *provided))


def load_command_line_config(
    path: str,
    overrides: Mapping[str, str],
    allow: Collection[str] = (),
    provided: Collection[str] = (),
    *,
    override_name: str = "--set",
) -> Config:
    """As `load_config`, with overrides as YAML text: `--set retriever.top_k=3`."""
    source = read_source(
        path, overrides, default_types=_DEFAULT_TYPES, override_name=override_name, parse_overrides=True
    )
    return validate_config(source, allow, provided)


def _source(config: Config) -> Source:
    """The source of a config without its defaults, which are filled in again."""

    def mapping(part: Section) -> MappingNode:
        is_default = part.type_node.location == DEFAULT
        entries = {} if is_default else {"type": Entry(part.type_node.location, part.type_node)}
        return MappingNode({**entries, **part.raw.entries}, part.raw.location, part.raw.base)

    nodes: dict[str, Node] = {}
    for name, part in config.sections.items():
        if isinstance(part, Section):
            if part.type_node.location != DEFAULT or part.raw.entries:
                nodes[name] = mapping(part)
        elif part and part[0].type_node.location != DEFAULT:
            items = tuple(mapping(item) for item in part)
            nodes[name] = ListNode(items, part[0].raw.location, part[0].raw.base)
    if config.sync.raw is not None:
        nodes["sync"] = config.sync.raw
    entries = {key: Entry(node.location, node) for key, node in nodes.items()}
    return Source(config.name, MappingNode(entries, SourceLocation(config.name), Path.cwd()))


def _reduce(config: Config) -> tuple[Any, ...]:
    # As `to_yaml`: with ${NAME} in place of values from the environment, which hold the secrets.
    from .dump import to_data

    data = to_data({**config.sections, "sync": config.sync})
    return _restore, (data, config.name, config.allow, config.provided)


def _restore(data: dict[str, Any], name: str, allow: tuple[str, ...], provided: tuple[str, ...]) -> Config:
    config = load_config(data, allow=allow, provided=provided)
    config.name = name
    return config


copyreg.pickle(Config, _reduce)  # type: ignore[arg-type]

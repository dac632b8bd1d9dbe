"""A `Config` in, YAML text out that loads to an equal one."""

from __future__ import annotations

import io
import os
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from ..components.registry.path_settings import absolute, is_model, is_path, looks_like_path
from ..source import ListNode, MappingNode, Node, SourceLocation, Template

if TYPE_CHECKING:
    from ..components.registry.section import Section
    from .model import Config, SyncSettings


def to_data(config: Config) -> dict[str, Any]:
    """The config as plain data: `${NAME}` where a value came from there, plain dollars doubled."""
    data: dict[str, Any] = {}
    for name, part in config.sections.items():
        if part is None:
            continue
        if isinstance(part, tuple):
            data[name] = [_section(item) for item in part]
        elif name == "sync":
            data[name] = _settings(part.settings, part.given, {})
        else:
            data[name] = _section(part)
    return data


def _section(part: Section) -> dict[str, Any]:
    fields = part.component.schema.model_fields
    written = _node(part.type_node, None, [])
    return {"type": written, **_settings(part.settings, part.given, fields)}


def _settings(settings: Any, given: MappingNode | None, fields: Any) -> dict[str, Any]:
    data = {}
    for key, value in settings.items():
        entry = given.entries.get(key) if given is not None else None
        if entry is None:
            data[key] = _plain(value)
        else:
            info = fields.get(key)
            data[key] = _node(entry.node, info.annotation if info else None, info.metadata if info else [])
    return data


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, PurePath):
        return str(value).replace("$", "$$")
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _node(node: Node, annotation: Any, metadata: list[Any]) -> Any:
    if isinstance(node, MappingNode):
        return {key: _node(entry.node, annotation, metadata) for key, entry in node.entries.items()}
    if isinstance(node, ListNode):
        return [_node(item, annotation, metadata) for item in node.items]
    value = node.value
    located = isinstance(value, str) and bool(value)
    located = located and (is_path(annotation) or (is_model(metadata) and looks_like_path(value)))
    if node.template is None:
        return _plain(absolute(value, node.base) if located else value)
    template = node.template
    if located and not os.path.isabs(os.path.expanduser(value)):
        template = str(node.base).replace("$", "$$") + "/" + template
    return Template(template, node.quoted or isinstance(value, str))  # what is text now is text when it is read again


def to_yaml(config: Config, *, origins: bool = False) -> str:
    """The text of `Config.to_yaml`."""
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap, CommentedSeq
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    def commented(data: Any) -> Any:
        if isinstance(data, dict):
            return CommentedMap((commented(key), commented(value)) for key, value in data.items())
        if isinstance(data, list):
            return CommentedSeq(commented(item) for item in data)
        if isinstance(data, Template):
            return DoubleQuotedScalarString(data) if data.quoted else str(data)
        if isinstance(data, str) and not data.isprintable():
            # Escapes in one line; in the library's other styles a line break of YAML 1.1 would become a space.
            return DoubleQuotedScalarString(data)
        return data

    document = commented(to_data(config))
    if origins:
        for name, part in config.sections.items():
            parts = part if isinstance(part, tuple) else (part,)
            for i, item in enumerate(parts):
                if item is not None:
                    target = document[name][i] if isinstance(part, tuple) else document[name]
                    _comment(target, item)
    yaml = YAML(typ="rt", pure=True)
    yaml.width = 1_000_000
    yaml.default_flow_style = False
    yaml.representer.add_representer(
        type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    stream = io.StringIO()
    yaml.dump(document, stream)
    return stream.getvalue()


def _comment(target: Any, part: Section | SyncSettings) -> None:
    given = part.given
    type_node = getattr(part, "type_node", None)
    for key in target:
        node = type_node if key == "type" else (given.entries[key].node if given and key in given.entries else None)
        location = node.location if node is not None else SourceLocation("default")
        if isinstance(target[key], (dict, list)) and target[key]:
            continue  # a comment behind a nested value would land on its last line
        target.yaml_add_eol_comment(str(location), key, column=0)

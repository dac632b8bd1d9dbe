"""Writes a config as YAML text that loads to an equal config."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any, Union

from ..components.registry.path_settings import absolute, is_model, is_path, looks_like_path
from ..components.registry.section import Section
from ..source import ListNode, MappingNode, Node, SourceLocation, Template, describe
from .sync_settings import SyncSettings

Parts = Mapping[str, Union[Section, tuple[Section, ...], SyncSettings, None]]


def to_data(parts: Parts) -> dict[str, Any]:
    """The config as plain data: values from the environment as `${NAME}`, a plain `${` as `$${`."""
    data: dict[str, Any] = {}
    for name, part in parts.items():
        if isinstance(part, tuple):
            data[name] = [_section(item) for item in part]
        elif isinstance(part, SyncSettings):
            data[name] = _settings(part.settings, part.raw, {})
        elif part is not None:
            data[name] = _section(part)
    return data


def _section(part: Section) -> dict[str, Any]:
    fields = part.component.schema.model_fields
    return {"type": _node(part.type_node, None, []), **_settings(part.settings, part.raw, fields)}


def _settings(settings: Any, raw: MappingNode | None, fields: Any) -> dict[str, Any]:
    data = {}
    for key, value in settings.items():
        entry = raw.entries.get(key) if raw is not None else None
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
        return str(value).replace("${", "$${")
    if isinstance(value, str):
        return value.replace("${", "$${")
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
    is_location = isinstance(value, str) and bool(value)
    is_location = is_location and (is_path(annotation) or (is_model(metadata) and looks_like_path(value)))
    if node.template is None:
        return _plain(absolute(value, node.base) if is_location else value)
    template = node.template
    if is_location and not os.path.isabs(os.path.expanduser(value)):
        template = str(node.base).replace("${", "$${") + "/" + template
    return Template(template, node.quoted or isinstance(value, str))  # text stays text when the file is read again


_SECRET_WORDS = frozenset(
    "key keys apikey token secret secrets password passwd pwd passphrase credential credentials auth "
    "authorization".split()
)


def resolved(parts: Parts) -> dict[str, Any]:
    """The config as plain data with the values in effect; secrets are masked.

    Secrets are all headers, texts under a name such as `api_key`, values from a variable with such a name or from a
    file, and user names and passwords in URLs.
    """
    return {name: _resolved(value, name) for name, value in _nodes(parts).items()}


def _nodes(parts: Parts) -> dict[str, Any]:
    """By section, a row or a list of rows; a row has the value in effect and the node as written of each setting."""
    data: dict[str, Any] = {}
    for name, part in parts.items():
        if isinstance(part, tuple):
            data[name] = [_row(item) for item in part]
        elif part is not None:
            data[name] = _row(part)
    return data


def _row(part: Section | SyncSettings) -> dict[str, tuple[Any, Node | None]]:
    entries = {} if part.raw is None else part.raw.entries
    row = {key: (value, entries[key].node if key in entries else None) for key, value in part.settings.items()}
    return {"type": (part.type, None), **row} if isinstance(part, Section) else row


def _resolved(data: Any, key: str) -> Any:
    if isinstance(data, list):
        return [_resolved(item, key) for item in data]
    return {name: _shown(value, node, name) for name, (value, node) in data.items()}


def _shown(value: Any, node: Node | None, key: str) -> Any:
    if isinstance(value, Mapping):
        entries = node.entries if isinstance(node, MappingNode) else {}
        names = {name: "authorization" if key == "headers" else name for name in value}
        return {
            name: _shown(item, entries[name].node if name in entries else None, names[name])
            for name, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        nodes = node.items if isinstance(node, ListNode) else ()
        return [_shown(item, nodes[n] if n < len(nodes) else None, key) for n, item in enumerate(value)]
    plain: Any = str(value) if isinstance(value, PurePath) else value.value if isinstance(value, Enum) else value
    variables = re.findall(r"\$\{(file:)?([A-Za-z_][A-Za-z0-9_]*)?", getattr(node, "template", None) or "")
    is_secret = any(file or _is_secret(name) for file, name in variables) or (
        isinstance(plain, str) and _is_secret(key)
    )
    return MASK if is_secret else _CREDENTIALS.sub(f"{MASK}@", plain) if isinstance(plain, str) else plain


MASK = "***"
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")


def _is_secret(name: str) -> bool:
    return not _SECRET_WORDS.isdisjoint(re.split(r"[^a-z]+", name.lower()))


def to_yaml(parts: Parts, *, origins: bool = False, values: bool = False) -> str:
    """The text of `Config.to_yaml`; with `values`, of the values in effect."""
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

    document = commented(resolved(parts) if values else to_data(parts))
    if origins:
        for name, part in parts.items():
            for number, item in enumerate(part if isinstance(part, tuple) else (part,)):
                if item is not None:
                    _add_origins(document[name][number] if isinstance(part, tuple) else document[name], item)
    yaml = YAML(typ="rt", pure=True)
    yaml.width = 1_000_000
    yaml.default_flow_style = False
    yaml.representer.add_representer(
        type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    stream = io.StringIO()
    yaml.dump(document, stream)
    return stream.getvalue()


def _add_origins(target: Any, part: Section | SyncSettings) -> None:
    """Append the origin of each value as a comment."""
    nodes = {} if part.raw is None else {key: entry.node for key, entry in part.raw.entries.items()}
    if isinstance(part, Section):
        nodes["type"] = part.type_node
    for key in target:
        if isinstance(target[key], (dict, list)) and target[key]:
            continue  # a comment behind a nested value would be written on its last line
        location = nodes[key].location if key in nodes else SourceLocation("default")
        target.yaml_add_eol_comment(str(location), key, column=0)


def one_line(section: Section) -> str:
    """A section's type, and the settings that the file sets."""
    settings = []
    for key, entry in section.raw.entries.items():
        node = entry.node
        value = getattr(node, "template", None) or getattr(node, "value", None)
        shown = describe(node) if value is None else str(value)
        first = shown.strip().partition("\n")[0][:60]
        settings.append(f"{key}={first}" + ("" if first == shown else "..."))
    kind = section.type_node.template or section.type
    return f"{kind}" + (f"  ({', '.join(settings)})" if settings else "")

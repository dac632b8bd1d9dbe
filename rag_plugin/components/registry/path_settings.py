"""Settings that are paths or model names: relative paths are resolved against the file that contains them."""

from __future__ import annotations

import os
import types
import typing
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Annotated, Any, Union

from ...source import ListNode, MappingNode, Node, ScalarNode


class ModelName:
    """Marks a `str` setting that names a model: a hub id, `package:NAME/...`, or a path.

    A path begins with `./`, `../`, `~` or `/`, which no hub id does.
    """


class ModelFiles(ModelName):
    """Marks a model whose files this package loads, and `rag-plugin fetch` downloads."""


def is_path(annotation: Any) -> bool:
    """Whether a setting of this type is a path, or a collection of paths."""
    if typing.get_origin(annotation) in (Annotated, Union, types.UnionType, list, tuple, set, frozenset):
        return any(is_path(argument) for argument in typing.get_args(annotation))
    if typing.get_origin(annotation) is dict:
        return is_path(typing.get_args(annotation)[1])
    return isinstance(annotation, type) and issubclass(annotation, PurePath)


def is_model(metadata: Iterable[Any]) -> bool:
    """Whether a setting is marked with `ModelName`."""
    return _is_marked(metadata, ModelName)


def has_model_files(metadata: Iterable[Any]) -> bool:
    """Whether a setting is marked with `ModelFiles`."""
    return _is_marked(metadata, ModelFiles)


def _is_marked(metadata: Iterable[Any], marker: type[ModelName]) -> bool:
    return any(isinstance(item, marker) or (isinstance(item, type) and issubclass(item, marker)) for item in metadata)


def looks_like_path(text: str) -> bool:
    """Whether a model setting is a path."""
    return text in (".", "..") or text.startswith(("./", "../", "~", "/"))


def absolute(text: str, base: Path) -> str:
    """`text` as an absolute path: `~` and relative paths are resolved, links are not."""
    return os.path.abspath(os.path.join(base, os.path.expanduser(text)))


def locate(node: Node, annotation: Any, metadata: Iterable[Any]) -> Node:
    """The value with its paths made absolute."""
    if isinstance(node, ListNode):
        return replace(node, items=tuple(locate(item, annotation, metadata) for item in node.items))
    if isinstance(node, MappingNode) and is_path(annotation):
        entries = {key: replace(entry, node=locate(entry.node, annotation, ())) for key, entry in node.entries.items()}
        return replace(node, entries=entries)
    if not isinstance(node, ScalarNode) or not isinstance(node.value, str) or not node.value:
        return node
    if is_path(annotation):
        return replace(node, value=Path(absolute(node.value, node.base)))
    if is_model(metadata) and looks_like_path(node.value):
        return replace(node, value=absolute(node.value, node.base))
    return node

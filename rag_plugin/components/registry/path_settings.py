"""Relative paths in a config are relative to the file that holds them."""

from __future__ import annotations

import os
import types
import typing
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Annotated, Any, Union

from ...source import ListNode, MappingNode, Node, ScalarNode


class ModelFiles:
    """Marks a `str` setting that names a model: a hub id, `package:NAME/...`, or a path.

    A path begins with `./`, `../`, `~` or `/`, so that it can never be taken for a hub id.
    """


def is_path(annotation: Any) -> bool:
    """Whether a setting of this type is a path, or holds nothing but paths."""
    if typing.get_origin(annotation) in (Annotated, Union, types.UnionType, list, tuple, set, frozenset):
        return any(is_path(argument) for argument in typing.get_args(annotation))
    if typing.get_origin(annotation) is dict:
        return is_path(typing.get_args(annotation)[1])
    return isinstance(annotation, type) and issubclass(annotation, PurePath)


def is_model(metadata: Iterable[Any]) -> bool:
    """Whether a setting is marked as `ModelFiles`."""
    return any(item is ModelFiles or isinstance(item, ModelFiles) for item in metadata)


def looks_like_path(text: str) -> bool:
    return text in (".", "..") or text.startswith(("./", "../", "~", "/"))


def absolute(text: str, base: Path) -> str:
    """`text` as an absolute path, `~` and a relative start resolved, links left alone."""
    return os.path.abspath(os.path.join(base, os.path.expanduser(text)))


def locate(node: Node, annotation: Any, metadata: Iterable[Any]) -> Node:
    """Make the paths in a setting's value absolute."""
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

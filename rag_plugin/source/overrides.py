"""Applies overrides to a tree: a dotted path and a new value, merged by the rules of `extends`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from .scalars import Diagnostics
from .tree import DefaultTypes, Entry, ListNode, MappingNode, Node, SourceLocation, merge, merge_section, merge_setting

Merge = Callable[[Any, Any], Node]
"""The rule of one depth: `merge` at the root, then `merge_section`, then `merge_setting`."""


def order(item: tuple[Any, Any]) -> tuple[int, bool]:
    """Sort key: sections before settings and types before other settings, so that a new type drops no override."""
    keys = _keys(str(item[0]))
    return len(keys), keys[-1] != "type"


def override(
    diagnostics: Diagnostics,
    root: MappingNode,
    dotted: str,
    new: Node,
    location: SourceLocation,
    default_types: DefaultTypes,
) -> MappingNode:
    """`root` with `new` at the path `dotted`; an invalid path is reported and changes nothing."""
    keys = _keys(dotted)
    if not all(keys):
        hint = "write it as section.setting, such as llm.model"
        diagnostics.problem(location, dotted, f"{dotted!r} is not the path of a setting", hint)
        return root
    if keys[0] == "extends":
        diagnostics.problem(location, dotted, "extends cannot be overridden")
        return root

    def replaced(node: Node, keys: list[str], rule: Merge, rule_below: Callable[[str], Merge]) -> Node | None:
        key, rest = keys[0], keys[1:]
        if isinstance(node, ListNode):
            count = len(node.items)
            index = int(key) if key.isascii() and key.isdecimal() and len(key) < 10 else count
            if index >= count:
                message = f"there is no item {key!r}: the list has {count} item" + ("s" if count != 1 else "")
                diagnostics.problem(location, dotted, message, "items count from 0" if count else "")
                return None
            old = node.items[index]
            changed = replaced(old, rest, rule, rule_below) if rest else rule(old, new)
            if changed is None:
                return None
            return replace(node, items=(*node.items[:index], changed, *node.items[index + 1 :]))
        if rest and isinstance(node, MappingNode) and key in node.entries:
            entry = node.entries[key]
            if isinstance(entry.node, (MappingNode, ListNode)):
                below = replaced(entry.node, rest, rule_below(key), lambda _: merge_setting)
                return below and replace(node, entries={**node.entries, key: replace(entry, node=below)})
        # Keys that are missing are created, and merged by the same rules as `extends`.
        nested = new
        for part in reversed(keys):
            nested = MappingNode({part: Entry(location, nested)}, location, nested.base)
        return rule(node, nested)

    def section_rule(key: str) -> Merge:
        return partial(merge_section, default_type=default_types.get(key))

    result = replaced(root, keys, partial(merge, default_types=default_types), section_rule)
    return result if isinstance(result, MappingNode) else root


def _keys(dotted: str) -> list[str]:
    # `rerankers[0].cutoff`, as messages write it, is the same as `rerankers.0.cutoff`.
    return re.sub(r"\[([0-9]+)\]", r".\1", dotted).split(".")

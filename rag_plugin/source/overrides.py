"""A dotted path and a new value in, a changed tree out, by the same rules as `extends`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from .scalars import Diagnostics
from .tree import Entry, ListNode, MappingNode, Node, SourceLocation, merge, merge_section, merge_setting


def order(item: tuple[Any, Any]) -> tuple[int, bool]:
    """Whole sections first and types before settings: so a new type drops no setting that another override gives."""
    keys = _keys(str(item[0]))
    return len(keys), keys[-1] != "type"


def override(
    diagnostics: Diagnostics, root: MappingNode, dotted: str, new: Node, location: SourceLocation
) -> MappingNode:
    """`root` with `new` at the path `dotted`; a path that leads nowhere is noted, and changes nothing."""
    keys = _keys(dotted)
    if not all(keys):
        hint = "write it as section.setting, such as llm.model"
        diagnostics.problem(location, dotted, f"{dotted!r} is not the path of a setting", hint)
        return root
    if keys[0] == "extends":
        diagnostics.problem(location, dotted, "extends cannot be overridden")
        return root
    changed = _replace(diagnostics, root, keys, new, location, dotted, merge)
    return changed if isinstance(changed, MappingNode) else root


def _replace(
    diagnostics: Diagnostics,
    node: Node,
    keys: list[str],
    new: Node,
    location: SourceLocation,
    dotted: str,
    lay: Callable[[Any, Any], Node],
) -> Node | None:
    # `lay` is the rule of this depth: `merge` for the root, then `merge_section`, then `merge_setting`.
    key, rest = keys[0], keys[1:]
    if isinstance(node, ListNode):
        count = len(node.items)
        index = int(key) if key.isascii() and key.isdecimal() and len(key) < 10 else count
        if index >= count:
            message = f"there is no item {key!r}: the list has {count} item" + ("s" if count != 1 else "")
            diagnostics.problem(location, dotted, message, "items count from 0" if count else "")
            return None
        old = node.items[index]
        changed = _replace(diagnostics, old, rest, new, location, dotted, lay) if rest else lay(old, new)
        if changed is None:
            return None
        return replace(node, items=(*node.items[:index], changed, *node.items[index + 1 :]))
    if rest and isinstance(node, MappingNode) and key in node.entries:
        entry = node.entries[key]
        if isinstance(entry.node, (MappingNode, ListNode)):
            deeper = partial(merge_section, name=key) if lay is merge else merge_setting
            below = _replace(diagnostics, entry.node, rest, new, location, dotted, deeper)
            return below and replace(node, entries={**node.entries, key: replace(entry, node=below)})
    # What is not there yet is made, and laid over the old by the same rules as `extends`.
    for part in reversed(keys):
        new = MappingNode({part: Entry(location, new)}, location, new.base)
    return lay(node, new)


def _keys(dotted: str) -> list[str]:
    # `rerankers[0].cutoff`, as messages write it, is the same as `rerankers.0.cutoff`.
    return re.sub(r"\[([0-9]+)\]", r".\1", dotted).split(".")

"""Reads config files, the files that they extend, and Python data into a tree."""

from __future__ import annotations

import numbers
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from .scalars import Diagnostics, finite, substitute, unusable_in
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
    merge,
    truncated,
)
from .yaml_parser import MAX_DEPTH, parse_text

MAX_FILE_BYTES = 1_000_000  # pure-Python YAML parses 100 kB per second


class _Unreadable(Exception):
    """A file cannot be used; its problem has been reported."""


def read_file(
    diagnostics: Diagnostics,
    path: Path,
    name: str,
    default_types: DefaultTypes,
    chain: list[tuple[str, str]],
    named_by: tuple[SourceLocation, str] | None,
) -> MappingNode:
    """Read a file and the files that it extends.

    Args:
        chain: The files that extend this one, as (real path, name).
        named_by: Location and path of the `extends` that names this file; None for the config itself.
    """
    diagnostics.files.append(name)
    empty = MappingNode({}, SourceLocation(name), path.absolute().parent)
    try:
        text = _text(diagnostics, path, name, named_by)
        node = parse_text(diagnostics, text, None, path.absolute().parent, "", name)
    except _Unreadable:
        diagnostics.complete = False
        return empty
    if node is None or not isinstance(node, MappingNode):
        diagnostics.complete = False
    if node is None:
        return empty
    if not isinstance(node, MappingNode):
        if isinstance(node, ScalarNode) and node.value is None:
            hint = "" if named_by else "`rag-plugin init` writes one to start from"
            diagnostics.problem(SourceLocation(name), "", "the file is empty", hint)
        else:
            what = "a list" if isinstance(node, ListNode) else "a single value"
            hint = "write sections such as `reader: {type: directory, path: ./docs}`"
            diagnostics.problem(node.location, "", f"the file holds {what}, not sections", hint)
        return empty
    return extend(diagnostics, node, path.absolute().parent, default_types, [*chain, (os.path.realpath(path), name)])


def _text(diagnostics: Diagnostics, path: Path, name: str, named_by: tuple[SourceLocation, str] | None) -> str:
    location, dotted = named_by or (SourceLocation(name), "")
    what = f"{truncated(name, 200)!r}: " if named_by else ""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            hint = f"did you mean {str(path / 'config.yaml')!r}?" if (path / "config.yaml").is_file() else ""
            diagnostics.problem(location, dotted, f"{what}this is a directory, not a file", hint)
            raise _Unreadable
        if not stat.S_ISREG(status.st_mode):
            diagnostics.problem(location, dotted, f"{what}this is not a regular file")
            raise _Unreadable
        if status.st_size > MAX_FILE_BYTES:
            message = f"{what}the file has {status.st_size:,} bytes; a config has at most {MAX_FILE_BYTES:,}"
            diagnostics.problem(location, dotted, message)
            raise _Unreadable
        raw = path.read_bytes()
    except FileNotFoundError:
        start = "`rag-plugin init` writes one to start from"
        hint = "a relative path is relative to the file that names it" if named_by else start
        diagnostics.problem(location, dotted, f"{what}there is no such file", hint)
        raise _Unreadable from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        diagnostics.problem(location, dotted, f"{what}the file cannot be read: {reason}")
        raise _Unreadable from None
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        diagnostics.problem(SourceLocation(name), "", "the file is UTF-16, not UTF-8", "save it as UTF-8")
        raise _Unreadable
    if b"\0" in raw:
        diagnostics.problem(SourceLocation(name), "", "this is a binary file, not YAML text")
        raise _Unreadable
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        message = f"the file is not UTF-8: invalid byte 0x{raw[error.start]:02x}"
        diagnostics.problem(SourceLocation(name, line, column), "", message, "save it as UTF-8")
        raise _Unreadable from None


def extend(
    diagnostics: Diagnostics,
    root: MappingNode,
    folder: Path,
    default_types: DefaultTypes,
    chain: list[tuple[str, str]],
) -> MappingNode:
    """Merge `root` into the file that its `extends` names; arguments as for `read_file`."""
    entry = root.entries.get("extends")
    if entry is None:
        return root
    without_extends = replace(root, entries={key: value for key, value in root.entries.items() if key != "extends"})
    node = entry.node
    if not isinstance(node, ScalarNode) or not isinstance(node.value, str) or not node.value:
        diagnostics.complete = False
        if node is not BROKEN:
            diagnostics.problem(node.location, "extends", f"the path of a file is expected, not {describe(node)}")
        return without_extends
    path = folder / Path(node.value).expanduser()
    # The base's name is relative to the file that extends it, as a user would open it.
    name = node.template or node.value
    if node.location.line:
        name = os.path.normpath(os.path.join(os.path.dirname(node.location.file), name))
    above = [real for real, _ in chain]
    if os.path.realpath(path) in above:
        diagnostics.complete = False
        names = [shown for _, shown in chain[above.index(os.path.realpath(path)) :]]
        message = "the files extend each other in a cycle: " + " → ".join([*names, names[0]])
        diagnostics.problem(node.location, "extends", message, "remove one of these `extends`")
        return without_extends
    base = read_file(diagnostics, path, name, default_types, chain, (node.location, "extends"))
    return merge(base, without_extends, default_types)


def from_python(
    diagnostics: Diagnostics, data: Any, location: SourceLocation, base: Path, path: str, parents: tuple[int, ...] = ()
) -> Node | None:
    """Python data as a tree; strings follow the `${NAME}` rules of files."""
    if id(data) in parents or len(parents) >= MAX_DEPTH:
        deep = "lists and mappings are nested too deeply"
        diagnostics.problem(location, path, "the data contains itself" if id(data) in parents else deep)
        return None
    if isinstance(data, os.PathLike):
        data = os.fspath(data)
    if isinstance(data, str):
        quoted = isinstance(data, Template) and data.quoted
        # str.__str__: for an enum member that is a str, its value
        return substitute(diagnostics, str.__str__(data), location, base, path, quoted=quoted, typed="${" in data)
    if data is None or isinstance(data, bool):
        return ScalarNode(data, location, base)
    if isinstance(data, numbers.Real) and not isinstance(data, Fraction):  # numpy's, too
        return finite(
            diagnostics, int(data) if isinstance(data, numbers.Integral) else float(data), location, base, path
        )
    if isinstance(data, Mapping):
        entries = {}
        for key, value in data.items():
            if not isinstance(key, str):
                diagnostics.problem(location, path, f"keys are text, not {key!r}")
                continue
            unusable = unusable_in(key)
            if unusable:
                diagnostics.problem(location, path, f"this key contains {unusable}")
                continue
            node = from_python(diagnostics, value, location, base, join(path, key), (*parents, id(data)))
            entries[str.__str__(key)] = Entry(location, BROKEN if node is None else node)
        return MappingNode(entries, location, base)
    if isinstance(data, Sequence) and not isinstance(data, (bytes, bytearray)):
        below = (*parents, id(data))
        nodes = [from_python(diagnostics, item, location, base, join(path, i), below) for i, item in enumerate(data)]
        return ListNode(tuple(BROKEN if node is None else node for node in nodes), location, base)
    message = f"an object of type {type(data).__name__} cannot be part of a config"
    hint = "pass ready objects to build_engine by slot name: build_engine(config, llm=my_llm)"
    diagnostics.problem(location, path, message, hint)
    return None

"""Parses YAML 1.2 text into a tree; a syntax error is reported at the line to change."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from .scalars import Diagnostics, finite, joined, scalar, substitute, unusable_in
from .tree import BAD, BROKEN, Entry, ListNode, MappingNode, Node, ScalarNode, SourceLocation, join, truncated

MAX_VALUES = 20_000  # aliases of aliases can expand a small file beyond any memory
MAX_DEPTH = 50  # of nested lists and mappings; deeper ones end in a RecursionError

_OTHER_VERSION = re.compile(r"(?:[ \t]*(?:#[^\r\n]*)?(?:\r\n?|\n))*%YAML[ \t]+(?!1\.2\s)(\S+)")
_INVALID_ESCAPE = re.compile(r"\\U(?!000|0010)[0-9A-Fa-f]{8}")  # above the last code point of Unicode


class _Abort(Exception):
    """A text cannot be used; its problem has been reported."""


def parse_text(
    diagnostics: Diagnostics, text: str, location: SourceLocation | None, base: Path, path: str, name: str = ""
) -> Node | None:
    """Parse YAML text.

    Args:
        location: The location of all values (an override); None for positions in the file `name`.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError

    yaml = YAML(typ="safe", pure=True)
    problems_before = len(diagnostics.problems)
    directive = _OTHER_VERSION.match(text)
    if directive:
        line = text.count("\n", 0, directive.start(1)) + 1
        message = f"the text declares YAML {directive[1]}; a config is YAML 1.2"
        diagnostics.problem(location or SourceLocation(name, line, 1), path, message, "remove the %YAML line")
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # YAML 1.2 allows an anchor to be defined twice
            root = yaml.compose(text)
            if root is None:
                return ScalarNode(None, location or SourceLocation(name, 1, 1), base)
            return _Builder(diagnostics, yaml, location, base, name).build(root, path, ())
    except _Abort:
        return None
    except RecursionError:
        del diagnostics.problems[problems_before:]
        diagnostics.problem(location or SourceLocation(name), path, "lists and mappings are nested too deeply")
    except MarkedYAMLError as error:
        mark, message, hint = _syntax_error(error, text)
        where = location or (SourceLocation(name, mark.line + 1, mark.column + 1) if mark else SourceLocation(name))
        diagnostics.problem(where, path, message, hint)
    except Exception as error:  # the YAML library may raise anything
        offset, message, hint = _library_error(error, text)
        where = SourceLocation(name)
        if offset is not None:
            where = SourceLocation(name, text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset))
        diagnostics.problem(location or where, path, message, hint)
    return None


class _Builder:
    """Converts ruamel's node graph, which contains repeated keys and all positions, into a tree."""

    def __init__(
        self, diagnostics: Diagnostics, yaml: Any, location: SourceLocation | None, base: Path, name: str
    ) -> None:
        self.diagnostics, self.yaml, self.fixed, self.base, self.name = diagnostics, yaml, location, base, name
        self.count = 0

    def location(self, node: Any) -> SourceLocation:
        return self.fixed or SourceLocation(self.name, node.start_mark.line + 1, node.start_mark.column + 1)

    def build(self, node: Any, path: str, parents: tuple[int, ...]) -> Node | None:
        from ruamel.yaml import nodes

        location = self.location(node)
        self.count += 1
        if id(node) in parents:
            self.diagnostics.problem(location, path, "an alias is inside its own anchor")
            raise _Abort
        if len(parents) >= MAX_DEPTH:
            self.diagnostics.problem(location, path, "lists and mappings are nested too deeply")
            raise _Abort
        if self.count > MAX_VALUES:
            self.diagnostics.problem(location, path, f"the file expands to more than {MAX_VALUES:,} values")
            raise _Abort
        tag = str(node.tag or "")
        kind = tag.removeprefix("tag:yaml.org,2002:")
        shown = kind if kind == tag else f"!!{kind}"
        if kind == tag or kind not in _ALLOWED_TAGS:
            self.diagnostics.problem(
                location, path, f"the tag {shown} is not allowed", "a config is plain data: remove it"
            )
            return None
        if node.id != _ALLOWED_TAGS[kind]:
            what = {"scalar": "one value", "sequence": "a list", "mapping": "a mapping"}[node.id]
            self.diagnostics.problem(location, path, f"the tag {shown} does not fit: this is {what}", "remove it")
            return None
        if isinstance(node, nodes.ScalarNode):
            return self._scalar(node, kind, location, path)
        if isinstance(node, nodes.MappingNode):
            return self._mapping(node, location, path, (*parents, id(node)))
        built = [self.build(item, join(path, i), (*parents, id(node))) for i, item in enumerate(node.value)]
        return ListNode(tuple(BROKEN if item is None else item for item in built), location, self.base)

    def _scalar(self, node: Any, kind: str, location: SourceLocation, path: str) -> ScalarNode | None:
        plain = node.style is None
        if kind == "str":
            text = joined(node.value)
            return substitute(
                self.diagnostics, text, location, self.base, path, quoted=not plain, typed=plain and "${" in text
            )
        value = scalar(self.yaml, kind, node.value)
        if value is BAD:
            what = {"bool": "true or false", "null": "null"}.get(kind, "a number in range")
            self.diagnostics.problem(location, path, f"this is not {what}: {truncated(node.value, 40)}")
            return None
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return finite(self.diagnostics, value, location, self.base, path)
        return ScalarNode(value, location, self.base, None, not plain)

    def _mapping(self, node: Any, location: SourceLocation, path: str, parents: tuple[int, ...]) -> MappingNode:
        from ruamel.yaml import nodes

        entries: dict[str, Entry] = {}
        for key_node, value_node in node.value:
            key_location = self.location(key_node)
            is_text = isinstance(key_node, nodes.ScalarNode) and str(key_node.tag).endswith(
                (":str", ":merge", ":timestamp")
            )
            if not is_text:
                shown = truncated(key_node.value, 40) if isinstance(key_node, nodes.ScalarNode) else "a list or mapping"
                hint = "put it in quotes" if isinstance(key_node, nodes.ScalarNode) and key_node.value else ""
                if node.flow_style and shown.isdecimal():
                    hint = "inside { } a comma ends a value: numbers have a decimal point, such as 0.3"
                self.diagnostics.problem(key_location, path, f"keys are text, not {shown or 'nothing'}", hint)
                continue
            key = joined(key_node.value)
            if key == "<<" and key_node.style is None:
                hint = "use `extends: base.yaml`, or write the keys out"
                self.diagnostics.problem(
                    key_location, join(path, key), "the merge key << is not part of YAML 1.2", hint
                )
                continue
            unusable = unusable_in(key)
            if unusable:
                self.diagnostics.problem(key_location, path, f"this key contains {unusable}")
                continue
            if key in entries:
                first = entries[key].key_location.line
                first_place = f" (first on line {first})" if first else ""
                self.diagnostics.problem(
                    key_location, join(path, key), f"key appears twice{first_place}", "keep one of them"
                )
                continue
            value = self.build(value_node, join(path, key), parents)
            if isinstance(value, ScalarNode) and value_node.start_mark.index == value_node.end_mark.index:
                value = replace(value, location=key_location)  # an empty value has the position of the next key
            # A value with a problem keeps its key, so that it is not reported as missing too.
            entries[key] = Entry(key_location, value if value is not None else BROKEN)
        return MappingNode(entries, location, self.base)


_ALLOWED_TAGS = {
    **dict.fromkeys(("null", "bool", "int", "float", "str", "timestamp", "merge", "value"), "scalar"),
    "seq": "sequence",
    "map": "mapping",
}


def _syntax_error(error: Any, text: str) -> tuple[Any, str, str]:
    """The position to show for a syntax error, a message and a hint."""
    what = " ".join(str(error.problem or error.context or "").split())
    context = str(error.context or "")
    mark, start = error.problem_mark or error.context_mark, error.context_mark or error.problem_mark
    lines = re.split(r"\r\n?|\n", text)
    shown = lines[mark.line] if mark and mark.line < len(lines) else ""
    if "'\\t'" in what or re.match(r" *\t", shown):
        return mark, "a tab cannot indent YAML", "use spaces"
    if "quoted scalar" in context and "unexpected" in what:
        return start, "a quote is opened here and never closed", "close it, or remove it"
    if "escape" in what and "double-quoted" in context:
        message = "a backslash in double quotes starts an escape, and this escape is not part of YAML"
        return mark, message, "use single quotes, or write the backslash twice"
    if "another document" in what:
        return mark, "a second document starts here", "a config is one document: remove the line ---"
    if "undefined alias" in what:
        name = what.rpartition(" ")[2].strip("'")
        message = f"alias *{name} is not defined"
        return mark, message, "text that starts with * needs quotes"
    if context in ("while scanning an alias", "while scanning an anchor"):
        return mark, f"this is not YAML: {what}", "text that starts with * or & needs quotes"
    if "cannot start any token" in what:
        character = what.split("'")[1]
        return mark, f"text cannot start with {character}", "put it in quotes"
    if "mapping values are not allowed" in what:
        hint = "text that contains ': ' needs quotes; otherwise check the indentation"
        return mark, "unexpected colon", hint
    if "could not find expected ':'" in what:
        return start, "a key without a colon", "write a colon and a space after the key"
    if context in ("while parsing a flow sequence", "while parsing a flow mapping"):
        opened, closing = ("[", "]") if context.endswith("sequence") else ("{", "}")
        if "${" in shown:
            # The brace of ${NAME} opens a mapping inside brackets.
            hint = 'put text in quotes, "${NAME}"; for a number write each setting on its own line'
            return mark, f"${{...}} needs quotes between {opened} and {closing}", hint
        where = mark if mark.line == start.line else start
        return where, f"a comma or the closing {closing} is missing", ""
    if "expected the node content" in what:
        token = what.split("'")[1]
        if token == "<stream end>":
            return mark, "a bracket is never closed", "close it with ] or }"
        return mark, f"a value is expected here, not {token}", "is a bracket or quote missing before it?"
    if "expected <block end>" in what or "expected '<document start>'" in what:
        return mark, "this does not fit the lines above", "check the indentation, and the quotes and brackets before it"
    return mark, f"this is not YAML: {what}", ""


def _library_error(error: Exception, text: str) -> tuple[int | None, str, str]:
    """The offset of a character that the YAML library rejects, a message and a hint."""
    offset = getattr(error, "position", None)
    if isinstance(offset, int):
        character = f"U+{getattr(error, 'character', 0):04X}"
        return offset, f"the character {character} is not allowed in YAML", "remove it"
    escape = _INVALID_ESCAPE.search(text)
    if escape and isinstance(error, (ValueError, OverflowError)):
        return escape.start(), f"the escape {escape.group()} is above the last character of Unicode", ""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return None, f"this is not YAML: {first}", ""

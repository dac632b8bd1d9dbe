"""Text in, a scalar's value out: `${NAME}` replaced, typed as YAML 1.2 types it, and of a kind that can be used."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

from ..errors import Problem
from .tree import BAD, ScalarNode, SourceLocation, cut

LARGEST_INTEGER = 2**64  # beyond it Python's own text and float conversions fail, and no setting means it

_VARIABLE = re.compile(
    r"(?P<escape>\$\$)"
    r"|\$\{(?P<rest>(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?(?=\}|\Z))?[^}]*)(?P<close>\})?",
    re.DOTALL,
)
_UNUSABLE = re.compile("[\\0\\ud800-\\udfff]")  # neither a file name nor UTF-8 can hold these


class Diagnostics:
    """What is noted while a config is read: its problems, the files it is made of, and whether all could be read."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.whole = True
        self.files: list[str] = []

    def problem(self, location: SourceLocation, path: str, message: str, hint: str = "") -> None:
        self.problems.append(Problem(location.file, location.line, location.column, path, message, hint))


def finite(
    diagnostics: Diagnostics, data: int | float, location: SourceLocation, base: Path, path: str
) -> ScalarNode | None:
    """A number that every later step can handle: no NaN, no infinity, no integer of a thousand digits."""
    if isinstance(data, float) and not math.isfinite(data):
        diagnostics.problem(location, path, f"NaN and infinity are not allowed: {data}")
        return None
    if isinstance(data, int) and abs(data) > LARGEST_INTEGER:
        diagnostics.problem(location, path, "this whole number is too large to be used")
        return None
    return ScalarNode(data, location, base)


def substitute(
    diagnostics: Diagnostics, text: str, location: SourceLocation, base: Path, path: str, *, quoted: bool, typed: bool
) -> ScalarNode | None:
    """Replace `${NAME}`, `${NAME:-default}` and `$$`; type the outcome as YAML would if `typed`."""
    unusable = unusable_in(text)
    if unusable:
        diagnostics.problem(location, path, f"this text holds {unusable}")
        return None
    if "$" not in text:
        return ScalarNode(text, location, base, None, quoted)
    pieces, position, used = [], 0, False
    taken: list[tuple[str, str]] = []
    for match in _VARIABLE.finditer(text):
        pieces.append(text[position : match.start()])
        position = match.end()
        if match["escape"]:
            pieces.append("$")
            continue
        used = True
        name, default, shown = match["name"], match["default"], cut(match["rest"].partition("\n")[0], 40)
        if match["close"] is None:
            message = f"${{{shown} is never closed"
            diagnostics.problem(location, path, message, "write ${NAME}; a plain $ before { is written $$")
            return None
        if not name:
            message = f"${{{shown}}} is not the name of an environment variable"
            diagnostics.problem(location, path, message, "write ${NAME} or ${NAME:-default}; a plain $ before { is $$")
            return None
        if default and "${" in default:
            diagnostics.problem(location, path, "a default cannot hold another ${...}", "write the default out")
            return None
        found = os.environ.get(name)
        if default is None and found is None:
            message = f"the environment variable {name} is not set"
            diagnostics.problem(location, path, message, f"set it, or give a default: ${{{name}:-...}}")
            return None
        if found:
            taken.append((match.group(), found))
        pieces.append(found if found else (default or ":-")[2:])
    pieces.append(text[position:])
    result = "".join(pieces)
    if not used:
        return ScalarNode(result, location, base, None, quoted)
    unusable = unusable_in(result)
    if unusable:
        diagnostics.problem(location, path, f"the value of {text} holds {unusable}")
        return None
    value = result if quoted or not typed else _typed(diagnostics, result, location, path, text)
    return None if value is BAD else ScalarNode(value, location, base, text, quoted, tuple(taken))


def _typed(diagnostics: Diagnostics, text: str, location: SourceLocation, path: str, template: str) -> Any:
    from ruamel.yaml import YAML, nodes

    yaml = YAML(typ="safe", pure=True)
    tag = str(yaml.resolver.resolve(nodes.ScalarNode, text, (True, False)))
    value = scalar(yaml, tag, text)
    if isinstance(value, float) and not math.isfinite(value):
        diagnostics.problem(location, path, f"NaN and infinity are not allowed: the value of {template}")
        return BAD
    if value is BAD or (isinstance(value, int) and abs(value) > LARGEST_INTEGER):
        message = f"this is no number that can be used: the value of {template}"
        diagnostics.problem(location, path, message, f"if it is text, put it in quotes: {template!r}")
        return BAD
    return value


def scalar(yaml: Any, tag: str, text: str) -> Any:
    """The Python value of a scalar under a tag of YAML 1.2's core, or `BAD` where the text does not fit the tag."""
    from ruamel.yaml import nodes

    kind = tag.rpartition(":")[2]
    if kind not in ("null", "bool", "int", "float"):
        return text  # text, and what is only in YAML 1.1: dates stay text too
    if kind == "null":
        return None if text in ("", "~", "null", "Null", "NULL") else BAD
    try:
        return getattr(yaml.constructor, f"construct_yaml_{kind}")(nodes.ScalarNode(tag, text))
    except (ValueError, OverflowError, KeyError, IndexError):
        return BAD


def unusable_in(text: str) -> str:
    """What in `text` no file could hold, in words; empty where there is nothing."""
    found = _UNUSABLE.search(text)
    if not found:
        return ""
    return "a null character" if found.group() == "\0" else "half a character (a lone surrogate), so it is not UTF-8"


def joined(text: str) -> str:
    """`text` with pairs of surrogates as the characters they stand for: JSON, which is YAML too, escapes so."""
    if not _UNUSABLE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")

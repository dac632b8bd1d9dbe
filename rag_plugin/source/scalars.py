"""Scalars: substitution of `${NAME}`, typing by YAML 1.2, and the range of usable values."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

from ..errors import Problem
from .tree import BAD, ScalarNode, SourceLocation, truncated

MAX_VALUE_BYTES = 65_536
MAX_INTEGER = 2**64  # conversions of Python fail for very large integers, and no setting needs one

_VARIABLE = re.compile(
    r"(?P<escape>\$\$(?=\{))"
    r"|\$\{(?:file:(?P<file>[^}]+)\}|(?P<rest>(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?(?=\}|\Z))?[^}]*)(?P<close>\})?)",
    re.DOTALL,
)
_UNUSABLE = re.compile("[\\0\\ud800-\\udfff]")  # not representable in file names or UTF-8


class Diagnostics:
    """Collects the problems of a config while it is read.

    Attributes:
        problems: In the order in which they are found.
        complete: False if a file could not be parsed, so that missing sections may be in it.
        files: The names of the files in the order in which they are read.
    """

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.complete = True
        self.files: list[str] = []

    def problem(self, location: SourceLocation, path: str, message: str, hint: str = "") -> None:
        self.problems.append(Problem(location.file, location.line, location.column, path, message, hint))


def finite(
    diagnostics: Diagnostics, data: int | float, location: SourceLocation, base: Path, path: str
) -> ScalarNode | None:
    """A number, unless it is NaN, infinite or too large."""
    if isinstance(data, float) and not math.isfinite(data):
        diagnostics.problem(location, path, f"NaN and infinity are not allowed: {data}")
        return None
    if isinstance(data, int) and abs(data) > MAX_INTEGER:
        diagnostics.problem(location, path, "this whole number is too large to be used")
        return None
    return ScalarNode(data, location, base)


def substitute(
    diagnostics: Diagnostics, text: str, location: SourceLocation, base: Path, path: str, *, quoted: bool, typed: bool
) -> ScalarNode | None:
    """Replace `${NAME}`, `${NAME:-default}`, `${file:PATH}` and `$${`; with `typed`, YAML determines the type."""
    unusable = unusable_in(text)
    if unusable:
        diagnostics.problem(location, path, f"this text contains {unusable}")
        return None
    if "$" not in text:
        return ScalarNode(text, location, base, None, quoted)
    pieces, position, has_variable = [], 0, False
    substitutions: list[tuple[str, str]] = []
    template = text
    for match in _VARIABLE.finditer(text):
        pieces.append(text[position : match.start()])
        position = match.end()
        if match["escape"]:
            pieces.append("$")
            continue
        has_variable = True
        if match["file"]:
            content = _content(diagnostics, match["file"], location, base, path)
            if content is None:
                return None
            absolute = f"${{file:{os.path.abspath(os.path.join(base, os.path.expanduser(match['file'])))}}}"
            template = template.replace(match.group(), absolute)
            substitutions.append((absolute, content))
            pieces.append(content)
            continue
        name, default, shown = match["name"], match["default"], truncated(match["rest"].partition("\n")[0], 40)
        if match["close"] is None:
            message = f"${{{shown} is never closed"
            diagnostics.problem(location, path, message, "write ${NAME}; a plain ${ is written $${")
            return None
        if not name:
            message = f"${{{shown}}} is not the name of an environment variable"
            diagnostics.problem(location, path, message, "write ${NAME} or ${NAME:-default}; a plain ${ is $${")
            return None
        if default and "${" in default:
            diagnostics.problem(location, path, "a default cannot contain another ${...}", "write the default out")
            return None
        variable = os.environ.get(name)
        if default is None and variable is None:
            message = f"the environment variable {name} is not set"
            diagnostics.problem(location, path, message, f"set it, or give a default: ${{{name}:-...}}")
            return None
        if variable:
            substitutions.append((match.group(), variable))
        pieces.append(variable if variable else (default or ":-")[2:])
    pieces.append(text[position:])
    result = "".join(pieces)
    if not has_variable:
        return ScalarNode(result, location, base, None, quoted)
    unusable = unusable_in(result)
    if unusable:
        diagnostics.problem(location, path, f"the value of {text} contains {unusable}")
        return None
    value = result if quoted or not typed else _typed(diagnostics, result, location, path, text)
    return None if value is BAD else ScalarNode(value, location, base, template, quoted, tuple(substitutions))


def _content(diagnostics: Diagnostics, name: str, location: SourceLocation, base: Path, path: str) -> str | None:
    """The content of a file with one value, such as a secret that a container mounts, without its last line break."""
    file = Path(base, os.path.expanduser(name))
    try:
        if file.stat().st_size > MAX_VALUE_BYTES:
            reason = f"it has more than {MAX_VALUE_BYTES:,} bytes, and a file with one value is expected"
        else:
            return file.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        reason = "it is not UTF-8"
    except OSError as error:
        reason = error.strerror or str(error)
    hint = "a relative path is relative to the file that names it"
    diagnostics.problem(location, path, f"{str(file)!r} cannot be read: {reason}", hint)
    return None


def _typed(diagnostics: Diagnostics, text: str, location: SourceLocation, path: str, template: str) -> Any:
    from ruamel.yaml import YAML, nodes

    yaml = YAML(typ="safe", pure=True)
    tag = str(yaml.resolver.resolve(nodes.ScalarNode, text, (True, False)))
    value = scalar(yaml, tag, text)
    if isinstance(value, float) and not math.isfinite(value):
        diagnostics.problem(location, path, f"NaN and infinity are not allowed: the value of {template}")
        return BAD
    if value is BAD or (isinstance(value, int) and abs(value) > MAX_INTEGER):
        message = f"this number is out of range: the value of {template}"
        diagnostics.problem(location, path, message, f"if it is text, put it in quotes: {template!r}")
        return BAD
    return value


def scalar(yaml: Any, tag: str, text: str) -> Any:
    """The Python value of a scalar with a tag of YAML 1.2's core schema, or `BAD` if the text does not fit the tag."""
    from ruamel.yaml import nodes

    kind = tag.rpartition(":")[2]
    if kind not in ("null", "bool", "int", "float"):
        return text  # types of YAML 1.1 alone, such as dates, stay text
    if kind == "null":
        return None if text in ("", "~", "null", "Null", "NULL") else BAD
    try:
        return getattr(yaml.constructor, f"construct_yaml_{kind}")(nodes.ScalarNode(tag, text))
    except (ValueError, OverflowError, KeyError, IndexError):
        return BAD


def unusable_in(text: str) -> str:
    """The character in `text` that no file can contain, in words; empty if there is none."""
    match = _UNUSABLE.search(text)
    if not match:
        return ""
    return "a null character" if match.group() == "\0" else "a lone surrogate, so it is not UTF-8"


def joined(text: str) -> str:
    """`text` with surrogate pairs combined: JSON, which is YAML too, escapes characters as pairs."""
    if not _UNUSABLE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")

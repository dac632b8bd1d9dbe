"""Ollama's model options and durations. A server accepts any other name of an option and ignores it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

# https://docs.ollama.com/modelfile#valid-parameters-and-values, and `Options` of the Python client 0.6.
_BY_TYPE = {
    "integer": "num_ctx num_predict num_keep num_batch num_gpu main_gpu num_thread seed top_k repeat_last_n mirostat",
    "number": "temperature top_p min_p typical_p tfs_z repeat_penalty presence_penalty frequency_penalty mirostat_tau "
    "mirostat_eta",
    "boolean": "use_mmap numa penalize_newline low_vram f16_kv logits_all vocab_only use_mlock embedding_only",
    "array": "stop",
}
OPTIONS = {name: kind for kind, names in _BY_TYPE.items() for name in names.split()}
"""The options with their types, which a server enforces."""

CALL_ARGUMENTS = ("max_tokens", "think", "format", "keep_alive")
"""Arguments of a call that are not model options."""

SETTING_OF_OPTION = {"num_ctx": "context_window", "num_predict": "max_tokens"}
"""Options that the engine sets itself, with the setting for each."""


def unknown_option(names: Iterable[str]) -> tuple[str, str] | None:
    """The first name that is not an option, with a hint."""
    for name in names:
        if name not in OPTIONS:
            close = difflib.get_close_matches(name, [*OPTIONS, *CALL_ARGUMENTS], 1, 0.6)
            return name, f"did you mean {close[0]!r}?" if close else "the server would ignore it"
    return None


def wrong_type(name: str, value: Any) -> tuple[str, str] | None:
    """Why an option's value is refused, with a hint; None for a valid one."""
    kind = OPTIONS.get(name)
    if kind is None or value is None:
        return None
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    fits = {
        "integer": is_number and value == int(value),
        "number": is_number,
        "boolean": isinstance(value, bool),
        "array": isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value),
    }
    if fits[kind]:
        return None
    forms = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "array": "a list of texts"}
    hint = f"write {value} without quotes" if isinstance(value, str) and _is_literal(value, kind) else ""
    return f"the option {name!r} is {forms[kind]}, not {value!r}", hint or f"write {forms[kind]}"


def _is_literal(value: str, kind: str) -> bool:
    forms = {"integer": r"-?\d+", "number": r"-?\d*\.?\d+", "boolean": "true|false"}
    return kind in forms and bool(re.fullmatch(forms[kind], value))


def check_options(options: Mapping[str, Any], *, for_all_calls: bool = False) -> None:
    """Check the names and types of options.

    Args:
        options: The options.
        for_all_calls: They apply to every call, so those with a setting of their own are errors too.

    Raises:
        TypeError: A name is not an option, with the closest one; a value has another type; or there is a setting.
    """
    unknown = unknown_option(options)
    if unknown is not None:
        raise TypeError(f"Ollama has no option {unknown[0]!r}: {unknown[1]}")
    for name, value in options.items():
        if for_all_calls and name in SETTING_OF_OPTION:
            raise TypeError(f"{name!r} is a setting here: write it as {SETTING_OF_OPTION[name]}")
        problem = wrong_type(name, value)
        if problem is not None:
            raise TypeError(f"{problem[0]}: {problem[1]}")


_NANOSECONDS = {"ns": 1, "us": 1e3, "µs": 1e3, "μs": 1e3, "ms": 1e6, "s": 1e9, "m": 6e10, "h": 3.6e12}
_PART = re.compile(rf"([0-9]+\.?[0-9]*|\.[0-9]+)({'|'.join(_NANOSECONDS)})")
_DURATION = re.compile(rf"[+-]?(?:{_PART.pattern})+|[+-]?0")


def duration_problem(value: str) -> tuple[str, str] | None:
    """Why a server refuses a text as `keep_alive`, with a hint; None for a duration of Go, such as `1h30m`."""
    if _DURATION.fullmatch(value):
        if sum(float(number) * _NANOSECONDS[unit] for number, unit in _PART.findall(value)) < 2**63:
            return None
        return f"{value!r} is longer than 292 years", "write -1 without quotes to keep the model loaded for ever"
    number = re.fullmatch(r"\s*(-?[0-9]+(?:\.[0-9]+)?)\s*", value)
    days = re.fullmatch(r"([0-9]+)\s*d(?:ays?)?", value)
    if number and float(number[1]) < 0:
        hint = f"write {number[1]} without quotes: a negative number keeps the model loaded for ever"
    elif number:
        hint = f"write {number[1]} without quotes, or {number[1]}s, for seconds"
    elif days:
        hint = f"write {24 * int(days[1])}h"
    else:
        hint = "write a time such as 10m or 1h30m, or -1 to keep the model loaded for ever"
    return f"{value!r} is not a time with the unit ms, s, m or h", hint

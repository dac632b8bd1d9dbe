"""What the model of the fake server says, and how that is told line by line."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

from . import recorded
from .counting import prompt_tokens, tokens


@dataclass(frozen=True)
class Answer:
    """What the model says.

    Attributes:
        thinking: Said before the text, where the request does not say `think: false`.
        tool_calls: Names and arguments.
        done_reason: Why it ended, where no limit of tokens ends it before.
    """

    text: str = ""
    thinking: str = ""
    tool_calls: Sequence[tuple[str, Mapping[str, Any]]] = ()
    done_reason: str = "stop"


Says = Union[str, Answer, Callable[[Mapping[str, Any]], Union[str, Answer]]]


def answer_lines(
    answer: Answer, body: Mapping[str, Any], *, prompt: int, context: int, shift: bool
) -> list[dict[str, Any]]:
    """The lines of an answer: one for each token, tool calls, and the one that says `done`.

    Args:
        body: The request's.
        prompt: The tokens of the prompt, of the `context` that there are.
        shift: Whether the answer may go on where the context is full.
    """
    asked, options = str(body["model"]), dict(body.get("options") or {})
    text, reason = answer.text, answer.done_reason
    for stop in options.get("stop") or ():
        text = text.partition(stop)[0]
    thinking = tokens(answer.thinking) if body.get("think") is not False else []
    said = [("thinking", piece) for piece in thinking] + [("content", piece) for piece in tokens(text)]
    # The last token needs no room: it is given out and never read again.
    limits = [] if shift else [context - prompt + 1]
    most = options.get("num_predict")
    if most is not None and most >= 0:
        limits.append(int(most))
    if limits and min(limits) <= len(said):
        said, reason = said[: min(limits)], "length"
    lines: list[dict[str, Any]] = []
    for kind, piece in said:
        message = {"role": "assistant", "content": "", kind: piece}
        lines.append({**started(asked), "message": message, "done": False})
    if answer.tool_calls:
        calls = [
            {"id": f"call_{at}", "function": {"index": at, "name": name, "arguments": dict(arguments)}}
            for at, (name, arguments) in enumerate(answer.tool_calls)
        ]
        told = {"role": "assistant", "content": "", "tool_calls": calls}
        lines.append({**started(asked), "message": told, "done": False})
    counts = {
        "total_duration": 3_000_000,
        "load_duration": 1_000_000,
        "prompt_eval_count": prompt,
        "prompt_eval_duration": 1_000_000,
        "eval_count": len(said) + (reason == "stop"),
        "eval_duration": 1_000_000,
    }
    return [*lines, {**started(asked), "done": True, "done_reason": reason, **counts}]


def fitting(messages: Sequence[Mapping[str, Any]], context: int) -> int:
    """Tokens of a prompt that was cut in silence: the older messages are dropped whole, then the last one is cut."""
    kept = list(messages)
    while len(kept) > 1 and prompt_tokens(kept) > context:
        kept.pop(next((at for at, item in enumerate(kept[:-1]) if item.get("role") != "system"), 0))
    return min(prompt_tokens(kept), context)


def started(model: str) -> dict[str, Any]:
    """What every line begins with."""
    return {"model": model, "created_at": recorded.now(), "message": {"role": "assistant", "content": ""}}


def joined(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The one object of an answer that is not streamed."""
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    for line in lines:
        for key, value in line["message"].items():
            if key != "role":
                message[key] = message[key] + value if key in message else value
    return {**lines[-1], "message": message}


def of_type(value: Any, kind: str) -> bool:
    """Whether an option's value has the type that the server wants."""
    if kind == "array":
        return isinstance(value, list)
    return isinstance(value, int if kind == "integer" else (int, float)) and not isinstance(value, bool)


def vector(text: str) -> list[float]:
    """576 numbers of length 1 that the text alone decides."""
    raw = b"".join(hashlib.sha256(f"{part}:{text}".encode("utf-8", "surrogatepass")).digest() for part in range(18))
    numbers = [byte / 127.5 - 1 for byte in raw]
    length = math.sqrt(sum(number * number for number in numbers))
    return [round(number / length, 9) for number in numbers]

"""The model of the fake server: its answers line by line, and its vectors."""

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
    """An answer of the model.

    Attributes:
        thinking: Sent before the text, unless the request has `think: false`.
        tool_calls: Names and arguments.
        done_reason: The finish reason, unless a token limit ends the answer first.
    """

    text: str = ""
    thinking: str = ""
    tool_calls: Sequence[tuple[str, Mapping[str, Any]]] = ()
    done_reason: str = "stop"


AnswerSource = Union[str, Answer, Callable[[Mapping[str, Any]], Union[str, Answer]]]


def answer_lines(answer: Answer, body: Mapping[str, Any], *, prompt: int, context: int) -> list[dict[str, Any]]:
    """The lines of an answer: one for each token, one for tool calls, and the last with `done`.

    Args:
        body: The request's body.
        prompt: Tokens of the prompt.
        context: Tokens of the context.
    """
    model, options = str(body["model"]), dict(body.get("options") or {})
    text, reason = answer.text, answer.done_reason
    for stop in options.get("stop") or ():
        text = text.partition(stop)[0]
    thinking = tokens(answer.thinking) if body.get("think") is not False else []
    pieces = [("thinking", piece) for piece in thinking] + [("content", piece) for piece in tokens(text)]
    # The last token needs no place in the context: it is sent and never read again.
    limits = [context - prompt + 1] if body.get("shift") is False else []
    max_tokens = options.get("num_predict")
    if max_tokens is not None and max_tokens >= 0:
        limits.append(int(max_tokens))
    if limits and min(limits) <= len(pieces):
        pieces, reason = pieces[: min(limits)], "length"
    messages: list[dict[str, Any]] = [{kind: piece} for kind, piece in pieces]
    if answer.tool_calls:
        calls = [
            {"id": f"call_{index}", "function": {"index": index, "name": name, "arguments": dict(arguments)}}
            for index, (name, arguments) in enumerate(answer.tool_calls)
        ]
        messages.append({"tool_calls": calls})
    lines: list[dict[str, Any]] = []
    for message in messages:
        line = line_of(model)
        lines.append({**line, "message": {**line["message"], **message}, "done": False})
    counts = {
        "total_duration": 3_000_000,
        "load_duration": 1_000_000,
        "prompt_eval_count": prompt,
        "prompt_eval_duration": 1_000_000,
        "eval_count": len(pieces) + (reason == "stop"),
        "eval_duration": 1_000_000,
    }
    return [*lines, {**line_of(model), "done": True, "done_reason": reason, **counts}]


def truncated_tokens(messages: Sequence[Mapping[str, Any]], context: int) -> int:
    """Tokens of a truncated prompt: older messages are dropped, then the last one is cut."""
    kept = list(messages)
    while len(kept) > 1 and prompt_tokens(kept) > context:
        kept.pop(next((index for index, item in enumerate(kept[:-1]) if item.get("role") != "system"), 0))
    return min(prompt_tokens(kept), context)


def line_of(model: str) -> dict[str, Any]:
    """The fields of every line."""
    return {"model": model, "created_at": recorded.now(), "message": {"role": "assistant", "content": ""}}


def joined(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The answer that is not streamed, as one object."""
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    for line in lines:
        for key, value in line["message"].items():
            if key != "role":
                message[key] = message[key] + value if key in message else value
    return {**lines[-1], "message": message}


def has_type(value: Any, kind: str) -> bool:
    """Whether an option's value has the type that the server requires."""
    if kind == "array":
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if kind == "boolean":
        return isinstance(value, bool)
    return isinstance(value, int if kind == "integer" else (int, float)) and not isinstance(value, bool)


def vector(text: str) -> list[float]:
    """A vector of 576 numbers and length 1, determined by the text."""
    raw = b"".join(hashlib.sha256(f"{part}:{text}".encode("utf-8", "surrogatepass")).digest() for part in range(18))
    numbers = [byte / 127.5 - 1 for byte in raw]
    length = math.sqrt(sum(number * number for number in numbers))
    return [round(number / length, 9) for number in numbers]

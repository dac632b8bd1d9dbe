"""What an Ollama server's refusals and errors mean: a status and a text in, the error of its own class out.

The texts are those of the server's source, version 0.17.4 (llm/server.go, server/routes.go).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..errors import (
    AccessRefused,
    AnswerBroken,
    CapabilityMissing,
    ContextOverflow,
    LLMError,
    LoadFailed,
    ModelMissing,
    NotOllama,
    ServerBusy,
    ServerUnreachable,
)
from .target import Target

_TOO_LONG = ("context length", "context size", "exceed_context")
_NOT_LOADED = (
    "memory",
    "unable to load",
    "error loading",
    "failed to load",
    "llama runner process",  # has terminated, or is no longer running: told only while a model loads
    "waiting for llama runner to start",
)
_DIED = ("unexpectedly stopped", "unexpected eof", "terminated")


def refusal(status: int, headers: Mapping[str, str], raw: bytes, target: Target) -> LLMError:
    """The error for a response whose status is not 200.

    Args:
        headers: Of the response; their names' case does not matter.
        raw: The response's body.
    """
    if 300 <= status < 400:
        return not_ollama(f"a redirection to {headers.get('location', 'elsewhere')}", target)
    if status in (401, 403):
        return target.error(
            AccessRefused,
            f"the server at {target.url} refuses access{target.for_model} ({status})",
            f": put what it wants into {target.slot}.headers, such as {{Authorization: 'Bearer ${{NAME}}'}}",
        )
    try:
        text = json.loads(raw)["error"]
    except (ValueError, KeyError, TypeError):
        text = None
    if status in (429, 503):
        return _busy(headers, text if isinstance(text, str) else f"it answers {status}", target)
    if isinstance(text, str):
        return failure(status, text, target)
    if "html" in headers.get("content-type", "") and status not in (502, 504):
        return not_ollama(f"a web page, with status {status}", target)
    if status == 502:
        return target.error(
            ServerUnreachable,
            f"what answers at {target.url}{target.for_model} cannot reach the Ollama server behind it (502)",
            ": is that running?",
        )
    if status == 504:
        return target.error(
            AnswerBroken,
            f"what answers at {target.url} did not wait for {target.model!r} any longer (504)",
            ": let it wait longer, or load the model first by engine.warm_up()",
        )
    return not_ollama(f"an answer {status} that is none of Ollama's", target)


def failure(status: int, text: str, target: Target) -> LLMError:
    """The error for what a server tells in words of its own; the status is 200 for a line in a stream."""
    said = text.lower()
    if any(words in said for words in _TOO_LONG):
        return target.error(ContextOverflow, f"the prompt is longer than the context of {target}")
    if "does not support" in said:
        what = text.rpartition("does not support")[2].strip() or "this"
        return target.error(
            CapabilityMissing, f"{target} does not support {what}", f": take another model, or leave {what} out"
        )
    if status == 404 and "not found" in said:
        return missing(target)
    if "unexpected endpoint" in said:  # LM Studio, with status 200
        return not_ollama(f"the error {text!r}", target)
    if any(words in said for words in _NOT_LOADED):
        return target.error(
            LoadFailed,
            f"the server cannot load {target}: {text}",
            f"; take a smaller model or {target.slot}.context_window, or free memory",
        )
    if status == 200 or any(words in said for words in _DIED):
        return target.error(
            AnswerBroken,
            f"the answer of {target} broke off: {text}",
            "; ask again, and look into the server's log if it happens again",
        )
    return target.error(LLMError, f"{target} refuses the request ({status}): {text}")


def not_ollama(what: str, target: Target) -> NotOllama:
    """Something else answers there, and sent `what`."""
    return target.error(
        NotOllama,
        f"what answers at {target.url}{target.for_model} is no Ollama server (it sent {what})",
        f": is {target.slot}.base_url right?",
    )


def unreachable(target: Target, *, name_unknown: bool = False) -> ServerUnreachable:
    """Nothing answers there, or there is no such machine."""
    what = f"no Ollama server can be reached at {target.url}{target.for_model}"
    if name_unknown:
        return target.error(
            ServerUnreachable, f"{what} (no machine of this name is known)", f": is {target.slot}.base_url right?"
        )
    if target.is_here:
        return target.error(
            ServerUnreachable, what, f": start it with {target.command('serve')}, or set {target.slot}.base_url"
        )
    return target.error(
        ServerUnreachable,
        what,
        ": does it run there, and listen to other machines (OLLAMA_HOST=0.0.0.0)? If it is elsewhere, set "
        f"{target.slot}.base_url",
    )


def missing(target: Target, *, pull: bool = False, known: str = "") -> ModelMissing:
    """The server has no such model.

    Args:
        pull: Whether it can be downloaded by a setting, too.
        known: What models there are.
    """
    setting = f", or set {target.slot}.pull to missing" if pull else ""
    return target.error(
        ModelMissing,
        f"the Ollama server at {target.url} has no model {target.model!r}",
        f": get it with {target.command(f'pull {target.model}')}{setting}{known}",
    )


def _busy(headers: Mapping[str, str], text: str, target: Target) -> ServerBusy:
    wait = headers.get("retry-after", "")
    seconds = float(wait) if wait.isdigit() else None
    longer = f" It asks for {seconds:,.0f} s of waiting." if seconds else ""
    error = target.error(
        ServerBusy,
        f"the server at {target.url} is too busy{target.for_model} ({text})",
        f": ask again later, or let it take more at once by OLLAMA_NUM_PARALLEL and OLLAMA_MAX_QUEUE.{longer}",
    )
    error.wait = seconds
    return error


def line_of(raw: bytes, target: Target) -> dict[str, Any]:
    """What a line of a stream says.

    Raises:
        LLMError: It tells an error, or is none of an Ollama server's.
    """
    try:
        found = json.loads(raw)
    except ValueError as error:
        shown = raw[:80].decode("utf-8", "replace")
        raise target.error(
            AnswerBroken,
            f"the answer of {target} holds a line that is no JSON: {shown!r}",
            "; something between may have changed it",
        ) from error
    if not isinstance(found, dict) or not isinstance(found.get("error", ""), str):
        raise not_ollama("JSON of another form", target)
    if "error" in found:
        raise failure(200, found["error"], target)
    return found

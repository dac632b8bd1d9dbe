"""Maps error responses of an Ollama server to `LLMError` classes.

The texts are those of the server's source, version 0.17.4 (llm/server.go, server/routes.go).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .. import errors
from .target import Target

_CONTEXT_TEXTS = ("context length", "context size", "exceed_context")
_LOAD_TEXTS = (
    "memory",
    "unable to load",
    "error loading",
    "failed to load",
    "llama runner process",  # "has terminated", "no longer running": sent only while a model loads
    "waiting for llama runner to start",
)
_RUNNER_TEXTS = ("unexpectedly stopped", "unexpected eof", "terminated")
_RETRY_HINT = "; ask again, and check the server's log if it happens again"


def response_error(status: int, headers: Mapping[str, str], raw: bytes, target: Target) -> errors.LLMError:
    """The error for a response whose status is not 200.

    Args:
        headers: The response's headers, with case-insensitive names.
        raw: The response's body.
    """
    if 300 <= status < 400:
        return not_ollama(f"a redirection to {headers.get('location', 'elsewhere')}", target)
    if status in (401, 403):
        return target.error(
            errors.AccessRefused,
            f"the server at {target.url} refuses access{target.for_model} ({status})",
            f": put the credentials into {target.slot}.headers, such as {{Authorization: 'Bearer ${{NAME}}'}}",
        )
    try:
        text = json.loads(raw)["error"]
    except (ValueError, KeyError, TypeError):
        text = None
    if status in (429, 503):
        return _busy(headers, text if isinstance(text, str) else f"status {status}", target)
    if isinstance(text, str):
        return error_of_text(status, text, target)
    if "html" in headers.get("content-type", "") and status not in (502, 504):
        return not_ollama(f"a web page, with status {status}", target)
    if status == 502:
        return target.error(
            errors.ServerUnreachable,
            f"the proxy at {target.url}{target.for_model} cannot reach the Ollama server behind it (502)",
            ": is that server running?",
        )
    if status == 504:
        return target.error(
            errors.AnswerBroken,
            f"the proxy at {target.url} timed out waiting for {target.model!r} (504)",
            ": raise its timeout, or load the model first by engine.warm_up()",
        )
    return not_ollama(f"status {status} with a body that is not from Ollama", target)


def error_of_text(status: int, text: str, target: Target) -> errors.LLMError:
    """The error for an error text of the server; the status is 200 for a line in a stream."""
    lower = text.lower()
    if any(part in lower for part in _CONTEXT_TEXTS):
        return target.error(errors.ContextOverflow, f"the prompt is longer than the context of {target}")
    if "does not support" in lower:
        feature = text.rpartition("does not support")[2].strip() or "this"
        return target.error(
            errors.CapabilityMissing,
            f"{target} does not support {feature}",
            f": use another model, or leave {feature} out",
        )
    if status == 404 and "not found" in lower:
        return model_missing(target)
    if "unexpected endpoint" in lower:  # LM Studio, with status 200
        return not_ollama(f"the error {text!r}", target)
    if any(part in lower for part in _LOAD_TEXTS):
        return target.error(
            errors.LoadFailed,
            f"the server cannot load {target}: {text}",
            f"; use a smaller model or {target.slot}.context_window, or free memory",
        )
    if status == 200 or any(part in lower for part in _RUNNER_TEXTS):
        return target.error(errors.AnswerBroken, f"the answer of {target} broke off: {text}", _RETRY_HINT)
    return target.error(errors.LLMError, f"{target} refuses the request ({status}): {text}")


def not_ollama(content: str, target: Target) -> errors.NotOllama:
    """The address belongs to another kind of server, which sent `content`."""
    return target.error(
        errors.NotOllama,
        f"the server at {target.url}{target.for_model} is not an Ollama server (it sent {content})",
        f": is {target.slot}.base_url right?",
    )


def unreachable(target: Target, *, name_unknown: bool = False, note: str = "") -> errors.ServerUnreachable:
    """No connection to the server, or its host name is unknown; `note` ends the hint."""
    what = f"no Ollama server can be reached at {target.url}{target.for_model}"
    setting = f"{target.slot}.base_url"
    if name_unknown:
        what, hint = f"{what} (unknown host name)", f": is {setting} right?"
    elif target.is_local:
        hint = f": start it with {target.command('serve')}, or set {setting}"
    else:
        hint = (
            ": does it run there, and listen to other machines (OLLAMA_HOST=0.0.0.0)? "
            f"If it is elsewhere, set {setting}"
        )
    return target.error(errors.ServerUnreachable, what, hint + note)


def model_missing(target: Target, *, pull: bool = False, available: str = "") -> errors.ModelMissing:
    """The server has no such model.

    Args:
        pull: Whether the config section has a setting that downloads it.
        available: The models that the server has, as the end of the hint.
    """
    setting = f", or set {target.slot}.pull to missing" if pull else ""
    return target.error(
        errors.ModelMissing,
        f"the Ollama server at {target.url} has no model {target.model!r}",
        f": get it with {target.command(f'pull {target.model}')}{setting}{available}",
    )


def check_version(version: str, target: Target) -> None:
    """Check that the server supports `truncate: false`, new between 0.12.5 and 0.13 (October 2025).

    Raises:
        ServerTooOld: It does not. 0.0.0 passes: development builds report it.
    """
    numbers = [int(number) if number.isdigit() else 0 for number in version.partition("-")[0].split(".")]
    if any(numbers) and numbers < [0, 13]:
        raise target.error(
            errors.ServerTooOld,
            f"Ollama {version} at {target.url} is too old: prompts would be cut without notice",
            "; update it to 0.13 or later",
        )


def _busy(headers: Mapping[str, str], text: str, target: Target) -> errors.ServerBusy:
    retry_after = headers.get("retry-after", "")
    seconds = float(retry_after) if retry_after.isdigit() else None
    pause = f" It requests a pause of {seconds:,.0f} s." if seconds else ""
    error = target.error(
        errors.ServerBusy,
        f"the server at {target.url} is too busy{target.for_model} ({text})",
        f": ask again later, or raise OLLAMA_NUM_PARALLEL and OLLAMA_MAX_QUEUE on the server.{pause}",
    )
    error.wait = seconds
    return error


def parse_line(raw: bytes, target: Target) -> dict[str, Any]:
    """Parse a line of a stream.

    Raises:
        LLMError: The line holds an error, or is not from an Ollama server.
    """
    try:
        line = json.loads(raw)
    except ValueError as error:
        shown = raw[:80].decode("utf-8", "replace")
        raise target.error(
            errors.AnswerBroken,
            f"the answer of {target} contains a line that is not JSON: {shown!r}",
            "; a proxy may have changed it",
        ) from error
    if not isinstance(line, dict) or not isinstance(line.get("error", ""), str):
        raise not_ollama("JSON of another form", target)
    if "error" in line:
        raise error_of_text(200, line["error"], target)
    return line

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


def refusal(status: int, headers: Mapping[str, str], raw: bytes, url: str, model: str) -> LLMError:
    """The error for a response whose status is not 200.

    Args:
        headers: Of the response; their names' case does not matter.
        raw: The response's body.
    """
    if 300 <= status < 400:
        return not_ollama(f"a redirection to {headers.get('location', 'elsewhere')}", url, model)
    if status in (401, 403):
        return AccessRefused(
            f"the server at {url} refuses access ({status}): put what it wants into llm.headers, such as "
            "{Authorization: 'Bearer ${NAME}'}",
            url,
            model,
        )
    try:
        text = json.loads(raw)["error"]
    except (ValueError, KeyError, TypeError):
        text = None
    if status in (429, 503):
        return _busy(headers, text if isinstance(text, str) else f"it answers {status}", url, model)
    if isinstance(text, str):
        return failure(status, text, url, model)
    if status == 502:
        return ServerUnreachable(
            f"what answers at {url} cannot reach the Ollama server behind it (502): is that running?", url, model
        )
    if status == 504:
        return AnswerBroken(
            f"what answers at {url} did not wait for {model!r} any longer (504): let it wait longer, or load the model "
            "first by engine.warm_up()",
            url,
            model,
        )
    return not_ollama(f"an answer {status} that is none of Ollama's", url, model)


def failure(status: int, text: str, url: str, model: str) -> LLMError:
    """The error for what a server tells in words of its own; the status is 200 for a line in a stream."""
    said = text.lower()
    where = f"{model!r} at {url}"
    if any(words in said for words in _TOO_LONG):
        return ContextOverflow(f"the prompt is longer than the context of {where}", url, model)
    if "does not support" in said:
        what = text.rpartition("does not support")[2].strip() or "this"
        return CapabilityMissing(
            f"{where} does not support {what}: take another model, or leave {what} out", url, model
        )
    if status == 404 and "not found" in said:
        return ModelMissing(f"the Ollama server at {url} has no model {model!r}", url, model)
    if "unexpected endpoint" in said:  # LM Studio, with status 200
        return not_ollama(f"the error {text!r}", url, model)
    if any(words in said for words in _NOT_LOADED):
        return LoadFailed(
            f"the server cannot load {where}: {text}; take a smaller model or llm.context_window, or free memory",
            url,
            model,
        )
    if status == 200 or any(words in said for words in _DIED):
        return AnswerBroken(
            f"the answer of {where} broke off: {text}; ask again, and look into the server's log if it happens again",
            url,
            model,
        )
    return LLMError(f"{where} refuses the request ({status}): {text}", url, model)


def not_ollama(what: str, url: str, model: str) -> NotOllama:
    """Something else answers there, and sent `what`."""
    return NotOllama(f"what answers at {url} is no Ollama server (it sent {what}): is llm.base_url right?", url, model)


def _busy(headers: Mapping[str, str], text: str, url: str, model: str) -> ServerBusy:
    wait = headers.get("retry-after", "")
    seconds = float(wait) if wait.isdigit() else None
    longer = f" It asks for {seconds:,.0f} s of waiting." if seconds else ""
    error = ServerBusy(
        f"the server at {url} is busy ({text}): ask again later, or let it take more at once by OLLAMA_NUM_PARALLEL "
        f"and OLLAMA_MAX_QUEUE.{longer}",
        url,
        model,
    )
    error.wait = seconds
    return error


def line_of(raw: bytes, url: str, model: str) -> dict[str, Any]:
    """What a line of a stream says.

    Raises:
        LLMError: It tells an error, or is none of an Ollama server's.
    """
    try:
        found = json.loads(raw)
    except ValueError as error:
        shown = raw[:80].decode("utf-8", "replace")
        raise AnswerBroken(
            f"the answer of {model!r} at {url} holds a line that is no JSON: {shown!r}; something between may have "
            "changed it",
            url,
            model,
        ) from error
    if not isinstance(found, dict) or not isinstance(found.get("error", ""), str):
        raise not_ollama("JSON of another form", url, model)
    if "error" in found:
        raise failure(200, found["error"], url, model)
    return found

"""Translates the exceptions of LlamaIndex's own Ollama class, which a config may name by its import path."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any

from ...errors import LLMError, LLMTimeout
from ...ollama.error_mapping import model_missing, unreachable
from ...ollama.target import Target, without_credentials

_MODULE = "llama_index.llms.ollama"


@contextmanager
def llm_errors(llm: Any) -> Generator[None, None, None]:
    """Raises an `LLMError` in place of an exception of the LLM's client."""
    try:
        yield
    except Exception as error:  # clients of LLM servers raise their own exceptions
        translated = llm_error(llm, error)
        if translated is None:
            raise
        raise translated from error


def llm_error(llm: Any, error: BaseException) -> LLMError | None:
    """The `LLMError` for an exception raised by the client of `llm`; None for any other exception."""
    if isinstance(error, LLMError) or not _passed_through(error, _MODULE):
        return None
    package, name = type(error).__module__.partition(".")[0], type(error).__name__
    if not (package in ("httpx", "httpcore", "ollama") or isinstance(error, (ConnectionError, TimeoutError))):
        return None
    target = Target(without_credentials(llm.base_url), llm.model)
    if isinstance(error, ConnectionError) or name in ("ConnectError", "ConnectTimeout"):
        return unreachable(target)
    if isinstance(error, TimeoutError) or "Timeout" in name:
        seconds = getattr(llm, "request_timeout", None)
        duration = "" if seconds is None else f" for {seconds:g} s"
        timeout = target.error(
            LLMTimeout, f"{target} sent nothing{duration}", ": if it is still loading, set llm.request_timeout higher"
        )
        timeout.limit = "request_timeout"
        return timeout
    if getattr(error, "status_code", None) == 404:
        return model_missing(target)
    return target.error(LLMError, f"{target} failed: {name}: {error}")


def _passed_through(error: BaseException, module: str) -> bool:
    """Whether the traceback contains a frame of `module`: an encoder or a store may raise the same exceptions."""
    return any(str(frame.f_globals.get("__name__", "")).startswith(module) for frame, _ in walk_tb(error.__traceback__))

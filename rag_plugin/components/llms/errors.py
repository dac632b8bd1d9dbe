"""The errors of LlamaIndex's own Ollama class, where a config names it by its path, in words."""

from __future__ import annotations

from traceback import walk_tb
from typing import Any

from ...errors import LLMError, LLMTimeout
from ...ollama.error_mapping import missing, unreachable
from ...ollama.target import Target, without_credentials

_ITS_MODULE = "llama_index.llms.ollama"


def llm_error(llm: Any, error: BaseException) -> LLMError | None:
    """The error of an LLM's server as one sentence with its hint; None if it is not of such a server."""
    if isinstance(error, LLMError) or not _came_through(error, _ITS_MODULE):
        return None
    family, name = type(error).__module__.partition(".")[0], type(error).__name__
    if not (family in ("httpx", "httpcore", "ollama") or isinstance(error, (ConnectionError, TimeoutError))):
        return None
    target = Target(without_credentials(llm.base_url), llm.model)
    if isinstance(error, ConnectionError) or name in ("ConnectError", "ConnectTimeout"):
        return unreachable(target)
    if isinstance(error, TimeoutError) or "Timeout" in name:
        waited = getattr(llm, "request_timeout", None)
        longer = "" if waited is None else f" for {waited:g} s"
        late = target.error(
            LLMTimeout, f"{target} was silent{longer}", ": if it is still loading, set llm.request_timeout higher"
        )
        late.limit = "request_timeout"
        return late
    if getattr(error, "status_code", None) == 404:
        return missing(target)
    return target.error(LLMError, f"{target} failed: {name}: {error}")


def _came_through(error: BaseException, module: str) -> bool:
    """Whether code of this module was running: an encoder's or a store's server may fail in the same words."""
    return any(str(frame.f_globals.get("__name__", "")).startswith(module) for frame, _ in walk_tb(error.__traceback__))

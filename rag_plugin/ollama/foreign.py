"""The errors of LlamaIndex's own Ollama class, where a config names it by its path, in words."""

from __future__ import annotations

from typing import Any

from ..errors import LLMError, LLMTimeout, ModelMissing
from .asked import Asked
from .refusals import unreachable


def llm_error(llm: Any, error: BaseException) -> LLMError | None:
    """The error of an LLM's server as one sentence with its cure; None if it is not of a server."""
    family = type(error).__module__.partition(".")[0]
    url, model = getattr(llm, "base_url", None), getattr(llm, "model", None)
    if url is None or not (
        family in ("httpx", "httpcore", "ollama") or isinstance(error, (ConnectionError, TimeoutError))
    ):
        return None
    asked, name = Asked(url, model or ""), type(error).__name__
    if isinstance(error, ConnectionError) or name in ("ConnectError", "ConnectTimeout"):
        return unreachable(asked)
    if isinstance(error, TimeoutError) or "Timeout" in name:
        waited = getattr(llm, "request_timeout", None)
        late = asked.error(
            LLMTimeout, f"{asked} was silent for {waited:g} s: if it is still loading, set llm.request_timeout higher"
        )
        late.limit = "request_timeout"
        return late
    if getattr(error, "status_code", None) == 404:
        return asked.error(
            ModelMissing, f"the Ollama server at {url} has no model {model!r}: get it with `ollama pull {model}`"
        )
    return asked.error(LLMError, f"{asked} failed: {name}: {error}")

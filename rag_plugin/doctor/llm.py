"""Checks of the LLM: server, model, settings, and a short answer."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

from ..errors import ModelMissing
from ..protocols import WarmUp
from .findings import Finding, as_size, free_memory

if TYPE_CHECKING:
    from llama_index.core.llms import LLM

    from ..components.assembly import Assembly
    from ..components.llms.ollama_llm import OllamaLLM
    from ..config import Config

_PROMPT_TOKENS = 200  # of the question and the template, without the passages
_MIN_TOKENS_PER_SECOND = 3.0
_TOKENS_OF_AN_ANSWER = 270  # about 200 words


class LLMCheck:
    """Checks the LLM of a config; `has_encoder`: its encoder can be loaded."""

    def __init__(self, config: Config, assembly: Assembly, *, has_encoder: bool) -> None:
        self.config, self.assembly, self.has_encoder = config, assembly, has_encoder

    def run(self, ask: bool) -> Iterator[Finding]:
        if self.config.llm.type == "none":
            yield Finding("ok", "llm", "none: answers are quotations from the documents")
            return
        if not self.config.uses_llm:
            yield Finding("skip", "llm", f"the synthesizer {self.config.synthesizer.type!r} needs no LLM")
            return
        started = time.perf_counter()
        llm = self.assembly.llm
        usable = True
        if self.config.llm.type == "ollama":
            usable = yield from self._ollama(llm)
        else:
            yield Finding("ok", "llm", f"{self.config.llm.type} is built; {time.perf_counter() - started:.1f} s")
        if ask and usable:
            yield from self._answer(llm)

    def _ollama(self, llm: OllamaLLM) -> Generator[Finding, None, bool]:
        """Returns whether the model can answer; it is not downloaded."""
        from ..ollama import async_bridge
        from ..ollama.error_mapping import check_version
        from ..ollama.model_info import ModelInfo

        server, model = llm.server, llm.model
        target = server.target()
        version = async_bridge.run(server.version(model))
        check_version(version, target)
        yield Finding("ok", "llm", f"Ollama {version} at {target.url}")
        try:
            info = ModelInfo.of(async_bridge.run(server.show(model)))
        except ModelMissing as error:
            if llm.pull != "missing":
                raise
            yield Finding("warn", "llm", error.what, "the first question downloads it (llm.pull: missing)")
            return False
        configured, window = llm.context_window, info.context(llm.context_window)
        models = async_bridge.run(server.list_models(model))
        memory_bytes = int(models[0].get("size", 0)) if models else 0
        memory_bytes += (info.cache_bytes or 0) * window
        maximum = f" of at most {info.max_context:,}" if info.max_context else ""
        what = f"{model} ({info.size}): context of {window:,} tokens{maximum}; about {as_size(memory_bytes)} of memory"
        yield Finding("ok", "llm", what)
        if configured > window:
            what = f"llm.context_window is {configured:,}; the maximum of {model} is {window:,}"
            yield Finding("warn", "llm", what, f"the maximum is used; set llm.context_window to {window} or less")
            llm.context_window = window  # so that no second warning is logged
        yield from self._passages(window - llm.max_tokens)
        yield from self._shared_model(llm)
        capabilities = info.capabilities
        if capabilities and "completion" not in capabilities:
            what = f"{model} cannot write answers; its capabilities: {', '.join(capabilities)}"
            yield Finding("fail", "llm", what, "set llm.model to a model for text generation, such as llama3.2")
            return False
        if llm.thinking and capabilities and "thinking" not in capabilities:
            what = f"llm.thinking is set, but {model} does not support it; its capabilities: {', '.join(capabilities)}"
            yield Finding("fail", "llm", what, "remove llm.thinking, or use another model")
            return False
        memory = free_memory()
        if target.is_local and memory_bytes > memory and async_bridge.run(server.running(model)) is None:
            what = f"{model} needs about {as_size(memory_bytes)} of memory; {as_size(memory)} are free"
            hint = "use a smaller model or a smaller llm.context_window, unless it fits into the memory of a GPU"
            yield Finding("warn", "llm", what, hint)
        return True

    def _passages(self, room: int) -> Iterator[Finding]:
        """Whether the passages of a question fit into one prompt."""
        from ..components.encoders.tokens import max_input_tokens

        top_k = int(self.config.retriever.settings.get("top_k") or 0)
        settings = self.config.chunker.settings if self.config.chunker is not None else {}
        size = settings.get("chunk_size") or (max_input_tokens(self.assembly.encoder) if self.has_encoder else None)
        tokens = top_k * int(size or 0)
        if tokens > room - _PROMPT_TOKENS:
            what = f"the {top_k} passages of a question have up to {tokens:,} tokens; the prompt has room for {room:,}"
            hint = "raise llm.context_window or lower retriever.top_k; otherwise a question takes several LLM calls"
            yield Finding("warn", "llm", what, hint)

    def _shared_model(self, llm: OllamaLLM) -> Iterator[Finding]:
        """Whether encoder and LLM are one model, which the server would reload for each."""
        from ..components.encoders.ollama_encoder import OllamaEncoder

        encoder = self.assembly.encoder if self.has_encoder else None
        if isinstance(encoder, OllamaEncoder) and (encoder.base_url, encoder.model_name) == (llm.base_url, llm.model):
            what = f"{llm.model} is both encoder and LLM, with different settings: each use reloads it"
            yield Finding("warn", "llm", what, "use an embedding model as encoder, such as nomic-embed-text")

    def _answer(self, llm: LLM) -> Iterator[Finding]:
        loading = llm.warm_up() if isinstance(llm, WarmUp) else 0.0
        started = time.perf_counter()
        is_ollama = self.config.llm.type == "ollama"
        response = llm.complete("Say yes.", **({"max_tokens": 8} if is_ollama else {}))
        seconds = time.perf_counter() - started
        raw = response.raw if isinstance(response.raw, dict) else {}
        count, nanoseconds = raw.get("eval_count"), raw.get("eval_duration")
        details = ""
        if count and nanoseconds:
            speed = count / nanoseconds * 1e9
            details = f", {speed:,.0f} tokens/s"
            if speed < _MIN_TOKENS_PER_SECOND:
                what = f"an answer of 200 words takes about {_TOKENS_OF_AN_ANSWER / speed / 60:,.0f} min"
                yield Finding("warn", "llm", what, "use a smaller model, or a machine with a GPU")
        if is_ollama:
            details += f"; {_memory_of(llm)}"
        yield Finding("ok", "llm", f"it answers: loaded in {loading:.1f} s, answered in {seconds:.1f} s{details}")


def _memory_of(llm: OllamaLLM) -> str:
    """The memory in which a server keeps a model."""
    from ..ollama import async_bridge

    running = async_bridge.run(llm.server.running(llm.model)) or {}
    size, gpu_bytes = int(running.get("size") or 0), int(running.get("size_vram") or 0)
    if not size:
        return "not kept in memory"
    share = f"{min(1.0, gpu_bytes / size):.0%} on the GPU" if gpu_bytes else "not on a GPU"
    return f"{as_size(size)} of memory, {share}"

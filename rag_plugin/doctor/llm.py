"""Looks at the LLM: its server, its model, whether the config fits it, and a few words of it."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

from ..errors import ModelMissing
from .findings import Finding, as_size, free_memory

if TYPE_CHECKING:
    from ..components.assembly import Assembly
    from ..components.llms.ollama_llm import OllamaLLM
    from ..config import Config

_PROMPT = 200  # tokens of the question and what stands around the passages
_SLOW = 3.0  # tokens per second


class LookAtLLM:
    """Looks at the LLM of a config; `has_encoder` where its encoder can be asked too."""

    def __init__(self, config: Config, assembly: Assembly, *, has_encoder: bool) -> None:
        self.config, self.assembly, self.has_encoder = config, assembly, has_encoder

    def look(self, ask: bool) -> Iterator[Finding]:
        if self.config.llm.type == "none":
            yield Finding("ok", "llm", "none: passages are found, answers are not written")
            return
        if not self.config.uses_llm:
            yield Finding("skip", "llm", f"the synthesizer {self.config.synthesizer.type!r} asks none")
            return
        started = time.perf_counter()
        llm = self.assembly.llm
        there = True
        if self.config.llm.type == "ollama":
            there = yield from self._ollama(llm)
        else:
            yield Finding("ok", "llm", f"{self.config.llm.type} is built; {time.perf_counter() - started:.1f} s")
        if ask and there:
            yield from self._answer(llm)

    def _ollama(self, llm: OllamaLLM) -> Generator[Finding, None, bool]:
        """Whether the model is there to be asked; to download it is not for this."""
        from ..ollama import async_bridge as bridge
        from ..ollama.error_mapping import check_version
        from ..ollama.model_info import ModelInfo

        server, model = llm.server, llm.model
        target = server.target()
        version = bridge.run(server.version(model))
        check_version(version, target)
        yield Finding("ok", "llm", f"Ollama {version} at {target.url}")
        try:
            facts = ModelInfo.of(bridge.run(server.show(model)))
        except ModelMissing as error:
            if llm.pull != "missing":
                raise
            yield Finding("warn", "llm", error.what, "the first question downloads it (llm.pull: missing)")
            return False
        said, window = llm.context_window, facts.context(llm.context_window)
        listed = bridge.run(server.list_models(model))
        needed = int(listed[0].get("size", 0)) if listed else 0
        needed += (facts.cache_bytes or 0) * window
        most = f", at most {facts.max_context:,}" if facts.max_context else ""
        what = (
            f"{model} ({facts.size}): a context of {window:,} tokens{most}; it needs some {as_size(needed)} of memory"
        )
        yield Finding("ok", "llm", what)
        if said > window:
            what = f"llm.context_window is {said:,}, and {model} has at most {window:,}"
            yield Finding("warn", "llm", what, f"that much is taken; set llm.context_window to {window} or less")
            llm.context_window = window  # so that it is not told again
        yield from self._rounds(window - llm.max_tokens)
        yield from self._two_of_one(llm)
        can = facts.capabilities
        if can and "completion" not in can:
            what = f"{model} can do {', '.join(can)} only, and answers no questions"
            yield Finding("fail", "llm", what, "set llm.model to one that writes, such as llama3.2")
            return False
        if llm.thinking and can and "thinking" not in can:
            what = f"llm.thinking is set, and {model} can do {', '.join(can)} only"
            yield Finding("fail", "llm", what, "leave llm.thinking out, or take another model")
            return False
        memory = free_memory()
        if target.is_local and needed > memory and bridge.run(server.running(model)) is None:
            what = f"{model} needs some {as_size(needed)}, and {as_size(memory)} of memory are free"
            hint = "take a smaller model or llm.context_window, unless it fits into a graphics card"
            yield Finding("warn", "llm", what, hint)
        return True

    def _rounds(self, room: int) -> Iterator[Finding]:
        """Whether the passages of a question fit into one prompt."""
        from ..components.encoders.tokens import max_input_tokens

        top_k = int(self.config.retriever.settings.get("top_k") or 0)
        settings = self.config.chunker.settings if self.config.chunker is not None else {}
        size = settings.get("chunk_size") or (max_input_tokens(self.assembly.encoder) if self.has_encoder else None)
        needed = top_k * int(size or 0)
        if needed > room - _PROMPT:
            what = f"the {top_k} passages of a question have up to {needed:,} tokens, and there is room for {room:,}"
            hint = "set llm.context_window higher or retriever.top_k lower, or a question takes several answers"
            yield Finding("warn", "llm", what, hint)

    def _two_of_one(self, llm: OllamaLLM) -> Iterator[Finding]:
        """Whether the server has to load one model in two ways by turns."""
        from ..components.encoders.ollama_encoder import OllamaEncoder

        encoder = self.assembly.encoder if self.has_encoder else None
        if isinstance(encoder, OllamaEncoder) and (encoder.base_url, encoder.model_name) == (llm.base_url, llm.model):
            what = f"{llm.model} is encoder and LLM, with settings of their own: each loads it again"
            yield Finding("warn", "llm", what, "take a model that is made for embeddings, such as nomic-embed-text")

    def _answer(self, llm: Any) -> Iterator[Finding]:
        loading = llm.warm_up() if hasattr(llm, "warm_up") else 0.0
        started = time.perf_counter()
        remote = self.config.llm.type == "ollama"
        response = llm.complete("Say yes.", **({"max_tokens": 8} if remote else {}))
        seconds = time.perf_counter() - started
        raw = response.raw if isinstance(response.raw, dict) else {}
        count, spent = raw.get("eval_count"), raw.get("eval_duration")
        speed = f", {count / spent * 1e9:,.0f} tokens/s" if count and spent else ""
        place = f"; {_where(llm)}" if remote else ""
        if count and spent and count / spent * 1e9 < _SLOW:
            what = f"an answer of 200 words takes some {270 * spent / count / 6e10:,.0f} min"
            yield Finding("warn", "llm", what, "take a smaller model, or a machine with a graphics card")
        yield Finding("ok", "llm", f"it answers: loaded in {loading:.1f} s, answered in {seconds:.1f} s{speed}{place}")


def _where(llm: OllamaLLM) -> str:
    """Where a server holds a model."""
    from ..ollama import async_bridge as bridge

    found = bridge.run(llm.server.running(llm.model)) or {}
    size, card = int(found.get("size") or 0), int(found.get("size_vram") or 0)
    if not size:
        return "it was not kept in memory"
    if not card:
        return f"{as_size(size)}, in memory, not on a graphics card"
    return f"{as_size(size)}, " + (
        "all on a graphics card" if card >= size else f"{card / size:.0%} on a graphics card"
    )

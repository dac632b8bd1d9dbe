"""A `HuggingFaceLLM` from a folder, a GGUF file, a package or the hub. Importing this module loads torch."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Generator
from typing import Any

from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms import ChatResponse, CompletionResponse
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.llms.huggingface import HuggingFaceLLM
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    StoppingCriteria,
    StoppingCriteriaList,
    TextIteratorStreamer,
)

from ...errors import ComponentError, one_line_reason
from ..model_files.hub import HubModel, cached_folder
from ..model_files.locate import find_model

_PART = "llm 'huggingface'"
_MAX_DEFAULT_CONTEXT_TOKENS = 8192
_log = logging.getLogger(__name__)


class _StopSignal(StoppingCriteria):  # type: ignore[misc]
    """Stops a generation from another thread."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> bool:
        return self.event.is_set()


class TransformersLLM(HuggingFaceLLM):  # type: ignore[misc]
    """A `HuggingFaceLLM` whose streams raise errors of the generation, and stop it when they are closed.

    In the base class an exception in the generating thread leaves the reader waiting forever.
    """

    @classmethod
    def class_name(cls) -> str:
        return "TransformersLLM"

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a text, without special tokens."""
        return len(self._tokenizer.encode(text, add_special_tokens=False, verbose=False))

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> Generator[CompletionResponse, None, None]:
        if self.system_prompt and not formatted:
            prompt = f"{self.system_prompt} {prompt}"
        inputs = self._tokenizer(prompt, return_tensors="pt").to(self._model.device)
        streamer = TextIteratorStreamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True)
        stop = _StopSignal()
        errors: list[BaseException] = []

        def generate() -> None:
            try:
                self._model.generate(
                    **inputs,
                    streamer=streamer,
                    max_new_tokens=self.max_new_tokens,
                    stopping_criteria=StoppingCriteriaList([stop]),
                    **self.generate_kwargs,
                )
            except BaseException as error:  # raised again by the reading thread
                errors.append(error)
                streamer.end()

        def read() -> Generator[CompletionResponse, None, None]:
            text = ""
            try:
                for delta in streamer:
                    text += delta
                    yield CompletionResponse(text=text, delta=delta)
            finally:
                stop.event.set()
                thread.join()
            if errors:
                raise errors[0]

        thread = threading.Thread(target=generate, name="rag_plugin-generate", daemon=True)
        thread.start()
        return read()

    async def achat(self, messages: Any, **kwargs: Any) -> ChatResponse:
        return await asyncio.to_thread(self.chat, messages, **kwargs)

    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return await asyncio.to_thread(self.complete, prompt, formatted, **kwargs)


def load_transformers_llm(
    *,
    model: str,
    context_window: int | None,
    max_tokens: int,
    temperature: float,
    device: str | None,
    dtype: str,
    system_prompt: str,
    revision: str | None,
    trust_remote_code: bool,
    callback_manager: CallbackManager,
) -> TransformersLLM:
    """Load a causal language model and its tokenizer, with the settings of component `huggingface`.

    Raises:
        ComponentError: The model cannot be found or loaded.
    """
    source = find_model(model, _PART)
    hub_model = HubModel(source.name, revision, has_modules=False, trust_remote_code=trust_remote_code)
    # A hub model is loaded by its cache folder, so that no file is looked up in the network.
    name = source.name if source.is_local else cached_folder(hub_model, _PART)
    common: dict[str, Any] = {"trust_remote_code": trust_remote_code, "local_files_only": True}
    if source.is_gguf:
        name, common["gguf_file"] = os.path.split(source.name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **common)
        loaded = AutoModelForCausalLM.from_pretrained(name, dtype=dtype, device_map=device, **common)
    except (OSError, ValueError) as error:
        reason = one_line_reason(error, first_line=True)
        raise ComponentError(f"{_PART}: {source.name} contains no loadable model: {reason}") from error
    limit = getattr(loaded.config, "max_position_embeddings", None)
    if context_window is None:
        context_window = min(limit or _MAX_DEFAULT_CONTEXT_TOKENS, _MAX_DEFAULT_CONTEXT_TOKENS)
    elif limit and context_window > limit:
        raise ComponentError(f"{_PART}: context_window {context_window} exceeds the model's maximum of {limit}")
    sampling: dict[str, Any] = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    if not temperature:
        # Sampling settings shipped with a model would each cause a warning when nothing is sampled.
        for key in ("temperature", "top_p", "top_k"):
            setattr(loaded.generation_config, key, None)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    is_chat = bool(getattr(tokenizer, "chat_template", None))
    _log.debug("loaded %s, %s a chat template", source.label, "with" if is_chat else "without")
    return TransformersLLM(
        context_window=context_window,
        max_new_tokens=max_tokens,
        model=loaded,
        tokenizer=tokenizer,
        model_name=source.label,
        tokenizer_name=source.label,
        is_chat_model=is_chat,
        system_prompt=system_prompt,
        callback_manager=callback_manager,
        generate_kwargs={**sampling, "pad_token_id": tokenizer.pad_token_id},
    )

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

from ...errors import ComponentError
from ..model_files.hub import HubModel, cached_folder
from ..model_files.locate import find_model

_PART = "llm 'huggingface'"
_log = logging.getLogger(__name__)


class _Stop(StoppingCriteria):  # type: ignore[misc]
    """Ends a generation from outside."""

    def __init__(self) -> None:
        self.target = threading.Event()

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> bool:
        return self.asked.is_set()


class TransformersLLM(HuggingFaceLLM):  # type: ignore[misc]
    """A `HuggingFaceLLM` whose streams end: with an error if generation fails, and early if nobody listens.

    In its base an exception in the generating thread leaves the reader waiting for ever.
    """

    @classmethod
    def class_name(cls) -> str:
        return "TransformersLLM"

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> Generator[CompletionResponse, None, None]:
        if self.system_prompt and not formatted:
            prompt = f"{self.system_prompt} {prompt}"
        inputs = self._tokenizer(prompt, return_tensors="pt").to(self._model.device)
        streamer = TextIteratorStreamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True)
        stop = _Stop()
        failed: list[BaseException] = []

        def generate() -> None:
            try:
                self._model.generate(
                    **inputs,
                    streamer=streamer,
                    max_new_tokens=self.max_new_tokens,
                    stopping_criteria=StoppingCriteriaList([stop]),
                    **self.generate_kwargs,
                )
            except BaseException as error:  # handed to the thread that reads, which raises it
                failed.append(error)
                streamer.end()

        def read() -> Generator[CompletionResponse, None, None]:
            text = ""
            try:
                for delta in streamer:
                    text += delta
                    yield CompletionResponse(text=text, delta=delta)
            finally:
                stop.asked.set()
                thread.join()
            if failed:
                raise failed[0]

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
    """Load a causal language model and its tokenizer.

    Raises:
        ComponentError: The model cannot be found, or not loaded.
    """
    source = find_model(model, _PART)
    hub_model = HubModel(source.name, revision, has_modules=False, trust_remote_code=trust_remote_code)
    # A model of the hub is loaded as the folder that it is in the cache, so that nothing is looked for in the network.
    name, gguf = source.name if source.is_local else cached_folder(hub_model, _PART), {}
    if source.is_gguf:
        name, gguf = os.path.dirname(source.name), {"gguf_file": os.path.basename(source.name)}
    common = {
        "trust_remote_code": trust_remote_code,
        "local_files_only": True,
        **gguf,
    }
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **common)
        loaded = AutoModelForCausalLM.from_pretrained(name, dtype=dtype, device_map=device, **common)
    except (OSError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        raise ComponentError(f"{_PART}: {source.name} holds no model that can be loaded: {first}") from error
    limit = getattr(loaded.config, "max_position_embeddings", None)
    if context_window is None:
        context_window = min(limit or 8192, 8192)
    elif limit and context_window > limit:
        raise ComponentError(f"{_PART}: context_window {context_window} is more than the model was built for ({limit})")
    sampling: dict[str, Any] = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    if not temperature:
        # Settings for sampling that a model ships would each draw a warning when nothing is sampled.
        for key in ("temperature", "top_p", "top_k"):
            setattr(loaded.generation_config, key, None)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    chat = bool(getattr(tokenizer, "chat_template", None))
    llm = TransformersLLM(
        context_window=context_window,
        max_new_tokens=max_tokens,
        model=loaded,
        tokenizer=tokenizer,
        model_name=source.label,
        tokenizer_name=source.label,
        is_chat_model=chat,
        system_prompt=system_prompt,
        callback_manager=callback_manager,
        generate_kwargs={**sampling, "pad_token_id": tokenizer.pad_token_id},
    )
    _log.debug("loaded %s, %s template", source.label, "with a chat" if chat else "without a chat")
    return llm

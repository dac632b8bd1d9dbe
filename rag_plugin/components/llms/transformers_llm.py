"""A `HuggingFaceLLM` from a folder, a GGUF file, a package or the hub. Importing this module loads torch."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Generator
from contextlib import closing
from typing import Any

import torch
from llama_index.core.base.llms.types import ThinkingBlock
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

from ...errors import AnswerBroken, ComponentError, one_line_reason
from ..model_files.hub import HubModel, cached_folder
from ..model_files.locate import find_model
from .finish_reasons import note_finish_reason
from .thoughts import StopFilter, ThoughtSplitter

_PART = "llm 'huggingface'"
_MAX_DEFAULT_CONTEXT_TOKENS = 8192
_log = logging.getLogger(__name__)


class _Generation(StoppingCriteria):  # type: ignore[misc]
    """Observes a generation after each token, and stops it from another thread.

    Attributes:
        tokens: Number of tokens so far.
        last_token: The id of the last one.
    """

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.tokens, self.last_token = 0, -1

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> bool:
        self.tokens += 1
        self.last_token = int(input_ids[0, -1])
        return self.stopped.is_set()


class TransformersLLM(HuggingFaceLLM):  # type: ignore[misc]
    """A `HuggingFaceLLM` with the settings and the finish reason of the component `ollama`.

    Streams raise errors of the generation, and stop it when they are closed; in the base class an exception in the
    generating thread leaves the reader waiting forever. Thoughts are in `additional_kwargs["thinking"]`, and in a
    `ThinkingBlock` of a chat.
    """

    stop: tuple[str, ...] = ()
    seed: int | None = None
    split_thinking: bool = True

    @classmethod
    def class_name(cls) -> str:
        return "TransformersLLM"

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a text, without special tokens."""
        return len(self._tokenizer.encode(text, add_special_tokens=False, verbose=False))

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        response = CompletionResponse(text="")
        for last in self._responses(prompt, formatted):
            response = last
        response.delta = None
        return response

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> Generator[CompletionResponse, None, None]:
        return self._responses(prompt, formatted)

    def _responses(self, prompt: str, formatted: bool) -> Generator[CompletionResponse, None, None]:
        """The streamed answer. The last response has the finish reason.

        Raises:
            AnswerBroken: `max_tokens` were used for thinking.
        """
        if self.system_prompt and not formatted:
            prompt = f"{self.system_prompt} {prompt}"
        generation, stop = _Generation(), StopFilter(self.stop)
        # Some chat templates end with the opening tag.
        thoughts = ThoughtSplitter(is_thinking=prompt.rstrip().endswith("<think>")) if self.split_thinking else None
        text = thinking = ""

        def response(piece: str, *, last: bool) -> CompletionResponse:
            nonlocal text, thinking
            delta, thought = thoughts.feed(piece, last=last) if thoughts is not None else (piece, "")
            text, thinking = text + delta, thinking + thought
            additional: dict[str, Any] = {"thinking": thinking, "thinking_delta": thought} if thinking else {}
            return CompletionResponse(text=text, delta=delta, additional_kwargs=additional)

        with closing(self._pieces(prompt, generation)) as pieces:
            for piece in pieces:
                certain = stop.feed(piece)
                if certain:
                    yield response(certain, last=False)
                if stop.has_stopped:
                    break
        end = response(stop.feed("", last=True), last=True)
        is_cut = not stop.has_stopped and generation.tokens >= self.max_new_tokens
        reason = "length" if is_cut and generation.last_token not in self._end_tokens() else "stop"
        is_new = note_finish_reason(reason)
        if reason == "length":
            if thinking and not text.strip():
                raise AnswerBroken(
                    f"{self.model_name!r} used all {generation.tokens} tokens of its answer for thinking; set "
                    "llm.max_tokens higher, or use a model that does not think (thinking: false of the llm 'ollama')",
                    model=self.model_name,
                )
            if is_new:
                _log.warning(
                    "the answer of %r was cut after %d tokens; set llm.max_tokens higher for longer answers",
                    *(self.model_name, generation.tokens),
                )
        end.additional_kwargs["finish_reason"] = reason
        yield end

    def _end_tokens(self) -> list[int]:
        end = self._model.generation_config.eos_token_id
        return end if isinstance(end, list) else [end]

    def _pieces(self, prompt: str, generation: _Generation) -> Generator[str, None, None]:
        """The generated text in pieces; closing the generator ends the generation."""
        inputs = self._tokenizer(prompt, return_tensors="pt").to(self._model.device)
        streamer = TextIteratorStreamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True)
        errors: list[BaseException] = []

        def generate() -> None:
            try:
                with torch.random.fork_rng(enabled=self.seed is not None):
                    if self.seed is not None:
                        torch.manual_seed(self.seed)
                    self._model.generate(
                        **inputs,
                        streamer=streamer,
                        max_new_tokens=self.max_new_tokens,
                        stopping_criteria=StoppingCriteriaList([generation]),
                        **self.generate_kwargs,
                    )
            except BaseException as error:  # raised again by the reading thread
                errors.append(error)
                streamer.end()

        thread = threading.Thread(target=generate, name="rag_plugin-generate", daemon=True)
        thread.start()
        try:
            yield from streamer
        finally:
            generation.stopped.set()
            thread.join()
        if errors:
            raise errors[0]

    def chat(self, messages: Any, **kwargs: Any) -> ChatResponse:
        return _with_thinking_block(super().chat(messages, **kwargs))

    def stream_chat(self, messages: Any, **kwargs: Any) -> Generator[ChatResponse, None, None]:
        return _with_thinking_blocks(super().stream_chat(messages, **kwargs))

    async def achat(self, messages: Any, **kwargs: Any) -> ChatResponse:
        return await asyncio.to_thread(self.chat, messages, **kwargs)

    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return await asyncio.to_thread(self.complete, prompt, formatted, **kwargs)


def _with_thinking_block(response: ChatResponse) -> ChatResponse:
    """Thoughts and finish reason where LlamaIndex's Ollama has them too; the base class has them in the message."""
    response.additional_kwargs = dict(response.message.additional_kwargs)
    if response.additional_kwargs.get("thinking"):
        response.message.blocks.insert(0, ThinkingBlock(content=response.additional_kwargs["thinking"]))
    return response


def _with_thinking_blocks(responses: Generator[ChatResponse, None, None]) -> Generator[ChatResponse, None, None]:
    with closing(responses):
        yield from map(_with_thinking_block, responses)


def load_transformers_llm(
    *,
    model: str,
    context_window: int | None,
    max_tokens: int,
    temperature: float,
    seed: int | None,
    stop: tuple[str, ...],
    top_p: float | None,
    top_k: int | None,
    repeat_penalty: float | None,
    split_thinking: bool,
    device: str | None,
    dtype: str,
    system_prompt: str | None,
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
    sampling: dict[str, Any] = {"do_sample": False}
    if temperature:
        named = {"temperature": temperature, "top_p": top_p, "top_k": top_k}
        sampling = {"do_sample": True, **{name: value for name, value in named.items() if value is not None}}
    if repeat_penalty is not None:
        sampling["repetition_penalty"] = repeat_penalty
    if not temperature:
        # Sampling settings shipped with a model would each cause a warning when nothing is sampled.
        for key in ("temperature", "top_p", "top_k"):
            setattr(loaded.generation_config, key, None)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    is_chat = bool(getattr(tokenizer, "chat_template", None))
    _log.debug("loaded %s, %s a chat template", source.label, "with" if is_chat else "without")
    llm = TransformersLLM(
        context_window=context_window,
        max_new_tokens=max_tokens,
        model=loaded,
        tokenizer=tokenizer,
        model_name=source.label,
        tokenizer_name=source.label,
        is_chat_model=is_chat,
        system_prompt=system_prompt or "",
        callback_manager=callback_manager,
        generate_kwargs={**sampling, "pad_token_id": tokenizer.pad_token_id},
    )
    # The base class's constructor takes no fields of a subclass.
    llm.seed, llm.stop, llm.split_thinking = seed, stop, split_thinking
    return llm

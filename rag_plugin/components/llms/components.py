"""LLMs: what writes the answer."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from ...errors import ComponentError
from ..ollama_settings import LOCAL, BaseUrl, Headers, KeepAlive, Retries, address_that_can_be
from ..registry.component import rule
from ..registry.path_settings import ModelFiles

if TYPE_CHECKING:
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.llms import LLM

MaxTokens = Annotated[int, Field(gt=0, description="The most tokens of an answer.")]


def _room_for_prompts(settings: dict[str, Any]) -> Iterable[tuple[str, str, str]]:
    window, answer = settings["context_window"], settings["max_tokens"]
    if window is not None and answer >= window:
        message = f"an answer of {answer} tokens leaves nothing of a context_window of {window} for the prompt"
        yield "max_tokens" if answer > 1024 else "context_window", message, "make the one larger or the other smaller"


def _known_options(settings: dict[str, Any]) -> Iterable[tuple[str, str, str]]:
    from ...ollama.options import SETTINGS, unknown_option

    given = settings["options"] or {}
    found = unknown_option(given)
    if found is not None:
        yield "options", f"Ollama has no option {found[0]!r}", found[1]
    for name in SETTINGS.keys() & given.keys():
        yield "options", f"{name!r} is a setting here", f"write it as {SETTINGS[name]}"


@rule(address_that_can_be)
@rule(_room_for_prompts)
@rule(_known_options)
def ollama(
    callback_manager: CallbackManager,
    *,
    model: Annotated[str, Field(min_length=1, description="A model's name on the server, such as `llama3.2`.")],
    base_url: BaseUrl = LOCAL,
    context_window: Annotated[
        int | None,
        Field(
            gt=0,
            description="How many tokens prompt and answer may have together; the server loads the model again where "
            "it changes. Unset, 8192, or the model's limit if that is less.",
        ),
    ] = None,
    max_tokens: MaxTokens = 1024,
    temperature: Annotated[
        float | None, Field(ge=0, description="How freely to choose words; unset, as the model says.")
    ] = None,
    seed: Annotated[int | None, Field(description="Makes the same question give the same answer.")] = None,
    stop: Annotated[tuple[str, ...], Field(description="Texts at which an answer ends.")] = (),
    top_p: Annotated[
        float | None,
        Field(gt=0, le=1, description="Choose among the likeliest words of this share; unset, as the model."),
    ] = None,
    top_k: Annotated[
        int | None, Field(gt=0, description="Choose among so many words; unset, as the model says.")
    ] = None,
    repeat_penalty: Annotated[
        float | None, Field(gt=0, description="More than 1 keeps from repeating; unset, as the model says.")
    ] = None,
    keep_alive: KeepAlive = None,
    thinking: Annotated[
        bool | Literal["low", "medium", "high"] | None,
        Field(description="Whether a model that can think does; unset, as the model says."),
    ] = None,
    json_mode: Annotated[bool, Field(description="Ask for answers in JSON.")] = False,
    system_prompt: Annotated[str | None, Field(description="Instructions that stand before every question.")] = None,
    connect_timeout: Annotated[float, Field(gt=0, description="Seconds until the server has to be reached.")] = 5.0,
    first_token_timeout: Annotated[
        float,
        Field(gt=0, description="Seconds until an answer has to begin; the model may have to be loaded first."),
    ] = 600.0,
    token_timeout: Annotated[
        float, Field(gt=0, description="Seconds until the next piece of an answer has to come.")
    ] = 120.0,
    retries: Retries = 2,
    pull: Annotated[
        Literal["never", "missing"],
        Field(description="Whether a model that the server lacks is downloaded to it at the first question."),
    ] = "never",
    options: Annotated[
        dict[str, str | int | float | bool | None] | None,
        Field(description="Other options of the model, by Ollama's names, such as `{num_gpu: 0}`."),
    ] = None,
    headers: Headers = None,
) -> LLM:
    """A model on an Ollama server. Building it does not talk to the server."""
    from ...ollama.target import address

    try:
        from .ollama_llm import OllamaLLM
    except ValueError as error:  # the package `ollama` makes a client of it as soon as it is imported
        host = os.environ.get("OLLAMA_HOST", "")
        raise ComponentError(f"llm: the environment variable OLLAMA_HOST is no address: {host!r}") from error

    chosen = {
        "seed": seed,
        "top_p": top_p,
        "top_k": top_k,
        "repeat_penalty": repeat_penalty,
        "stop": list(stop) or None,
    }
    return OllamaLLM(
        model=model,
        base_url=address(base_url),
        context_window=context_window or -1,
        max_tokens=max_tokens,
        temperature=temperature,
        connect_timeout=connect_timeout,
        first_token_timeout=first_token_timeout,
        token_timeout=token_timeout,
        retries=retries,
        pull=pull,
        keep_alive=keep_alive,
        thinking=thinking,
        json_mode=json_mode,
        headers=headers,
        additional_kwargs={**{name: value for name, value in chosen.items() if value is not None}, **(options or {})},
        system_prompt=system_prompt,
        callback_manager=callback_manager,
    )


def huggingface(
    callback_manager: CallbackManager,
    *,
    model: Annotated[
        str,
        ModelFiles,
        Field(
            min_length=1,
            description="A hub id, a folder or GGUF file (`./models/mine.gguf`), or a model inside an installed Python "
            "package (`package:NAME` or `package:NAME/inner/path`).",
        ),
    ],
    context_window: Annotated[
        int | None,
        Field(gt=0, description="Tokens that prompt and answer may have together; unset, the model's limit or 8192."),
    ] = None,
    max_tokens: MaxTokens = 256,
    temperature: Annotated[float, Field(ge=0, description="How freely to choose words; 0 takes the likeliest.")] = 0.0,
    device: Annotated[str | None, Field(description="Where to compute: `cpu`, `cuda`, `auto`; unset, the CPU.")] = None,
    dtype: Annotated[
        Literal["auto", "float32", "float16", "bfloat16"], Field(description="The numbers' type; `auto`, as stored.")
    ] = "auto",
    system_prompt: Annotated[str, Field(description="Instructions that stand before every question.")] = "",
    revision: Annotated[str | None, Field(description="The hub revision: a branch, tag or commit.")] = None,
    trust_remote_code: Annotated[
        bool, Field(description="Run Python code that comes with the model; only for models you have read.")
    ] = False,
) -> LLM:
    """A model in this process by transformers, GGUF files too. Needs `pip install "rag-plugin[transformers]"`."""
    from ...errors import MissingPackage

    try:
        import accelerate  # noqa: F401
        import gguf  # noqa: F401
        import llama_index.llms.huggingface  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingPackage("llm 'huggingface'", error.name or "transformers", '"rag-plugin[transformers]"') from error
    from .transformers_llm import load_transformers_llm

    return load_transformers_llm(
        model=model,
        context_window=context_window,
        max_tokens=max_tokens,
        temperature=temperature,
        device=device,
        dtype=dtype,
        system_prompt=system_prompt,
        revision=revision,
        trust_remote_code=trust_remote_code,
        callback_manager=callback_manager,
    )


def none(callback_manager: CallbackManager) -> LLM:
    """No LLM: passages are found, answers are not written."""
    from .no_llm import NoLLM

    return NoLLM(callback_manager=callback_manager)

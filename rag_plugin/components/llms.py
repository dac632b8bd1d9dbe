"""LLMs: what writes the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from ..config.paths import ModelFiles

if TYPE_CHECKING:
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.llms import LLM

ContextWindow = Annotated[int, Field(gt=0, description="How many tokens prompt and answer may have together.")]
MaxTokens = Annotated[int, Field(gt=0, description="The most tokens of an answer.")]


def ollama(
    callback_manager: CallbackManager,
    *,
    model: Annotated[str, Field(min_length=1, description="A model's name on the server, such as `llama3.2`.")],
    base_url: Annotated[
        str, Field(pattern=r"^https?://", description="Where the server listens.")
    ] = "http://localhost:11434",
    context_window: ContextWindow = 8192,
    max_tokens: MaxTokens = 1024,
    temperature: Annotated[
        float | None, Field(ge=0, description="How freely to choose words; unset, as the model says.")
    ] = None,
    seed: Annotated[int | None, Field(description="Makes the same question give the same answer.")] = None,
    timeout: Annotated[
        float,
        Field(gt=0, description="Seconds to wait for the next piece of an answer; a model may load first."),
    ] = 300.0,
    keep_alive: Annotated[
        str | float | None,
        Field(description="How long the model stays loaded, such as `10m`; unset, the server's own."),
    ] = None,
    thinking: Annotated[
        bool | Literal["low", "medium", "high"] | None,
        Field(description="Whether a model that can think does; unset, as the model says."),
    ] = None,
    json_mode: Annotated[bool, Field(description="Ask for answers in JSON.")] = False,
    system_prompt: Annotated[str | None, Field(description="Instructions that stand before every question.")] = None,
    headers: Annotated[
        dict[str, str] | None, Field(description="HTTP headers for the server; put secrets in as `${NAME}`.")
    ] = None,
) -> LLM:
    """A model on an Ollama server. Building it does not talk to the server."""
    from llama_index.llms.ollama import Ollama

    options: dict[str, Any] = {"num_predict": max_tokens}
    if seed is not None:
        options["seed"] = seed
    # A context_window of its own: unset, LlamaIndex asks the server and reserves the model's maximum.
    return Ollama(
        model=model,
        base_url=base_url,
        context_window=context_window,
        temperature=temperature,
        request_timeout=timeout,
        keep_alive=keep_alive,
        thinking=thinking,
        json_mode=json_mode,
        headers=headers,
        additional_kwargs=options,
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
    from ..errors import MissingPackage

    try:
        import accelerate  # noqa: F401
        import gguf  # noqa: F401
        import llama_index.llms.huggingface  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingPackage("llm 'huggingface'", error.name or "transformers", '"rag-plugin[transformers]"') from error
    from ..transformers_llm import load_transformers_llm

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
    from ..no_llm import NoLLM

    return NoLLM(callback_manager=callback_manager)

"""LLM components: the models that write the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from ...errors import MissingPackage
from ...ollama import limits
from ..model_files.settings import Revision, TrustRemoteCode
from ..ollama_settings import DEFAULT_BASE_URL, BaseUrl, Headers, KeepAlive, Retries, valid_address, valid_keep_alive
from ..registry.component import rule
from ..registry.path_settings import ModelFiles
from ..registry.settings import relay_settings

if TYPE_CHECKING:
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.llms import LLM

ANSWER_TEMPERATURE = 0.0
"""For answers from documents: the most likely words, and the same answer to the same question."""

MaxTokens = Annotated[int, Field(gt=0, description="Maximum tokens of an answer.")]
Seed = Annotated[int | None, Field(description="Random seed; the same question gets the same answer.")]
Stop = Annotated[tuple[str, ...], Field(description="Strings that end an answer.")]
TopP = Annotated[
    float | None,
    Field(
        gt=0,
        le=1,
        description="Nucleus sampling: total probability of the tokens to sample from; unset, the model's default.",
    ),
]
TopK = Annotated[
    int | None, Field(gt=0, description="Number of most likely tokens to sample from; unset, the model's default.")
]
RepeatPenalty = Annotated[
    float | None, Field(gt=0, description="Above 1, repetition is penalized; unset, the model's default.")
]
SystemPrompt = Annotated[str | None, Field(description="Instructions put before every question.")]
SplitThinking = Annotated[
    bool, Field(description="Keep `<think>...</think>` at the beginning of an answer apart from it.")
]


def _context_exceeds_answer(settings: dict[str, Any]) -> Iterable[tuple[str, str, str]]:
    context, answer = settings["context_window"], settings["max_tokens"]
    if context is not None and answer >= context:
        message = f"an answer of {answer} tokens leaves no room for the prompt in a context_window of {context}"
        setting = "max_tokens" if answer > limits.MAX_ANSWER_TOKENS else "context_window"
        yield setting, message, "raise context_window or lower max_tokens"


def _valid_options(settings: dict[str, Any]) -> Iterable[tuple[str, str, str]]:
    from ...ollama.options import SETTING_OF_OPTION, unknown_option, wrong_type

    options = settings["options"] or {}
    unknown = unknown_option(options)
    if unknown is not None:
        yield "options", f"Ollama has no option {unknown[0]!r}", unknown[1]
    for name in SETTING_OF_OPTION.keys() & options.keys():
        yield "options", f"{name!r} is a setting here", f"write it as {SETTING_OF_OPTION[name]}"
    for name, value in options.items():
        problem = wrong_type(name, value)
        if problem is not None:
            yield "options", *problem


@rule(valid_address)
@rule(valid_keep_alive)
@rule(_context_exceeds_answer)
@rule(_valid_options)
@relay_settings
def ollama(
    callback_manager: CallbackManager,
    *,
    model: Annotated[str, Field(min_length=1, description="A model's name on the server, such as `llama3.2`.")],
    base_url: BaseUrl = DEFAULT_BASE_URL,
    context_window: Annotated[
        int | None,
        Field(
            gt=0,
            description="Tokens of prompt and answer together; the server reloads the model when it changes. Unset, "
            "8192, or the model's maximum if that is less.",
        ),
    ] = None,
    max_tokens: MaxTokens = limits.MAX_ANSWER_TOKENS,
    temperature: Annotated[
        float | None,
        Field(ge=0, description="Sampling temperature; 0 takes the most likely token, null is the model's default."),
    ] = ANSWER_TEMPERATURE,
    seed: Seed = None,
    stop: Stop = (),
    top_p: TopP = None,
    top_k: TopK = None,
    repeat_penalty: RepeatPenalty = None,
    keep_alive: KeepAlive = None,
    thinking: Annotated[
        bool | Literal["low", "medium", "high"] | None,
        Field(description="Whether a model with this capability thinks first; unset, the model's default."),
    ] = None,
    json_mode: Annotated[bool, Field(description="Restrict answers to JSON.")] = False,
    split_thinking: SplitThinking = True,
    system_prompt: SystemPrompt = None,
    connect_timeout: Annotated[
        float, Field(gt=0, description="Seconds to connect to the server.")
    ] = limits.CONNECT_TIMEOUT_SECONDS,
    first_token_timeout: Annotated[
        float, Field(gt=0, description="Seconds until an answer begins; the model may have to be loaded first.")
    ] = limits.FIRST_TOKEN_TIMEOUT_SECONDS,
    token_timeout: Annotated[
        float, Field(gt=0, description="Seconds from one part of an answer to the next.")
    ] = limits.TOKEN_TIMEOUT_SECONDS,
    retries: Retries = limits.RETRIES,
    pull: Annotated[
        Literal["never", "missing"],
        Field(description="`missing`: the server downloads a missing model at the first question."),
    ] = "never",
    options: Annotated[
        dict[str, str | int | float | bool | list[str] | None] | None,
        Field(description="Other model options by Ollama's names, such as `{num_gpu: 0}`."),
    ] = None,
    headers: Headers = None,
) -> Callable[..., LLM]:
    """A model on an Ollama server. Building it sends no request."""
    from .ollama_llm import build_ollama_llm

    return build_ollama_llm


def _sampling_needs_temperature(settings: dict[str, Any]) -> Iterable[tuple[str, str, str]]:
    for name in ("top_p", "top_k"):
        if settings[name] is not None and not settings["temperature"]:
            yield name, "it has no effect at temperature 0, which samples nothing", "set temperature, or remove it"


@rule(_sampling_needs_temperature)
@relay_settings
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
        Field(gt=0, description="Tokens of prompt and answer together; unset, the model's maximum, at most 8192."),
    ] = None,
    max_tokens: MaxTokens = 256,
    temperature: Annotated[
        float, Field(ge=0, description="Sampling temperature; 0 takes the most likely token.")
    ] = ANSWER_TEMPERATURE,
    seed: Seed = None,
    stop: Stop = (),
    top_p: TopP = None,
    top_k: TopK = None,
    repeat_penalty: RepeatPenalty = None,
    split_thinking: SplitThinking = True,
    device: Annotated[str | None, Field(description="`cpu`, `cuda`, `auto`; unset, the CPU.")] = None,
    dtype: Annotated[
        Literal["auto", "float32", "float16", "bfloat16"],
        Field(description="Data type of the weights; `auto`, as stored."),
    ] = "auto",
    system_prompt: SystemPrompt = None,
    revision: Revision = None,
    trust_remote_code: TrustRemoteCode = False,
) -> Callable[..., LLM]:
    """A model in this process by transformers, GGUF files too. Needs `pip install "rag-plugin[transformers]"`."""
    try:
        import accelerate  # noqa: F401
        import gguf  # noqa: F401
        import llama_index.llms.huggingface  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingPackage("llm 'huggingface'", error.name or "transformers", '"rag-plugin[transformers]"') from error
    from .transformers_llm import load_transformers_llm

    return load_transformers_llm


def none(callback_manager: CallbackManager) -> LLM:
    """No LLM: passages are retrieved, answers are not written."""
    from .no_llm import NoLLM

    return NoLLM(callback_manager=callback_manager)

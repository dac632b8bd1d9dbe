"""Synthesizers: they make an answer from the nodes. The names are LlamaIndex's response modes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..registry.component import rule

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.llms import LLM
    from llama_index.core.response_synthesizers import BaseSynthesizer

Streaming = Annotated[bool, Field(description="Return the answer in pieces while it is generated.")]
TextQA = Annotated[
    str | None,
    Field(description="The prompt, with `{context_str}` and `{query_str}` in it; unset, LlamaIndex's own."),
]
Refine = Annotated[
    str | None,
    Field(
        description="The prompt that improves an answer, with `{existing_answer}`, `{context_msg}` and `{query_str}`; "
        "unset, LlamaIndex's own."
    ),
]
Summary = Annotated[
    str | None,
    Field(description="The prompt of each summary, with `{context_str}` and `{query_str}`; unset, LlamaIndex's own."),
]
Simple = Annotated[str | None, Field(description="The prompt, with `{query_str}` in it; unset, the question alone.")]

_PLACEHOLDERS = {
    "text_qa_template": ("context_str", "query_str"),
    "refine_template": ("existing_answer", "context_msg", "query_str"),
    "summary_template": ("context_str", "query_str"),
    "simple_template": ("query_str",),
}


def _placeholders(settings: dict[str, Any]) -> Iterable[tuple[str, str, str]]:
    """A template without its placeholders would hide the passages or the question from the LLM."""
    from string import Formatter

    for name, required in _PLACEHOLDERS.items():
        template = settings.get(name)
        if template is None:
            continue
        try:
            fields = {field for _, field, _, _ in Formatter().parse(template) if field is not None}
        except ValueError as error:
            yield name, f"the template cannot be parsed: {error}", "a plain brace is written twice: {{ or }}"
            continue
        for field in required:
            if field not in fields:
                yield name, f"the template lacks {{{field}}}", "insert it into the text"
        for field in sorted(fields - set(required)):
            hint = f"possible: {', '.join(required)}; a plain brace is written twice: {{{{ or }}}}"
            yield name, f"the template contains {{{field}}}, which is not filled in", hint


def _no_streaming(settings: dict[str, Any]) -> Iterable[tuple[str, str, str]]:
    if settings["streaming"]:
        yield (
            "streaming",
            "this synthesizer joins complete answers, so it cannot stream",
            "remove it, or use compact, refine, tree_summarize, simple_summarize or generation",
        )


def _with_llm(
    mode: str,
    llm: LLM,
    callback_manager: CallbackManager,
    streaming: bool,
    **templates: str | None,
) -> BaseSynthesizer:
    from llama_index.core.prompts import PromptTemplate
    from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer

    from ..llms.prompt_helpers import prompt_helpers

    helper, chat_helper = prompt_helpers(llm)
    prompts: dict[str, Any] = {name: PromptTemplate(text) for name, text in templates.items() if text is not None}
    return get_response_synthesizer(
        llm=llm,
        prompt_helper=helper,
        chat_prompt_helper=chat_helper,
        callback_manager=callback_manager,
        response_mode=ResponseMode(mode),
        streaming=streaming,
        **prompts,
    )


@rule(_placeholders)
def compact(
    llm: LLM,
    callback_manager: CallbackManager,
    *,
    streaming: Streaming = False,
    text_qa_template: TextQA = None,
    refine_template: Refine = None,
) -> BaseSynthesizer:
    """Fills each prompt with as many nodes as fit; later prompts improve the answer."""
    return _with_llm(
        "compact", llm, callback_manager, streaming, text_qa_template=text_qa_template, refine_template=refine_template
    )


@rule(_placeholders)
def refine(
    llm: LLM,
    callback_manager: CallbackManager,
    *,
    streaming: Streaming = False,
    text_qa_template: TextQA = None,
    refine_template: Refine = None,
) -> BaseSynthesizer:
    """Answers from the first node, and improves the answer with each further one."""
    return _with_llm(
        "refine", llm, callback_manager, streaming, text_qa_template=text_qa_template, refine_template=refine_template
    )


@rule(_placeholders)
def tree_summarize(
    llm: LLM, callback_manager: CallbackManager, *, streaming: Streaming = False, summary_template: Summary = None
) -> BaseSynthesizer:
    """Summarizes the nodes in groups, then the summaries, until one is left."""
    return _with_llm("tree_summarize", llm, callback_manager, streaming, summary_template=summary_template)


@rule(_placeholders)
def simple_summarize(
    llm: LLM, callback_manager: CallbackManager, *, streaming: Streaming = False, text_qa_template: TextQA = None
) -> BaseSynthesizer:
    """One LLM call; nodes are truncated so that all fit into one prompt."""
    return _with_llm("simple_summarize", llm, callback_manager, streaming, text_qa_template=text_qa_template)


@rule(_placeholders)
@rule(_no_streaming)
def accumulate(
    llm: LLM, callback_manager: CallbackManager, *, streaming: Streaming = False, text_qa_template: TextQA = None
) -> BaseSynthesizer:
    """One LLM call for each node; lists the answers."""
    return _with_llm("accumulate", llm, callback_manager, streaming, text_qa_template=text_qa_template)


@rule(_placeholders)
@rule(_no_streaming)
def compact_accumulate(
    llm: LLM, callback_manager: CallbackManager, *, streaming: Streaming = False, text_qa_template: TextQA = None
) -> BaseSynthesizer:
    """Fills each prompt with as many nodes as fit; lists the answers."""
    return _with_llm("compact_accumulate", llm, callback_manager, streaming, text_qa_template=text_qa_template)


@rule(_placeholders)
def generation(
    llm: LLM, callback_manager: CallbackManager, *, streaming: Streaming = False, simple_template: Simple = None
) -> BaseSynthesizer:
    """Calls the LLM without any node."""
    return _with_llm("generation", llm, callback_manager, streaming, simple_template=simple_template)


def _without_llm(
    make: Callable[..., BaseSynthesizer], callback_manager: CallbackManager, **settings: Any
) -> BaseSynthesizer:
    from ..llms.no_llm import NoLLM
    from ..llms.prompt_helpers import prompt_helpers

    # LlamaIndex's constructors replace a missing LLM by the global one.
    llm = NoLLM(callback_manager=callback_manager)
    helper, chat_helper = prompt_helpers(llm)
    helpers = {"prompt_helper": helper, "chat_prompt_helper": chat_helper}
    return make(llm=llm, callback_manager=callback_manager, **helpers, **settings)


def quote(
    encoder: BaseEmbedding,
    callback_manager: CallbackManager,
    *,
    max_sentences: Annotated[int, Field(gt=0, description="How many sentences are quoted at most.")] = 3,
    min_similarity: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="How similar to the question a sentence has to be: 0 is an unrelated sentence, 1 the "
            "question itself, for every encoder.",
        ),
    ] = 0.3,
    streaming: Streaming = False,
) -> BaseSynthesizer:
    """The sentences nearest to the question, word for word, each with its source, without an LLM.

    Where no sentence is near enough, the answer is that the documents do not say.
    """
    from .quote import QuoteSynthesizer

    return _without_llm(
        QuoteSynthesizer,
        callback_manager,
        encoder=encoder,
        max_sentences=max_sentences,
        min_similarity=min_similarity,
        streaming=streaming,
    )


def context_only(callback_manager: CallbackManager) -> BaseSynthesizer:
    """The nodes' texts, without an LLM."""
    from llama_index.core.response_synthesizers.context_only import ContextOnly

    return _without_llm(ContextOnly, callback_manager)


def no_text(callback_manager: CallbackManager) -> BaseSynthesizer:
    """The nodes without any text, without an LLM."""
    from llama_index.core.response_synthesizers.no_text import NoText

    return _without_llm(NoText, callback_manager)

"""Synthesizers: how an answer is made from the nodes. The names are LlamaIndex's response modes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..registry.component import rule

if TYPE_CHECKING:
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.llms import LLM
    from llama_index.core.response_synthesizers import BaseSynthesizer

Streaming = Annotated[bool, Field(description="Give the answer piece by piece, as it is written.")]
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

    for name, wanted in _PLACEHOLDERS.items():
        template = settings.get(name)
        if template is None:
            continue
        try:
            found = {field for _, field, _, _ in Formatter().parse(template) if field is not None}
        except ValueError as error:
            yield name, f"the template cannot be read: {error}", "a plain brace is written twice: {{ or }}"
            continue
        for field in wanted:
            if field not in found:
                yield name, f"the template lacks {{{field}}}", "put it where it belongs in the text"
        for field in sorted(found - set(wanted)):
            yield name, f"the template asks for {{{field}}}, which nobody fills", f"known: {', '.join(wanted)}"


def _no_streaming(settings: dict[str, Any]) -> Iterable[tuple[str, str, str]]:
    if settings["streaming"]:
        yield (
            "streaming",
            "this synthesizer joins finished answers, so it cannot stream",
            "leave it out, or use compact, refine, tree_summarize, simple_summarize or generation",
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
    """Fills each prompt with as many nodes as fit; the next prompts improve the answer."""
    return _make("compact", llm, callback_manager, streaming, qa=text_qa_template, refine=refine_template)


@rule(_placeholders)
def refine(
    llm: LLM,
    callback_manager: CallbackManager,
    *,
    streaming: Streaming = False,
    text_qa_template: TextQA = None,
    refine_template: Refine = None,
) -> BaseSynthesizer:
    """Asks with the first node, and improves the answer with each further one."""
    return _make("refine", llm, callback_manager, streaming, qa=text_qa_template, refine=refine_template)


@rule(_placeholders)
def tree_summarize(
    llm: LLM, callback_manager: CallbackManager, *, streaming: Streaming = False, summary_template: Summary = None
) -> BaseSynthesizer:
    """Summarizes the nodes in groups, then the summaries, until one is left."""
    return _make("tree_summarize", llm, callback_manager, streaming, summary=summary_template)


@rule(_placeholders)
def simple_summarize(
    llm: LLM, callback_manager: CallbackManager, *, streaming: Streaming = False, text_qa_template: TextQA = None
) -> BaseSynthesizer:
    """Asks once; nodes are cut so that all fit into one prompt."""
    return _make("simple_summarize", llm, callback_manager, streaming, qa=text_qa_template)


@rule(_placeholders)
@rule(_no_streaming)
def accumulate(
    llm: LLM, callback_manager: CallbackManager, *, streaming: Streaming = False, text_qa_template: TextQA = None
) -> BaseSynthesizer:
    """Asks with each node alone and lists the answers."""
    return _make("accumulate", llm, callback_manager, streaming, qa=text_qa_template)


@rule(_placeholders)
@rule(_no_streaming)
def compact_accumulate(
    llm: LLM, callback_manager: CallbackManager, *, streaming: Streaming = False, text_qa_template: TextQA = None
) -> BaseSynthesizer:
    """Asks with as many nodes as fit into each prompt and lists the answers."""
    return _make("compact_accumulate", llm, callback_manager, streaming, qa=text_qa_template)


@rule(_placeholders)
def generation(
    llm: LLM, callback_manager: CallbackManager, *, streaming: Streaming = False, simple_template: Simple = None
) -> BaseSynthesizer:
    """Asks the LLM without any node."""
    return _make("generation", llm, callback_manager, streaming, simple=simple_template)


def context_only(llm: LLM, callback_manager: CallbackManager) -> BaseSynthesizer:
    """The nodes' texts themselves, no LLM asked."""
    return _make("context_only", llm, callback_manager, False)


def no_text(llm: LLM, callback_manager: CallbackManager) -> BaseSynthesizer:
    """The nodes without any text, no LLM asked."""
    return _make("no_text", llm, callback_manager, False)


def _make(
    mode: str, llm: LLM, callback_manager: CallbackManager, streaming: bool, **templates: str | None
) -> BaseSynthesizer:
    from llama_index.core.prompts import PromptTemplate
    from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer
    from llama_index.core.response_synthesizers.context_only import ContextOnly
    from llama_index.core.response_synthesizers.no_text import NoText

    from ..llms.prompt_helpers import prompt_helpers

    helper, chat_helper = prompt_helpers(llm)
    without_llm: dict[str, Callable[..., BaseSynthesizer]] = {"context_only": ContextOnly, "no_text": NoText}
    if mode in without_llm:
        # LlamaIndex's factory does not hand the LLM on to these two, which then look for a global one.
        return without_llm[mode](
            llm=llm, callback_manager=callback_manager, prompt_helper=helper, chat_prompt_helper=chat_helper
        )
    names = {
        "qa": "text_qa_template",
        "refine": "refine_template",
        "summary": "summary_template",
        "simple": "simple_template",
    }
    given = {names[key]: PromptTemplate(text) for key, text in templates.items() if text is not None}
    return get_response_synthesizer(
        llm=llm,
        prompt_helper=helper,
        chat_prompt_helper=chat_helper,
        callback_manager=callback_manager,
        response_mode=ResponseMode(mode),
        streaming=streaming,
        **given,  # type: ignore[arg-type]
    )

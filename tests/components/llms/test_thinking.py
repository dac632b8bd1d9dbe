"""Thoughts are kept apart from answers, and an answer of thoughts alone is an error that says what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage, ThinkingBlock

from rag_plugin import build_engine
from rag_plugin.components.llms.ollama_llm import OllamaLLM
from rag_plugin.components.llms.thoughts import StopFilter, ThoughtSplitter
from rag_plugin.errors import AnswerBroken
from rag_plugin.testing import Answer, FakeOllama
from tests.fakes import Hashes

USER = [ChatMessage(role="user", content="What?")]


def split(text: str, cuts: list[int], **settings: Any) -> tuple[str, str]:
    splitter = ThoughtSplitter(**settings)
    positions = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    parts = [text[start:end] for start, end in zip(positions, positions[1:])] or [""]
    results = [splitter.feed(part, last=number == len(parts) - 1) for number, part in enumerate(parts)]
    return "".join(text for text, _ in results), "".join(thought for _, thought in results)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>I wonder.</think>\n\nThe answer.", ("The answer.", "I wonder.")),
        ("\n <think>\nI wonder.\n</think>The answer.", ("The answer.", "\nI wonder.\n")),
        ("<think></think>The answer.", ("The answer.", "")),
        ("<think>It never ends", ("", "It never ends")),
        ("<think>It never ends</thi", ("", "It never ends</thi")),
        ("Write <think>x</think> in HTML.", ("Write <think>x</think> in HTML.", "")),
        ("<thinkers> are people.", ("<thinkers> are people.", "")),
        ("  Plain.", ("  Plain.", "")),
        ("<th", ("<th", "")),
        ("", ("", "")),
    ],
)
@given(cuts=st.lists(st.integers(0, 60), max_size=6))
def test_thoughts_are_split_wherever_the_stream_is_cut(text: str, expected: tuple[str, str], cuts: list[int]) -> None:
    assert split(text, cuts) == expected


def test_a_template_may_begin_inside_of_thoughts() -> None:
    assert split("I wonder.</think> The answer.", [3, 12], is_thinking=True) == ("The answer.", "I wonder.")


@given(st.text("abST", max_size=30), st.lists(st.integers(0, 30), max_size=5))
def test_a_stop_string_ends_the_text(text: str, cuts: list[int]) -> None:
    stop = StopFilter(("ST", "ba"))
    positions = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    got = "".join(stop.feed(text[start:end]) for start, end in zip(positions, positions[1:])) + stop.feed("", last=True)
    ends = [position for mark in ("ST", "ba") if (position := text.find(mark)) >= 0]
    assert got == text[: min(ends, default=len(text))]
    assert stop.has_stopped == bool(ends)


@pytest.fixture
def server() -> Any:
    with FakeOllama("<think>I wonder.</think>\n\nThe answer is 42.", models=["m"]) as server:
        yield server


def llm_of(server: Any, **fields: Any) -> OllamaLLM:
    return OllamaLLM(model="m", base_url=server.url, **fields)


async def test_inline_thoughts_are_apart_from_the_answer(server: Any) -> None:
    llm = llm_of(server)
    for response in (llm.chat(USER), await llm.achat(USER)):
        assert response.message.content == "The answer is 42."
        assert [block.content for block in response.message.blocks if isinstance(block, ThinkingBlock)] == ["I wonder."]
    streamed = list(llm.stream_chat(USER))
    assert "".join(part.delta or "" for part in streamed) == "The answer is 42."
    assert "".join(part.additional_kwargs["thinking_delta"] or "" for part in streamed) == "I wonder."
    parts = [part async for part in await llm.astream_chat(USER)]
    assert parts[-1].message.content == "The answer is 42."
    assert llm.complete("What?").text == "The answer is 42."
    kept = llm_of(server, split_thinking=False).complete("What?").text
    assert kept == "<think>I wonder.</think>\n\nThe answer is 42."


@pytest.mark.parametrize(
    "answer", [Answer("", thinking="hmm " * 50), Answer("<think>" + "hmm " * 50)], ids=["field", "inline"]
)
async def test_thoughts_that_use_all_tokens_are_an_error_in_every_form(
    documents: Path, settings: dict[str, Any], answer: Any
) -> None:
    with FakeOllama(answer, models=["m"], capabilities=["completion", "thinking"]) as server:
        llm = llm_of(server, max_tokens=8, thinking=True)

        async def drain(stream: Any) -> None:
            async for _ in stream:
                pass

        calls: list[Callable[[], Any]] = [
            lambda: llm.chat(USER),
            lambda: llm.complete("What?"),
            lambda: list(llm.stream_chat(USER)),
            lambda: list(llm.stream_complete("What?")),
        ]
        settings["synthesizer"] = {"type": "compact"}
        engine = build_engine(settings, encoder=Hashes(), llm=llm)
        streaming = build_engine(settings, overrides={"synthesizer.streaming": True}, encoder=Hashes(), llm=llm)
        calls += [
            lambda: engine.query("What?"),
            lambda: "".join(streaming.query("What?").response_gen),  # type: ignore[union-attr]
            lambda: engine.as_chat_engine().chat("What?"),
        ]
        cause = r"used all \d+ tokens .* thinking; set llm.max_tokens higher, or llm.thinking: false"
        for call in calls:
            with pytest.raises(
                AnswerBroken,
                match=cause,
            ):
                call()
        for awaitable in (llm.achat(USER), engine.aquery("What?")):
            with pytest.raises(AnswerBroken, match="llm.max_tokens higher"):
                await awaitable
        with pytest.raises(AnswerBroken, match="llm.max_tokens higher"):
            await drain(await llm.astream_chat(USER))


def test_thoughts_that_fill_the_context_name_the_context_window() -> None:
    with FakeOllama(Answer("", thinking="hmm " * 900), models=["m"], capabilities=["completion", "thinking"]) as server:
        with pytest.raises(AnswerBroken, match="set llm.context_window higher, or llm.thinking: false"):
            llm_of(server, max_tokens=4000, context_window=256).complete("What?")


@pytest.mark.parametrize("split_thinking", [True, False])
async def test_a_cut_answer_without_text_is_an_error(split_thinking: bool) -> None:
    with FakeOllama(" \n" * 40, models=["m"]) as server:
        llm = llm_of(server, max_tokens=4, split_thinking=split_thinking)
        cause = "returned no text in 4 tokens; set llm.max_tokens higher, or llm.thinking: false"
        with pytest.raises(AnswerBroken, match=cause):
            llm.complete("What?")
        with pytest.raises(AnswerBroken, match=cause):
            await llm.achat(USER)
        with pytest.raises(AnswerBroken, match=cause):
            list(llm.stream_chat(USER))

"""The `ollama` LLM against a server that fails in every known way: each ends in the error of its own, and in time."""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import pickle
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.tools import FunctionTool

from rag_plugin import build_engine
from rag_plugin.components.llms.ollama_llm import OllamaLLM
from rag_plugin.errors import (
    AccessRefused,
    AnswerBroken,
    CapabilityMissing,
    ContextOverflow,
    LLMError,
    LLMTimeout,
    LoadFailed,
    ModelMissing,
    NotOllama,
    PullFailed,
    ServerBusy,
    ServerTooOld,
    ServerUnreachable,
)
from rag_plugin.ollama.error_mapping import unreachable
from rag_plugin.ollama.target import Target
from rag_plugin.testing import Answer, FakeOllama, Fault, faults, recorded, tokens
from rag_plugin.testing.counting import prompt_tokens
from tests.conftest import ROOT

MODEL = "fake:latest"
SAYS = "Ein Reiher fängt Fische, Frösche und Aale."
MESSAGES = [ChatMessage(role="user", content="Was frisst ein Reiher?")]
FORMS = [
    "complete",
    "chat",
    "stream_complete",
    "stream_chat",
    "acomplete",
    "achat",
    "astream_complete",
    "astream_chat",
]
# Where a fault takes a while, one or two of the forms stand for all in the quick run.
QUICK = ("complete", "astream_chat")


def each_form(quick: Sequence[str] = FORMS) -> list[Any]:
    return [pytest.param(form, marks=[] if form in quick else [pytest.mark.slow]) for form in FORMS]


@pytest.fixture
def server() -> Iterator[FakeOllama]:
    with FakeOllama(SAYS) as fake:
        yield fake


def llm_of(server: FakeOllama, **fields: Any) -> OllamaLLM:
    return OllamaLLM(MODEL, base_url=server.url, **{"context_window": 2048, "retries": 1, **fields})


async def aask(llm: OllamaLLM, form: str, pieces: list[str] | None = None, **more: Any) -> str:
    """The answer by one of the asynchronous forms; its pieces as they come."""
    given: Any = MESSAGES[0].content if "complete" in form else MESSAGES
    found = await getattr(llm, form)(given, **more)
    if "stream" not in form:
        return found.text if "complete" in form else found.message.content
    got = [] if pieces is None else pieces
    async for response in found:
        got.append(response.delta)
    return "".join(got)


def ask(llm: OllamaLLM, form: str, pieces: list[str] | None = None, **more: Any) -> str:
    """The answer by one of the forms; its pieces as they come."""
    if form.startswith("a"):
        return asyncio.run(aask(llm, form, pieces, **more))
    given: Any = MESSAGES[0].content if "complete" in form else MESSAGES
    found = getattr(llm, form)(given, **more)
    if "stream" not in form:
        return found.text if "complete" in form else found.message.content
    got = [] if pieces is None else pieces
    for response in found:
        got.append(response.delta)
    return "".join(got)


# ---------------------------------------------------------------------------------- every fault, every form


@dataclass(frozen=True)
class Case:
    """A fault and how it ends.

    Attributes:
        given: How many tokens a stream gives out before.
        requests: How often the server is target, with one retry.
        limit: The setting of the time that runs out.
    """

    name: str
    fault: Fault
    error: type[LLMError]
    given: int = 0
    requests: int = 1
    limit: str = ""
    said: str = ""


LM_STUDIO = '{"error":"Unexpected endpoint or method. (POST /api/chat)"}'
LLAMA_CPP = '{"error":{"code":404,"message":"File Not Found","type":"not_found_error"}}'

CASES = [
    Case("slow-first-token", faults.slow_first_token(), LLMTimeout, limit="first_token_timeout"),
    Case("early-headers", faults.early_headers(), LLMTimeout, limit="first_token_timeout"),
    Case("drip", faults.drip(), LLMTimeout, limit="first_token_timeout"),
    Case("stall", faults.stall(2), LLMTimeout, 2, limit="token_timeout"),
    Case("drip-later", faults.drip(after=2), LLMTimeout, 2, limit="token_timeout"),
    Case("drop-at-once", faults.drop(0), AnswerBroken),
    Case("drop", faults.drop(2), AnswerBroken, 2),
    Case("close-at-once", faults.close(0), AnswerBroken),
    Case("close", faults.close(2), AnswerBroken, 2),
    Case("no-done", faults.no_done(), AnswerBroken, 11),
    Case("nothing", faults.no_done(0), AnswerBroken),
    Case("garbage-first", faults.garbage_line(0), AnswerBroken),
    Case("garbage", faults.garbage_line(2), AnswerBroken, 2, said="<<< no JSON >>>"),
    Case("not-utf8", faults.garbage_line(2, b"\xff\xfe\x00"), AnswerBroken, 2),
    Case("cut-character", faults.cut_character(), AnswerBroken, 2),
    Case("error-line", faults.error_line(2), AnswerBroken, 2, said=recorded.RUNNER_DIED),
    Case("error-line-first", faults.error_line(0), AnswerBroken, said=recorded.RUNNER_DIED),
    Case("error-line-memory", faults.error_line(2, "CUDA error: out of memory"), LoadFailed, 2, said="out of memory"),
    *[
        Case(f"500-load-{number}", faults.status(500, text), LoadFailed, said=text)
        for number, text in enumerate(recorded.CANNOT_LOAD)
    ],
    Case("500-runner", faults.status(500, recorded.RUNNER_STOPPED), AnswerBroken, said=recorded.RUNNER_STOPPED),
    Case("500-other", faults.status(500, "something new"), LLMError, said="something new"),
    Case("400-other", faults.status(400, "something new"), LLMError, said="something new"),
    Case("404-model", faults.status(404, recorded.MISSING % MODEL), ModelMissing, said="ollama pull"),
    Case("503", faults.busy(), ServerBusy, requests=2, said="maximum pending requests exceeded"),
    Case("503-at-once", faults.busy("0"), ServerBusy, requests=2),
    Case("503-too-long", faults.busy("3000"), ServerBusy, said="3,000 s"),
    Case("503-html", faults.html(503), ServerBusy, requests=2),
    Case("429", faults.status(429, "too many requests"), ServerBusy, requests=2, said="too many requests"),
    Case("401", faults.refused_access(401), AccessRefused, said="llm.headers"),
    Case("403", faults.refused_access(403), AccessRefused, said="llm.headers"),
    Case("html-200", faults.html(200), NotOllama),
    Case("html-404", faults.html(404), NotOllama),
    Case("html-500", faults.html(500), NotOllama),
    Case("html-502", faults.html(502), ServerUnreachable, requests=2, said="502"),
    Case("html-504", faults.html(504), AnswerBroken, said="504"),
    Case("redirect", faults.redirect("https://example.org/login"), NotOllama, said="https://example.org/login"),
    Case("redirect-302", faults.redirect("/login", 302), NotOllama, said="/login"),
    Case("openai-404", faults.other_json(404), NotOllama),
    Case("lm-studio-200", faults.other_json(200, LM_STUDIO), NotOllama),
    Case("llama-cpp-404", faults.other_json(404, LLAMA_CPP), NotOllama),
    Case("other-object", faults.other_json(200, '{"object":"list","data":[]}'), NotOllama),
    Case("other-message", faults.other_json(200, '{"message":"Hello","done":true}'), NotOllama),
    Case("other-list", faults.other_json(200, "[1]"), NotOllama),
    Case("too-long", faults.wrong_content_length(-10), AnswerBroken, 11),
    Case("empty", faults.empty_answer(), AnswerBroken, said="empty answer"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("case", "form"),
    [
        pytest.param(case, *form.values, marks=form.marks, id=f"{case.name}-{form.values[0]}")
        for number, case in enumerate(CASES)
        for form in each_form(QUICK[number % 2 :][:1] if case.limit or case.requests > 1 else FORMS)
    ],
)
def test_a_fault_ends_in_its_own_error(server: FakeOllama, case: Case, form: str) -> None:
    server.fail(case.fault, times=None)
    limits = {case.limit: 0.15} if case.limit else {}
    llm = llm_of(server, **limits)
    pieces: list[str] = []
    with pytest.raises(LLMError) as caught:
        ask(llm, form, pieces)
    error = caught.value
    assert type(error) is case.error
    assert (error.url, error.model) == (server.url, MODEL)
    assert server.url in str(error)
    assert case.said in str(error)
    assert repr(MODEL) in str(error)
    assert len(server.bodies()) == case.requests
    if isinstance(error, LLMTimeout):
        assert error.limit == case.limit
        assert f"0.15 s; if it is only slow, set llm.{case.limit} higher" in str(error)
        assert server.wait_until(lambda s: s.cancelled == 1)
    if "stream" in form:
        assert "".join(pieces) == "".join(tokens(SAYS)[: case.given])


@pytest.mark.parametrize("form", each_form(QUICK))
@pytest.mark.parametrize(
    ("fault", "requests"),
    [
        (faults.torn_characters(), 1),
        (faults.slow_first_token(0.1), 1),
        (faults.early_headers(0.1), 1),
        (faults.stall(2, 0.1), 1),
        (faults.busy(), 2),
        (faults.busy("0"), 2),
        (faults.html(502), 2),
        # The answer says itself that it is done.
        (faults.wrong_content_length(10), 1),
    ],
    ids=["torn-characters", "slow", "early-headers", "pause", "busy-once", "busy-at-once", "proxy-once", "too-short"],
)
def test_what_passes_is_waited_for(server: FakeOllama, fault: Fault, requests: int, form: str) -> None:
    server.fail(fault)
    assert ask(llm_of(server), form) == SAYS
    assert len(server.bodies()) == requests


@pytest.mark.parametrize("form", each_form(QUICK))
def test_a_server_that_is_not_there(form: str) -> None:
    server = FakeOllama()
    try:
        with pytest.raises(ServerUnreachable) as caught:
            ask(llm_of(server), form)
        assert str(caught.value) == (
            f"no Ollama server can be reached at {server.url} for '{MODEL}': start it with "
            f"`OLLAMA_HOST={server.url[7:]} ollama serve`, or set llm.base_url"
        )
        assert (caught.value.url, caught.value.model) == (server.url, MODEL)
    finally:
        server.close()


@pytest.mark.parametrize("form", each_form(QUICK))
def test_a_server_that_is_starting_is_waited_for(form: str) -> None:
    server = FakeOllama(SAYS)
    later = threading.Timer(0.1, server.start)
    later.start()
    try:
        assert ask(llm_of(server, retries=2), form) == SAYS
        assert len(server.bodies()) == 1
    finally:
        later.join()
        server.close()


@pytest.mark.parametrize("form", FORMS)
def test_a_model_that_is_missing_names_those_that_are_there(server: FakeOllama, form: str) -> None:
    server.models[:] = ["fake:8b", "other:1b"]
    with pytest.raises(ModelMissing) as caught:
        ask(llm_of(server), form)
    assert str(caught.value) == (
        f"the Ollama server at {server.url} has no model 'fake:latest': get it with `OLLAMA_HOST={server.url[7:]} "
        "ollama pull fake:latest`, or set llm.pull to missing; it has fake:8b, 1 more"
    )


def test_a_model_is_missing_and_the_names_do_not_come(server: FakeOllama) -> None:
    server.fail(faults.slow_first_token(), path="/api/tags", times=None)
    server.models.clear()
    with pytest.raises(ModelMissing) as caught:
        llm_of(server, token_timeout=0.2).complete("x")
    assert str(caught.value).endswith(" ollama pull fake:latest`, or set llm.pull to missing")
    server.recover()
    with pytest.raises(ModelMissing, match="; it has none yet$"):
        llm_of(server).complete("x")


def test_a_model_that_is_missing_is_downloaded_once(server: FakeOllama) -> None:
    server.models.clear()
    server.pullable.append(MODEL)
    llm = llm_of(server, pull="missing")
    assert llm.complete("x").text == SAYS
    assert llm.complete("x").text == SAYS
    assert len(server.bodies("/api/pull")) == 1


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (None, "pull model manifest: file does not exist"),
        (faults.error_line(3, "write /models/x: no space left on device"), "no space left on device"),
        (faults.no_done(), "the server ended the download before it was complete"),
        (faults.drop(2), "broke"),
        (faults.stall(2), "sent nothing"),
        (faults.status(500, "pull model manifest: dial tcp: lookup registry.ollama.ai: no such host"), "no such host"),
    ],
    ids=["unknown", "disk", "no-success", "drop", "stall", "network"],
)
def test_a_download_that_fails(server: FakeOllama, fault: Fault | None, said: str) -> None:
    server.models.clear()
    if fault is not None:
        server.pullable.append(MODEL)
        server.fail(fault, path="/api/pull")
    with pytest.raises(PullFailed) as caught:
        llm_of(server, pull="missing", token_timeout=0.2).complete("x")
    assert f"the server at {server.url} could not download '{MODEL}'" in str(caught.value)
    assert said in str(caught.value)
    assert len(server.bodies("/api/pull")) == 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (faults.html(), NotOllama),
        (faults.other_json(200, "[]"), NotOllama),
        (faults.slow_first_token(), LLMTimeout),
        (faults.refused_access(), AccessRefused),
        (faults.wrong_content_length(10), AnswerBroken),
        (faults.drop(0), AnswerBroken),
    ],
    ids=["html", "list", "slow", "401", "too-short", "drop"],
)
def test_faults_of_other_questions_to_the_server(server: FakeOllama, fault: Fault, error: type[LLMError]) -> None:
    server.fail(fault, path="/api/show", times=None)
    llm = llm_of(server, context_window=-1, token_timeout=0.2)
    with pytest.raises(error) as caught:
        _ = llm.metadata
    assert type(caught.value) is error
    assert (caught.value.url, caught.value.model) == (server.url, MODEL)
    server.recover()
    assert llm.metadata.context_window == 8192


def test_the_whole_wait_for_the_first_token_is_one_time(server: FakeOllama) -> None:
    server.fail(faults.early_headers(0.3))
    server.load_seconds = 0.3
    with pytest.raises(LLMTimeout):  # each of the two waits alone is shorter
        llm_of(server, first_token_timeout=0.5).complete("x")


def test_a_busy_server_is_not_waited_for_longer_than_for_a_first_token(server: FakeOllama) -> None:
    server.fail(faults.busy("2"), times=None)
    with pytest.raises(ServerBusy):
        llm_of(server, first_token_timeout=1).complete("x")
    assert len(server.bodies()) == 1


@pytest.mark.parametrize(
    "url",
    ["http:", "ftp://127.0.0.1", "http://127.0.0.1:99999", "http://[::1", "127.0.0.1:11434"],
)
def test_addresses_that_are_none(url: str) -> None:
    llm = OllamaLLM(MODEL, base_url=url, context_window=2048, retries=0)
    with pytest.raises(ServerUnreachable) as caught:
        llm.complete("x")
    assert str(caught.value).startswith(f"{url} is not a server address for '{MODEL}': ")


def test_a_server_that_does_not_speak_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def greet() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
                connection.recv(1000)

        thread = threading.Thread(target=greet)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(AnswerBroken, match=r"broke: [\w ]+; is llm\.base_url right\?"):
            OllamaLLM(MODEL, base_url=url, retries=0).complete("x")
        thread.join()


def test_the_cure_fits_the_place() -> None:
    for url, hint in (
        ("http://localhost:9", "start it with `OLLAMA_HOST=localhost:9 ollama serve`, or set llm.base_url"),
        ("http://no-such-machine.invalid:9", "is llm.base_url right?"),
    ):
        with pytest.raises(ServerUnreachable) as caught:
            OllamaLLM(MODEL, base_url=url, retries=0).complete("x")
        assert caught.value.hint.startswith(hint)
        assert str(caught.value).endswith(caught.value.hint)
    there = unreachable(Target("http://gpu:11434", "llama3.2"))
    assert there.hint.startswith("does it run there, and listen to other machines (OLLAMA_HOST=0.0.0.0)? If it is else")
    here = Target("http://localhost:11434", "llama3.2")
    assert here.command("pull llama3.2") == "`ollama pull llama3.2`"
    assert Target("http://gpu:11434").command("pull x") == "`OLLAMA_HOST=gpu:11434 ollama pull x`"


def test_https_where_only_http_is(server: FakeOllama) -> None:
    url = server.url.replace("http:", "https:")
    with pytest.raises(ServerUnreachable, match="no TLS connection to .*; is it http:// there, or"):
        OllamaLLM(MODEL, base_url=url, context_window=2048, retries=0).complete("x")


@pytest.mark.parametrize("value", ["Bearer hush\n", " Bearer hush", "Bearer hush\u00e4"], ids=["end", "space", "sign"])
@pytest.mark.parametrize("form", ["complete", "acomplete"])
def test_a_header_that_cannot_be_sent_is_not_quoted(server: FakeOllama, value: str, form: str) -> None:
    with pytest.raises(LLMError, match="the header 'Authorization' cannot be sent .* check llm.headers") as caught:
        ask(llm_of(server, headers={"Authorization": value}), form)
    assert "hush" not in "".join(traceback.format_exception(caught.value))


def test_text_that_is_no_proper_unicode_is_sent(server: FakeOllama) -> None:
    assert llm_of(server).complete("half a \ud83d character").text == SAYS
    assert server.bodies()[-1]["messages"][0]["content"] == "half a \ud83d character"


# ---------------------------------------------------------------------------------- kinds of answers


def test_thinking_is_kept_apart(server: FakeOllama) -> None:
    server.capabilities.append("thinking")
    server.answer = Answer("Fish.", thinking="What do herons eat?")
    llm = llm_of(server, thinking=True)
    response = llm.chat(MESSAGES)
    assert [block.block_type for block in response.message.blocks] == ["thinking", "text"]
    assert response.message.blocks[0].content == "What do herons eat?"
    assert response.message.content == "Fish."
    assert llm.complete("x").text == "Fish."
    pieces = list(llm.stream_chat(MESSAGES))
    assert "".join(piece.delta for piece in pieces) == "Fish."
    assert "".join(piece.additional_kwargs["thinking_delta"] or "" for piece in pieces) == "What do herons eat?"
    assert llm.chat(MESSAGES, think=False).message.content == "Fish."
    assert server.bodies()[-1]["think"] is False


@pytest.mark.parametrize("form", each_form(QUICK))
def test_thinking_alone_is_no_answer(server: FakeOllama, form: str) -> None:
    server.answer = Answer("", thinking="What do herons eat?")
    with pytest.raises(AnswerBroken, match=f"'{MODEL}' at .* returned an empty answer after thinking; rephrase"):
        ask(llm_of(server), form)


def test_tool_calls(server: FakeOllama) -> None:
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    tool = FunctionTool.from_defaults(add)
    with pytest.raises(CapabilityMissing, match="does not support tools; its capabilities are completion"):
        llm_of(server).chat_with_tools([tool], "What is 2 + 3?")
    server.capabilities.append("tools")
    server.answer = Answer(tool_calls=[("add", {"a": 2, "b": 3})])
    llm = llm_of(server)
    response = llm.chat_with_tools([tool], "What is 2 + 3?")
    (call,) = llm.get_tool_calls_from_response(response)
    assert (call.tool_name, call.tool_kwargs) == ("add", {"a": 2, "b": 3})
    assert server.bodies()[-1]["tools"][0]["function"]["name"] == "add"
    assert str(llm.predict_and_call([tool], "What is 2 + 3?")) == "5"


@pytest.mark.parametrize("form", FORMS)
def test_an_answer_that_was_cut_says_so(server: FakeOllama, form: str, caplog: pytest.LogCaptureFixture) -> None:
    ask(llm_of(server, max_tokens=3), form)
    assert caplog.messages == [
        f"the answer of '{MODEL}' was cut after 3 tokens; set llm.max_tokens higher for longer answers"
    ]


def test_an_answer_that_filled_the_context_says_so(server: FakeOllama, caplog: pytest.LogCaptureFixture) -> None:
    server.answer = "word " * 500
    response = llm_of(server, context_window=64).complete("x")
    assert response.additional_kwargs["finish_reason"] == "length"
    assert "set llm.context_window higher" in caplog.text


@pytest.mark.parametrize("form", FORMS)
def test_a_model_that_repeats_itself_is_named_as_such(server: FakeOllama, form: str) -> None:
    # The server ends the stream without `done` after a token came 30 times more, and says nothing of it.
    server.answer = "and " * 40
    server.fail(faults.no_done(31), times=None)
    with pytest.raises(AnswerBroken) as caught:
        ask(llm_of(server), form)
    assert str(caught.value) == (
        f"'{MODEL}' at {server.url} repeated 'and' until the server stopped it; rephrase the question, set "
        "llm.repeat_penalty higher, or use another model"
    )


@pytest.mark.parametrize("form", FORMS)
def test_a_prompt_that_is_too_long_is_an_error(server: FakeOllama, form: str) -> None:
    llm = llm_of(server, context_window=8)
    with pytest.raises(ContextOverflow) as caught:
        ask(llm, form)
    assert "set llm.context_window higher" in str(caught.value)
    assert (caught.value.url, caught.value.model) == (server.url, MODEL)
    assert len(server.bodies()) == 1


@pytest.mark.parametrize("form", FORMS)
def test_a_server_that_would_cut_prompts_is_refused_at_the_first_question(form: str) -> None:
    with FakeOllama(SAYS, version="0.12.5") as server:
        with pytest.raises(ServerTooOld) as caught:
            ask(llm_of(server), form)
        assert str(caught.value) == (
            f"Ollama 0.12.5 at {server.url} is too old: prompts would be cut without notice; update it to 0.13 or later"
        )
        assert (caught.value.url, caught.value.model) == (server.url, MODEL)
        assert server.bodies() == []


@pytest.mark.parametrize("version", ["0.13.0", "0.13.0-rc1", "0.17.4", "1.0", "0.0.0"])
def test_the_version_of_a_server_is_read_once(version: str) -> None:
    with FakeOllama(SAYS, version=version) as server:
        llm = llm_of(server)
        for _ in range(2):
            assert llm.complete("x").text == SAYS
        assert [request.path for request in server.requests].count("/api/version") == 1


def test_a_proxy_that_does_not_pass_the_version_on_is_no_obstacle(server: FakeOllama) -> None:
    server.fail(faults.html(404), path="/api/version", times=None)
    assert llm_of(server).complete("x").text == SAYS


def test_prose_after_text_of_many_tokens_is_no_prompt_that_was_cut(server: FakeOllama) -> None:
    # Signs are a token each; after them, prose seems to have four times the tokens that it has.
    llm = llm_of(server, context_window=1024, max_tokens=10)
    llm.complete("!?;:" * 150)
    assert llm.complete("Lapwing heron " * 220).text == SAYS


@pytest.mark.parametrize(
    "message",
    [
        ChatMessage(blocks=[TextBlock(text="Hi. " * 300), ImageBlock(image=b"\x89PNG")], role="user"),
        ChatMessage(content="Hi.", role="user"),
    ],
    ids=["picture", "short"],
)
def test_what_is_no_text_is_not_counted_as_text(server: FakeOllama, message: ChatMessage) -> None:
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    server.capabilities += ["tools", "vision"]
    llm = llm_of(server)
    prose = "The heron stands in shallow water and eats fish. " * 30
    before = llm.count_tokens(prose)
    llm.chat([message])
    llm.chat_with_tools([FunctionTool.from_defaults(add)], "What is 2 + 3? " * 100)
    assert llm.count_tokens(prose) == before
    llm.complete(prose)
    assert llm.count_tokens(prose) < before


def test_digits_are_counted_as_tokens_from_the_first(server: FakeOllama) -> None:
    table = "1234567890 " * 50
    assert len(tokens(table)) <= llm_of(server).count_tokens(table) < len(tokens(table)) * 1.5


def test_a_prompt_that_was_too_long_is_counted_safely_for_a_while(
    server: FakeOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = llm_of(server, context_window=1024)
    signs = "!?;:" * 400
    assert llm.count_tokens(signs) == 534
    with pytest.raises(ContextOverflow):
        llm.complete(signs)
    assert llm.count_tokens(signs) == 1067
    with pytest.raises(ContextOverflow):
        llm.complete(signs)
    assert llm.count_tokens(signs) == 1600
    prose = "The heron stands in shallow water and eats fish. " * 21
    for _ in range(20):
        llm.complete(prose)
    monkeypatch.setattr("rag_plugin.ollama.token_estimate.monotonic", lambda: time.monotonic() + 100)
    assert len(tokens(prose)) * 0.9 < llm.count_tokens(prose) < len(tokens(prose)) * 1.2


# ---------------------------------------------------------------------------------- threads, loops, processes


def test_twenty_threads(server: FakeOllama) -> None:
    llm = llm_of(server)
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda at: ask(llm, FORMS[at % 8]), range(40)))
    assert found == [SAYS] * 40


async def test_twenty_tasks(server: FakeOllama) -> None:
    llm = llm_of(server)
    found = await asyncio.gather(*(aask(llm, FORMS[4 + at % 4]) for at in range(20)))
    assert found == [SAYS] * 20


def test_asyncio_run_again_and_again(server: FakeOllama) -> None:
    llm = llm_of(server)
    for form in FORMS[4:] * 2:
        assert asyncio.run(aask(llm, form)) == SAYS


@pytest.mark.parametrize("form", FORMS[:4])
async def test_sync_in_a_running_loop(server: FakeOllama, form: str) -> None:
    llm = llm_of(server)
    assert ask(llm, form) == SAYS
    assert await aask(llm, f"a{form}") == SAYS
    assert await asyncio.to_thread(ask, llm, form) == SAYS


async def test_a_thread_with_a_loop_of_its_own(server: FakeOllama) -> None:
    llm = llm_of(server)

    def work() -> str:
        async def both() -> str:
            return ask(llm, "complete") + await aask(llm, "astream_chat")

        return asyncio.run(both())

    assert await asyncio.to_thread(work) == SAYS * 2


def test_copies_ask_too(server: FakeOllama) -> None:
    llm = llm_of(server)
    long = "The heron stands in shallow water and eats fish. " * 21
    for other in (copy.copy(llm), copy.deepcopy(llm), llm.model_copy(), pickle.loads(pickle.dumps(llm))):
        assert other.complete(long).text == SAYS
        assert other.count_tokens(long) == pytest.approx(len(tokens(long)), rel=0.1)


def ran(server: FakeOllama, code: str, *, flags: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """A fresh interpreter that has an LLM for the server and has printed its first line."""
    script = textwrap.dedent("""
        import asyncio, os, signal, sys, threading, time
        from llama_index.core.llms import ChatMessage
        from rag_plugin.components.llms.ollama_llm import OllamaLLM
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
        llm = OllamaLLM("fake:latest", base_url=sys.argv[1], context_window=2048)
        print("ready", flush=True)
    """) + textwrap.dedent(code)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, *flags, "-c", script, server.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_process_asks_on_its_own(server: FakeOllama) -> None:
    process = ran(
        server,
        """
        print(llm.complete("x").text, flush=True)
        child = os.fork()
        if child == 0:
            print(llm.complete("x").text, "".join(piece.delta for piece in llm.stream_complete("x")), flush=True)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        print(llm.complete("x").text)
        """,
        flags=("-W", "ignore::DeprecationWarning"),
    )
    out, complaints = process.communicate(timeout=120)
    assert (out, complaints) == (f"{SAYS}\n{SAYS} {SAYS}\n0\n{SAYS}\n", "")


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
@pytest.mark.parametrize(
    ("form", "fault"),
    [
        pytest.param("complete", faults.slow_first_token(), id="complete", marks=pytest.mark.slow),
        pytest.param("stream_complete", faults.stall(2), id="stream"),
        pytest.param("acomplete", faults.stall(2), id="async", marks=pytest.mark.slow),
    ],
)
def test_control_c(server: FakeOllama, form: str, fault: Fault) -> None:
    server.fail(fault)
    call = f"asyncio.run(llm.{form}('x'))" if form == "acomplete" else f"print(list(llm.{form}('x')))"
    process = ran(server, call)
    assert server.wait_until(lambda s: len(s.bodies()) == 1, 10)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, complaints = process.communicate(timeout=120)  # the server would wait for ever
    assert server.wait_until(lambda s: s.cancelled == 1)
    assert out == ""
    assert complaints.rstrip().endswith("KeyboardInterrupt")
    for word in ("Warning", "pending", "ignored", "RuntimeError"):
        assert word not in complaints


def test_the_end_of_a_program_is_quick_and_quiet(server: FakeOllama) -> None:
    server.fail(faults.stall(2))
    process = ran(
        server,
        """
        waiting = threading.Thread(target=lambda: llm.complete("x"), daemon=True)
        waiting.start()
        time.sleep(0.2)
        kept = llm.stream_complete("x")
        next(kept)
        async def left():
            async for _ in await llm.astream_complete("x"):
                break
        asyncio.run(left())
        sys.excepthook = threading.excepthook = lambda *arguments: None
        """,
        flags=("-W", "always::ResourceWarning", "-W", "always::RuntimeWarning"),
    )
    out, complaints = process.communicate(timeout=120)  # the server would wait for ever
    assert (process.returncode, out, complaints) == (0, "", "")


# ---------------------------------------------------------------------------------- letting go


@pytest.mark.parametrize("form", ["stream_chat", "stream_complete"])
@pytest.mark.parametrize("how", ["close", "delete"])
def test_letting_go_of_an_answer_ends_it_on_the_server(server: FakeOllama, form: str, how: str) -> None:
    server.fail(faults.stall(3))
    found = getattr(llm_of(server), form)(MESSAGES if "chat" in form else "x")
    next(found)
    if how == "close":
        found.close()
    else:
        del found
        gc.collect()
    assert server.wait_until(lambda s: s.cancelled == 1)


@pytest.mark.parametrize("form", ["astream_chat", "astream_complete"])
@pytest.mark.parametrize("how", ["aclose", "break", "cancel"])
async def test_letting_go_of_an_asynchronous_answer_ends_it_on_the_server(
    server: FakeOllama, form: str, how: str
) -> None:
    server.fail(faults.stall(3))
    llm = llm_of(server)
    found = await getattr(llm, form)(MESSAGES if "chat" in form else "x")
    if how == "aclose":
        await found.__anext__()
        await found.aclose()
    elif how == "break":
        async for _ in found:
            break
        del found
        gc.collect()
    else:

        async def read() -> None:
            async for _ in found:
                pass

        task = asyncio.create_task(read())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await asyncio.to_thread(server.wait_until, lambda s: s.cancelled == 1)


@pytest.mark.parametrize("form", ["achat", "acomplete"])
@pytest.mark.parametrize("fault", [faults.slow_first_token(), faults.stall(2)], ids=["before", "within"])
async def test_a_cancelled_task_ends_the_answer_on_the_server(server: FakeOllama, form: str, fault: Fault) -> None:
    server.fail(fault)
    task = asyncio.create_task(aask(llm_of(server), form))
    await asyncio.to_thread(server.wait_until, lambda s: len(s.bodies()) == 1)
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(server.wait_until, lambda s: s.cancelled == 1)


async def test_a_time_of_the_callers_own_ends_the_answer_on_the_server(server: FakeOllama) -> None:
    server.fail(faults.slow_first_token())
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(aask(llm_of(server), "acomplete"), 0.1)
    assert await asyncio.to_thread(server.wait_until, lambda s: s.cancelled == 1)


# ---------------------------------------------------------------------------------- what a request says


def test_secrets_are_sent_and_shown_nowhere(server: FakeOllama) -> None:
    llm = llm_of(server, headers={"Authorization": "Bearer hush"})
    llm.complete("x")
    assert server.requests[-1].headers["authorization"] == "Bearer hush"
    server.fail(faults.refused_access())
    with pytest.raises(AccessRefused) as caught:
        llm.complete("x")
    for shown in (repr(llm), str(llm), str(llm.to_dict()), llm.to_json(), str(caught.value), repr(llm.server)):
        assert "hush" not in shown


def test_a_name_and_a_password_in_the_address_are_sent(server: FakeOllama) -> None:
    url = server.url.replace("http://", "http://me:hush@")
    OllamaLLM(MODEL, base_url=url, context_window=2048).complete("x")
    assert server.requests[-1].headers["authorization"] == "Basic bWU6aHVzaA=="


def test_nothing_is_cut_and_the_context_stays(server: FakeOllama) -> None:
    llm = llm_of(server)
    for form in FORMS:
        ask(llm, form, temperature=0.5)
    for body in server.bodies():
        assert (body["truncate"], body["shift"], body["options"]["num_ctx"]) == (False, False, 2048)
        assert body["options"]["temperature"] == 0.5
    assert server.loads == 1


def test_a_context_window_beyond_the_models_limit_is_not_asked_for(
    engine_settings: dict[str, Any], minilm: Any, server: FakeOllama, caplog: pytest.LogCaptureFixture
) -> None:
    server.context_length = 1400
    overrides = {"retriever.top_k": 40, "llm.context_window": 100_000}
    documents = Path(engine_settings["reader"]["path"])
    for number in range(40):
        (documents / f"{number}.txt").write_text(f"The ferry number {number} goes to the island. " * 20)
    engine = build_engine(engine_settings, overrides=overrides, encoder=minilm)
    assert engine.llm.metadata.context_window == 100_000  # nobody has asked the server yet
    assert server.requests == []
    # ProseChunker for what the config says, refused, packed again for what the model has.
    assert str(engine.query("Where does the ferry go?")) == SAYS
    assert engine.llm.metadata.context_window == 1400
    assert {body["options"]["num_ctx"] for body in server.bodies()} == {1400}
    assert "llm.context_window is 100,000, but" in caplog.text


def test_a_server_that_tells_nothing_of_models_is_asked_all_the_same(server: FakeOllama) -> None:
    server.fail(faults.html(404), path="/api/show", times=None)
    assert llm_of(server, context_window=3000).complete("x").text == SAYS
    assert server.bodies()[0]["options"]["num_ctx"] == 3000
    with pytest.raises(NotOllama):
        llm_of(server, context_window=-1).complete("x")


def test_loading_first_loads_with_the_context_of_the_questions(server: FakeOllama) -> None:
    llm = llm_of(server, context_window=-1)
    llm.warm_up()
    llm.complete("x")
    assert server.loads == 1


# ---------------------------------------------------------------------------------- through the engine


@pytest.fixture
def engine_settings(settings: dict[str, Any], server: FakeOllama) -> dict[str, Any]:
    llm = {"type": "ollama", "model": MODEL, "base_url": server.url, "context_window": 1024, "max_tokens": 50}
    return {**settings, "llm": {**llm, "retries": 1}, "retriever": {"type": "vector", "top_k": 2}}


def write_code(documents: Path) -> None:
    """A document with a token for each two bytes, where three are reckoned with until the model was asked."""
    names = ("gull", "swan", "crane", "stork", "grebe", "heron", "finch", "raven", "robin", "eagle")
    lines = [f"{first}=>[{{(&&)}}]||!={second};;--" for first in names for second in names]
    (documents / "ferry.txt").write_text("The code of the ferry: " + " ".join(lines))


LONG = {"retriever.top_k": 12, "llm.context_window": 1400}


def too_long(server: FakeOllama) -> list[bool]:
    """For each request, whether its prompt was longer than the context."""
    return [prompt_tokens(body["messages"]) > body["options"]["num_ctx"] for body in server.bodies()]


@pytest.mark.parametrize(
    ("way", "streaming"),
    [
        pytest.param("query", False, id="query"),
        pytest.param("aquery", False, id="aquery", marks=pytest.mark.slow),
        pytest.param("query", True, id="query-streaming", marks=pytest.mark.slow),
        pytest.param("aquery", True, id="aquery-streaming"),
    ],
)
def test_passages_of_many_tokens_are_packed_again_and_answered(
    engine_settings: dict[str, Any], minilm: Any, documents: Path, server: FakeOllama, way: str, streaming: bool
) -> None:
    write_code(documents)
    overrides = {**LONG, "synthesizer.streaming": streaming}
    engine = build_engine(engine_settings, overrides=overrides, encoder=minilm)

    async def aquery() -> str:
        response = await engine.aquery("What is the code of the ferry?")
        if not streaming:
            return str(response)
        return "".join([piece async for piece in response.async_response_gen()])

    if way == "aquery":
        answer = asyncio.run(aquery())
    else:
        response = engine.query("What is the code of the ferry?")
        answer = "".join(response.response_gen) if streaming else str(response)
    assert answer == SAYS
    first, *rest = too_long(server)
    assert first
    assert rest
    assert not any(rest)


def test_a_cut_answer_is_told_by_the_engine(
    engine_settings: dict[str, Any], minilm: Any, caplog: pytest.LogCaptureFixture
) -> None:
    engine = build_engine(engine_settings, overrides={"llm.max_tokens": 3}, encoder=minilm)
    answer = engine.query("What does the heron eat?")
    assert answer.metadata["finish_reason"] == "length"
    assert "set llm.max_tokens higher" in caplog.text
    assert asyncio.run(engine.aquery("What does the heron eat?")).metadata["finish_reason"] == "length"


@pytest.mark.parametrize("way", ["query", "aquery"])
@pytest.mark.parametrize(("max_tokens", "reason"), [(3, "length"), (50, "stop")])
def test_a_streamed_answer_says_at_its_end_why_it_ended(
    engine_settings: dict[str, Any], minilm: Any, max_tokens: int, reason: str, way: str
) -> None:
    overrides = {"llm.max_tokens": max_tokens, "synthesizer.streaming": True}
    engine = build_engine(engine_settings, overrides=overrides, encoder=minilm)

    async def aquery() -> Any:
        response = await engine.aquery("What does the heron eat?")
        assert "finish_reason" not in (response.metadata or {})
        return response, await response.get_response()

    if way == "aquery":
        response, whole = asyncio.run(aquery())
    else:
        response = engine.query("What does the heron eat?")
        assert "finish_reason" not in (response.metadata or {})
        whole = response.get_response()
    assert response.metadata["finish_reason"] == whole.metadata["finish_reason"] == reason
    assert len(response.metadata) > 1  # of its sources


@pytest.mark.parametrize("way", ["query", "aquery"])
def test_a_streamed_answer_that_breaks_off(
    engine_settings: dict[str, Any], minilm: Any, server: FakeOllama, way: str
) -> None:
    engine = build_engine(engine_settings, overrides={"synthesizer.streaming": True}, encoder=minilm)
    server.fail(faults.drop(3), times=None)
    pieces: list[str] = []

    async def aquery() -> None:
        response = await engine.aquery("What does the heron eat?")
        async for piece in response.async_response_gen():
            pieces.append(piece)

    def query() -> None:
        for piece in engine.query("What does the heron eat?").response_gen:
            pieces.append(piece)

    with pytest.raises(AnswerBroken) as caught:
        asyncio.run(aquery()) if way == "aquery" else query()
    assert server.url in str(caught.value)
    assert "".join(pieces) == "".join(tokens(SAYS)[:3])
    assert len(server.bodies()) == 1


async def test_an_engine_in_a_running_loop(engine_settings: dict[str, Any], minilm: Any, server: FakeOllama) -> None:
    engine = await asyncio.to_thread(build_engine, engine_settings, encoder=minilm)
    assert str(engine.query("What does the heron eat?")) == SAYS
    streaming = await asyncio.to_thread(
        build_engine, engine_settings, overrides={"synthesizer.streaming": True}, encoder=minilm
    )
    assert "".join(streaming.query("What does the heron eat?").response_gen) == SAYS
    assert str(await engine.aquery("What does the heron eat?")) == SAYS


def test_the_engine_tells_the_same_errors(engine_settings: dict[str, Any], minilm: Any, server: FakeOllama) -> None:
    engine = build_engine(engine_settings, overrides={"llm.retries": 0}, encoder=minilm)
    for case in CASES:
        if not case.limit:
            server.recover()
            server.fail(case.fault, times=None)
            with pytest.raises(LLMError) as caught:
                engine.query("What does the heron eat?")
            assert type(caught.value) is case.error, case.name

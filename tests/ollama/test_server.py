"""The `ollama` LLM against a real server with a real, very small model; skipped where no `ollama` is on PATH."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

from rag_plugin import build_engine
from rag_plugin.components.llms.ollama_llm import OllamaLLM
from rag_plugin.errors import (
    AnswerBroken,
    CapabilityMissing,
    ContextOverflow,
    LLMTimeout,
    ModelMissing,
    PullFailed,
    ServerUnreachable,
)
from tests.ollama_server import MODEL, THREADS, WITHOUT, RealOllama, free_port
from tests.ollama_server import ollama as ollama
from tests.ollama_server import server as server

pytestmark = [pytest.mark.slow, WITHOUT]


@pytest.fixture
def engine_settings(settings: dict[str, Any], server: str) -> dict[str, Any]:
    settings["llm"] = {
        "type": "ollama",
        "model": MODEL,
        "base_url": server,
        "context_window": 2048,
        "max_tokens": 60,
        "temperature": 0,
        "seed": 1,
        "options": THREADS,
    }
    settings["retriever"] = {"type": "vector", "top_k": 2}
    return settings


def llm_of(server: str, **fields: Any) -> OllamaLLM:
    own = {"temperature": 0, "context_window": 2048, "max_tokens": 40, **fields}
    return OllamaLLM(
        MODEL, base_url=server, **{**own, "additional_kwargs": {**THREADS, **own.get("additional_kwargs", {})}}
    )


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as response:
        return json.load(response)


# ---------------------------------------------------------------------------------- questions


def test_a_question_is_answered(engine_settings: dict[str, Any], minilm: Any) -> None:
    engine = build_engine(engine_settings, encoder=minilm)
    answer = engine.query("What does the heron eat?")
    assert "fish" in str(answer).lower()
    assert answer.source_nodes[0].node.ref_doc_id == "birds/heron.md"
    assert answer.metadata["finish_reason"] == "stop"


def test_the_answer_streams(engine_settings: dict[str, Any], minilm: Any) -> None:
    engine = build_engine(engine_settings, overrides={"synthesizer.streaming": True}, encoder=minilm)
    pieces = list(engine.query("What does the heron eat?").response_gen)
    assert len(pieces) > 3
    assert "fish" in "".join(pieces).lower()


def test_asyncio_run_can_be_called_again_and_again(engine_settings: dict[str, Any], minilm: Any) -> None:
    engine = build_engine(engine_settings, encoder=minilm)

    async def ask() -> str:
        return str(await engine.aquery("What does the heron eat?"))

    for _ in range(3):
        assert "fish" in asyncio.run(ask()).lower()
    asyncio.set_event_loop(None)


async def test_sync_code_works_in_a_running_loop(engine_settings: dict[str, Any], minilm: Any) -> None:
    engine = await asyncio.to_thread(build_engine, engine_settings, encoder=minilm)
    assert "fish" in str(engine.query("What does the heron eat?")).lower()
    assert "fish" in str(await engine.aquery("What does the heron eat?")).lower()


def test_twenty_questions_at_once_from_threads(engine_settings: dict[str, Any], minilm: Any) -> None:
    engine = build_engine(engine_settings, overrides={"llm.max_tokens": 12}, encoder=minilm)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: str(engine.query("What does the heron eat?")), range(20)))
    assert len(set(answers)) == 1
    assert len(answers) == 20


async def test_twenty_questions_at_once_from_one_loop(engine_settings: dict[str, Any], minilm: Any) -> None:
    engine = await asyncio.to_thread(build_engine, engine_settings, overrides={"llm.max_tokens": 12}, encoder=minilm)
    answers = await asyncio.gather(*(engine.aquery("What does the heron eat?") for _ in range(20)))
    assert len({str(answer) for answer in answers}) == 1


# ---------------------------------------------------------------------------------- the context


def test_the_context_window_of_the_config_reaches_the_server(
    engine_settings: dict[str, Any], minilm: Any, server: str
) -> None:
    build_engine(engine_settings, encoder=minilm).query("What does the heron eat?")
    (running,) = get(f"{server}/api/ps")["models"]
    assert running["context_length"] == 2048


def test_two_engines_keep_contexts_of_their_own(engine_settings: dict[str, Any], minilm: Any, server: str) -> None:
    lengths = []
    for window in (2048, 1024, 2048):
        engine = build_engine(engine_settings, overrides={"llm.context_window": window}, encoder=minilm)
        engine.query("What does the heron eat?")
        lengths.append(get(f"{server}/api/ps")["models"][0]["context_length"])
    assert lengths == [2048, 1024, 2048]


def test_a_context_window_that_is_not_said_is_the_models_own_but_at_most_8192(server: str) -> None:
    llm = OllamaLLM(MODEL, base_url=server, max_tokens=5)
    assert llm.metadata.context_window == 8192
    llm.complete("Say yes.")
    assert get(f"{server}/api/ps")["models"][0]["context_length"] == 8192


def test_a_context_window_beyond_the_models_limit_is_told(server: str, caplog: pytest.LogCaptureFixture) -> None:
    llm = OllamaLLM(MODEL, base_url=server, max_tokens=5, context_window=100_000, additional_kwargs=THREADS)
    llm.complete("Say yes.")
    assert llm.metadata.context_window == 8192
    said = f"llm.context_window is 100,000, but the maximum of '{MODEL}' at {server} is 8,192: using the maximum"
    assert said in caplog.messages
    with pytest.raises(ContextOverflow, match="longer than the context of 8,192 tokens"):
        llm.complete("word " * 10_000)


@pytest.mark.parametrize("messages", [1, 4])
def test_a_prompt_of_three_times_the_context_is_never_cut_in_silence(server: str, messages: int) -> None:
    llm = llm_of(server)
    words = "heron water fish " * (2048 // messages)
    with pytest.raises(ContextOverflow) as caught:
        llm.chat([ChatMessage(role="user", content=words) for _ in range(messages)])
    size = len(words) * messages
    assert str(caught.value) == (
        f"a prompt of {size:,} bytes is longer than the context of 2,048 tokens of '{MODEL}' at {server}; set "
        "llm.context_window higher, set retriever.top_k lower, or ask a shorter question"
    )
    assert (caught.value.url, caught.value.model) == (server, MODEL)


def test_passages_that_have_more_tokens_than_expected_are_packed_again(
    engine_settings: dict[str, Any], minilm: Any, documents: Any
) -> None:
    # Digits are a token each for this model, three times what is reckoned with before it was asked anything.
    digits = "".join(str(number * 7 % 10) for number in range(900))
    for number in range(2):
        (documents / f"digits{number}.txt").write_text(f"The number of the ferry {number} is {digits}.")
    overrides = {"retriever.top_k": 12, "llm.context_window": 768, "llm.max_tokens": 20}
    engine = build_engine(engine_settings, overrides=overrides, encoder=minilm)
    assert str(engine.query("What is the number of the ferry?"))


def test_tokens_are_counted_as_this_model_counts_them(server: str) -> None:
    llm = llm_of(server)
    text = "The heron stands in shallow water and eats fish, frogs and eels. " * 20
    assert llm.count_tokens(text) == -(-len(text) // 3)
    raw = llm.complete(text).raw
    counted, true = llm.count_tokens(text), raw["prompt_eval_count"]
    assert true * 0.9 <= counted <= true * 1.15


def test_an_answer_that_was_cut_says_so(
    engine_settings: dict[str, Any], minilm: Any, caplog: pytest.LogCaptureFixture
) -> None:
    engine = build_engine(engine_settings, overrides={"llm.max_tokens": 3}, encoder=minilm)
    answer = engine.query("What does the heron eat?")
    assert answer.metadata["finish_reason"] == "length"
    assert (
        f"the answer of '{MODEL}' was cut after 3 tokens; set llm.max_tokens higher for longer answers"
        in caplog.messages
    )


# ---------------------------------------------------------------------------------- what a call says


def test_what_a_call_says_reaches_the_server(server: str) -> None:
    llm = llm_of(server)
    assert llm.complete("Write a long story.", max_tokens=4).raw["eval_count"] == 4
    assert llm.complete("Write a long story.", num_predict=6).raw["eval_count"] == 6
    whole = llm.complete("Count from 1 to 9.", max_tokens=30).text
    stopped = llm.complete("Count from 1 to 9.", max_tokens=30, stop=[whole[5:7]]).text
    assert len(stopped) < len(whole)
    with pytest.raises(TypeError, match="Ollama has no option 'temprature': did you mean 'temperature'?"):
        llm.complete("x", temprature=1)


def test_one_seed_gives_one_answer(server: str) -> None:
    llm = llm_of(server, temperature=1.0)
    first = llm.complete("Write a poem.", seed=7).text
    assert llm.complete("Write a poem.", seed=7).text == first


class City(BaseModel):
    name: str
    country: str


def test_structured_answers(server: str) -> None:
    llm = llm_of(server, max_tokens=200)
    city = llm.structured_predict(City, PromptTemplate("Name a city and its country as JSON."))
    assert isinstance(city, City)
    assert isinstance(llm.as_structured_llm(City).complete("Name a city and its country.").raw, City)


def test_what_the_model_cannot_do_is_an_error(server: str) -> None:
    with pytest.raises(CapabilityMissing) as caught:
        llm_of(server, thinking=True).complete("x")
    assert "does not support thinking: use another model, or leave thinking out" in str(caught.value)

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    with pytest.raises(CapabilityMissing, match="does not support tools"):
        llm_of(server).chat_with_tools([FunctionTool.from_defaults(add)], "What is 2 + 3?")


# ---------------------------------------------------------------------------------- what can go wrong


def test_a_model_that_is_not_there_says_how_to_get_it(
    engine_settings: dict[str, Any], minilm: Any, server: str
) -> None:
    engine = build_engine(engine_settings, overrides={"llm.model": "smollm:135m"}, encoder=minilm)
    for ask in (lambda: engine.query("What?"), engine.warm_up):
        with pytest.raises(ModelMissing) as caught:
            ask()
        assert str(caught.value) == (
            f"the Ollama server at {server} has no model 'smollm:135m': get it with `OLLAMA_HOST={server[7:]} ollama "
            f"pull smollm:135m`, or set llm.pull to missing; it has {MODEL}"
        )


def test_a_model_that_cannot_be_downloaded(server: str) -> None:
    # Tests stay on this machine: a registry at a closed port.
    name = f"127.0.0.1:{free_port()}/none/none"
    with pytest.raises(PullFailed, match="could not download .*; check the name, and the server"):
        OllamaLLM(name, base_url=server, pull="missing").complete("x")


def test_no_server() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ServerUnreachable) as caught:
        llm_of(url, retries=1).complete("x")
    hint = f"start it with `OLLAMA_HOST={url[7:]} ollama serve`, or set llm.base_url"
    assert str(caught.value) == f"no Ollama server can be reached at {url} for '{MODEL}': {hint}"
    assert caught.value.hint == hint


def test_a_server_that_is_too_slow_says_which_setting_to_raise(server: str) -> None:
    with pytest.raises(LLMTimeout) as caught:
        llm_of(server, first_token_timeout=0.001).complete("x")
    assert caught.value.limit == "first_token_timeout"
    assert str(caught.value) == (
        f"'{MODEL}' at {server} did not begin to answer within 0.001 s; if it is only slow, set "
        "llm.first_token_timeout higher"
    )


def test_an_option_of_a_wrong_type_is_told_in_the_servers_words(server: str) -> None:
    with pytest.raises(TypeError, match="the option 'num_gpu' is a whole number, not 'many'"):
        llm_of(server, additional_kwargs={"num_gpu": "many"})
    body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "options": {"num_gpu": "many"}}
    reply = httpx.post(f"{server}/api/chat", json=body)
    assert reply.json()["error"] == 'option "num_gpu" must be of type integer'


def test_letting_go_of_an_answer_ends_the_work_on_the_server(ollama: RealOllama) -> None:
    llm = llm_of(ollama.url, max_tokens=1500)
    story = "Write a very long story about a heron."
    llm.complete("Say yes.", max_tokens=2)  # loads the model
    before = ollama.cpu_seconds()
    llm.complete(story, max_tokens=100)
    hundred_tokens = ollama.cpu_seconds() - before
    before = ollama.cpu_seconds()
    answer = llm.stream_complete(story)
    for _ in range(3):
        next(answer)
    answer.close()
    llm.complete("Say yes.", max_tokens=2)  # waits for the story, if that went on: one question at a time
    assert ollama.cpu_seconds() - before < 5 * hundred_tokens  # of 1,500 tokens


def test_a_runner_that_is_killed_in_mid_stream(ollama: RealOllama) -> None:
    llm = llm_of(ollama.url, max_tokens=1500)
    answer = llm.stream_complete("Write a very long story about a heron.")
    next(answer)
    assert ollama.kill_runner()
    with pytest.raises(AnswerBroken, match="broke off"):
        list(answer)
    assert llm.complete("Say yes.").text  # the next request works


def test_a_server_that_is_killed_and_started_again(ollama: RealOllama) -> None:
    llm = llm_of(ollama.url, max_tokens=1500, retries=0)
    answer = llm.stream_complete("Write a very long story about a heron.")
    next(answer)
    ollama.stop(hard=True)
    try:
        with pytest.raises(AnswerBroken):
            list(answer)
        with pytest.raises(ServerUnreachable):
            llm.complete("Say yes.")
        patient = llm_of(ollama.url, retries=6)
        later = threading.Timer(1.0, ollama.start)
        later.start()
        assert patient.complete("Say yes.").text
        later.join()
    finally:
        ollama.stop()
        ollama.start()
    assert llm_of(ollama.url).complete("Say yes.").text


def test_building_an_engine_talks_to_no_server(engine_settings: dict[str, Any], minilm: Any) -> None:
    overrides = {"llm.base_url": f"http://127.0.0.1:{free_port()}", "llm.context_window": None, "llm.retries": 0}
    engine = build_engine(engine_settings, overrides=overrides, encoder=minilm)
    assert engine.retrieve("heron")
    with pytest.raises(ServerUnreachable):
        engine.query("What does the heron eat?")

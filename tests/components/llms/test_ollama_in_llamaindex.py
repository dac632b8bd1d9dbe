"""The `ollama` LLM and encoder as LlamaIndex's code uses them: copied, written, in events, with tools and forms."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import pickle
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from llama_index.core.agent.workflow import AgentWorkflow, ReActAgent
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.prompts import PromptTemplate
from llama_index.core.query_engine import RouterQueryEngine
from llama_index.core.tools import FunctionTool
from llama_index.llms.ollama import Ollama
from pydantic import BaseModel

from rag_plugin import EncoderError, build_engine, load_config
from rag_plugin.components.encoders.ollama_encoder import OllamaEncoder
from rag_plugin.components.llms.ollama_llm import OllamaLLM
from rag_plugin.components.llms.prompt_helpers import prompt_helpers
from rag_plugin.errors import AccessRefused, AnswerBroken, CapabilityMissing, LLMError, LLMTimeout, ServerUnreachable
from rag_plugin.testing import Answer, FakeOllama, faults
from rag_plugin.testing.counting import prompt_tokens
from tests.fake_server import SAYS
from tests.fake_server import server as server

MODEL = "fake:latest"


@pytest.fixture
def engine_settings(settings: dict[str, Any], server: FakeOllama) -> dict[str, Any]:
    return {**settings, "llm": {"type": "ollama", "model": MODEL, "base_url": server.url, "retries": 0}}


def llm_of(server: FakeOllama, **fields: Any) -> OllamaLLM:
    return OllamaLLM(MODEL, base_url=server.url, **{"context_window": 2048, "retries": 0, **fields})


def encoder_of(server: FakeOllama, **settings: Any) -> OllamaEncoder:
    config = {
        "reader": {"type": "directory", "path": "."},
        "encoder": {"type": "ollama", "model": MODEL, "base_url": server.url, **settings},
        "store": {"type": "faiss", "path": "./index"},
    }
    return load_config(config).build("encoder")  # type: ignore[no-any-return]


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


TOOL = FunctionTool.from_defaults(add)


# ---------------------------------------------------------------------------------- changed and copied


def test_what_is_changed_holds_from_the_next_question(server: FakeOllama) -> None:
    llm = llm_of(server, context_window=-1)
    llm.complete("x")
    llm.context_window = 1500
    llm.complete("x")
    assert [body["options"]["num_ctx"] for body in server.bodies()] == [8192, 1500]
    assert llm.metadata.context_window == 1500


def test_a_copy_for_another_server_asks_that_one(server: FakeOllama) -> None:
    llm = llm_of(server, context_window=-1)
    llm.complete("x")
    with FakeOllama("Otherwise.", context_length=2000) as other:
        there = llm.model_copy(update={"base_url": other.url})
        assert there.complete("x").text == "Otherwise."
        assert other.bodies()[0]["options"]["num_ctx"] == 2000
    assert llm.metadata.context_window == 8192


def test_copies_of_an_encoder_are_their_own(server: FakeOllama) -> None:
    encoder = encoder_of(server, document_prompt="", query_prompt="")
    expected = encoder.get_query_embedding("heron")
    asyncio.run(encoder.aget_query_embedding("heron"))
    for other in (copy.copy(encoder), copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        assert asyncio.run(other.aget_query_embedding("heron")) == expected
    changed = encoder.model_copy(update={"query_prompt": "query: "})
    assert asyncio.run(changed.aget_query_embedding("heron")) == encoder.get_query_embedding("query: heron")
    assert asyncio.run(encoder.aget_query_embedding("heron")) == expected
    again = OllamaEncoder.from_dict(encoder.to_dict())
    assert again.get_query_embedding("heron") == expected
    with pytest.raises(TypeError, match="OllamaEncoder has no setting 'contxt_window'"):
        OllamaEncoder(model_name=MODEL, base_url=server.url, contxt_window=10)


def test_copies_of_the_encoder_in_this_process_are_their_own(minilm: Any) -> None:
    plain = minilm.model_copy(update={"query_prompt": "another question: "})
    expected = minilm.get_query_embedding("another question: heron")
    assert np.allclose(asyncio.run(plain.aget_query_embedding("heron")), expected, atol=1e-6)
    assert np.allclose(
        asyncio.run(minilm.aget_query_embedding("heron")), minilm.get_query_embedding("heron"), atol=1e-6
    )


def test_a_model_is_known_by_whatever_name_the_server_takes(server: FakeOllama) -> None:
    vector = encoder_of(server).get_query_embedding("heron")
    for name in ("Fake", "library/fake", "registry.ollama.ai/library/fake:latest"):
        server.models.append(name)
        assert encoder_of(server, model=name).get_query_embedding("heron") == pytest.approx(vector)
    with pytest.raises(EncoderError, match="has no model 'nope': get it with `.*ollama pull nope`"):
        encoder_of(server, model="nope").get_query_embedding("heron")


# ---------------------------------------------------------------------------------- nothing is passed over


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"request_timeout": 3}, "does not use 'request_timeout': set connect_timeout, first_token_timeout and token_"),
        ({"client": object()}, "does not use 'client': set base_url"),
        ({"temprature": 1}, "has no setting 'temprature'"),
        ({"additional_kwargs": {"num_ctx": 9}}, "'num_ctx' is a setting here: write it as context_window"),
        ({"additional_kwargs": {"num_predict": 9}}, "'num_predict' is a setting here: write it as max_tokens"),
        ({"additional_kwargs": {"tempertaure": 9}}, "Ollama has no option 'tempertaure': did you mean 'temperature'"),
    ],
    ids=["one time", "client", "setting", "context", "tokens", "option"],
)
def test_a_setting_that_would_not_be_used_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError) as caught:
        OllamaLLM(MODEL, **fields)
    assert said in str(caught.value)


def test_what_a_call_says_is_checked_and_sent(server: FakeOllama) -> None:
    server.capabilities.append("tools")
    llm = llm_of(server)
    with pytest.raises(TypeError, match="no option 'temprature': did you mean 'temperature'"):
        llm.complete("x", options={"temprature": 1})
    with pytest.raises(TypeError, match="no option 'temprature': did you mean 'temperature'"):
        llm.chat_with_tools([TOOL], "x", temprature=1)
    with pytest.raises(TypeError, match="no option 'max_token': did you mean 'max_tokens'"):
        llm.complete("x", max_token=5)
    with pytest.raises(ValueError, match="max_tokens must be greater than 0, not 0"):
        llm.complete("x", max_tokens=0)
    assert server.bodies() == []
    history = [ChatMessage("Hello.")]
    llm.chat_with_tools([TOOL], "x", chat_history=history, temperature=0.9, max_tokens=5, tool_required=True)
    assert len(history) == 1
    options = server.bodies()[0]["options"]
    assert (options["temperature"], options["num_predict"]) == (0.9, 5)
    llm.complete("x", num_ctx=None, temperature=None)
    llm.complete("x", num_ctx=1024)
    assert [body["options"]["num_ctx"] for body in server.bodies()] == [2048, 2048, 1024]


def test_the_whole_answer_is_in_the_raw_response(server: FakeOllama) -> None:
    response = llm_of(server).chat([ChatMessage("x")])
    assert response.raw["message"] == {"role": "assistant", "content": SAYS}
    assert response.raw["usage"]["completion_tokens"] > 0


@pytest.mark.parametrize("keep_alive", [0, "0s", "5m"])
def test_loading_first_loads_whatever_is_kept_alive(server: FakeOllama, keep_alive: float | str) -> None:
    llm = llm_of(server, keep_alive=keep_alive)
    llm.warm_up()
    assert server.loads == 1


# ---------------------------------------------------------------------------------- secrets


def test_credentials_are_written_nowhere(server: FakeOllama, caplog: pytest.LogCaptureFixture) -> None:
    url = server.url.replace("http://", "http://me:hush@")
    llm = OllamaLLM(MODEL, base_url=url, headers={"X-Key": "hush"}, context_window=100_000, pull="missing", retries=0)
    llm.complete("x")
    assert server.requests[-1].headers["x-key"] == "hush"
    assert server.requests[-1].headers["authorization"].startswith("Basic ")
    server.fail(faults.refused_access())
    with pytest.raises(AccessRefused) as caught:
        llm.complete("x")
    server.models.clear()
    with pytest.raises(LLMError):
        llm.warm_up()
    encoder = encoder_of(server, base_url=url)
    with pytest.raises(EncoderError) as missing:
        encoder.get_query_embedding("x")
    structured = llm.as_structured_llm(City)
    written = [repr(llm), str(llm.to_dict()), llm.to_json(), str(llm.model_dump()), llm.model_dump_json()]
    written += [repr(structured), str(structured.to_dict()), str(llm.to_payload()), repr(llm.server)]
    written += [str(caught.value), caught.value.url, str(missing.value), caplog.text]
    written += [repr(encoder), str(encoder.to_dict()), encoder.model_dump_json()]
    assert not any("hush" in text for text in written)
    with pytest.raises(TypeError, match="credentials are masked in serialized data: pass headers and base_url"):
        OllamaLLM.from_dict(llm.to_dict())
    with pytest.raises(TypeError, match="credentials are masked in serialized data: pass base_url"):
        OllamaEncoder.from_dict(encoder.to_dict())
    again = OllamaLLM.from_dict(llm.to_dict(), base_url=url, headers={"X-Key": "hush"})
    server.models.append(MODEL)
    assert again.complete("x").text == SAYS


def test_what_is_written_can_be_read(server: FakeOllama) -> None:
    llm = llm_of(server, temperature=0.3, additional_kwargs={"seed": 3})
    again = OllamaLLM.from_dict(json.loads(llm.to_json()))
    assert again.to_dict() == llm.to_dict()
    assert again.complete("x").text == SAYS


# ---------------------------------------------------------------------------------- event loops


class Slow:
    """A web server whose picture comes late."""

    """A server whose picture comes when `released` is set."""

    def __init__(self) -> None:
        self.requested, self.released = requested, released = threading.Event(), threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                requested.set()
                released.wait(60)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"\x89PNG")

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/heron.png"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_a_picture_that_is_fetched_holds_up_nobody(server: FakeOllama) -> None:
    server.capabilities.append("vision")
    slow = Slow()
    llm = llm_of(server, token_timeout=0.5)
    picture = ChatMessage(blocks=[TextBlock(text="What is this?"), ImageBlock(url=slow.url)])
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(llm.chat([picture]).message.content))
    thread.start()
    try:
        assert slow.requested.wait(60)
        assert llm.complete("x").text == SAYS
        assert found == []
    finally:
        slow.released.set()
        thread.join()
        slow.close()
    assert found == [SAYS]
    assert server.bodies()[-1]["messages"][0]["images"]


async def test_the_first_question_does_not_block_the_loop(
    engine_settings: dict[str, Any], minilm: Any, server: FakeOllama
) -> None:
    engine = await asyncio.to_thread(build_engine, engine_settings, encoder=minilm)
    for ask in (lambda: engine.llm.acomplete("x"), lambda: engine.aquery("What does the heron eat?")):
        engine.llm._cached_state = None  # as if nothing had been asked
        server.fail(faults.slow_first_token(0.6), path="/api/show")
        turns = 0
        task = asyncio.ensure_future(ask())
        while not task.done():
            await asyncio.sleep(0.01)
            turns += 1
        assert str(await task) == SAYS
        assert turns > 10  # of some 60 while the server waits; a blocked loop has one or two


def test_events_tell_of_the_llm_without_asking_the_server(server: FakeOllama) -> None:
    llm = llm_of(server, context_window=-1)
    assert llm.to_payload()["context_window"] == -1
    assert server.requests == []
    seen: list[dict[str, Any]] = []

    class Handler(BaseEventHandler):
        def handle(self, event: Any, **more: Any) -> None:
            if event.class_name() == "LLMChatStartEvent":
                seen.append(event.model_dict)

    dispatcher, handler = get_dispatcher(), Handler()
    dispatcher.add_event_handler(handler)
    try:
        for _ in range(2):
            llm.chat([ChatMessage("x")])
    finally:
        dispatcher.event_handlers.remove(handler)
    assert [payload["context_window"] for payload in seen] == [-1, 8192]
    assert seen[0]["model_name"] == MODEL


# ---------------------------------------------------------------------------------- tools and forms


class City(BaseModel):
    name: str
    people: int


PROMPT = PromptTemplate("Describe {name}.")


async def test_structured_answers_in_every_form(server: FakeOllama) -> None:
    server.answer = '{"name": "Hamburg", "people": 1900000}'
    llm = llm_of(server)
    expected = City(name="Hamburg", people=1900000)
    assert llm.structured_predict(City, PROMPT, name="Hamburg") == expected
    assert await llm.astructured_predict(City, PROMPT, name="Hamburg") == expected
    assert server.bodies()[-1]["format"] == City.model_json_schema()
    *_, last = llm.stream_structured_predict(City, PROMPT, name="Hamburg")
    assert last == expected
    async for found in await llm.astream_structured_predict(City, PROMPT, name="Hamburg"):
        last = found
    assert last == expected
    assert llm.as_structured_llm(City).complete("Hamburg").raw == expected


async def test_a_form_that_was_cut_is_told(server: FakeOllama) -> None:
    server.answer = '{"name": "Hamburg", "people": 1900000}'
    llm = llm_of(server, max_tokens=4)

    async def at_once() -> None:
        llm.structured_predict(City, PROMPT, name="Hamburg")

    for asked in (at_once(), llm.astructured_predict(City, PROMPT, name="Hamburg")):
        with pytest.raises(AnswerBroken) as caught:
            await asked
        assert str(caught.value).startswith(
            f"the answer of '{MODEL}' at {server.url} is not a complete City: Invalid JSON"
        )
        assert str(caught.value).endswith("if it was cut, set llm.max_tokens higher")


async def test_an_agent_asks_the_engine(engine_settings: dict[str, Any], minilm: Any, server: FakeOllama) -> None:
    def says(body: Mapping[str, Any]) -> Answer:
        if not body.get("tools"):  # the engine's own question
            return Answer(SAYS)
        found = [message["content"] for message in body["messages"] if message["role"] == "tool"]
        if not found:
            return Answer(tool_calls=[("search_documents", {"input": "What does the heron eat?"})])
        return Answer(f"The documents say: {found[0]}")

    server.capabilities.append("tools")
    server.answer = says
    engine = build_engine(engine_settings, encoder=minilm)
    agent = AgentWorkflow.from_tools_or_functions([engine.as_tool()], llm=engine.llm)
    assert str(await agent.run("What do herons eat?")) == f"The documents say: {SAYS}"


async def test_an_agent_without_tools_reasons_in_words(
    engine_settings: dict[str, Any], minilm: Any, server: FakeOllama
) -> None:
    def says(body: Mapping[str, Any]) -> str:
        said = str(body["messages"])
        if "Observation:" in said.rpartition("Question")[2] or SAYS in said:
            return "Thought: I can answer without using any more tools.\nAnswer: Fish."
        if "search_documents" in said:
            return 'Thought: I need a tool.\nAction: search_documents\nAction Input: {"input": "heron?"}'
        return SAYS

    server.answer = says
    engine = build_engine(engine_settings, encoder=minilm)
    agent = ReActAgent(tools=[engine.as_tool()], llm=engine.llm)
    assert str(await agent.run("What do herons eat?")) == "Fish."


def test_a_model_without_tools_is_known_as_one(
    engine_settings: dict[str, Any], minilm: Any, server: FakeOllama
) -> None:
    llm = llm_of(server)
    assert llm.metadata.is_function_calling_model  # nobody knows yet
    with pytest.raises(CapabilityMissing, match=r"its capabilities are completion\. Call engine\.warm_up\(\) first"):
        llm.chat_with_tools([TOOL], "x")
    assert not llm.metadata.is_function_calling_model
    engine = build_engine(engine_settings, encoder=minilm)
    engine.warm_up()
    server.answer = lambda body: '[{"choice": 1, "reason": "herons"}]' if "choice" in str(body["messages"]) else SAYS
    router = RouterQueryEngine.from_defaults([engine.as_tool()], llm=engine.llm)
    assert str(router.query("What do herons eat?")) == SAYS


# ---------------------------------------------------------------------------------- errors of others


def test_an_error_of_another_part_is_not_the_llms(
    engine_settings: dict[str, Any], minilm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = build_engine(engine_settings, encoder=minilm)

    def fails(*arguments: Any) -> None:
        raise httpx.ConnectError("10.0.0.7 is down")

    monkeypatch.setattr(type(engine.retriever), "_retrieve", fails)
    with pytest.raises(httpx.ConnectError, match=r"10\.0\.0\.7 is down"):
        engine.query("heron?")


# The client of LlamaIndex's class keeps its connections until it is collected.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("streaming", [False, True])
def test_errors_of_llamaindexs_own_class_are_told_too(
    engine_settings: dict[str, Any], minilm: Any, server: FakeOllama, streaming: bool
) -> None:
    def ask(llm: Ollama) -> str:
        engine = build_engine(engine_settings, overrides={"synthesizer.streaming": streaming}, llm=llm, encoder=minilm)
        return str(engine.query("What does the heron eat?"))

    def own(**fields: Any) -> Ollama:
        return Ollama(MODEL, base_url=server.url, context_window=4096, **fields)

    assert ask(own()) == SAYS
    server.fail(faults.slow_first_token())
    with pytest.raises(LLMTimeout, match=r"sent nothing for 0\.3 s: .* set llm\.request_timeout higher"):
        ask(own(request_timeout=0.3))
    server.close()
    with pytest.raises(ServerUnreachable, match="start it with `OLLAMA_HOST=127.0.0.1:[0-9]* ollama serve`"):
        ask(own())
    gc.collect()  # while what its client leaves open is passed over


# ---------------------------------------------------------------------------------- prompts


def test_many_passages_are_shortened_to_fit_one_prompt(
    engine_settings: dict[str, Any], minilm: Any, documents: Path, server: FakeOllama
) -> None:
    for number in range(30):
        (documents / f"{number}.txt").write_text(f"The ferry number {number} goes to the island. " * 5)
    overrides = {
        "synthesizer.type": "simple_summarize",
        "retriever.top_k": 30,
        "llm.context_window": 1400,
        "llm.max_tokens": 50,
    }
    engine = build_engine(engine_settings, overrides=overrides, encoder=minilm)
    assert str(engine.query("Where does the ferry go?")) == SAYS
    (body,) = server.bodies()
    assert 700 < prompt_tokens(body["messages"]) < 1350
    assert str(body["messages"]).count("The ferry number") >= 30


def test_messages_are_counted_as_this_model_counts(server: FakeOllama) -> None:
    llm = llm_of(server)
    signs = "!?;:" * 100
    for helper in prompt_helpers(llm):
        counted = helper._token_counter.estimate_tokens_in_messages([ChatMessage(signs), ChatMessage("")])
        assert 0 <= counted - llm.count_tokens(signs) < 20

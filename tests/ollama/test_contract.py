"""What a client may rely on: the fake server and, where `ollama` is on PATH, a real one keep the same contract."""

from __future__ import annotations

import http.client
import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from rag_plugin.testing import FakeOllama
from tests.ollama_server import MODEL, RealOllama

REAL = pytest.param(
    "real",
    marks=[
        pytest.mark.slow,
        pytest.mark.skipif(shutil.which("ollama") is None, reason="no `ollama` on PATH"),
    ],
)


@pytest.fixture(scope="module", params=["fake", REAL])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "fake":
        with FakeOllama("Yes, I can. " * 20, models=[MODEL]) as fake:
            yield fake.url
        return
    real = RealOllama(tmp_path_factory.mktemp("ollama"))
    real.start()
    try:
        real.create()
        yield real.url
    finally:
        real.stop()


class Answered:
    """A response, read to its end."""

    def __init__(self, url: str, method: str, path: str, body: Any = None) -> None:
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=120)
        try:
            raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, raw, {"Content-Type": "application/json"})
            response = connection.getresponse()
            self.status = response.status
            self.headers = {name.lower(): value for name, value in response.getheaders()}
            self.raw = response.read()
        finally:
            connection.close()

    @property
    def object(self) -> Any:
        return json.loads(self.raw)

    @property
    def lines(self) -> list[Any]:
        assert self.raw.endswith(b"\n")
        return [json.loads(line) for line in self.raw.splitlines()]


def chat(url: str, text: str | list[str] = "Say yes.", **more: Any) -> Answered:
    options = {"num_ctx": 512, "num_predict": 5, "temperature": 0, "num_thread": 1, **more.pop("options", {})}
    texts = [text] if isinstance(text, str) else text
    messages = [{"role": "user", "content": item} for item in texts]
    body = {"model": MODEL, "messages": messages, "options": options, **more}
    return Answered(url, "POST", "/api/chat", body)


# ---------------------------------------------------------------------------------- about the server and its models


def test_the_root_says_that_it_runs(server: str) -> None:
    found = Answered(server, "GET", "/")
    assert (found.status, found.raw) == (200, b"Ollama is running")
    assert Answered(server, "HEAD", "/").raw == b""


def test_the_version(server: str) -> None:
    found = Answered(server, "GET", "/api/version")
    assert found.headers["content-type"] == "application/json; charset=utf-8"
    assert set(found.object) == {"version"}
    assert isinstance(found.object["version"], str)


def test_what_models_there_are(server: str) -> None:
    (model,) = Answered(server, "GET", "/api/tags").object["models"]
    assert set(model) == {"name", "model", "modified_at", "size", "digest", "details"}
    assert model["name"] == MODEL
    assert model["details"]["family"] == "llama"


def test_what_a_model_is(server: str) -> None:
    found = Answered(server, "POST", "/api/show", {"model": MODEL}).object
    keys = "modelfile parameters template details model_info tensors capabilities modified_at"
    assert set(found) == set(keys.split())
    assert found["capabilities"] == ["completion"]
    assert found["model_info"]["general.architecture"] == "llama"
    assert found["model_info"]["llama.context_length"] == 8192
    assert found["model_info"]["llama.embedding_length"] == 576


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/api/chat", "model 'nope' not found"),
        ("/api/show", "model 'nope' not found"),
        ("/api/embed", 'model "nope" not found, try pulling it first'),
    ],
)
def test_a_model_that_is_not_there(server: str, path: str, text: str) -> None:
    body = {"model": "nope", "messages": [{"role": "user", "content": "x"}], "input": "x"}
    found = Answered(server, "POST", path, body)
    assert (found.status, found.object) == (404, {"error": text})


def test_paths_and_methods_that_are_none(server: str) -> None:
    found = Answered(server, "GET", "/api/none")
    assert (found.status, found.raw, found.headers["content-type"]) == (404, b"404 page not found", "text/plain")
    found = Answered(server, "GET", "/api/chat")
    assert (found.status, found.raw, found.headers["allow"]) == (405, b"405 method not allowed", "POST")
    assert Answered(server, "POST", "/api/tags", {}).status == 405


@pytest.mark.parametrize(
    ("body", "text"),
    [(b"", "missing request body"), ({}, "model is required"), ({"model": ""}, "model is required")],
    ids=["nothing", "no-model", "empty-model"],
)
def test_requests_that_say_nothing(server: str, body: Any, text: str) -> None:
    found = Answered(server, "POST", "/api/chat", body)
    assert (found.status, found.object) == (400, {"error": text})


# ---------------------------------------------------------------------------------- chats


def test_an_answer_is_a_line_for_each_token(server: str) -> None:
    found = chat(server)
    assert found.status == 200
    assert found.headers["content-type"] == "application/x-ndjson"
    assert found.headers["transfer-encoding"] == "chunked"
    *lines, last = found.lines
    assert len(lines) == 5
    for line in lines:
        assert set(line) == {"model", "created_at", "message", "done"}
        assert (line["model"], line["done"]) == (MODEL, False)
        assert set(line["message"]) == {"role", "content"}
        assert line["message"]["role"] == "assistant"
        assert line["message"]["content"]
    counts = "total_duration load_duration prompt_eval_count prompt_eval_duration eval_count eval_duration"
    assert set(last) == {"model", "created_at", "message", "done", "done_reason", *counts.split()}
    assert last["message"] == {"role": "assistant", "content": ""}
    assert (last["done"], last["done_reason"]) == (True, "length")
    assert all(isinstance(last[name], int) for name in counts.split())


def test_tokens_are_counted_with_what_the_template_adds(server: str) -> None:
    # Three tokens of text, five around the message, four before the answer.
    assert chat(server).lines[-1]["prompt_eval_count"] == 12


def test_num_predict_ends_an_answer(server: str) -> None:
    last = chat(server, options={"num_predict": 2}).lines[-1]
    assert (last["done_reason"], last["eval_count"]) == ("length", 2)


def test_a_stop_ends_an_answer(server: str) -> None:
    found = chat(server, options={"stop": [","], "num_predict": 20}).lines
    assert "".join(line["message"]["content"] for line in found) == "Yes"
    assert found[-1]["done_reason"] == "stop"


def test_an_answer_in_one_piece(server: str) -> None:
    found = chat(server, stream=False)
    assert found.headers["content-type"] == "application/json; charset=utf-8"
    assert found.object["done"] is True
    streamed = "".join(line["message"]["content"] for line in chat(server).lines)
    assert found.object["message"]["content"] == streamed


def test_no_message_loads_the_model_and_says_so(server: str) -> None:
    found = chat(server, [])
    assert found.headers["content-type"] == "application/json; charset=utf-8"
    assert set(found.object) == {"model", "created_at", "message", "done", "done_reason"}
    assert (found.object["done"], found.object["done_reason"]) == (True, "load")


def test_what_runs_says_its_context(server: str) -> None:
    chat(server, [], options={"num_ctx": 384})
    (running,) = Answered(server, "GET", "/api/ps").object["models"]
    keys = "name model size digest details expires_at size_vram context_length"
    assert set(running) == set(keys.split())
    assert (running["name"], running["context_length"]) == (MODEL, 384)


def test_a_context_above_the_models_limit_is_capped_in_silence(server: str) -> None:
    chat(server, [], options={"num_ctx": 1_000_000})
    assert Answered(server, "GET", "/api/ps").object["models"][0]["context_length"] == 8192


def test_keep_alive_0_unloads(server: str) -> None:
    chat(server, [])
    assert chat(server, [], keep_alive=0).object["done_reason"] == "unload"


# ---------------------------------------------------------------------------------- the context


LONG = "heron water fish " * 300


def test_a_prompt_that_is_too_long_is_refused_where_the_request_says_so(server: str) -> None:
    found = chat(server, LONG, truncate=False, shift=False)
    assert found.status == 400
    assert found.object == {"error": "the input length exceeds the context length"}


def test_a_prompt_that_is_too_long_is_cut_in_silence_otherwise(server: str) -> None:
    found = chat(server, LONG, options={"num_predict": 1})
    assert found.status == 200
    assert found.lines[-1]["prompt_eval_count"] == 512


def test_older_messages_are_dropped_whole(server: str) -> None:
    last = chat(server, [LONG, LONG, "Say yes."], options={"num_predict": 1}).lines[-1]
    assert last["prompt_eval_count"] == 12


def test_an_answer_that_fills_the_context_ends_there(server: str) -> None:
    text = "Write a very long story about a heron who could not stop."
    last = chat(server, text, truncate=False, shift=False, options={"num_ctx": 32, "num_predict": 60}).lines[-1]
    assert last["done_reason"] == "length"
    assert last["prompt_eval_count"] + last["eval_count"] == 33


# ---------------------------------------------------------------------------------- what is refused


TOOL = {
    "type": "function",
    "function": {"name": "add", "description": "Adds", "parameters": {"type": "object", "properties": {}}},
}


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"think": True}, f'"{MODEL}" does not support thinking'),
        ({"think": "high"}, f'"{MODEL}" does not support thinking'),
        ({"tools": [TOOL]}, f"registry.ollama.ai/library/{MODEL} does not support tools"),
    ],
    ids=["think", "think-high", "tools"],
)
def test_what_the_model_cannot_do_is_refused(server: str, more: dict[str, Any], text: str) -> None:
    found = chat(server, **more)
    assert (found.status, found.object) == (400, {"error": text})


@pytest.mark.parametrize(
    ("option", "value", "kind"),
    [("num_ctx", "many", "integer"), ("temperature", "a", "float32"), ("stop", 3, "array")],
)
def test_an_option_of_a_wrong_type_is_refused(server: str, option: str, value: Any, kind: str) -> None:
    found = chat(server, options={option: value})
    assert (found.status, found.object) == (500, {"error": f'option "{option}" must be of type {kind}'})


def test_an_unknown_option_is_accepted_in_silence(server: str) -> None:
    assert chat(server, options={"temprature": 1}).status == 200


def test_vectors(server: str) -> None:
    found = Answered(server, "POST", "/api/embed", {"model": MODEL, "input": ["a b", "c"]}).object
    assert set(found) == {"model", "embeddings", "total_duration", "load_duration", "prompt_eval_count"}
    assert [len(vector) for vector in found["embeddings"]] == [576, 576]
    for vector in found["embeddings"]:
        assert sum(number * number for number in vector) == pytest.approx(1, abs=1e-3)
    assert found["prompt_eval_count"] == 3
    again = Answered(server, "POST", "/api/embed", {"model": MODEL, "input": "c"}).object
    assert again["embeddings"][0] == pytest.approx(found["embeddings"][1], abs=1e-3)


def test_a_model_that_cannot_be_downloaded(server: str) -> None:
    # The real one is sent to a closed port of this machine.
    body = {"model": "127.0.0.1:9/none/none"}
    found = Answered(server, "POST", "/api/pull", body)
    assert found.status == 200
    assert found.headers["content-type"] == "application/x-ndjson"
    first, last = found.lines
    assert first == {"status": "pulling manifest"}
    assert set(last) == {"error"}
    assert last["error"].startswith("pull model manifest: ")
    found = Answered(server, "POST", "/api/pull", {**body, "stream": False})
    assert found.status == 500
    assert found.object["error"].startswith("pull model manifest: ")

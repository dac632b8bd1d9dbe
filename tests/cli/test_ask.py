"""`rag-plugin ask` with an Ollama server: what stands where, and what it leaves with."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from rag_plugin.cli import _run
from rag_plugin.testing import FakeOllama
from tests.conftest import config_with_ollama
from tests.fake_server import SAYS
from tests.fake_server import server as server


@pytest.fixture
def config(tmp_path: Path, documents: Path, server: FakeOllama) -> Path:
    return config_with_ollama(tmp_path, documents, server.url)


@dataclass(frozen=True)
class Done:
    exit_code: int
    stdout: str
    stderr: str


Ask = Callable[..., Done]


@pytest.fixture
def ask(config: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Run `rag-plugin ask` as its own process would, in this one; `together` has both streams in stdout."""

    def run(*arguments: str, given: str = "", together: bool = False) -> Done:
        out, err = io.StringIO(), io.StringIO()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["rag-plugin", "ask", "-c", str(config), *arguments])
            patch.setattr(sys, "stdin", io.StringIO(given))
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", out if together else err)
            for name in ("", "rag_plugin"):  # pytest's own, with which no others are needed
                patch.setattr(logging.getLogger(name), "handlers", [])
            code = _run()
        return Done(code, out.getvalue(), err.getvalue())

    return run


def test_an_answer_and_its_sources(ask: Ask) -> None:
    done = ask("What do herons eat?")
    answer, _, sources = done.stdout.partition("\n\n")
    assert answer == SAYS
    assert sources.startswith("Sources\n")
    assert "heron.md" in sources
    assert done.exit_code == 0


def test_that_it_was_cut_is_told_after_the_answer(ask: Ask) -> None:
    done = ask("--set", "llm.max_tokens=2", "What do herons eat?")
    assert done.stdout.startswith("Herons eat\n\nSources")
    told = "the answer of 'fake' was cut after 2 tokens; set llm.max_tokens higher for longer answers"
    assert done.stderr.strip().endswith(told)
    done = ask("--set", "llm.max_tokens=2", "What do herons eat?", together=True)
    assert done.stdout.strip().endswith(told)


def test_json_says_why_the_answer_ended(ask: Ask) -> None:
    for tokens, reason in ((2, "length"), (50, "stop")):
        done = ask("--json", "--set", f"llm.max_tokens={tokens}", "What do herons eat?")
        found = json.loads(done.stdout)
        assert found["finish_reason"] == reason
        assert set(found) == {"question", "answer", "finish_reason", "sources"}


def test_an_answer_of_several_parts_is_said_to_be_cut_once(ask: Ask, documents: Path, server: FakeOllama) -> None:
    for number in range(6):
        (documents / f"long{number}.txt").write_text(f"The ferry number {number} goes to the island. " * 30)
    arguments = ["--set", "llm.max_tokens=20", "--set", "llm.context_window=700", "--set", "retriever.top_k=12"]
    server.answer = "The ferry goes. " * 20
    done = ask(*arguments, "Where does the ferry go?")
    assert done.exit_code == 0, done.stderr
    assert len(server.bodies()) > 2
    assert done.stderr.count("was cut after") == 1


def test_a_context_that_has_no_room_is_told(ask: Ask) -> None:
    done = ask("--set", "llm.max_tokens=100", "--set", "llm.context_window=220", "What do herons eat?")
    assert done.exit_code == 1
    assert "llm: a context_window of 220 tokens leaves " in done.stderr
    assert "set llm.context_window higher or llm.max_tokens lower, or ask a shorter question" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_one_of_several_questions_that_fails_is_told_and_counts(
    ask: Ask, server: FakeOllama, arguments: list[str]
) -> None:
    def says(body: Mapping[str, object]) -> str:
        return "" if "bicycle" in str(body["messages"]) else SAYS

    server.answer = says
    done = ask(*arguments, given="Where is the bicycle?\nWhat do herons eat?\n")
    assert done.stderr.count("error: 'fake' at") == 1
    assert done.stdout.count(SAYS) == 1
    assert done.exit_code == 1
    assert ask(*arguments, given="What do herons eat?\n").exit_code == 0


def test_documents_that_cannot_be_read_are_one_line_before_the_answer(ask: Ask, config: Path, documents: Path) -> None:
    for number in range(6):
        (documents / f"broken{number}.txt").write_bytes(bytes(range(32)) * 10)
    done = ask("What do herons eat?")
    assert done.stderr.count("broken") == 0
    assert f"6 documents cannot be read: `rag-plugin sync -c {config}` lists them\n" in done.stderr
    assert (done.exit_code, done.stdout.startswith(SAYS)) == (0, True)


def test_no_documents_are_told(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    arguments = ["--set", f"reader.path={tmp_path / 'empty'}", "--set", f"store.path={tmp_path / 'other'}"]
    done = ask(*arguments, "What do herons eat?")
    assert "there are no documents: add some to the folder of reader.path, or change reader.path" in done.stderr
    assert "no passage was found in the documents" in done.stderr
    assert "Sources" not in done.stdout

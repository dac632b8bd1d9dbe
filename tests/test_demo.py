"""The demo: what a newcomer asks about rag-plugin is found in its own documentation, and quoted."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rag_plugin import build_engine
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

QUESTIONS = {
    "Does anything leave my machine?": ["Documents, questions and answers stay on your machine"],
    "What happens when the process is killed?": ["Killed processes and power losses leave the last commit"],
    "How do I change the LLM?": ["write another language model into the `llm` section"],
    "How do I use another encoder?": ["Another embedding model is another `encoder` section"],
    "Which file types can be read?": ["PDF, Word, PowerPoint, Excel", "`rag-plugin[files]` PDF, Word, slides, sheets"],
    "What does the doctor command check?": ["checks everything that a first run can fail on"],
    "How do I keep the index fresh in a server?": ["from a timer or an endpoint"],
    "Can I delete documents?": ["A sync deletes from the index what was deleted from the folder"],
    "What is the context window of Ollama?": ["The context window of an Ollama model is 8,192 tokens"],
    "How do I write my own reranker?": ["class KeepFolder"],
    "Which Python versions are supported?": ["Python 3.10 to 3.13"],
    "How do I use hybrid search?": ["`hybrid` combines both"],
    "How large can the index be?": ["Up to some 100,000 nodes"],
    "Do I need an OpenAI key?": ["There is no default LLM and no default provider", "There is no default provider"],
    "How do I move from LlamaIndex's FAISS store?": ["FaissStore.from_storage"],
}
"""Questions, and words of the passages that answer them."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the demo reads; its index is not that of the checkout."""
    folder = tmp_path_factory.mktemp("demo")
    shutil.copytree(ROOT / "docs", folder / "docs")
    shutil.copytree(ROOT / "configs", folder / "configs")
    shutil.copy(ROOT / "README.md", folder)
    return folder


@pytest.fixture(scope="module")
def engine(demo: Path) -> Any:
    return build_engine(demo / "configs" / "demo.yaml")


def joined(text: str) -> str:
    return " ".join(text.split())


def test_the_passage_that_answers_is_among_the_first_two(engine: Any) -> None:
    missed = [
        question
        for question, answers in QUESTIONS.items()
        if not any(
            answer in joined(item.node.get_content()) for item in engine.retrieve(question)[:2] for answer in answers
        )
    ]
    assert len(missed) <= 1, missed


def test_the_documentation_does_not_quote_the_questions() -> None:
    texts = [path.read_text(encoding="utf-8").lower() for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))]
    assert [question for question in QUESTIONS if any(question.lower() in text for text in texts)] == []


def test_no_node_of_the_documentation_is_a_heading_alone(engine: Any) -> None:
    for node in engine.store.get_nodes():
        lines = [line for line in node.get_content().splitlines() if line.strip()]
        assert not lines[-1].startswith("#"), node.get_content()


def test_the_answers_are_in_the_documents_where_they_are_said_to_be(engine: Any, demo: Path) -> None:
    answered = 0
    for question, answers in QUESTIONS.items():
        response = engine.query(question)
        for quote in response.metadata["quotes"]:
            text = (demo / quote["document"]).read_text(encoding="utf-8")
            assert text[quote["start"] : quote["end"]] == quote["text"]
            assert quote["place"] == f"line {text.count(chr(10), 0, quote['start']) + 1}"
        answered += any(answer in joined(str(response)) for answer in answers)
    assert answered >= 10


def test_what_the_documentation_does_not_say_is_said(engine: Any) -> None:
    for question in ("How do I bake bread?", "Who won the football world cup in 1954?", "How tall is Mount Everest?"):
        assert str(engine.query(question)) == "The documents do not say."


def test_the_script_answers_and_says_what_to_do_next() -> None:
    done = subprocess.run([ROOT / "scripts" / "demo"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    first, *lines = done.stdout.splitlines()
    assert first == "Question: Does anything leave my machine?"
    assert lines[1].startswith("Documents, questions and answers stay on your machine")
    assert lines[2].startswith("  (docs/how-it-works.md, line ")
    assert lines[-2].startswith(
        "Done: README.md and docs/ were split, encoded and stored in .rag/demo; the answer is quoted"
    )
    assert lines[-1] == (
        "With an LLM: scripts/demo --ollama llama3.2, or in a config file  llm: {type: ollama, model: llama3.2}"
    )
    assert "Traceback" not in done.stderr

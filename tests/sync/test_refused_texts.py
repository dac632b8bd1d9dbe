"""Texts that the encoder refuses: their documents fail with the reason, all others are synced."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core.base.embeddings.base import BaseEmbedding

from rag_plugin.errors import DocumentError, EncoderError
from rag_plugin.sync import plan_sync
from rag_plugin.testing import FakeOllama
from tests.fakes import Hashes
from tests.sync.bench import NAMES, Bench

pytestmark = pytest.mark.usefixtures("settled")

OTHERS = [name for name in NAMES if name != "oven.txt"]


class Refusing(Hashes):
    """Raises for texts with `word` in them, and counts the texts of each call."""

    def __init__(self, word: str = "Bake", error: Exception | None = None, result: Any = None) -> None:
        super().__init__()
        object.__setattr__(self, "_word", word)
        object.__setattr__(self, "_error", error or RuntimeError("a text is refused"))
        object.__setattr__(self, "_result", result)
        object.__setattr__(self, "_calls", [])

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        self._calls.append(len(texts))  # type: ignore[attr-defined]
        if any(self._word in text for text in texts):  # type: ignore[attr-defined]
            if self._result is None:  # type: ignore[attr-defined]
                raise self._error  # type: ignore[attr-defined]
            return [
                self._result if self._word in text else self._get_text_embedding(text)  # type: ignore[attr-defined]
                for text in texts
            ]
        return [self._get_text_embedding(text) for text in texts]


Refusing.__module__, Refusing.__qualname__ = Hashes.__module__, Hashes.__qualname__


@pytest.mark.parametrize(
    "encoder",
    [
        Refusing(),
        Refusing(error=EncoderError("the runner ended")),
        Refusing(error=AssertionError()),
        Refusing(result=[float("nan")] * 16),
        Refusing(result=[float("inf")] * 16),
        Refusing(result=[1.0, 2.0]),
    ],
    ids=["raises", "EncoderError", "empty AssertionError", "NaN", "infinity", "another length"],
)
def test_only_the_document_of_the_text_fails(bench: Bench, encoder: Any) -> None:
    report = bench.sync(encoder)
    assert report.added == OTHERS
    ((name, reason),) = report.failed
    assert name == "oven.txt"
    assert reason.startswith("it cannot be encoded: ")
    assert reason.endswith(": 'Bake bread at 220 degrees.'") or "'Bake" in reason
    assert set(bench.documents()) == set(OTHERS)
    # Only this document is tried again, and it is synced as soon as the encoder takes it.
    before = len(encoder.texts)
    report = bench.sync(encoder)
    assert (report.unchanged, [name for name, _ in report.failed]) == (OTHERS, ["oven.txt"])
    assert len(encoder.texts) == before
    working = Hashes()
    report = bench.sync(working)
    assert (report.added, report.failed, len(working.texts)) == (["oven.txt"], [], 1)


def test_the_old_version_of_a_document_stays(bench: Bench) -> None:
    bench.sync()
    old = bench.documents()["oven.txt"]
    bench.write("oven.txt", "Bake at 250 degrees.")
    bench.write("new.txt", "A new document.")
    report = bench.sync(Refusing("250"))
    assert (report.added, report.changed, [name for name, _ in report.failed]) == (["new.txt"], [], ["oven.txt"])
    assert bench.documents()["oven.txt"] == old


def test_a_document_fails_as_a_whole(bench: Bench) -> None:
    bench.write("long.txt", "\n\n".join(f"Paragraph {number} is here." for number in range(50)))
    report = bench.sync(Refusing("Paragraph 33"), chunker__chunk_size=16)
    assert [name for name, _ in report.failed] == ["long.txt"]
    assert "long.txt" not in bench.documents()


def test_the_first_refused_document_ends_a_strict_sync(bench: Bench) -> None:
    with pytest.raises(DocumentError, match="oven.txt: it cannot be encoded: .*'Bake"):
        bench.sync(Refusing(), sync__on_error="stop")


def test_few_calls_find_the_text(bench: Bench) -> None:
    for number in range(200):
        bench.write(f"many/{number:03}.txt", f"Document {number:03}.")
    encoder = Refusing("Document 077")
    report = bench.sync(encoder)
    assert ([name for name, _ in report.failed], len(report.added)) == (["many/077.txt"], 203)
    assert len(encoder._calls) < 80  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [ConnectionError("refused"), TimeoutError()], ids=repr)
def test_a_server_that_is_down_is_an_error_of_the_sync(bench: Bench, error: Exception) -> None:
    bench.sync()
    bench.write("new.txt", "A new document.")

    class Down(Hashes):
        def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
            object.__setattr__(self, "_calls", getattr(self, "_calls", 0) + 1)
            if self._calls > 1:  # type: ignore[attr-defined] # the first encodes the probe sentence
                raise error
            return super()._get_text_embeddings(texts)

    Down.__module__, Down.__qualname__ = Hashes.__module__, Hashes.__qualname__
    encoder = Down()
    with pytest.raises(type(error)):
        bench.sync(encoder)
    assert encoder._calls == 3  # type: ignore[attr-defined]
    assert set(bench.documents()) == set(NAMES)


def test_a_dry_run_reports_the_plan(bench: Bench) -> None:
    plan = plan_sync(*bench.assembly(Refusing()))
    assert plan.added == NAMES


def test_texts_that_an_ollama_server_refuses(bench: Bench) -> None:
    with FakeOllama(models=["all-minilm"], capabilities=["embedding"]) as server:
        refuse = server._embed

        def embed(body: Any) -> Any:
            texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
            if any("Bake" in text for text in texts):
                from rag_plugin.testing.replies import error_reply

                return error_reply(500, "failed to encode response: json: unsupported value: NaN")
            return refuse(body)

        server._embed = embed  # type: ignore[method-assign]
        bench.config["encoder"] = {"type": "ollama", "model": "all-minilm", "base_url": server.url, "retries": 0}
        report = _sync_by_config(bench)
        assert (report.added, [name for name, _ in report.failed]) == (OTHERS, ["oven.txt"])
        assert "unsupported value: NaN" in report.failed[0][1]


def _sync_by_config(bench: Bench) -> Any:
    from rag_plugin import load_config
    from rag_plugin.sync import sync

    config = load_config(bench.config)
    return sync(config.assemble(), config.sync)


def test_a_ready_embedding_of_any_class(bench: Bench) -> None:
    class Plain(BaseEmbedding):
        def _get_text_embedding(self, text: str) -> list[float]:
            if "Bake" in text:
                raise KeyError("Bake")
            return [float(len(text)), 1.0]

        _get_query_embedding = _get_text_embedding

        async def _aget_query_embedding(self, query: str) -> list[float]:
            return self._get_text_embedding(query)

    report = bench.sync(Plain())
    assert (report.added, [name for name, _ in report.failed]) == (OTHERS, ["oven.txt"])

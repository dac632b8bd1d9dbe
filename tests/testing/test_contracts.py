"""Every built-in part, and every fake that tests use in its place, keeps the contract of its slot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.readers import SimpleDirectoryReader

from rag_plugin import FaissStore, build_engine, load_config
from rag_plugin.components.registry.slots import SLOTS
from rag_plugin.testing import FakeOllama
from rag_plugin.testing.contracts import (
    ChunkerContract,
    EncoderContract,
    LLMContract,
    ReaderContract,
    RerankerContract,
    RetrieverContract,
    StoreContract,
)
from tests.conftest import SMOLLM
from tests.fakes import EchoLLM, Hashes


@pytest.fixture
def ollama() -> Iterator[FakeOllama]:
    with FakeOllama() as server:
        yield server


def part(slot: str, section: Any, **parts: Any) -> Any:
    base = {"reader": {"type": "directory", "path": "."}, "store": {"type": "faiss", "path": "unused"}}
    provided = parts if slot == "encoder" else {"encoder": Hashes(), **parts}
    return load_config({**base, slot: section}, provided=tuple(provided)).build(slot, **provided)


# ---------------------------------------------------------------------------------- readers


class TestDirectoryReader(ReaderContract):
    @pytest.fixture(autouse=True)
    def _folder(self, documents: Path) -> None:
        self.folder = documents

    def make(self) -> Any:
        return part("reader", {"type": "directory", "path": str(self.folder)})


class TestJsonlReader(ReaderContract):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.file = tmp_path / "records.jsonl"
        self.file.write_text("\n".join(json.dumps({"text": f"Record {number}"}) for number in range(3)))

    def make(self) -> Any:
        return part("reader", {"type": "jsonl", "path": str(self.file)})


class TestSimpleDirectoryReader(TestDirectoryReader):
    def make(self) -> Any:
        return SimpleDirectoryReader(str(self.folder), recursive=True)


# ---------------------------------------------------------------------------------- chunkers


@pytest.fixture(params=[name for name in SLOTS["chunker"].types])
def chunker(request: pytest.FixtureRequest) -> Any:
    return part("chunker", request.param)


class TestChunkers(ChunkerContract):
    @pytest.fixture(autouse=True)
    def _chunker(self, chunker: Any) -> None:
        self.make = lambda: chunker  # type: ignore[method-assign]


# ---------------------------------------------------------------------------------- encoders


class TestSentenceEncoder(EncoderContract):
    @pytest.fixture(autouse=True)
    def _encoder(self, minilm: Any) -> None:
        self.make = lambda: minilm  # type: ignore[method-assign]


class TestOllamaEncoder(EncoderContract):
    @pytest.fixture(autouse=True)
    def _server(self, ollama: FakeOllama) -> None:
        section = {"type": "ollama", "model": ollama.models[0], "base_url": ollama.url}
        self.make = lambda: part("encoder", section)  # type: ignore[method-assign]


class TestHashes(EncoderContract):
    def make(self) -> Any:
        return Hashes()


# ---------------------------------------------------------------------------------- stores


@pytest.mark.parametrize("index", ["Flat", "HNSW"])
class TestFaissStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _index(self, index: str) -> None:
        self.index = index

    def make(self, path: Path) -> FaissStore:
        return FaissStore(path / "index", index=self.index)


# ---------------------------------------------------------------------------------- LLMs


class TestOllamaLLM(LLMContract):
    @pytest.fixture(autouse=True)
    def _server(self, ollama: FakeOllama) -> None:
        section = {"type": "ollama", "model": ollama.models[0], "base_url": ollama.url}
        self.make = lambda: part("llm", section)  # type: ignore[method-assign]


class TestEchoLLM(LLMContract):
    def make(self) -> Any:
        return EchoLLM()


@pytest.fixture(scope="module")
def smollm() -> Any:
    return part("llm", {"type": "huggingface", "model": SMOLLM, "max_tokens": 8})


@pytest.mark.slow
class TestTransformersLLM(LLMContract):
    @pytest.fixture(autouse=True)
    def _llm(self, smollm: Any) -> None:
        self.make = lambda: smollm  # type: ignore[method-assign]


# ---------------------------------------------------------------------------------- retrievers and rerankers


@pytest.mark.parametrize("retriever", SLOTS["retriever"].types)
class TestRetrievers(RetrieverContract):
    @pytest.fixture(autouse=True)
    def _retriever(self, retriever: str, settings: dict[str, Any], minilm: Any) -> None:
        engine = build_engine({**settings, "retriever": retriever}, encoder=minilm)
        self.make = lambda: engine.retriever  # type: ignore[method-assign]


RERANKERS = {"similarity_cutoff": {"cutoff": 0.5}, "window": {}, "auto_merging": {}}


@pytest.mark.parametrize("reranker", RERANKERS)
class TestRerankers(RerankerContract):
    @pytest.fixture(autouse=True)
    def _reranker(self, reranker: str, tmp_path: Path) -> None:
        section = [{"type": reranker, **RERANKERS[reranker]}]
        store = FaissStore(tmp_path / "index")
        self.make = lambda: part("rerankers", section, store=store)[0]  # type: ignore[method-assign]


def test_every_reranker_is_under_contract() -> None:
    assert RERANKERS.keys() == SLOTS["reranker"].types.keys()

"""One word per slot is changed, on one and the same index directory with `on_change: resync`, and each swap works."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rag_plugin import build_engine
from tests.fakes import EchoLLM


@pytest.fixture
def settings(settings: dict[str, Any]) -> dict[str, Any]:
    """As everywhere, and an index that may be built anew."""
    return {**settings, "sync": {"on_change": "resync"}}


QUESTION = "What does the heron eat?"


@pytest.mark.parametrize(
    "chunker", ["token", "markdown", "none", {"type": "sentence", "chunk_size": 20, "chunk_overlap": 4}]
)
def test_another_chunker(settings: dict[str, Any], minilm: Any, chunker: Any) -> None:
    build_engine(settings, encoder=minilm)
    engine = build_engine({**settings, "chunker": chunker}, encoder=minilm)
    found = engine.retrieve(QUESTION)
    assert found[0].node.ref_doc_id == "birds/heron.md"
    assert len({item.node.node_id for item in found}) == len(found)
    assert engine.sync().nodes_written == 0


def test_another_chunker_by_its_path(settings: dict[str, Any], minilm: Any) -> None:
    build_engine(settings, encoder=minilm)
    chunker = {"type": "llama_index.core.node_parser.SentenceWindowNodeParser", "window_size": 1}
    engine = build_engine({**settings, "chunker": chunker}, encoder=minilm)
    assert "window" in engine.retrieve(QUESTION)[0].node.metadata


def test_another_reader(settings: dict[str, Any], minilm: Any, documents: Path, tmp_path: Path) -> None:
    build_engine(settings, encoder=minilm)
    records = [{"key": path.stem, "body": path.read_text()} for path in documents.rglob("*.*")]
    (tmp_path / "all.jsonl").write_text("\n".join(map(json.dumps, records)))
    reader = {"type": "jsonl", "path": str(tmp_path / "all.jsonl"), "id": "key", "text": "body"}
    engine = build_engine({**settings, "reader": reader}, encoder=minilm)
    assert engine.retrieve(QUESTION)[0].node.ref_doc_id == "heron"
    assert len(engine.store) == 4


def test_another_reader_by_its_path(settings: dict[str, Any], minilm: Any, documents: Path) -> None:
    reader = {"type": "llama_index.core.SimpleDirectoryReader", "input_dir": str(documents), "recursive": True}
    engine = build_engine({**settings, "reader": reader}, encoder=minilm)
    assert "eats fish" in engine.retrieve(QUESTION)[0].node.get_content()
    assert len(engine.sync().unchanged) == 4


@pytest.mark.slow
def test_another_encoder(settings: dict[str, Any], minilm: Any) -> None:
    build_engine(settings, encoder=minilm)
    engine = build_engine({**settings, "encoder": {**settings["encoder"], "pooling": "max"}})
    assert engine.sync().unchanged != []
    assert engine.retrieve(QUESTION)[0].node.ref_doc_id == "birds/heron.md"


@pytest.mark.slow
def test_another_encoder_by_its_path(settings: dict[str, Any]) -> None:
    from tests.components.encoders.minilm import folder

    encoder = {
        "type": "llama_index.embeddings.huggingface.HuggingFaceEmbedding",
        "model_name": str(folder()),
        "device": "cpu",
    }
    engine = build_engine({**settings, "encoder": encoder})
    assert engine.retrieve(QUESTION)[0].node.ref_doc_id == "birds/heron.md"
    assert engine.sync().texts_encoded == 0


@pytest.mark.parametrize("metric", ["inner_product", "l2"])
def test_another_metric_encodes_nothing(settings: dict[str, Any], minilm: Any, metric: str) -> None:
    cosine = build_engine(settings, encoder=minilm).retrieve(QUESTION)
    settings["store"]["metric"] = metric
    engine = build_engine(settings, encoder=minilm)
    assert engine.sync().texts_encoded == 0
    found = engine.retrieve(QUESTION)
    assert [item.node.node_id for item in found] == [item.node.node_id for item in cosine]
    assert all(0 < (item.score or 0) <= 1 for item in found[:1])


def test_another_store_by_its_path(settings: dict[str, Any], minilm: Any) -> None:
    settings["store"] = {"type": "llama_index.core.vector_stores.SimpleVectorStore"}
    engine = build_engine(settings, encoder=minilm)
    assert engine.retrieve(QUESTION)[0].node.ref_doc_id == "birds/heron.md"
    assert engine.sync().texts_encoded == 0


def test_another_retriever_by_its_path(settings: dict[str, Any], minilm: Any) -> None:
    settings["retriever"] = {"type": "llama_index.core.retrievers.VectorIndexRetriever", "similarity_top_k": 1}
    assert len(build_engine(settings, encoder=minilm).retrieve(QUESTION)) == 1


def test_another_reranker_by_its_path(settings: dict[str, Any], minilm: Any) -> None:
    settings["rerankers"] = [{"type": "llama_index.core.postprocessor.LongContextReorder"}]
    found = build_engine(settings, encoder=minilm).retrieve(QUESTION)
    assert "birds/heron.md" in {item.node.ref_doc_id for item in found}


def test_another_synthesizer_by_its_path(settings: dict[str, Any], minilm: Any) -> None:
    settings["synthesizer"] = {"type": "llama_index.core.response_synthesizers.TreeSummarize", "verbose": False}
    answer = build_engine(settings, encoder=minilm, llm=EchoLLM()).query(QUESTION)
    assert "eats fish" in str(answer)


def test_another_llm_by_its_path(settings: dict[str, Any], minilm: Any) -> None:
    settings["llm"] = {"type": "llama_index.core.llms.MockLLM", "max_tokens": 3}
    assert str(build_engine(settings, encoder=minilm).query(QUESTION))

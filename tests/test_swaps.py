"""One word per slot is changed, on one and the same index directory with `on_change: resync`, and each swap works."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rag_plugin import ComponentError, ConfigError, FaissStore, build_engine, load_config
from rag_plugin.components.places import source_of_node
from tests.components.encoders.minilm import folder
from tests.conftest import MINILM
from tests.fakes import EchoLLM, Hashes


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


@pytest.mark.parametrize("retriever", ["hybrid", "lexical"])
@pytest.mark.parametrize("store", ["ready", "without words", "by path"])
def test_a_retriever_of_words_on_a_store_without_words_is_refused_before_encoding(
    settings: dict[str, Any], tmp_path: Path, retriever: str, store: str
) -> None:
    from llama_index.core.vector_stores import SimpleVectorStore

    encoder = Hashes()
    parts: dict[str, Any] = {"encoder": encoder}
    if store == "by path":
        settings["store"] = {"type": "llama_index.core.vector_stores.SimpleVectorStore"}
    else:
        parts["store"] = SimpleVectorStore() if store == "ready" else FaissStore(tmp_path / "index", lexical=False)
    with pytest.raises(ComponentError, match=f"retriever: '{retriever}' needs"):
        build_engine(settings, overrides={"retriever": retriever}, **parts)
    assert encoder.texts == []


def test_a_store_class_that_needs_an_object_says_what_to_do(settings: dict[str, Any]) -> None:
    settings["store"] = {"type": "llama_index.vector_stores.faiss.FaissVectorStore"}
    with pytest.raises(
        ConfigError, match=r"pass a ready part, build_engine\(\.\.\., store=\.\.\.\), or use  store: {type: f"
    ):
        build_engine(settings)
    settings["store"] = "faiss"
    settings["rerankers"] = [{"type": "llama_index.core.postprocessor.PrevNextNodePostprocessor"}]
    with pytest.raises(ConfigError, match=r"pass a ready part, build_engine\(\.\.\., rerankers=\.\.\.\)$"):
        build_engine({**settings, "store": {"type": "faiss", "path": "x"}})


@pytest.mark.parametrize("setting", [MINILM, "./model", "absolute"])
def test_model_names_of_class_paths_are_resolved(write: Any, documents: Path, setting: str) -> None:
    (documents.parent / "model").symlink_to(folder())
    name = str(folder()) if setting == "absolute" else setting
    path = write(
        f"""
        reader: {{type: directory, path: ./docs}}
        encoder: {{type: llama_index.embeddings.huggingface.HuggingFaceEmbedding, model_name: "{name}", device: cpu}}
        store: {{type: faiss, path: ./index}}
        """
    )
    assert len(load_config(path).build("encoder").get_text_embedding("herons")) == 384


def test_building_by_class_path_looks_at_no_hub(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    hosts: list[Any] = []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("socket.getaddrinfo", lambda host, *rest, **more: hosts.append(host))
    settings["encoder"] = {
        "type": "llama_index.embeddings.huggingface.HuggingFaceEmbedding", "model_name": "nobody/such-model"
    }  # fmt: skip
    with pytest.raises(ComponentError, match="get the model with `hf download MODEL`, or name its folder"):
        load_config(settings).build("encoder")
    assert hosts == []
    assert constants.HF_HUB_OFFLINE is False


def test_sources_of_a_simple_directory_reader_have_file_names(settings: dict[str, Any], documents: Path) -> None:
    settings["reader"] = {
        "type": "llama_index.core.SimpleDirectoryReader",
        "input_dir": str(documents),
        "recursive": True,
    }
    engine = build_engine(settings, encoder=Hashes())
    sources = {source_of_node(item.node) for item in engine.retrieve("herons")}
    assert sources <= {f"{path}, line 1" for path in documents.rglob("*.*")}
    assert sources
    (documents / "oven.txt").write_text("Changed.", encoding="utf-8")
    report = engine.sync()
    assert (report.changed, report.added, report.removed) == ([str(documents / "oven.txt")], [], [])

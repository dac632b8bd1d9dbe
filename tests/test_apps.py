"""Engines inside LlamaIndex apps: their index, chat engines, docstore, copies and handed-in objects."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from faiss import IndexFlatIP
from llama_index.core import PromptTemplate, StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.base.llms.types import CompletionResponse, LLMMetadata
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.chat_engine.types import ChatMode
from llama_index.core.postprocessor import PrevNextNodePostprocessor
from llama_index.core.schema import Document, ImageNode, IndexNode, NodeRelationship, TextNode
from llama_index.core.settings import _Settings
from llama_index.vector_stores.faiss import FaissVectorStore

from rag_plugin import (
    ComponentError,
    FaissStore,
    IndexMismatch,
    MissingLLM,
    QuestionError,
    RagEngine,
    StoreError,
    build_engine,
)
from tests.fakes import EchoLLM, Hashes

TEXTS = {"a.md": "Herons eat fish.\n", "b.md": "Bread is baked at 220 degrees.\n", "c.md": "The pump code is 31.\n"}


class Copyable(Hashes):
    """An encoder that can be pickled."""

    def __reduce__(self) -> Any:
        return Copyable, ()

    def __deepcopy__(self, memo: Any = None) -> Copyable:
        return Copyable()


class CountingLLM(EchoLLM):
    """Has a context of its own size, and remembers its prompts."""

    context: int = 4096
    prompts: list[str] = []

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(context_window=self.context, num_output=64, model_name="counting")

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        self.prompts.append(prompt)
        return CompletionResponse(text="an answer")


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    folder = tmp_path / "docs"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_text(text, encoding="utf-8")
    return {
        "reader": {"type": "directory", "path": str(folder)},
        "store": {"type": "faiss", "path": str(tmp_path / "index")},
    }


@pytest.fixture
def engine(config: dict[str, Any]) -> RagEngine:
    return build_engine(config, encoder=Copyable(), llm=CountingLLM())


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """LlamaIndex's global settings cannot be read."""
    for name in ("llm", "embed_model", "callback_manager", "prompt_helper", "node_parser", "transformations"):

        def refuse(self: Any, name: str = name) -> Any:
            raise AssertionError(f"Settings.{name} was read in {[frame.function for frame in inspect.stack()[1:6]]}")

        monkeypatch.setattr(_Settings, name, property(refuse))


# ---------------------------------------------------------------------------------- handed in


def test_documents_take_the_place_of_the_reader(config: dict[str, Any]) -> None:
    del config["reader"]
    encoder = Hashes()
    given = [Document(text=text, id_=name, metadata={"topic": name[0]}) for name, text in TEXTS.items()]
    engine = build_engine(config, encoder=encoder, documents=given)
    assert [node.ref_doc_id for node in engine.store.get_nodes()] == list(TEXTS)
    assert engine.store.get_nodes()[0].metadata["topic"] == "a"
    assert len(encoder.texts) == 3
    # The second call adds one, removes one, and encodes nothing twice.
    engine = build_engine(config, encoder=encoder, documents=[*given[1:], Document(text="Gulls fly.")])
    assert sorted(node.get_content() for node in engine.store.get_nodes())[-1] == "The pump code is 31.\n".strip()
    assert len(encoder.texts) == 4
    assert len(engine.store) == 3  # type: ignore[arg-type]


def test_documents_without_ids_are_not_written_again(config: dict[str, Any]) -> None:
    encoder = Hashes()
    for _ in range(2):
        given = [Document(text=text) for text in (*TEXTS.values(), TEXTS["a.md"])]
        ids = [document.id_ for document in given]
        engine = build_engine(config, encoder=encoder, documents=given)
        assert [document.id_ for document in given] == ids  # the caller's own documents stay as they are
    report = engine.sync()
    assert (len(report.unchanged), report.nodes_written) == (4, 0)


def test_nodes_are_stored_as_they_are(config: dict[str, Any]) -> None:
    config["chunker"] = {"chunk_size": 3}
    encoder = Hashes()
    nodes = [
        TextNode(id_="n1", text="Herons eat fish. They stand still.", metadata={"page": 7}),
        TextNode(id_="n2", text="with its own vector", embedding=[1.0] + [0.0] * 15),
    ]
    engine = build_engine(config, encoder=encoder, nodes=nodes)
    stored = {node.node_id: node for node in engine.store.get_nodes()}
    assert {name: node.get_content() for name, node in stored.items()} == {node.node_id: node.text for node in nodes}
    assert stored["n1"].metadata == {"page": 7}
    assert encoder.texts == ["page: 7\n\nHerons eat fish. They stand still."]
    assert engine.store.get_nodes(["n2"], include_embeddings=True)[0].embedding == nodes[1].embedding
    assert nodes[0].source_node is None
    build_engine(config, encoder=encoder, nodes=nodes)
    assert len(encoder.texts) == 1
    nodes[0].text = "Herons eat frogs."
    engine = build_engine(config, encoder=encoder, nodes=nodes[:1])
    assert [node.get_content() for node in engine.store.get_nodes()] == ["Herons eat frogs."]


@pytest.mark.parametrize(
    "given",
    [
        {"documents": [], "nodes": []},
        {"documents": [TextNode(text="a node")]},
        {"nodes": ["text"]},
        {"documents": ["text"]},
    ],
)
def test_documents_and_nodes_are_checked(config: dict[str, Any], given: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="pass "):
        build_engine(config, encoder=Hashes(), **given)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("embed_model", "encoder"),
        ("vector_store", "store"),
        ("node_parser", "chunker"),
        ("text_splitter", "chunker"),
        ("node_postprocessors", "rerankers"),
        ("response_synthesizer", "synthesizer"),
        ("transformations", "chunker"),
    ],
)
def test_llama_index_names_of_parts_get_a_hint(config: dict[str, Any], name: str, meant: str) -> None:
    with pytest.raises(TypeError, match=f"there is no slot '{name}'; did you mean '{meant}'"):
        build_engine(config, **{name: Hashes()})


def test_a_callback_manager_is_used_by_all_parts(config: dict[str, Any]) -> None:
    handler = LlamaDebugHandler(print_trace_on_end=False)
    manager = CallbackManager([handler])
    engine = build_engine(config, encoder=Hashes(), llm=EchoLLM(), callback_manager=manager)
    assert engine.callback_manager is manager
    engine.query("What do herons eat?")
    for kind in (CBEventType.QUERY, CBEventType.RETRIEVE, CBEventType.SYNTHESIZE, CBEventType.LLM):
        assert handler.get_event_pairs(kind), kind
    assert engine.llm.callback_manager is manager
    assert engine.encoder.callback_manager is manager


# ---------------------------------------------------------------------------------- the index


def test_query_engines_of_the_index_use_the_engines_parts(engine: RagEngine, no_settings: None) -> None:
    answer = engine.index.as_query_engine(similarity_top_k=1).query("Herons eat fish.")
    assert (str(answer), len(answer.source_nodes)) == ("an answer", 1)
    assert str(engine.index.as_query_engine(response_mode="tree_summarize").query("What?")) == "an answer"
    streamed = engine.index.as_query_engine(streaming=True, llm=EchoLLM()).query("What?")
    assert "Herons eat fish." in "".join(streamed.response_gen)  # type: ignore[union-attr]
    other = CountingLLM(prompts=[])
    engine.index.as_query_engine(llm=other, text_qa_template=PromptTemplate("T {context_str} Q {query_str}")).query("?")
    assert other.prompts[0].startswith("T ")


def test_query_engines_of_the_index_use_the_prompts_of_the_config(config: dict[str, Any], no_settings: None) -> None:
    config["synthesizer"] = {"type": "compact", "text_qa_template": "OURS {context_str} ASKED {query_str}"}
    llm = CountingLLM(prompts=[])
    engine = build_engine(config, encoder=Hashes(), llm=llm)
    engine.index.as_query_engine().query("one")
    engine.index.as_query_engine(response_mode="refine").query("two")
    other = CountingLLM(prompts=[])
    engine.index.as_query_engine(llm=other).query("three")
    assert all(prompt.startswith("OURS ") for prompt in (*llm.prompts[:2], other.prompts[0]))


def test_the_index_of_an_engine_without_an_llm_says_so(config: dict[str, Any], no_settings: None) -> None:
    engine = build_engine(config, encoder=Hashes())
    assert "Herons eat fish." in str(engine.index.as_query_engine().query("Herons eat fish."))
    for make in (engine.index.as_chat_engine, engine.as_chat_engine):
        with pytest.raises(MissingLLM):
            make()
    with pytest.raises(MissingLLM):
        engine.index.as_query_engine(response_mode="compact").query("What?")


@pytest.mark.parametrize("make", [partial(IndexNode, index_id="other"), ImageNode])
def test_retrievers_see_all_nodes_after_an_index_or_image_node_was_inserted(
    engine: RagEngine, make: Callable[..., Any], no_settings: None
) -> None:
    engine.index.insert_nodes([make(text="Gulls steal chips.")])
    found = engine.index.as_retriever(similarity_top_k=9).retrieve("What?")
    assert len(found) == len(TEXTS) + 1
    assert len(engine.index.as_query_engine(similarity_top_k=9).query("What?").source_nodes) == len(TEXTS) + 1
    (node,) = engine.index.as_retriever(similarity_top_k=9, node_ids=[found[0].node.node_id]).retrieve("What?")
    assert node.node.node_id == found[0].node.node_id


# ---------------------------------------------------------------------------------- chat engines

MODES = ["condense_plus_context", "condense_question", "context", "simple", "best"]


@pytest.mark.parametrize("mode", [*MODES, *(ChatMode(mode) for mode in MODES)], ids=str)
@pytest.mark.parametrize("by", ["engine", "index"])
def test_chat_modes(engine: RagEngine, mode: Any, by: str, no_settings: None) -> None:
    chat = (engine if by == "engine" else engine.index).as_chat_engine(chat_mode=mode)
    assert str(chat.chat("What do herons eat?")) == "an answer"
    assert str(chat.chat("And gulls?")) == "an answer"
    assert [message.role.value for message in chat.chat_history] == ["user", "assistant"] * 2
    assert "".join(chat.stream_chat("And?").response_gen)
    chat.reset()
    assert chat.chat_history == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("message", ["", "  \n", None, 7])
async def test_a_message_without_text_is_a_question_error(engine: RagEngine, mode: str, message: Any) -> None:
    chat = engine.as_chat_engine(mode)
    for method in (chat.chat, chat.stream_chat):
        with pytest.raises(QuestionError):
            method(message)
    for asynchronous in (chat.achat, chat.astream_chat):
        with pytest.raises(QuestionError):
            await asynchronous(message)
    assert chat.chat_history == []


@pytest.mark.parametrize("mode", ["condense_plus_context", "condense_question", "context"])
@pytest.mark.parametrize("by", ["engine", "index"])
async def test_a_context_that_is_too_small_is_the_error_of_query(config: dict[str, Any], mode: str, by: str) -> None:
    engine = build_engine(config, encoder=Hashes(), llm=CountingLLM(context=100))
    with pytest.raises(ComponentError, match="a context_window of 100 tokens leaves") as expected:
        engine.query("What do herons eat?")
    chat = (engine if by == "engine" else engine.index).as_chat_engine(chat_mode=mode)
    with pytest.raises(ComponentError, match="a context_window of 100 tokens leaves"):
        chat.chat("What do herons eat?")
    with pytest.raises(ComponentError, match="a context_window of 100 tokens leaves"):
        await chat.achat("What do herons eat?")
    assert type(expected.value) is ComponentError


@pytest.mark.parametrize("mode", ["react", "openai", "nonsense", None])
def test_an_unknown_chat_mode_is_refused(engine: RagEngine, mode: Any) -> None:
    with pytest.raises(ValueError, match="there is no chat mode .*condense_plus_context, condense_question, context"):
        engine.as_chat_engine(mode)


def test_settings_of_chat_engines(engine: RagEngine) -> None:
    llm: Any = engine.llm
    for mode in ("condense_plus_context", "context", "simple"):
        engine.as_chat_engine(mode, system_prompt="Answer like a pirate.").chat("What?")
        assert any("like a pirate" in prompt for prompt in llm.prompts)
        llm.prompts.clear()
    with pytest.raises(ValueError, match="'condense_question' takes no system_prompt"):
        engine.as_chat_engine("condense_question", system_prompt="x")


def test_parts_passed_to_a_chat_engine_win(engine: RagEngine) -> None:
    for make in (engine.as_chat_engine, engine.index.as_chat_engine):
        for mode in ("condense_plus_context", "context", "simple", "condense_question"):
            other = CountingLLM(prompts=[])
            make(mode, llm=other).chat("What?")
            if mode != "condense_question" or make == engine.index.as_chat_engine:
                assert other.prompts
    retriever = engine.index.as_retriever(similarity_top_k=1)
    assert len(engine.as_chat_engine("context", retriever=retriever).chat("What?").source_nodes) == 1


@pytest.mark.parametrize("question", [None, 5, "", b"bytes"])
async def test_a_question_that_is_no_text_is_a_question_error(engine: RagEngine, question: Any) -> None:
    for method in (engine.query, engine.retrieve):
        with pytest.raises(QuestionError):
            method(question)
    for asynchronous in (engine.aquery, engine.aretrieve):
        with pytest.raises(QuestionError):
            await asynchronous(question)


# ---------------------------------------------------------------------------------- docstore and storage


def test_the_docstore_shows_the_synced_documents(engine: RagEngine) -> None:
    docstore, nodes = engine.index.docstore, engine.store.get_nodes()
    assert docstore.docs == {node.node_id: node for node in nodes}
    assert set(engine.index.ref_doc_info) == set(TEXTS)
    info = engine.index.ref_doc_info["a.md"]
    assert info.node_ids == [nodes[0].node_id]
    assert info.metadata["file_name"] == "a.md"
    assert docstore.get_ref_doc_info("a.md") == info
    assert docstore.get_ref_doc_info("unknown") is None
    assert docstore.get_node(nodes[1].node_id).get_content() == nodes[1].get_content()
    assert docstore.get_document("unknown", raise_error=False) is None
    assert docstore.document_exists(nodes[0].node_id)
    assert docstore.ref_doc_exists("b.md")
    assert docstore.get_all_document_hashes()[nodes[0].hash] == nodes[0].node_id


async def test_the_docstore_is_read_only(engine: RagEngine) -> None:
    node = engine.store.get_nodes()[0]
    for write in (
        lambda: engine.index.docstore.add_documents([TextNode(text="elsewhere")]),
        lambda: engine.index.docstore.delete_document(node.node_id),
    ):
        with pytest.raises(StoreError, match="this docstore shows the nodes of a vector store"):
            write()  # type: ignore[no-untyped-call]
    with pytest.raises(StoreError, match="this docstore shows"):
        await engine.index.docstore.async_add_documents([TextNode(text="elsewhere")])
    assert len(engine.store.get_nodes()) == len(TEXTS)
    assert await engine.index.docstore.aget_document(node.node_id) == node


def test_refresh_replaces_changed_documents_only(engine: RagEngine) -> None:
    documents = [item.load() for item in engine._assembly.new_reader().list_documents()]  # type: ignore[attr-defined]
    assert engine.index.refresh_ref_docs(documents) == [False] * 3
    changed = Document(text="Bread is baked at 250 degrees.", id_="b.md", metadata=documents[1].metadata)
    assert engine.index.refresh_ref_docs([documents[0], changed, Document(text="new", id_="d")]) == [False, True, True]
    texts = sorted(node.get_content() for node in engine.store.get_nodes())
    assert texts == ["Bread is baked at 250 degrees.", "Herons eat fish.", "The pump code is 31.", "new"]
    assert engine.index.refresh_ref_docs([changed]) == [False]


def test_neighbours_are_found_in_the_docstore(config: dict[str, Any]) -> None:
    (Path(config["reader"]["path"]) / "long.md").write_text(" ".join(f"Sentence {n}." for n in range(60)), "utf-8")
    engine = build_engine(config, overrides={"chunker.chunk_size": 20}, encoder=Hashes())
    middle = engine.store.get_nodes()[5]
    expand = PrevNextNodePostprocessor(docstore=engine.index.docstore, num_nodes=1, mode="both")
    (hit,) = engine.index.as_retriever(node_ids=[middle.node_id]).retrieve("What?")
    found = [item.node.node_id for item in expand.postprocess_nodes([hit])]
    assert found == [middle.relationships[NodeRelationship.PREVIOUS].node_id, middle.node_id,  # type: ignore[union-attr]
                     middle.relationships[NodeRelationship.NEXT].node_id]  # type: ignore[union-attr]  # fmt: skip


def test_a_persisted_context_is_loaded_with_the_store(engine: RagEngine, tmp_path: Path) -> None:
    folder = tmp_path / "persisted"
    engine.index.storage_context.persist(str(folder))
    with pytest.raises(Exception, match="pass vector_store=engine.store to StorageContext.from_defaults"):
        load_index_from_storage(StorageContext.from_defaults(persist_dir=str(folder)), embed_model=engine.encoder)
    context = StorageContext.from_defaults(persist_dir=str(folder), vector_store=engine.store)
    index = load_index_from_storage(context, embed_model=engine.encoder)
    assert len(index.as_retriever(similarity_top_k=9).retrieve("What?")) == len(TEXTS)


def stock_folder(folder: Path, encoder: Any, documents: list[Document]) -> None:
    """A folder that LlamaIndex persists with its own FAISS store."""
    faiss = FaissVectorStore(faiss_index=IndexFlatIP(16))
    index = VectorStoreIndex.from_documents(
        documents, embed_model=encoder, storage_context=StorageContext.from_defaults(vector_store=faiss)
    )
    index.storage_context.persist(str(folder))


def test_an_imported_folder_is_synced_afterwards(config: dict[str, Any], tmp_path: Path) -> None:
    encoder, gone = Hashes(), "This document is gone."
    given = [Document(text=text.strip(), id_=name) for name, text in TEXTS.items()]
    stock_folder(tmp_path / "storage", encoder, [*given, Document(text=gone, id_="gone.md")])
    encoder._texts.clear()  # type: ignore[attr-defined]
    FaissStore.from_storage(tmp_path / "storage", config["store"]["path"], encoder=encoder)
    sample = len(encoder.texts)
    (Path(config["reader"]["path"]) / "d.md").write_text("A new document.", encoding="utf-8")
    engine = build_engine(config, encoder=encoder)
    assert sorted(node.get_content() for node in engine.store.get_nodes()) == sorted(
        [*(text.strip() for text in TEXTS.values()), "A new document."]
    )
    assert encoder.texts[sample:] == ["A new document."]
    report = engine.sync()
    assert (len(report.unchanged), report.nodes_written) == (4, 0)


def test_an_imported_folder_is_searched_before_a_sync(config: dict[str, Any], tmp_path: Path) -> None:
    encoder = Hashes()
    stock_folder(tmp_path / "storage", encoder, [Document(text=text.strip(), id_=name) for name, text in TEXTS.items()])
    FaissStore.from_storage(tmp_path / "storage", config["store"]["path"], encoder=encoder)
    engine = build_engine(config, encoder=encoder, sync="never")
    assert engine.retrieve("Herons eat fish.")[0].node.ref_doc_id == "a.md"
    with pytest.raises(IndexMismatch):
        build_engine(config, encoder=Hashes(salt=1), sync="never")


def test_the_encoder_of_an_imported_folder_is_checked(config: dict[str, Any], tmp_path: Path) -> None:
    stock_folder(tmp_path / "storage", Hashes(), [Document(text=text, id_=name) for name, text in TEXTS.items()])
    with pytest.raises(StoreError, match="are not of this encoder: the same texts give a cosine of -?0"):
        FaissStore.from_storage(tmp_path / "storage", config["store"]["path"], encoder=Hashes(salt=1))
    assert not Path(config["store"]["path"]).exists()


# ---------------------------------------------------------------------------------- copies

COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda part: pickle.loads(pickle.dumps(part)),
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("how", COPIES)
def test_copies_find_the_same_and_the_original_still_works(engine: RagEngine, how: str) -> None:
    expected = [item.node.node_id for item in engine.retrieve("What?")]
    for part in (engine, engine.index, engine.retriever, engine.store, engine.as_tool()):
        copied = COPIES[how](part)
        assert type(copied) is type(part)
        assert copied is not part
        if isinstance(copied, VectorStoreIndex):
            copied = copied.as_retriever(similarity_top_k=5)
        if isinstance(copied, FaissStore):
            assert copied.to_dict() == part.to_dict()
            assert copied.get_nodes() == part.get_nodes()
        elif hasattr(copied, "retrieve"):
            assert [item.node.node_id for item in copied.retrieve("What?")] == expected
    engine.index.insert(Document(text="Gulls fly.", id_="later"))
    assert len(engine.retrieve("What?")) == len(TEXTS) + 1
    assert str(engine.query("What?")) == "an answer"


def test_stores_round_trip_as_data(tmp_path: Path) -> None:
    store = FaissStore(tmp_path / "index", metric="l2", language="german", cache_size=5)
    for restored in (FaissStore.from_dict(store.to_dict()), FaissStore.from_json(store.to_json())):
        assert restored.to_dict() == store.to_dict()
        assert (restored.path, restored.metric, restored.language, restored.cache_size) == (
            store.path,
            "l2",
            "german",
            5,
        )


def test_a_pickled_engine_has_no_secret(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUR_TOKEN", "s3cr3t-value")
    config["llm"] = {
        "type": "ollama", "model": "x", "base_url": "http://127.0.0.1:1", "headers": {"Authorization": "${OUR_TOKEN}"}
    }  # fmt: skip
    engine = build_engine(config, encoder=Copyable())
    data = pickle.dumps(engine)
    assert b"s3cr3t" not in data
    assert pickle.loads(data).config == engine.config


@pytest.mark.parametrize("chunker", ["sentence", "markdown", "hierarchical", "sentence_window", "token"])
def test_a_chunker_refuses_to_be_pickled_and_works_on(engine: RagEngine, chunker: str) -> None:
    part = build_engine(engine.config, overrides={"chunker": chunker, "sync.on_change": "resync"}, encoder=Hashes())
    chunker_part = part._assembly.chunker
    with pytest.raises(TypeError, match="pickle the config or the engine instead"):
        pickle.dumps(chunker_part)
    assert chunker_part.get_nodes_from_documents([Document(text="Still works.")])


def test_a_real_encoder_and_its_engine_are_copied(config: dict[str, Any], minilm: Any) -> None:
    engine = build_engine(config, encoder=minilm)
    expected = engine.retrieve("What do herons eat?")
    for how in COPIES.values():
        assert [item.score for item in how(engine.index).as_retriever(similarity_top_k=5).retrieve(
            "What do herons eat?")] == pytest.approx([item.score for item in expected])  # fmt: skip
    restored = type(minilm).from_dict(minilm.to_dict())
    assert restored.get_query_embedding("herons") == pytest.approx(minilm.get_query_embedding("herons"))


# ---------------------------------------------------------------------------------- many questions at once


async def test_questions_that_are_asked_together_take_turns_on_the_event_loop(config: dict[str, Any]) -> None:
    passes = 0
    starts: list[int] = []

    class Sleeping(EchoLLM):
        async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
            starts.append(passes)
            await asyncio.sleep(0.05)
            return CompletionResponse(text="an answer")

    class Together(Hashes):
        """Encodes all questions in one batch: they are ready in the same pass."""

        async def _aget_query_embedding(self, query: str) -> list[float]:
            await everyone.wait()
            return self._get_query_embedding(query)

    async def count() -> None:
        nonlocal passes
        while True:
            passes += 1
            await asyncio.sleep(0)

    everyone = asyncio.Event()
    engine = build_engine(config, encoder=Together(), llm=Sleeping(), sync="auto")
    counting = asyncio.create_task(count())
    questions = [asyncio.create_task(engine.aquery(f"question {number}")) for number in range(64)]
    await asyncio.sleep(0.5)
    everyone.set()
    answers = await asyncio.gather(*questions)
    counting.cancel()
    assert {str(answer) for answer in answers} == {"an answer"}
    assert max(Counter(starts).values()) <= 2

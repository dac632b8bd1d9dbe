"""`build_engine` and `RagEngine`: assembled from a file, used wherever LlamaIndex takes a query engine."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import Settings
from llama_index.core.base.llms.types import ChatMessage, CompletionResponse
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import MockLLM
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine, RouterQueryEngine
from llama_index.core.selectors import LLMSingleSelector

import rag_plugin
from rag_plugin import (
    ComponentError,
    ConfigError,
    IndexMismatch,
    IndexNotBuilt,
    MissingLLM,
    QuestionError,
    build_engine,
)
from tests.conftest import MINILM
from tests.fakes import EchoLLM


class SelectingLLM(EchoLLM):
    """Chooses the first of a router's choices, and echoes everything else."""

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        if "choice" in prompt and "reason" in prompt:
            return CompletionResponse(text='[{"choice": 1, "reason": "it is about birds"}]')
        return super().complete(prompt)


@pytest.fixture
def engine(settings: dict[str, Any], minilm: Any) -> Any:
    return build_engine(settings, encoder=minilm, llm=EchoLLM())


def test_a_file_becomes_an_engine_that_answers(write: Any, documents: Path, minilm: Any) -> None:
    path = write(
        f"""
        reader:  {{type: directory, path: ./docs}}
        encoder: {{type: huggingface, model: "{MINILM}"}}
        store:   {{type: faiss, path: ./index}}
        """
    )
    engine = build_engine(path, llm=EchoLLM(), encoder=minilm)
    answer = engine.query("What does a heron eat?")
    assert isinstance(engine, RetrieverQueryEngine)
    assert "eats fish, frogs and eels" in str(answer)
    assert answer.source_nodes[0].node.ref_doc_id == "birds/heron.md"
    assert (path.parent / "index" / "index.sqlite").is_file()


def test_retrieve_gives_the_right_passage_first(engine: Any) -> None:
    found = engine.retrieve("How hot must the oven be for bread?")
    assert found[0].node.ref_doc_id == "oven.txt"
    assert [item.score for item in found] == sorted((item.score for item in found), reverse=True)
    assert all(type(item.score) is float for item in found)


async def test_async_gives_the_same_as_sync(engine: Any) -> None:
    sync_answer = await asyncio.to_thread(engine.query, "What is the pump's code?")
    answer = await engine.aquery("What is the pump's code?")
    found = await engine.aretrieve("What is the pump's code?")
    assert str(answer) == str(sync_answer)
    assert found[0].node.ref_doc_id == "harbour.txt"


def test_asyncio_run_twice_works(engine: Any) -> None:
    answers = [str(asyncio.run(engine.aquery("What is the pump's code?"))) for _ in range(2)]
    assert answers[0] == answers[1]
    assert "OSPREY-31" in answers[0]


def test_questions_from_many_threads_are_all_right(engine: Any) -> None:
    questions = {"heron food": "birds/heron.md", "bread oven": "oven.txt", "harbour pump code": "harbour.txt"}
    wrong: list[str] = []

    def ask(question: str, document: str) -> None:
        for _ in range(5):
            if engine.retrieve(question)[0].node.ref_doc_id != document:
                wrong.append(question)

    threads = [threading.Thread(target=ask, args=item) for item in list(questions.items()) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_parts_are_reachable(engine: Any, minilm: Any) -> None:
    assert engine.encoder is minilm
    assert isinstance(engine.llm, EchoLLM)
    assert isinstance(engine.store, rag_plugin.FaissStore)
    assert engine.index.vector_store is engine.store
    assert engine.retriever.similarity_top_k == 5
    assert engine.config.chunker.type == "sentence"


def test_overrides_change_single_settings(settings: dict[str, Any], minilm: Any) -> None:
    engine = build_engine(settings, overrides={"retriever.top_k": 2, "chunker": "none"}, encoder=minilm)
    assert len(engine.retrieve("birds")) == 2
    assert engine.config.chunker.type == "none"


def test_rerankers_from_the_config_are_applied(settings: dict[str, Any], minilm: Any) -> None:
    settings["rerankers"] = [{"type": "similarity_cutoff", "cutoff": 0.4}]
    engine = build_engine(settings, encoder=minilm)
    assert [item.node.ref_doc_id for item in engine.retrieve("What does a heron eat?")] == ["birds/heron.md"]


def test_injected_rerankers_win(settings: dict[str, Any], minilm: Any) -> None:
    engine = build_engine(settings, encoder=minilm, rerankers=[SimilarityPostprocessor(similarity_cutoff=0.99)])
    assert engine.retrieve("What does a heron eat?") == []


def test_a_part_of_the_wrong_kind_is_refused(settings: dict[str, Any], minilm: Any) -> None:
    with pytest.raises(ComponentError) as caught:
        build_engine(settings, encoder=MockLLM())
    wanted = "llama_index.core.base.embeddings.base.BaseEmbedding"
    assert str(caught.value) == f"the slot 'encoder' takes a {wanted}, not a MockLLM"


def test_an_unknown_slot_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="there is no slot 'oracle'; ready objects go into: reader, chunker"):
        build_engine(settings, oracle=MockLLM())


def test_sync_is_auto_or_never(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="sync is 'auto' or 'never', not 'always'"):
        build_engine(settings, sync="always")  # type: ignore[arg-type]


# ------------------------------------------------------------------ no LLM


def test_without_an_llm_a_query_that_needs_one_says_what_to_add(settings: dict[str, Any], minilm: Any) -> None:
    engine = build_engine({**settings, "synthesizer": "compact"}, encoder=minilm)
    assert engine.retrieve("heron")
    with pytest.raises(MissingLLM) as caught:
        engine.query("What does a heron eat?")
    start = (
        "this engine has no LLM, so it cannot generate text; add one to the config, for example  "
        "llm: {type: ollama, model: llama3.2}; without an LLM there are "
    )
    assert str(caught.value) == start + "retrieve(), and query() with  synthesizer: quote"
    assert caught.value.shell_text == (start + "`rag-plugin search`, and `rag-plugin ask` with  synthesizer: quote")
    assert pickle.loads(pickle.dumps(caught.value)).shell_text == caught.value.shell_text


def test_without_an_llm_an_empty_index_says_so_too(settings: dict[str, Any], minilm: Any, documents: Path) -> None:
    for file in documents.rglob("*.*"):
        file.unlink()
    engine = build_engine({**settings, "synthesizer": "compact"}, encoder=minilm)
    with pytest.raises(MissingLLM):
        engine.query("What does a heron eat?")
    with pytest.raises(MissingLLM):
        asyncio.run(engine.aquery("What does a heron eat?"))
    with pytest.raises(MissingLLM):
        engine.as_chat_engine()


@pytest.mark.parametrize("mode", ["context_only", "no_text"])
def test_modes_that_ask_no_llm_need_none(settings: dict[str, Any], minilm: Any, mode: str) -> None:
    engine = build_engine({**settings, "synthesizer": mode}, encoder=minilm)
    answer = engine.query("What does a heron eat?")
    assert answer.source_nodes[0].node.ref_doc_id == "birds/heron.md"
    assert ("eats fish" in (answer.response or "")) == (mode == "context_only")


# ------------------------------------------------------------------ synthesizers


@pytest.mark.parametrize(
    "mode",
    [
        "compact",
        "refine",
        "tree_summarize",
        "simple_summarize",
        "accumulate",
        "compact_accumulate",
        "generation",
    ],
)
def test_every_response_mode_answers(settings: dict[str, Any], minilm: Any, mode: str) -> None:
    llm = EchoLLM()
    engine = build_engine({**settings, "synthesizer": mode}, encoder=minilm, llm=llm)
    answer = str(engine.query("What does a heron eat?"))
    assert "What does a heron eat?" in answer
    assert llm.asked >= 1


@pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize", "simple_summarize", "generation"])
def test_streaming_gives_the_answer_in_pieces(settings: dict[str, Any], minilm: Any, mode: str) -> None:
    engine = build_engine({**settings, "synthesizer": {"type": mode, "streaming": True}}, encoder=minilm, llm=EchoLLM())
    pieces = list(engine.query("What does a heron eat?").response_gen)
    assert len(pieces) > 3
    assert "heron" in "".join(pieces)


def test_a_template_from_the_config_is_used(settings: dict[str, Any], minilm: Any) -> None:
    settings["synthesizer"] = {"type": "compact", "text_qa_template": "<<{context_str}>> [[{query_str}]]"}
    engine = build_engine(settings, encoder=minilm, llm=EchoLLM())
    answer = str(engine.query("What does a heron eat?"))
    assert answer.startswith("<<")
    assert answer.endswith("[[What does a heron eat?]]")


def test_prompts_can_be_read_and_changed_as_in_llama_index(engine: Any) -> None:
    from llama_index.core import PromptTemplate

    assert "response_synthesizer:text_qa_template" in engine.get_prompts()
    engine.update_prompts({"response_synthesizer:text_qa_template": PromptTemplate("only {query_str}")})
    assert str(engine.query("this")) == "only this"


# ------------------------------------------------------------------ questions


@pytest.mark.parametrize("question", ["", "  \n"], ids=["empty", "blank"])
def test_an_empty_question_is_an_error(engine: Any, question: str) -> None:
    for ask in (engine.query, engine.retrieve):
        with pytest.raises(QuestionError, match="^the question is empty$"):
            ask(question)


def test_a_question_that_is_no_text_is_an_error(engine: Any) -> None:
    with pytest.raises(QuestionError, match="^a question is text, not int$"):
        engine.retrieve(5)


# ------------------------------------------------------------------ nothing global


class _Forbidden:
    """Stands for LlamaIndex's global Settings and fails when anything is read from or written to it.

    But for the handlers of its callbacks, which the splitter inside LlamaIndex's own PromptHelper looks for.
    """

    _callback_manager = None

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the global Settings.{name} was read")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AssertionError(f"the global Settings.{name} was written")


@pytest.fixture
def ready_llm() -> EchoLLM:
    """Made before the global settings are out of bounds, as an application would have."""
    return EchoLLM()


@pytest.fixture
def forbidden_settings(ready_llm: EchoLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every module of LlamaIndex that has imported `Settings` gets one that must not be touched."""
    import sys

    for name, module in list(sys.modules.items()):
        if name.startswith("llama_index") and getattr(module, "Settings", None) is Settings:
            monkeypatch.setattr(module, "Settings", _Forbidden())


def _no_global_tokenizer(*args: Any, **kwargs: Any) -> Any:
    raise AssertionError("the global tokenizer was asked for")


@pytest.mark.parametrize("llm", ["injected", "none"])
@pytest.mark.parametrize(
    "mode", ["compact", "tree_summarize", "accumulate", "quote", "context_only", "no_text", "generation"]
)
def test_no_global_setting_is_read_or_written(
    settings: dict[str, Any],
    minilm: Any,
    ready_llm: EchoLLM,
    forbidden_settings: None,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    llm: str,
) -> None:
    import sys

    for module in [m for n, m in sys.modules.items() if n.startswith("llama_index") and hasattr(m, "get_tokenizer")]:
        monkeypatch.setattr(module, "get_tokenizer", _no_global_tokenizer)
    parts = {"llm": ready_llm} if llm == "injected" else {}
    engine = build_engine({**settings, "synthesizer": mode}, encoder=minilm, **parts)
    assert engine.retrieve("heron")
    if parts or mode in ("quote", "context_only", "no_text"):
        engine.query("What does a heron eat?")
    engine.as_tool()
    engine.sync()


def test_making_a_chat_reads_no_global_setting(
    settings: dict[str, Any], minilm: Any, ready_llm: EchoLLM, forbidden_settings: None
) -> None:
    assert build_engine(settings, encoder=minilm, llm=ready_llm).as_chat_engine().chat_history == []


def test_settings_of_the_application_do_not_reach_the_engine(
    settings: dict[str, Any], minilm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settings, "_llm", MockLLM())
    monkeypatch.setattr(Settings, "_prompt_helper", "not a prompt helper")
    engine = build_engine(settings, encoder=minilm, llm=EchoLLM())
    assert "heron" in str(engine.query("What does a heron eat?"))
    with pytest.raises(MissingLLM):
        build_engine({**settings, "synthesizer": "compact"}, encoder=minilm).query("What does a heron eat?")


def test_the_environment_is_left_alone(settings: dict[str, Any], minilm: Any) -> None:
    import os

    before = dict(os.environ)
    build_engine(settings, encoder=minilm, llm=EchoLLM()).query("heron")
    assert dict(os.environ) == before


def test_the_callback_manager_of_an_injected_llm_is_kept_and_sees_the_events(
    settings: dict[str, Any], minilm: Any
) -> None:
    debug = LlamaDebugHandler(print_trace_on_end=False)
    manager = CallbackManager([debug])
    llm = EchoLLM(callback_manager=manager)
    engine = build_engine(settings, encoder=minilm, llm=llm)
    engine.query("What does a heron eat?")
    assert llm.callback_manager is manager
    for kind in (CBEventType.QUERY, CBEventType.RETRIEVE, CBEventType.SYNTHESIZE, CBEventType.LLM):
        assert debug.get_event_pairs(kind), kind


def test_instrumentation_events_fire_as_in_llama_index(engine: Any) -> None:
    seen: list[str] = []

    class Note(BaseEventHandler):
        def handle(self, event: Any, **kwargs: Any) -> None:
            seen.append(type(event).__name__)

    handler = Note()
    dispatcher = get_dispatcher()
    dispatcher.add_event_handler(handler)
    try:
        engine.query("What does a heron eat?")
    finally:
        dispatcher.event_handlers.remove(handler)
    wanted = ["QueryStartEvent", "RetrievalStartEvent", "RetrievalEndEvent", "SynthesizeStartEvent", "QueryEndEvent"]
    assert [name for name in seen if name in wanted] == wanted


# ------------------------------------------------------------------ in existing applications


async def test_as_a_tool_of_an_agent(settings: dict[str, Any], minilm: Any) -> None:
    from llama_index.core.agent.workflow import ReActAgent

    class AgentLLM(EchoLLM):
        def _next(self, messages: Sequence[ChatMessage]) -> str:
            text = str(messages[-1].content)
            if "Observation:" in text:
                return "Thought: I can answer.\nAnswer: " + text.split("Observation:")[-1].strip()
            return 'Thought: I need the tool.\nAction: search_documents\nAction Input: {"input": "heron food"}'

        def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
            from llama_index.core.base.llms.types import ChatResponse

            return ChatResponse(message=ChatMessage(role="assistant", content=self._next(messages)))

        async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
            from llama_index.core.base.llms.types import ChatResponse

            text = self._next(messages)

            async def stream() -> Any:
                yield ChatResponse(message=ChatMessage(role="assistant", content=text), delta=text)

            return stream()

    engine = build_engine({**settings, "synthesizer": "context_only"}, encoder=minilm)
    agent = ReActAgent(tools=[engine.as_tool()], llm=AgentLLM())
    answer = await agent.run("What does a heron eat?")
    assert "eats fish, frogs and eels" in str(answer)


def test_inside_a_router(settings: dict[str, Any], minilm: Any, tmp_path: Path) -> None:
    birds = build_engine({**settings, "synthesizer": "context_only"}, encoder=minilm)
    other = build_engine(
        {**settings, "synthesizer": "no_text", "store": {"type": "faiss", "path": str(tmp_path / "other")}},
        encoder=minilm,
    )
    llm = SelectingLLM()
    router = RouterQueryEngine(
        selector=LLMSingleSelector.from_defaults(llm=llm),
        query_engine_tools=[
            birds.as_tool(name="birds", description="About birds."),
            other.as_tool(name="other", description="About anything else."),
        ],
        llm=llm,
    )
    assert "eats fish" in str(router.query("What does a heron eat?"))


def test_as_a_chat_engine(settings: dict[str, Any], minilm: Any) -> None:
    llm = EchoLLM()
    chat = build_engine(settings, encoder=minilm, llm=llm).as_chat_engine()
    assert "eats fish" in str(chat.chat("What does a heron eat?"))
    assert len(chat.chat_history) == 2


def test_the_index_takes_documents_by_hand_and_a_sync_leaves_them(engine: Any) -> None:
    from llama_index.core import Document

    engine.index.insert(Document(text="The kestrel hovers over motorway verges.", id_="by-hand"))
    assert engine.retrieve("Which bird hovers over motorways?")[0].node.ref_doc_id == "by-hand"
    engine.sync()
    assert engine.retrieve("Which bird hovers over motorways?")[0].node.ref_doc_id == "by-hand"


# ------------------------------------------------------------------ sync="never"


def test_never_opens_what_is_there(settings: dict[str, Any], minilm: Any, documents: Path) -> None:
    build_engine(settings, encoder=minilm)
    (documents / "new.txt").write_text("The kestrel hovers over motorway verges.")
    engine = build_engine(settings, encoder=minilm, sync="never")
    assert engine.retrieve("kestrel")[0].node.ref_doc_id != "new.txt"
    report = engine.sync()
    assert report.added == ["new.txt"]
    assert engine.retrieve("kestrel")[0].node.ref_doc_id == "new.txt"


def test_never_on_an_index_that_was_not_built_says_so(settings: dict[str, Any], minilm: Any, tmp_path: Path) -> None:
    with pytest.raises(IndexNotBuilt) as caught:
        build_engine(settings, encoder=minilm, sync="never")
    assert str(caught.value) == (f'{tmp_path / "index"}: it was never synced; call build_engine(..., sync="auto")')
    assert caught.value.shell_text == f"{tmp_path / 'index'}: it was never synced; run `rag-plugin sync`"
    assert not (tmp_path / "index").exists()


def test_never_with_another_encoder_names_the_difference(settings: dict[str, Any], minilm: Any, tmp_path: Path) -> None:
    build_engine(settings)
    with pytest.raises(IndexMismatch) as caught:
        build_engine(settings, overrides={"encoder.pooling": "cls"}, sync="never")
    assert caught.value.differences == ["encoder.pooling: 'mean' then, 'cls' now"]
    assert str(caught.value).endswith('build_engine(..., overrides={"sync.on_change": "resync"})')
    assert caught.value.shell_text.endswith("rag-plugin sync --set sync.on_change=resync")
    assert pickle.loads(pickle.dumps(caught.value)).shell_text == caught.value.shell_text


def test_a_ready_encoder_and_the_same_one_from_the_config_share_an_index(settings: dict[str, Any], minilm: Any) -> None:
    build_engine(settings, encoder=minilm)
    engine = build_engine(settings, sync="never")
    assert engine.retrieve("heron")[0].node.ref_doc_id == "birds/heron.md"
    assert engine.sync().texts_encoded == 0


def test_sections_that_are_handed_in_may_be_missing(settings: dict[str, Any], minilm: Any) -> None:
    del settings["encoder"]
    with pytest.raises(ConfigError, match="encoder: this section is missing"):
        build_engine(settings)
    assert build_engine(settings, encoder=minilm).retrieve("heron")


def test_one_part_can_be_built_alone(settings: dict[str, Any], minilm: Any) -> None:
    config = rag_plugin.load_config({**settings, "llm": {"type": "ollama", "model": "qwen3", "max_tokens": 77}})
    llm = config.build("llm")
    assert (llm.model, llm.max_tokens, llm.additional_kwargs) == ("qwen3", 77, {})
    assert config.build("rerankers") == []
    assert config.build("chunker", encoder=minilm).chunk_size == 254


def test_building_an_engine_with_ollama_talks_to_no_server(settings: dict[str, Any], minilm: Any) -> None:
    settings["llm"] = {"type": "ollama", "model": "qwen3", "base_url": "http://127.0.0.1:9"}
    engine = build_engine(settings, encoder=minilm)
    assert engine.retrieve("heron")


def test_a_server_that_is_not_there_is_said_in_one_sentence(settings: dict[str, Any], minilm: Any) -> None:
    settings["llm"] = {"type": "ollama", "model": "qwen3", "base_url": "http://127.0.0.1:9"}
    sentence = (
        "no Ollama server can be reached at http://127.0.0.1:9 for 'qwen3': start it with "
        "`OLLAMA_HOST=127.0.0.1:9 ollama serve`, or set llm.base_url"
    )
    engine = build_engine(settings, encoder=minilm)
    with pytest.raises(rag_plugin.LLMError) as caught:
        engine.query("heron?")
    assert str(caught.value) == sentence
    with pytest.raises(rag_plugin.LLMError, match="no Ollama server can be reached"):
        asyncio.run(engine.aquery("heron?"))
    streaming = build_engine(settings, overrides={"synthesizer.streaming": True}, encoder=minilm)
    with pytest.raises(rag_plugin.LLMError, match="no Ollama server can be reached"):
        list(streaming.query("heron?").response_gen)


# ---------------------------------------------------------------------------------- scores of hybrid search


def test_a_cutoff_on_the_vector_score_of_hybrid_hits(write: Any, documents: Path, minilm: Any) -> None:
    path = write(
        """
        reader: {type: directory, path: ./docs}
        store: {type: faiss, path: ./index}
        retriever: {type: hybrid}
        rerankers:
          - type: similarity_cutoff
            cutoff: 0.4
            on: vector
        """
    )
    engine = build_engine(path, encoder=minilm)
    (found,) = engine.retrieve("What does a heron eat?")
    assert found.node.ref_doc_id == "birds/heron.md"
    unrelated = "Which parliament ratified the treaty?"
    assert engine.retrieve(unrelated) == []
    on_score = build_engine(path, overrides={"rerankers.0.on": "score"}, encoder=minilm)
    assert on_score.retrieve(unrelated)[0].score >= 0.4  # type: ignore[operator]
    vector = build_engine(path, overrides={"retriever.type": "vector"}, encoder=minilm)
    assert [item.node.ref_doc_id for item in vector.retrieve("What does a heron eat?")] == ["birds/heron.md"]
    with pytest.raises(ConfigError, match=r"rerankers\[0\].on: the retriever 'lexical' computes no similarity"):
        build_engine(path, overrides={"retriever.type": "lexical"}, encoder=minilm)

"""`build_engine`: builds a LlamaIndex query engine from a config."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

from llama_index.core.base.response.schema import RESPONSE_TYPE, AsyncStreamingResponse, Response, StreamingResponse
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import NodeWithScore, QueryBundle

from .components.assembly import Assembly, check_slots
from .components.llms.errors import llm_errors
from .components.llms.finish_reasons import finish_reasons
from .components.llms.no_llm import NoLLM
from .components.notebook import MarkdownResponse, markdown_table
from .config import Config, load_config
from .errors import ContextOverflow, MissingLLM, QuestionError, first_names
from .protocols import ServerContext, WarmUp
from .sync import SyncReport, check_index, documents
from .sync import sync as run_sync

if TYPE_CHECKING:
    from llama_index.core import VectorStoreIndex
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.chat_engine.types import BaseChatEngine
    from llama_index.core.llms import LLM
    from llama_index.core.readers.base import BaseReader
    from llama_index.core.schema import BaseNode, Document
    from llama_index.core.tools import QueryEngineTool
    from llama_index.core.vector_stores.types import BasePydanticVectorStore

_log = logging.getLogger(__name__)

_MAX_NAMES_IN_A_WARNING = 3


def build_engine(
    config: str | os.PathLike[str] | Mapping[str, Any] | Config,
    *,
    overrides: Mapping[str, Any] | None = None,
    allow: Collection[str] = (),
    sync: Literal["auto", "never"] = "auto",
    documents: Sequence[Document] | None = None,
    nodes: Sequence[BaseNode] | None = None,
    callback_manager: CallbackManager | None = None,
    **parts: Any,
) -> RagEngine:
    """Build a query engine from a config.

    Args:
        config: The path of a YAML file, a mapping of the same form, or a `Config`.
        overrides: Single settings to change, by dotted path: `{"llm.model": "qwen3"}`.
        allow: Packages, besides llama_index, whose classes the config may name by path.
        sync: `auto` brings the store in line with the documents first; `never` opens the index unchanged.
        documents: Documents in place of the reader's; the store holds exactly these after the sync.
        nodes: Nodes in place of the reader's documents, as they are; those with an `embedding` are not encoded.
        callback_manager: For all parts, such as an app's `Settings.callback_manager`.
        parts: Ready LlamaIndex objects by slot name (`llm=my_llm`, `rerankers=[...]`); they replace the config's.

    Raises:
        TypeError: There is no such slot, or `reader`, `documents` and `nodes` are more than one.
        ConfigError: With all problems of the config.
        ComponentError: A part cannot be built.
        IndexNotBuilt: `sync="never"`, and no sync was ever completed.
        IndexMismatch: The index was built with another encoder, and `sync.on_change` is `error`.
    """
    if sync not in ("auto", "never"):
        raise ValueError(f"sync is 'auto' or 'never', not {sync!r}")
    check_slots(parts)
    if documents is not None or nodes is not None:
        parts["reader"] = _given_reader(documents, nodes, parts)
    checked = load_config(config, overrides=overrides, allow=allow, provided=tuple(parts))
    engine, report = open_engine(checked, parts, sync=sync == "auto", callback_manager=callback_manager)
    if report is not None:
        _warn_of_failed(report)
    return engine


def open_engine(
    config: Config,
    parts: Mapping[str, Any] | None = None,
    *,
    sync: bool,
    callback_manager: CallbackManager | None = None,
) -> tuple[RagEngine, SyncReport | None]:
    """An engine, and the report of the sync if there was one; as `build_engine`, without its warnings."""
    assembly, report = config.assemble(parts, callback_manager), None
    if assembly.has("store") and assembly.has("encoder"):
        if not sync:
            check_index(assembly)
        elif assembly.has("reader"):
            _ = assembly.retriever  # a retriever that does not fit the store is refused before anything is encoded
            report = run_sync(assembly, config.sync)
    return RagEngine(config, assembly), report


def _given_reader(
    documents: Sequence[Document] | None, nodes: Sequence[BaseNode] | None, parts: Mapping[str, Any]
) -> BaseReader:
    from .components.readers.given import GivenDocuments, GivenNodes

    if "reader" in parts or (documents is not None and nodes is not None):
        raise TypeError("pass one of reader, documents and nodes")
    return GivenDocuments(documents) if documents is not None else GivenNodes(nodes or ())


class RagEngine(RetrieverQueryEngine):
    """A `RetrieverQueryEngine` made from a config; use it wherever LlamaIndex takes a query engine.

    Returned by `build_engine`.
    """

    def __init__(self, config: Config, assembly: Assembly) -> None:
        self.config = config
        self._assembly = assembly
        super().__init__(
            retriever=assembly.retriever,
            response_synthesizer=assembly.synthesizer,
            node_postprocessors=list(assembly.rerankers),
            callback_manager=assembly.callback_manager,
        )

    def __reduce__(self) -> tuple[type[RagEngine], tuple[Config, Assembly]]:
        """Pickled and copied as its config and its ready parts; the index stays where it is."""
        return type(self), (self.config, self._assembly)

    def __repr__(self) -> str:
        return f"<RagEngine {self.config.name!r}>"

    def _repr_markdown_(self) -> str:
        from .config.dump import one_line

        rows = [
            (name, "ready object" if name in self._assembly.injected else "; ".join(map(one_line, sections)))
            for name, part in self.config.sections.items()
            if (sections := part if isinstance(part, tuple) else () if part is None else (part,))
            or name in self._assembly.injected
        ]
        return markdown_table(("part", "type and settings"), rows)

    # ------------------------------------------------------------------ parts

    @property
    def index(self) -> VectorStoreIndex:
        """The LlamaIndex index over the store."""
        return self._assembly.index

    @property
    def encoder(self) -> BaseEmbedding:
        """The embedding model."""
        return self._assembly.encoder

    @property
    def llm(self) -> LLM:
        """The LLM; without one in the config, an object that raises `MissingLLM` on use."""
        return self._assembly.llm

    @property
    def store(self) -> BasePydanticVectorStore:
        """The vector store."""
        return self._assembly.store

    def sync(self) -> SyncReport:
        """Bring the store in line with the documents; the next question uses the result.

        Documents that cannot be read are one warning, and in the report with their reasons.
        """
        report = run_sync(self._assembly, self.config.sync)
        _warn_of_failed(report)
        return report

    # ------------------------------------------------------------------ questions

    def query(self, str_or_query_bundle: QueryBundle | str) -> RESPONSE_TYPE:
        """The answer to a question, with its sources."""
        return super().query(_question(str_or_query_bundle))

    async def aquery(self, str_or_query_bundle: QueryBundle | str) -> RESPONSE_TYPE:
        """As `query`."""
        question = _question(str_or_query_bundle)
        await _next_turn()
        return await super().aquery(question)

    def retrieve(self, query_bundle: QueryBundle | str) -> list[NodeWithScore]:
        """The nodes for a question after all rerankers, best first."""
        return super().retrieve(_question(query_bundle))

    async def aretrieve(self, query_bundle: QueryBundle | str) -> list[NodeWithScore]:
        """As `retrieve`."""
        nodes = await super().aretrieve(_question(query_bundle))
        await _next_turn()
        return nodes

    def _query(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        self._require_llm()
        reasons: list[str] = []
        with llm_errors(self.llm), finish_reasons(reasons):
            try:
                response = super()._query(query_bundle)
            except ContextOverflow:
                # The overflow corrected the LLM's token estimate, so the passages are now packed smaller.
                reasons.clear()
                response = super()._query(query_bundle)
        return self._finished(response, query_bundle, reasons)

    async def _aquery(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        self._require_llm()
        reasons: list[str] = []
        with llm_errors(self.llm), finish_reasons(reasons):
            if self.config.uses_llm and isinstance(self.llm, ServerContext):
                await self.llm.aget_context_window()  # LlamaIndex reads it where a request would block the event loop
            try:
                response = await super()._aquery(query_bundle)
            except ContextOverflow:
                reasons.clear()
                response = await super()._aquery(query_bundle)
        return self._finished(response, query_bundle, reasons)

    def _require_llm(self) -> None:
        # Before retrieval, and also if nothing is retrieved and LlamaIndex would not call the LLM.
        injected = "synthesizer" in self._assembly.injected
        if not injected and self.config.uses_llm and isinstance(self.llm, NoLLM):
            raise MissingLLM

    def _finished(self, response: RESPONSE_TYPE, question: QueryBundle, reasons: list[str]) -> RESPONSE_TYPE:
        """The response with its finish reason. A streamed response fails or ends later, while it is read."""
        if isinstance(response, StreamingResponse) and response.response_gen is not None:
            response.response_gen = self._guarded_stream(response, response.response_gen, question, reasons)
        elif isinstance(response, AsyncStreamingResponse) and response.response_gen is not None:
            response.response_gen = self._guarded_async_stream(response, response.response_gen, question, reasons)
        else:
            _add_finish_reason(response, reasons)
        if type(response) is Response:
            return MarkdownResponse(response.response, response.source_nodes, response.metadata)
        return response

    def _guarded_stream(
        self, response: StreamingResponse, stream: Any, question: QueryBundle, reasons: list[str]
    ) -> Generator[str, None, None]:
        has_started = False
        with llm_errors(self.llm):
            while True:
                try:
                    with finish_reasons(reasons):
                        piece = next(stream)
                except StopIteration:
                    break
                except ContextOverflow:
                    if has_started:
                        raise
                    reasons.clear()
                    with self.callback_manager.as_trace("query"):
                        retry: Any = super()._query(question)
                    stream, piece = retry.response_gen, ""
                has_started = True
                yield piece
        _add_finish_reason(response, reasons)

    async def _guarded_async_stream(
        self, response: AsyncStreamingResponse, stream: Any, question: QueryBundle, reasons: list[str]
    ) -> AsyncGenerator[str, None]:
        has_started = False
        with llm_errors(self.llm):
            while True:
                try:
                    with finish_reasons(reasons):
                        piece = await stream.__anext__()
                except StopAsyncIteration:
                    break
                except ContextOverflow:
                    if has_started:
                        raise
                    reasons.clear()
                    with self.callback_manager.as_trace("query"):
                        retry: Any = await super()._aquery(question)
                    stream, piece = retry.response_gen, ""
                has_started = True
                yield piece
        _add_finish_reason(response, reasons)

    def warm_up(self, on_progress: Callable[[Mapping[str, Any]], Any] | None = None) -> None:
        """Load the LLM, so that the first question does not wait for it.

        Args:
            on_progress: Called with the progress of an Ollama download: `status`, `completed` and `total` bytes.

        Raises:
            LLMError: The server or the model is missing.
        """
        if self.config.uses_llm and isinstance(self.llm, WarmUp):
            self.llm.warm_up(on_progress)

    # ------------------------------------------------------------------ as a tool or chat engine

    def as_tool(
        self,
        name: str = "search_documents",
        description: str = "Answers questions from the indexed documents. Input: one complete question in plain words.",
        **settings: Any,
    ) -> QueryEngineTool:
        """This engine as a tool for an agent or a router; `settings` go to `QueryEngineTool.from_defaults`."""
        from llama_index.core.tools import QueryEngineTool

        return QueryEngineTool.from_defaults(query_engine=self, name=name, description=description, **settings)

    def as_chat_engine(
        self, chat_mode: str = "condense_plus_context", *, token_limit: int | None = None, **settings: Any
    ) -> BaseChatEngine:
        """A chat engine over the documents, with memory and this engine's parts.

        Args:
            chat_mode: A `ChatMode` of LlamaIndex: `condense_plus_context`, `condense_question`, `context` or `simple`.
            token_limit: How many tokens of the conversation are kept; unset, half the LLM's context.
            settings: Other arguments of the chat engine, such as `system_prompt` or `memory`.

        Raises:
            MissingLLM: The config has no LLM.
            ValueError: There is no such mode.
        """
        from .components.chat_engines import new_chat_engine

        defaults = {
            "llm": self.llm,
            "retriever": self.retriever,
            "query_engine": self,
            "node_postprocessors": self._node_postprocessors,
            "callback_manager": self.callback_manager,
        }
        return new_chat_engine(chat_mode, token_limit=token_limit, **{**defaults, **settings})


def _warn_of_failed(report: SyncReport) -> None:
    names = [name for name, _ in report.failed]
    if names:
        count, shown = documents(len(names)), first_names(names, _MAX_NAMES_IN_A_WARNING)
        _log.warning("%s cannot be read: %s; engine.sync().failed has the reasons", count, shown)


def _add_finish_reason(response: RESPONSE_TYPE, reasons: Sequence[str]) -> None:
    """Add the finish reason to the metadata: `length` if any part of the answer was truncated."""
    if reasons:
        reason = "length" if "length" in reasons else reasons[-1]
        response.metadata = {**(response.metadata or {}), "finish_reason": reason}


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


async def _next_turn() -> None:
    """Continue one question in each pass of the event loop.

    Questions that are encoded together become ready in the same pass. LlamaIndex computes some milliseconds for each,
    and without turns other tasks would wait for all of them.
    """
    async with _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        await asyncio.sleep(0)


def _question(question: QueryBundle | str) -> QueryBundle:
    bundle = QueryBundle(question) if isinstance(question, str) else question
    if not isinstance(bundle, QueryBundle):
        raise QuestionError(f"a question is text, not {type(question).__name__}")
    if not bundle.query_str.strip() and bundle.embedding is None:
        raise QuestionError("the question is empty")
    return bundle

"""`build_engine`: a config in, a LlamaIndex query engine out."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from llama_index.core.base.response.schema import RESPONSE_TYPE, AsyncStreamingResponse, StreamingResponse
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import NodeWithScore, QueryBundle

from .components.assembly import Assembly
from .components.llms.errors import llm_error
from .components.llms.finish_reasons import finish_reasons
from .components.llms.no_llm import NoLLM
from .config import Config, load_config
from .errors import ContextOverflow, MissingLLM, QuestionError
from .protocols import ServerContext, WarmUp
from .sync import SyncReport, check_index
from .sync import sync as run_sync

if TYPE_CHECKING:
    from llama_index.core import VectorStoreIndex
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.chat_engine import CondensePlusContextChatEngine
    from llama_index.core.llms import LLM
    from llama_index.core.tools import QueryEngineTool
    from llama_index.core.vector_stores.types import BasePydanticVectorStore


def build_engine(
    config: str | os.PathLike[str] | Mapping[str, Any] | Config,
    *,
    overrides: Mapping[str, Any] | None = None,
    allow: Collection[str] = (),
    sync: Literal["auto", "never"] = "auto",
    **parts: Any,
) -> RagEngine:
    """Build a query engine from a config.

    Args:
        config: The path of a YAML file, a mapping of the same form, or a `Config`.
        overrides: Single settings to change, by dotted path: `{"llm.model": "qwen3"}`.
        allow: Packages, besides llama_index, whose classes the config may name by path.
        sync: `auto` brings the store in line with the documents first; `never` opens what is there.
        parts: Ready LlamaIndex objects by slot name (`llm=my_llm`, `rerankers=[...]`); they win over the config.

    Raises:
        ConfigError: The config is wrong; all problems are in it.
        ComponentError: A part cannot be built.
        IndexNotBuilt: `sync="never"` and nothing was ever synced.
        IndexMismatch: The index was made by another encoder and may not be built anew.
    """
    if sync not in ("auto", "never"):
        raise ValueError(f"sync is 'auto' or 'never', not {sync!r}")
    checked = load_config(config, overrides=overrides, allow=allow, provided=tuple(parts))
    assembly = Assembly(checked, parts)
    if assembly.has("store") and assembly.has("encoder"):
        if sync == "never":
            check_index(assembly)
        elif assembly.has("reader"):
            run_sync(assembly)
    return RagEngine(checked, assembly)


class RagEngine(RetrieverQueryEngine):
    """A `RetrieverQueryEngine` made from a config; use it wherever LlamaIndex takes a query engine.

    Make one with `build_engine`.
    """

    def __init__(self, config: Config, assembly: Assembly) -> None:
        self.config = config
        self._assembly = assembly
        super().__init__(
            retriever=assembly.get("retriever"),
            response_synthesizer=assembly.get("synthesizer"),
            node_postprocessors=list(assembly.get("rerankers")),
            callback_manager=assembly.get("callback_manager"),
        )

    def __repr__(self) -> str:
        return f"<RagEngine {self.config.name!r}>"

    # ------------------------------------------------------------------ parts

    @property
    def index(self) -> VectorStoreIndex:
        """The LlamaIndex index over the store, for whatever else LlamaIndex builds on one."""
        return self._assembly.get("index")  # type: ignore[no-any-return]

    @property
    def encoder(self) -> BaseEmbedding:
        """What turns text into vectors."""
        return self._assembly.get("encoder")  # type: ignore[no-any-return]

    @property
    def llm(self) -> LLM:
        """What writes the answer; without an LLM in the config, an object that says so when it is asked."""
        return self._assembly.get("llm")  # type: ignore[no-any-return]

    @property
    def store(self) -> BasePydanticVectorStore:
        """Where nodes and vectors are kept."""
        return self._assembly.get("store")  # type: ignore[no-any-return]

    def sync(self) -> SyncReport:
        """Bring the store in line with the documents as they are now; questions see it at once."""
        return run_sync(self._assembly)

    # ------------------------------------------------------------------ questions

    def retrieve(self, query_bundle: QueryBundle | str) -> list[NodeWithScore]:
        """The nodes for a question, best first, after all rerankers."""
        return super().retrieve(_question(query_bundle))

    async def aretrieve(self, query_bundle: QueryBundle | str) -> list[NodeWithScore]:
        """As `retrieve`."""
        return await super().aretrieve(_question(query_bundle))

    def _query(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        self._refuse_without_llm()
        _question(query_bundle)
        reasons: list[str] = []
        with self._clear_errors(), finish_reasons(reasons):
            try:
                response = super()._query(query_bundle)
            except ContextOverflow:
                # The LLM has learnt from it how many tokens this text has, and the passages are packed smaller now.
                reasons.clear()
                response = super()._query(query_bundle)
        return self._finished(response, query_bundle, reasons)

    async def _aquery(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        self._refuse_without_llm()
        _question(query_bundle)
        reasons: list[str] = []
        with self._clear_errors(), finish_reasons(reasons):
            if self.config.asks_llm and isinstance(self.llm, ServerContext):
                await self.llm.aget_context_window()  # LlamaIndex asks for it when it must not wait
            try:
                response = await super()._aquery(query_bundle)
            except ContextOverflow:
                reasons.clear()
                response = await super()._aquery(query_bundle)
        return self._finished(response, query_bundle, reasons)

    def _refuse_without_llm(self) -> None:
        # Before anything is searched, and also where nothing is found and LlamaIndex would not ask the LLM.
        injected = "synthesizer" in self._assembly.injected
        if not injected and self.config.asks_llm and isinstance(self.llm, NoLLM):
            raise MissingLLM

    @contextmanager
    def _clear_errors(self) -> Generator[None, None, None]:
        try:
            yield
        except Exception as error:  # the seam to LLM servers: what is not theirs goes on as it is
            clear = llm_error(self.llm, error)
            if clear is None:
                raise
            raise clear from error

    def _finished(self, response: RESPONSE_TYPE, question: QueryBundle, reasons: list[str]) -> RESPONSE_TYPE:
        """The response, which says why it ended; a streamed one fails and ends while it is read, long after this."""
        if isinstance(response, StreamingResponse) and response.response_gen is not None:
            response.response_gen = self._guarded_stream(response, response.response_gen, question, reasons)
        elif isinstance(response, AsyncStreamingResponse) and response.response_gen is not None:
            response.response_gen = self._guarded_async_stream(response, response.response_gen, question, reasons)
        else:
            _say_why(response, reasons)
        return response

    def _guarded_stream(
        self, response: StreamingResponse, stream: Any, question: QueryBundle, reasons: list[str]
    ) -> Generator[str, None, None]:
        given = False
        with self._clear_errors():
            while True:
                try:
                    with finish_reasons(reasons):
                        piece = next(stream)
                except StopIteration:
                    break
                except ContextOverflow:
                    if given:
                        raise
                    reasons.clear()
                    with self.callback_manager.as_trace("query"):
                        again: Any = super()._query(question)
                    stream, piece = again.response_gen, ""
                given = True
                yield piece
        _say_why(response, reasons)

    async def _guarded_async_stream(
        self, response: AsyncStreamingResponse, stream: Any, question: QueryBundle, reasons: list[str]
    ) -> AsyncGenerator[str, None]:
        given = False
        with self._clear_errors():
            while True:
                try:
                    with finish_reasons(reasons):
                        piece = await stream.__anext__()
                except StopAsyncIteration:
                    break
                except ContextOverflow:
                    if given:
                        raise
                    reasons.clear()
                    with self.callback_manager.as_trace("query"):
                        again: Any = await super()._aquery(question)
                    stream, piece = again.response_gen, ""
                given = True
                yield piece
        _say_why(response, reasons)

    def warm_up(self, on_progress: Callable[[Mapping[str, Any]], Any] | None = None) -> None:
        """Load the LLM where it has to be loaded, so that the first question does not wait for it.

        Args:
            on_progress: Called with each progress line of a download: `status`, `completed`, `total`.

        Raises:
            LLMError: The server or the model is not there.
        """
        if self.config.asks_llm and isinstance(self.llm, WarmUp):
            self.llm.warm_up(on_progress)

    # ------------------------------------------------------------------ other forms

    def as_tool(
        self,
        name: str = "search_documents",
        description: str = "Answers questions from the indexed documents. Input: one complete question in plain words.",
        **settings: Any,
    ) -> QueryEngineTool:
        """This engine as a tool for an agent or a router; `settings` go to `QueryEngineTool.from_defaults`."""
        from llama_index.core.tools import QueryEngineTool

        return QueryEngineTool.from_defaults(query_engine=self, name=name, description=description, **settings)

    def as_chat_engine(self, *, token_limit: int | None = None, **settings: Any) -> CondensePlusContextChatEngine:
        """A chat over the documents that remembers what was said.

        LLM, encoder and retriever are this engine's. LlamaIndex's chat engine itself packs its prompts by
        `Settings.prompt_helper` where an application has set one.

        Args:
            token_limit: The most tokens of the conversation that are kept; unset, half the LLM's context.
            settings: Anything else that `CondensePlusContextChatEngine` takes.
        """
        from llama_index.core.chat_engine import CondensePlusContextChatEngine
        from llama_index.core.memory import ChatMemoryBuffer

        from .components.llms.prompt_helpers import llm_tokenizer

        if isinstance(self.llm, NoLLM):
            raise MissingLLM
        limit = token_limit or self.llm.metadata.context_window // 2
        memory = ChatMemoryBuffer.from_defaults(token_limit=limit, tokenizer_fn=llm_tokenizer(self.llm))
        # Not from_defaults, which takes its callback manager from the global Settings.
        return CondensePlusContextChatEngine(
            **{
                "retriever": self.retriever,
                "llm": self.llm,
                "memory": memory,
                "node_postprocessors": self._node_postprocessors,
                "callback_manager": self.callback_manager,
                **settings,
            }
        )


def _say_why(response: RESPONSE_TYPE, reasons: Sequence[str]) -> None:
    """Put why the answer ended into its metadata: `length` where any part of it was cut short."""
    if reasons:
        reason = "length" if "length" in reasons else reasons[-1]
        response.metadata = {**(response.metadata or {}), "finish_reason": reason}


def _question(question: QueryBundle | str) -> QueryBundle:
    bundle = QueryBundle(question) if isinstance(question, str) else question
    if not isinstance(bundle, QueryBundle):
        raise QuestionError(f"a question is text, not {type(question).__name__}")
    if not bundle.query_str.strip() and bundle.embedding is None:
        raise QuestionError("the question is empty")
    return bundle

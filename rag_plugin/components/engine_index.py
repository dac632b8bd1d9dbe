"""The LlamaIndex index of an engine: what is built from it uses the engine's parts, never the global `Settings`."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Protocol

from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.llms.utils import LLMType, resolve_llm
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import BaseSynthesizer, get_response_synthesizer
from llama_index.core.retrievers import VectorIndexRetriever
from llama_index.core.storage.docstore.types import RefDocInfo

from .chat_engines import new_chat_engine
from .chunkers.document_splitter import LazyDocumentSplitter
from .llms.prompt_helpers import prompt_helpers
from .stores.docstore import StoreDocstore, shows_nodes

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.chat_engine.types import BaseChatEngine
    from llama_index.core.llms import LLM
    from llama_index.core.vector_stores.types import BasePydanticVectorStore

    from .chunkers.document_splitter import DocumentSplitter

_TEMPLATES = ("text_qa_template", "refine_template", "summary_template", "simple_template")
_SYNTHESIZER_ARGUMENTS = frozenset(inspect.signature(get_response_synthesizer).parameters)


class EngineParts(Protocol):
    """The parts of an engine that its index uses."""

    @property
    def encoder(self) -> BaseEmbedding: ...
    @property
    def store(self) -> BasePydanticVectorStore: ...
    @property
    def llm(self) -> LLM: ...
    @property
    def synthesizer(self) -> BaseSynthesizer: ...
    @property
    def encoder_callback_manager(self) -> CallbackManager: ...
    def new_splitter(self) -> DocumentSplitter: ...


class EngineIndex(VectorStoreIndex):
    """A `VectorStoreIndex` over the store of an engine."""

    def __init__(self, parts: EngineParts) -> None:
        self._parts = parts
        store = parts.store
        super().__init__(
            nodes=[],
            embed_model=parts.encoder,
            storage_context=StorageContext.from_defaults(
                vector_store=store, docstore=StoreDocstore(store) if shows_nodes(store) else None
            ),
            callback_manager=parts.encoder_callback_manager,
            transformations=[LazyDocumentSplitter(parts.new_splitter)],
        )

    def __reduce__(self) -> tuple[type[EngineIndex], tuple[EngineParts]]:
        """Pickled and copied as the engine's config: the index itself is in the store."""
        return type(self), (self._parts,)

    @property
    def ref_doc_info(self) -> dict[str, RefDocInfo]:
        """By document id, the node ids and the metadata of each document in the store."""
        if isinstance(self.docstore, StoreDocstore):
            return self.docstore.get_all_ref_doc_info() or {}
        return super().ref_doc_info

    def as_retriever(self, **kwargs: Any) -> BaseRetriever:
        """A `VectorIndexRetriever` over all nodes; `kwargs` are its arguments.

        LlamaIndex's own method restricts it to the index and image nodes that were inserted here, if there are any.
        """
        defaults: dict[str, Any] = {"callback_manager": self._callback_manager, "object_map": self._object_map}
        if not self._vector_store.stores_text:
            defaults["node_ids"] = list(self.index_struct.nodes_dict.values())
        return VectorIndexRetriever(self, **{**defaults, **kwargs})

    def as_query_engine(self, llm: LLMType | None = None, **kwargs: Any) -> RetrieverQueryEngine:
        """As LlamaIndex's method, with the engine's LLM, callback manager, synthesizer and prompts as defaults."""
        return RetrieverQueryEngine(
            retriever=self.as_retriever(**kwargs),
            response_synthesizer=kwargs.get("response_synthesizer") or self._synthesizer(llm, kwargs),
            node_postprocessors=kwargs.get("node_postprocessors"),
            callback_manager=kwargs.get("callback_manager") or self._callback_manager,
        )

    def _synthesizer(self, llm: LLMType | None, kwargs: dict[str, Any]) -> BaseSynthesizer:
        own = self._parts.synthesizer
        given = {name: value for name, value in kwargs.items() if name in _SYNTHESIZER_ARGUMENTS and value is not None}
        if llm is None and not given.keys() - {"callback_manager"}:
            return own
        model = self._llm(llm)
        prompt_helper, chat_prompt_helper = prompt_helpers(model)
        templates = {name: prompt for name, prompt in own.get_prompts().items() if name in _TEMPLATES}
        defaults = {
            "llm": model,
            "callback_manager": self._callback_manager,
            "prompt_helper": prompt_helper,
            "chat_prompt_helper": chat_prompt_helper,
        }
        return get_response_synthesizer(**{**defaults, **templates, **given})

    def as_chat_engine(  # type: ignore[override]
        self, chat_mode: str = "best", llm: LLMType | None = None, **kwargs: Any
    ) -> BaseChatEngine:
        """As LlamaIndex's method, with the engine's LLM and callback manager as defaults."""
        defaults = {
            "llm": self._llm(llm),
            "retriever": self.as_retriever(**kwargs),
            "query_engine": self.as_query_engine(llm, **kwargs),
            "callback_manager": self._callback_manager,
        }
        return new_chat_engine(chat_mode, **{**defaults, **kwargs})

    def _llm(self, llm: LLMType | None) -> LLM:
        return resolve_llm(llm, callback_manager=self._callback_manager) if llm else self._parts.llm

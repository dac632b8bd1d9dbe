"""A retriever that uses lexical search alone."""

from __future__ import annotations

from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)

from ...errors import ComponentError
from .distinct import Distinct

# LlamaIndex's stores that search vectors only: some of them ignore the mode of a query.
_WITHOUT_WORDS = ("SimpleVectorStore", "FaissVectorStore", "FaissMapVectorStore", "ChromaVectorStore")


def check_lexical(store: BasePydanticVectorStore, retriever: str) -> None:
    """Check that a store can search words.

    Raises:
        ComponentError: It searches vectors only.
    """
    if getattr(store, "lexical", True) is False:
        raise ComponentError(f"retriever: {retriever!r} needs the BM25 index: build the store with lexical=True")
    if type(store).__name__ in _WITHOUT_WORDS:
        raise ComponentError(
            f"retriever: {retriever!r} needs a store that searches words, and {type(store).__name__} searches vectors "
            "only: use the retriever 'vector', or the store 'faiss'"
        )


class LexicalRetriever(BaseRetriever):
    """Queries a store in the mode TEXT_SEARCH. LlamaIndex's `VectorIndexRetriever` encodes the question in every mode.

    Args:
        store: A vector store with the mode TEXT_SEARCH that keeps the nodes' text.
        top_k: Maximum number of nodes.
        filters: Conditions on the nodes' metadata.
        distinct: Which hits are duplicates.
    """

    def __init__(
        self,
        store: BasePydanticVectorStore,
        top_k: int,
        callback_manager: CallbackManager | None = None,
        filters: MetadataFilters | None = None,
        distinct: Distinct = Distinct(),  # noqa: B008 - immutable
    ) -> None:
        self._store, self._top_k, self._filters, self._distinct = store, top_k, filters, distinct
        super().__init__(callback_manager=callback_manager)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._store, self._top_k, self.callback_manager, self._filters, self._distinct)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self._distinct.fill(
            self._top_k, lambda depth: _scored(self._store.query(self._query(query_bundle, depth)))
        )

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        async def search(depth: int) -> list[NodeWithScore]:
            return _scored(await self._store.aquery(self._query(query_bundle, depth)))

        return await self._distinct.afill(self._top_k, search)

    def _query(self, question: QueryBundle, top_k: int) -> VectorStoreQuery:
        return VectorStoreQuery(
            query_str=question.query_str,
            similarity_top_k=top_k,
            mode=VectorStoreQueryMode.TEXT_SEARCH,
            filters=self._filters,
        )


def _scored(result: VectorStoreQueryResult) -> list[NodeWithScore]:
    scores = result.similarities or []
    return [NodeWithScore(node=node, score=score) for node, score in zip(result.nodes or [], scores)]

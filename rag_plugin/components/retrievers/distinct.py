"""Removes hits with the text of a better hit, and retrieves others in their place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core import VectorStoreIndex
from llama_index.core.retrievers import VectorIndexRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle

from ..encoders.long_texts import warn_of_long_questions

_DEPTH_FACTOR = 4
_SHINGLE_WORDS = 3


@dataclass(frozen=True)
class Distinct:
    """Which hits count as duplicates.

    Attributes:
        identical: Hits with the same text, apart from white space.
        near: Hits with at least this Jaccard similarity of their sequences of three words (Broder 1997); None: none.
    """

    identical: bool = True
    near: float | None = None

    def fill(self, top_k: int, retrieve: Callable[[int], list[NodeWithScore]]) -> list[NodeWithScore]:
        """The best `top_k` distinct hits of `retrieve`, which gets the number of hits to return."""
        depth = top_k
        while True:
            hits = retrieve(depth)
            distinct = self.of(hits)
            if self._is_enough(len(distinct), len(hits), top_k, depth):
                return distinct[:top_k]
            depth *= _DEPTH_FACTOR

    async def afill(self, top_k: int, retrieve: Callable[[int], Awaitable[list[NodeWithScore]]]) -> list[NodeWithScore]:
        """As `fill`."""
        depth = top_k
        while True:
            hits = await retrieve(depth)
            distinct = self.of(hits)
            if self._is_enough(len(distinct), len(hits), top_k, depth):
                return distinct[:top_k]
            depth *= _DEPTH_FACTOR

    def _is_enough(self, distinct: int, retrieved: int, top_k: int, depth: int) -> bool:
        return distinct >= min(top_k, retrieved) or retrieved < depth

    def of(self, hits: Sequence[NodeWithScore]) -> list[NodeWithScore]:
        """The hits without the duplicates of better ones."""
        kept: list[NodeWithScore] = []
        documents: dict[str, set[str | None]] = {}  # by text
        shingles: list[frozenset[tuple[str, ...]]] = []
        for hit in hits:
            # For the chunker `sentence_window`, the LLM reads the window.
            words = str(hit.node.metadata.get("window") or hit.node.get_content()).split()
            text = " ".join(words)
            document, seen = hit.node.ref_doc_id, documents.get(text, set())
            # The reranker `auto_merging` counts the nodes of a parent, equal ones too.
            if self.identical and seen and not ("parents" in hit.node.metadata and document in seen):
                continue
            if self.near is not None:
                own = _shingles(words)
                if any(len(own & other) >= self.near * len(own | other) for other in shingles):
                    continue
                shingles.append(own)
            documents.setdefault(text, set()).add(document)
            kept.append(hit)
        return kept


def _shingles(words: Sequence[str]) -> frozenset[tuple[str, ...]]:
    lower = [word.casefold() for word in words]
    return frozenset(zip(*(lower[start:] for start in range(min(_SHINGLE_WORDS, len(lower))))))


class DistinctRetriever(VectorIndexRetriever):
    """A `VectorIndexRetriever` without duplicates among its `similarity_top_k` hits."""

    def __init__(self, index: VectorStoreIndex, distinct: Distinct, **arguments: Any) -> None:
        super().__init__(index, **arguments)
        self._distinct, self._arguments = distinct, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._index, self._distinct, self._arguments)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        warn_of_long_questions(self._embed_model, query_bundle.embedding_strs)
        return super()._retrieve(query_bundle)

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        warn_of_long_questions(self._embed_model, query_bundle.embedding_strs)
        return await super()._aretrieve(query_bundle)

    def _get_nodes_with_embeddings(self, query_bundle_with_embeddings: QueryBundle) -> list[NodeWithScore]:
        search = VectorIndexRetriever._get_nodes_with_embeddings
        return self._distinct.fill(
            self._similarity_top_k, lambda depth: search(self._at(depth), query_bundle_with_embeddings)
        )

    async def _aget_nodes_with_embeddings(self, query_bundle_with_embeddings: QueryBundle) -> list[NodeWithScore]:
        search = VectorIndexRetriever._aget_nodes_with_embeddings
        return await self._distinct.afill(
            self._similarity_top_k, lambda depth: search(self._at(depth), query_bundle_with_embeddings)
        )

    def _at(self, depth: int) -> VectorIndexRetriever:
        """This retriever for another number of hits; concurrent questions share the object."""
        deeper = object.__new__(DistinctRetriever)
        deeper.__dict__.update(self.__dict__)
        deeper._similarity_top_k = depth
        return deeper


def _restore(index: VectorStoreIndex, distinct: Distinct, arguments: dict[str, Any]) -> DistinctRetriever:
    return DistinctRetriever(index, distinct, **arguments)

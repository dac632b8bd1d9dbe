"""Retrievers: they find nodes for a question."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

if TYPE_CHECKING:
    from llama_index.core import VectorStoreIndex
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.vector_stores.types import BasePydanticVectorStore

TopK = Annotated[int, Field(gt=0, description="How many nodes are retrieved.")]

DEFAULT_TOP_K = 5

Dedupe = Annotated[
    bool, Field(description="Skip a node whose text equals that of a better hit, and retrieve another one for it.")
]
NearDuplicates = Annotated[
    float | None,
    Field(
        gt=0,
        le=1,
        description="Also skip a node whose text is nearly that of a better hit: the Jaccard similarity of their "
        "sequences of three words is at least this; .9 is a changed word or two in a paragraph.",
    ),
]


def vector(
    index: VectorStoreIndex,
    callback_manager: CallbackManager,
    *,
    top_k: TopK = DEFAULT_TOP_K,
    dedupe: Dedupe = True,
    near_duplicates: NearDuplicates = None,
) -> BaseRetriever:
    """The nodes whose vectors are nearest to the question's."""
    from .distinct import Distinct, DistinctRetriever

    distinct = Distinct(dedupe, near_duplicates)
    return DistinctRetriever(index, distinct, similarity_top_k=top_k, callback_manager=callback_manager)


def lexical(
    store: BasePydanticVectorStore,
    callback_manager: CallbackManager,
    *,
    top_k: TopK = DEFAULT_TOP_K,
    dedupe: Dedupe = True,
    near_duplicates: NearDuplicates = None,
) -> BaseRetriever:
    """The nodes with the best BM25 score; nothing is encoded."""
    from .distinct import Distinct
    from .lexical import LexicalRetriever, check_lexical

    check_lexical(store, "lexical")
    return LexicalRetriever(store, top_k, callback_manager, distinct=Distinct(dedupe, near_duplicates))


def hybrid(
    index: VectorStoreIndex,
    callback_manager: CallbackManager,
    *,
    top_k: TopK = DEFAULT_TOP_K,
    alpha: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="The weight of the vector score; the lexical score has the rest. 1 is the same as `vector`.",
        ),
    ] = 0.5,
    fusion: Annotated[
        Literal["relative_score", "reciprocal_rank"],
        Field(
            description="How the rankings are combined: by their scores, each scaled to 0..1 over its best 100, or by "
            "rank alone, as 1 / (60 + rank)."
        ),
    ] = "relative_score",
    dedupe: Dedupe = True,
    near_duplicates: NearDuplicates = None,
) -> BaseRetriever:
    """The nodes with the best combined vector and lexical score."""
    from llama_index.core.vector_stores.types import VectorStoreQueryMode

    from .distinct import Distinct, DistinctRetriever
    from .lexical import check_lexical

    check_lexical(index.vector_store, "hybrid")
    return DistinctRetriever(
        index,
        Distinct(dedupe, near_duplicates),
        similarity_top_k=top_k,
        vector_store_query_mode=VectorStoreQueryMode.HYBRID,
        alpha=alpha,
        vector_store_kwargs={"fusion": fusion},
        callback_manager=callback_manager,
    )

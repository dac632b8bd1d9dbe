"""Rerankers: they reorder and filter the retrieved nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

if TYPE_CHECKING:
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.vector_stores.types import BasePydanticVectorStore


def similarity_cutoff(
    callback_manager: CallbackManager,
    *,
    cutoff: Annotated[float, Field(description="Nodes with a lower score are dropped.")],
    on: Annotated[
        Literal["score", "vector"],
        Field(
            description="Which score: the retriever's, or `vector`, the similarity of the vectors. The retriever "
            "`hybrid` scales its scores so that the best hit of any question may have 1."
        ),
    ] = "score",
) -> BaseNodePostprocessor:
    """Drops nodes with a score below the cutoff."""
    from .similarity_cutoff import SimilarityCutoff

    return SimilarityCutoff(cutoff=cutoff, on=on, callback_manager=callback_manager)


def window(callback_manager: CallbackManager) -> BaseNodePostprocessor:
    """Replaces each retrieved sentence by its window, for the LLM; for the chunker `sentence_window`."""
    from .window import Window

    return Window(callback_manager=callback_manager)


def auto_merging(
    store: BasePydanticVectorStore,
    callback_manager: CallbackManager,
    *,
    threshold: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="The share of a parent's text that has to be retrieved for the parent to replace its nodes.",
        ),
    ] = 0.5,
) -> BaseNodePostprocessor:
    """Replaces nodes by their parent if enough of the parent was retrieved; for the chunker `hierarchical`."""
    from .auto_merging import AutoMerging

    return AutoMerging(store=store, threshold=threshold, callback_manager=callback_manager)

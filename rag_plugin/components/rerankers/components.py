"""Rerankers: what sorts and thins out the nodes that were found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

if TYPE_CHECKING:
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.vector_stores.types import BasePydanticVectorStore


def similarity_cutoff(
    callback_manager: CallbackManager,
    *,
    cutoff: Annotated[float, Field(description="Nodes with a lower score are dropped.")],
) -> BaseNodePostprocessor:
    """Drops nodes that are less similar to the question than the cutoff."""
    from llama_index.core.postprocessor import SimilarityPostprocessor

    return SimilarityPostprocessor(similarity_cutoff=cutoff, callback_manager=callback_manager)


def window(callback_manager: CallbackManager) -> BaseNodePostprocessor:
    """Gives the LLM the sentences around each one that was found; for the chunker `sentence_window`."""
    from llama_index.core.postprocessor import MetadataReplacementPostProcessor

    replace = MetadataReplacementPostProcessor(target_metadata_key="window")
    replace.callback_manager = callback_manager
    return replace


def auto_merging(
    store: BasePydanticVectorStore,
    callback_manager: CallbackManager,
    *,
    threshold: Annotated[
        float,
        Field(gt=0, le=1, description="The share of a parent's text that has to be found for the parent to take over."),
    ] = 0.5,
) -> BaseNodePostprocessor:
    """Gives a parent for its nodes where enough of them were found; for the chunker `hierarchical`."""
    from .auto_merging import AutoMerging

    return AutoMerging(store=store, threshold=threshold, callback_manager=callback_manager)

"""Rerankers: what sorts and thins out the nodes that were found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

if TYPE_CHECKING:
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.postprocessor.types import BaseNodePostprocessor


def similarity_cutoff(
    callback_manager: CallbackManager,
    *,
    cutoff: Annotated[float, Field(description="Nodes with a lower score are dropped.")],
) -> BaseNodePostprocessor:
    """Drops nodes that are less similar to the question than the cutoff."""
    from llama_index.core.postprocessor import SimilarityPostprocessor

    return SimilarityPostprocessor(similarity_cutoff=cutoff, callback_manager=callback_manager)

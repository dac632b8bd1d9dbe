"""Retrievers: how a question finds nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

if TYPE_CHECKING:
    from llama_index.core import VectorStoreIndex
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.callbacks import CallbackManager


def vector(
    index: VectorStoreIndex,
    callback_manager: CallbackManager,
    *,
    top_k: Annotated[int, Field(gt=0, description="How many nodes a question gets.")] = 5,
) -> BaseRetriever:
    """The nodes whose vectors are nearest to the question's."""
    from llama_index.core.retrievers import VectorIndexRetriever

    return VectorIndexRetriever(index, similarity_top_k=top_k, callback_manager=callback_manager)

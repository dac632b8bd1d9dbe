"""Chunkers: how a document is cut into nodes. Sizes count in the encoder's own tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..registry import rule

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.node_parser import NodeParser

Size = Annotated[
    int | None,
    Field(
        gt=0,
        description="The most tokens a node has, in the encoder's tokens; unset, what the encoder sees at once.",
    ),
]
Overlap = Annotated[
    int | None,
    Field(
        ge=0,
        description="How many tokens neighbouring nodes may share; less than the size. Unset, an eighth of the size.",
    ),
]


def _overlap_below_size(settings: dict[str, Any]) -> Iterable[tuple[str, str, str]]:
    size, overlap = settings["chunk_size"], settings["overlap"]
    if size is not None and overlap is not None and overlap >= size:
        yield "overlap", f"an overlap of {overlap} leaves nothing of a chunk_size of {size}", "make it smaller"


@rule(_overlap_below_size)
def sentence(
    encoder: BaseEmbedding, callback_manager: CallbackManager, *, chunk_size: Size = None, overlap: Overlap = None
) -> NodeParser:
    """Cuts between sentences and paragraphs, filling each node up to the size."""
    from llama_index.core.node_parser import SentenceSplitter

    from ..tokens import tokenizer_of

    size, shared = _sizes(encoder, chunk_size, overlap)
    return SentenceSplitter(
        chunk_size=size, chunk_overlap=shared, tokenizer=tokenizer_of(encoder), callback_manager=callback_manager
    )


@rule(_overlap_below_size)
def token(
    encoder: BaseEmbedding, callback_manager: CallbackManager, *, chunk_size: Size = None, overlap: Overlap = None
) -> NodeParser:
    """Cuts between words when the size is reached, wherever that is."""
    from llama_index.core.node_parser import TokenTextSplitter

    from ..tokens import tokenizer_of

    size, shared = _sizes(encoder, chunk_size, overlap)
    return TokenTextSplitter(
        chunk_size=size, chunk_overlap=shared, tokenizer=tokenizer_of(encoder), callback_manager=callback_manager
    )


@rule(_overlap_below_size)
def markdown(
    encoder: BaseEmbedding, callback_manager: CallbackManager, *, chunk_size: Size = None, overlap: Overlap = None
) -> NodeParser:
    """Cuts at headings, and at sentences where a section is longer than the size."""
    from llama_index.core.node_parser import MarkdownNodeParser

    from ..chunking import SizedMarkdown

    return SizedMarkdown(
        headings=MarkdownNodeParser(callback_manager=callback_manager),
        sizes=sentence(encoder, callback_manager, chunk_size=chunk_size, overlap=overlap),
        callback_manager=callback_manager,
    )


def none(callback_manager: CallbackManager) -> NodeParser:
    """Cuts nothing: a document is a node."""
    from ..chunking import WholeDocument

    return WholeDocument(callback_manager=callback_manager)


def _sizes(encoder: BaseEmbedding, chunk_size: int | None, overlap: int | None) -> tuple[int, int]:
    from ..errors import ComponentError
    from ..tokens import capacity

    size = chunk_size or capacity(encoder)
    if overlap is None:
        return size, size // 8
    if overlap >= size:
        raise ComponentError(
            f"chunker: an overlap of {overlap} leaves nothing of the {size} tokens that the encoder sees"
        )
    return size, overlap

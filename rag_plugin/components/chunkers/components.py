"""Chunkers: they split a document into nodes, with sizes in the encoder's own tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from ..registry.component import rule

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.node_parser import NodeParser

Size = Annotated[
    int | None,
    Field(
        gt=0,
        description="Maximum size of a node in the encoder's tokens; unset, the encoder's input length, at most 1,024.",
    ),
]
Overlap = Annotated[
    int | None,
    Field(
        ge=0,
        description="How many tokens adjacent nodes may share; less than the size. Unset, an eighth of the size.",
    ),
]
FixedOverlap = Annotated[int, Field(ge=0, description="How many tokens adjacent nodes may share; less than the size.")]


def _no_volatile(settings: dict[str, Any]) -> Iterable[tuple[str, str, str]]:
    from ..readers.listing import VOLATILE_METADATA

    for key in settings["embed_metadata"]:
        if key in VOLATILE_METADATA:
            message = f"{key!r} differs in every copy of a file, so all vectors would change"
            yield "embed_metadata", message, "remove it"


@rule(_no_volatile)
def common(
    *,
    embed_metadata: Annotated[
        tuple[str, ...],
        Field(
            description="Metadata keys that are encoded together with a node's text, such as `title` or "
            "`header_path`; they count towards the size. Absolute paths and dates are never encoded."
        ),
    ] = (),
    too_long: Annotated[
        Literal["split", "warn", "error"],
        Field(
            description="What to do with a node that is longer than the encoder's input: split it with a warning, keep "
            "it and report how much text is in no vector, or fail the document."
        ),
    ] = "split",
) -> None:
    """Settings of every chunker, also of a LlamaIndex class or a ready object; the engine applies them."""


def _overlap_below_size(settings: dict[str, Any]) -> Iterable[tuple[str, str, str]]:
    size, overlap = settings["chunk_size"], settings["chunk_overlap"]
    if size is not None and overlap is not None and overlap >= size:
        yield "chunk_overlap", f"{overlap} is not less than the chunk_size of {size}", "make it smaller"


@rule(_overlap_below_size)
def sentence(
    encoder: BaseEmbedding, callback_manager: CallbackManager, *, chunk_size: Size = None, chunk_overlap: Overlap = None
) -> NodeParser:
    """Splits at headings, paragraphs and sentences, at the best boundary in the second half of the size.

    An edit changes only the nodes around it.
    """
    from .breaks import prose_breaks
    from .prose import ProseChunker

    return ProseChunker(breaks=prose_breaks, **_sized(encoder, callback_manager, chunk_size, chunk_overlap))


@rule(_overlap_below_size)
def token(
    encoder: BaseEmbedding, callback_manager: CallbackManager, *, chunk_size: Size = None, chunk_overlap: Overlap = None
) -> NodeParser:
    """Splits at the last word that fits, so that every node is full.

    An edit changes all nodes behind it.
    """
    from .breaks import word_breaks
    from .prose import ProseChunker

    return ProseChunker(breaks=word_breaks, full=True, **_sized(encoder, callback_manager, chunk_size, chunk_overlap))


@rule(_overlap_below_size)
def markdown(
    encoder: BaseEmbedding, callback_manager: CallbackManager, *, chunk_size: Size = None, chunk_overlap: Overlap = None
) -> NodeParser:
    """Splits at headings, and long sections as `sentence` does; tables and code blocks stay whole if they fit.

    The headings above a node are in its metadata as `header_path`.
    """
    from .markdown import MarkdownChunker

    return MarkdownChunker(**_sized(encoder, callback_manager, chunk_size, chunk_overlap))


@rule(_overlap_below_size)
def code(
    encoder: BaseEmbedding,
    callback_manager: CallbackManager,
    *,
    chunk_size: Size = None,
    chunk_overlap: FixedOverlap = 0,
    language: Annotated[
        str | None,
        Field(min_length=1, description="A tree-sitter language, such as `python`; unset, from the file's suffix."),
    ] = None,
) -> NodeParser:
    """Splits program code at definitions and statements, found by tree-sitter; other files as `sentence` does.

    Needs the extra `code`.
    """
    from .code import CodeChunker, parser_of

    parser_of(language or "python")
    return CodeChunker(language=language, **_sized(encoder, callback_manager, chunk_size, chunk_overlap))


@rule(_overlap_below_size)
def semantic(
    encoder: BaseEmbedding,
    callback_manager: CallbackManager,
    *,
    chunk_size: Size = None,
    chunk_overlap: FixedOverlap = 0,
    buffer_size: Annotated[
        int, Field(ge=0, description="How many sentences on either side are encoded together with each sentence.")
    ] = 1,
) -> NodeParser:
    """Splits where the meaning changes most between adjacent sentences, in the second half of the size.

    Every sentence of a document that is longer than the size is encoded, so a sync takes several times as long.
    """
    from ..encoders.matrix import encode_documents
    from .semantic import SemanticChunker

    return SemanticChunker(
        encode=lambda texts: encode_documents(encoder, texts),
        buffer_size=buffer_size,
        **_sized(encoder, callback_manager, chunk_size, chunk_overlap),
    )


def sentence_window(
    encoder: BaseEmbedding,
    callback_manager: CallbackManager,
    *,
    window_size: Annotated[
        int, Field(ge=0, description="How many sentences on either side the LLM gets with each retrieved sentence.")
    ] = 3,
) -> NodeParser:
    """Each sentence is a node; with the reranker `window`, the LLM also gets the sentences around it."""
    from .sentence_window import SentenceWindowChunker

    return SentenceWindowChunker(window_size=window_size, **_sized(encoder, callback_manager, None, 0))


def _larger_parents(settings: dict[str, Any]) -> Iterable[tuple[str, str, str]]:
    sizes = settings["parent_sizes"]
    if any(small >= large for large, small in zip(sizes, sizes[1:])):
        yield "parent_sizes", "each level has to be smaller than the previous one", "write them from large to small"


@rule(_larger_parents)
def hierarchical(
    encoder: BaseEmbedding,
    callback_manager: CallbackManager,
    *,
    parent_sizes: Annotated[
        tuple[Annotated[int, Field(gt=0)], ...],
        Field(
            min_length=1,
            description="Sizes of a node's parents in tokens, from large to small; sizes not larger than a node are "
            "ignored.",
        ),
    ] = (2048, 512),
    chunk_size: Annotated[
        int | None,
        Field(
            gt=0,
            description="The maximum size of a node in tokens; unset, 128, at most the encoder's input length.",
        ),
    ] = None,
) -> NodeParser:
    """Small nodes with larger parents; the reranker `auto_merging` replaces several nodes by their parent."""
    from ..encoders.tokens import default_chunk_size
    from .hierarchical import HierarchicalChunker

    size = chunk_size or min(128, default_chunk_size(encoder))
    return HierarchicalChunker(parent_sizes=list(parent_sizes), **_sized(encoder, callback_manager, size, 0))


def none(callback_manager: CallbackManager) -> NodeParser:
    """No splitting: each document is a node, unless it is longer than the encoder's input."""
    from .whole_document import WholeDocument

    return WholeDocument(callback_manager=callback_manager)


def _sized(
    encoder: BaseEmbedding, callback_manager: CallbackManager, chunk_size: int | None, overlap: int | None
) -> dict[str, Any]:
    from ...errors import ComponentError
    from ..encoders.tokens import default_chunk_size, tokens_of

    size = chunk_size or default_chunk_size(encoder)
    if overlap is not None and overlap >= size:
        raise ComponentError(
            f"chunker: a chunk_overlap of {overlap} is not less than the encoder's input length of {size} tokens"
        )
    return {
        "tokens": tokens_of(encoder),
        "chunk_size": size,
        "chunk_overlap": size // 8 if overlap is None else overlap,
        "callback_manager": callback_manager,
    }

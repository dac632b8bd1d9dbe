"""Chunkers: how a document is cut into nodes. Sizes count in the encoder's own tokens."""

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
        description="The most tokens a node has, in the encoder's tokens; unset, what the encoder sees at once, but at "
        "most 1,024.",
    ),
]
Overlap = Annotated[
    int | None,
    Field(
        ge=0,
        description="How many tokens neighbouring nodes may share; less than the size. Unset, an eighth of the size.",
    ),
]
OwnOverlap = Annotated[
    int, Field(ge=0, description="How many tokens neighbouring nodes may share; less than the size.")
]


def _no_volatile(settings: dict[str, Any]) -> Iterable[tuple[str, str, str]]:
    from ..readers.listing import VOLATILE_METADATA

    for key in settings["embed_metadata"]:
        if key in VOLATILE_METADATA:
            message = f"{key!r} is another one in each copy of a file, and every vector would be with it"
            yield "embed_metadata", message, "leave it out"


@rule(_no_volatile)
def every(
    *,
    embed_metadata: Annotated[
        tuple[str, ...],
        Field(
            description="What of a node's metadata is encoded together with its text, such as `title` or "
            "`header_path`; it counts towards the size. Absolute paths and dates never are."
        ),
    ] = (),
    too_long: Annotated[
        Literal["split", "warn", "error"],
        Field(
            description="What to do with a node that is longer than the encoder sees: split it and say so, leave it "
            "and say how much is in no vector, or fail the document."
        ),
    ] = "split",
) -> None:
    """What every chunker can be told, LlamaIndex's own and injected ones too; the engine sees to it."""


def _overlap_below_size(settings: dict[str, Any]) -> Iterable[tuple[str, str, str]]:
    size, overlap = settings["chunk_size"], settings["overlap"]
    if size is not None and overlap is not None and overlap >= size:
        yield "overlap", f"an overlap of {overlap} leaves nothing of a chunk_size of {size}", "make it smaller"


@rule(_overlap_below_size)
def sentence(
    encoder: BaseEmbedding, callback_manager: CallbackManager, *, chunk_size: Size = None, overlap: Overlap = None
) -> NodeParser:
    """Cuts between headings, paragraphs and sentences, at the best place in the second half of the size.

    An edit changes the nodes around it, and no others.
    """
    from .breaks import prose_breaks
    from .prose import ProseChunker

    return ProseChunker(breaks=prose_breaks, **_sized(encoder, callback_manager, chunk_size, overlap))


@rule(_overlap_below_size)
def token(
    encoder: BaseEmbedding, callback_manager: CallbackManager, *, chunk_size: Size = None, overlap: Overlap = None
) -> NodeParser:
    """Cuts between words when the size is reached, wherever that is.

    Every node is full, and an edit moves all nodes behind it.
    """
    from .breaks import word_breaks
    from .prose import ProseChunker

    return ProseChunker(breaks=word_breaks, full=True, **_sized(encoder, callback_manager, chunk_size, overlap))


@rule(_overlap_below_size)
def markdown(
    encoder: BaseEmbedding, callback_manager: CallbackManager, *, chunk_size: Size = None, overlap: Overlap = None
) -> NodeParser:
    """Cuts at headings, and where a section is longer than the size as `sentence` does, around tables and code.

    The headings above a node stand in its metadata as `header_path`.
    """
    from .markdown import MarkdownChunker

    return MarkdownChunker(**_sized(encoder, callback_manager, chunk_size, overlap))


@rule(_overlap_below_size)
def code(
    encoder: BaseEmbedding,
    callback_manager: CallbackManager,
    *,
    chunk_size: Size = None,
    overlap: OwnOverlap = 0,
    language: Annotated[
        str | None,
        Field(min_length=1, description="A language of tree-sitter, such as `python`; unset, by the file's name."),
    ] = None,
) -> NodeParser:
    """Cuts between definitions and statements by tree-sitter, the outermost that fit; other files as `sentence`.

    Needs the extra `code`.
    """
    from .code import CodeChunker, parser_of

    parser_of(language or "python")
    return CodeChunker(language=language, **_sized(encoder, callback_manager, chunk_size, overlap))


@rule(_overlap_below_size)
def semantic(
    encoder: BaseEmbedding,
    callback_manager: CallbackManager,
    *,
    chunk_size: Size = None,
    overlap: OwnOverlap = 0,
    buffer_size: Annotated[
        int, Field(ge=0, description="How many sentences on either side are encoded together with each sentence.")
    ] = 1,
) -> NodeParser:
    """Cuts where the meaning changes most from one sentence to the next, in the second half of the size.

    Every sentence of a document that is longer than the size is encoded for it, which takes several times as long.
    """
    from ..encoders.matrix import encode_documents
    from .semantic import SemanticChunker

    return SemanticChunker(
        encode=lambda texts: encode_documents(encoder, texts),
        buffer_size=buffer_size,
        **_sized(encoder, callback_manager, chunk_size, overlap),
    )


def sentence_window(
    encoder: BaseEmbedding,
    callback_manager: CallbackManager,
    *,
    window_size: Annotated[
        int, Field(ge=0, description="How many sentences on either side the LLM reads with each one that was found.")
    ] = 3,
) -> NodeParser:
    """Each sentence is a node; with the reranker `window`, the LLM reads the sentences around it too."""
    from .sentence_window import SentenceWindowChunker

    return SentenceWindowChunker(window_size=window_size, **_sized(encoder, callback_manager, None, 0))


def _larger_parents(settings: dict[str, Any]) -> Iterable[tuple[str, str, str]]:
    sizes = settings["parent_sizes"]
    if any(small >= large for large, small in zip(sizes, sizes[1:])):
        yield "parent_sizes", "each level has to be smaller than the one before", "write them from large to small"


@rule(_larger_parents)
def hierarchical(
    encoder: BaseEmbedding,
    callback_manager: CallbackManager,
    *,
    parent_sizes: Annotated[
        tuple[Annotated[int, Field(gt=0)], ...],
        Field(
            min_length=1,
            description="The sizes of what is around a node, in tokens, from large to small; what is no larger than a "
            "node is left out.",
        ),
    ] = (2048, 512),
    chunk_size: Annotated[
        int | None,
        Field(gt=0, description="The most tokens a node has; unset, 128, or what the encoder sees if that is less."),
    ] = None,
) -> NodeParser:
    """Small nodes that know what is around them; with the reranker `auto_merging`, several give way to their parent."""
    from ..encoders.tokens import default_chunk_size
    from .hierarchical import HierarchicalChunker

    size = chunk_size or min(128, default_chunk_size(encoder))
    return HierarchicalChunker(
        parent_sizes=list(parent_sizes), **_sized(encoder, callback_manager, chunk_size or size, 0)
    )


def none(callback_manager: CallbackManager) -> NodeParser:
    """Cuts nothing: a document is a node, as far as the encoder sees it whole."""
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
            f"chunker: an overlap of {overlap} leaves nothing of the {size} tokens that the encoder sees"
        )
    return {
        "tokens": tokens_of(encoder),
        "chunk_size": size,
        "overlap": size // 8 if overlap is None else overlap,
        "callback_manager": callback_manager,
    }

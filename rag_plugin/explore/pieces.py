"""Splits texts into pieces of a granularity and encodes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from ..components.encoders.matrix import unit_rows
from ..errors import QuestionError
from .contextual import TokenVectors, token_vectors
from .space import Piece, Space, empty_space, encode, shortened
from .spans import Span, character_spans, find_spans, sentence_spans, stripped, word_spans

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from numpy.typing import NDArray

Granularity = Literal["text", "sentence", "word", "token", "character"]
GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)
_CONTEXTUAL = ("word", "token", "character")


def encode_pieces(
    encoder: BaseEmbedding,
    texts: Sequence[str] | Sequence[Piece],
    granularity: Granularity = "text",
    *,
    only: str | None = None,
) -> Space:
    """Split texts into pieces and encode them, in the order of the texts.

    A text or a sentence is encoded alone. A token's vector is the model's last hidden state in its text; a word's or
    character's is the mean of the tokens that overlap it, so the same word has another vector in another text. Vectors
    of texts and vectors of tokens are not comparable with each other.

    Args:
        encoder: Any LlamaIndex embedding; below `sentence`, a sentence-transformers model.
        texts: Texts, or pieces, whose document, node and metadata are inherited.
        granularity: The kind of piece.
        only: A word or phrase; with the granularity `word`, return only its occurrences.

    Raises:
        QuestionError: A text is empty, or `only` is not in it.
        ComponentError: The encoder has no token vectors.
    """
    if granularity not in GRANULARITIES:
        raise QuestionError(f"there is no granularity {granularity!r}: {', '.join(GRANULARITIES)}")
    if only is not None and granularity != "word":
        raise QuestionError("a single word can only be selected with the granularity 'word'")
    sources = [text if isinstance(text, Piece) else Piece(text) for text in texts]
    if granularity == "text":
        return encode(encoder, sources)
    if granularity == "sentence":
        return encode(encoder, [part for piece in sources for part in _parts(piece, sentence_spans(piece.text))])
    pieces: list[Piece] = []
    vectors: list[NDArray[np.float32]] = []
    for piece, tokens in zip(sources, token_vectors(encoder, [piece.text for piece in sources])):
        spans = _spans(tokens, granularity, only)
        if tokens.spans:
            means = tokens.means(spans)
            rows = np.flatnonzero(~np.isnan(means).any(axis=1))  # a tokenizer drops some characters
            pieces += _parts(piece, [spans[row] for row in rows])
            vectors.append(means[rows])
    return Space(tuple(pieces), np.concatenate(vectors)) if vectors else empty_space()


def _spans(tokens: TokenVectors, granularity: Granularity, only: str | None) -> list[Span]:
    if only is not None:
        occurrences = find_spans(tokens.text, only)
        if not occurrences:
            raise QuestionError(f"the word {only!r} is not in {shortened(tokens.text)!r}")
        return occurrences
    if granularity == "token":
        # Several tokens may belong to one character and count as one piece then. The space before a word is often part
        # of its first token.
        return list(dict.fromkeys(_without_spaces(tokens.text, span) for span in tokens.spans))
    return word_spans(tokens.text) if granularity == "word" else character_spans(tokens.text)


def _without_spaces(text: str, span: Span) -> Span:
    start, end = stripped(text, span)
    return (start, end) if start < end else span


def _parts(piece: Piece, spans: Sequence[Span]) -> list[Piece]:
    return [replace(piece, text=piece.text[start:end], context=piece.text, start=start) for start, end in spans]


def vector_of(
    encoder: BaseEmbedding, texts: Sequence[str], granularity: Granularity = "text", *, only: str | None = None
) -> NDArray[np.float32]:
    """The mean of the texts' directions, shape (dimension,), comparable with pieces of a granularity.

    Below `sentence`, a text's direction is that of the mean of its tokens, without the model's special tokens.

    Args:
        encoder: Any LlamaIndex embedding.
        texts: At least one.
        granularity: That of the pieces to compare with.
        only: A word or phrase in each text; only its tokens count.

    Raises:
        QuestionError: A text is empty, or `only` is not in it.
        ComponentError: The encoder has no token vectors.
    """
    if granularity not in _CONTEXTUAL and only is None:
        return encode(encoder, texts).directions.mean(axis=0)
    means = []
    for tokens in token_vectors(encoder, texts):
        if not tokens.spans:
            raise QuestionError(f"the encoder's tokenizer produces no tokens for {tokens.text!r}")
        spans = [(0, len(tokens.text))] if only is None else _spans(tokens, "word", only)
        means.append(tokens.means(spans).mean(axis=0))
    return unit_rows(np.stack(means)).mean(axis=0)


def encode_concepts(
    encoder: BaseEmbedding, concepts: Mapping[str, Sequence[str]], granularity: Granularity = "text"
) -> Space:
    """Concepts by name, each with the mean of its examples' directions; see `vector_of`.

    Raises:
        QuestionError: A concept has no name or no examples, or an empty one.
    """
    for name, texts in concepts.items():
        if not name.strip() or not texts or not all(text.strip() for text in texts):
            raise QuestionError(f"the concept {name!r} needs a name and examples: fruit=apple,pear,plum")
    if not concepts:
        return empty_space()
    pieces = tuple(Piece(name, metadata={"examples": list(texts)}) for name, texts in concepts.items())
    return Space(pieces, np.stack([vector_of(encoder, texts, granularity) for texts in concepts.values()]))

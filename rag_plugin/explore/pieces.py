"""The pieces of texts at each granularity, with their vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from ..errors import QuestionError
from .contextual import TokenVectors, token_vectors
from .space import Piece, Space, directions, encode, shortened
from .spans import Span, character_spans, find_spans, sentence_spans, word_spans

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from numpy.typing import NDArray

Granularity = Literal["text", "sentence", "word", "token", "character"]
GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)
IN_CONTEXT = ("word", "token", "character")


def encode_pieces(
    encoder: BaseEmbedding,
    texts: Sequence[str] | Sequence[Piece],
    granularity: Granularity = "text",
    *,
    only: str | None = None,
) -> Space:
    """The pieces of texts with their vectors, in the order of the texts.

    A text or a sentence is read by itself. A token has the vector that the model's last layer gives it in its text;
    a word or a character has the mean of the tokens that reach into it. So the same word has another vector in
    another text. Vectors of texts and of tokens are comparable only among themselves.

    Args:
        encoder: Any LlamaIndex embedding; below `sentence` it needs a model of sentence-transformers.
        texts: Texts, or pieces whose document, node and metadata their own pieces take over.
        granularity: What a piece is.
        only: A word or phrase: with `word`, nothing but its places in the texts.

    Raises:
        QuestionError: A text is empty, or `only` is not in it.
        ComponentError: The encoder cannot do it.
    """
    if granularity not in GRANULARITIES:
        raise QuestionError(f"there is no granularity {granularity!r}: {', '.join(GRANULARITIES)}")
    if only is not None and granularity != "word":
        raise QuestionError("a single word can be chosen at the granularity 'word' alone")
    whole = [text if isinstance(text, Piece) else Piece(text) for text in texts]
    if granularity == "text":
        return encode(encoder, whole)
    if granularity == "sentence":
        return encode(encoder, [part for piece in whole for part in _parts(piece, sentence_spans(piece.text))])
    pieces: list[Piece] = []
    vectors: list[NDArray[np.float32]] = []
    for piece, found, means in _in_context(encoder, whole, granularity, only):
        pieces += _parts(piece, found)
        vectors.append(means)
    if not vectors:
        return Space((), np.zeros((0, 0), dtype=np.float32))
    return Space(tuple(pieces), np.concatenate(vectors))


def _in_context(
    encoder: BaseEmbedding, pieces: Sequence[Piece], granularity: Granularity, only: str | None
) -> Iterator[tuple[Piece, list[Span], NDArray[np.float32]]]:
    for piece, tokens in zip(pieces, token_vectors(encoder, [piece.text for piece in pieces])):
        wanted = _spans(tokens, granularity, only)
        if not tokens.spans:
            continue
        means = tokens.means(wanted)
        known = np.flatnonzero(~np.isnan(means).any(axis=1))  # a tokenizer makes nothing of some characters
        yield piece, [wanted[number] for number in known], means[known]


def _spans(tokens: TokenVectors, granularity: Granularity, only: str | None) -> list[Span]:
    if only is not None:
        found = find_spans(tokens.text, only)
        if not found:
            raise QuestionError(f"the word {only!r} is not in {shortened(tokens.text)!r}")
        return found
    if granularity == "token":
        # Several tokens can be of one character; they are that character then. A space before a word is often a part
        # of its first token, and says nothing to a reader.
        return list(dict.fromkeys(_without_spaces(tokens.text, span) for span in tokens.spans))
    split: Callable[[str], list[Span]] = word_spans if granularity == "word" else character_spans
    return split(tokens.text)


def _without_spaces(text: str, span: Span) -> Span:
    start, end = span
    inner = text[start:end].strip()
    if not inner:
        return span
    start += len(text[start:end]) - len(text[start:end].lstrip())
    return start, start + len(inner)


def _parts(piece: Piece, spans: Sequence[Span]) -> list[Piece]:
    return [replace(piece, text=piece.text[start:end], context=piece.text, start=start) for start, end in spans]


def vector_of(
    encoder: BaseEmbedding, texts: Sequence[str], granularity: Granularity = "text", *, only: str | None = None
) -> NDArray[np.float32]:
    """One vector for a text, or for examples together: the mean of their directions, shape (dimension,).

    It is comparable with the pieces of the same granularity: below `sentence`, a text's direction is that of the
    mean of its tokens, without those that the model adds itself.

    Args:
        encoder: Any LlamaIndex embedding.
        texts: At least one.
        granularity: Of the pieces that it is to be compared with.
        only: A word or phrase that is in each text: its tokens alone.

    Raises:
        QuestionError: A text is empty, or `only` is not in it.
        ComponentError: The encoder cannot do it.
    """
    if granularity not in IN_CONTEXT and only is None:
        return encode(encoder, texts).directions.mean(axis=0)
    means = []
    for tokens in token_vectors(encoder, texts):
        if not tokens.spans:
            raise QuestionError(f"the encoder's tokenizer makes nothing of {tokens.text!r}")
        spans = [(0, len(tokens.text))] if only is None else _spans(tokens, "word", only)
        means.append(tokens.means(spans).mean(axis=0))
    return directions(np.stack(means)).mean(axis=0)


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
    pieces = tuple(Piece(name, metadata={"examples": list(texts)}) for name, texts in concepts.items())
    vectors = [vector_of(encoder, texts, granularity) for texts in concepts.values()]
    return Space(pieces, np.stack(vectors) if vectors else np.zeros((0, 0), dtype=np.float32))

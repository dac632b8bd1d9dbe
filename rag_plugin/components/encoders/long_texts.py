"""Texts that are longer than an encoder's input: encoded in pieces, or reported."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...protocols import EncoderTokens, Tokens
from .matrix import encode_documents, unit_rows
from .tokens import max_input_tokens, tokens_of

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from numpy.typing import NDArray

_log = logging.getLogger(__package__)


def encode_whole(
    encode: Callable[[Sequence[str]], NDArray[np.float32]], texts: Sequence[str], tokens: Tokens, limit: int | None
) -> NDArray[np.float32]:
    """Vectors of texts of any length: a long one has the mean of its pieces' vectors, by their tokens.

    Args:
        encode: Encodes texts within the limit; float32, shape (len(texts), dimension).
        texts: The texts.
        tokens: The encoder's tokens.
        limit: The encoder's input in tokens; None for no limit.

    Returns:
        float32, shape (len(texts), dimension). The mean has the mean length of the pieces' vectors.
    """
    pieces: list[str] = []
    owners: list[int] = []
    for number, text in enumerate(texts):
        parts = [text] if limit is None or len(text) <= limit else _pieces(text, tokens, limit)
        pieces += parts
        owners += [number] * len(parts)
    vectors = encode(pieces)
    if len(pieces) == len(texts):
        return vectors
    weights = np.maximum(1, tokens.counts(pieces)).astype(np.float32)
    result = np.empty((len(texts), vectors.shape[1]), dtype=np.float32)
    for number in range(len(texts)):
        own = np.flatnonzero(np.asarray(owners) == number)
        mean = np.average(vectors[own], axis=0, weights=weights[own])
        length = np.average(np.linalg.norm(vectors[own], axis=1), weights=weights[own])
        result[number] = vectors[own[0]] if len(own) == 1 else unit_rows(mean[None, :])[0] * length
    return result


def _pieces(text: str, tokens: Tokens, limit: int) -> list[str]:
    starts = tokens.starts(text).tolist()
    count = -(-len(starts) // limit)
    if count < 2:
        return [text]
    size = -(-len(starts) // count)  # equal pieces
    cuts = [0, *starts[size::size], len(text)]
    return [text[start:end] for start, end in zip(cuts, cuts[1:])]


def encode_any_length(encoder: BaseEmbedding, texts: Sequence[str]) -> NDArray[np.float32]:
    """As `encode_documents`, for texts of any length."""
    return encode_whole(
        lambda pieces: encode_documents(encoder, pieces), texts, tokens_of(encoder), max_input_tokens(encoder)
    )


def warn_of_long_questions(encoder: BaseEmbedding, texts: Sequence[str]) -> None:
    """Log a warning for a question that an encoder of another package will cut."""
    limit = None if isinstance(encoder, EncoderTokens) else max_input_tokens(encoder)
    long = [text for text in texts if limit is not None and len(text) > limit]
    for count in tokens_of(encoder).counts(long) if long else ():
        if count > (limit or count):
            _log.warning(
                "a question of %d tokens is longer than the encoder's input of %d: what follows is not searched for; "
                "ask a shorter question, or use the encoder 'huggingface'",
                *(count, limit),
            )

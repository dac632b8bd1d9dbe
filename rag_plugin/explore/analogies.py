"""Calculating with texts: king - man + woman."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import QuestionError
from .expression import Expression, parse_expression
from .space import Neighbour, Space, encode

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from numpy.typing import NDArray

_NOTHING = 1e-5  # of the weights: what float32 leaves of a sum whose terms cancel out


def sum_of(encoder: BaseEmbedding, expression: str | Expression) -> NDArray[np.float64]:
    """The sum of the terms' vectors, each scaled to length 1 and then weighted; shape (dimension,).

    Raises:
        QuestionError: The expression cannot be read, or its terms cancel out.
    """
    terms = parse_expression(expression) if isinstance(expression, str) else expression
    space = encode(encoder, terms.texts)
    weights = np.array([term.weight for term in terms.terms])
    total: NDArray[np.float64] = weights @ space.directions.astype(np.float64)
    if np.linalg.norm(total) <= _NOTHING * np.abs(weights).sum():
        raise QuestionError(f"the terms of {str(terms)!r} cancel out, and nothing is near to nothing")
    return total


def analogy(
    encoder: BaseEmbedding, expression: str | Expression, vocabulary: Space | Sequence[str], top_k: int = 10
) -> list[Neighbour]:
    """What of a vocabulary is nearest to a sum of texts; the texts themselves are left out.

    Args:
        encoder: Any LlamaIndex embedding.
        expression: Such as `king - man + woman`, or `man : king :: woman : ?`; see `parse_expression`.
        vocabulary: What may be found; words are encoded here, a space is taken as it is.
        top_k: The most to return.

    Raises:
        QuestionError: The expression cannot be read, its terms cancel out, or nothing but them is in the vocabulary.
    """
    terms = parse_expression(expression) if isinstance(expression, str) else expression
    total = sum_of(encoder, terms)
    space = vocabulary if isinstance(vocabulary, Space) else encode(encoder, vocabulary)
    if not len(space):
        raise QuestionError("the vocabulary is empty")
    found = space.nearest(total, top_k, leave_out=terms.texts, each=False)
    if not found:
        raise QuestionError(f"the vocabulary holds nothing besides the terms of {str(terms)!r}")
    return found

"""Vector arithmetic with texts: king - man + woman."""

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

_MIN_RELATIVE_NORM = 1e-5  # of the sum of weights; float32 leaves less than that of terms that cancel out


def sum_of(encoder: BaseEmbedding, expression: str | Expression) -> NDArray[np.float64]:
    """Weighted sum of the terms' vectors, each scaled to length 1; shape (dimension,).

    Raises:
        QuestionError: The expression is invalid, or its terms cancel out.
    """
    expression = parse_expression(expression) if isinstance(expression, str) else expression
    weights = np.array([term.weight for term in expression.terms])
    total: NDArray[np.float64] = weights @ encode(encoder, expression.texts).directions.astype(np.float64)
    if np.linalg.norm(total) <= _MIN_RELATIVE_NORM * np.abs(weights).sum():
        raise QuestionError(f"the terms of {str(expression)!r} cancel out; a zero vector has no neighbours")
    return total


def analogy(
    encoder: BaseEmbedding, expression: str | Expression, vocabulary: Space | Sequence[str], top_k: int = 10
) -> list[Neighbour]:
    """The words of a vocabulary nearest to a sum of texts, without the terms of the sum.

    Args:
        encoder: Any LlamaIndex embedding.
        expression: Such as `king - man + woman`, or `man : king :: woman : ?`; see `parse_expression`.
        vocabulary: The candidates: words, which are encoded here, or a space.
        top_k: Maximum number of results.

    Raises:
        QuestionError: The expression is invalid, its terms cancel out, or the vocabulary contains no other word.
    """
    expression = parse_expression(expression) if isinstance(expression, str) else expression
    total = sum_of(encoder, expression)
    space = vocabulary if isinstance(vocabulary, Space) else encode(encoder, vocabulary)
    if not len(space):
        raise QuestionError("the vocabulary is empty")
    neighbours = space.nearest(total, top_k, exclude=expression.texts, distinct=True)
    if not neighbours:
        raise QuestionError(f"the vocabulary contains only the terms of {str(expression)!r}")
    return neighbours

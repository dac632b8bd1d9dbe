"""Joining the results of two searches, and choosing among results for variety."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from .vectors.vector_index import Hits, scores, sorted_by_score

if TYPE_CHECKING:
    from numpy.typing import NDArray

Fusion = Literal["relative_score", "reciprocal_rank"]

CANDIDATES = 100  # of each leg; what a relative score is scaled over
_RANK_OFFSET = 60  # the k of reciprocal rank fusion (Cormack, Clarke, Büttcher 2009)


def fuse(vector: Hits, lexical: Hits, alpha: float, method: Fusion) -> Hits:
    """One ranking out of two, best first.

    Args:
        vector, lexical: (row, score), best first.
        alpha: The weight of the vector leg, 0 to 1; the lexical leg has the rest.
        method: `relative_score` scales each leg's scores to 0..1 and adds them, weighted; `reciprocal_rank`
            adds 1 / (60 + rank), weighted.
    """
    scale = _relative if method == "relative_score" else _reciprocal
    total: dict[int, float] = {}
    for found, weight in ((vector, alpha), (lexical, 1.0 - alpha)):
        if weight > 0:
            for row, score in scale(found):
                total[row] = total.get(row, 0.0) + weight * score
    return sorted_by_score(list(total.items()))


def _relative(found: Hits) -> Hits:
    if not found:
        return []
    best, worst = found[0][1], found[-1][1]
    if best == worst:
        return [(row, 1.0) for row, _ in found]
    return [(row, (score - worst) / (best - worst)) for row, score in found]


def _reciprocal(found: Hits) -> Hits:
    return [(row, 1.0 / (_RANK_OFFSET + rank)) for rank, (row, _) in enumerate(found, 1)]


def mmr(near: NDArray[np.float32], vectors: NDArray[np.float32], metric: str, threshold: float, top_k: int) -> Hits:
    """Maximal mmr relevance (Carbonell, Goldstein 1998): (place, score) of what is chosen, in that order.

    Each time the one is chosen that is near to the question and far from all that were chosen before, weighed by
    `threshold` and its rest; that weighted difference is the score. (LlamaIndex's own function compares with the
    last one chosen only.)

    Args:
        near: Similarity of each candidate with the question, shape (n,).
        vectors: The candidates, shape (n, dimension).
        metric: What the candidates are compared with each other by.
        threshold: 1 asks for nearness alone, 0 for variety alone.
        top_k: How many to choose.
    """
    overlap = np.full(len(near), -np.inf)  # with the nearest of those that were chosen
    left = np.ones(len(near), dtype=bool)
    chosen: Hits = []
    while len(chosen) < min(top_k, len(near)):
        value = threshold * near - ((1.0 - threshold) * overlap if chosen else 0.0)
        place = int(np.argmax(np.where(left, value, -np.inf)))
        chosen.append((place, float(value[place])))
        left[place] = False
        overlap = np.maximum(overlap, scores(vectors[place], vectors, metric))
    return chosen

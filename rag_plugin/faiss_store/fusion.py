"""Fusion of two rankings, and maximal marginal relevance."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .hits import Hits, sorted_by_score
from .vectors.similarity import similarities

Fusion = Literal["relative_score", "reciprocal_rank"]

CANDIDATES = 100  # hits of each ranking to fuse, which relative scores are scaled over
_RANK_OFFSET = 60  # the k of reciprocal rank fusion (Cormack, Clarke, Büttcher 2009)


def fuse(vector: Hits, lexical: Hits, alpha: float, method: Fusion) -> Hits:
    """Fuse two rankings.

    Args:
        vector, lexical: The rankings.
        alpha: The weight of the vector ranking, 0 to 1; the lexical one has the rest.
        method: `relative_score` is the weighted sum of the scores, scaled to 0..1 in each ranking;
            `reciprocal_rank` the weighted sum of 1 / (60 + rank).
    """
    scale = _relative if method == "relative_score" else _reciprocal
    total: dict[int, float] = {}
    for hits, weight in ((vector, alpha), (lexical, 1.0 - alpha)):
        if weight > 0:
            for row, score in scale(hits):
                total[row] = total.get(row, 0.0) + weight * score
    return sorted_by_score(list(total.items()))


def _relative(hits: Hits) -> Hits:
    if not hits:
        return []
    best, worst = hits[0][1], hits[-1][1]
    if best == worst:
        return [(row, 1.0) for row, _ in hits]
    return [(row, (score - worst) / (best - worst)) for row, score in hits]


def _reciprocal(hits: Hits) -> Hits:
    return [(row, 1.0 / (_RANK_OFFSET + rank)) for rank, (row, _) in enumerate(hits, 1)]


def mmr(
    relevance: NDArray[np.float32], vectors: NDArray[np.float32], metric: str, threshold: float, top_k: int
) -> list[tuple[int, float]]:
    """Maximal marginal relevance (Carbonell, Goldstein 1998): (position, score) of the selected candidates, in order.

    Each step selects the candidate with the highest `threshold` x relevance - (1 - `threshold`) x similarity to the
    nearest selected one, which is also its score. (LlamaIndex's own function compares with the last selected one only.)

    Args:
        relevance: Similarity of each candidate with the query, shape (n,).
        vectors: The candidates, shape (n, dimension).
        metric: The metric of the similarity between candidates.
        threshold: 1 for relevance alone, 0 for diversity alone.
        top_k: Number of candidates to select.
    """
    redundancy = np.full(len(relevance), -np.inf)  # similarity to the nearest selected candidate
    available = np.ones(len(relevance), dtype=bool)
    selected: list[tuple[int, float]] = []
    while len(selected) < min(top_k, len(relevance)):
        value = threshold * relevance - ((1.0 - threshold) * redundancy if selected else 0.0)
        position = int(np.argmax(np.where(available, value, -np.inf)))
        selected.append((position, float(value[position])))
        available[position] = False
        redundancy = np.maximum(redundancy, similarities(vectors[position], vectors, metric))
    return selected

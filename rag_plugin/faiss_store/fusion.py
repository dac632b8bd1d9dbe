"""Joining the results of two searches, and choosing among results for variety."""

from __future__ import annotations

from typing import Literal

Found = list[tuple[int, float]]
Fusion = Literal["relative_score", "reciprocal_rank"]

CANDIDATES = 100  # of each leg; what a relative score is scaled over
_RANK_OFFSET = 60  # the k of reciprocal rank fusion (Cormack, Clarke, Büttcher 2009)


def fuse(vector: Found, lexical: Found, alpha: float, method: Fusion) -> Found:
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
    return sorted(total.items(), key=lambda item: (-item[1], item[0]))


def _relative(found: Found) -> Found:
    if not found:
        return []
    best, worst = found[0][1], found[-1][1]
    if best == worst:
        return [(row, 1.0) for row, _ in found]
    return [(row, (score - worst) / (best - worst)) for row, score in found]


def _reciprocal(found: Found) -> Found:
    return [(row, 1.0 / (_RANK_OFFSET + rank)) for rank, (row, _) in enumerate(found, 1)]

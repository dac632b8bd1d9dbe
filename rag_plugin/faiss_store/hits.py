"""Search hits: row numbers with scores."""

from __future__ import annotations

from collections.abc import Callable

Hits = list[tuple[int, float]]
"""(row number, score), the best first unless stated otherwise."""


def sorted_by_score(hits: Hits, top_k: int | None = None) -> Hits:
    """The best `top_k`, by descending score; equal scores by row."""
    return sorted(hits, key=lambda hit: (-hit[1], hit[0]))[:top_k]


def search_filtered(search: Callable[[int], Hits], passes: Callable[[int], bool], top_k: int) -> Hits:
    """The best `top_k` hits whose rows pass, of a search that cannot filter: it fetches more until there are enough."""
    depth = 4 * top_k
    while True:
        hits = search(depth)
        passing = [hit for hit in hits if passes(hit[0])]
        if len(passing) >= top_k or len(hits) < depth:
            return passing[:top_k]
        depth *= 4

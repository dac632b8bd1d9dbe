"""Where an index stands, in numbers that a derived index can be compared by."""

from __future__ import annotations

from typing import NamedTuple


class CommitPosition(NamedTuple):
    """A commit as readers see it: the live generation (None before the first), the highest node row and removal.

    The token is a name by chance, so that equal numbers of another index, or of a past that a restored backup has
    undone, are told apart.
    """

    generation: int | None
    row: int
    removal: int
    token: str = ""


NOTHING = CommitPosition(None, 0, 0)

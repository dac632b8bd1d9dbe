"""Position of a commit, by which derived indexes detect that they are behind."""

from __future__ import annotations

from typing import NamedTuple


class CommitPosition(NamedTuple):
    """The live generation (None before the first), the highest node row and the highest removal of a commit.

    The random token distinguishes equal numbers of another index, or of a history that a restored backup replaced.
    """

    generation: int | None
    row: int
    removal: int
    token: str = ""

    def changes_until(self, later: CommitPosition) -> int:
        """Number of added and removed nodes between two commits of one generation."""
        return later.row - self.row + later.removal - self.removal


NOTHING = CommitPosition(None, 0, 0)

"""How many tokens a text has for a model whose tokenizer is out of reach, from the prompts that it was sent.

A text has a size, and a model has so much of it per token: three bytes until a prompt was measured. A digit counts as
three bytes, since many tokenizers give each a token of its own, and tables are full of them.
"""

from __future__ import annotations

from time import monotonic

_UNTIL_MEASURED = 3.0
_KEPT = 16
_MEASURABLE = 1_000  # bytes: in shorter prompts, what the template adds outweighs the text
_SUSPECTED_FOR = 60.0  # seconds, in which the question that was too long is asked again


def size_of(text: str) -> int:
    """The bytes of a text, three for each digit."""
    return len(text.encode("utf-8", "surrogatepass")) + 2 * sum(map(text.count, "0123456789"))


class TokenEstimator:
    """Counts rather too many than too few. For use from any thread: what it knows is replaced, never changed."""

    def __init__(self) -> None:
        # Of the last prompts only: one of code would have every later one counted as if it were code.
        self._measured: tuple[float, ...] = ()
        self._suspected = (_UNTIL_MEASURED, 0.0)

    def count(self, text: str) -> int:
        """About how many tokens a text has."""
        return self.tokens_of(size_of(text))

    def tokens_of(self, size: int) -> int:
        """About how many tokens a text of this size has."""
        return int(-(-size // self._per_token()))

    def expected(self, size: int) -> float:
        """How many tokens a prompt of this size should have, rather too few than too many."""
        return size / min(self._measured, default=4.5)

    def measured(self, size: int, tokens: int) -> None:
        """A prompt of this size had so many tokens, which are those of its text and of the model's template."""
        if tokens and size >= _MEASURABLE:
            self._measured = (*self._measured, max(1.0, size / tokens))[-_KEPT:]

    def too_long(self) -> None:
        """A prompt was counted too low, nobody says by how much: for a while, everything counts twice."""
        self._suspected = (max(1.0, self._per_token() / 2), monotonic() + _SUSPECTED_FOR)

    def _per_token(self) -> float:
        found = min(self._measured, default=_UNTIL_MEASURED)
        suspected, until = self._suspected
        return min(found, suspected) if monotonic() < until else found

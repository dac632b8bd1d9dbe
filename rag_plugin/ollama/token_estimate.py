"""Token estimate for a model without a local tokenizer, calibrated on the prompts sent to it.

An estimate is weighted bytes divided by bytes per token: three until a prompt is measured. A digit counts as three
bytes, because many tokenizers make a token of each.
"""

from __future__ import annotations

from time import monotonic

_INITIAL_BYTES_PER_TOKEN = 3.0
_MAX_SAMPLES = 16
_MIN_SAMPLE_BYTES = 1_000  # in shorter prompts the tokens of the chat template outweigh those of the text
_OVERFLOW_SECONDS = 60.0  # covers the second attempt of a question whose prompt was too long


def weighted_bytes(text: str) -> int:
    """UTF-8 bytes of a text, three for each digit."""
    return len(text.encode("utf-8", "surrogatepass")) + 2 * sum(map(text.count, "0123456789"))


class TokenEstimator:
    """Over-estimates tokens. Thread-safe: its state is replaced, never modified."""

    def __init__(self) -> None:
        # Recent prompts only: one prompt of code would otherwise inflate the estimate of all later prose.
        self._samples: tuple[float, ...] = ()
        self._after_overflow = (_INITIAL_BYTES_PER_TOKEN, 0.0)

    def count(self, text: str) -> int:
        """Estimated tokens of a text."""
        return int(-(-weighted_bytes(text) // self._bytes_per_token()))

    def add_sample(self, size: int, tokens: int) -> None:
        """Record that a prompt of `size` weighted bytes had this many tokens, the template's included."""
        if tokens and size >= _MIN_SAMPLE_BYTES:
            self._samples = (*self._samples, max(1.0, size / tokens))[-_MAX_SAMPLES:]

    def add_overflow(self) -> None:
        """A prompt exceeded the context by an unknown number of tokens: double all estimates for a minute."""
        self._after_overflow = (max(1.0, self._bytes_per_token() / 2), monotonic() + _OVERFLOW_SECONDS)

    def _bytes_per_token(self) -> float:
        measured = min(self._samples, default=_INITIAL_BYTES_PER_TOKEN)
        reduced, until = self._after_overflow
        return min(measured, reduced) if monotonic() < until else measured

"""Why answers ended, told by an LLM and collected for the question that was being answered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_COLLECTED: ContextVar[list[str] | None] = ContextVar("finish_reasons", default=None)


@contextmanager
def finish_reasons(reasons: list[str]) -> Iterator[None]:
    """Adds to `reasons` what is noted within, in threads and tasks that begin within too: `stop`, `length`, ..."""
    token = _COLLECTED.set(reasons)
    try:
        yield
    finally:
        _COLLECTED.reset(token)


def note_finish_reason(reason: str) -> bool:
    """Note why an answer ended, where anybody collects it; whether that is news."""
    reasons = _COLLECTED.get()
    if reasons is None:
        return True
    reasons.append(reason)
    return reasons.count(reason) == 1

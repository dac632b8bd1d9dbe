"""Finish reasons of answers, reported by an LLM and collected per question."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_COLLECTED: ContextVar[list[str] | None] = ContextVar("finish_reasons", default=None)


@contextmanager
def finish_reasons(reasons: list[str]) -> Iterator[None]:
    """Appends each reason (`stop`, `length`, ...) reported inside the block, in its threads and tasks too."""
    token = _COLLECTED.set(reasons)
    try:
        yield
    finally:
        _COLLECTED.reset(token)


def note_finish_reason(reason: str) -> bool:
    """Report a finish reason; False where this question has reported it before."""
    reasons = _COLLECTED.get()
    if reasons is None:
        return True
    reasons.append(reason)
    return reasons.count(reason) == 1

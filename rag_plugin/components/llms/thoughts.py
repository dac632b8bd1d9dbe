"""Thoughts that a model writes into its answer, as `<think>...</think>`."""

from __future__ import annotations

_OPENING, _CLOSING = "<think>", "</think>"


class ThoughtSplitter:
    """Divides a streamed answer into thoughts and text. Only the beginning of an answer can be thoughts.

    Args:
        is_thinking: Whether the answer begins inside of thoughts: some chat templates write the opening tag.
    """

    def __init__(self, *, is_thinking: bool = False) -> None:
        self._state = "thoughts" if is_thinking else "start"
        self._pending = ""

    def feed(self, delta: str, *, last: bool = False) -> tuple[str, str]:
        """Append a part of the answer; returns the text and the thoughts that are certain now.

        Args:
            delta: The part.
            last: Whether the answer ends with it.
        """
        self._pending += delta
        text = thoughts = ""
        if self._state == "start":
            start = self._pending.lstrip()
            if start.startswith(_OPENING):
                self._state, self._pending = "thoughts", start[len(_OPENING) :]
            elif last or not _OPENING.startswith(start):
                self._state = "text"
        if self._state == "thoughts":
            before, tag, after = self._pending.partition(_CLOSING)
            if tag:
                self._state, self._pending, thoughts = "gap", after, before
            else:
                kept = 0 if last else _overlap(self._pending, _CLOSING)
                thoughts = self._pending[: len(self._pending) - kept]
                self._pending = self._pending[len(thoughts) :]
        if self._state == "gap":  # the white space between thoughts and answer
            self._pending = self._pending.lstrip()
            if self._pending:
                self._state = "text"
        if self._state == "text":
            text, self._pending = self._pending, ""
        return text, thoughts


class StopFilter:
    """Ends a streamed text before the first of some strings, which a model writes before it stops."""

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop, self._pending, self.has_stopped = stop, "", False

    def feed(self, delta: str, *, last: bool = False) -> str:
        """The text that is certain now."""
        if self.has_stopped:
            return ""
        self._pending += delta
        ends = [position for text in self._stop if (position := self._pending.find(text)) >= 0]
        if ends:
            self.has_stopped = True
            return self._pending[: min(ends)]
        kept = 0 if last else max((_overlap(self._pending, text) for text in self._stop), default=0)
        certain = self._pending[: len(self._pending) - kept]
        self._pending = self._pending[len(certain) :]
        return certain


def _overlap(text: str, tag: str) -> int:
    """How many characters at the end of `text` may be the beginning of `tag`."""
    return next((size for size in range(min(len(tag) - 1, len(text)), 0, -1) if text.endswith(tag[:size])), 0)

"""A question on its way: how long it is, what has come of its answer, and what is wrong with either."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ...errors import AnswerBroken, ContextOverflow
from ...ollama.model_state import ModelState
from ...ollama.token_estimate import size_of
from .finish_reasons import note_finish_reason
from .streamed_answer import StreamedAnswer

_log = logging.getLogger(__package__)


class ChatRequest:
    """A question to a model.

    Args:
        body: Of the request to /api/chat.
        known: The model.

    Attributes:
        answer: What has come of it.
        overflow: The error that it is too long, once it turned out to be.
    """

    def __init__(self, body: Mapping[str, Any], known: ModelState) -> None:
        self._model_state, self._target = known, known.target
        self._messages = list(body["messages"])
        self._context = int(body["options"]["num_ctx"])
        self._limit = int(body["options"].get("num_predict") or 0)
        texts = [str(message.get("content") or "") for message in self._messages]
        self._bytes = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
        self._size = sum(map(size_of, texts))
        # Tools and pictures have tokens too, nobody says how many.
        self._is_text = not body.get("tools") and not any(
            message.get("images") or message.get("tool_calls") for message in self._messages
        )
        self.answer = StreamedAnswer()
        self.overflow: ContextOverflow | None = None

    def too_long(self) -> ContextOverflow:
        """The error, of which the counter learns."""
        self._model_state.counter.too_long()
        facts = self._model_state.info
        most = facts is not None and facts.limit is not None and self._context >= facts.limit
        higher = "" if most else "set llm.context_window higher, "
        self.overflow = self._target.error(
            ContextOverflow,
            f"a prompt of {self._bytes:,} bytes is longer than the context of {self._context:,} tokens that "
            f"{self._target} has",
            f"; {higher}set retriever.top_k lower, or ask a shorter question",
        )
        return self.overflow

    def check_length(self) -> None:
        """For a server that cuts in silence, and drops the older of several messages, which its counts do not show.

        Raises:
            ContextOverflow: There are several, and they may have too many tokens.
        """
        if len(self._messages) > 1 and self._model_state.counter.tokens_of(self._size) > self._context:
            raise self.too_long()

    def check_read(self, line: Mapping[str, Any], *, sure: bool) -> None:
        """For a server that may have cut the prompt: look at how many tokens it says it has read.

        Args:
            line: The last one.
            sure: Whether only what is certain counts.

        Raises:
            ContextOverflow: It was cut.
        """
        read, expected = int(line.get("prompt_eval_count") or 0), self._model_state.counter.expected(self._size)
        if read >= self._context or (not sure and read and expected > self._context and read < expected / 2):
            raise self.too_long()

    def finished(self, line: Mapping[str, Any], max_tokens: int) -> str:
        """Why the answer ended; what is wrong with it is told here.

        Args:
            line: The last one.
            max_tokens: What the settings allow an answer; whoever gave another limit for this question knows of it.

        Raises:
            AnswerBroken: It is empty.
        """
        read, said = int(line.get("prompt_eval_count") or 0), int(line.get("eval_count") or 0)
        if self._is_text:
            self._model_state.counter.measured(self._size, read)
        reason = str(line.get("done_reason") or "stop")
        full = bool(read) and read + said >= self._context - 1 and not 0 < self._limit <= said
        if read and read + said > self._context + 1:  # an old server, which lets go of the question to go on
            reason, full = "length", True
        news = note_finish_reason(reason)
        if reason == "length":
            if news and (full or self._limit == max_tokens):
                hint = "llm.context_window" if full else "llm.max_tokens"
                _log.warning(
                    "the answer of %r was cut after %d tokens; set %s higher for longer ones",
                    *(self._target.model, said, hint),
                )
        elif self.answer.is_empty and self._messages:
            raise self._target.error(
                AnswerBroken,
                f"{self._target} {'thought, and then ' if self.answer.thinking else ''}gave an empty answer",
                "; ask in other words, or take another model",
            )
        return reason

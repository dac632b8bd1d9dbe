"""One chat request: prompt size, finish reason and errors of its answer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ...errors import AnswerBroken, ContextOverflow
from ...ollama.model_state import ModelState
from ...ollama.token_estimate import weighted_bytes
from .finish_reasons import note_finish_reason
from .streamed_answer import StreamedAnswer

_log = logging.getLogger("rag_plugin.ollama")


class ChatRequest:
    """A request to /api/chat.

    Args:
        body: The request's body.
        state: The model's state.
        split_thinking: Whether `<think>...</think>` at the beginning of an answer is kept apart.

    Attributes:
        answer: The answer so far.
    """

    def __init__(self, body: Mapping[str, Any], state: ModelState, *, split_thinking: bool) -> None:
        self._state, self._target = state, state.target
        self._messages = list(body["messages"])
        self._context = int(body["options"]["num_ctx"])
        self._max_tokens = int(body["options"].get("num_predict") or 0)
        self._texts = [str(message.get("content") or "") for message in self._messages]
        # Tools and images have tokens as well, in unknown number.
        self._is_text = not body.get("tools") and not any(
            message.get("images") or message.get("tool_calls") for message in self._messages
        )
        self.answer = StreamedAnswer(split_thinking=split_thinking)

    def overflow(self) -> ContextOverflow:
        """The error for a prompt that the server rejected; later estimates are larger."""
        self._state.estimator.add_overflow()
        info = self._state.info
        is_max = info is not None and info.max_context is not None and self._context >= info.max_context
        raise_setting = "" if is_max else "set llm.context_window higher, "
        size = sum(len(text.encode("utf-8", "surrogatepass")) for text in self._texts)
        return self._target.error(
            ContextOverflow,
            f"a prompt of {size:,} bytes is longer than the context of {self._context:,} tokens of {self._target}",
            f"; {raise_setting}set retriever.top_k lower, or ask a shorter question",
        )

    def finish(self, line: Mapping[str, Any], configured_max: int) -> str:
        """The finish reason of the answer; logs a warning where it was cut.

        Args:
            line: The last line.
            configured_max: `max_tokens` of the config; no warning for a limit that the caller set for this request.

        Raises:
            AnswerBroken: The answer is empty, for example because its tokens were used for thinking.
        """
        prompt, answer = int(line.get("prompt_eval_count") or 0), int(line.get("eval_count") or 0)
        if self._is_text:
            self._state.estimator.add_sample(sum(map(weighted_bytes, self._texts)), prompt)
        reason = str(line.get("done_reason") or "stop")
        is_new = note_finish_reason(reason)
        if reason == "length":
            is_full = bool(prompt) and prompt + answer >= self._context - 1 and not 0 < self._max_tokens <= answer
            setting = "llm.context_window" if is_full else "llm.max_tokens"
            if self.answer.is_empty:
                is_thought = bool(self.answer.thinking)
                use = f"used all {answer} tokens of its answer for thinking"
                raise self._target.error(
                    AnswerBroken,
                    f"{self._target} {use if is_thought else f'returned no text in {answer} tokens'}",
                    f"; set {setting} higher, or llm.thinking: false",
                )
            if is_new and (is_full or self._max_tokens == configured_max):
                _log.warning(
                    "the answer of %r was cut after %d tokens; set %s higher for longer answers",
                    *(self._target.model, answer, setting),
                )
        elif self.answer.is_empty and self._messages:
            raise self._target.error(
                AnswerBroken,
                f"{self._target} returned an empty answer{' after thinking' if self.answer.thinking else ''}",
                "; rephrase the question, or use another model",
            )
        return reason

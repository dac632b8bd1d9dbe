"""An answer that comes line by line, as LlamaIndex's responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)


class StreamedAnswer:
    """What has come of an answer: its text, and apart from it what was thought and which tools are called."""

    def __init__(self) -> None:
        self.text, self.thinking = "", ""
        self._piece, self._thought = "", ""
        self._calls: list[Mapping[str, Any]] = []

    def add(self, message: Mapping[str, Any]) -> None:
        """Add the `message` of a line."""
        self._piece, self._thought = message.get("content") or "", message.get("thinking") or ""
        self.text, self.thinking = self.text + self._piece, self.thinking + self._thought
        self._calls += [call.get("function") or {} for call in message.get("tool_calls") or []]

    @property
    def is_empty(self) -> bool:
        """Whether nothing has come that could be an answer, whatever was thought."""
        return not (self.text.strip() or self._calls)

    def response(self, line: Mapping[str, Any], reason: str | None, *, whole: bool) -> ChatResponse:
        """All that has come, and as delta what the last line added.

        Args:
            line: The last one, with all its fields.
            reason: Why the answer ended, if it has.
            whole: Whether `raw` holds the message as it is without streaming.
        """
        blocks: list[Any] = [ThinkingBlock(content=self.thinking)] if self.thinking else []
        blocks.append(TextBlock(text=self.text))
        blocks += [
            ToolCallBlock(tool_name=str(call.get("name", "")), tool_kwargs=call.get("arguments") or {})
            for call in self._calls
        ]
        raw = dict(line)
        if whole:
            message = {**line["message"], "content": self.text}
            more = {"thinking": self.thinking, "tool_calls": [{"function": dict(call)} for call in self._calls]}
            raw["message"] = {**message, **{name: value for name, value in more.items() if value}}
        prompt, answer = line.get("prompt_eval_count"), line.get("eval_count")
        if prompt is not None and answer is not None:
            raw["usage"] = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
        additional: dict[str, Any] = {"thinking_delta": self._thought or None}
        if reason is not None:
            additional["finish_reason"] = reason
        return ChatResponse(
            message=ChatMessage(blocks=blocks, role=line["message"].get("role") or MessageRole.ASSISTANT),
            delta=self._piece,
            raw=raw,
            additional_kwargs=additional,
        )

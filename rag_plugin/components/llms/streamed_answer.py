"""Collects a streamed answer line by line and converts it to LlamaIndex's responses."""

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

from .thoughts import ThoughtSplitter


class StreamedAnswer:
    """The answer so far: `text`, and apart from it `thinking` and tool calls.

    Args:
        split_thinking: Whether `<think>...</think>` at the beginning of the text is thinking.
    """

    def __init__(self, *, split_thinking: bool = False) -> None:
        self._splitter = ThoughtSplitter() if split_thinking else None
        self.text, self.thinking = "", ""
        self._text_delta, self._thinking_delta = "", ""
        self._calls: list[Mapping[str, Any]] = []

    def add(self, message: Mapping[str, Any], *, last: bool = False) -> None:
        """Append the `message` of a line; `last` of the last one."""
        self._text_delta, self._thinking_delta = message.get("content") or "", message.get("thinking") or ""
        if self._splitter is not None:
            self._text_delta, thoughts = self._splitter.feed(self._text_delta, last=last)
            self._thinking_delta += thoughts
        self.text, self.thinking = self.text + self._text_delta, self.thinking + self._thinking_delta
        self._calls += [call.get("function") or {} for call in message.get("tool_calls") or []]

    @property
    def is_empty(self) -> bool:
        """Whether there is neither text nor a tool call; thinking does not count."""
        return not (self.text.strip() or self._calls)

    def response(self, line: Mapping[str, Any], reason: str | None, *, complete: bool) -> ChatResponse:
        """The answer so far, with the last line's text as delta.

        Args:
            line: The last line.
            reason: The finish reason; None while the answer continues.
            complete: Whether `raw` holds the complete message, as without streaming.
        """
        blocks: list[Any] = [ThinkingBlock(content=self.thinking)] if self.thinking else []
        blocks.append(TextBlock(text=self.text))
        blocks += [
            ToolCallBlock(tool_name=str(call.get("name", "")), tool_kwargs=call.get("arguments") or {})
            for call in self._calls
        ]
        raw = dict(line)
        if complete:
            raw["message"] = {**line["message"], "content": self.text}
            if self.thinking:
                raw["message"]["thinking"] = self.thinking
            if self._calls:
                raw["message"]["tool_calls"] = [{"function": dict(call)} for call in self._calls]
        prompt, answer = line.get("prompt_eval_count"), line.get("eval_count")
        if prompt is not None and answer is not None:
            raw["usage"] = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
        additional: dict[str, Any] = {"thinking_delta": self._thinking_delta or None}
        if reason is not None:
            additional["finish_reason"] = reason
        return ChatResponse(
            message=ChatMessage(blocks=blocks, role=line["message"].get("role") or MessageRole.ASSISTANT),
            delta=self._text_delta,
            raw=raw,
            additional_kwargs=additional,
        )

"""Tokenizer of the fake server: up to six letters with the space before them, one digit, or one punctuation mark."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_TOKEN = re.compile(r"\s?(?:[^\W\d_]{1,6}|\d|[^\w\s]|_)|\s")


def tokens(text: str) -> list[str]:
    """The tokens of a text; joined they are the text again.

    >>> tokens("The lapwing has 12 eggs.")
    ['The', ' lapwin', 'g', ' has', ' 1', '2', ' eggs', '.']
    """
    return _TOKEN.findall(text)


def prompt_tokens(messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> int:
    """Tokens of a prompt: SmolLM2's template adds five to each message and four for the answer; tools are JSON."""
    tool_tokens = sum(len(tokens(json.dumps(tool))) for tool in tools)
    return sum(len(tokens(str(message.get("content") or ""))) + 5 for message in messages) + 4 + tool_tokens

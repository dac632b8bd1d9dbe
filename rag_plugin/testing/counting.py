"""What counts as a token for the fake server: up to six letters with the space before them, one digit, or one sign."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_TOKEN = re.compile(r"\s?(?:[^\W\d_]{1,6}|\d|[^\w\s]|_)|\s")


def tokens(text: str) -> list[str]:
    """The tokens of a text, which joined give the text again.

    >>> tokens("The lapwing has 12 eggs.")
    ['The', ' lapwin', 'g', ' has', ' 1', '2', ' eggs', '.']
    """
    return _TOKEN.findall(text)


def prompt_tokens(messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> int:
    """Tokens of a whole prompt: SmolLM2's template adds five to each message, and four where the answer begins.

    Args:
        tools: Those that the model may call, which templates write out as JSON.
    """
    written = sum(len(tokens(json.dumps(tool))) for tool in tools)
    return sum(len(tokens(str(message.get("content") or ""))) + 5 for message in messages) + 4 + written

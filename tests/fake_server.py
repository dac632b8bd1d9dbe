"""A fake Ollama server for one test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rag_plugin.testing import FakeOllama

SAYS = "Herons eat fish."


@pytest.fixture
def server() -> Iterator[FakeOllama]:
    with FakeOllama(SAYS) as fake:
        yield fake

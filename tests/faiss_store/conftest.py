"""Fixtures of the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rag_plugin.faiss_store import FaissStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index"


@pytest.fixture
def store(path: Path) -> Iterator[FaissStore]:
    store = FaissStore(path)
    yield store
    store.close()

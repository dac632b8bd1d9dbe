"""A folder of documents with its index, and what the directory reader opens."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from llama_index.core.schema import Document

from rag_plugin.components.readers.directory import DirectoryReader
from tests.sync.bench import Bench


@pytest.fixture
def bench(documents: Path, tmp_path: Path) -> Bench:
    return Bench(documents, tmp_path / "index")


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the reader think that the files are a minute old: it does not trust the dates of newer ones."""
    monkeypatch.setattr(
        "rag_plugin.components.readers.directory.time", SimpleNamespace(time_ns=lambda: time.time_ns() + 60 * 10**9)
    )


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the documents that the directory reader opened."""
    names: list[str] = []
    load = DirectoryReader._load

    def spy(self: DirectoryReader, path: Path, relative: str) -> Document:
        names.append(relative)
        return load(self, path, relative)

    monkeypatch.setattr(DirectoryReader, "_load", spy)
    return names

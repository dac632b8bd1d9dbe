"""The stores that a config can name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ...faiss_store.settings import FaissSettings
from ..registry.settings import settings_from

if TYPE_CHECKING:
    from ...faiss_store import FaissStore


@settings_from(FaissSettings)
def faiss(
    *,
    path: Annotated[Path, Field(description="The index directory, created by the first write.")],
    **settings: Any,
) -> FaissStore:
    """A durable FAISS store in a directory: SQLite is the source of truth, FAISS is derived from it."""
    from ...faiss_store import FaissStore

    return FaissStore(path, **settings)

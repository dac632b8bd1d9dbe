"""A durable FAISS vector store: SQLite is the source of truth, FAISS and BM25 are derived from it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .store import FaissStore

__all__ = ["FaissStore"]


def __getattr__(name: str) -> Any:
    # Lazy: checking a config reads `settings` and must not import FAISS.
    if name == "FaissStore":
        from .store import FaissStore

        return FaissStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""A durable FAISS vector store: SQLite holds the truth, FAISS is derived from it."""

from .store import FaissStore

__all__ = ["FaissStore"]

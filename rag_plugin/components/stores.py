"""Stores: where nodes and vectors are kept and searched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

if TYPE_CHECKING:
    from ..faiss_store import FaissStore


def faiss(
    *,
    path: Annotated[Path, Field(description="The index directory; it is made when it is first needed.")],
    metric: Annotated[
        Literal["cosine", "inner_product", "l2"],
        Field(description="What near means. Scores are similarities, higher is better: for l2, 1 / (1 + distance²)."),
    ] = "cosine",
) -> FaissStore:
    """A durable FAISS store in a directory: SQLite holds the truth, FAISS is derived from it."""
    from ..faiss_store import FaissStore

    return FaissStore(path, metric=metric)

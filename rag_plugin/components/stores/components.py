"""Stores: where nodes and vectors are kept and searched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

if TYPE_CHECKING:
    from ...faiss_store import FaissStore


def faiss(
    *,
    path: Annotated[Path, Field(description="The index directory; it is made when it is first needed.")],
    index: Annotated[
        str,
        Field(
            min_length=1,
            description="`Flat` compares with every vector and misses nothing; `HNSW` and `IVF` look at a part of "
            "them, for hundreds of thousands of nodes and more; or any FAISS factory string.",
        ),
    ] = "Flat",
    metric: Annotated[
        Literal["cosine", "inner_product", "l2"],
        Field(description="What near means. Scores are similarities, higher is better: for l2, 1 / (1 + distance²)."),
    ] = "cosine",
    lexical: Annotated[
        bool, Field(description="Keep a BM25 index of the words too, for the retrievers `hybrid` and `lexical`.")
    ] = True,
    language: Annotated[
        Literal[
            "none", "arabic", "danish", "dutch", "english", "finnish", "french", "german", "greek", "hungarian",
            "italian", "norwegian", "portuguese", "romanian", "russian", "spanish", "swedish", "tamil", "turkish",
        ],
        Field(description="Whose word endings and stop words the BM25 index knows; `none` for no language's."),
    ] = "english",
    precision: Annotated[
        Literal["float32", "float16", "int8"],
        Field(description="Of the vectors in FAISS; the exact ones stay in SQLite."),
    ] = "float32",
    memory_map: Annotated[
        bool, Field(description="Map the FAISS file into memory instead of reading it: it opens at once.")
    ] = True,
    rescore: Annotated[
        bool, Field(description="Score what an index of shortened vectors finds by the exact vectors.")
    ] = True,
    recall: Annotated[
        float, Field(gt=0, le=1, description="The share of the true nearest 10 that HNSW or IVF is tuned to find.")
    ] = 0.95,
    cache_size: Annotated[
        int,
        Field(ge=0, le=10**9, description="How many vectors of removed nodes are kept, should their text come again."),
    ] = 100_000,
) -> FaissStore:  # fmt: skip
    """A durable FAISS store in a directory: SQLite holds the truth, FAISS is derived from it."""
    from ...faiss_store import FaissStore

    return FaissStore(
        path,
        index=index,
        metric=metric,
        lexical=lexical,
        language=language,
        precision=precision,
        memory_map=memory_map,
        rescore=rescore,
        recall=recall,
        cache_size=cache_size,
    )

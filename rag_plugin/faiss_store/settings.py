"""Settings of `FaissStore`: types, bounds, defaults and descriptions. Imports only pydantic."""

from typing import Literal

from pydantic import BaseModel, Field

Metric = Literal["cosine", "inner_product", "l2"]
Precision = Literal["float32", "float16", "int8"]
Language = Literal[
    "none", "arabic", "danish", "dutch", "english", "finnish", "french", "german", "greek", "hungarian", "italian",
    "norwegian", "portuguese", "romanian", "russian", "spanish", "swedish", "tamil", "turkish",
]  # fmt: skip


class FaissSettings(BaseModel):
    """Settings of `FaissStore` and the component `faiss`, besides the path."""

    index: str = Field(
        "Flat",
        min_length=1,
        description="`Flat` compares the query with every vector (exact); `HNSW` and `IVF` are approximate, for "
        "hundreds of thousands of nodes and more; or any FAISS factory string.",
    )
    metric: Metric = Field(
        "cosine",
        description="Distance metric. Scores are similarities, higher is better: for l2, 1 / (1 + distance²).",
    )
    lexical: bool = Field(
        True, description="Keep a BM25 index of the texts as well, for the retrievers `hybrid` and `lexical`."
    )
    language: Language = Field(
        "english", description="Language of the BM25 index's stemmer and stop words; `none` for neither."
    )
    precision: Precision = Field(
        "float32", description="Precision of the vectors in FAISS; SQLite keeps the exact vectors."
    )
    memory_map: bool = Field(
        True, description="Map the FAISS file into memory instead of reading it: it opens at once."
    )
    rescore: bool = Field(True, description="Rescore the hits of a quantized index with the exact vectors.")
    recall: float = Field(0.95, gt=0, le=1, description="Recall@10 that approximate indexes are tuned to.")
    cache_size: int = Field(
        100_000,
        ge=0,
        le=10**9,
        description="Maximum number of cached vectors of removed nodes, reused when the same text comes back.",
    )

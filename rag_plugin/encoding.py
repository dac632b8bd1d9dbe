"""What LlamaIndex lacks about encoders: many texts at once as one matrix, and how to tell two of them apart."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROBE = "The quick brown fox jumps over the lazy dog near 42 rivers; naïve café, 東京."


def encode_documents(encoder: BaseEmbedding, texts: Sequence[str]) -> NDArray[np.float32]:
    """Vectors of documents' texts from any encoder: float32, shape (len(texts), dimension)."""
    many = getattr(encoder, "encode_documents", None)
    if many is not None:
        return many(texts)  # type: ignore[no-any-return]
    return np.asarray(encoder.get_text_embedding_batch(list(texts)), dtype=np.float32)


def encode_queries(encoder: BaseEmbedding, texts: Sequence[str]) -> NDArray[np.float32]:
    """Vectors of questions from any encoder, with its prompt for them: float32, shape (len(texts), dimension)."""
    many = getattr(encoder, "encode_queries", None)
    if many is not None:
        return many(texts)  # type: ignore[no-any-return]
    return np.asarray([encoder.get_query_embedding(text) for text in texts], dtype=np.float32)


def probe(encoder: BaseEmbedding) -> NDArray[np.float32]:
    """The vector of a fixed sentence: it tells whether two encoders are the same, whatever they are called."""
    return encode_documents(encoder, [PROBE])[0]


def pack(vector: NDArray[np.float32]) -> str:
    """A vector as text for JSON."""
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()


def unpack(text: str) -> NDArray[np.float32]:
    """The vector that `pack` made text of."""
    return np.frombuffer(base64.b64decode(text), dtype="<f4")

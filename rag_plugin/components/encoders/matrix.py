"""Any encoder's vectors as one matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding

from ...protocols import MatrixEncoder, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROBE = "The quick brown fox jumps over the lazy dog near 42 rivers; naïve café, 東京."

_TEXTS_PER_CALL = 512  # lists of Python floats take eight times the memory of a matrix, so they are converted in parts


def encode_documents(
    encoder: BaseEmbedding, texts: Sequence[str], progress: Progress | None = None
) -> NDArray[np.float32]:
    """Vectors of documents' texts: float32, shape (len(texts), dimension)."""
    if isinstance(encoder, MatrixEncoder):
        return encoder.encode_documents(texts, progress)
    return _encode_in_parts(encoder.get_text_embedding_batch, encoder, texts, progress)


def encode_queries(
    encoder: BaseEmbedding, texts: Sequence[str], progress: Progress | None = None
) -> NDArray[np.float32]:
    """Vectors of questions: float32, shape (len(texts), dimension)."""
    if isinstance(encoder, MatrixEncoder):
        return encoder.encode_queries(texts, progress)
    return _encode_in_parts(lambda part: [encoder.get_query_embedding(text) for text in part], encoder, texts, progress)


def _encode_in_parts(
    encode: Callable[[list[str]], list[list[float]]],
    encoder: BaseEmbedding,
    texts: Sequence[str],
    progress: Progress | None,
) -> NDArray[np.float32]:
    if not len(texts):
        return np.empty((0, len(encoder.get_text_embedding(PROBE))), dtype=np.float32)
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]), reverse=True)
    matrix: NDArray[np.float32] | None = None
    for start in range(0, len(order), _TEXTS_PER_CALL):
        part = order[start : start + _TEXTS_PER_CALL]
        rows = np.asarray(encode([texts[index] for index in part]), dtype=np.float32)
        if matrix is None:
            matrix = np.empty((len(texts), rows.shape[1]), dtype=np.float32)
        matrix[part] = rows
        if progress is not None:
            progress(len(part), 0)
    assert matrix is not None
    return matrix


def unit_rows(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Vectors scaled to length 1, row by row; zero vectors stay zero."""
    exact = np.asarray(vectors, dtype=np.float64)  # squares of float32 could overflow
    norms = np.linalg.norm(exact, axis=1, keepdims=True)
    return (exact / np.where(norms > 0, norms, 1.0)).astype(np.float32)

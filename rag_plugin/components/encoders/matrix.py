"""What LlamaIndex lacks about encoders: many texts at once as one matrix, and how to tell two of them apart."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding

from ...protocols import MatrixEncoder, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROBE = "The quick brown fox jumps over the lazy dog near 42 rivers; naïve café, 東京."


_PART = 512  # texts that an encoder without a way of its own gets together, the longest first


def encode_documents(
    encoder: BaseEmbedding, texts: Sequence[str], progress: Progress | None = None
) -> NDArray[np.float32]:
    """Vectors of documents' texts from any encoder: float32, shape (len(texts), dimension)."""
    if isinstance(encoder, MatrixEncoder):
        return encoder.encode_documents(texts, progress)
    return _in_parts(encoder.get_text_embedding_batch, encoder, texts, progress)


def encode_queries(
    encoder: BaseEmbedding, texts: Sequence[str], progress: Progress | None = None
) -> NDArray[np.float32]:
    """Vectors of questions from any encoder, with its prompt for them: float32, shape (len(texts), dimension)."""
    if isinstance(encoder, MatrixEncoder):
        return encoder.encode_queries(texts, progress)
    return _in_parts(lambda part: [encoder.get_query_embedding(text) for text in part], encoder, texts, progress)


def _in_parts(
    encode: Callable[[list[str]], list[list[float]]],
    encoder: BaseEmbedding,
    texts: Sequence[str],
    progress: Progress | None,
) -> NDArray[np.float32]:
    """A part at a time: lists of Python's own numbers take eight times the memory of a matrix."""
    if not len(texts):
        return np.empty((0, len(encoder.get_text_embedding(PROBE))), dtype=np.float32)
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]), reverse=True)
    found: NDArray[np.float32] | None = None
    for start in range(0, len(order), _PART):
        numbers = order[start : start + _PART]
        rows = np.asarray(encode([texts[number] for number in numbers]), dtype=np.float32)
        if found is None:
            found = np.empty((len(texts), rows.shape[1]), dtype=np.float32)
        found[numbers] = rows
        if progress is not None:
            progress(len(numbers), 0)
    assert found is not None
    return found


def probe(encoder: BaseEmbedding) -> NDArray[np.float32]:
    """The vector of a fixed sentence: it tells whether two encoders are the same, whatever they are called."""
    return encode_documents(encoder, [PROBE])[0]


def pack(vector: NDArray[np.float32]) -> str:
    """A vector as text for JSON."""
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()


def unpack(text: str) -> NDArray[np.float32]:
    """The vector that `pack` made text of."""
    return np.frombuffer(base64.b64decode(text), dtype="<f4")

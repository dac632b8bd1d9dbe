"""The texts that are encoded for nodes, and their vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import EncoderError, describe_error

if TYPE_CHECKING:
    import numpy as np
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.schema import BaseNode
    from numpy.typing import NDArray

    from ..protocols import Progress

_SHOWN_CHARACTERS = 60


def encoded_texts(nodes: Sequence[BaseNode]) -> dict[str, str]:
    """The text that is encoded for each node, by node id."""
    from llama_index.core.schema import MetadataMode

    return {node.node_id: node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes}


def encode_texts(
    encoder: BaseEmbedding, texts: Sequence[str], dimension: int, progress: Progress | None = None
) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
    """Encode texts. Those that the encoder refuses are found by halving the batch.

    Returns:
        By text the vectors, shape (dimension,) each; and the reasons for texts that cannot be encoded.

    Raises:
        Exception: The encoder fails for any text, for example because its server is down.
    """
    from ..components.encoders.identity import probe
    from ..components.encoders.matrix import encode_documents

    vectors: dict[str, NDArray[np.float32]] = {}
    refused: dict[str, str] = {}
    pending = [list(texts)]
    works = False  # whether the encoder has encoded another text since it failed
    while pending:
        part = pending.pop()
        try:
            # In one call, so that the encoder can batch texts of similar length.
            rows = encode_documents(encoder, part, progress)
            _check(rows, dimension)
        except Exception as error:  # an encoder may raise anything
            if not works or len(part) == 1:
                try:
                    probe(encoder)
                except Exception:
                    raise error from None
            works = True
            if len(part) == 1:
                refused[part[0]] = _reason(error, part[0])
            else:
                middle = len(part) // 2
                pending += [part[middle:], part[:middle]]
        else:
            vectors.update(zip(part, rows))
    return vectors, refused


def _check(rows: NDArray[np.float32], dimension: int) -> None:
    import numpy as np

    if rows.shape[1] != dimension:
        raise EncoderError(f"the encoder returns {rows.shape[1]} numbers in place of {dimension}")
    if not np.isfinite(rows).all():
        raise EncoderError("the encoder returns NaN or infinity")


def _reason(error: Exception, text: str) -> str:
    reason, beginning = describe_error(error), repr(text[:_SHOWN_CHARACTERS])
    return f"it cannot be encoded: {reason}" + ("" if beginning in reason else f": {beginning}")

"""How an index records which encoder made its vectors, and which text each vector is of."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ...protocols import Identity
from .matrix import PROBE, encode_documents

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from numpy.typing import NDArray

# Classes that were renamed after indexes had recorded them: current name to recorded name.
_RECORDED_CLASSES = {"ProseChunker": "Packed"}


NEUTRAL = frozenset(
    "device devices batch_size embed_batch_size show_progress show_progress_bar num_workers parallel_process timeout "
    "request_timeout keep_alive headers api_key token cache_folder trust_remote_code".split()
)
"""Settings that change where and how fast vectors are computed, not their values."""


def encoder_fingerprint(encoder: BaseEmbedding, settings: dict[str, Any] | None = None) -> dict[str, Any]:
    """An encoder as plain data: `encoder`, `dimension` and `probe`.

    Args:
        encoder: The encoder.
        settings: What its section of the config says; None for a ready object.
    """
    vector = probe(encoder)
    described = description(encoder) if settings is None else settings
    if isinstance(encoder, Identity):
        # The values in effect: a model's own prompt and the same prompt in the config are one prompt.
        described = {"type": described["type"], **encoder.identity()}
    else:
        described["model"] = str(getattr(encoder, "model_name", described.get("model", "")))
    return {"encoder": described, "dimension": int(vector.size), "probe": pack(vector)}


def description(part: Any) -> dict[str, Any]:
    """A ready object as an index records it: its class, and its public attributes that are plain values."""
    attributes = (getattr(part, "__dict__", None) or {}).items()
    return {"type": type_name(part)} | {
        name: value
        for name, value in attributes
        if isinstance(value, (str, int, float, bool)) and not name.startswith("_") and name not in NEUTRAL
    }


def type_name(part: Any) -> str:
    """A part's class as indexes record it: for classes of this package without the module, which may move."""
    cls = type(part)
    if cls.__module__.partition(".")[0] != __name__.partition(".")[0]:
        return f"{cls.__module__}.{cls.__qualname__}"
    return _RECORDED_CLASSES.get(cls.__name__, cls.__name__)


def probe(encoder: BaseEmbedding) -> NDArray[np.float32]:
    """The vector of a fixed sentence, shape (dimension,): it differs where the weights differ, whatever the name."""
    return encode_documents(encoder, [PROBE])[0]


def pack(vector: NDArray[np.float32]) -> str:
    """A vector as text for JSON."""
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()


def unpack(text: str) -> NDArray[np.float32]:
    """Inverse of `pack`."""
    return np.frombuffer(base64.b64decode(text), dtype="<f4")


def text_key(text: str, role: str = "document") -> bytes:
    """The key of a text in an encoder's vector cache, 16 bytes; the role is part of it, since it selects the prompt."""
    return hashlib.blake2b(f"{role}\0{text}".encode("utf-8", "surrogatepass"), digest_size=16).digest()

"""A `HuggingFaceEmbedding` that uses the model as its makers meant. Importing this module loads torch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.callbacks import CallbackManager
from llama_index.core.embeddings.multi_modal_base import MultiModalEmbedding
from llama_index.embeddings.huggingface import HuggingFaceEmbedding
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

from .errors import ComponentError
from .models import find_model, hub_error, is_cached

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PART = "encoder 'huggingface'"


class SentenceEncoder(HuggingFaceEmbedding):
    """A `HuggingFaceEmbedding` with the model's own prompts, and a way to encode many texts at once.

    Its base throws the model's own prompts away, tries every failure three times, and encodes ten texts
    at a time. Vectors are lists of floats as everywhere in LlamaIndex; `encode_documents` gives the
    matrix itself.
    """

    query_prompt: str | None = Field(default=None, description="Put before a question.")
    document_prompt: str | None = Field(default=None, description="Put before a node's text.")

    _lock: Any = PrivateAttr(default_factory=threading.Lock)

    def __init__(self, model: SentenceTransformer, *, model_name: str, **fields: Any) -> None:
        # Past the constructor of HuggingFaceEmbedding, which would load the model again without its prompts.
        MultiModalEmbedding.__init__(self, model_name=model_name, max_length=model.max_seq_length or 1, **fields)
        self._model = model
        self._device = str(model.device)
        self._parallel_process = False
        self._target_devices = None

    @classmethod
    def class_name(cls) -> str:
        return "SentenceEncoder"

    def encode_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode documents' texts, sorted by length so that little is padded.

        Returns:
            One row per text, float32, shape (len(texts), dimension).
        """
        return self._matrix(self._model.encode_document, texts, self.document_prompt)

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode questions; as `encode_documents`, with the model's prompt for questions."""
        return self._matrix(self._model.encode_query, texts, self.query_prompt)

    def _matrix(self, encode: Callable[..., Any], texts: Sequence[str], prompt: str | None) -> NDArray[np.float32]:
        given = {} if prompt is None else {"prompt": prompt}
        with self._lock:  # a fast tokenizer keeps padding and truncation as state, so one call at a time
            vectors = encode(
                list(texts),
                batch_size=self.embed_batch_size,
                normalize_embeddings=self.normalize,
                show_progress_bar=False,
                **given,
            )
        return np.ascontiguousarray(vectors, dtype=np.float32)

    def _embed(self, inputs: list[Any], prompt_name: str | None = None) -> list[list[float]]:
        encode = self.encode_queries if prompt_name == "query" else self.encode_documents
        return encode(inputs).tolist()  # type: ignore[no-any-return]


def load_sentence_encoder(
    *,
    model: str,
    device: str | None,
    batch_size: int,
    normalize: bool,
    pooling: str | None,
    max_length: int | None,
    query_prompt: str | None,
    document_prompt: str | None,
    revision: str | None,
    trust_remote_code: bool,
    callback_manager: CallbackManager | None = None,
) -> SentenceEncoder:
    """Load a model and wrap it for LlamaIndex; what is on this machine is loaded without a look at the network.

    Raises:
        ComponentError: The model cannot be found, or not loaded.
    """
    source = find_model(model, _PART)
    try:
        loaded = SentenceTransformer(
            source.name,
            device=device,
            revision=revision,
            trust_remote_code=trust_remote_code,
            local_files_only=source.is_local or is_cached(source.name, revision),
        )
    except (OSError, ValueError) as error:
        if not source.is_local:
            raise hub_error(_PART, source, error) from error
        first = str(error).strip().partition("\n")[0]
        raise ComponentError(f"{_PART}: {source.name} holds no model that can be loaded: {first}") from error
    for name, module in list(loaded.named_children()):
        if isinstance(module, Normalize) and not normalize:
            delattr(loaded, name)
        elif isinstance(module, Pooling) and pooling is not None:
            setattr(loaded, name, Pooling(module.embedding_dimension, pooling_mode=pooling).to(loaded.device))
    if max_length is not None:
        limit = _positions(loaded)
        if limit is not None and max_length > limit:
            raise ComponentError(f"{_PART}: max_length {max_length} is more than the model was built for ({limit})")
        loaded.max_seq_length = max_length
    return SentenceEncoder(
        loaded,
        model_name=source.label,
        embed_batch_size=batch_size,
        normalize=normalize,
        query_prompt=query_prompt,
        document_prompt=document_prompt,
        callback_manager=callback_manager or CallbackManager(),
    )


def _positions(model: SentenceTransformer) -> int | None:
    """The most positions the transformer underneath was built for, in tokens; None where it does not say."""
    config = getattr(getattr(model[0], "model", None) or getattr(model[0], "auto_model", None), "config", None)
    limit = getattr(config, "max_position_embeddings", None)
    return int(limit) if isinstance(limit, int) and limit > 0 else None

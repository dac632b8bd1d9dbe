"""An encoder for models in this process, with their own prompts and batches by length. Importing it loads torch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.callbacks import CallbackManager
from llama_index.core.embeddings.multi_modal_base import MultiModalEmbedding

from ...errors import EncoderError
from ..model_files.hub import HubModel, cached_folder
from ..model_files.locate import find_model
from .batching import (
    MAX_CONCURRENT_TEXTS,
    MAX_TEXTS_PER_CALL,
    FairLock,
    batches_by_length,
    check_texts,
    windows_by_length,
)
from .bert_model import BertModel
from .long_texts import encode_whole
from .processes import EncoderProcesses
from .prompts import effective_prompts, family_of
from .role_embedding import RoleEmbedding
from .sentence_model import (
    PART,
    EncoderSettings,
    apply_settings,
    check_environment,
    family_names,
    load_model,
    max_word_characters,
    own_prompts,
    pooling_of,
)
from .tokens import model_max_input_tokens, model_tokens

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...protocols import Progress, Tokens
    from .sentence_model import SentenceModel

_log = logging.getLogger(__name__)

_MIN_TEXTS_FOR_PROCESSES = MAX_CONCURRENT_TEXTS + 1  # questions are encoded here and do not wait for the processes
_TOKENS_PER_BATCH_ON_GPU = 16_384
_TOKENS_PER_THREAD, _MIN_TOKENS_PER_BATCH = 1024, 2048  # fastest on a CPU


_MAX_PROMPT_TOKENS = 100  # above that number of free tokens, a short text is not counted


class SentenceEncoder(RoleEmbedding, MultiModalEmbedding):
    """Encodes texts with a model in this process, with the model's own prompts and batches by length.

    LlamaIndex's HuggingFaceEmbedding drops the model's own prompts, retries every failure three times, and encodes ten
    texts at a time. Thread-safe: texts requested while a batch is encoded share the next one.
    """

    max_length: int = Field(gt=0, description="Maximum tokens of a text.")
    normalize: bool = Field(default=True, description="Scale vectors to length 1.")
    query_instruction: str = Field(default="", description="The query prompt, as in HuggingFaceEmbedding.")
    text_instruction: str = Field(default="", description="The document prompt, as in HuggingFaceEmbedding.")

    _model: Any = PrivateAttr()
    # Two locks: a question is tokenized while a batch of a sync is encoded, and waits for that batch only.
    _tokenizer_lock: FairLock = PrivateAttr(default_factory=FairLock)
    _model_lock: FairLock = PrivateAttr(default_factory=FairLock)
    _processes: EncoderProcesses | None = PrivateAttr(default=None)
    _batch_size: int | None = PrivateAttr(default=None)
    _batch_tokens: int = PrivateAttr(default=_MIN_TOKENS_PER_BATCH)
    _has_token_rows: bool = PrivateAttr(default=False)
    _settings: EncoderSettings | None = PrivateAttr(default=None)

    def __init__(
        self,
        model: SentenceModel,
        *,
        model_name: str,
        batch_size: int | None = None,
        settings: EncoderSettings | None = None,
        **fields: Any,
    ) -> None:
        super().__init__(
            model_name=model_name,
            max_length=model.max_seq_length or 1,
            embed_batch_size=MAX_TEXTS_PER_CALL,
            query_instruction=fields.get("query_prompt", ""),
            text_instruction=fields.get("document_prompt", ""),
            **fields,
        )
        self._model = model
        self._batch_size = batch_size
        self._batch_tokens = _tokens_per_batch(model.device)
        self._settings = settings
        if settings is not None and settings.devices:
            self._processes = EncoderProcesses(partial(_load_on_device, settings), settings.devices)
        self._has_token_rows = _has_token_rows(model)
        model.eval()
        # For callers that use the model itself.
        model.prompts.update({"query": self.query_prompt, "document": self.document_prompt})

    @classmethod
    def class_name(cls) -> str:
        return "SentenceEncoder"

    def __reduce__(self) -> tuple[Callable[[EncoderSettings], SentenceEncoder], tuple[EncoderSettings]]:
        """Pickled as its settings: another process, such as an ingestion worker, loads the model again."""
        if self._settings is None:
            raise TypeError("only an encoder of load_sentence_encoder can be pickled")
        return _load, (self._settings,)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> SentenceEncoder:
        load, arguments = self.__reduce__()
        return load(*arguments)

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """The fields, and the settings by which `from_dict` loads the model again."""
        data: dict[str, Any] = super().to_dict(**kwargs)
        return data | {"settings": None if self._settings is None else asdict(self._settings)}

    @classmethod
    def from_dict(cls, data: dict[str, Any], **kwargs: Any) -> SentenceEncoder:
        """Load the model of `to_dict` again."""
        if data.get("settings") is None:
            raise TypeError("only an encoder of load_sentence_encoder can be restored from a dict")
        return _load(EncoderSettings(**{**data["settings"], **kwargs}))

    # ------------------------------------------------------------------ properties

    @property
    def dimension(self) -> int:
        """Numbers of a vector."""
        dimension = self._model.get_embedding_dimension()
        if dimension is None:
            _, rows, _ = next(self._encode_window(["dimension"], "document"))
            dimension = rows.shape[1]
        return int(dimension)

    def identity(self) -> dict[str, Any]:
        """Model, prompts and settings in effect, as JSON data.

        Device, batches and processes are left out: they affect the speed only.
        """
        model = self._model
        return {
            "model": self.model_name,
            "query_prompt": self.query_prompt,
            "document_prompt": self.document_prompt,
            "pooling": pooling_of(model),
            "normalize": self.normalize,
            "max_length": model.max_seq_length,
            "truncate_dim": model.truncate_dim,
            "dtype": None if model.dtype is None else str(model.dtype).removeprefix("torch."),
            "backend": model.get_backend(),
            "longest_word": max_word_characters(model),
        }

    def tokens(self) -> Tokens:
        """The model's tokenization."""
        return model_tokens(self._model)

    def max_input_tokens(self) -> int | None:
        """Maximum tokens of a text, special tokens and document prompt deducted; None for no limit."""
        return model_max_input_tokens(self._model, self.document_prompt)

    def close(self) -> None:
        """End the processes for `devices`; the next large call starts them again."""
        if self._processes is not None:
            self._processes.close()

    # ------------------------------------------------------------------ encoding

    def _matrix(self, texts: Sequence[str], role: str, progress: Progress | None) -> NDArray[np.float32]:
        check_texts(texts)
        limit = self.max_length if role == "query" else None
        if limit is not None and any(len(text) > limit - _MAX_PROMPT_TOKENS for text in texts):
            # A question has no chunker: the end of a long one would have no effect.
            limit = model_max_input_tokens(self._model, self.query_prompt)
            return encode_whole(lambda pieces: self._vectors(pieces, role, progress), texts, self.tokens(), limit)
        return self._vectors(texts, role, progress)

    def _vectors(self, texts: Sequence[str], role: str, progress: Progress | None) -> NDArray[np.float32]:
        matrix = np.empty((len(texts), self.dimension), dtype=np.float32)
        windows = windows_by_length(texts)
        if self._processes is not None and len(texts) >= _MIN_TEXTS_FOR_PROCESSES:
            parts = self._processes.encode(texts, windows, role)
        else:
            parts = self._encode_windows(texts, windows, role)
        for indices, rows, tokens in parts:
            matrix[indices] = rows
            if progress is not None:
                progress(len(indices), tokens)
        return matrix

    def _encode_windows(
        self, texts: Sequence[str], windows: Iterator[list[int]], role: str
    ) -> Iterator[tuple[list[int], NDArray[np.float32], int]]:
        for window in windows:
            for batch, rows, tokens in self._encode_window([texts[index] for index in window], role):
                yield [window[position] for position in batch], rows, tokens

    def _encode_window(self, texts: list[str], role: str) -> Iterator[tuple[list[int], NDArray[np.float32], int]]:
        """Encode texts that are tokenized together; yields for each batch its indices, vectors and tokens."""
        if not self._has_token_rows:
            yield from self._encode_by_library(texts, role)
            return
        with self._tokenizer_lock.turn():  # a fast tokenizer stores padding and truncation as state
            tokenized = self._model.preprocess(
                texts,
                prompt=self.prompt_of(role),
                task=role,
                processing_kwargs={"text": {"padding": False}, "common": {"return_tensors": None}},
            )
        per_text = {name: value for name, value in tokenized.items() if isinstance(value, list)}
        shared = {name: value for name, value in tokenized.items() if not isinstance(value, list)}
        lengths = [len(ids) for ids in per_text["input_ids"]]
        for batch in self._batches(lengths):
            features = {name: [value[index] for index in batch] for name, value in per_text.items()}
            with self._model_lock.turn():
                rows = self._forward(features, shared, role)
            yield batch, rows, sum(lengths[index] for index in batch)

    def _batches(self, lengths: list[int]) -> Iterator[list[int]]:
        if self._batch_size is not None:
            return batches_by_length(lengths, max_texts=self._batch_size)
        return batches_by_length(lengths, max_tokens=self._batch_tokens)

    @torch.inference_mode()
    def _forward(self, features: dict[str, list[Any]], shared: dict[str, Any], role: str) -> NDArray[np.float32]:
        try:
            padded = self._model.tokenizer.pad(features, padding=True, return_tensors="pt")
            inputs = {name: value.to(self._model.device) for name, value in padded.items()}
            return self._to_numpy(self._model({**inputs, **shared}, task=role)["sentence_embedding"])
        except torch.OutOfMemoryError:
            count = len(features["input_ids"])
            if count == 1:
                raise
        # Outside the except block: the exception would keep the tensors of the failed attempt alive.
        if self._batch_size is None:
            self._batch_tokens = max(256, self._batch_tokens // 2)
        _log.warning("%s: a batch of %d texts exceeded the device's memory; it is halved", PART, count)
        halves = slice(None, count // 2), slice(count // 2, None)
        return np.concatenate(
            [self._forward({name: value[half] for name, value in features.items()}, shared, role) for half in halves]
        )

    def _to_numpy(self, vectors: torch.Tensor) -> NDArray[np.float32]:
        """Vectors as float32, truncated and normalized as set."""
        vectors = vectors.float()
        if self._model.truncate_dim is not None:
            vectors = vectors[..., : self._model.truncate_dim]
        if self.normalize:
            vectors = torch.nn.functional.normalize(vectors, p=2, dim=-1)
        return np.asarray(vectors.cpu().numpy(), dtype=np.float32)

    def _encode_by_library(self, texts: list[str], role: str) -> Iterator[tuple[list[int], NDArray[np.float32], int]]:
        """For models whose input is not one row of tokens (chat templates, routes, images, flattened batches)."""
        encode = self._model.encode_query if role == "query" else self._model.encode_document
        lengths = [len(text) // 3 + 2 for text in texts]
        for batch in self._batches(lengths):
            with self._model_lock.turn():
                vectors = encode(
                    [texts[index] for index in batch],
                    prompt=self.prompt_of(role),
                    batch_size=len(batch),
                    normalize_embeddings=False,
                    convert_to_tensor=True,
                    show_progress_bar=False,
                )
                rows = self._to_numpy(vectors)
            yield batch, rows, sum(lengths[index] for index in batch)

    def _embed_one(self, text: str, role: str) -> list[float]:
        if self._model_lock.is_free:
            return super()._embed_one(text, role)
        return self._batcher.submit(self._embed_batch, text, role).result().tolist()

    def _get_image_embedding(self, img_file_path: Any) -> list[float]:
        return self._get_image_embeddings([img_file_path])[0]

    def _get_image_embeddings(self, img_file_paths: list[Any]) -> list[list[float]]:
        if isinstance(self._model, BertModel):
            raise EncoderError(f"{PART}: {self.model_name} encodes texts and no images")
        with self._model_lock.turn():
            vectors = self._model.encode(
                img_file_paths, batch_size=self._batch_size or 32, convert_to_tensor=True, show_progress_bar=False
            )
            return self._to_numpy(vectors).tolist()  # type: ignore[no-any-return]

    async def _aget_image_embedding(self, img_file_path: Any) -> list[float]:
        return await asyncio.to_thread(self._get_image_embedding, img_file_path)

    async def _aget_image_embeddings(self, img_file_paths: list[Any]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_image_embeddings, img_file_paths)


# ---------------------------------------------------------------------- loading


def load_sentence_encoder(*, callback_manager: CallbackManager, **settings: Any) -> SentenceEncoder:
    """Load a model for LlamaIndex, with the settings of component `huggingface` (see `EncoderSettings`).

    Uses no network.

    Raises:
        ComponentError: The model cannot be found, is incomplete in the hub's cache, or cannot be loaded.
        MissingPackage: The backend is not installed.
    """
    return _load(EncoderSettings(**settings), callback_manager)


def _load(settings: EncoderSettings, callback_manager: CallbackManager | None = None) -> SentenceEncoder:
    source = find_model(settings.model, PART)
    hub_model = HubModel(source.name, settings.revision, settings.backend, trust_remote_code=settings.trust_remote_code)
    folder = source.name if source.is_local else cached_folder(hub_model, PART)
    check_environment(settings)
    model = load_model(folder, source, settings)
    family = family_of(*family_names(source))
    apply_settings(model, family, settings)
    configured = {"query": settings.query_prompt, "document": settings.document_prompt}
    encoder = SentenceEncoder(
        model,
        model_name=source.label,
        batch_size=None if settings.batch_size == "auto" else int(settings.batch_size),
        settings=settings,
        normalize=settings.normalize,
        callback_manager=callback_manager or CallbackManager(),
        **effective_prompts(family, configured, own_prompts(model)),
    )
    encoder.log_prompts(_log, f"{source.label} on {model.device}")
    return encoder


def _load_on_device(settings: EncoderSettings, device: str) -> SentenceEncoder:
    return _load(replace(settings, device=device, devices=None))


def _tokens_per_batch(device: torch.device) -> int:
    if device.type != "cpu":
        return _TOKENS_PER_BATCH_ON_GPU
    return max(_MIN_TOKENS_PER_BATCH, _TOKENS_PER_THREAD * torch.get_num_threads())


def _has_token_rows(model: SentenceModel) -> bool:
    """Whether a text becomes one row of tokens, so that texts can be tokenized together and batched afterwards."""
    if isinstance(model, BertModel):
        return True
    from sentence_transformers.base.modules import Transformer

    first = model[0]
    return (
        isinstance(first, Transformer)
        and first.tokenizer is not None
        and "text" in first.modality_config
        and "message" not in first.modality_config
        and first.query_expansion is None
        and not first.can_flatten_inputs
    )

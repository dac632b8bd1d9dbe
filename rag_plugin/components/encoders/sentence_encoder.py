"""A `HuggingFaceEmbedding` that uses the model as its makers meant. Importing this module loads torch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.callbacks import CallbackManager
from llama_index.core.embeddings.multi_modal_base import MultiModalEmbedding
from llama_index.embeddings.huggingface import HuggingFaceEmbedding
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer

from ..model_files.hub import HubModel, cached_folder
from ..model_files.locate import find_model
from ..model_files.weights_hash import WeightsDigest
from .batching import BatcherPool, FairLock, RoleEmbedding, batches_by_length, check_texts, windows_by_length
from .processes import EncoderProcesses
from .prompts import family_of
from .sentence_model import PART, check_device, load_model, longest_word, names_of, pooling_of, prompts_of, shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...protocols import Progress

_log = logging.getLogger(__name__)

_EVERYTHING = 2048  # the most texts that LlamaIndex hands over together; they are sorted and batched here
_FEW = 256  # texts that are encoded in this process, though there are others: a question does not wait for them
_ON_DEVICE = 16_384  # tokens of a batch on a graphics card; on a processor 1,024 for each of its threads are fastest


class SentenceEncoder(RoleEmbedding, HuggingFaceEmbedding):
    """A `HuggingFaceEmbedding` with the model's own prompts, that batches what it gets by length.

    Its base throws the model's own prompts away, tries every failure three times, and encodes ten texts
    at a time. Vectors are lists of floats as everywhere in LlamaIndex; `encode_documents` gives the
    matrix itself. Any number of threads, tasks and event loops may ask at once: what they ask meanwhile is
    encoded together.

    `query_prompt` and `document_prompt` are what really stands before a text, "" for nothing; where each comes from
    says `query_prompt_from`, `document_prompt_from`: `config`, `model`, `family NAME` or `none`.
    """

    query_prompt: str = Field(default="", description="Put before a question.")
    document_prompt: str = Field(default="", description="Put before a node's text.")
    query_prompt_from: str = Field(default="none", description="Where the prompt for questions comes from.")
    document_prompt_from: str = Field(default="none", description="Where the prompt for nodes comes from.")

    # Apart, so that a question is tokenized while a batch of a sync is encoded, and waits for that one batch only.
    _tokenizing: Any = PrivateAttr(default_factory=FairLock)
    _lock: Any = PrivateAttr(default_factory=FairLock)
    _together: BatcherPool = PrivateAttr(default_factory=BatcherPool)
    _processes: Any = PrivateAttr(default=None)
    _rows: int | None = PrivateAttr(default=None)
    _tokens: int = PrivateAttr(default=2048)
    _weights: Any = PrivateAttr(default=None)
    _batches_here: bool = PrivateAttr(default=False)
    _again: Any = PrivateAttr(default=None)

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        model_name: str,
        batch_size: int | None = None,
        weights: Callable[[], str] | None = None,
        processes: EncoderProcesses | None = None,
        again: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        # Past the constructor of HuggingFaceEmbedding, which would load the model again without its prompts.
        MultiModalEmbedding.__init__(
            self,
            model_name=model_name,
            max_length=model.max_seq_length or 1,
            embed_batch_size=_EVERYTHING,
            query_instruction=fields.get("query_prompt", ""),
            text_instruction=fields.get("document_prompt", ""),
            **fields,
        )
        self._model = model
        self._device = str(model.device)
        self._parallel_process = False
        self._target_devices = None
        self._rows = batch_size
        self._tokens = _token_budget(model.device)
        self._weights = weights
        self._processes = processes
        self._again = again
        self._batches_here = _is_plain(model)
        model.eval()
        # For those who ask the model itself.
        model.prompts.update({"query": self.query_prompt, "document": self.document_prompt})

    @classmethod
    def class_name(cls) -> str:
        return "SentenceEncoder"

    def __reduce__(self) -> tuple[Callable[[dict[str, Any]], SentenceEncoder], tuple[dict[str, Any]]]:
        """Another process, such as a worker of an ingestion pipeline, loads the model anew by the same settings."""
        if self._again is None:
            raise TypeError("only an encoder of load_sentence_encoder can be sent to another process")
        return _load_again, (dict(self._again),)

    # ------------------------------------------------------------------ what it is

    @property
    def dimension(self) -> int:
        """How many numbers a vector has."""
        known = self._model.get_embedding_dimension()
        if known is None:
            known = int(self._embed_batch(["dimension"], "document").shape[1])
        return int(known)

    def identity(self) -> dict[str, Any]:
        """What decides which vector a text gets, as plain data: the weights, the prompts, and every setting in effect.

        Where and how fast it is computed (device, batches, processes) is no part of it.
        """
        model = self._model
        return {
            "model": self.model_name,
            "weights": self._weights() if self._weights is not None else "",
            "query_prompt": self.query_prompt,
            "document_prompt": self.document_prompt,
            "pooling": pooling_of(model),
            "normalize": self.normalize,
            "max_length": model.max_seq_length,
            "truncate_dim": model.truncate_dim,
            "dtype": None if model.dtype is None else str(model.dtype).removeprefix("torch."),
            "backend": model.get_backend(),
            "longest_word": longest_word(model),
        }

    def close(self) -> None:
        """End the processes that `devices` asked for; they start again when they are needed."""
        if self._processes is not None:
            self._processes.close()

    # ------------------------------------------------------------------ many texts

    def encode_documents(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Encode documents' texts, sorted by length so that little is padded.

        Args:
            texts: Any number; besides the result, memory holds the tokens of some hundred of them at a time.
            progress: Called with the texts and the tokens that were encoded since the last call.

        Returns:
            One row per text, float32, shape (len(texts), dimension).

        Raises:
            EncoderError: A text cannot be encoded, or a process that encodes has died.
        """
        return self._matrix(texts, "document", progress)

    def encode_queries(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Encode questions; as `encode_documents`, with the prompt for questions."""
        return self._matrix(texts, "query", progress)

    def _matrix(self, texts: Sequence[str], role: str, progress: Progress | None) -> NDArray[np.float32]:
        check_texts(texts)
        found = np.empty((len(texts), self.dimension), dtype=np.float32)
        windows = windows_by_length(texts)
        if self._processes is not None and len(texts) > _FEW:
            for numbers, rows, tokens in self._processes.encode(texts, windows, role):
                found[numbers] = rows
                if progress is not None:
                    progress(len(numbers), tokens)
            return found
        for window in windows:
            part = [texts[number] for number in window]
            for places, rows, tokens in self._encode_window(part, role):
                found[[window[place] for place in places]] = rows
                if progress is not None:
                    progress(len(places), tokens)
        return found

    def _embed_batch(self, texts: list[str], role: str) -> NDArray[np.float32]:
        """Rows for a group of texts, as `_matrix`; always in this process."""
        check_texts(texts)
        parts = [(places, rows) for places, rows, _ in self._encode_window(texts, role)]
        found = np.empty((len(texts), parts[0][1].shape[1]), dtype=np.float32)
        for places, rows in parts:
            found[places] = rows
        return found

    def _encode_window(self, texts: list[str], role: str) -> Iterator[tuple[list[int], NDArray[np.float32], int]]:
        """Rows batch by batch: the places of its texts, their vectors, their tokens."""
        prompt = self.query_prompt if role == "query" else self.document_prompt
        if not self._batches_here:
            yield from self._encode_by_library(texts, role, prompt)
            return
        with self._tokenizing.turn():  # a fast tokenizer keeps padding and truncation as state
            tokenized = self._model.preprocess(
                texts,
                prompt=prompt,
                task=role,
                processing_kwargs={"text": {"padding": False}, "common": {"return_tensors": None}},
            )
        rows_of = {name: value for name, value in tokenized.items() if isinstance(value, list)}
        others = {name: value for name, value in tokenized.items() if not isinstance(value, list)}
        lengths = [len(ids) for ids in rows_of["input_ids"]]
        for batch in batches_by_length(lengths, rows=self._rows, tokens=self._tokens):
            features = {name: [value[place] for place in batch] for name, value in rows_of.items()}
            with self._lock.turn():
                rows = self._forward(features, others, role)
            yield batch, rows, sum(lengths[place] for place in batch)

    @torch.inference_mode()
    def _forward(self, features: dict[str, list[Any]], others: dict[str, Any], role: str) -> NDArray[np.float32]:
        try:
            padded = self._model.tokenizer.pad(features, padding=True, return_tensors="pt")
            inputs = {name: value.to(self._model.device) for name, value in padded.items()}
            return self._finished(self._model({**inputs, **others}, task=role)["sentence_embedding"])
        except torch.OutOfMemoryError:
            count = len(features["input_ids"])
            if count == 1:
                raise
        # Outside of the handler, which keeps the tensors of the failed attempt alive.
        if self._rows is None:
            self._tokens = max(256, self._tokens // 2)
        _log.warning("%s: a batch of %d texts did not fit into the device's memory; halved", PART, count)
        halves = [{name: value[part] for name, value in features.items()} for part in _halves(count)]
        return np.concatenate([self._forward(half, others, role) for half in halves])

    def _finished(self, vectors: torch.Tensor) -> NDArray[np.float32]:
        vectors = vectors.float()
        if self._model.truncate_dim is not None:
            vectors = vectors[..., : self._model.truncate_dim]
        if self.normalize:
            vectors = torch.nn.functional.normalize(vectors, p=2, dim=-1)
        return np.asarray(vectors.cpu().numpy(), dtype=np.float32)

    def _encode_by_library(
        self, texts: list[str], role: str, prompt: str
    ) -> Iterator[tuple[list[int], NDArray[np.float32], int]]:
        """For models whose input is no plain row of tokens (chat templates, routes, images, flattened batches)."""
        encode = self._model.encode_query if role == "query" else self._model.encode_document
        lengths = [len(text) // 3 + 2 for text in texts]
        for batch in batches_by_length(lengths, rows=self._rows, tokens=self._tokens):
            with self._lock.turn():
                vectors = encode(
                    [texts[place] for place in batch],
                    prompt=prompt,
                    batch_size=len(batch),
                    normalize_embeddings=False,
                    convert_to_tensor=True,
                    show_progress_bar=False,
                )
                rows = self._finished(vectors)
            yield batch, rows, sum(lengths[place] for place in batch)

    # ------------------------------------------------------------------ one text, as LlamaIndex asks

    def _embed_one(self, text: str, role: str) -> list[float]:
        if self._lock.try_now():  # nobody else is here, so there is nobody to wait for
            self._lock.release()
            return self._embed_batch([text], role)[0].tolist()  # type: ignore[no-any-return]
        return self._together.of(self).submit(text, role).result().tolist()  # type: ignore[no-any-return]

    def _embed(self, inputs: list[Any], prompt_name: str | None = None) -> list[list[float]]:
        """What its base calls for images: the library knows how to read them."""
        if prompt_name is not None:
            return self._matrix(inputs, "query" if prompt_name == "query" else "document", None).tolist()
        with self._lock.turn():
            vectors = self._model.encode(
                inputs, batch_size=self._rows or 32, convert_to_tensor=True, show_progress_bar=False
            )
            return self._finished(vectors).tolist()  # type: ignore[no-any-return]

    async def _aget_image_embedding(self, img_file_path: Any) -> list[float]:
        return await asyncio.to_thread(self._get_image_embedding, img_file_path)

    async def _aget_image_embeddings(self, img_file_paths: list[Any]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_image_embeddings, img_file_paths)


# ---------------------------------------------------------------------- loading


def load_sentence_encoder(
    *,
    model: str,
    device: str | None = None,
    devices: Sequence[str] | None = None,
    batch_size: int | str = "auto",
    normalize: bool = True,
    pooling: str | None = None,
    max_length: int | None = None,
    truncate_dim: int | None = None,
    dtype: str = "auto",
    backend: str = "torch",
    query_prompt: str | None = None,
    document_prompt: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    callback_manager: CallbackManager | None = None,
) -> SentenceEncoder:
    """Load a model and wrap it for LlamaIndex. No network is looked at, wherever the model lies.

    Raises:
        ComponentError: The model cannot be found, is not whole in the hub's cache, or cannot be loaded so.
        MissingPackage: The backend is not installed.
    """
    source = find_model(model, PART)
    hub_model = HubModel(source.name, revision, backend, trust_remote_code=trust_remote_code)
    folder = source.name if source.is_local else cached_folder(hub_model, PART)
    if device is not None:
        check_device(device, "device")
    for name in devices or ():
        check_device(name, "devices")
    weights = WeightsDigest(Path(folder), backend)
    loaded = load_model(
        folder, source, device=device, dtype=dtype, backend=backend, trust_remote_code=trust_remote_code
    )
    family = family_of(*names_of(source))
    shape(loaded, family, normalize=normalize, pooling=pooling, max_length=max_length, truncate_dim=truncate_dim)
    prompts = prompts_of(loaded, family, {"query": query_prompt, "document": document_prompt})
    again = {
        **{"model": model, "batch_size": batch_size, "normalize": normalize, "pooling": pooling},
        **{"max_length": max_length, "truncate_dim": truncate_dim, "dtype": dtype, "backend": backend},
        **{"query_prompt": query_prompt, "document_prompt": document_prompt},
        **{"revision": revision, "trust_remote_code": trust_remote_code},
    }
    encoder = SentenceEncoder(
        loaded,
        model_name=source.label,
        batch_size=None if batch_size == "auto" else int(batch_size),
        weights=weights,
        processes=EncoderProcesses(load_sentence_encoder, again, devices) if devices else None,
        again={**again, "device": device, "devices": devices},
        normalize=normalize,
        query_prompt=prompts["query"][0],
        query_prompt_from=prompts["query"][1],
        document_prompt=prompts["document"][0],
        document_prompt_from=prompts["document"][1],
        callback_manager=callback_manager or CallbackManager(),
    )
    _log.info(
        "%s on %s: query prompt %r (%s), document prompt %r (%s)",
        *(source.label, loaded.device),
        *(encoder.query_prompt, encoder.query_prompt_from, encoder.document_prompt, encoder.document_prompt_from),
    )
    return encoder


def _load_again(settings: dict[str, Any]) -> SentenceEncoder:
    return load_sentence_encoder(**settings)


# ---------------------------------------------------------------------- batches


def _token_budget(device: torch.device) -> int:
    return max(2048, 1024 * torch.get_num_threads()) if device.type == "cpu" else _ON_DEVICE


def _is_plain(model: SentenceTransformer) -> bool:
    """Whether a text becomes one row of tokens, so that texts can be tokenized together and batched afterwards."""
    first = model[0]
    return (
        isinstance(first, Transformer)
        and first.tokenizer is not None
        and "text" in first.modality_config
        and "message" not in first.modality_config
        and first.query_expansion is None
        and not first.can_flatten_inputs
    )


def _halves(count: int) -> tuple[slice, slice]:
    return slice(None, count // 2), slice(count // 2, None)

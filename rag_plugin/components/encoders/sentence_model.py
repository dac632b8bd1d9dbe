"""Loads a model and applies the settings: BERT by torch alone, any other model by sentence-transformers.

Importing this module loads torch.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from ...errors import ComponentError, MissingPackage, one_line_reason
from ..model_files.locate import ModelSource
from .bert_files import load_bert
from .prompts import Family

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from .bert_model import BertModel

    SentenceModel: TypeAlias = BertModel | SentenceTransformer

PART = "encoder 'huggingface'"

_BACKEND_MODULES = {"onnx": "optimum.onnxruntime", "openvino": "optimum.intel.openvino"}
_INSTALL = {"onnx": '"sentence-transformers[onnx]"', "openvino": '"rag-plugin[openvino]"'}
_log = logging.getLogger(__name__)

_DOCUMENT_PROMPT_NAMES = ("document", "passage", "corpus")  # names of the document prompt in a model's config


@dataclass(frozen=True)
class EncoderSettings:
    """The settings of component `huggingface`, whose signature holds their meaning and defaults."""

    model: str
    query_prompt: str | None
    document_prompt: str | None
    pooling: str | None
    normalize: bool
    max_length: int | None
    truncate_dim: int | None
    dtype: str
    device: str | None
    devices: Sequence[str] | None
    backend: str
    batch_size: int | str
    revision: str | None
    trust_remote_code: bool


def check_environment(settings: EncoderSettings) -> None:
    """Check that the devices are available (ComponentError) and the backend is installed (MissingPackage)."""
    if settings.device is not None:
        _check_device(settings.device, "device")
    for device in settings.devices or ():
        _check_device(device, "devices")
    _check_backend(settings)


def load_model(folder: str, source: ModelSource, settings: EncoderSettings) -> SentenceModel:
    """Load a model from a folder.

    Raises:
        ComponentError: The folder contains no loadable model.
        MissingPackage: A package of the model's own code is not installed.
    """
    try:
        if settings.backend == "torch" and not settings.trust_remote_code:
            model = load_bert(folder, dtype=settings.dtype, device=settings.device)
            if model is not None:
                return model
        return _load_by_library(folder, settings)
    except ModuleNotFoundError as error:  # a dependency of the model's own code, or of an adapter
        name = error.name or "unknown"
        raise MissingPackage(PART, name, name.partition(".")[0].replace("_", "-")) from error
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        location = source.name if source.is_local else f"{source.name!r}, in {folder},"
        reason = one_line_reason(error, first_line=True)
        raise ComponentError(f"{PART}: {location} contains no loadable model: {reason}") from error


def _load_by_library(folder: str, settings: EncoderSettings) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer
    from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

    had_progress_bar = is_progress_bar_enabled()
    disable_progress_bar()  # it would appear for about one second in the terminal of an application
    try:
        return SentenceTransformer(
            # A hub model is loaded by its cache folder too: a name would be looked up in the network for other files.
            folder,
            device=settings.device,
            trust_remote_code=settings.trust_remote_code,
            local_files_only=True,
            backend=settings.backend,  # type: ignore[arg-type]
            model_kwargs=None if settings.dtype == "auto" else {"dtype": getattr(torch, settings.dtype)},
        )
    finally:
        if had_progress_bar:
            enable_progress_bar()


def _check_backend(settings: EncoderSettings) -> None:
    backend = settings.backend
    if backend == "torch":
        return
    try:
        import_module(_BACKEND_MODULES[backend])
    except ModuleNotFoundError as error:
        raise MissingPackage(f"{PART} with backend {backend}", error.name or backend, _INSTALL[backend]) from error
    except ImportError as error:
        raise ComponentError(
            f"{PART}: the package for backend {backend} is incompatible with the installed packages: {error}"
        ) from error
    if settings.dtype != "auto":
        raise ComponentError(
            f"{PART}: dtype {settings.dtype} is for the backend torch; {backend} models have the dtype of their export"
        )


def _check_device(name: str, setting: str) -> None:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ComponentError(
            f"{PART}: {setting} {name!r} is not a torch device; write cpu, cuda, cuda:1 or mps"
        ) from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            raise ComponentError(
                f"{PART}: {setting} is {name!r}, and torch {torch.__version__} finds no CUDA device; "
                "install a torch with CUDA, or leave it unset"
            )
        if (device.index or 0) >= count:
            raise ComponentError(f"{PART}: {setting} is {name!r}, and there are {count} CUDA devices, from cuda:0")
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise ComponentError(f"{PART}: {setting} is {name!r}, and torch finds no such device; leave it unset")


def apply_settings(model: SentenceModel, family: Family | None, settings: EncoderSettings) -> None:
    """Apply pooling, normalization, maximum length and dimension to a loaded model.

    Raises:
        ComponentError: The model does not support a setting.
    """
    pooling, max_length, truncate_dim = settings.pooling, settings.max_length, settings.truncate_dim
    poolings = _poolings(model)
    for name, module in list(model.named_children()):
        if type(module).__name__ == "Normalize" and not settings.normalize:
            delattr(model, name)
        elif name in poolings:
            include_prompt = module.include_prompt and (family is None or family.pools_prompt)
            mode = pooling or module.pooling_mode
            new = type(module)(module.embedding_dimension, pooling_mode=mode, include_prompt=include_prompt)
            setattr(model, name, new.to(model.device))
    if pooling is not None and not poolings:
        raise ComponentError(f"{PART}: this model has no pooling layer, so pooling cannot be {pooling!r}")
    if max_length is not None:
        limit = _max_positions(model)
        if limit is not None and max_length > limit:
            raise ComponentError(f"{PART}: max_length {max_length} exceeds the model's maximum of {limit}")
        model.max_seq_length = max_length
    if truncate_dim is not None:
        model.truncate_dim = None
        dimension = model.get_embedding_dimension()
        if dimension is not None and truncate_dim > dimension:
            raise ComponentError(f"{PART}: truncate_dim {truncate_dim} exceeds the model's dimension of {dimension}")
        model.truncate_dim = truncate_dim
    _divide_long_words(model)


def _max_positions(model: SentenceModel) -> int | None:
    """Maximum tokens of the underlying transformer; None where unknown."""
    limit = getattr(getattr(model.transformers_model, "config", None), "max_position_embeddings", None)
    return int(limit) if isinstance(limit, int) and limit > 0 else None


def _divide_long_words(model: SentenceModel) -> None:
    """Make a WordPiece tokenizer divide long words.

    By default it replaces a word of more than 100 characters by one unknown token, so that a line of data or a long
    identifier in code would have no meaning. A higher limit would cost quadratic time.
    """
    length = max_word_characters(model)
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if length is None or backend is None or backend.pre_tokenizer is None:
        return
    from tokenizers.pre_tokenizers import FixedLength
    from tokenizers.pre_tokenizers import Sequence as Steps

    backend.pre_tokenizer = Steps([backend.pre_tokenizer, FixedLength(length)])


def max_word_characters(model: SentenceModel) -> int | None:
    """The length at which a WordPiece tokenizer divides a word; None for other tokenizers."""
    backend = getattr(getattr(model, "tokenizer", None), "backend_tokenizer", None)
    return getattr(getattr(backend, "model", None), "max_input_chars_per_word", None)


def _poolings(model: SentenceModel) -> dict[str, Any]:
    return {name: module for name, module in model.named_children() if type(module).__name__ == "Pooling"}


def pooling_of(model: SentenceModel) -> str | None:
    """Name of the pooling in effect; None without a pooling layer."""
    for module in _poolings(model).values():
        mode = module.pooling_mode
        name = mode if isinstance(mode, str) else "+".join(mode)
        return name if module.include_prompt else f"{name} without the prompt"
    return None


def family_names(source: ModelSource) -> list[str]:
    """Names that may identify a model's family: its hub id, or its folders' names, innermost first."""
    if not source.is_local:
        return [source.name]
    parts = [part for part in Path(source.name).parts if part not in ("/", "model", "models")]
    inner = source.label.partition(":")[2].split("/") if source.label.startswith("package:") else parts[-1:]
    return [name.replace("--", "/") for name in reversed(inner)]


def own_prompts(model: SentenceModel) -> dict[str, str]:
    """The prompts of the model's own config, by role."""
    names = ("query", *_DOCUMENT_PROMPT_NAMES)
    prompts = {
        "query": model.prompts.get("query") or "",
        # The first that is not empty, as sentence-transformers does, which adds an empty `document` itself.
        "document": next((model.prompts[name] for name in _DOCUMENT_PROMPT_NAMES if model.prompts.get(name)), ""),
    }
    unused = [name for name, text in model.prompts.items() if text and name not in names]
    if unused and not any(prompts.values()):
        _log.info("the model has prompts for %s; set query_prompt and document_prompt to use one", ", ".join(unused))
    return prompts

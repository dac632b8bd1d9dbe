"""A model's folder in, a sentence-transformers model out as the settings ask for it. Importing this loads torch."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

from ...errors import ComponentError, MissingPackage
from ..model_files.locate import ModelSource
from .prompts import Family

PART = "encoder 'huggingface'"

_INSTALL = {"onnx": '"sentence-transformers[onnx]"', "openvino": '"rag-plugin[openvino]"'}
_log = logging.getLogger(__name__)

_DOCUMENT_NAMES = ("document", "passage", "corpus")  # what a model's config may call its prompt for documents


def load_model(
    folder: str, source: ModelSource, *, device: str | None, dtype: str, backend: str, trust_remote_code: bool
) -> SentenceTransformer:
    _check_backend(backend, dtype)
    options: dict[str, Any] = {} if dtype == "auto" else {"model_kwargs": {"dtype": getattr(torch, dtype)}}
    bars = is_progress_bar_enabled()
    disable_progress_bar()  # a second of work, in a library's caller's terminal
    try:
        return SentenceTransformer(
            # A model of the hub too is loaded as the folder that it is in the cache: whatever else is tried by a name
            # (a card, a template, a converted file) would be looked for in the network.
            folder,
            device=device,
            trust_remote_code=trust_remote_code,
            local_files_only=True,
            backend=backend,  # type: ignore[arg-type]
            **options,
        )
    except ModuleNotFoundError as error:  # of the model's own code, or an adapter's
        name = error.name or "unknown"
        raise MissingPackage(PART, name, name.partition(".")[0].replace("_", "-")) from error
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        what = source.name if source.is_local else f"{source.name!r}, in {folder},"
        raise ComponentError(f"{PART}: {what} holds no model that can be loaded: {first}") from error
    finally:
        if bars:
            enable_progress_bar()


def _check_backend(backend: str, dtype: str) -> None:
    if backend == "torch":
        return
    try:
        if backend == "onnx":
            import_module("optimum.onnxruntime")
        else:
            import_module("optimum.intel.openvino")
    except ModuleNotFoundError as error:
        raise MissingPackage(f"{PART} with backend {backend}", error.name or backend, _INSTALL[backend]) from error
    except ImportError as error:
        raise ComponentError(
            f"{PART}: the package that runs a model by {backend} does not go with the other packages here: {error}"
        ) from error
    if dtype != "auto":
        raise ComponentError(
            f"{PART}: dtype {dtype} is for the backend torch; a model for {backend} has the type it was exported with"
        )


def check_device(name: str, setting: str) -> None:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ComponentError(
            f"{PART}: {setting} {name!r} is no device that torch knows; write cpu, cuda, cuda:1 or mps"
        ) from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            raise ComponentError(
                f"{PART}: {setting} is {name!r}, and torch {torch.__version__} sees no CUDA device here; "
                "install a torch with CUDA, or leave it unset"
            )
        if (device.index or 0) >= count:
            raise ComponentError(f"{PART}: {setting} is {name!r}, and there are {count} CUDA devices, from cuda:0")
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise ComponentError(f"{PART}: {setting} is {name!r}, and torch sees no such device here; leave it unset")


def shape(
    model: SentenceTransformer,
    family: Family | None,
    *,
    normalize: bool,
    pooling: str | None,
    max_length: int | None,
    truncate_dim: int | None,
) -> None:
    """Bring a model into the form that the settings ask for."""
    if family is not None and not family.pools_prompt:
        model.set_pooling_include_prompt(False)
    pooled = False
    for name, module in list(model.named_children()):
        if isinstance(module, Normalize) and not normalize:
            delattr(model, name)
        elif isinstance(module, Pooling) and pooling is not None:
            new = Pooling(module.embedding_dimension, pooling_mode=pooling, include_prompt=module.include_prompt)
            setattr(model, name, new.to(model.device))
            pooled = True
    if pooling is not None and not pooled:
        raise ComponentError(f"{PART}: this model makes its vectors without pooling, so pooling cannot be {pooling!r}")
    if max_length is not None:
        limit = _positions(model)
        if limit is not None and max_length > limit:
            raise ComponentError(f"{PART}: max_length {max_length} is more than the model was built for ({limit})")
        model.max_seq_length = max_length
    if truncate_dim is not None:
        model.truncate_dim = None
        whole = model.get_embedding_dimension()
        if whole is not None and truncate_dim > whole:
            raise ComponentError(f"{PART}: truncate_dim {truncate_dim} is more than the {whole} numbers of a vector")
        model.truncate_dim = truncate_dim
    _divide_long_words(model)


def _positions(model: SentenceTransformer) -> int | None:
    """The most positions the transformer underneath was built for, in tokens; None where it does not say."""
    config = getattr(model.transformers_model, "config", None)
    limit = getattr(config, "max_position_embeddings", None)
    return int(limit) if isinstance(limit, int) and limit > 0 else None


def _divide_long_words(model: SentenceTransformer) -> None:
    """Let a word that is too long for a WordPiece tokenizer be read as several.

    As it comes, such a tokenizer makes one unknown token of a word of more than 100 characters, so that the line of a
    data file or a long name in code would mean nothing. A higher limit would cost time that grows with its square.
    """
    length = longest_word(model)
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if length is None or backend is None or backend.pre_tokenizer is None:
        return
    from tokenizers.pre_tokenizers import FixedLength, Sequence

    backend.pre_tokenizer = Sequence([backend.pre_tokenizer, FixedLength(length)])


def longest_word(model: SentenceTransformer) -> int | None:
    """At how many characters a WordPiece tokenizer divides a word; None where the tokenizer is another."""
    backend = getattr(getattr(model, "tokenizer", None), "backend_tokenizer", None)
    return getattr(getattr(backend, "model", None), "max_input_chars_per_word", None)


def pooling_of(model: SentenceTransformer) -> str | None:
    for module in model.children():
        if isinstance(module, Pooling):
            mode = module.pooling_mode
            name = mode if isinstance(mode, str) else "+".join(mode)
            return name if module.include_prompt else f"{name} without the prompt"
    return None


def names_of(source: ModelSource) -> list[str]:
    """What may tell a model's family: its hub id, or its folders' names from the inside out."""
    if not source.is_local:
        return [source.name]
    parts = [part for part in Path(source.name).parts if part not in ("/", "model", "models")]
    inner = source.label.partition(":")[2].split("/") if source.label.startswith("package:") else parts[-1:]
    return [name.replace("--", "/") for name in reversed(inner)]


def prompts_of(
    model: SentenceTransformer, family: Family | None, given: Mapping[str, str | None]
) -> dict[str, tuple[str, str]]:
    """The prompts in effect, by role, each with where it comes from."""
    own = {
        "query": model.prompts.get("query") or "",
        # sentence-transformers takes the first of these that is there, and puts an empty `document` there itself.
        "document": next((model.prompts[name] for name in _DOCUMENT_NAMES if model.prompts.get(name)), ""),
    }
    found: dict[str, tuple[str, str]] = {}
    for role, prompt in given.items():
        if prompt is not None:
            found[role] = prompt, "config"
        elif any(own.values()):
            found[role] = own[role], "model"
        elif family is not None:
            found[role] = getattr(family, f"{role}_prompt"), f"family {family.name}"
        else:
            found[role] = "", "none"
    unused = [name for name, text in model.prompts.items() if text and name not in ("query", *_DOCUMENT_NAMES)]
    if unused and not any(own.values()):
        _log.info("the model has prompts for %s; query_prompt and document_prompt can name one", ", ".join(unused))
    return found

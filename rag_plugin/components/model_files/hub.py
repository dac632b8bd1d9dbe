"""Models of a Hugging Face hub: what of them is in the cache, and how they get there.

Building a part never downloads: it takes a model from the cache and looks at no network. `fetch` fills the cache.
"""

from __future__ import annotations

import errno
import fnmatch
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ...errors import ComponentError

# What a model is loaded from; the rest of a repository is pictures, examples and the same weights for other programs.
_WANTED = ("*.json", "*.txt", "*.model", "*.py", "*.jinja", "*.safetensors", "*.bin", "*.vocab", "*.tiktoken", "*.bpe")
_UNWANTED = (
    *("*training_args.bin", "*optimizer.bin", "*scheduler.bin", "*trainer_state.json", "*eval/*", "*all_results.json"),
    *("*coreml/*", "*original/*", "checkpoint-*", "*.mlpackage/*"),
)
_OF_BACKEND = {"onnx": ("onnx/*", "*.onnx", "*.onnx_data"), "openvino": ("openvino/*", "openvino_model.*")}
_WEIGHTS = ("*.safetensors", "*.bin", "*.safetensors.index.json", "*.bin.index.json")
_ANY_WEIGHTS = (*_WEIGHTS, "*.onnx", "*.xml")
_TOKENIZERS = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)


@dataclass(frozen=True)
class HubModel:
    """A model that a config names by its hub id.

    `has_modules` says that it may be a sentence-transformers model, whose `modules.json` decides how it is loaded.
    """

    name: str
    revision: str | None = None
    backend: str = "torch"
    has_modules: bool = True
    trust_remote_code: bool = False


@dataclass(frozen=True)
class Fetched:
    """Where a model lies in the cache, how many bytes it has there, and whether any of them came just now."""

    model: str
    folder: str
    bytes: int
    is_new: bool


def cached_folder(model: HubModel, part: str) -> str:
    """The folder of a model in the hub's cache; looks at no network.

    Raises:
        ComponentError: Files are missing in the cache; it says which, and how to get them.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    found = None
    try:
        for name in ("config.json", "modules.json"):
            found = try_to_load_from_cache(model.name, name, revision=model.revision)
            if isinstance(found, str):
                break
    except ValueError as error:
        raise ComponentError(
            f"{part}: {model.name!r} is no hub id: {_first_line(error)}\n"
            "a folder is written ./folder, a model inside a package package:NAME"
        ) from error
    at = f"{model.name!r}" + (f" (revision {model.revision})" if model.revision else "")
    if not isinstance(found, str):
        raise ComponentError(
            f"{part}: the model {at} is not in the cache {constants.HF_HUB_CACHE}\n"
            "get it with `rag-plugin fetch`; a folder is written ./folder, a model inside a package package:NAME"
        )
    folder = os.path.dirname(found)
    missing = missing_files(folder, model)
    if missing:
        raise ComponentError(
            f"{part}: the model {at} is not whole in the cache, in {folder}: {', '.join(missing)} missing\n"
            "get the rest with `rag-plugin fetch`"
        )
    return folder


def missing_files(folder: str, model: HubModel) -> list[str]:
    """What a model in the hub's cache lacks to be loaded, in words where several files would do."""
    names = _names_in(folder)
    missing = []
    modules = _json_of(folder, "modules.json")
    if isinstance(modules, list):
        # Old repositories have no folder for modules without settings.
        parts = [(str(item.get("path", "")), str(item.get("type", ""))) for item in modules if isinstance(item, dict)]
        bare = (".Normalize", ".Dropout")
        for path, kind in parts:
            if path and not kind.endswith(bare) and not any(name.startswith(f"{path}/") for name in names):
                missing.append(f"{path}/config.json")
        plain = not any(kind.rpartition(".")[2] in ("StaticEmbedding", "BoW", "WordEmbeddings") for _, kind in parts)
    else:
        plain = True
        # Without it a sentence-transformers model would be taken for a bare transformer, and pooled the wrong way.
        if model.has_modules and not _is_known_absent(folder, "modules.json", model):
            missing.append("modules.json")
    if plain and not any(name.rpartition("/")[2] == "config.json" for name in names if "Pooling" not in name):
        missing.append("config.json")
    if not any(fnmatch.fnmatchcase(name.rpartition("/")[2], pattern) for name in names for pattern in _TOKENIZERS):
        missing.append("its tokenizer (tokenizer.json)")
    return [*missing, *_missing_weights(folder, names, model.backend)]


def _missing_weights(folder: str, names: set[str], backend: str) -> list[str]:
    if any(fnmatch.fnmatchcase(name, pattern) for pattern in _OF_BACKEND.get(backend, ()) for name in names):
        return []
    for index in sorted(name for name in names if name.endswith((".safetensors.index.json", ".bin.index.json"))):
        content = _json_of(folder, index)
        shards = content.get("weight_map", {}) if isinstance(content, dict) else {}
        above = index.rpartition("/")[0]
        return sorted({f"{above}/{name}".lstrip("/") for name in shards.values()} - names)
    main = [name for name in names if name.endswith((".safetensors", ".bin")) and "Dense" not in name]
    return [] if main else ["its weights (model.safetensors)"]


def _names_in(folder: str) -> set[str]:
    """The files below a folder; a link whose file is gone does not count."""
    return {
        os.path.relpath(os.path.join(above, name), folder).replace(os.sep, "/")
        for above, _, files in os.walk(folder)
        for name in files
        if os.path.exists(os.path.join(above, name))
    }


def _json_of(folder: str, name: str) -> object:
    try:
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def _is_known_absent(folder: str, name: str, model: HubModel) -> bool:
    from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

    commit = os.path.basename(folder)
    return try_to_load_from_cache(model.name, name, revision=commit) is _CACHED_NO_EXIST


def wanted_files(names: Iterable[str], backend: str = "torch") -> list[str]:
    """Those of a repository's files that a model is loaded from, sorted."""
    every = set(names)
    own = _OF_BACKEND.get(backend, ())
    exported = {name for name in every for pattern in own if fnmatch.fnmatchcase(name, pattern)}
    others = [pattern for patterns in _OF_BACKEND.values() for pattern in patterns]
    with_safe = {name.rpartition("/")[0] for name in every if name.endswith(".safetensors")}

    def is_wanted(name: str) -> bool:
        if name in exported:
            return True
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in (*_UNWANTED, *others)):
            return False
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in _WANTED):
            return False
        above = name.rpartition("/")[0]
        if name.endswith((".bin", ".bin.index.json")) and above in with_safe:
            return False
        is_weights = any(fnmatch.fnmatchcase(name, pattern) for pattern in _WEIGHTS)
        return not (exported and is_weights and not above)

    return sorted(name for name in every if is_wanted(name))


def fetch(model: HubModel) -> Fetched:
    """Download what is missing of a model into the hub's cache; files that are whole are kept.

    A connection that breaks is taken up again where it broke, a few times.
    Honours HF_ENDPOINT, HF_HOME, HF_TOKEN and the other variables of huggingface_hub; progress goes to stderr.

    Raises:
        ComponentError: There is no such model or revision, it may not be had, the hub cannot be reached, or the disk
            is full; each with what to do.
    """
    from huggingface_hub import HfApi, constants, snapshot_download

    try:
        info = HfApi().model_info(model.name, revision=model.revision, files_metadata=True)
        sizes = {item.rfilename: item.size or 0 for item in info.siblings or []}
        names = wanted_files(sizes, model.backend)
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in _ANY_WEIGHTS):
            raise ComponentError(f"{model.name!r} has no weights that a model could be loaded from")
        before = _cached_names(model, str(info.sha), names)
        _refuse_full_disk(model, constants.HF_HUB_CACHE, sum(sizes[name] for name in names if name not in before))
        folder = snapshot_download(model.name, revision=model.revision, allow_patterns=names)
        if model.has_modules and "modules.json" not in sizes:
            _note_absent(model, "modules.json")
        if model.trust_remote_code:
            _fetch_foreign_code(folder)
    except Exception as error:  # the seam to huggingface_hub and the network below it: the unknown goes on as it is
        clear = _clear_error(model, error)
        if clear is None:
            raise
        raise clear from error
    missing = missing_files(folder, model)
    if missing:
        raise ComponentError(
            f"{model.name!r} was fetched, but has not what a model is loaded from: {', '.join(missing)} missing"
        )
    return Fetched(model.name, folder, sum(sizes[name] for name in names), len(before) < len(names))


def _cached_names(model: HubModel, commit: str, names: Iterable[str]) -> set[str]:
    from huggingface_hub import try_to_load_from_cache

    return {name for name in names if isinstance(try_to_load_from_cache(model.name, name, revision=commit), str)}


def _refuse_full_disk(model: HubModel, cache: str, needed: int) -> None:
    place = Path(cache)
    while not place.exists() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise ComponentError(
            f"{model.name!r} needs {_megabytes(needed)} in {cache}, where {_megabytes(free)} are free: "
            "make room, or let HF_HOME name another disk"
        )


def _note_absent(model: HubModel, name: str) -> None:
    """Let the cache know that a file is not in the repository, so that its absence says something."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        hf_hub_download(model.name, name, revision=model.revision)
    except EntryNotFoundError:
        pass


def _fetch_foreign_code(folder: str) -> None:
    """The Python code that a model takes from another repository, named `owner/name--module.Class`."""
    from huggingface_hub import snapshot_download

    config = _json_of(folder, "config.json")
    named = config.get("auto_map", {}) if isinstance(config, dict) else {}
    targets = [item for value in named.values() for item in (value if isinstance(value, list) else [value])]
    for repository in sorted({item.partition("--")[0] for item in targets if isinstance(item, str) and "--" in item}):
        snapshot_download(repository, allow_patterns=["*.py", "config.json"])


def _clear_error(model: HubModel, error: BaseException) -> ComponentError | None:
    """The error of a download as one sentence with its hint; None for what is none of a download."""
    from huggingface_hub import constants, errors

    at = f"{model.name!r}" + (f" in revision {model.revision!r}" if model.revision else "")
    hub = constants.ENDPOINT
    if isinstance(error, ComponentError):
        return None
    if isinstance(error, errors.GatedRepoError):
        return ComponentError(
            f"{at} is gated: accept its terms at {hub}/{model.name}, then log in with `hf auth login` or set HF_TOKEN"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ComponentError(f"{model.name!r} has no revision {model.revision!r}; {hub}/{model.name} lists them")
    if isinstance(error, errors.RepositoryNotFoundError):
        return ComponentError(
            f"there is no model {at} at {hub}, or it is private: check the name; for a private one log in with "
            "`hf auth login` or set HF_TOKEN"
        )
    if isinstance(error, errors.HFValidationError):
        return ComponentError(f"{model.name!r} is no hub id: {_first_line(error)}")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return ComponentError(f"{at} cannot be fetched while HF_HUB_OFFLINE is set: unset it")
    if isinstance(error, errors.HfHubHTTPError):
        return ComponentError(f"{hub} refused {at}: {_first_line(error)}")
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
            return ComponentError(
                f"the disk of {constants.HF_HUB_CACHE} is full: make room, or let HF_HOME name another disk; "
                "what was fetched is kept"
            )
        if isinstance(cause, PermissionError):
            return ComponentError(f"{cause.filename} cannot be written: let HF_HOME name a folder that can")
    families = {type(cause).__module__.partition(".")[0] for cause in _causes(error)}
    from_network = families & {"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "hf_xet"}
    if from_network or isinstance(error, (errors.LocalEntryNotFoundError, ConnectionError, TimeoutError)):
        return ComponentError(
            f"{at} cannot be fetched from {hub}: {_first_line(error)}\n"
            "check the network, or set HF_ENDPOINT to a mirror; what was fetched whole is kept"
        )
    return None


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    next_one: BaseException | None = error
    while next_one is not None and next_one not in found:
        found.append(next_one)
        next_one = next_one.__cause__ or next_one.__context__
    return found


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"

"""A digest of a model's weights, independent of machine and folder."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path

from .cache_folder import cache_folder

_log = logging.getLogger(__name__)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOCK_BYTES = 1 << 20
_DIGEST_CHARACTERS = 16  # 64 bits: enough to tell models apart, and readable

_BACKEND_PATTERNS = {"onnx": ("*.onnx", "*.onnx_data"), "openvino": ("openvino*.xml", "openvino*.bin")}


def weight_files(folder: Path, backend: str = "torch") -> list[Path]:
    """The files with the weights that `backend` loads, sorted. Older files beside safetensors are not loaded."""
    exported = [path for pattern in _BACKEND_PATTERNS.get(backend, ()) for path in folder.rglob(pattern)]
    if exported:
        return sorted(exported)
    safe = [path for path in folder.rglob("*.safetensors") if path.parent.name not in _BACKEND_PATTERNS]
    with_safe = {path.parent for path in safe}
    older = [
        path
        for path in folder.rglob("*.bin")
        if path.parent not in with_safe
        and path.parent.name not in _BACKEND_PATTERNS
        and path.name != "training_args.bin"
    ]
    return sorted([*safe, *older])


def weights_digest(folder: Path, backend: str = "torch") -> str:
    """A digest of the weights in a folder, by their content only; "" where there are none.

    For one file it is the start of its SHA-256. Files in the hub's cache are named by their SHA-256; other files are
    hashed once, and the result is cached by path, size and times.
    """
    files = weight_files(folder, backend)
    if not files:
        return ""
    hashes = _hashes(files)
    if len(files) == 1:
        return hashes[files[0]][:_DIGEST_CHARACTERS]
    listing = "".join(f"{path.relative_to(folder).as_posix()}:{hashes[path]}\n" for path in files)
    return hashlib.sha256(listing.encode()).hexdigest()[:_DIGEST_CHARACTERS]


def _hashes(files: Iterable[Path]) -> dict[Path, str]:
    hashes: dict[Path, str] = {}
    cached: dict[str, str] | None = None
    new: dict[str, str] = {}
    for path in files:
        target = Path(os.path.realpath(path))
        if target != path and target.parent.name == "blobs" and _SHA256.fullmatch(target.name):
            hashes[path] = target.name  # huggingface_hub names and verifies a large file by its SHA-256
            continue
        cached = _read_cache() if cached is None else cached
        status = target.stat()
        key = f"{target}|{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}|{status.st_ino}"
        hashes[path] = cached.get(key) or new.setdefault(key, _sha256(target))
    if new:
        _write_cache({**(cached or {}), **new})
    return hashes


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _cache_file() -> Path:
    return cache_folder() / "weights.json"


def _read_cache() -> dict[str, str]:
    try:
        data = json.loads(_cache_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {key: value for key, value in data.items() if isinstance(value, str)} if isinstance(data, dict) else {}


def _write_cache(hashes: dict[str, str]) -> None:
    file = _cache_file()
    latest = {key.rsplit("|", 4)[0]: key for key in hashes}  # drops earlier versions of a changed file
    temporary = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({key: hashes[key] for key in latest.values()}, indent=1), encoding="utf-8")
        os.replace(temporary, file)
    except OSError as error:  # read-only home: the file is hashed again next time
        _log.debug("%s cannot be written: %s", file, error)

"""A model's folder in, what names its weights out: the same on any machine, whatever the folder is called."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import threading
from collections.abc import Iterable
from pathlib import Path

_log = logging.getLogger(__name__)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOCK = 1 << 20
_SHOWN = 16  # characters of a digest: 64 bits are enough to tell models apart, and can be read

_OF_BACKEND = {"onnx": ("*.onnx", "*.onnx_data"), "openvino": ("openvino*.xml", "openvino*.bin")}


def weight_files(folder: Path, backend: str = "torch") -> list[Path]:
    """The files that hold a model's weights, those that `backend` loads; sorted.

    Where a folder has both safetensors and older files, the older ones are not loaded and do not count.
    """
    if backend in _OF_BACKEND:
        found = [path for pattern in _OF_BACKEND[backend] for path in folder.rglob(pattern)]
        if found:
            return sorted(found)
    exported = {"onnx", "openvino"}
    safe = [path for path in folder.rglob("*.safetensors") if path.parent.name not in exported]
    have_safe = {path.parent for path in safe}
    older = [
        path
        for path in folder.rglob("*.bin")
        if path.parent not in have_safe and path.parent.name not in exported and path.name != "training_args.bin"
    ]
    return sorted([*safe, *older])


def weights_digest(folder: Path, backend: str = "torch") -> str:
    """A name for the weights in a folder, that follows from their content alone; "" where there are none.

    One file's name is the beginning of its SHA-256. A file of the hub's cache bears its SHA-256 as its name; another
    one is hashed once, and the result kept in the user's cache by the file's place, size and times.
    """
    files = weight_files(folder, backend)
    if not files:
        return ""
    digests = _digests(files)
    if len(files) == 1:
        return digests[files[0]][:_SHOWN]
    listing = "".join(f"{path.relative_to(folder).as_posix()}:{digests[path]}\n" for path in files)
    return hashlib.sha256(listing.encode()).hexdigest()[:_SHOWN]


class WeightsDigest:
    """`weights_digest`, begun at once beside whatever else is done, such as loading; call it for the result."""

    def __init__(self, folder: Path, backend: str = "torch") -> None:
        self._folder, self._backend = folder, backend
        self._found = ""
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="rag-plugin-weights", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._found = weights_digest(self._folder, self._backend)
        except Exception as error:  # raised where the result is asked for
            self._error = error

    def __call__(self) -> str:
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._found


def _digests(files: Iterable[Path]) -> dict[Path, str]:
    found: dict[Path, str] = {}
    kept: dict[str, str] | None = None
    fresh: dict[str, str] = {}
    for path in files:
        target = Path(os.path.realpath(path))
        if target != path and target.parent.name == "blobs" and _SHA256.fullmatch(target.name):
            found[path] = target.name  # huggingface_hub names a large file's blob so, and checks it
            continue
        kept = _read_kept() if kept is None else kept
        key = _key(target)
        digest = kept.get(key)
        if digest is None:
            digest = fresh[key] = _sha256(target)
        found[path] = digest
    if fresh:
        _keep({**(kept or {}), **fresh})
    return found


def _key(path: Path) -> str:
    status = path.stat()
    return f"{path}|{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}|{status.st_ino}"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _kept_at() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home, "rag_plugin", "weights.json")


def _read_kept() -> dict[str, str]:
    try:
        data = json.loads(_kept_at().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {key: value for key, value in data.items() if isinstance(value, str)} if isinstance(data, dict) else {}


def _keep(digests: dict[str, str]) -> None:
    target = _kept_at()
    # What a file was before it changed is of no use any more.
    places = {key.rsplit("|", 4)[0]: key for key in digests}
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps({key: digests[key] for key in places.values()}, indent=1), encoding="utf-8")
        os.replace(unfinished, target)
    except OSError as error:  # a home that may only be read: the file is hashed again next time
        _log.debug("%s cannot be written: %s", target, error)

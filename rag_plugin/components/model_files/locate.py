"""The name of a model in, its files out: a folder, a file inside an installed package, or a hub id."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from ...errors import ComponentError

PACKAGE = "package:"


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from.

    `name` is what its loader gets: an absolute path or a hub id. `label` names the same model on any
    machine, so it is what an index remembers: a path is reduced to its last part.
    """

    name: str
    label: str
    is_local: bool

    @property
    def is_gguf(self) -> bool:
        return self.name.lower().endswith(".gguf")


def find_model(model: str, part: str) -> ModelSource:
    """Find a model's files; imports nothing of the package that holds them, and looks at no network.

    Args:
        model: An absolute path, `package:NAME` or `package:NAME/inner/path`, or a hub id.
        part: What the model is for, to begin an error with.

    Raises:
        ComponentError: There is no such path or package, or no model in it.
    """
    if model.startswith(PACKAGE):
        return _in_package(model, part)
    if os.path.isabs(model):
        if not os.path.exists(model):
            raise ComponentError(f"{part}: there is no model at {model}")
        return ModelSource(model, f"local:{os.path.basename(model.rstrip('/'))}", True)
    return ModelSource(model, model, False)


def is_hub_id(model: str) -> bool:
    """Whether a model is named by its id on a hub: it is neither a path nor in a package."""
    return not (model.startswith(PACKAGE) or os.path.isabs(model))


def _in_package(model: str, part: str) -> ModelSource:
    package, _, inner = model.removeprefix(PACKAGE).partition("/")
    if not package.isidentifier():
        raise ComponentError(f"{part}: {model!r} does not name a package; write package:NAME or package:NAME/path")
    spec = importlib.util.find_spec(package)  # of a top-level name: finds it without importing it
    roots = list(spec.submodule_search_locations or []) if spec else []
    if not roots:
        raise ComponentError(
            f"{part}: the package {package!r} is not installed: pip install {package.replace('_', '-')}"
        )
    root = Path(roots[0]).resolve()
    if inner:
        found = (root / inner).resolve()
        if not found.is_relative_to(root):
            raise ComponentError(f"{part}: {model!r} leads out of the package")
        if not found.exists():
            raise ComponentError(f"{part}: the package {package!r} has no {inner!r}")
        return ModelSource(str(found), model, True)
    for marker in ("modules.json", "config.json", "*.gguf"):
        matches = sorted(root.rglob(marker), key=lambda path: (len(path.parts), str(path)))
        if matches:
            found = matches[0] if marker == "*.gguf" else matches[0].parent
            return ModelSource(str(found), model, True)
    raise ComponentError(f"{part}: the package {package!r} holds no model")

"""Resolves the setting `model` to a folder, a file inside an installed package, or a hub id."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from ...errors import ComponentError

PACKAGE = "package:"


@dataclass(frozen=True)
class ModelSource:
    """A resolved model.

    Attributes:
        name: Argument for the loader: an absolute path or a hub id.
        label: A name that is the same on any machine, stored in indexes: a path is reduced to its last part.
        is_local: Whether `name` is a path.
    """

    name: str
    label: str
    is_local: bool

    @property
    def is_gguf(self) -> bool:
        return self.name.lower().endswith(".gguf")


def find_model(model: str, part: str) -> ModelSource:
    """Resolve a model. Imports no package and uses no network.

    Args:
        model: An absolute path, `package:NAME` or `package:NAME/inner/path`, or a hub id.
        part: The component, for error messages.

    Raises:
        ComponentError: The path or package does not exist, or the package contains no model.
    """
    if model.startswith(PACKAGE):
        return _find_in_package(model, part)
    if os.path.isabs(model):
        if not os.path.exists(model):
            raise ComponentError(f"{part}: there is no model at {model}")
        return ModelSource(model, f"local:{os.path.basename(model.rstrip('/'))}", True)
    return ModelSource(model, model, False)


def is_hub_id(model: str) -> bool:
    """Whether the setting is a hub id: neither a path nor in a package."""
    return not (model.startswith(PACKAGE) or os.path.isabs(model))


def _find_in_package(model: str, part: str) -> ModelSource:
    package, _, inner = model.removeprefix(PACKAGE).partition("/")
    if not package.isidentifier():
        raise ComponentError(f"{part}: {model!r} does not name a package; write package:NAME or package:NAME/path")
    spec = importlib.util.find_spec(package)  # for a top-level name this imports nothing
    roots = list(spec.submodule_search_locations or []) if spec else []
    if not roots:
        raise ComponentError(
            f"{part}: the package {package!r} is not installed: pip install {package.replace('_', '-')}"
        )
    root = Path(roots[0]).resolve()
    if inner:
        path = (root / inner).resolve()
        if not path.is_relative_to(root):
            raise ComponentError(f"{part}: {model!r} leads out of the package")
        if not path.exists():
            raise ComponentError(f"{part}: the package {package!r} has no {inner!r}")
        return ModelSource(str(path), model, True)
    for marker in ("modules.json", "config.json", "*.gguf"):
        matches = sorted(root.rglob(marker), key=lambda path: (len(path.parts), str(path)))
        if matches:
            return ModelSource(str(matches[0] if marker == "*.gguf" else matches[0].parent), model, True)
    raise ComponentError(f"{part}: the package {package!r} contains no model")

"""One YAML file becomes a LlamaIndex query engine.

>>> import rag_plugin
>>> sorted(rag_plugin.__all__)[:4]
['ComponentError', 'Config', 'ConfigError', 'DocumentError']
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .components.registry.component import rule
    from .config import Config, load_config
    from .engine import RagEngine, build_engine
    from .errors import (
        ComponentError,
        ConfigError,
        DocumentError,
        EncoderError,
        IndexLocked,
        IndexMismatch,
        IndexNotBuilt,
        LLMError,
        MissingLLM,
        MissingPackage,
        Problem,
        QuestionError,
        RagPluginError,
        StoreError,
        UnsupportedQuery,
    )
    from .faiss_store import FaissStore
    from .protocols import DocumentSource, Listed, MatrixEncoder, Unlisted
    from .sync import SyncReport

__version__ = "0.1.0"

# The public names by module; a module is imported when one of its names is first used.
_NAMES = {
    "config": ["Config", "load_config"],
    "engine": ["RagEngine", "build_engine"],
    "faiss_store": ["FaissStore"],
    "sync": ["SyncReport"],
    "components.registry.component": ["rule"],
    "protocols": ["DocumentSource", "Listed", "MatrixEncoder", "Unlisted"],
    "errors": [
        "ComponentError",
        "ConfigError",
        "DocumentError",
        "EncoderError",
        "IndexLocked",
        "IndexMismatch",
        "IndexNotBuilt",
        "LLMError",
        "MissingLLM",
        "MissingPackage",
        "Problem",
        "QuestionError",
        "RagPluginError",
        "StoreError",
        "UnsupportedQuery",
    ],
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}
__all__ = [
    "ComponentError",
    "Config",
    "ConfigError",
    "DocumentError",
    "DocumentSource",
    "EncoderError",
    "FaissStore",
    "IndexLocked",
    "IndexMismatch",
    "IndexNotBuilt",
    "LLMError",
    "Listed",
    "MatrixEncoder",
    "MissingLLM",
    "MissingPackage",
    "Problem",
    "QuestionError",
    "RagEngine",
    "RagPluginError",
    "StoreError",
    "SyncReport",
    "Unlisted",
    "UnsupportedQuery",
    "build_engine",
    "load_config",
    "rule",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rag_plugin' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

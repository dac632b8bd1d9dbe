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
    from .sync import SyncReport

__version__ = "0.1.0"

# The public names and where they live; a module is imported when one of its names is first used.
_HOME = {
    "Config": "config",
    "load_config": "config",
    "RagEngine": "engine",
    "build_engine": "engine",
    "FaissStore": "faiss_store",
    "SyncReport": "sync",
    "rule": "components.registry.component",
    "ComponentError": "errors",
    "ConfigError": "errors",
    "DocumentError": "errors",
    "EncoderError": "errors",
    "IndexLocked": "errors",
    "IndexMismatch": "errors",
    "IndexNotBuilt": "errors",
    "LLMError": "errors",
    "MissingLLM": "errors",
    "MissingPackage": "errors",
    "Problem": "errors",
    "QuestionError": "errors",
    "RagPluginError": "errors",
    "StoreError": "errors",
    "UnsupportedQuery": "errors",
}
__all__ = [
    "ComponentError",
    "Config",
    "ConfigError",
    "DocumentError",
    "EncoderError",
    "FaissStore",
    "IndexLocked",
    "IndexMismatch",
    "IndexNotBuilt",
    "LLMError",
    "MissingLLM",
    "MissingPackage",
    "Problem",
    "QuestionError",
    "RagEngine",
    "RagPluginError",
    "StoreError",
    "SyncReport",
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

"""The cache folder of this package."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_dir


def cache_folder() -> Path:
    """This user's cache folder: `RAG_PLUGIN_CACHE`, or `rag-plugin` in the system's folder for caches."""
    return Path(os.environ.get("RAG_PLUGIN_CACHE") or user_cache_dir("rag-plugin", appauthor=False))

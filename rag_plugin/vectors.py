"""Deprecated alias of `rag_plugin.explore`, to be removed in 0.2."""

from .explore import *  # noqa: F403

"""The former name of `rag_plugin.explore`; removed in 0.2."""

from .explore import *  # noqa: F403

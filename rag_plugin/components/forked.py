"""Keeps torch and locks usable in a forked process, such as a worker of `gunicorn --preload`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

_resets: WeakKeyDictionary[Any, Callable[[Any], None]] = WeakKeyDictionary()


def after_fork(part: Any, reset: Callable[[Any], None]) -> None:
    """Call `reset(part)` in each forked process: a thread that held a lock of `part` does not exist there."""
    _resets[part] = reset


def _in_child() -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        # The threads of OpenMP do not exist here either, and a parallel computation would wait for them for ever.
        torch.set_num_threads(1)
    for part, reset in list(_resets.items()):
        reset(part)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_in_child)

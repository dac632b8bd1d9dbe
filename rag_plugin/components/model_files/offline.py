"""Keeps Hugging Face's libraries from looking at their hub."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def offline() -> Generator[None, None, None]:
    """Models are loaded from the cache and from folders only, as with HF_HUB_OFFLINE=1."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before

"""Imports the package `ollama` whatever the environment holds."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager

_NAMES = ("OLLAMA_HOST", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE", "NO_PROXY")


@contextmanager
def plain_environment() -> Generator[None, None, None]:
    """Hide the variables of proxies, certificates and Ollama.

    The package makes clients as it is imported, and fails where one of these variables is unusable. Requests of this
    package use neither those clients nor proxies.
    """
    hidden = {
        name: os.environ.pop(name)
        for name in list(os.environ)
        if name.upper() in _NAMES or name.upper().endswith("_PROXY")
    }
    try:
        yield
    finally:
        os.environ.update(hidden)

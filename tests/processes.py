"""Other processes: a fork server, and fresh interpreters."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["tests.faiss_store.test_store", "tests.faiss_store.test_crash", "tests.sync.test_sync"]
)


def imported_by(code: str, folder: Path | None = None) -> set[str]:
    """The top-level packages that a fresh interpreter has imported after running `code`."""
    script = (
        "import sys, json, atexit\n"
        "atexit.register(lambda: print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})),"
        f" file=sys.__stderr__))\n{code}"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=folder or ROOT, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))

"""Other processes: a fork server, and fresh interpreters."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

# A new process has to have the imports done, or each kill would cost seconds; the fork server has one list only.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [
        "tests.faiss_store.test_store",
        "tests.faiss_store.test_crash",
        "tests.sync.test_sync",
        "tests.faiss_store.test_faults",
        "tests.faiss_store.test_threads",
    ]
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

"""One writer at a time, across threads and processes."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock, Timeout

from ...errors import IndexLocked, StoreError

LOCK_SECONDS = 10.0
"""How long a writer waits for another one."""


class WriterLock:
    """The lock of an index directory; a thread may take it again while it has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._thread_lock = threading.RLock()
        self._file_lock: FileLock | None = None
        self._depth = 0
        self._process = 0
        self._said: tuple[int, int, int] | None = None  # the version of the file that says who writes

    @contextmanager
    def held(self, seconds: float | None = None) -> Iterator[None]:
        """Be the one writer; waits so long (None: `LOCK_SECONDS`) for another one to end.

        Raises:
            IndexLocked: Another process or thread is writing and did not end in that time.
            StoreError: The directory cannot be written to.
        """
        seconds = LOCK_SECONDS if seconds is None else seconds
        if not self._thread_lock.acquire(timeout=seconds):
            raise IndexLocked(f"{self.folder} is being written to by another thread of this process")
        try:
            if self._depth == 0:
                self._take(seconds)
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if self._depth == 0 and self._file_lock is not None:
                    self._file_lock.release()
        finally:
            self._thread_lock.release()

    def holder(self) -> str | None:
        """Who writes now; None if nobody does."""
        path = self.folder / "write.lock"
        if not path.exists():
            return None
        lock = FileLock(path, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return _holder(self.folder / "writer.json")
        except OSError:
            return None
        lock.release()
        return None

    def _take(self, seconds: float) -> None:
        holder = self.folder / "writer.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._file_lock is None:
                self._file_lock = FileLock(self.folder / "write.lock", thread_local=False)
            self._file_lock.acquire(timeout=seconds, poll_interval=0.02)
        except Timeout as error:
            raise IndexLocked(f"{self.folder} is being written to by {_holder(holder)}") from error
        except OSError as error:
            raise StoreError(f"{self.folder} cannot be written to: {error.strerror or error}") from error
        try:
            self._say_who(holder)
        except OSError as error:
            self._file_lock.release()
            raise StoreError(f"{self.folder} cannot be written to: {error.strerror or error}") from error

    def _say_who(self, holder: Path) -> None:
        # Writing a file takes longer than a commit, so it is left as it is while nobody else wrote in between:
        # `since` is when this process came to write.
        if self._said is not None and self._said == _version(holder) and self._process == os.getpid():
            return
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._process = os.getpid()
        holder.write_text(json.dumps({"process": self._process, "host": socket.gethostname(), "since": now}))
        self._said = _version(holder)


def _version(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _holder(path: Path) -> str:
    try:
        found = json.loads(path.read_text())
        return f"process {found['process']} on {found['host']} since {found['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"

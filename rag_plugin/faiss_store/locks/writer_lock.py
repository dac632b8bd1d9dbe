"""The writer lock of an index directory, across threads and processes."""

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
"""Maximum seconds that a writer waits for another one."""


class WriterLock:
    """A reentrant lock for the one writer of an index directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._thread_lock = threading.RLock()
        self._file_lock: FileLock | None = None
        self._depth = 0
        self._written: tuple[int, tuple[int, int, int] | None] | None = None  # process and version of writer.json

    @contextmanager
    def held(self, seconds: float | None = None) -> Iterator[None]:
        """Hold the lock, after at most `seconds` of waiting (None: `LOCK_SECONDS`). Readers are not blocked.

        Raises:
            IndexLocked: Another process or thread is writing and did not finish in that time.
            StoreError: The directory cannot be written.
        """
        seconds = LOCK_SECONDS if seconds is None else seconds
        if not self._thread_lock.acquire(timeout=seconds):
            raise IndexLocked(f"{self.folder} is being written to by another thread of this process")
        try:
            if self._depth == 0:
                self._acquire(seconds)
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
        """A description of the active writer; None if there is none."""
        path = self.folder / "write.lock"
        if not path.exists():
            return None
        lock = FileLock(path, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return self._describe_holder()
        except OSError:
            return None
        lock.release()
        return None

    def _acquire(self, seconds: float) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._file_lock is None:
                self._file_lock = FileLock(self.folder / "write.lock", thread_local=False)
            self._file_lock.acquire(timeout=seconds, poll_interval=0.02)
            try:
                self._write_holder()
            except OSError:
                self._file_lock.release()
                raise
        except Timeout as error:
            raise IndexLocked(f"{self.folder} is being written to by {self._describe_holder()}") from error
        except OSError as error:
            raise StoreError(f"{self.folder} cannot be written to: {error.strerror or error}") from error

    def _write_holder(self) -> None:
        # Writing the file takes longer than a commit, so it is written only after another writer: `since` is the time
        # of this process's first write.
        holder = self.folder / "writer.json"
        process = os.getpid()
        if self._written is not None and self._written == (process, _version(holder)):
            return
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        holder.write_text(json.dumps({"process": process, "host": socket.gethostname(), "since": now}))
        self._written = process, _version(holder)

    def _describe_holder(self) -> str:
        try:
            holder = json.loads((self.folder / "writer.json").read_text())
            return f"process {holder['process']} on {holder['host']} since {holder['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"


def _version(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size

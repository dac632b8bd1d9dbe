"""Pool of connections to one SQLite file."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .connection import file_identity
from .database import Database


class ConnectionPool:
    """Connections to the file at `path`, opened on demand and reused."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._idle: list[Database] = []
        self._lock = threading.Lock()

    @contextmanager
    def connection(self, *, create: bool = False) -> Iterator[Database | None]:
        """A connection for this thread alone; None before the first commit, unless `create`."""
        database = None
        with self._lock:
            while self._idle and database is None:
                database = self._idle.pop()
                if not database.is_current():
                    database.close()  # the file was replaced or removed
                    database = None
        if database is None and (create or file_identity(self.path) is not None):
            database = Database(self.path, create=create)
            if not create and database.is_blank():
                database.close()
                database = None
        process = os.getpid()
        try:
            yield database
        finally:
            if database is not None and process == os.getpid():
                if database.connection.in_transaction:  # after an interrupt between two statements
                    database.close()
                else:
                    with self._lock:
                        self._idle.append(database)

    def abandon(self) -> None:
        """Leave the connections to the parent process after a fork."""
        for database in self._idle:
            database.abandon()

    def close(self) -> None:
        """Close the idle connections; the next use opens new ones."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()

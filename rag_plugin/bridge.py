"""Asynchronous code, called by synchronous code from any thread, in a running event loop or not.

One event loop runs in one thread of its own for the whole process. What runs in it is cancelled where its caller is
interrupted or lets go of its iterator.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


class _Loop:
    def __init__(self) -> None:
        self.process = os.getpid()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="rag-plugin-async", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self.process == os.getpid() and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(2)
            if not self._thread.is_alive():
                self.loop.close()


_current: _Loop | None = None
_lock = threading.Lock()


def _loop() -> asyncio.AbstractEventLoop:
    global _current
    with _lock:
        if _current is None or _current.process != os.getpid():  # a fork leaves the thread behind
            _current = _Loop()
            atexit.register(_current.stop)
        return _current.loop


def run(work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns or raises, waited for in this thread."""
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()  # where the wait was interrupted; of one that is done it changes nothing
        raise


def iterate(items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """The items one by one; letting go of the generator ends `items` too."""
    try:
        while True:
            try:
                yield run(_next(items))
            except StopAsyncIteration:
                return
    finally:
        run(items.aclose())


async def _next(items: AsyncGenerator[T, None]) -> T:
    return await items.__anext__()

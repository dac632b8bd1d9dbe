"""Asynchronous code, called by synchronous code from any thread, in a running event loop or not.

One event loop runs in one thread of its own for the whole process. What runs in it is cancelled where its caller is
interrupted or lets go of its iterator, and where the process ends.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
from collections.abc import AsyncGenerator, Coroutine, Generator
from concurrent.futures import Future, wait
from contextlib import aclosing
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_GRACE = 0.2
"""Seconds at the end of the process for threads that waited for cancelled work: the interpreter ends a daemon thread
where it stands, and one that stands in compiled code then may abort the process."""
_PATIENCE = 1.0  # seconds for work that was cancelled to clean up


class _Loop:
    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="rag-plugin-async", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        if _current is not self or self.loop.is_closed():  # not this process's
            return
        try:
            if asyncio.run_coroutine_threadsafe(self._end(), self.loop).result(2 * _PATIENCE):
                time.sleep(_GRACE)
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(_PATIENCE)
            if not self.thread.is_alive():
                self.loop.close()

    async def _end(self) -> bool:
        """Cancel what runs; whether anything did."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_PATIENCE)
        await self.loop.shutdown_asyncgens()
        await self.loop.shutdown_default_executor()
        return bool(tasks)


_current: _Loop | None = None
_left_behind: list[Any] = []
_lock = threading.RLock()  # the garbage collector may end an iterator in the midst of what holds it


def _forget() -> None:
    """A forked process has no thread but its own, and the loop's connections are its parent's."""
    global _current, _lock
    _left_behind.append(_current)
    _current, _lock = None, threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _loop() -> _Loop:
    global _current
    with _lock:
        if _current is None:
            _current = _Loop()
            atexit.register(_current.stop)
        return _current


class _Work(Generic[T]):
    """A coroutine that runs in the loop."""

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._found = _loop()
        if self._found.thread is threading.current_thread():
            work.close()
            raise RuntimeError("asynchronous work that calls synchronous code which waits for more waits for itself")
        self._work = work
        self._task: asyncio.Task[T] | None = None
        self.done: Future[T] = Future()
        try:
            self._found.loop.call_soon_threadsafe(self._begin)
        except RuntimeError:  # it is closed
            work.close()
            raise

    def _begin(self) -> None:
        self._task = self._found.loop.create_task(self._work)
        self._task.add_done_callback(self._hand_over)

    def _hand_over(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self.done.set_exception(asyncio.CancelledError())
            return
        error = task.exception()
        if error is None:
            self.done.set_result(task.result())
        else:
            self.done.set_exception(error)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def end(self) -> None:
        """Cancel what is not done, and wait until it has cleaned up."""
        if self.done.done() or self._found.loop.is_closed():
            return
        self._found.loop.call_soon_threadsafe(self._cancel)
        # The garbage collector may come by in the loop's own thread, which must not wait for itself.
        if self._found.thread is not threading.current_thread():
            wait([self.done], _PATIENCE)


def run(work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns or raises, waited for in this thread.

    Raises:
        RuntimeError: This is called by work that is done here itself, or when the process has all but ended.
    """
    started = _Work(work)
    try:
        return started.done.result()
    finally:
        started.end()  # where the wait was interrupted
        del started  # an error that is in it would refer to itself


def iterate(items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """The items, as they come; letting go of the generator ends `items` too.

    What comes while nobody asks for it is kept, which costs less than to ask for each item when it is wanted.
    """
    come: SimpleQueue[tuple[T] | None] = SimpleQueue()
    started = _Work(_fill(come, items))
    try:
        while (item := come.get()) is not None:
            yield item[0]
        started.done.result()
    finally:
        started.end()
        del started


async def _fill(come: SimpleQueue[tuple[T] | None], items: AsyncGenerator[T, None]) -> None:
    try:
        async with aclosing(items):
            async for item in items:
                come.put((item,))
    finally:
        come.put(None)

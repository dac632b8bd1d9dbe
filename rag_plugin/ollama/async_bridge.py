"""Runs coroutines for synchronous callers, from any thread, also inside a running event loop.

One event loop in a daemon thread serves the whole process. A coroutine is cancelled when its caller is interrupted or
closes its iterator, and when the process ends.
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

_CANCEL_TIMEOUT_SECONDS = 1.0
_EXIT_PAUSE_SECONDS = 0.2
"""Pause at process exit so that threads waiting for cancelled tasks can return: the interpreter stops daemon threads
abruptly, and stopping one inside compiled code can abort the process."""


class _LoopThread:
    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="rag-plugin-async", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        if _current is not self or self.loop.is_closed():  # inherited from a parent process, or stopped already
            return
        try:
            if asyncio.run_coroutine_threadsafe(self._cancel_all(), self.loop).result(2 * _CANCEL_TIMEOUT_SECONDS):
                time.sleep(_EXIT_PAUSE_SECONDS)
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(_CANCEL_TIMEOUT_SECONDS)
            if not self.thread.is_alive():
                self.loop.close()

    async def _cancel_all(self) -> bool:
        """Cancel all tasks; returns whether there were any."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CANCEL_TIMEOUT_SECONDS)
        await self.loop.shutdown_asyncgens()
        await self.loop.shutdown_default_executor()
        return bool(tasks)


_current: _LoopThread | None = None
_inherited: list[_LoopThread | None] = []
_lock = threading.RLock()  # reentrant: the garbage collector may close an iterator while this thread holds the lock


def _reset_after_fork() -> None:
    """A forked process has no loop thread, and the loop's connections belong to the parent."""
    global _current, _lock
    _inherited.append(_current)  # keeps the parent's loop from being finalized here
    _current, _lock = None, threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)


def _loop_thread() -> _LoopThread:
    global _current
    with _lock:
        if _current is None:
            _current = _LoopThread()
            atexit.register(_current.stop)
        return _current


class _Job(Generic[T]):
    """A coroutine that runs in the loop thread."""

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._runner = _loop_thread()
        if self._runner.thread is threading.current_thread():
            work.close()
            raise RuntimeError(
                "deadlock: code in the bridge's event loop called a blocking method; call its async form instead"
            )
        self._work = work
        self._task: asyncio.Task[T] | None = None
        self.result: Future[T] = Future()
        try:
            self._runner.loop.call_soon_threadsafe(self._start)
        except RuntimeError:  # the loop is closed
            work.close()
            raise

    def _start(self) -> None:
        self._task = self._runner.loop.create_task(self._work)
        self._task.add_done_callback(self._set_result)

    def _set_result(self, task: asyncio.Task[T]) -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            self.result.set_result(task.result())
        else:
            self.result.set_exception(error)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        """Cancel the coroutine if it is not done, and wait for its cleanup."""
        if self.result.done() or self._runner.loop.is_closed():
            return
        self._runner.loop.call_soon_threadsafe(self._cancel)
        # The garbage collector can call this in the loop's own thread, where waiting would be a deadlock.
        if self._runner.thread is not threading.current_thread():
            wait([self.result], _CANCEL_TIMEOUT_SECONDS)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine and block until it is done; returns its result or raises its exception.

    Raises:
        RuntimeError: The caller runs in the bridge's own event loop (deadlock), or the process is ending.
    """
    job = _Job(work)
    try:
        return job.result.result()
    finally:
        job.close()  # after an interrupt
        del job  # breaks a reference cycle with the exception


def iterate(items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """The items of an asynchronous generator; closing the result closes `items`.

    Items are buffered as they arrive, which is cheaper than a request to the loop thread for each.
    """
    queue: SimpleQueue[tuple[T] | None] = SimpleQueue()
    job = _Job(_fill(queue, items))
    try:
        while (item := queue.get()) is not None:
            yield item[0]
        job.result.result()
    finally:
        job.close()
        del job


async def _fill(queue: SimpleQueue[tuple[T] | None], items: AsyncGenerator[T, None]) -> None:
    try:
        async with aclosing(items):
            async for item in items:
                queue.put((item,))
    finally:
        queue.put(None)

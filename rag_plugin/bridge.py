"""Asynchronous code, called by synchronous code from any thread, in a running event loop or not.

One event loop runs in one thread of its own for the whole process. What runs in it is cancelled where its caller is
interrupted or lets go of its iterator, and where the process ends.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

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
            asyncio.run_coroutine_threadsafe(self._end(), self.loop).result(2 * _PATIENCE)
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(_PATIENCE)
            if not self.thread.is_alive():
                self.loop.close()

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_PATIENCE)
        await self.loop.shutdown_asyncgens()
        await self.loop.shutdown_default_executor()


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


def run(work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns or raises, waited for in this thread.

    Raises:
        RuntimeError: This is called by work that is done here itself, or when the process has all but ended.
    """
    found = _loop()
    if found.thread is threading.current_thread():
        work.close()
        raise RuntimeError("asynchronous work that calls synchronous code which waits for more of it waits for itself")
    done: Future[T] = Future()
    tasks: list[asyncio.Task[T]] = []
    try:
        found.loop.call_soon_threadsafe(_begin, found.loop, work, tasks, done)
    except RuntimeError:  # it is closed
        work.close()
        raise
    try:
        return done.result()
    except BaseException:
        if not done.done():  # the wait was interrupted
            found.loop.call_soon_threadsafe(_cancel, tasks)
            wait([done], _PATIENCE)
        raise
    finally:
        del done, tasks  # an error that is in them would refer to itself


def _begin(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], tasks: list[asyncio.Task[T]], done: Future[T]
) -> None:
    tasks.append(loop.create_task(work))
    tasks[0].add_done_callback(partial(_hand_over, done))


def _cancel(tasks: list[asyncio.Task[T]]) -> None:
    for task in tasks:
        task.cancel()


def _hand_over(done: Future[T], task: asyncio.Task[T]) -> None:
    if task.cancelled():
        done.set_exception(asyncio.CancelledError())
        return
    error = task.exception()
    if error is None:
        done.set_result(task.result())
    else:
        done.set_exception(error)


def iterate(items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """The items one by one; letting go of the generator ends `items` too."""
    try:
        while True:
            try:
                yield run(_next(items))
            except StopAsyncIteration:
                return
    finally:
        _close(items)


async def _next(items: AsyncGenerator[T, None]) -> T:
    return await items.__anext__()


_closing: set[asyncio.Task[None]] = set()


def _close(items: AsyncGenerator[T, None]) -> None:
    found = _loop()
    if found.loop.is_closed():
        return  # and ended all items before
    if found.thread is threading.current_thread():
        # The garbage collector came by in the loop's own thread, which must not wait for itself.
        task = found.loop.create_task(_end(items))
        _closing.add(task)
        task.add_done_callback(_closing.discard)
    else:
        run(_end(items))


async def _end(items: AsyncGenerator[T, None]) -> None:
    await items.aclose()

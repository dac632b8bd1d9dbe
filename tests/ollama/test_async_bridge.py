"""Asynchronous work done for synchronous callers: from every kind of thread, through interrupts, forks and the end."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from rag_plugin.ollama import async_bridge as bridge
from tests.conftest import ROOT


async def add(a: int, b: int) -> int:
    await asyncio.sleep(0.001)
    return a + b


class Counting:
    """An asynchronous generator that tells whether it was ended."""

    def __init__(self, count: int = 3, forever: bool = False) -> None:
        self.ended = threading.Event()
        self.count, self.forever = count, forever

    async def items(self) -> AsyncGenerator[int, None]:
        try:
            for number in range(self.count):
                yield number
            if self.forever:
                await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            self.ended.set()


def ran(code: str, *, seconds: float = 120, flags: tuple[str, ...] = ("-X", "dev", "-W", "error")) -> str:
    """What a fresh interpreter printed; it ended well, in time, and complained about nothing."""
    script = (
        "import asyncio, os, signal, threading, time\nfrom rag_plugin.ollama import async_bridge as bridge\n"
        + textwrap.dedent(code)
    )
    done = subprocess.run(
        [sys.executable, *flags, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=seconds, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# ---------------------------------------------------------------------------------- from where it is called


def test_work_is_done_for_a_thread_without_a_loop() -> None:
    assert bridge.run(add(1, 2)) == 3


async def test_work_is_done_in_a_running_loop() -> None:
    assert bridge.run(add(1, 2)) == 3
    assert list(bridge.iterate(Counting().items())) == [0, 1, 2]


def test_work_is_done_for_many_threads_at_once() -> None:
    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(lambda number: bridge.run(add(number, 1)), range(200))) == list(range(1, 201))


def test_an_error_comes_as_it_is() -> None:
    async def fail() -> None:
        raise LookupError("as it is")

    with pytest.raises(LookupError, match="as it is"):
        bridge.run(fail())


def test_an_error_among_items_comes_as_it_is() -> None:
    async def items() -> AsyncGenerator[int, None]:
        yield 1
        raise LookupError("as it is")

    found = bridge.iterate(items())
    assert next(found) == 1
    with pytest.raises(LookupError, match="as it is"):
        next(found)
    assert list(found) == []


def test_work_sees_the_context_of_its_caller() -> None:
    variable = contextvars.ContextVar("variable", default="outside")

    async def look() -> str:
        return variable.get()

    token = variable.set("inside")
    assert bridge.run(look()) == "inside"
    variable.reset(token)
    assert bridge.run(look()) == "outside"


def test_work_that_would_wait_for_itself_is_refused() -> None:
    async def nested() -> int:
        return bridge.run(add(1, 2))

    with pytest.raises(RuntimeError, match="^deadlock: "):
        bridge.run(nested())


# ---------------------------------------------------------------------------------- letting go


@pytest.mark.parametrize("how", ["close", "delete", "error"])
def test_letting_go_of_items_ends_them(how: str) -> None:
    counting = Counting(forever=True)
    found = bridge.iterate(counting.items())
    assert next(found) == 0
    if how == "close":
        found.close()
    elif how == "delete":
        del found
    else:
        with pytest.raises(LookupError):
            found.throw(LookupError())
    assert counting.ended.wait(1)


def test_items_that_are_collected_in_the_thread_of_the_loop_do_not_hold_it_up() -> None:
    # The garbage collector runs in any thread, in that of the loop too.
    counting = Counting(forever=True)
    found = bridge.iterate(counting.items())
    assert next(found) == 0
    circle: list[object] = [found]
    circle.append(circle)
    gc.disable()
    try:
        del found, circle

        async def collect() -> None:
            gc.collect()

        worker = threading.Thread(target=lambda: bridge.run(collect()), daemon=True)
        worker.start()
        worker.join(5)
        assert not worker.is_alive()
        assert counting.ended.wait(1)
    finally:
        gc.enable()
    assert bridge.run(add(1, 2)) == 3


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python's own handler of SIGINT, also where the suite runs with the signal ignored, as under nohup."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="sends a signal to a thread")
@pytest.mark.parametrize("streamed", [False, True])
def test_an_interrupt_ends_the_work(streamed: bool, interruptible: None) -> None:
    counting = Counting(1, forever=True)

    async def wait() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            counting.ended.set()

    timer = threading.Timer(0.1, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        list(bridge.iterate(counting.items())) if streamed else bridge.run(wait())
    timer.join()
    assert counting.ended.is_set()


# ---------------------------------------------------------------------------------- processes


def test_the_end_of_the_process_is_quick_and_quiet() -> None:
    printed = ran("""
        async def wait():
            try:
                await asyncio.sleep(3600)
            finally:
                print("ended")
        def ask():
            try:
                bridge.run(wait())
            except BaseException:
                pass
        async def items():
            try:
                yield 1
                await asyncio.sleep(3600)
            finally:
                print("let go")
        threading.Thread(target=ask, daemon=True).start()
        found = bridge.iterate(items())
        print(next(found))
        time.sleep(0.1)
    """)
    assert sorted(printed.split("\n")) == ["", "1", "ended", "let go"]


def test_work_for_an_exit_handler() -> None:
    # Registered before the loop is, so called after that has ended.
    assert ran("""
        import atexit
        async def one():
            return 1
        def late():
            try:
                print(bridge.run(one()))
            except RuntimeError as error:
                print("refused")
        atexit.register(late)
        print(bridge.run(one()))
    """) in ("1\n1\n", "1\nrefused\n")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("held", [False, True])
def test_a_fork_has_a_loop_of_its_own(held: bool) -> None:
    printed = ran(
        f"""
        async def one():
            return os.getpid()
        print(bridge.run(one()) == os.getpid(), flush=True)
        if {held}:
            held, let_go = threading.Event(), threading.Event()
            def hold():  # as where another thread is just asking for the loop
                with bridge._lock:
                    held.set()
                    let_go.wait()
            threading.Thread(target=hold).start()
            held.wait()
        child = os.fork()
        if child == 0:
            print(bridge.run(one()) == os.getpid(), flush=True)
            os._exit(0)
        if {held}:
            let_go.set()
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        print(bridge.run(one()) == os.getpid())
        """,
        flags=("-W", "ignore::DeprecationWarning"),  # newer Pythons warn of forks where there are threads
    )
    assert printed == "True\nTrue\n0\nTrue\n"


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_control_c_ends_a_program_that_waits() -> None:
    script = textwrap.dedent("""
        import asyncio, signal
        from rag_plugin.ollama import async_bridge as bridge
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
        async def wait():
            print("waiting", flush=True)
            try:
                await asyncio.sleep(3600)
            finally:
                print("ended", flush=True)
        bridge.run(wait())
    """)
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    out, complaints = process.communicate(timeout=120)
    assert out == "ended\n"
    assert complaints.rstrip().endswith("KeyboardInterrupt")
    assert "Warning" not in complaints
    assert "pending" not in complaints

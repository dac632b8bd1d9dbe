"""Processes that encode beside each other, each with the model on a device of its own."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

from ...errors import EncoderError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_AHEAD = 2  # parts that wait for each process, so that none is idle while memory stays bounded


class EncoderProcesses:
    """Started when there is first something to encode, and kept; ended by `close`, or with this process.

    Args:
        load: A function of a module, that makes an encoder of settings and a device.
        settings: What `load` needs to make the same encoder again, without the device.
        devices: One process is started for each; a device that is named twice gets two.
    """

    def __init__(self, load: Callable[..., Any], settings: Mapping[str, Any], devices: Sequence[str]) -> None:
        self._load, self._settings, self._devices = load, dict(settings), list(devices)
        self._mutex = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None

    def encode(
        self, texts: Sequence[str], parts: Iterable[Sequence[int]], role: str
    ) -> Iterator[tuple[list[int], NDArray[np.float32], int]]:
        """Encode texts part by part, wherever a process is free; the parts come in their order.

        Args:
            texts: All texts.
            parts: The numbers of the texts that go to a process together.
            role: `query` or `document`.

        Yields:
            A part's numbers, the vectors of its texts, and how many tokens they had.

        Raises:
            EncoderError: A process has died, or could not load the model.
        """
        pool = self._start()
        waiting: deque[tuple[list[int], Future[Any]]] = deque()
        try:
            for part in parts:
                numbers = list(part)
                waiting.append((numbers, pool.submit(_encode, [texts[number] for number in numbers], role)))
                if len(waiting) >= _AHEAD * len(self._devices):
                    yield self._next(waiting)
            while waiting:
                yield self._next(waiting)
        except BrokenProcessPool as error:
            self.close()
            raise EncoderError(
                f"a process that encodes on {', '.join(self._devices)} has died: it may have run out of memory; "
                "name fewer devices, or a smaller batch_size. In a script, what it does stands below "
                '`if __name__ == "__main__":`, for each process reads the script anew'
            ) from error
        finally:
            for _, future in waiting:
                future.cancel()

    def _next(self, waiting: deque[tuple[list[int], Future[Any]]]) -> tuple[list[int], NDArray[np.float32], int]:
        numbers, future = waiting.popleft()
        rows, tokens = future.result()
        return numbers, rows, tokens

    def _start(self) -> ProcessPoolExecutor:
        with self._mutex:
            if self._pool is None:
                context = multiprocessing.get_context("spawn")  # a forked process cannot use a graphics card
                names = context.Queue()
                for name in self._devices:
                    names.put(name)
                on_cpu = max(1, sum(name.startswith("cpu") for name in self._devices))
                threads = max(1, (os.cpu_count() or 1) // on_cpu)
                self._pool = ProcessPoolExecutor(
                    len(self._devices),
                    context,
                    initializer=_open,
                    initargs=(self._load, self._settings, names, threads),
                )
            return self._pool

    def close(self) -> None:
        """End the processes after the parts that they are at."""
        with self._mutex:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)


# ---------------------------------------------------------------------- in such a process

_encoder: Any = None


def _open(load: Callable[..., Any], settings: dict[str, Any], devices: Any, threads: int) -> None:
    global _encoder
    device = devices.get()
    try:
        import torch

        if device.startswith("cpu"):
            torch.set_num_threads(threads)
        _encoder = load(**settings, device=device)
    except Exception as error:  # raised here it would only be known that the process has died
        _encoder = EncoderError(f"the process for {device} could not load the model: {error}")


def _encode(texts: list[str], role: str) -> tuple[Any, int]:
    if isinstance(_encoder, Exception):
        raise _encoder
    counts: list[int] = []
    encode = _encoder.encode_queries if role == "query" else _encoder.encode_documents
    rows = encode(texts, lambda _, tokens: counts.append(tokens))
    return rows, sum(counts)

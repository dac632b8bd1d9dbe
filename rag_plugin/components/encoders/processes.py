"""Encoding in several processes, each with the model on its own device."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

from ...errors import EncoderError
from ..forked import after_fork

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ...protocols import MatrixEncoder

_QUEUED_PARTS_PER_PROCESS = 2  # no process idles, and the memory stays bounded


class EncoderProcesses:
    """Processes started at the first call of `encode` and kept until `close` or the end of this process.

    Args:
        load: Loads the encoder on a device; has to be picklable.
        devices: One process for each; a device listed twice gets two.
    """

    def __init__(self, load: Callable[[str], MatrixEncoder], devices: Sequence[str]) -> None:
        self._load, self._devices = load, list(devices)
        self._inherited: list[ProcessPoolExecutor | None] = []  # pools of the process that forked this one
        self._mutex = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None
        after_fork(self, EncoderProcesses._reset)

    def _reset(self) -> None:
        self._inherited.append(self._pool)  # its finalizer would wait for the processes
        self._mutex, self._pool = threading.Lock(), None

    def encode(
        self, texts: Sequence[str], parts: Iterable[Sequence[int]], role: str
    ) -> Iterator[tuple[list[int], NDArray[np.float32], int]]:
        """Encode texts part by part in any free process.

        Args:
            texts: All texts.
            parts: Indices of the texts that one process gets at a time.
            role: `query` or `document`.

        Yields:
            In the order of `parts`: the indices, the vectors of their texts, and their tokens.

        Raises:
            EncoderError: A process ended, or could not load the model.
        """
        pool = self._start()
        queue: deque[tuple[list[int], Future[tuple[NDArray[np.float32], int]]]] = deque()
        try:
            for part in parts:
                indices = list(part)
                queue.append((indices, pool.submit(_encode, [texts[index] for index in indices], role)))
                if len(queue) >= _QUEUED_PARTS_PER_PROCESS * len(self._devices):
                    indices, result = queue.popleft()
                    yield indices, *result.result()
            while queue:
                indices, result = queue.popleft()
                yield indices, *result.result()
        except BrokenProcessPool as error:
            self.close()
            raise EncoderError(
                f"an encoding process for {', '.join(self._devices)} ended: it may have run out of memory; set fewer "
                "devices or a smaller batch_size. A script has to guard its main code with "
                '`if __name__ == "__main__":`, because each process imports it again'
            ) from error
        finally:
            for _, result in queue:
                result.cancel()

    def _start(self) -> ProcessPoolExecutor:
        with self._mutex:
            if self._pool is None:
                context = multiprocessing.get_context("spawn")  # CUDA does not work in a forked process
                devices = context.Queue()
                for device in self._devices:
                    devices.put(device)
                on_cpu = sum(device.startswith("cpu") for device in self._devices)
                threads = max(1, (os.cpu_count() or 1) // max(1, on_cpu))
                self._pool = ProcessPoolExecutor(
                    len(self._devices), context, initializer=_initialize, initargs=(self._load, devices, threads)
                )
            return self._pool

    def close(self) -> None:
        """End the processes after their current parts."""
        with self._mutex:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)


# ---------------------------------------------------------------------- inside a process

_encoder: Any = None


def _initialize(load: Callable[[str], MatrixEncoder], devices: Any, threads: int) -> None:
    global _encoder
    device = devices.get()
    try:
        import torch

        if device.startswith("cpu"):
            torch.set_num_threads(threads)
        _encoder = load(device)
    except Exception as error:  # raised by `_encode`: an exception here would only appear as an ended process
        _encoder = EncoderError(f"the process for {device} could not load the model: {error}")


def _encode(texts: list[str], role: str) -> tuple[NDArray[np.float32], int]:
    if isinstance(_encoder, Exception):
        raise _encoder
    counts: list[int] = []
    encode = _encoder.encode_queries if role == "query" else _encoder.encode_documents
    rows = encode(texts, lambda _, tokens: counts.append(tokens))
    return rows, sum(counts)

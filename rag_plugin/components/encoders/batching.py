"""Batches for encoders: grouping by length, a fair lock, and batching of concurrent requests."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...errors import EncoderError, has_lone_surrogate
from ..forked import after_fork

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_TEXTS_PER_CALL = 2048
"""Texts that LlamaIndex passes in one call (`embed_batch_size`); the encoders sort and batch them."""
MAX_CONCURRENT_TEXTS = 256
"""Texts of concurrent requests in one batch, so that the first caller does not wait for too many others."""

_WINDOW_TEXTS, _WINDOW_CHARACTERS = 1024, 250_000  # tokenized together; bounds the memory


def batches_by_length(
    lengths: Sequence[int], *, max_texts: int | None = None, max_tokens: int | None = None
) -> Iterator[list[int]]:
    """Indices of texts in batches, longest first, so that little is padded.

    Args:
        lengths: Tokens of each text.
        max_texts: Maximum texts of a batch.
        max_tokens: Maximum tokens of a batch, padding included; a batch of one text may exceed it.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    start = 0
    while start < len(order):
        count = max_texts or len(order)
        if max_tokens is not None:
            count = min(count, max(1, max_tokens // max(1, lengths[order[start]])))
        yield order[start : start + count]
        start += count


def windows_by_length(texts: Sequence[str]) -> Iterator[list[int]]:
    """Indices of texts, longest first, in groups that are tokenized together."""
    window: list[int] = []
    characters = 0
    for index in sorted(range(len(texts)), key=lambda index: len(texts[index]), reverse=True):
        if window and (len(window) >= _WINDOW_TEXTS or characters + len(texts[index]) > _WINDOW_CHARACTERS):
            yield window
            window, characters = [], 0
        window.append(index)
        characters += len(texts[index])
    if window:
        yield window


def check_texts(texts: Sequence[Any]) -> None:
    """Check that a tokenizer accepts the texts.

    Raises:
        TypeError: One is not a str.
        EncoderError: One contains a lone surrogate.
    """
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"a text to encode is a str, not {type(text).__name__}")
        if has_lone_surrogate(text):
            raise EncoderError(f"a text contains a lone surrogate, which is not valid Unicode: {text[:60]!r}")


class FairLock:
    """A lock acquired in the order of arrival.

    A `threading.Lock` may be acquired repeatedly by the thread that has just released it, so that a question would
    wait until the end of a sync.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._queue: deque[threading.Event] = deque()  # the holder first, then the waiting threads
        after_fork(self, FairLock.__init__)

    @property
    def is_free(self) -> bool:
        return not self._queue

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the lock inside the block."""
        turn = threading.Event()
        with self._mutex:
            self._queue.append(turn)
            self._queue[0].set()
        try:
            turn.wait()
            yield
        finally:  # also after an interrupt while waiting
            with self._mutex:
                self._queue.remove(turn)
                if self._queue:
                    self._queue[0].set()


Encode = Callable[[list[str], str], "NDArray[np.float32]"]
"""Encodes texts of one role; returns one row for each text."""


@dataclass
class _PendingText:
    encode: Encode
    text: str
    role: str
    vector: Future[NDArray[np.float32]] = field(default_factory=Future)


class DynamicBatcher:
    """Encodes texts of concurrent requests in batches.

    No request waits for others to arrive: requests that arrive while a batch is encoded form the next one. A text that
    cannot be encoded fails alone. The encoding thread ends when no request is pending, so there is nothing to close.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._pending: deque[_PendingText] = deque()
        self._thread: threading.Thread | None = None
        after_fork(self, DynamicBatcher.__init__)

    def __reduce__(self) -> tuple[type[DynamicBatcher], tuple[()]]:
        return DynamicBatcher, ()  # pickled and deep copies start without requests

    def submit(self, encode: Encode, text: str, role: str) -> Future[NDArray[np.float32]]:
        """Request a vector; the future can be cancelled until its batch begins.

        Texts with equal `encode` and role share a batch; bound methods of one object are equal.
        """
        pending = _PendingText(encode, text, role)
        with self._mutex:
            self._pending.append(pending)
            if self._thread is None or not self._thread.is_alive():  # not alive in a forked process
                self._thread = threading.Thread(target=self._run, name="rag-plugin-batches")
                self._thread.start()
        return pending.vector

    def _run(self) -> None:
        while batch := self._next_batch():
            live = [pending for pending in batch if pending.vector.set_running_or_notify_cancel()]
            if live and not self._encode(live):
                for pending in live:
                    self._encode([pending])

    def _next_batch(self) -> list[_PendingText]:
        """The pending texts with the encoder and role of the first one; empty ends the thread."""
        with self._mutex:
            if not self._pending:
                self._thread = None
                return []
            first, others = self._pending[0], deque[_PendingText]()
            batch: list[_PendingText] = []
            for pending in self._pending:
                fits = (pending.encode, pending.role) == (first.encode, first.role)
                (batch if fits and len(batch) < MAX_CONCURRENT_TEXTS else others).append(pending)
            self._pending = others
            return batch

    def _encode(self, batch: list[_PendingText]) -> bool:
        """Encode a batch and set its futures; False where a batch of several texts failed."""
        try:
            rows = batch[0].encode([pending.text for pending in batch], batch[0].role)
        except BaseException as error:  # raised in the thread that waits for the vector
            if len(batch) > 1:
                return False
            batch[0].vector.set_exception(error)
            return True
        for pending, row in zip(batch, rows):
            pending.vector.set_result(row)
        return True

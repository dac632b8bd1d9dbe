"""Texts of many callers in, batches for a model out: by length, by turns, and together with whoever else asks."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...errors import EncoderError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WINDOW_TEXTS, _WINDOW_CHARACTERS = 1024, 250_000  # tokenized together, which bounds the memory
_TOGETHER = 1024  # texts of one group at most, so that its first caller does not wait for too many others


def batches_by_length(lengths: Sequence[int], *, rows: int | None, tokens: int) -> Iterator[list[int]]:
    """The numbers of the texts in batches, the longest first, so that little is padded.

    Args:
        lengths: How long each text is, in tokens.
        rows: The most texts of a batch; None for as many as `tokens` allows.
        tokens: The most tokens of a batch, padding included, where `rows` is None; one text is always taken.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    start = 0
    while start < len(order):
        count = rows or max(1, tokens // max(1, lengths[order[start]]))
        yield order[start : start + count]
        start += count


def windows_by_length(texts: Sequence[str]) -> Iterator[list[int]]:
    """The numbers of the texts, the longest first, in parts that are tokenized together."""
    window: list[int] = []
    characters = 0
    for number in sorted(range(len(texts)), key=lambda number: len(texts[number]), reverse=True):
        if window and (len(window) >= _WINDOW_TEXTS or characters + len(texts[number]) > _WINDOW_CHARACTERS):
            yield window
            window, characters = [], 0
        window.append(number)
        characters += len(texts[number])
    if window:
        yield window


def check_texts(texts: Sequence[Any]) -> None:
    """Refuse what no tokenizer takes, in words that say what it is."""
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"a text to encode is a str, not {type(text).__name__}")
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise EncoderError(
                    f"a text holds half a surrogate pair, which no encoding can keep: {text[:60]!r}"
                ) from None


class FairLock:
    """A lock that is given in the order in which it was pending for.

    Python's own may be taken again and again by the thread that has just let go of it, so that a question would wait
    for the end of a sync.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._held = False
        self._queue: deque[threading.Event] = deque()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn, and have it."""
        with self._mutex:
            if self._held or self._queue:
                mine = threading.Event()
                self._queue.append(mine)
            else:
                self._held, mine = True, None
        if mine is not None:
            try:
                mine.wait()
            except BaseException:  # Ctrl-C while waiting: the turn goes on to the next
                with self._mutex:
                    if mine in self._queue:
                        self._queue.remove(mine)
                        raise
                self._release()
                raise
        try:
            yield
        finally:
            self._release()

    def try_now(self) -> bool:
        """Take the lock if nobody has it or waits for it; then `release` it."""
        with self._mutex:
            if self._held or self._queue:
                return False
            self._held = True
            return True

    def release(self) -> None:
        """Give back what `try_now` took."""
        self._release()

    def _release(self) -> None:
        with self._mutex:
            if self._queue:
                self._queue.popleft().set()
            else:
                self._held = False


@dataclass
class _PendingText:
    text: str
    role: str
    answer: Future[NDArray[np.float32]] = field(default_factory=Future)


class DynamicBatcher:
    """Encodes together what many threads and tasks ask for at the same time.

    Nobody waits for others to come: whoever asks while a batch is being encoded goes into the next one. A text that
    cannot be encoded fails alone. The thread that encodes lives while somebody waits, so there is nothing to close.

    Args:
        encode: Texts and their role in; a matrix out, a row for each.
    """

    def __init__(self, encode: Callable[[list[str], str], NDArray[np.float32]]) -> None:
        self._encode = encode
        self._mutex = threading.Lock()
        self._pending: deque[_PendingText] = deque()
        self._thread: threading.Thread | None = None

    def submit(self, text: str, role: str) -> Future[NDArray[np.float32]]:
        """Ask for the vector of a text; the future can be cancelled until its batch begins."""
        pending = _PendingText(text, role)
        with self._mutex:
            self._pending.append(pending)
            # A thread does not live on in a forked process.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._serve, name="rag-plugin-together")
                self._thread.start()
        return pending.answer

    def _serve(self) -> None:
        while group := self._next_group():
            live = [pending for pending in group if pending.answer.set_running_or_notify_cancel()]
            if live and not self._answer(live):
                for pending in live:
                    self._answer([pending])

    def _next_group(self) -> list[_PendingText]:
        """What has the role of the first that waits; nothing ends the thread."""
        with self._mutex:
            if not self._pending:
                self._thread = None
                return []
            role = self._pending[0].role
            group: list[_PendingText] = []
            others: list[_PendingText] = []
            for pending in self._pending:
                (group if pending.role == role and len(group) < _TOGETHER else others).append(pending)
            self._pending = deque(others)
            return group

    def _answer(self, group: list[_PendingText]) -> bool:
        """Encode a group; false where it has to be tried one by one, to find whose text it was that failed."""
        try:
            rows: Any = self._encode([pending.text for pending in group], group[0].role)
        except BaseException as error:  # handed to the one who pending, whose business it is
            if len(group) > 1:
                return False
            group[0].answer.set_exception(error)
            return True
        for pending, row in zip(group, rows):
            pending.answer.set_result(row)
        return True


class BatcherPool:
    """The group of an object, and of each of its copies that shares this: none answers for another.

    What is pickled or copied deeply begins with none.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._groups: dict[int, tuple[weakref.ref[RoleEmbedding], DynamicBatcher]] = {}

    def __deepcopy__(self, memo: object) -> BatcherPool:
        return BatcherPool()

    def __reduce__(self) -> tuple[type[BatcherPool], tuple[()]]:
        return BatcherPool, ()

    def of(self, owner: RoleEmbedding) -> DynamicBatcher:
        """The group that encodes as this object does; it does not keep the object alive."""
        with self._mutex:
            found = self._groups.get(id(owner))
            if found is not None and found[0]() is owner:
                return found[1]
            reference = weakref.ref(owner)

            def encode(texts: list[str], role: str) -> NDArray[np.float32]:
                live = reference()
                assert live is not None  # who waits for the answer holds it
                return live._embed_batch(texts, role)

            self._groups = {key: pair for key, pair in self._groups.items() if pair[0]() is not None}
            self._groups[id(owner)] = reference, (group := DynamicBatcher(encode))
            return group


class RoleEmbedding:
    """What LlamaIndex asks of an encoder, by `query` or `document`.

    For a class that has `_embed_one`, `_embed_batch` and `encode_documents`.

    Async by a thread that encodes for all who ask, so that no event loop is blocked, and none is kept.
    """

    _together: BatcherPool

    def _embed_one(self, text: str, role: str) -> list[float]:
        raise NotImplementedError

    def _embed_batch(self, texts: list[str], role: str) -> NDArray[np.float32]:
        """Vectors of texts of one role, shape (len(texts), dimension)."""
        raise NotImplementedError

    def encode_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of documents' texts, shape (len(texts), dimension)."""
        raise NotImplementedError

    async def _aembed_one(self, text: str, role: str) -> list[float]:
        row = await asyncio.wrap_future(self._together.of(self).submit(text, role))
        return row.tolist()

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._embed_one(query, "query")

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await self._aembed_one(query, "query")

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._embed_one(text, "document")

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await self._aembed_one(text, "document")

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self.encode_documents(texts).tolist()

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)

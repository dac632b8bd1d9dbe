"""What a model makes of each token of a text in its context: the last hidden state, with the characters it covers.

An encoder's vector of a whole text is made of these, by their mean for most models. Here they are given one by one,
so that a word can be compared with the same word in another sentence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ComponentError
from .space import check_texts
from .spans import Span

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from numpy.typing import NDArray

_TEXTS = 64  # whose tokens are held in memory together
_WINDOWS = 16  # that the model sees at once
_UNLIMITED = 100_000  # tokens; a tokenizer without a limit says 10**30


@dataclass(frozen=True, eq=False)
class TokenVectors:
    """The tokens of one text, in order, without those that the model adds itself.

    `spans` are the characters that each token covers, `vectors` are float32 of shape (len(spans), width of the
    model), as they leave the last layer.
    """

    text: str
    spans: tuple[Span, ...]
    vectors: NDArray[np.float32]

    def means(self, spans: Sequence[Span]) -> NDArray[np.float32]:
        """The mean vector of the tokens that reach into each of these spans; NaN where no token does.

        Returns:
            Float32, shape (len(spans), width of the model).
        """
        # Tokens follow each other, so those of a span are a run, and its sum a difference of two running sums.
        starts = np.maximum.accumulate(np.array([start for start, _ in self.spans], dtype=np.int64))
        ends = np.maximum.accumulate(np.array([end for _, end in self.spans], dtype=np.int64))
        wanted = np.array(spans, dtype=np.int64).reshape(-1, 2)
        first = np.searchsorted(ends, wanted[:, 0], side="right")
        last = np.searchsorted(starts, wanted[:, 1], side="left")
        sums = np.zeros((len(self.spans) + 1, self.vectors.shape[1]))
        np.cumsum(self.vectors, axis=0, dtype=np.float64, out=sums[1:])
        count = np.maximum(last - first, 0)[:, None]
        with np.errstate(invalid="ignore"):
            return (np.where(count, sums[last] - sums[np.minimum(first, last)], np.nan) / count).astype(np.float32)


def token_vectors(encoder: BaseEmbedding, texts: Sequence[str]) -> Iterator[TokenVectors]:
    """The tokens of each text with their vectors, as the model sees them behind the prompt for documents.

    A text that is longer than the model sees is read in windows that overlap by half, and each token has the vector
    from the window that shows most of what is around it. So no token is left out. A text of which the tokenizer
    makes nothing, such as a lone invisible character, has no tokens.

    Raises:
        ComponentError: The encoder gives a vector for a text only; the message says which ones do for tokens.
        QuestionError: A text is empty.
    """
    check_texts(texts)
    reader = _Reader(encoder)
    rest = iter(texts)
    while chunk := list(islice(rest, _TEXTS)):
        yield from reader.read(chunk)


@dataclass(frozen=True)
class _Prepared:
    """A text as ids: what the model puts before and after, and the tokens of the text itself."""

    head: list[int]
    body: list[int]
    tail: list[int]
    spans: tuple[Span, ...]


class _Reader:
    """A model with a tokenizer of its own: the encoder's keeps settings that another thread may be changing."""

    def __init__(self, encoder: BaseEmbedding) -> None:
        name = type(encoder).__name__
        model: Any = getattr(encoder, "_model", None)
        self.model = model
        tokenizer = getattr(model, "tokenizer", None)
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None or not hasattr(model, "max_seq_length"):
            raise ComponentError(
                f"the encoder {name} gives one vector for a whole text and none for its tokens; for tokens, words "
                "and characters take a model of sentence-transformers (encoder: {type: huggingface, model: ...})"
            )
        from tokenizers import Tokenizer

        self.tokenizer: Any = Tokenizer.from_str(backend.to_str())
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.pad = int(getattr(tokenizer, "pad_token_id", None) or 0)
        self.types = "token_type_ids" in getattr(tokenizer, "model_input_names", ())
        self.prompt = _document_prompt(encoder, model)
        positions = getattr(getattr(model[0], "config", None), "max_position_embeddings", None)
        limits = [limit for limit in (model.max_seq_length, positions) if limit and limit < _UNLIMITED]
        self.longest = int(min(limits, default=512))

    def read(self, texts: Sequence[str]) -> Iterator[TokenVectors]:
        prepared = [self._prepare(text) for text in texts]
        windows = [
            (number, window) for number, item in enumerate(prepared) if item.body for window in self._windows(item)
        ]
        order = sorted(range(len(windows)), key=lambda place: -len(windows[place][1]))
        hidden: dict[int, list[tuple[range, NDArray[np.float32]]]] = {}
        for start in range(0, len(order), _WINDOWS):
            batch = [windows[place] for place in order[start : start + _WINDOWS]]
            rows = [prepared[number].head + [prepared[number].body[i] for i in window] + prepared[number].tail
                    for number, window in batch]  # fmt: skip
            for (number, window), states in zip(batch, self._states(rows)):
                skipped = len(prepared[number].head)
                hidden.setdefault(number, []).append((window, states[skipped : skipped + len(window)]))
        for number, (text, item) in enumerate(zip(texts, prepared)):
            if not item.body:
                yield TokenVectors(text, (), np.zeros((0, 0), dtype=np.float32))
                continue
            vectors = _joined(len(item.body), hidden[number])
            # Some tokenizers have tokens that cover no character, such as a mark of the beginning.
            covering = [place for place, (start, end) in enumerate(item.spans) if start < end]
            yield TokenVectors(text, tuple(item.spans[place] for place in covering), vectors[covering])

    def _prepare(self, text: str) -> _Prepared:
        found = self.tokenizer.encode(self.prompt + text, add_special_tokens=True)
        before = len(self.prompt)
        added = [bool(special) for special in found.special_tokens_mask]
        first = next((i for i, (_, end) in enumerate(found.offsets) if not added[i] and end > before), None)
        if first is None:
            return _Prepared([], [], [], ())
        last = max(i for i, is_added in enumerate(added) if not is_added)
        spans = tuple((max(0, start - before), max(0, end - before)) for start, end in found.offsets[first : last + 1])
        return _Prepared(found.ids[:first], found.ids[first : last + 1], found.ids[last + 1 :], spans)

    def _windows(self, item: _Prepared) -> Iterator[range]:
        room = self.longest - len(item.head) - len(item.tail)
        count = len(item.body)
        if room < 2:
            raise ComponentError(
                f"the encoder sees {self.longest} tokens, and its prompt takes {self.longest - max(room, 0)}"
            )
        for start in range(0, max(1, count - room // 2), max(1, room - room // 2)):
            yield range(max(0, min(start, count - room)), min(start + room, count))

    def _states(self, rows: Sequence[list[int]]) -> Iterator[NDArray[np.float32]]:
        """The last hidden state of each row, shape (len(row), width)."""
        import torch

        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), self.pad, dtype=torch.long)
        seen = torch.zeros((len(rows), longest), dtype=torch.long)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row, dtype=torch.long)
            seen[number, : len(row)] = 1
        features: dict[str, Any] = {"input_ids": ids, "attention_mask": seen}
        if self.types:
            features["token_type_ids"] = torch.zeros_like(ids)
        device = self.model.device
        features = {name: value.to(device) for name, value in features.items()}
        self.model.eval()
        with torch.inference_mode():
            states = self.model[0](features).get("token_embeddings")
        if states is None:
            name = type(self.model[0]).__name__
            raise ComponentError(f"the encoder's model ({name}) has no hidden state of its tokens")
        exact = states.float().cpu().numpy()
        return (exact[number, : len(row)] for number, row in enumerate(rows))


def _document_prompt(encoder: BaseEmbedding, model: Any) -> str:
    """What the encoder puts before a document's text; as in `tokens.default_chunk_size`."""
    prompt = getattr(encoder, "document_prompt", None)
    if prompt is None:
        prompt = (getattr(model, "prompts", None) or {}).get("document")
    return prompt or ""


def _joined(count: int, windows: Sequence[tuple[range, NDArray[np.float32]]]) -> NDArray[np.float32]:
    """One vector for each of `count` tokens, from the window in which it is furthest from an edge."""
    if len(windows) == 1:
        return np.ascontiguousarray(windows[0][1])
    vectors = np.zeros((count, windows[0][1].shape[1]), dtype=np.float32)
    best = np.full(count, -1)
    for window, states in sorted(windows, key=lambda item: item[0].start):
        places = np.arange(window.start, window.stop)
        # Where the text itself begins or ends, nothing is hidden behind the edge.
        left = places - window.start if window.start else np.full(len(places), count)
        right = window.stop - 1 - places if window.stop < count else np.full(len(places), count)
        around = np.minimum(left, right)
        better = around > best[places]
        vectors[places[better]] = states[better]
        best[places[better]] = around[better]
    return vectors

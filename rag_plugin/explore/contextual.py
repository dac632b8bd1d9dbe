"""Vectors of tokens in their context: the last hidden state of a model, with the characters that each token covers."""

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

_TEXTS_PER_BATCH = 64  # bounds the token vectors in memory
_WINDOWS_PER_FORWARD_PASS = 16
_UNLIMITED_TOKENS = 100_000  # a tokenizer without a limit has a maximum of 10**30


@dataclass(frozen=True, eq=False)
class TokenVectors:
    """The tokens of one text, in order, without the model's special tokens and prompt.

    `spans` are the characters that each token covers, `vectors` are the last hidden state: float32, shape
    (len(spans), width of the model).
    """

    text: str
    spans: tuple[Span, ...]
    vectors: NDArray[np.float32]

    def means(self, spans: Sequence[Span]) -> NDArray[np.float32]:
        """The mean vector of the tokens that overlap each span; NaN where no token does.

        Returns:
            Float32, shape (len(spans), width of the model).
        """
        # The tokens of a span are consecutive, so their sum is the difference of two cumulative sums.
        starts = np.maximum.accumulate(np.array([start for start, _ in self.spans], dtype=np.int64))
        ends = np.maximum.accumulate(np.array([end for _, end in self.spans], dtype=np.int64))
        limits = np.array(spans, dtype=np.int64).reshape(-1, 2)
        first = np.searchsorted(ends, limits[:, 0], side="right")
        last = np.searchsorted(starts, limits[:, 1], side="left")
        sums = np.zeros((len(self.spans) + 1, self.vectors.shape[1]))
        np.cumsum(self.vectors, axis=0, dtype=np.float64, out=sums[1:])
        count = np.maximum(last - first, 0)[:, None]
        with np.errstate(invalid="ignore"):
            return (np.where(count, sums[last] - sums[np.minimum(first, last)], np.nan) / count).astype(np.float32)


def token_vectors(encoder: BaseEmbedding, texts: Sequence[str]) -> Iterator[TokenVectors]:
    """The tokens of each text with their vectors, encoded behind the prompt for documents.

    A text longer than the model's input is encoded in windows that overlap by half; each token's vector is from the
    window with the most context around it. A text without tokens, such as a single invisible character, yields none.

    Raises:
        ComponentError: The encoder has no token vectors; the message names encoders that have.
        QuestionError: A text is empty.
    """
    check_texts(texts)
    token_encoder = _TokenEncoder(encoder)
    remaining = iter(texts)
    while batch := list(islice(remaining, _TEXTS_PER_BATCH)):
        yield from token_encoder.encode(batch)


@dataclass(frozen=True)
class _TokenizedText:
    """Token ids: special tokens and prompt before the text, the text itself, and special tokens after it."""

    head: list[int]
    body: list[int]
    tail: list[int]
    spans: tuple[Span, ...]


class _TokenEncoder:
    """A model with a copy of its tokenizer: another thread may change the settings of the original."""

    def __init__(self, encoder: BaseEmbedding) -> None:
        model: Any = getattr(encoder, "_model", None)
        self.model = model
        tokenizer = getattr(model, "tokenizer", None)
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None or not hasattr(model, "max_seq_length"):
            raise ComponentError(
                f"the encoder {type(encoder).__name__} has vectors of texts only, not of tokens; for tokens, words and "
                "characters use a sentence-transformers model (encoder: {type: huggingface, model: ...})"
            )
        from tokenizers import Tokenizer

        self.tokenizer: Any = Tokenizer.from_str(backend.to_str())
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.padding_id = int(getattr(tokenizer, "pad_token_id", None) or 0)
        self.has_token_types = "token_type_ids" in getattr(tokenizer, "model_input_names", ())
        self.prompt = _document_prompt(encoder, model)
        positions = getattr(getattr(model[0], "config", None), "max_position_embeddings", None)
        limits = [limit for limit in (model.max_seq_length, positions) if limit and limit < _UNLIMITED_TOKENS]
        self.max_tokens = int(min(limits, default=512))

    def encode(self, texts: Sequence[str]) -> Iterator[TokenVectors]:
        tokenized = [self._tokenize(text) for text in texts]
        windows = [(number, window) for number, item in enumerate(tokenized) for window in self.windows(item)]
        windows.sort(key=lambda item: -len(item[1]))
        parts: list[list[tuple[range, NDArray[np.float32]]]] = [[] for _ in texts]
        for start in range(0, len(windows), _WINDOWS_PER_FORWARD_PASS):
            batch = windows[start : start + _WINDOWS_PER_FORWARD_PASS]
            rows = []
            for number, window in batch:
                item = tokenized[number]
                rows.append(item.head + item.body[window.start : window.stop] + item.tail)
            for (number, window), states in zip(batch, self._hidden_states(rows)):
                head = len(tokenized[number].head)
                parts[number].append((window, states[head : head + len(window)]))
        for text, item, states_of_windows in zip(texts, tokenized, parts):
            if not item.body:
                yield TokenVectors(text, (), np.zeros((0, 0), dtype=np.float32))
                continue
            vectors = merge_windows(len(item.body), states_of_windows)
            # Some tokenizers have tokens that cover no character, such as a marker of a word's beginning.
            covering = [index for index, (start, end) in enumerate(item.spans) if start < end]
            yield TokenVectors(text, tuple(item.spans[index] for index in covering), vectors[covering])

    def _tokenize(self, text: str) -> _TokenizedText:
        encoding = self.tokenizer.encode(self.prompt + text, add_special_tokens=True)
        shift = len(self.prompt)
        special = encoding.special_tokens_mask
        tokens = [i for i, (_, end) in enumerate(encoding.offsets) if not special[i] and end > shift]
        if not tokens:
            return _TokenizedText([], [], [], ())
        first = tokens[0]
        stop = 1 + max(i for i, is_special in enumerate(special) if not is_special)
        spans = tuple((max(0, start - shift), max(0, end - shift)) for start, end in encoding.offsets[first:stop])
        ids = encoding.ids
        return _TokenizedText(ids[:first], ids[first:stop], ids[stop:], spans)

    def windows(self, item: _TokenizedText) -> Iterator[range]:
        count = len(item.body)
        if not count:
            return
        room = self.max_tokens - len(item.head) - len(item.tail)
        if room < 2:
            raise ComponentError(
                f"the encoder's input is limited to {self.max_tokens} tokens, "
                f"of which its prompt takes {self.max_tokens - max(room, 0)}"
            )
        for start in range(0, max(1, count - room // 2), max(1, room - room // 2)):
            yield range(max(0, min(start, count - room)), min(start + room, count))

    def _hidden_states(self, rows: Sequence[list[int]]) -> Iterator[NDArray[np.float32]]:
        """The last hidden state of each row, shape (len(row), width)."""
        import torch

        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), self.padding_id, dtype=torch.long)
        mask = torch.zeros((len(rows), longest), dtype=torch.long)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row, dtype=torch.long)
            mask[number, : len(row)] = 1
        features = {"input_ids": ids, "attention_mask": mask}
        if self.has_token_types:
            features["token_type_ids"] = torch.zeros_like(ids)
        features = {name: value.to(self.model.device) for name, value in features.items()}
        self.model.eval()
        with torch.inference_mode():
            states = self.model[0](features).get("token_embeddings")
        if states is None:
            raise ComponentError(f"the encoder's model ({type(self.model[0]).__name__}) has no hidden state of tokens")
        matrix = states.float().cpu().numpy()
        return (matrix[number, : len(row)] for number, row in enumerate(rows))


def _document_prompt(encoder: BaseEmbedding, model: Any) -> str:
    """The encoder's prompt for documents, as in `tokens.default_chunk_size`."""
    prompt = getattr(encoder, "document_prompt", None)
    if prompt is None:
        prompt = (getattr(model, "prompts", None) or {}).get("document")
    return prompt or ""


def merge_windows(count: int, windows: Sequence[tuple[range, NDArray[np.float32]]]) -> NDArray[np.float32]:
    """One vector for each of `count` tokens, from the window in which it is farthest from an edge."""
    if len(windows) == 1:
        return np.ascontiguousarray(windows[0][1])
    vectors = np.zeros((count, windows[0][1].shape[1]), dtype=np.float32)
    best = np.full(count, -1)
    for window, states in sorted(windows, key=lambda item: item[0].start):
        positions = np.arange(window.start, window.stop)
        # The edges of the text itself do not count: no context is missing there.
        left = positions - window.start if window.start else np.full(len(positions), count)
        right = window.stop - 1 - positions if window.stop < count else np.full(len(positions), count)
        distance = np.minimum(left, right)
        better = distance > best[positions]
        vectors[positions[better]] = states[better]
        best[positions[better]] = distance[better]
    return vectors

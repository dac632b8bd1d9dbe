"""An encoder's own tokens: where they begin in a text, how many a text has, how many the encoder sees."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from numpy.typing import NDArray

LONGEST_DEFAULT = 1024
"""Tokens. Some encoders see 8,192 and more; one vector for so much text finds little: the default size stops here."""

_BLOCK = 32_768  # characters that are tokenized together; bounds the memory for a long text
_LONGEST_WORD = 100  # a token of more characters is a word that the tokenizer gave up on
_LONG_WORD = re.compile(rf"\S{{{_LONGEST_WORD + 1}}}")


@dataclass(frozen=True)
class Tokens:
    """How an encoder divides texts, special tokens not counted.

    Attributes:
        starts: Of one text, where each token begins: characters, ascending, shape (tokens,). Near the place where a
            text is cut its parts may have a token more or less than the whole had there.
        counts: Of several texts, how many tokens each has, shape (len(texts),).

    A word that the tokenizer gives up on, since it is too long, counts as if it had been divided.
    """

    starts: Callable[[str], NDArray[np.int64]]
    counts: Callable[[Sequence[str]], NDArray[np.int64]]


def tokens_of(encoder: BaseEmbedding) -> Tokens:
    """The encoder's own tokens, or an estimate for one whose tokenizer is out of reach."""
    model = _sentence_transformer(encoder)
    if model is None:
        return _ESTIMATED
    own = _own_tokenizer(model)
    if own is None:
        slow = model.tokenizer.tokenize
        return Tokens(_estimated_starts, lambda texts: np.array([len(slow(text)) for text in texts], dtype=np.int64))
    return Tokens(lambda text: _starts(own, text), lambda texts: _counts(own, texts))


def estimated_tokens(text: str) -> list[Any]:
    """As many items as `text` has tokens for most tokenizers at most: one per three bytes of UTF-8.

    English has four characters a token and Chinese one, of three bytes, so the estimate is on the safe side.
    """
    return [None] * (-(-len(text.encode("utf-8", "surrogatepass")) // 3))


def max_input_tokens(encoder: BaseEmbedding) -> int | None:
    """How many tokens of a text the encoder sees beside its special tokens and prompt; None where that is not known."""
    model = _sentence_transformer(encoder)
    if model is None or not model.max_seq_length:
        return None
    special = getattr(model.tokenizer, "num_special_tokens_to_add", lambda: 2)()
    prompt = getattr(encoder, "document_prompt", None)
    if prompt is None:
        prompts = getattr(model, "prompts", None) or {}
        prompt = prompts.get("document") or ""
    taken = int(tokens_of(encoder).counts([prompt])[0]) if prompt else 0
    return max(1, int(model.max_seq_length) - special - taken)


def default_chunk_size(encoder: BaseEmbedding) -> int:
    """The size of a node where none is said: what the encoder sees, at most `LONGEST_DEFAULT`."""
    if _sentence_transformer(encoder) is None:
        return 256
    return min(max_input_tokens(encoder) or LONGEST_DEFAULT, LONGEST_DEFAULT)


# ---------------------------------------------------------------------------------- sentence-transformers


def _sentence_transformer(encoder: BaseEmbedding) -> Any:
    model = getattr(encoder, "_model", None)
    return model if hasattr(model, "max_seq_length") and hasattr(model, "tokenizer") else None


_COPIES: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def _own_tokenizer(model: Any) -> Any:
    """A copy of a fast tokenizer: the encoder sets padding and truncation on its own, which would cut a count short."""
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    if model not in _COPIES:
        from tokenizers import Tokenizer

        own = Tokenizer.from_str(backend.to_str())
        own.no_truncation()
        own.no_padding()
        _COPIES[model] = own
    return _COPIES[model]


def _counts(own: Any, texts: Sequence[str]) -> NDArray[np.int64]:
    counts = [
        len(encoding)
        for start in range(0, len(texts), 512)
        for encoding in own.encode_batch_fast(list(texts[start : start + 512]), add_special_tokens=False)
    ]
    for number, text in enumerate(texts):
        if _LONG_WORD.search(text):
            counts[number] = len(_starts(own, text))
    return np.array(counts, dtype=np.int64)


def _starts(own: Any, text: str) -> NDArray[np.int64]:
    blocks = list(_blocks(text))
    found = [np.zeros(0, dtype=np.int64)]
    for first in range(0, len(blocks), 16):
        part = blocks[first : first + 16]
        encodings = own.encode_batch([block for _, block in part], add_special_tokens=False)
        for (begin, _), encoding in zip(part, encodings):
            spans = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
            found.append(begin + _divided(spans))
    return np.maximum.accumulate(np.concatenate(found))


def _divided(spans: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where tokens begin; a word that is one unknown token for its length alone counts as if it had been divided."""
    long = np.flatnonzero(spans[:, 1] - spans[:, 0] > _LONGEST_WORD)
    if not long.size:
        return spans[:, 0]
    return np.sort(
        np.concatenate([spans[:, 0], *(np.arange(spans[number, 0] + 2, spans[number, 1], 2) for number in long)])
    )


def _blocks(text: str) -> Iterator[tuple[int, str]]:
    """(position, part) of a text, cut before white space where there is some."""
    start = 0
    while start < len(text):
        end = min(start + _BLOCK, len(text))
        if end < len(text):
            end = max((text.rfind(space, start + _BLOCK // 2, end) for space in "\n "), default=-1)
            end = end if end > start else start + _BLOCK
        yield start, text[start:end]
        start = end


# ---------------------------------------------------------------------------------- estimates


def _estimated_starts(text: str) -> NDArray[np.int64]:
    """A token at each third byte of a word: so an edit moves no estimate but that of its own word."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    length = 1 + (codes > 0x7F).astype(np.int64) + (codes > 0x7FF) + (codes > 0xFFFF)
    solid = codes > 0x20
    length[~solid] = 0
    before = np.cumsum(length) - length
    begins = solid & np.concatenate([[True], ~solid[:-1]])[: len(solid)]
    within = before - np.maximum.accumulate(np.where(begins, before, 0))
    return np.flatnonzero(solid & (-(-within // 3) < -(-(within + length) // 3))).astype(np.int64)


_ESTIMATED = Tokens(
    _estimated_starts, lambda texts: np.array([len(_estimated_starts(text)) for text in texts], dtype=np.int64)
)

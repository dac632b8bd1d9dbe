"""Tokens of an encoder: offsets in a text, counts, and the maximum input."""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...protocols import EncoderPrompts, EncoderTokens, Tokens

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from numpy.typing import NDArray

MAX_DEFAULT_CHUNK_TOKENS = 1024
"""Limit of the default chunk size. Some encoders read 8,192 tokens; one vector for so much text retrieves poorly."""
_ESTIMATED_CHUNK_TOKENS = 256

_BLOCK_CHARACTERS = 32_768  # tokenized together; bounds the memory for a long text
_BLOCKS_PER_CALL = 16
_TEXTS_PER_CALL = 512
_MAX_WORD_CHARACTERS = 100  # a longer token is a word that the tokenizer replaced by one unknown token
_LONG_WORD = re.compile(rf"\S{{{_MAX_WORD_CHARACTERS + 1}}}")


def tokens_of(encoder: BaseEmbedding) -> Tokens:
    """The encoder's tokenization, or an estimate where its tokenizer is not available."""
    if isinstance(encoder, EncoderTokens):
        return encoder.tokens()
    model = _llama_index_model(encoder)
    return _ESTIMATED if model is None else model_tokens(model)


def max_input_tokens(encoder: BaseEmbedding) -> int | None:
    """Maximum tokens of a text, special tokens and prompt deducted; None where unknown or unlimited."""
    if isinstance(encoder, EncoderTokens):
        return encoder.max_input_tokens()
    model = _llama_index_model(encoder)
    if model is None:
        return None
    if isinstance(encoder, EncoderPrompts):
        return model_max_input_tokens(model, encoder.document_prompt)
    return model_max_input_tokens(model, (getattr(model, "prompts", None) or {}).get("document") or "")


def default_chunk_size(encoder: BaseEmbedding) -> int:
    """Tokens of a node where the config sets none: the encoder's maximum input, at most 1,024; 256 where unknown."""
    if not isinstance(encoder, EncoderTokens) and _llama_index_model(encoder) is None:
        return _ESTIMATED_CHUNK_TOKENS
    return min(max_input_tokens(encoder) or MAX_DEFAULT_CHUNK_TOKENS, MAX_DEFAULT_CHUNK_TOKENS)


def _llama_index_model(encoder: BaseEmbedding) -> Any:
    """The SentenceTransformer of LlamaIndex's HuggingFaceEmbedding, a private attribute; None for other classes."""
    model = getattr(encoder, "_model", None)
    return model if hasattr(model, "max_seq_length") and hasattr(model, "tokenizer") else None


def estimated_tokens(text: str) -> list[Any]:
    """A list as long as a safe estimate of the tokens: one for three bytes of UTF-8.

    English has about four characters per token, Chinese one character, of three bytes.
    """
    return [None] * (-(-len(text.encode("utf-8", "surrogatepass")) // 3))


# ---------------------------------------------------------------------------------- sentence-transformers


def model_tokens(model: Any) -> Tokens:
    """The tokenization of a SentenceTransformer."""
    tokenizer = _unlimited_tokenizer(model)
    if tokenizer is None:
        tokenize = model.tokenizer.tokenize
        return Tokens(_estimated_starts, lambda texts: np.array([len(tokenize(text)) for text in texts], np.int64))
    return Tokens(lambda text: _starts(tokenizer, text), lambda texts: _counts(tokenizer, texts))


def model_max_input_tokens(model: Any, prompt: str) -> int | None:
    """Maximum tokens of a text for a SentenceTransformer, special tokens and prompt deducted; None for no limit."""
    if not model.max_seq_length:
        return None
    special = getattr(model.tokenizer, "num_special_tokens_to_add", lambda: 2)()
    prompt_tokens = int(model_tokens(model).counts([prompt])[0]) if prompt else 0
    return max(1, int(model.max_seq_length) - special - prompt_tokens)


_COPIES: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def _unlimited_tokenizer(model: Any) -> Any:
    """A copy of the fast tokenizer without the truncation and padding that encoding sets; None for a slow one."""
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    if model not in _COPIES:
        from tokenizers import Tokenizer

        copy = Tokenizer.from_str(backend.to_str())
        copy.no_truncation()
        copy.no_padding()
        _COPIES[model] = copy
    return _COPIES[model]


def _counts(tokenizer: Any, texts: Sequence[str]) -> NDArray[np.int64]:
    counts = [
        len(encoding)
        for start in range(0, len(texts), _TEXTS_PER_CALL)
        for encoding in tokenizer.encode_batch_fast(
            list(texts[start : start + _TEXTS_PER_CALL]), add_special_tokens=False
        )
    ]
    for index, text in enumerate(texts):
        if _LONG_WORD.search(text):
            counts[index] = len(_starts(tokenizer, text))
    return np.array(counts, dtype=np.int64)


def _starts(tokenizer: Any, text: str) -> NDArray[np.int64]:
    blocks = list(_blocks(text))
    starts: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]
    for first in range(0, len(blocks), _BLOCKS_PER_CALL):
        part = blocks[first : first + _BLOCKS_PER_CALL]
        encodings = tokenizer.encode_batch([block for _, block in part], add_special_tokens=False)
        for (offset, _), encoding in zip(part, encodings):
            spans = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
            starts.append(offset + _divided_starts(spans))
    return np.maximum.accumulate(np.concatenate(starts))


def _divided_starts(spans: NDArray[np.int64]) -> NDArray[np.int64]:
    """Starts of token spans; a span that is too long for a token gets a start at every second character."""
    long = np.flatnonzero(spans[:, 1] - spans[:, 0] > _MAX_WORD_CHARACTERS)
    if not long.size:
        return spans[:, 0]
    inside = (np.arange(spans[index, 0] + 2, spans[index, 1], 2) for index in long)
    return np.sort(np.concatenate([spans[:, 0], *inside]))


def _blocks(text: str) -> Iterator[tuple[int, str]]:
    """(offset, block) of a text, split before white space where possible."""
    start = 0
    while start < len(text):
        end = min(start + _BLOCK_CHARACTERS, len(text))
        if end < len(text):
            end = max((text.rfind(space, start + _BLOCK_CHARACTERS // 2, end) for space in "\n "), default=-1)
            end = end if end > start else start + _BLOCK_CHARACTERS
        yield start, text[start:end]
        start = end


# ---------------------------------------------------------------------------------- estimates


def _estimated_starts(text: str) -> NDArray[np.int64]:
    """A token at each third byte of a word, so that an edit changes the estimate of its own word only."""
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

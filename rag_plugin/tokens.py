"""An encoder's own tokens: how many a text has, how many the encoder sees, what it does not see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding

LONGEST_DEFAULT = 1024
"""Tokens. Some encoders see 8,192 and more; one vector for so much text finds little: the default size stops here."""


def _sentence_transformer(encoder: BaseEmbedding) -> Any:
    model = getattr(encoder, "_model", None)
    return model if hasattr(model, "max_seq_length") and hasattr(model, "tokenizer") else None


def tokenizer_of(encoder: BaseEmbedding) -> Callable[[str], list[Any]]:
    """A function that splits text into the encoder's own tokens, without special ones and without an end."""
    model = _sentence_transformer(encoder)
    backend = getattr(getattr(model, "tokenizer", None), "backend_tokenizer", None)
    if backend is not None:
        from tokenizers import Tokenizer

        # A copy: the encoder sets padding and truncation on its own, and that would cut the count short.
        own = Tokenizer.from_str(backend.to_str())
        own.no_truncation()
        own.no_padding()
        return lambda text: own.encode(text, add_special_tokens=False).ids
    if model is not None:
        return lambda text: model.tokenizer.tokenize(text)  # type: ignore[no-any-return]
    return estimated_tokens


def estimated_tokens(text: str) -> list[Any]:
    """As many items as `text` has tokens for most tokenizers at most: one per three bytes of UTF-8.

    English has four characters a token and Chinese one, of three bytes, so the estimate is on the safe side.
    """
    return [None] * (-(-len(text.encode("utf-8", "surrogatepass")) // 3))


def capacity(encoder: BaseEmbedding) -> int:
    """How many tokens of a node's text the encoder sees, at most `LONGEST_DEFAULT`."""
    model = _sentence_transformer(encoder)
    if model is None:
        return 256
    longest = model.max_seq_length or LONGEST_DEFAULT
    special = getattr(model.tokenizer, "num_special_tokens_to_add", lambda: 2)()
    prompt = getattr(encoder, "document_prompt", None)
    if prompt is None:
        prompts = getattr(model, "prompts", None) or {}
        prompt = prompts.get("document") or ""
    taken = special + (len(tokenizer_of(encoder)(prompt)) if prompt else 0)
    return int(max(1, min(longest - taken, LONGEST_DEFAULT)))


def unseen_share(encoder: BaseEmbedding, texts: Sequence[str]) -> tuple[int, float]:
    """How many texts are longer than the encoder sees, and the share of all tokens that it does not see."""
    model = _sentence_transformer(encoder)
    if model is None or not model.max_seq_length:
        return 0, 0.0
    count = tokenizer_of(encoder)
    limit = model.max_seq_length - getattr(model.tokenizer, "num_special_tokens_to_add", lambda: 2)()
    import numpy as np

    lengths = np.array([len(count(text)) for text in texts])
    return int((lengths > limit).sum()), float(np.maximum(lengths - limit, 0).sum() / max(1, lengths.sum()))

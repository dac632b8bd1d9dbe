"""What a server says of a model, by /api/show, in the words of this package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DEFAULT_CONTEXT = 8192
"""Tokens, where neither the config nor the model says less: the server's own default of 4,096 is little for passages,
and a model's maximum can be more than the machine has memory for."""


@dataclass(frozen=True)
class ModelInfo:
    """What a model is.

    Attributes:
        limit: The most tokens of its context; None where the server does not say.
        capabilities: What it can do: `completion`, `tools`, `thinking`, ...; empty where the server does not say.
        size: Its parameters and quantization, such as `3.2B, Q4_K_M`.
        cache_bytes: Of memory for each token of the context, at most; None where that cannot be told.
    """

    limit: int | None
    capabilities: tuple[str, ...]
    size: str
    cache_bytes: int | None

    @classmethod
    def of(cls, shown: Mapping[str, Any]) -> ModelInfo:
        """Read from an answer of /api/show."""
        info, details = dict(shown.get("model_info") or {}), dict(shown.get("details") or {})
        known = (str(details[key]) for key in ("parameter_size", "quantization_level") if details.get(key))
        return cls(
            limit=next((int(value) for key, value in info.items() if key.endswith(".context_length")), None),
            capabilities=tuple(map(str, shown.get("capabilities") or ())),
            size=", ".join(known),
            cache_bytes=_cache_bytes(info),
        )

    def window(self, said: int = 0) -> int:
        """The tokens of the context that an engine gets, where the config says `said` (0 or less: nothing)."""
        wanted = said if said > 0 else DEFAULT_CONTEXT
        return wanted if self.limit is None else min(wanted, self.limit)


def _cache_bytes(info: Mapping[str, Any]) -> int | None:
    # Keys and values of each layer's heads, two bytes a number; layers that look back a little way only keep less.
    family = info.get("general.architecture")

    def told(name: str) -> Any:
        return info.get(f"{family}.{name}")

    layers, heads = told("block_count"), told("attention.head_count")
    kept = told("attention.head_count_kv") or heads
    if not isinstance(layers, int) or not kept:
        return None
    heads_of_layers = sum(kept) if isinstance(kept, list) else layers * int(kept)
    width = told("embedding_length")
    each = width // heads if isinstance(width, int) and isinstance(heads, int) and heads else None
    key, value = told("attention.key_length") or each, told("attention.value_length") or each
    return None if key is None or value is None else 2 * heads_of_layers * (int(key) + int(value))

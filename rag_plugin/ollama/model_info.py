"""Properties of a model, parsed from /api/show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .limits import DEFAULT_CONTEXT_TOKENS


@dataclass(frozen=True)
class ModelInfo:
    """Properties of a model.

    Attributes:
        max_context: Maximum context in tokens; None where unknown.
        capabilities: `completion`, `tools`, `thinking`, ...; empty where unknown.
        size: Parameters and quantization, such as `3.2B, Q4_K_M`.
        cache_bytes: Upper bound of the memory for each token of the context; None where unknown.
    """

    max_context: int | None
    capabilities: tuple[str, ...]
    size: str
    cache_bytes: int | None

    @classmethod
    def of(cls, response: Mapping[str, Any]) -> ModelInfo:
        """Parse a response of /api/show."""
        info, details = dict(response.get("model_info") or {}), dict(response.get("details") or {})
        sizes = (str(details[key]) for key in ("parameter_size", "quantization_level") if details.get(key))
        return cls(
            max_context=next((int(value) for key, value in info.items() if key.endswith(".context_length")), None),
            capabilities=tuple(map(str, response.get("capabilities") or ())),
            size=", ".join(sizes),
            cache_bytes=_cache_bytes(info),
        )

    def context(self, configured: int = 0) -> int:
        """Context of an engine in tokens, at most the model's; `configured` of 0 or less selects the default."""
        tokens = configured if configured > 0 else DEFAULT_CONTEXT_TOKENS
        return tokens if self.max_context is None else min(tokens, self.max_context)


def _cache_bytes(info: Mapping[str, Any]) -> int | None:
    # Keys and values of each layer's heads at two bytes; layers with a sliding window keep less.
    family = info.get("general.architecture")

    def value_of(name: str) -> Any:
        return info.get(f"{family}.{name}")

    layers, heads = value_of("block_count"), value_of("attention.head_count")
    kv_heads = value_of("attention.head_count_kv") or heads
    if not isinstance(layers, int) or not kv_heads:
        return None
    all_kv_heads = sum(kv_heads) if isinstance(kv_heads, list) else layers * int(kv_heads)
    width = value_of("embedding_length")
    head_size = width // heads if isinstance(width, int) and isinstance(heads, int) and heads else None
    key, value = value_of("attention.key_length") or head_size, value_of("attention.value_length") or head_size
    return None if key is None or value is None else 2 * all_kv_heads * (int(key) + int(value))

"""Contradictions between the sections of a config, each of which is right by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..source import Node

if TYPE_CHECKING:
    from ..components.registry.section import Section

_MODES = ("default", "text_search", "sparse", "hybrid", "mmr")  # what the store 'faiss' does
_WITH_WORDS = ("text_search", "sparse", "hybrid")


def contradictions(sections: Mapping[str, Any]) -> Iterator[tuple[Node, str, str, str]]:
    """(node, path, message, hint) of each."""
    store: Section | None = sections["store"]
    retriever: Section | None = sections["retriever"]
    if store is None or retriever is None or store.type != "faiss":
        return
    mode = retriever.settings.get("vector_store_query_mode")
    if mode is not None:
        word, key = str(getattr(mode, "value", mode)), "vector_store_query_mode"
        if word not in _MODES:
            hint = f"one of {', '.join(_MODES)}; or name a store that can do it"
            yield retriever.given.entries[key].node, f"retriever.{key}", f"the store 'faiss' has no mode {word!r}", hint
    else:
        word, key = retriever.type, "type"
    if word in (*_WITH_WORDS, "lexical") and store.settings.get("lexical") is False:
        message = f"{word!r} searches by words, and store.lexical is false"
        hint = "set store.lexical to true, or let retriever.type be vector"
        entry = retriever.given.entries.get(key)
        yield (store.given.entries["lexical"].node if entry is None else entry.node), f"retriever.{key}", message, hint

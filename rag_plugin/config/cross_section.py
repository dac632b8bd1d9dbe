"""Contradictions between sections that are valid on their own."""

from __future__ import annotations

from collections.abc import Iterator

from ..components.registry.section import Section, Sections
from ..source import Node

_FAISS_MODES = ("default", "text_search", "sparse", "hybrid", "mmr")
_LEXICAL_MODES = ("text_search", "sparse", "hybrid", "lexical")


def contradictions(sections: Sections) -> Iterator[tuple[Node, str, str, str]]:
    """(node, path, message, hint) of each contradiction."""
    store, retriever = sections["store"], sections["retriever"]
    if not isinstance(store, Section) or not isinstance(retriever, Section):
        return
    rerankers = sections["rerankers"]
    for number, section in enumerate(rerankers if isinstance(rerankers, tuple) else ()):
        if (
            section.type == "similarity_cutoff"
            and section.settings.get("on") == "vector"
            and retriever.type == "lexical"
        ):
            message, hint = "the retriever 'lexical' computes no similarity of vectors", "remove it, or use hybrid"
            yield section.raw.entries["on"].node, f"rerankers[{number}].on", message, hint
    if store.type != "faiss":
        return
    key = "vector_store_query_mode"  # of LlamaIndex's own retrievers
    mode = retriever.settings.get(key)
    if mode is None:
        mode_name, key = retriever.type, "type"
    else:
        mode_name = str(getattr(mode, "value", mode))
        if mode_name not in _FAISS_MODES:
            hint = f"one of {', '.join(_FAISS_MODES)}; or use a store that has this mode"
            message = f"the store 'faiss' has no mode {mode_name!r}"
            yield retriever.raw.entries[key].node, f"retriever.{key}", message, hint
    if mode_name in _LEXICAL_MODES and store.settings.get("lexical") is False:
        message = f"{mode_name!r} needs the lexical index, and store.lexical is false"
        hint = "set store.lexical to true, or retriever.type to vector"
        entry = retriever.raw.entries.get(key)
        node = store.raw.entries["lexical"].node if entry is None else entry.node
        yield node, f"retriever.{key}", message, hint

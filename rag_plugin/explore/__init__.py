"""Similarity of texts, vector arithmetic and maps, for any LlamaIndex embedding.

A `Space` is a list of texts with their vectors. It is built from texts (`encode`, `encode_pieces`, `encode_concepts`,
`encode_vocabulary`) or from an index (`node_space`, `document_space`). `Space.similarity`, `Space.nearest` and
`analogy` compare; `make_map` with `map_page` (HTML) or `write_map` (PNG), and `write_heatmap`, draw.
"""

from __future__ import annotations

import importlib
from typing import Any

# Imported on first use: `rag-plugin similarity --help` imports this package and must not load numpy.
_NAMES = {
    "analogies": ("analogy", "sum_of"),
    "contextual": ("TokenVectors", "token_vectors"),
    "expression": ("Expression", "Term", "parse_expression"),
    "index": ("document_space", "node_space"),
    "map": ("Group", "Hit", "Map", "MapQuery", "make_map"),
    "page": ("map_page",),
    "picture": ("write_heatmap", "write_map"),
    "pieces": ("GRANULARITIES", "Granularity", "encode_concepts", "encode_pieces", "vector_of"),
    "projection": ("METHODS", "Method", "Projection", "project"),
    "space": ("Neighbour", "Piece", "Space", "encode"),
    "spans": ("character_spans", "find_spans", "sentence_spans", "word_spans"),
    "vocabulary": ("encode_vocabulary", "read_concepts", "read_lines", "words_of"),
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)

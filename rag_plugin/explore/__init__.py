"""What an encoder makes of texts: similarity, arithmetic with vectors, and maps.

Everything here takes any LlamaIndex embedding, and numpy arrays. A `Space` is a list of texts with their vectors; it is
made from texts (`encode`, `encode_pieces`, `encode_concepts`, `encode_vocabulary`) or from an index (`node_space`,
`document_space`). It answers what is similar (`Space.similarity`, `Space.nearest`, `analogy`) and can be drawn
(`make_map`, then `map_page` for HTML or `write_map` for PNG; `write_heatmap`).
"""

from __future__ import annotations

import importlib
from typing import Any

# The public names and their modules, which are imported on first use: the commands here must not load numpy for --help.
_HOME = {
    "Expression": "expression",
    "GRANULARITIES": "pieces",
    "Granularity": "pieces",
    "Group": "map",
    "Hit": "map",
    "METHODS": "projection",
    "Map": "map",
    "MapQuery": "map",
    "Method": "projection",
    "Neighbour": "space",
    "Piece": "space",
    "Projection": "projection",
    "Space": "space",
    "Term": "expression",
    "TokenVectors": "contextual",
    "analogy": "analogies",
    "character_spans": "spans",
    "document_space": "index",
    "encode": "space",
    "encode_concepts": "pieces",
    "encode_pieces": "pieces",
    "encode_vocabulary": "vocabulary",
    "find_spans": "spans",
    "make_map": "map",
    "map_page": "page",
    "node_space": "index",
    "parse_expression": "expression",
    "project": "projection",
    "read_concepts": "vocabulary",
    "read_lines": "vocabulary",
    "sentence_spans": "spans",
    "sum_of": "analogies",
    "token_vectors": "contextual",
    "vector_of": "pieces",
    "word_spans": "spans",
    "words_of": "vocabulary",
    "write_heatmap": "picture",
    "write_map": "picture",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)

"""Documents in, nodes out. Importing a module of this package loads LlamaIndex."""

from .chunkers import (
    CodeChunker,
    HierarchicalChunker,
    MarkdownChunker,
    Packed,
    SemanticChunker,
    SentenceWindowChunker,
    SpanChunker,
    WholeDocument,
)
from .cutting import Cutter, LazyCutter, Unseen

__all__ = [
    "CodeChunker",
    "Cutter",
    "HierarchicalChunker",
    "LazyCutter",
    "MarkdownChunker",
    "Packed",
    "SemanticChunker",
    "SentenceWindowChunker",
    "SpanChunker",
    "Unseen",
    "WholeDocument",
]

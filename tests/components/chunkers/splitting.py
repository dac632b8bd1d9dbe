"""Builds chunkers and splits documents with them."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from llama_index.core.callbacks import CallbackManager
from llama_index.core.node_parser import NodeParser
from llama_index.core.schema import BaseNode, Document, MetadataMode

from rag_plugin.components.chunkers import components as chunkers
from rag_plugin.components.chunkers.document_splitter import DocumentSplitter
from rag_plugin.components.encoders.tokens import max_input_tokens, tokens_of
from tests.fakes import Hashes

SIZED = ("sentence", "token", "markdown", "code", "semantic")


def build(name: str, encoder: Any, **sizes: Any) -> NodeParser:
    if name == "none":
        return chunkers.none(CallbackManager([]))
    if name in ("hierarchical", "sentence_window"):
        sizes.pop("chunk_overlap", None)
    if name == "sentence_window":
        sizes.pop("chunk_size", None)
    if name == "hierarchical" and "chunk_size" in sizes:
        sizes.setdefault("parent_sizes", (8 * sizes["chunk_size"], 3 * sizes["chunk_size"]))
    made = getattr(chunkers, name)(encoder, CallbackManager([]), **sizes)
    if name == "semantic":  # how it cuts does not depend on how good the vectors are, and real ones take minutes
        made._encode = quick_vectors
    return made  # type: ignore[no-any-return]


def quick_vectors(given: Sequence[str]) -> Any:
    return np.array(
        [[zlib.crc32(text.encode()) >> shift & 255 for shift in (0, 8, 16, 24)] for text in given], np.float32
    )


def splitter(chunker: NodeParser, encoder: Any = None, **settings: Any) -> DocumentSplitter:
    encoder = encoder or Hashes()
    return DocumentSplitter(chunker, tokens_of(encoder), max_input_tokens(encoder), **settings)


def cut(chunker: NodeParser, whole: Document, encoder: Any = None, **settings: Any) -> list[BaseNode]:
    return splitter(chunker, encoder, **settings)(whole)


def counts(encoder: Any, nodes: Sequence[BaseNode]) -> list[int]:
    """How many tokens of each node the encoder is given."""
    given = [node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
    return [int(count) for count in tokens_of(encoder).counts(given)]


def document(text: str, **metadata: Any) -> Document:
    return Document(id_="d", text=text, metadata=metadata)


def texts(nodes: Sequence[BaseNode]) -> list[str]:
    return [node.get_content() for node in nodes]


def prose(words: int, seed: int = 0) -> str:
    """Sentences, paragraphs and headings of made-up words."""
    chance = random.Random(seed)
    out = []
    for number in range(words):
        word = "".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randrange(1, 12)))
        out.append(word + chance.choice([" "] * 8 + [", ", ". ", ".\n\n", f"\n\n## {number} "]))
    return "".join(out)

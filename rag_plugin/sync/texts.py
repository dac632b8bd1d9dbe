"""The texts that are encoded for nodes, and the keys under which their vectors are found again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llama_index.core.schema import BaseNode


def encoded_texts(nodes: Sequence[BaseNode]) -> dict[str, str]:
    """The text that is encoded for each node, by node id."""
    from llama_index.core.schema import MetadataMode

    return {node.node_id: node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes}


def text_key(text: str, role: str = "document") -> bytes:
    """The key of a text in an encoder's vector cache, 16 bytes; the role is part of it, since it selects the prompt."""
    return hashlib.blake2b(f"{role}\0{text}".encode("utf-8", "surrogatepass"), digest_size=16).digest()

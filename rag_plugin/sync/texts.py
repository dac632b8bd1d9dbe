"""The texts that are encoded for nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llama_index.core.schema import BaseNode


def encoded_texts(nodes: Sequence[BaseNode]) -> dict[str, str]:
    """The text that is encoded for each node, by node id."""
    from llama_index.core.schema import MetadataMode

    return {node.node_id: node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes}

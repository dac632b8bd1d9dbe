"""The reranker `window`: replaces each retrieved sentence by the text around it."""

from __future__ import annotations

from typing import Any

from llama_index.core.postprocessor import MetadataReplacementPostProcessor
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode


class Window(MetadataReplacementPostProcessor):
    """`MetadataReplacementPostProcessor` for the key `window`; a node's span and line become those of the window."""

    def __init__(self, **fields: Any) -> None:
        manager = fields.get("callback_manager")
        super().__init__(target_metadata_key="window")
        if manager is not None:
            self.callback_manager = manager

    @classmethod
    def class_name(cls) -> str:
        return "Window"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        for item in super()._postprocess_nodes(nodes, query_bundle):
            node, begin = item.node, item.node.metadata.get("window_start")
            if isinstance(node, TextNode) and begin is not None and node.start_char_idx is not None:
                before = node.text[: node.start_char_idx - begin]
                for key, separator in (("line", "\n"), ("page", "\f")):
                    if isinstance(node.metadata.get(key), int):
                        node.metadata[key] -= before.count(separator)
                node.start_char_idx, node.end_char_idx = begin, begin + len(node.text)
        return nodes

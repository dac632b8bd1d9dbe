"""The reranker `similarity_cutoff`."""

from __future__ import annotations

from typing import Literal

from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle


class SimilarityCutoff(BaseNodePostprocessor):
    """Drops nodes without a score, and nodes with a score below `cutoff`.

    With `on="vector"` the score is the `vector_score` that hybrid hits have in their metadata; hits of vector search
    have no other score.
    """

    cutoff: float
    on: Literal["score", "vector"] = "score"

    @classmethod
    def class_name(cls) -> str:
        return "SimilarityCutoff"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return [item for item in nodes if (score := self._score(item)) is not None and score >= self.cutoff]

    def _score(self, item: NodeWithScore) -> float | None:
        return item.node.metadata.get("vector_score", item.score) if self.on == "vector" else item.score

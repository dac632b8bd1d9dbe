"""Retrieval by small nodes, answers from larger ones: several nodes of one parent give way to the parent."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import BaseNode, NodeRelationship, NodeWithScore, QueryBundle, TextNode
from llama_index.core.vector_stores.types import BasePydanticVectorStore

from ...errors import ComponentError

_PARENT_IDS = uuid.UUID("5a3b7a1e-6f0c-4f57-9a51-3a2a9d1d7c11")

Span = tuple[int, int]


@dataclass
class _Found:
    """A node, or a parent made of nodes: its leaves by where they begin, and the spans of the parents above."""

    item: NodeWithScore
    span: Span
    leaves: dict[int, TextNode]
    parents: list[Span]

    @property
    def document(self) -> str:
        return str(self.item.node.ref_doc_id)


class AutoMerging(BaseNodePostprocessor):
    """Merges nodes of the chunker `hierarchical` into their parents where enough of a parent was found.

    As LlamaIndex's `AutoMergingRetriever`, for any retriever, and without a second store: a parent's text is put
    together from its nodes. A parent takes the place and the score of its best node.

    Attributes:
        threshold: The share of a parent's text that has to be found.
    """

    threshold: float = Field(default=0.5, gt=0, le=1)
    _store: BasePydanticVectorStore = PrivateAttr()

    def __init__(self, store: BasePydanticVectorStore, **fields: Any) -> None:
        super().__init__(**fields)
        self._store = store

    @classmethod
    def class_name(cls) -> str:
        return "AutoMerging"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        found = [_found(item) for item in nodes]
        for _ in range(max((len(one.parents) for one in found), default=0)):
            found = self._merged(found)
        return [one.item for one in found]

    def _merged(self, found: Sequence[_Found]) -> list[_Found]:
        """One level up."""
        families: dict[tuple[str, Span], list[_Found]] = {}
        for one in found:
            if one.parents:
                families.setdefault((one.document, one.parents[0]), []).append(one)
        merged: dict[tuple[str, Span], _Found] = {}
        for (document, parent), children in families.items():
            share = sum(end - start for start, end in {one.span for one in children}) / (parent[1] - parent[0])
            if share >= self.threshold:
                leaves = self._leaves(parent, {start: leaf for one in children for start, leaf in one.leaves.items()})
                if leaves is not None:
                    merged[document, parent] = _parent(parent, children, leaves)
        result: list[_Found] = []
        given: set[tuple[str, Span]] = set()
        for one in found:
            key = (one.document, one.parents[0]) if one.parents else None
            if key is None or key not in merged:
                one.parents = one.parents[1:]
                result.append(one)
            elif key not in given:
                given.add(key)
                result.append(merged[key])
        return result

    def _leaves(self, parent: Span, leaves: dict[int, TextNode]) -> dict[int, TextNode] | None:
        """All nodes of a parent, or None where the store has another version of the document by now."""
        known = {leaf.node_id for leaf in leaves.values()}
        frontier = list(leaves.values())
        while frontier:
            wanted = {name for leaf in frontier for name in _neighbours(leaf, parent) if name not in known}
            known |= wanted
            frontier = [node for node in self._nodes(sorted(wanted)) if isinstance(node, TextNode)]
            if len(frontier) < len(wanted):
                return None
            leaves.update({leaf.start_char_idx or 0: leaf for leaf in frontier})
        ordered = [leaves[start] for start in sorted(leaves)]
        whole = ordered[0].start_char_idx == parent[0] and ordered[-1].end_char_idx == parent[1]
        return leaves if whole else None

    def _nodes(self, ids: list[str]) -> list[BaseNode]:
        if not ids:
            return []
        try:
            return self._store.get_nodes(node_ids=ids)
        except NotImplementedError as error:
            raise ComponentError(
                f"reranker 'auto_merging': {type(self._store).__name__} cannot give nodes by their ids; name a store "
                "that can, such as faiss"
            ) from error


def _found(item: NodeWithScore) -> _Found:
    node = item.node
    start, end = getattr(node, "start_char_idx", None), getattr(node, "end_char_idx", None)
    if not isinstance(node, TextNode) or start is None or end is None:
        return _Found(item, (0, 0), {}, [])
    parents = [span.partition(":") for span in str(node.metadata.get("parents", "")).split()]
    return _Found(item, (start, end), {start: node}, [(int(first), int(last)) for first, _, last in parents])


def _neighbours(leaf: TextNode, parent: Span) -> Iterable[str]:
    inner = (
        (NodeRelationship.PREVIOUS, (leaf.start_char_idx or 0) > parent[0]),
        (NodeRelationship.NEXT, (leaf.end_char_idx or 0) < parent[1]),
    )
    for kind, wanted in inner:
        related = leaf.relationships.get(kind)
        if wanted and related is not None and not isinstance(related, list):
            yield related.node_id


def _parent(span: Span, children: Sequence[_Found], leaves: dict[int, TextNode]) -> _Found:
    text, place = "", span[0]
    for start in sorted(leaves):
        leaf = leaves[start]
        text += " " * (start - place) + leaf.text  # between the parts of a node that was split there may be white space
        place = start + len(leaf.text)
    best = max(children, key=lambda one: one.item.score or 0.0)
    first = leaves[min(leaves)]
    above = children[0].parents[1:]
    shown = " ".join(f"{start}:{end}" for start, end in above)
    metadata = {key: value for key, value in first.metadata.items() if key != "parents"}
    source = first.relationships.get(NodeRelationship.SOURCE)
    node = TextNode(
        id_=str(uuid.uuid5(_PARENT_IDS, f"{first.ref_doc_id}\0{span}\0{text}")),
        text=text,
        start_char_idx=span[0],
        end_char_idx=span[1],
        metadata={**metadata, **({"parents": shown} if shown else {})},
        excluded_embed_metadata_keys=first.excluded_embed_metadata_keys,
        excluded_llm_metadata_keys=first.excluded_llm_metadata_keys,
        relationships={} if source is None else {NodeRelationship.SOURCE: source},
    )
    return _Found(NodeWithScore(node=node, score=best.item.score), span, leaves, above)

"""The reranker `auto_merging`: replaces several retrieved nodes by their parent."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import BaseNode, NodeRelationship, NodeWithScore, QueryBundle, TextNode
from llama_index.core.vector_stores.types import BasePydanticVectorStore

from ...errors import ComponentError
from ..chunkers.packer import Span

_PARENT_IDS = uuid.UUID("5a3b7a1e-6f0c-4f57-9a51-3a2a9d1d7c11")


@dataclass
class _Passage:
    """A retrieved node, or a parent that replaces nodes.

    Attributes:
        leaves: The nodes of the passage by their start offset.
        parents: Spans of the parents above, the nearest first.
    """

    item: NodeWithScore
    span: Span
    leaves: dict[int, TextNode]
    parents: list[Span]

    @property
    def document_id(self) -> str:
        return str(self.item.node.ref_doc_id)


class AutoMerging(BaseNodePostprocessor):
    """Merges nodes of the chunker `hierarchical` into their parent if enough of the parent was retrieved.

    As LlamaIndex's `AutoMergingRetriever`, for any retriever and without a second store: a parent's text is assembled
    from its nodes. A parent takes the rank and the score of its best node.

    Attributes:
        threshold: The share of a parent's text that has to be retrieved.
    """

    threshold: float = Field(default=0.5, gt=0, le=1)
    _store: BasePydanticVectorStore = PrivateAttr()

    def __init__(self, store: BasePydanticVectorStore, **fields: Any) -> None:
        super().__init__(**fields)
        self._store = store

    @classmethod
    def class_name(cls) -> str:
        return "AutoMerging"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._store, self.threshold, self.callback_manager)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> AutoMerging:
        return _restore(copy.deepcopy(self._store, memo), self.threshold, self.callback_manager)

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """Not possible: a store is not JSON data."""
        raise TypeError("AutoMerging holds a store, so it has no JSON form: write the config")

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        passages = [_passage(item) for item in nodes]
        for _ in range(max((len(passage.parents) for passage in passages), default=0)):
            passages = self._merge_one_level(passages)
        return [passage.item for passage in passages]

    def _merge_one_level(self, passages: Sequence[_Passage]) -> list[_Passage]:
        siblings: dict[tuple[str, Span], list[_Passage]] = {}
        for passage in passages:
            if passage.parents:
                siblings.setdefault((passage.document_id, passage.parents[0]), []).append(passage)
        merged: dict[tuple[str, Span], _Passage] = {}
        for (document_id, parent), children in siblings.items():
            spans = {child.span for child in children}
            share = sum(end - start for start, end in spans) / (parent[1] - parent[0])
            if share >= self.threshold:
                retrieved = {start: leaf for child in children for start, leaf in child.leaves.items()}
                leaves = self._all_leaves(parent, retrieved)
                if leaves is not None:
                    merged[document_id, parent] = _parent(parent, children, leaves)
        result: list[_Passage] = []
        done: set[tuple[str, Span]] = set()
        for passage in passages:
            key = (passage.document_id, passage.parents[0]) if passage.parents else None
            if key is None or key not in merged:
                passage.parents = passage.parents[1:]
                result.append(passage)
            elif key not in done:
                done.add(key)
                result.append(merged[key])
        return result

    def _all_leaves(self, parent: Span, leaves: dict[int, TextNode]) -> dict[int, TextNode] | None:
        """All nodes of a parent; None if the store now has another version of the document."""
        ids = {leaf.node_id for leaf in leaves.values()}
        frontier = list(leaves.values())
        while frontier:
            missing = {name for leaf in frontier for name in _neighbours(leaf, parent) if name not in ids}
            ids |= missing
            frontier = [node for node in self._nodes(sorted(missing)) if isinstance(node, TextNode)]
            if len(frontier) < len(missing):
                return None
            leaves.update({leaf.start_char_idx or 0: leaf for leaf in frontier})
        ordered = [leaves[start] for start in sorted(leaves)]
        is_complete = ordered[0].start_char_idx == parent[0] and ordered[-1].end_char_idx == parent[1]
        return leaves if is_complete else None

    def _nodes(self, ids: list[str]) -> list[BaseNode]:
        if not ids:
            return []
        try:
            return self._store.get_nodes(node_ids=ids)
        except NotImplementedError as error:
            raise ComponentError(
                f"reranker 'auto_merging': {type(self._store).__name__} cannot return nodes by their ids; use a store "
                "that can, such as faiss"
            ) from error


def _passage(item: NodeWithScore) -> _Passage:
    node = item.node
    start, end = getattr(node, "start_char_idx", None), getattr(node, "end_char_idx", None)
    if not isinstance(node, TextNode) or start is None or end is None:
        return _Passage(item, (0, 0), {}, [])
    parents = [span.partition(":") for span in str(node.metadata.get("parents", "")).split()]
    return _Passage(item, (start, end), {start: node}, [(int(first), int(last)) for first, _, last in parents])


def _neighbours(leaf: TextNode, parent: Span) -> Iterable[str]:
    """Ids of the adjacent nodes inside the parent."""
    sides = (
        (NodeRelationship.PREVIOUS, (leaf.start_char_idx or 0) > parent[0]),
        (NodeRelationship.NEXT, (leaf.end_char_idx or 0) < parent[1]),
    )
    for kind, is_inside in sides:
        related = leaf.relationships.get(kind)
        if is_inside and related is not None and not isinstance(related, list):
            yield related.node_id


def _parent(span: Span, children: Sequence[_Passage], leaves: dict[int, TextNode]) -> _Passage:
    text, offset = "", span[0]
    for start in sorted(leaves):
        leaf = leaves[start]
        text += " " * (start - offset) + leaf.text  # white space between the parts of a split node is not in a node
        offset = start + len(leaf.text)
    best = max(children, key=lambda child: child.item.score or 0.0)
    first = leaves[min(leaves)]
    parents = children[0].parents[1:]
    metadata = {key: value for key, value in first.metadata.items() if key != "parents"}
    if parents:
        metadata["parents"] = " ".join(f"{start}:{end}" for start, end in parents)
    source = first.relationships.get(NodeRelationship.SOURCE)
    node = TextNode(
        id_=str(uuid.uuid5(_PARENT_IDS, f"{first.ref_doc_id}\0{span}\0{text}")),
        text=text,
        start_char_idx=span[0],
        end_char_idx=span[1],
        metadata=metadata,
        excluded_embed_metadata_keys=first.excluded_embed_metadata_keys,
        excluded_llm_metadata_keys=first.excluded_llm_metadata_keys,
        relationships={} if source is None else {NodeRelationship.SOURCE: source},
    )
    return _Passage(NodeWithScore(node=node, score=best.item.score), span, leaves, parents)


def _restore(store: BasePydanticVectorStore, threshold: float, callback_manager: Any) -> AutoMerging:
    return AutoMerging(store, threshold=threshold, callback_manager=callback_manager)

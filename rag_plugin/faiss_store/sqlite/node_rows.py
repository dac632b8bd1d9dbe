"""LlamaIndex nodes to rows of the database and back."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np
from llama_index.core.schema import BaseNode, MetadataMode, RelatedNodeInfo, TextNode
from llama_index.core.storage.docstore.utils import doc_to_json, json_to_doc
from pydantic import AnyUrl

from ...errors import StoreError
from ..vectors.vector_index import checked, is_measurable
from .database import NodeRow, is_utf8


def _address(value: Any) -> str:
    if isinstance(value, AnyUrl):  # of an image; LlamaIndex reads it back from text
        return str(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


_strict_dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_address).encode
_PLAIN = ("mimetype", "start_char_idx", "end_char_idx", "text_template", "metadata_template", "metadata_separator")
_DEFAULTS = {name: TextNode.model_fields[name].default for name in _PLAIN}
_LISTS = ("excluded_embed_metadata_keys", "excluded_llm_metadata_keys")


def to_rows(nodes: Sequence[BaseNode], keys: Mapping[str, bytes] | None = None) -> list[NodeRow]:
    """Nodes with their vectors as rows, all vectors of one length; of nodes with one id the last.

    Args:
        nodes: With their vectors.
        keys: By node id, what names the text that was encoded.

    Raises:
        StoreError: A vector or metadata cannot be kept; the message names the node.
    """
    nodes = list({node.node_id: node for node in nodes}.values())
    vectors = _vectors(nodes)
    keys = keys or {}
    rows = [_to_row(node, vector, keys.get(node.node_id)) for node, vector in zip(nodes, vectors)]
    if not is_utf8("".join(map(_all_text, rows))):
        broken = next(row for row in rows if not is_utf8(_all_text(row)))
        raise StoreError(f"node {broken.id!r} holds half a surrogate pair, which no encoding can keep")
    return rows


def _all_text(row: NodeRow) -> str:
    return "".join((row.id, row.document or "", row.text, row.metadata, row.rest))


def _vectors(nodes: Sequence[BaseNode]) -> list[bytes]:
    try:
        found = [struct.pack(f"{len(node.embedding)}f", *node.embedding) for node in nodes]  # type: ignore[arg-type, misc]
        if not found:
            return found
        if len({len(vector) for vector in found}) == 1:
            numbers = np.frombuffer(b"".join(found), dtype=np.float32)
            if is_measurable(numbers.reshape(len(found), -1)):
                return found
    except (TypeError, ValueError, OverflowError, struct.error):
        pass
    # One of them is not as it should be: which?
    dimension = None
    found = []
    for node in nodes:
        vector = checked(node.embedding, dimension, f"node {node.node_id!r}")
        dimension = vector.size
        found.append(vector.tobytes())
    return found


def _to_row(node: BaseNode, vector: bytes, key: bytes | None) -> NodeRow:
    what = f"node {node.node_id!r}"
    if type(node) is TextNode:
        text, metadata, record = node.text, node.metadata, _text_node(node)
    else:
        record = doc_to_json(node)
        data = record["__data__"]
        metadata = data.pop("metadata", {})
        data.pop("embedding", None)
        text = node.get_content(metadata_mode=MetadataMode.NONE)
        if data.get("text") == text:
            del data["text"]
    try:
        rest = _dumps(record)
    except (TypeError, ValueError) as error:
        raise StoreError(f"{what} cannot be kept as JSON: {error}") from error
    return NodeRow(node.node_id, node.ref_doc_id, text, _json(metadata, what), rest, vector, key)


def _text_node(node: TextNode) -> dict[str, Any]:
    """As `doc_to_json`, in a third of its time, for the class that nearly all nodes are of; without defaults."""
    data: dict[str, Any] = {"id_": node.id_, "class_name": "TextNode"}
    for name in _PLAIN:
        value = getattr(node, name)
        if value != _DEFAULTS[name]:
            data[name] = value
    for name in _LISTS:
        if value := getattr(node, name):
            data[name] = value
    if node.relationships:
        data["relationships"] = {
            kind.value: [_related(one) for one in other] if isinstance(other, list) else _related(other)
            for kind, other in node.relationships.items()
        }
    return {"__data__": data, "__type__": TextNode.get_type()}


def _related(other: RelatedNodeInfo) -> dict[str, Any]:
    kind = other.node_type.value if isinstance(other.node_type, Enum) else other.node_type
    return {"node_id": other.node_id, "node_type": kind, "metadata": other.metadata, "hash": other.hash}


def from_row(row: tuple[Any, ...]) -> BaseNode:
    """The node of a (row, id, text, metadata, rest); its vector stays in the database."""
    record = json.loads(row[4])
    data = record["__data__"]
    data["metadata"] = json.loads(row[3])
    data.setdefault("text", row[2])
    return json_to_doc(record)


def _json(metadata: dict[str, Any], what: str) -> str:
    try:
        return _strict_dumps(metadata)
    except (TypeError, ValueError) as error:
        for key, item in metadata.items():
            try:
                json.dumps(item, allow_nan=False)
            except (TypeError, ValueError):
                raise StoreError(f"{what} has metadata {key!r} that JSON cannot hold: {error}") from error
        raise StoreError(f"{what} has metadata that JSON cannot hold: {error}") from error

"""Converts LlamaIndex nodes to rows of the database and back."""

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

from ...errors import StoreError, has_lone_surrogate
from ..vectors.similarity import is_measurable, validated
from .database import NodeRow, StoredNode


def _url_to_text(value: Any) -> str:
    if isinstance(value, AnyUrl):  # of an image; LlamaIndex reads it back from text
        return str(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


_strict_dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_url_to_text).encode
_PLAIN_FIELDS = (
    "mimetype", "start_char_idx", "end_char_idx", "text_template", "metadata_template", "metadata_separator"
)  # fmt: skip
_DEFAULTS = {name: TextNode.model_fields[name].default for name in _PLAIN_FIELDS}
_LIST_FIELDS = ("excluded_embed_metadata_keys", "excluded_llm_metadata_keys")


def to_rows(nodes: Sequence[BaseNode], keys: Mapping[str, bytes] | None = None) -> list[NodeRow]:
    """Nodes with vectors of one dimension as rows; of several nodes with one id, the last.

    Args:
        nodes: With their vectors.
        keys: Keys of the encoded texts by node id.

    Raises:
        StoreError: A vector, text or metadata cannot be stored; the message names the node.
    """
    nodes = list({node.node_id: node for node in nodes}.values())
    keys = keys or {}
    rows = [_to_row(node, vector, keys.get(node.node_id)) for node, vector in zip(nodes, _vectors(nodes))]
    if has_lone_surrogate("".join(map(_all_text, rows))):
        invalid = next(row for row in rows if has_lone_surrogate(_all_text(row)))
        raise StoreError(f"node {invalid.id!r} contains a lone surrogate, which UTF-8 cannot encode")
    return rows


def _all_text(row: NodeRow) -> str:
    return "".join((row.id, row.document or "", row.text, row.metadata, row.rest))


def _vectors(nodes: Sequence[BaseNode]) -> list[bytes]:
    """The vectors of all nodes as float32 bytes."""
    try:
        vectors = [struct.pack(f"{len(node.embedding)}f", *node.embedding) for node in nodes]  # type: ignore[arg-type, misc]
        matrix = np.frombuffer(b"".join(vectors), dtype=np.float32)
        if len({len(vector) for vector in vectors}) == 1 and is_measurable(matrix.reshape(len(vectors), -1)):
            return vectors
    except (TypeError, ValueError, OverflowError, struct.error):
        pass
    # A vector is invalid, or there are none: one by one, for the error message.
    dimension = None
    vectors = []
    for node in nodes:
        vector = validated(node.embedding, dimension, f"node {node.node_id!r}")
        dimension = vector.size
        vectors.append(vector.tobytes())
    return vectors


def _to_row(node: BaseNode, vector: bytes, key: bytes | None) -> NodeRow:
    owner = f"node {node.node_id!r}"
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
        raise StoreError(f"{owner} cannot be stored as JSON: {error}") from error
    return NodeRow(node.node_id, node.ref_doc_id, text, _metadata_json(metadata, owner), rest, vector, key)


def _text_node(node: TextNode) -> dict[str, Any]:
    """As `doc_to_json`, twice as fast, for the class of nearly all nodes; without default values."""
    data: dict[str, Any] = {"id_": node.id_, "class_name": "TextNode"}
    for name in _PLAIN_FIELDS:
        value = getattr(node, name)
        if value != _DEFAULTS[name]:
            data[name] = value
    for name in _LIST_FIELDS:
        if value := getattr(node, name):
            data[name] = value
    if node.relationships:
        data["relationships"] = {
            relationship.value: [_related(item) for item in info] if isinstance(info, list) else _related(info)
            for relationship, info in node.relationships.items()
        }
    return {"__data__": data, "__type__": TextNode.get_type()}


def _related(info: RelatedNodeInfo) -> dict[str, Any]:
    node_type = info.node_type.value if isinstance(info.node_type, Enum) else info.node_type
    return {"node_id": info.node_id, "node_type": node_type, "metadata": info.metadata, "hash": info.hash}


def from_row(row: StoredNode) -> BaseNode:
    """The node of a row, without its vector."""
    _, _, text, metadata, rest = row
    record = json.loads(rest)
    data = record["__data__"]
    data["metadata"] = json.loads(metadata)
    data.setdefault("text", text)
    return json_to_doc(record)


def add_hidden_metadata(node: BaseNode, **values: Any) -> None:
    """Add metadata that is excluded from encoding and prompts; values of None are left out."""
    added = {key: value for key, value in values.items() if value is not None}
    node.metadata.update(added)
    for keys in (node.excluded_embed_metadata_keys, node.excluded_llm_metadata_keys):
        keys.extend(key for key in added if key not in keys)


def _metadata_json(metadata: dict[str, Any], owner: str) -> str:
    try:
        return _strict_dumps(metadata)
    except (TypeError, ValueError) as error:
        for key, value in metadata.items():
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError):
                raise StoreError(f"{owner} has metadata {key!r} that JSON cannot represent: {error}") from error
        raise StoreError(f"{owner} has metadata that JSON cannot represent: {error}") from error

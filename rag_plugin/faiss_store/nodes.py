"""LlamaIndex nodes to rows of the database and back."""

from __future__ import annotations

import json
from typing import Any

from llama_index.core.schema import BaseNode, MetadataMode
from llama_index.core.storage.docstore.utils import doc_to_json, json_to_doc
from pydantic import AnyUrl

from ..errors import StoreError
from .database import NodeRow
from .vectors import checked


def to_row(node: BaseNode, dimension: int | None) -> NodeRow:
    """A node with its vector as a row.

    Raises:
        StoreError: Its vector or its metadata cannot be kept; the message names the node.
    """
    what = f"node {node.node_id!r}"
    vector = checked(node.embedding, dimension, what)
    record = doc_to_json(node)
    data = record["__data__"]
    metadata = data.pop("metadata", {})
    data.pop("embedding", None)
    text = node.get_content(metadata_mode=MetadataMode.NONE)
    if data.get("text") == text:
        del data["text"]
    try:
        rest = json.dumps(record, ensure_ascii=False, allow_nan=False, default=_address)
    except (TypeError, ValueError) as error:
        raise StoreError(f"{what} cannot be kept as JSON: {error}") from error
    row = NodeRow(
        id=node.node_id,
        document=node.ref_doc_id,
        text=text,
        metadata=_json(metadata, what),
        rest=rest,
        vector=vector.tobytes(),
    )
    try:
        "".join((row.id, row.document or "", row.text, row.metadata, row.rest)).encode()
    except UnicodeEncodeError as error:
        raise StoreError(f"{what} holds half a surrogate pair, which no encoding can keep") from error
    return row


def from_row(row: tuple[Any, ...]) -> BaseNode:
    """The node of a (row, id, text, metadata, rest); its vector stays in the database."""
    record = json.loads(row[4])
    data = record["__data__"]
    data["metadata"] = json.loads(row[3])
    data.setdefault("text", row[2])
    return json_to_doc(record)


def _address(value: Any) -> str:
    if isinstance(value, AnyUrl):  # of an image; LlamaIndex reads it back from text
        return str(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _json(metadata: dict[str, Any], what: str) -> str:
    try:
        return json.dumps(metadata, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        for key, item in metadata.items():
            try:
                json.dumps(item, allow_nan=False)
            except (TypeError, ValueError):
                raise StoreError(f"{what} has metadata {key!r} that JSON cannot hold: {error}") from error
        raise StoreError(f"{what} has metadata that JSON cannot hold: {error}") from error

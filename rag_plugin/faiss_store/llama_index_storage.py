"""Reads and writes the folders that LlamaIndex persists with its own FAISS stores."""

from __future__ import annotations

import ast
import json
import logging
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
from llama_index.core import StorageContext
from llama_index.core.data_structs import IndexDict
from llama_index.core.schema import BaseNode, MetadataMode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.storage.index_store import SimpleIndexStore
from numpy.typing import NDArray

from ..errors import StoreError
from .settings import Metric
from .vectors.similarity import prepared

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding

_log = logging.getLogger(__package__)

_SAMPLE_NODES = 8
_MIN_COSINE = 0.99  # the stored vectors may be of another library, precision or metadata format

_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, SyntaxError)
_SAME_PERSIST = "docstore.json, index_store.json and the FAISS file have to be of the same persist()"


def check_empty(path: Path, hint: str) -> None:
    """Raise a `StoreError` if there is a file at `path`, or a folder that is not empty."""
    if path.exists() and not path.is_dir():
        raise StoreError(f"{path} is a file; name a folder")
    if path.exists() and any(path.iterdir()):
        raise StoreError(f"{path} is not empty; {hint}")


def read_storage(storage: Path) -> tuple[list[BaseNode], Metric]:
    """The nodes with their vectors, and the metric of the FAISS index.

    Raises:
        StoreError: A file is missing or damaged, or the files do not belong together.
    """
    index, nodes = _read(storage)
    vectors = _vectors(storage, index)
    ids = _ids_by_position(storage, index)
    missing = sorted({id_ for id_ in ids.values() if id_ not in nodes})
    if missing:
        raise StoreError(
            f"{storage}: the docstore lacks {len(missing)} nodes that have vectors, such as {missing[0]!r}; "
            f"{_SAME_PERSIST}"
        )
    complete = {
        id_: nodes[id_].model_copy(update={"embedding": vectors[position].tolist()}) for position, id_ in ids.items()
    }
    if len(nodes) > len(complete):
        missing_count = len(nodes) - len(complete)
        _log.warning("%s: %d nodes of the docstore have no vector and are skipped", storage, missing_count)
    if len(vectors) > len(ids):
        _log.warning("%s: %d vectors belong to no node and are skipped", storage, len(vectors) - len(ids))
    return list(complete.values()), _metric(index, vectors)


def check_encoder(storage: Path, nodes: Sequence[BaseNode], encoder: BaseEmbedding) -> None:
    """Check by a sample of the nodes that an encoder made the vectors.

    Raises:
        StoreError: Another encoder did.
    """
    from ..components.encoders.matrix import encode_documents, unit_rows

    sample = nodes[:: max(1, len(nodes) // _SAMPLE_NODES)][:_SAMPLE_NODES]
    if not sample:
        return
    stored = np.asarray([node.get_embedding() for node in sample], dtype=np.float32)
    encoded = encode_documents(encoder, [node.get_content(MetadataMode.EMBED) for node in sample])
    if stored.shape != encoded.shape:
        raise StoreError(
            f"{storage} has vectors of {stored.shape[1]} numbers, and this encoder makes {encoded.shape[1]}: "
            "pass the encoder that made them"
        )
    cosine = float(np.median(np.einsum("ij,ij->i", unit_rows(stored), unit_rows(encoded))))
    if cosine < _MIN_COSINE:
        raise StoreError(
            f"the vectors of {storage} are not of this encoder: the same texts give a cosine of {cosine:.2f}; pass the "
            "encoder that made them"
        )


def write_storage(storage: Path, nodes: Sequence[BaseNode], vectors: NDArray[np.float32], metric: Metric) -> None:
    """Write docstore, index store and a FAISS file, as `StorageContext.persist` does; all of them or nothing.

    Args:
        storage: A new folder.
        nodes: The nodes.
        vectors: Their vectors, shape (len(nodes), dimension).
        metric: `cosine` is written as inner product of unit vectors.
    """
    # Not at the top: no other part of the store needs this module.
    from llama_index.vector_stores.faiss import FaissVectorStore

    docstore, index_store, struct = SimpleDocumentStore(), SimpleIndexStore(), IndexDict()
    for position, node in enumerate(nodes):
        struct.add_node(node, text_id=str(position))
    docstore.add_documents(nodes)
    dimension = vectors.shape[1]
    index: Any = faiss.IndexFlatL2(dimension) if metric == "l2" else faiss.IndexFlatIP(dimension)
    index.add(prepared(vectors, metric))
    index_store.add_index_struct(struct)
    context = StorageContext.from_defaults(
        docstore=docstore, index_store=index_store, vector_store=FaissVectorStore(faiss_index=index)
    )
    storage.parent.mkdir(parents=True, exist_ok=True)
    # Written beside and renamed: the folder is complete as soon as it exists.
    temporary = storage.with_name(f".{storage.name}.{secrets.token_hex(4)}")
    try:
        temporary.mkdir()
        context.persist(persist_dir=str(temporary))
        if storage.exists():
            storage.rmdir()
        os.replace(temporary, storage)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _read(storage: Path) -> tuple[Any, dict[str, BaseNode]]:
    """The FAISS index, and the nodes by id."""
    for name in ("docstore.json", "index_store.json"):
        if not (storage / name).is_file():
            raise StoreError(f"{storage} is not a folder that LlamaIndex persisted: it has no {name}")
    files = [storage / "default__vector_store.json", *sorted(storage.glob("*__vector_store.json"))]
    # LlamaIndex uses this name for JSON and for FAISS's binary format.
    binary = [file for file in files if file.is_file() and file.read_bytes()[:1] != b"{"]
    if not binary:
        raise StoreError(f"{storage} has no FAISS index (default__vector_store.json in FAISS's format)")
    try:
        index = faiss.read_index(str(binary[0]))
    except RuntimeError as error:
        raise StoreError(f"{binary[0]} is not a FAISS index: {str(error).splitlines()[-1]}") from error
    try:
        return index, dict(SimpleDocumentStore.from_persist_dir(str(storage)).docs)
    except _UNREADABLE as error:
        raise StoreError(f"{storage / 'docstore.json'} cannot be read: {error!r}") from error


def _vectors(storage: Path, index: Any) -> NDArray[np.float32]:
    """All vectors by position, shape (ntotal, dimension)."""
    inner = faiss.downcast_index(index)
    if isinstance(inner, (faiss.IndexIDMap, faiss.IndexIDMap2)):
        inner = faiss.downcast_index(inner.index)
    name = type(inner).__name__
    inverted = faiss.try_extract_index_ivf(inner)
    try:
        if inverted is not None:
            inverted.make_direct_map()
        vectors: NDArray[np.float32] = inner.reconstruct_n(0, int(inner.ntotal))
    except RuntimeError as error:
        raise StoreError(
            f"{storage}: {name} cannot return its vectors, so the documents have to be encoded again "
            f"({str(error).splitlines()[-1]})"
        ) from error
    if not isinstance(inner, (faiss.IndexFlat, faiss.IndexHNSWFlat, faiss.IndexIVFFlat)):
        _log.warning("%s: %s stores quantized vectors; the exact vectors cannot be imported", storage, name)
    return vectors


def _ids_by_position(storage: Path, index: Any) -> dict[int, str]:
    """The node ids by the position of their vectors."""
    if (storage / "id_map.json").is_file():
        return _ids_of_map(storage, index)
    try:
        structs = SimpleIndexStore.from_persist_dir(str(storage)).index_structs()
    except _UNREADABLE as error:
        raise StoreError(f"{storage / 'index_store.json'} cannot be read: {error!r}") from error
    dicts = [struct for struct in structs if isinstance(struct, IndexDict)]
    if len(dicts) != 1:
        raise StoreError(f"{storage / 'index_store.json'} has {len(dicts)} vector indexes; exactly one is expected")
    ids = {int(position): id_ for position, id_ in dicts[0].nodes_dict.items() if position.isdigit()}
    count = int(index.ntotal)
    if any(position >= count for position in ids):
        raise StoreError(
            f"{storage}: the index store has {len(ids)} vectors and the FAISS file has {count}; {_SAME_PERSIST}"
        )
    return ids


def _ids_of_map(storage: Path, index: Any) -> dict[int, str]:
    """The node ids of a `FaissMapVectorStore`, which may assign one number to several nodes."""
    text = (storage / "id_map.json").read_text(encoding="utf-8")
    try:
        try:
            record = json.loads(text)
        except ValueError:
            record = ast.literal_eval(text)  # the format of older versions
        ids = {int(number): str(id_) for number, id_ in record["faiss_id_to_node_id_map"].items()}
        numbers = {str(id_): int(number) for id_, number in record["node_id_to_faiss_id_map"].items()}
    except _UNREADABLE as error:
        raise StoreError(f"{storage / 'id_map.json'} cannot be read: {error!r}") from error
    # Of several vectors with one number, the map has the id of the last one; the others cannot be identified.
    positions = {number: position for position, number in enumerate(faiss.vector_to_array(index.id_map).tolist())}
    return {
        position: ids[number]
        for number, position in positions.items()
        if number in ids and numbers.get(ids[number]) == number
    }


def _metric(index: Any, vectors: NDArray[np.float32]) -> Metric:
    if index.metric_type == faiss.METRIC_L2:
        return "l2"
    norms = np.linalg.norm(vectors, axis=1)
    return "cosine" if np.allclose(norms, 1.0, atol=1e-3) else "inner_product"

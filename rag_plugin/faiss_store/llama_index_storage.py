"""From and to the folders that LlamaIndex's own FAISS stores persist; nothing is encoded on the way."""

from __future__ import annotations

import ast
import json
import logging
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
from llama_index.core import StorageContext
from llama_index.core.data_structs import IndexDict
from llama_index.core.schema import BaseNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.storage.index_store import SimpleIndexStore

from ..errors import StoreError
from .sqlite.node_rows import from_row, to_rows
from .vectors.vector_index import prepared

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .store import FaissStore

_log = logging.getLogger(__package__)

_AT_ONCE = 2_000


def from_storage(make: type[FaissStore], storage: Path, path: Path, settings: Mapping[str, Any]) -> FaissStore:
    """A store at `path` with the nodes and vectors of a folder that LlamaIndex persisted."""
    _refuse_occupied(path, "a folder of LlamaIndex is taken over into a new index")
    index, nodes = _read(storage)
    vectors = _vectors(storage, index)
    named = _named(storage, index, nodes)
    missing = sorted({name for name in named.values() if name not in nodes})
    if missing:
        raise StoreError(
            f"{storage}: the docstore has no node {missing[0]!r}, nor {len(missing) - 1} more that have vectors; "
            "docstore.json, index_store.json and the FAISS file have to be of one and the same persist()"
        )
    store = make(path, **{"metric": _metric(index, vectors), **settings})
    places = list(named.items())
    rows = []
    for place, name in places:
        rows += to_rows([nodes[name].model_copy(update={"embedding": vectors[place].tolist()})])
    rows = list({row.id: row for row in rows}.values())
    directory = store._directory
    with directory.transaction() as database:
        generation = directory.live_or_new(database)
        for start in range(0, len(rows), _AT_ONCE):
            directory.put(database, generation, rows[start : start + _AT_ONCE])
    without = len(nodes) - len(rows)
    if without:
        _log.warning("%s: %d nodes of the docstore have no vector there, and are left out", storage, without)
    unnamed = len(vectors) - len(named)
    if unnamed:
        _log.warning("%s: %d vectors belong to no node of the index store, and are left out", storage, unnamed)
    return store


def _refuse_occupied(path: Path, why: str) -> None:
    if path.exists() and not path.is_dir():
        raise StoreError(f"{path} is a file; name a folder")
    if path.exists() and any(path.iterdir()):
        raise StoreError(f"{path} is not empty; {why}")


def to_storage(store: FaissStore, storage: Path) -> None:
    """Write docstore, index store and a FAISS file, as `StorageContext.persist` does."""
    # The class is imported here: its module is needed by nothing else.
    from llama_index.vector_stores.faiss import FaissVectorStore

    _refuse_occupied(storage, "name a new folder")
    docstore, index_store, struct = SimpleDocumentStore(), SimpleIndexStore(), IndexDict()
    metric = store.metric
    index: Any = None
    with store._directory.reading() as (database, live):
        dimension = None if live is None else database.dimension(live)
        if dimension is None:
            raise StoreError(f"{store.path} has no vectors yet; there is nothing to write")
        index = faiss.IndexFlatL2(dimension) if metric == "l2" else faiss.IndexFlatIP(dimension)
        for rows, vectors in database.vectors_after(live, 0):
            found = database.nodes_by_row(rows)
            nodes = [from_row(found[row]) for row in rows]
            for place, node in enumerate(nodes, int(index.ntotal)):
                struct.add_node(node, text_id=str(place))
            docstore.add_documents(nodes)
            index.add(prepared(vectors, metric))
    index_store.add_index_struct(struct)
    context = StorageContext.from_defaults(
        docstore=docstore, index_store=index_store, vector_store=FaissVectorStore(faiss_index=index)
    )
    storage.parent.mkdir(parents=True, exist_ok=True)
    # Beside and renamed in: a folder that is there is whole.
    beside = storage.with_name(f".{storage.name}.{secrets.token_hex(4)}")
    try:
        beside.mkdir()
        context.persist(persist_dir=str(beside))
        if storage.exists():
            storage.rmdir()
        os.replace(beside, storage)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _read(storage: Path) -> tuple[Any, dict[str, BaseNode]]:
    """The FAISS index and the nodes by id."""
    for name in ("docstore.json", "index_store.json"):
        if not (storage / name).is_file():
            raise StoreError(f"{storage} is no folder that LlamaIndex persisted: it has no {name}")
    files = [storage / "default__vector_store.json", *sorted(storage.glob("*__vector_store.json"))]
    for file in files:
        # LlamaIndex writes its own vector stores as JSON, and FAISS's binary file under the same name.
        if file.is_file() and file.read_bytes()[:1] != b"{":
            try:
                index = faiss.read_index(str(file))
                break
            except RuntimeError as error:
                raise StoreError(f"{file} is no FAISS index: {str(error).splitlines()[-1]}") from error
    else:
        raise StoreError(f"{storage} has no FAISS index (default__vector_store.json in FAISS's own format)")
    try:
        docstore = SimpleDocumentStore.from_persist_dir(str(storage))
        return index, dict(docstore.docs)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{storage / 'docstore.json'} cannot be read: {error!r}") from error


def _vectors(storage: Path, index: Any) -> NDArray[np.float32]:
    """All vectors by place, shape (ntotal, dimension)."""
    inner = faiss.downcast_index(index)
    if isinstance(inner, (faiss.IndexIDMap, faiss.IndexIDMap2)):
        inner = faiss.downcast_index(inner.index)
    inverted = faiss.try_extract_index_ivf(inner)
    try:
        if inverted is not None:
            inverted.make_direct_map()
        vectors: NDArray[np.float32] = inner.reconstruct_n(0, int(inner.ntotal))
    except RuntimeError as error:
        raise StoreError(
            f"{storage}: a {type(inner).__name__} does not give its vectors back, so the documents have to be "
            f"encoded again ({str(error).splitlines()[-1]})"
        ) from error
    if not isinstance(inner, (faiss.IndexFlat, faiss.IndexHNSWFlat, faiss.IndexIVFFlat)):
        _log.warning("%s: a %s keeps shortened vectors; they are taken over as they are", storage, type(inner).__name__)
    return vectors


def _named(storage: Path, index: Any, nodes: Mapping[str, BaseNode]) -> dict[int, str]:
    """The node's id by the place of its vector."""
    if (storage / "id_map.json").is_file():
        return _named_by_map(storage, index)
    try:
        structs = SimpleIndexStore.from_persist_dir(str(storage)).index_structs()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{storage / 'index_store.json'} cannot be read: {error!r}") from error
    found = [struct for struct in structs if isinstance(struct, IndexDict)]
    if len(found) != 1:
        raise StoreError(f"{storage / 'index_store.json'} has {len(found)} vector indexes; exactly one is expected")
    places = {int(place): name for place, name in found[0].nodes_dict.items() if place.isdigit()}
    count = int(index.ntotal)
    if any(place >= count for place in places):
        raise StoreError(
            f"{storage}: the index store knows {len(places)} vectors and the FAISS file has {count}; "
            "they have to be of one and the same persist()"
        )
    return places


def _named_by_map(storage: Path, index: Any) -> dict[int, str]:
    """For a `FaissMapVectorStore`, which may have given one number to several nodes."""
    text = (storage / "id_map.json").read_text(encoding="utf-8")
    try:
        try:
            record = json.loads(text)
        except ValueError:
            record = ast.literal_eval(text)  # as older versions wrote it
        last = {int(number): str(name) for number, name in record["faiss_id_to_node_id_map"].items()}
        numbers = {str(name): int(number) for name, number in record["node_id_to_faiss_id_map"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, SyntaxError) as error:
        raise StoreError(f"{storage / 'id_map.json'} cannot be read: {error!r}") from error
    # Of several vectors under one number the map knows who came last; whose the others are nobody can tell.
    places = {number: place for place, number in enumerate(faiss.vector_to_array(index.id_map).tolist())}
    return {
        place: last[number]
        for number, place in places.items()
        if number in last and numbers.get(last[number]) == number
    }


def _metric(index: Any, vectors: NDArray[np.float32]) -> str:
    if index.metric_type == faiss.METRIC_L2:
        return "l2"
    norms = np.linalg.norm(vectors, axis=1)
    return "cosine" if np.allclose(norms, 1.0, atol=1e-3) else "inner_product"

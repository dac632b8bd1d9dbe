"""The systems that the store benchmark compares, behind one interface."""

from __future__ import annotations

import importlib
import itertools
import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from store_corpus import Hits, Query, metadata, recall


@dataclass(frozen=True)
class Job:
    """What one process does: a workload with a system."""

    workload: int  # number in WORKLOADS
    system: str
    root: str
    nodes: int
    dimension: int
    index: str = "Flat"
    precision: str = "float32"
    lexical: bool = True
    rounds: int = 1
    process: int = 0  # number among the processes of the same workload
    labels: Sequence[str] = ()  # of the workload's measures


class System:
    """A store under test. A method that it does not support raises, and the table shows the error."""

    modules: tuple[str, ...] = ()
    no_lexical = ""  # why it has no lexical index
    long_document, single_inserts = 8000, 4000  # fewer where the time is quadratic

    def __init__(self, job: Job) -> None:
        self.job = job
        self.use(self.base(job.lexical), job.lexical)
        for module in self.modules:
            importlib.import_module(module)

    def base(self, lexical: bool) -> Path:
        """The folder of the index that `build` leaves for the other workloads."""
        kind = "lexical" if lexical and not self.no_lexical else "plain"
        return Path(self.job.root, self.job.system, f"{kind}-{self.job.index}")

    def use(self, folder: Path, lexical: bool) -> None:
        self.folder, self.lexical = folder, lexical and not self.no_lexical

    def build(self, batches: Iterable[list[Any]]) -> None: ...
    def open(self) -> None: ...
    def close(self) -> None: ...
    def search(self, query: Query) -> Hits: ...
    def add(self, nodes: list[Any]) -> None: ...
    def delete_documents(self, documents: dict[str, list[str]]) -> None: ...
    def delete_nodes(self, ids: list[str]) -> None: ...
    def count(self) -> int: ...

    def retrieve(self, query: Query) -> Hits:
        """Through LlamaIndex's retriever, where the store is one of LlamaIndex's."""
        return self.search(query)


class Raw(System):
    """FAISS, sqlite3 and tantivy with as little around them as possible; a row of FAISS is a node's number."""

    modules = ("faiss", "tantivy")

    def _connect(self) -> None:
        if "database" in vars(self):
            return
        self.database = sqlite3.connect(self.folder / "raw.sqlite", isolation_level=None)
        self.database.execute("PRAGMA journal_mode = WAL")
        self.database.execute("PRAGMA synchronous = FULL")
        self.database.execute(
            "CREATE TABLE IF NOT EXISTS node (id TEXT PRIMARY KEY, text TEXT, metadata TEXT, vector BLOB)"
        )

    def build(self, batches: Iterable[list[Any]]) -> None:
        import faiss
        import tantivy

        factory = {"IVF": "IVF1024,Flat", "HNSW": "HNSW32"}.get(self.job.index, self.job.index)
        self.index = faiss.index_factory(self.job.dimension, factory, faiss.METRIC_INNER_PRODUCT)
        self.folder.mkdir(parents=True)
        self.numbers, self.untrained = [], []
        writer = self._lexical_index().writer(256_000_000) if self.lexical else None
        for nodes in batches:
            self.add(nodes)
            for node in nodes if writer else ():
                writer.add_document(tantivy.Document(number=int(node.node_id[1:]), text=node.text))
        if writer:
            writer.commit()
            writer.wait_merging_threads()
        faiss.write_index(self.index, str(self.folder / "index"))
        self.close()

    def _lexical_index(self) -> Any:
        import tantivy

        builder = tantivy.SchemaBuilder()
        builder.add_text_field("text", tokenizer_name="en_stem", index_option="freq")
        builder.add_integer_field("number", stored=True)
        (self.folder / "lexical").mkdir(exist_ok=True)
        return tantivy.Index(builder.build(), path=str(self.folder / "lexical"))

    def open(self) -> None:
        import faiss

        self.index = faiss.read_index(str(self.folder / "index"))
        self.numbers = list(range(self.index.ntotal))
        self.selectors: dict[tuple[str, str], Any] = {}

    def close(self) -> None:
        if "database" in vars(self):
            self.database.close()
            del self.database

    def prepare_filters(self, wheres: Iterable[tuple[str, str]]) -> None:
        """Make the filters beforehand: only the search is the baseline."""
        import faiss

        values = [metadata(number) for number in self.numbers]
        for key, value in wheres:
            bits = np.packbits([item[key] == value for item in values], bitorder="little")
            self.selectors[key, value] = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits))

    def search(self, query: Query) -> Hits:
        parameters = self.selectors[query.where] if query.where else None
        scores, rows = self.index.search(query.vector[None], query.top_k, params=parameters)
        if query.text:
            if "lexical_index" not in vars(self):
                self.lexical_index = self._lexical_index()
                self.searcher = self.lexical_index.searcher()
            self.searcher.search(self.lexical_index.parse_query(query.text, ["text"]), query.top_k)
        return [(f"n{self.numbers[row]}", float(score)) for row, score in zip(rows[0], scores[0]) if row >= 0]

    def add(self, nodes: list[Any]) -> None:
        matrix = np.array([node.embedding for node in nodes], np.float32)
        rows = ((n.node_id, n.text, json.dumps(n.metadata), v.tobytes()) for n, v in zip(nodes, matrix))
        self._connect()
        self.database.execute("BEGIN")
        self.database.executemany("INSERT INTO node VALUES (?, ?, ?, ?)", rows)
        self.database.execute("COMMIT")
        self.numbers += [int(node.node_id[1:]) for node in nodes]
        if not self.index.is_trained:
            self.untrained.append(matrix)
            if len(self.numbers) < 65_536:
                return
            matrix = np.concatenate(self.untrained)
            self.index.train(matrix)
        self.index.add(matrix)

    def _delete_rows(self, ids: Sequence[str]) -> None:
        self._connect()
        self.database.execute("BEGIN")
        self.database.executemany("DELETE FROM node WHERE id = ?", ((id_,) for id_ in ids))
        self.database.execute("COMMIT")

    def delete_documents(self, documents: dict[str, list[str]]) -> None:
        for ids in documents.values():
            self._delete_rows(ids)
        self._delete_vectors({id_ for ids in documents.values() for id_ in ids})

    def delete_nodes(self, ids: list[str]) -> None:
        self._delete_rows(ids)
        self._delete_vectors(set(ids))

    def _delete_vectors(self, ids: set[str]) -> None:
        removed = {int(id_[1:]) for id_ in ids}
        self.index.remove_ids(np.array([row for row, number in enumerate(self.numbers) if number in removed]))
        self.numbers = [number for number in self.numbers if number not in removed]

    def count(self) -> int:
        self._connect()
        return int(self.database.execute("SELECT count(*) FROM node").fetchone()[0])

    def tune(self, queries: Sequence[Query], exact: Sequence[Hits]) -> None:
        """Save the smallest effort with a recall of 95 %."""
        import faiss

        name = "nprobe" if self.job.index == "IVF" else "efSearch"
        for effort in (2**power for power in range(11)):
            faiss.ParameterSpace().set_index_parameter(self.index, name, effort)
            if recall([self.search(query) for query in queries], exact) >= 0.95:
                break
        faiss.write_index(self.index, str(self.folder / "index"))


class LlamaIndex(System):
    """FaissVectorStore and SimpleDocumentStore through VectorStoreIndex; persist() counts as durable."""

    modules = ("faiss", "llama_index.vector_stores.faiss")
    no_lexical = "no lexical index"
    long_document, single_inserts = 2000, 3
    class_name, factory = "FaissVectorStore", "Flat"

    def _model(self) -> Any:
        from llama_index.core import MockEmbedding

        return MockEmbedding(embed_dim=self.job.dimension)

    def _class(self) -> Any:
        return getattr(importlib.import_module("llama_index.vector_stores.faiss"), self.class_name)

    def build(self, batches: Iterable[list[Any]]) -> None:
        import faiss
        from llama_index.core import StorageContext, VectorStoreIndex

        store = self._class()(faiss.index_factory(self.job.dimension, self.factory, faiss.METRIC_INNER_PRODUCT))
        context = StorageContext.from_defaults(vector_store=store)
        # In one call where all nodes are in memory: insert_nodes writes the list of all nodes every time.
        first = list(itertools.chain(*batches)) if isinstance(batches, list) else []
        index = VectorStoreIndex(first, storage_context=context, embed_model=self._model())
        for nodes in () if first else batches:
            index.insert_nodes(nodes)
        context.persist(str(self.folder))

    def open(self) -> None:
        from llama_index.core import StorageContext, load_index_from_storage

        store = self._class().from_persist_dir(str(self.folder))
        context = StorageContext.from_defaults(vector_store=store, persist_dir=str(self.folder))
        self.index = load_index_from_storage(context, embed_model=self._model())

    def search(self, query: Query) -> Hits:
        hits = retrieve(self.index, query)
        self.best = hits[0].node
        return [(hit.node.node_id, float(hit.score)) for hit in hits]

    def add(self, nodes: list[Any]) -> None:
        self.index.insert_nodes(nodes)
        self._persist()

    def _persist(self) -> None:
        self.index.storage_context.persist(str(self.folder))

    def delete_documents(self, documents: dict[str, list[str]]) -> None:
        for document in documents:
            self.index.delete_ref_doc(document, delete_from_docstore=True)
        self._persist()

    def delete_nodes(self, ids: list[str]) -> None:
        self.index.delete_nodes(ids, delete_from_docstore=True)
        self._persist()

    def count(self) -> int:
        return int(self.index.vector_store.client.ntotal)


class LlamaIndexMap(LlamaIndex):
    """FaissMapVectorStore, which can delete."""

    class_name, factory = "FaissMapVectorStore", "IDMap2,Flat"


class Ours(System):
    modules = ("faiss", "llama_index.core", "rag_plugin.faiss_store.store", "tantivy")

    def open(self) -> None:
        from rag_plugin import FaissStore

        self.store = FaissStore(self.folder, index=self.job.index, precision=self.job.precision, lexical=self.lexical)
        self.index: Any = None

    def build(self, batches: Iterable[list[Any]]) -> None:
        self.open()
        for nodes in batches:
            self.store.add(nodes)
        self.store.close()

    def close(self) -> None:
        self.store.close()

    def search(self, query: Query) -> Hits:
        from llama_index.core.vector_stores import VectorStoreQuery

        result = self.store.query(
            VectorStoreQuery(
                query_embedding=query.vector.tolist(),
                query_str=query.text or None,
                similarity_top_k=query.top_k,
                mode=_mode(query),
                alpha=0.5,
                filters=_filters(query),
            )
        )
        self.best = result.nodes[0]
        return list(zip(result.ids or [], result.similarities or []))

    def retrieve(self, query: Query) -> Hits:
        from llama_index.core import MockEmbedding, VectorStoreIndex

        if self.index is None:
            self.index = VectorStoreIndex.from_vector_store(self.store, MockEmbedding(embed_dim=self.job.dimension))
        hits = retrieve(self.index, query)
        self.best = hits[0].node
        return [(hit.node.node_id, float(hit.score)) for hit in hits]

    def add(self, nodes: list[Any]) -> None:
        self.store.add(nodes)

    def delete_documents(self, documents: dict[str, list[str]]) -> None:
        for document in documents:
            self.store.delete(document)

    def delete_nodes(self, ids: list[str]) -> None:
        self.store.delete_nodes(ids)

    def count(self) -> int:
        return len(self.store)

    def search_text(self, text: str) -> list[str]:
        from llama_index.core.vector_stores import VectorStoreQuery

        query = VectorStoreQuery(query_str=text, similarity_top_k=1000, mode="text_search")
        return [str(id_) for id_ in self.store.query(query).ids or []]


def _mode(query: Query) -> Any:
    from llama_index.core.vector_stores.types import VectorStoreQueryMode

    return VectorStoreQueryMode.HYBRID if query.text else VectorStoreQueryMode.DEFAULT


def _filters(query: Query) -> Any:
    from llama_index.core.vector_stores import MetadataFilter, MetadataFilters

    if query.where is None:
        return None
    return MetadataFilters(filters=[MetadataFilter(key=query.where[0], value=query.where[1])])


def retrieve(index: Any, query: Query) -> list[Any]:
    """The hits of LlamaIndex's retriever."""
    from llama_index.core import QueryBundle

    retriever = index.as_retriever(
        similarity_top_k=query.top_k,
        vector_store_query_mode=_mode(query),
        filters=_filters(query),
        alpha=0.5 if query.text else None,
    )
    return retriever.retrieve(QueryBundle(query.text or "a question", embedding=query.vector.tolist()))


SYSTEMS: dict[str, type[System]] = {"raw": Raw, "LlamaIndex": LlamaIndex, "Map": LlamaIndexMap, "ours": Ours}

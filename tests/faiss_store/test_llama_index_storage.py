"""From and to the folders that LlamaIndex's own FAISS stores persist: the same nodes, and nothing is encoded."""

from __future__ import annotations

import json
import logging
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from llama_index.core import Document, StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.callbacks import CallbackManager
from llama_index.core.schema import BaseNode, ImageNode, QueryBundle, TextNode
from llama_index.vector_stores.faiss import FaissMapVectorStore, FaissVectorStore

from rag_plugin.errors import StoreError
from rag_plugin.faiss_store import FaissStore
from rag_plugin.faiss_store.directory import IndexDirectory
from tests.faiss_store.nodes import FULL, METRICS, ask, make, vector

DIMENSION = 6


class Never(BaseEmbedding):
    """An encoder that must not be called."""

    def _get_text_embedding(self, text: str) -> list[float]:
        raise AssertionError(f"{text!r} was encoded")

    _get_query_embedding = _get_text_embedding

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


def never() -> Never:
    return Never(callback_manager=CallbackManager([]))


def some(count: int = 40, normal: bool = False) -> list[TextNode]:
    """Nodes of three documents, with metadata; `normal`: their vectors have length 1."""
    nodes = []
    for number in range(count):
        node = make(f"n{number}", number, f"d{number % 3}", text=f"text number {number}", number=number, tags=["a"])
        if normal:
            given = np.asarray(node.embedding)
            node.embedding = (given / np.linalg.norm(given)).tolist()
        nodes.append(node)
    return nodes


def flat_l2(vectors: Any) -> Any:
    return faiss.IndexFlatL2(DIMENSION)


def flat_ip(vectors: Any) -> Any:
    return faiss.IndexFlatIP(DIMENSION)


def hnsw(vectors: Any) -> Any:
    return faiss.IndexHNSWFlat(DIMENSION, 16)


def ivf(vectors: Any) -> Any:
    index = faiss.index_factory(DIMENSION, "IVF4,Flat")
    index.train(vectors)
    index.nprobe = 4
    return index


def map_of_flat(vectors: Any) -> Any:
    return faiss.IndexIDMap2(faiss.IndexFlatL2(DIMENSION))


def stock_index(nodes: Sequence[BaseNode], make_index: Any = flat_l2, store_class: Any = FaissVectorStore) -> Any:
    """LlamaIndex's own index over its own FAISS store."""
    vectors = np.asarray([node.embedding for node in nodes], dtype=np.float32)
    context = StorageContext.from_defaults(vector_store=store_class(faiss_index=make_index(vectors)))
    return VectorStoreIndex(
        nodes=[node.model_copy(deep=True) for node in nodes],
        storage_context=context,
        embed_model=never(),
        callback_manager=CallbackManager([]),
    )


def persist(index: Any, folder: Path) -> Path:
    index.storage_context.persist(persist_dir=str(folder))
    return folder


def hits(index: Any, seed: int, top_k: int = 7) -> list[tuple[str, str]]:
    bundle = QueryBundle("a question", embedding=vector(seed))
    found = index.as_retriever(similarity_top_k=top_k).retrieve(bundle)
    return [(hit.node.node_id, hit.node.get_content()) for hit in found]


def over(store: FaissStore) -> VectorStoreIndex:
    return VectorStoreIndex.from_vector_store(store, embed_model=never(), callback_manager=CallbackManager([]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "storage"


def score_of(store: FaissStore, node: BaseNode) -> float | None:
    """How near a node's vector in the store is to the one that is its own; None if the node is not there."""
    result = store.query(ask(list(node.embedding or []), 1, node_ids=[node.node_id]))
    return result.similarities[0] if result.similarities else None


# ---------------------------------------------------------------------------------- from LlamaIndex


@pytest.mark.parametrize(
    ("make_index", "store_class", "normal", "metric"),
    [
        (flat_l2, FaissVectorStore, False, "l2"),
        (flat_l2, FaissVectorStore, True, "l2"),
        (flat_ip, FaissVectorStore, False, "inner_product"),
        (flat_ip, FaissVectorStore, True, "cosine"),
        (hnsw, FaissVectorStore, False, "l2"),
        (ivf, FaissVectorStore, False, "l2"),
        (map_of_flat, FaissMapVectorStore, False, "l2"),
    ],
    ids=["L2", "L2 normal", "inner product", "cosine", "HNSW", "IVF", "map"],
)
def test_a_folder_of_llama_index_is_taken_over(
    folder: Path, path: Path, make_index: Any, store_class: Any, normal: bool, metric: str
) -> None:
    nodes = some(200, normal)
    stock = stock_index(nodes, make_index, store_class)
    store = FaissStore.from_storage(persist(stock, folder), path)
    assert (store.metric, len(store)) == (metric, 200)
    for seed in range(300, 320):
        assert hits(over(store), seed) == hits(stock, seed)
    assert {node.node_id: node.metadata for node in store.get_nodes()} == {
        node.node_id: node.metadata for node in nodes
    }
    for node in nodes[:20]:
        expected = 1.0 if metric != "inner_product" else float(np.square(node.embedding).sum())
        assert score_of(store, node) == pytest.approx(expected, rel=1e-5)
    store.delete("d0")
    assert {node.ref_doc_id for node in store.get_nodes()} == {"d1", "d2"}
    store.close()
    assert len(FaissStore(path, metric=store.metric)) == len(store)


def test_nodes_of_every_kind_come_over_as_they_were(folder: Path, path: Path) -> None:
    nodes: list[BaseNode] = [
        FULL.model_copy(deep=True),
        Document(id_="document", text="a whole document", metadata={"k": 1}),
        ImageNode(id_="image", text="a caption", image="aGVsbG8="),
    ]
    for number, node in enumerate(nodes):
        node.embedding = vector(number)
    store = FaissStore.from_storage(persist(stock_index(nodes), folder), path)
    for node in store.get_nodes():
        (before,) = (each.model_copy(update={"embedding": None}) for each in nodes if each.node_id == node.node_id)
        assert (type(node), node) == (type(before), before)


def test_settings_said_are_the_stores_settings(folder: Path, path: Path) -> None:
    persist(stock_index(some()), folder)
    store = FaissStore.from_storage(folder, path, metric="cosine", language="german", lexical=False, index="HNSW")
    assert (store.metric, store.language, store.lexical, store.index) == ("cosine", "german", False, "HNSW")
    assert store.query(ask(3, 1)).ids == ["n3"]


def test_what_was_taken_over_is_found_by_words(folder: Path, path: Path) -> None:
    from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode

    store = FaissStore.from_storage(persist(stock_index(some()), folder), path)
    query = VectorStoreQuery(query_str="17", mode=VectorStoreQueryMode.TEXT_SEARCH, similarity_top_k=9)
    assert store.query(query).ids == ["n17"]


def test_the_folder_is_left_as_it_was(folder: Path, path: Path) -> None:
    persist(stock_index(some()), folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    FaissStore.from_storage(folder, path)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


# ---------------------------------------------------------------------------------- FaissMapVectorStore


def _after(folder: Path, changes: Sequence[tuple[str, str, int]], names: Sequence[str]) -> dict[str, TextNode]:
    """Add and delete in a stock store of maps; persists it and returns each node with the last vector it was given."""
    store = FaissMapVectorStore(faiss_index=faiss.IndexIDMap2(faiss.IndexFlatL2(DIMENSION)))
    given: dict[str, TextNode] = {}
    for what, name, seed in changes:
        if what == "add":
            given[name] = make(name, seed, "d", text=f"{name} of {seed}")
            store.add([given[name]])
        else:
            store.delete_nodes([name])
            given.pop(name, None)
    index = stock_index(list(given.values()) or [make("spare")])
    folder.mkdir()
    index.storage_context.persist(persist_dir=str(folder))
    store.persist(str(folder / "default__vector_store.json"))
    return given


def test_of_two_nodes_that_were_given_one_number_the_later_is_known(
    folder: Path, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # LlamaIndex numbers a new vector by how many there are, which after a delete is a number that is taken.
    changes = [("add", "n0", 0), ("add", "n1", 1), ("add", "n2", 2), ("delete", "n0", 0), ("add", "n3", 3)]
    given = _after(folder, changes, [])
    written = faiss.read_index(str(folder / "default__vector_store.json"))
    numbers = faiss.vector_to_array(written.id_map)
    assert numbers.tolist() == [1, 2, 2]  # else this tests nothing
    store = FaissStore.from_storage(folder, path)
    assert sorted(node.node_id for node in store.get_nodes()) == ["n1", "n3"]
    for name in ("n1", "n3"):
        assert score_of(store, given[name]) == pytest.approx(1.0)
    assert f"{folder}: 1 nodes of the docstore have no vector and are skipped" in caplog.messages


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            [("add", "n0", 0), ("add", "n1", 1), ("add", "n1", 9)],
            id="added again",
        ),
        pytest.param(
            [
                ("add", "n0", 0),
                ("add", "n1", 1),
                ("add", "n2", 2),
                ("delete", "n0", 0),
                ("add", "n1", 9),
            ],
            id="added again under a number that is taken",
        ),
        pytest.param(
            [
                *(("add", f"n{number}", number) for number in range(3)),
                ("delete", "n0", 0),
                ("add", "n3", 3),
                ("delete", "n2", 2),
                ("add", "n4", 4),
                ("add", "n5", 5),
            ],
            id="a number whose vectors were all deleted",
        ),
    ],
)
def test_no_node_is_given_another_ones_vector(folder: Path, path: Path, changes: list[tuple[str, str, int]]) -> None:
    given = _after(folder, changes, [])
    try:
        store = FaissStore.from_storage(folder, path)
    except StoreError:
        return  # where it cannot be known, to say so is right
    for node in given.values():
        assert score_of(store, node) in (None, pytest.approx(1.0)), node.node_id


def test_whatever_was_added_and_deleted_no_node_is_given_another_ones_vector(tmp_path: Path) -> None:
    wrong = []
    for seed in range(25):
        chance = random.Random(seed)
        changes = []
        for turn in range(14):
            name = f"n{chance.randrange(6)}"
            changes.append(("delete" if chance.random() < 0.35 else "add", name, 100 * seed + turn))
        folder = tmp_path / f"storage {seed}"
        given = _after(folder, changes, [])
        try:
            store = FaissStore.from_storage(folder, tmp_path / f"index {seed}", lexical=False)
        except StoreError:
            continue
        wrong += [
            (seed, node.node_id) for node in given.values() if score_of(store, node) not in (None, pytest.approx(1.0))
        ]
        store.close()
    assert wrong == []


def test_a_map_in_the_older_format_is_read(folder: Path, path: Path) -> None:
    # Before LlamaIndex wrote JSON it wrote Python's own form, and it still reads that.
    given = _after(folder, [("add", "n0", 0), ("add", "n1", 1)], [])
    file = folder / "id_map.json"
    content = json.loads(file.read_text())
    numbers = {int(number): name for number, name in content["faiss_id_to_node_id_map"].items()}
    file.write_text(str({**content, "faiss_id_to_node_id_map": numbers}))
    FaissMapVectorStore.from_persist_dir(str(folder))
    store = FaissStore.from_storage(folder, path)
    for node in given.values():
        assert score_of(store, node) == pytest.approx(1.0)


def test_nodes_without_a_vector_are_left_out_and_told(
    folder: Path, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = _after(folder, [("add", "n0", 0), ("add", "n1", 1), ("add", "n2", 2)], [])
    store = FaissMapVectorStore.from_persist_dir(str(folder))
    store.delete_nodes(["n1", "n2"])
    store.persist(str(folder / "default__vector_store.json"))
    with caplog.at_level(logging.WARNING, logger="rag_plugin.faiss_store"):
        taken = FaissStore.from_storage(folder, path)
    assert [node.node_id for node in taken.get_nodes()] == ["n0"]
    assert score_of(taken, given["n0"]) == pytest.approx(1.0)
    assert [record.getMessage() for record in caplog.records] == [
        f"{folder}: 2 nodes of the docstore have no vector and are skipped"
    ]


# ---------------------------------------------------------------------------------- folders that cannot be taken over


def refused(folder: Path, path: Path) -> str:
    with pytest.raises(StoreError) as caught:
        FaissStore.from_storage(folder, path)
    assert not (path / "index.sqlite").exists()
    return str(caught.value)


@pytest.mark.parametrize("name", ["docstore.json", "index_store.json"])
def test_a_file_that_is_missing_is_named(folder: Path, path: Path, name: str) -> None:
    persist(stock_index(some()), folder)
    (folder / name).unlink()
    assert refused(folder, path) == f"{folder} is not a folder that LlamaIndex persisted: it has no {name}"


def test_a_folder_that_is_not_there_is_named(folder: Path, path: Path) -> None:
    assert refused(folder, path) == f"{folder} is not a folder that LlamaIndex persisted: it has no docstore.json"


def test_a_folder_without_a_faiss_file_is_named(folder: Path, path: Path) -> None:
    persist(stock_index(some()), folder)
    (folder / "default__vector_store.json").unlink()
    message = f"{folder} has no FAISS index (default__vector_store.json in FAISS's format)"
    assert refused(folder, path) == message
    (folder / "default__vector_store.json").write_text('{"embedding_dict": {}}')
    assert refused(folder, path) == message


def test_a_faiss_file_that_is_none_is_named(folder: Path, path: Path) -> None:
    persist(stock_index(some()), folder)
    (folder / "default__vector_store.json").write_bytes(b"nothing of FAISS")
    assert refused(folder, path).startswith(f"{folder / 'default__vector_store.json'} is not a FAISS index: ")
    (folder / "default__vector_store.json").write_bytes(b"")
    assert str(folder) in refused(folder, path)


@pytest.mark.parametrize("name", ["docstore.json", "index_store.json"])
@pytest.mark.parametrize("content", ["", "{half", "[]", '{"docstore/data": 3}'], ids=repr)
def test_a_file_that_is_torn_is_named(folder: Path, path: Path, name: str, content: str) -> None:
    persist(stock_index(some()), folder)
    (folder / name).write_text(content)
    assert str(folder / name) in refused(folder, path)


def test_two_indexes_in_one_folder_are_refused(folder: Path, path: Path) -> None:
    index = stock_index(some())
    second = stock_index(some())
    index.storage_context.index_store.add_index_struct(second.index_struct)
    persist(index, folder)
    assert refused(folder, path) == f"{folder / 'index_store.json'} has 2 vector indexes; exactly one is expected"


def test_a_docstore_of_another_persist_is_refused(folder: Path, path: Path, tmp_path: Path) -> None:
    persist(stock_index(some(10)), folder)
    other = persist(stock_index([make(f"m{number}", number) for number in range(4)]), tmp_path / "other")
    shutil.copy(other / "docstore.json", folder / "docstore.json")
    assert refused(folder, path) == (
        f"{folder}: the docstore lacks 10 nodes that have vectors, such as 'n0'; docstore.json, index_store.json and "
        "the FAISS file have to be of the same persist()"
    )


def test_a_faiss_file_of_an_earlier_persist_is_refused(folder: Path, path: Path, tmp_path: Path) -> None:
    persist(stock_index(some(10)), folder)
    early = persist(stock_index(some(4)), tmp_path / "early")
    shutil.copy(early / "default__vector_store.json", folder / "default__vector_store.json")
    assert refused(folder, path) == (
        f"{folder}: the index store has 10 vectors and the FAISS file has 4; docstore.json, index_store.json and "
        "the FAISS file have to be of the same persist()"
    )


def test_a_faiss_file_of_a_later_persist_is_refused_or_told(
    folder: Path, path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    persist(stock_index(some(4)), folder)
    late = persist(stock_index(some(10)), tmp_path / "late")
    shutil.copy(late / "default__vector_store.json", folder / "default__vector_store.json")
    try:
        with caplog.at_level(logging.WARNING, logger="rag_plugin.faiss_store"):
            FaissStore.from_storage(folder, path)
    except StoreError:
        return
    assert caplog.records, "six vectors were left out in silence"


@pytest.mark.parametrize("what", ["an index", "a file"])
def test_a_target_that_is_not_empty_is_refused(folder: Path, path: Path, what: str) -> None:
    persist(stock_index(some()), folder)
    if what == "an index":
        FaissStore(path).add([make("mine")])
    else:
        path.mkdir()
        (path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError) as caught:
        FaissStore.from_storage(folder, path)
    assert str(caught.value) == f"{path} is not empty; name a new index directory"
    path.with_name("empty").mkdir()
    assert len(FaissStore.from_storage(folder, path.with_name("empty"))) == 40


def test_a_target_that_is_a_file_is_a_store_error(folder: Path, path: Path) -> None:
    persist(stock_index(some()), folder)
    path.write_text("mine")
    with pytest.raises(StoreError):
        FaissStore.from_storage(folder, path)
    assert path.read_text() == "mine"


def test_shortened_vectors_are_taken_over_and_told(folder: Path, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nodes = some(300)

    def pq(vectors: Any) -> Any:
        index = faiss.index_factory(DIMENSION, "PQ3x4")
        index.train(vectors)
        return index

    persist(stock_index(nodes, pq), folder)
    with caplog.at_level(logging.WARNING, logger="rag_plugin.faiss_store"):
        store = FaissStore.from_storage(folder, path)
    assert [record.getMessage() for record in caplog.records] == [
        f"{folder}: IndexPQ stores quantized vectors; the exact vectors cannot be imported"
    ]
    assert len(store) == 300
    near = [score_of(store, node) for node in nodes]
    assert 0.2 < float(np.mean([score or 0 for score in near])) < 0.999


def test_an_index_that_gives_no_vectors_back_is_refused(
    folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Today's FAISS makes something up for every index, even of single bits; older ones refuse.
    persist(stock_index(some(), lambda vectors: faiss.IndexLSH(DIMENSION, 16)), folder)

    def refuse(self: Any, *args: Any) -> None:
        raise RuntimeError("Error in reconstruct\nreconstruct not implemented for this type of index")

    monkeypatch.setattr(faiss.IndexLSH, "reconstruct_n", refuse)
    assert refused(folder, path) == (
        f"{folder}: IndexLSH cannot return its vectors, so the documents have to be encoded again "
        "(reconstruct not implemented for this type of index)"
    )


def test_a_takeover_that_fails_half_way_leaves_nothing(
    folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    persist(stock_index(some()), folder)
    put = IndexDirectory.put

    def failing(self: IndexDirectory, *args: Any) -> None:
        put(self, *args)
        raise KeyboardInterrupt

    monkeypatch.setattr(IndexDirectory, "put", failing)
    with pytest.raises(KeyboardInterrupt):
        FaissStore.from_storage(folder, path)
    assert len(FaissStore(path)) == 0
    monkeypatch.undo()


# ---------------------------------------------------------------------------------- to LlamaIndex


def loaded(folder: Path) -> Any:
    context = StorageContext.from_defaults(
        persist_dir=str(folder), vector_store=FaissVectorStore.from_persist_dir(str(folder))
    )
    return load_index_from_storage(context, embed_model=never(), callback_manager=CallbackManager([]))


@pytest.mark.parametrize("metric", METRICS)
def test_llama_index_opens_what_is_written_and_finds_the_same(folder: Path, path: Path, metric: Any) -> None:
    store = FaissStore(path, metric=metric)
    store.add(some(120))
    store.delete("d1")
    store.add([make("n0", 900, "d0", text="replaced")])
    store.to_storage(folder)
    index = loaded(folder)
    for seed in range(300, 315):
        bundle_vector = np.asarray(vector(seed))
        if metric == "cosine":
            bundle_vector = bundle_vector / np.linalg.norm(bundle_vector)
        bundle = QueryBundle("q", embedding=bundle_vector.tolist())
        stock = index.as_retriever(similarity_top_k=7).retrieve(bundle)
        assert [(hit.node.node_id, hit.node.get_content()) for hit in stock] == hits(over(store), seed)
        if metric != "l2":
            ours = store.query(ask(seed, 7)).similarities
            assert [hit.score for hit in stock] == pytest.approx(ours, rel=1e-4, abs=1e-5)
    assert set(index.ref_doc_info) == {"d0", "d2"}
    assert len(index.docstore.docs) == len(store) == 80


@pytest.mark.parametrize("metric", METRICS)
def test_there_and_back_gives_the_same_store(folder: Path, path: Path, metric: Any) -> None:
    store = FaissStore(path, metric=metric)
    nodes: list[BaseNode] = [*some(50), Document(id_="whole", text="a document", embedding=vector(77))]
    full = FULL.model_copy(deep=True)
    full.embedding = vector(78)
    store.add([*nodes, full])
    store.to_storage(folder)
    back = FaissStore.from_storage(folder, path.with_name("back"))
    assert back.metric == metric
    assert back.get_nodes() == store.get_nodes()
    for seed in range(300, 310):
        first, second = store.query(ask(seed, 9)), back.query(ask(seed, 9))
        assert first.ids == second.ids
        assert first.similarities == pytest.approx(second.similarities, rel=1e-5)


@pytest.mark.parametrize("index", ["HNSW", "SQ8"])
def test_what_is_written_has_the_exact_vectors_whatever_the_index(folder: Path, path: Path, index: str) -> None:
    store = FaissStore(path, index=index, metric="l2", lexical=False)
    nodes = some(1200)
    store.add(nodes)
    store.snapshot()
    store.to_storage(folder)
    written = faiss.read_index(str(folder / "default__vector_store.json"))
    expected = np.asarray([node.embedding for node in nodes], dtype=np.float32)
    assert np.array_equal(written.reconstruct_n(0, 1200), expected)


def test_what_is_written_is_only_what_a_query_sees(folder: Path, path: Path) -> None:
    from rag_plugin.protocols import DocumentRecord

    store = FaissStore(path)
    store.add(some(5))
    generation = store.open_generation({"encoder": "x"}, lambda old, new: old == new)
    store.commit(generation, [(DocumentRecord("d", "hash", None, "recipe"), [make("unfinished", 1, "d")])])
    store.to_storage(folder)
    assert sorted(loaded(folder).docstore.docs) == [f"n{number}" for number in range(5)]


@pytest.mark.parametrize("state", ["never written", "cleared"])
def test_an_empty_store_writes_nothing(folder: Path, path: Path, state: str) -> None:
    store = FaissStore(path)
    if state == "cleared":
        store.add(some(3))
        store.clear()
    with pytest.raises(StoreError) as caught:
        store.to_storage(folder)
    assert str(caught.value) == f"{path} has no vectors to write"
    assert not folder.exists()


def test_a_store_whose_nodes_were_all_deleted_can_be_written(folder: Path, path: Path) -> None:
    store = FaissStore(path)
    store.add(some(3))
    store.delete_nodes(["n0", "n1", "n2"])
    store.to_storage(folder)
    assert loaded(folder).docstore.docs == {}
    assert len(FaissStore.from_storage(folder, path.with_name("back"))) == 0


def test_a_folder_that_is_not_empty_is_left_alone(folder: Path, path: Path) -> None:
    store = FaissStore(path)
    store.add(some(3))
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(StoreError) as caught:
        store.to_storage(folder)
    assert str(caught.value) == f"{folder} is not empty; name a new folder"
    assert [file.name for file in folder.iterdir()] == ["notes.txt"]
    store.to_storage(folder.with_name("deep") / "er")
    (folder.with_name("empty")).mkdir()
    store.to_storage(folder.with_name("empty"))
    assert len(loaded(folder.with_name("empty")).docstore.docs) == 3


def test_a_write_that_fails_leaves_no_half_folder(folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FaissStore(path)
    store.add(some(3))

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("llama_index.core.storage.docstore.SimpleDocumentStore.persist", full)
    with pytest.raises((StoreError, OSError)):
        store.to_storage(folder)
    assert sorted(file.name for file in folder.parent.iterdir()) == ["index"]


def test_a_folder_that_was_written_may_be_read_by_whom_others_may(folder: Path, path: Path) -> None:
    store = FaissStore(path)
    store.add(some(3))
    store.to_storage(folder)
    folder.with_name("plain").mkdir()
    assert oct(folder.stat().st_mode) == oct(folder.with_name("plain").stat().st_mode)

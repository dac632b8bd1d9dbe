"""Index types, metrics and precisions: what each finds, beside comparing the question with every vector."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery
from numpy.typing import NDArray

from rag_plugin.errors import StoreError
from rag_plugin.faiss_store import FaissStore
from rag_plugin.faiss_store.sqlite.database import Database
from tests.faiss_store.nodes import METRICS, ask, where

COUNT, DIMENSION = 5_000, 32
Matrix = NDArray[np.float64]

SLACK = 0.02  # the recall is tuned on a sample of the stored vectors, and measured with others here


def clustered(count: int, seed: int, dimension: int = DIMENSION) -> NDArray[np.float32]:
    """Vectors in 50 groups, as those of texts are; the groups are the same for every seed."""
    centres = np.random.default_rng(0).normal(size=(50, dimension))
    random = np.random.default_rng(seed)
    return (centres[random.integers(0, 50, count)] + 0.4 * random.normal(size=(count, dimension))).astype(np.float32)


VECTORS = clustered(COUNT, 1)
QUESTIONS = clustered(40, 2)


def nodes_of(vectors: NDArray[np.float32], first: int = 0) -> list[TextNode]:
    return [
        TextNode(
            id_=f"n{number}",
            text=f"text of n{number}",
            metadata={"percent": number % 100, "half": number % 2},
            embedding=each.tolist(),
        )
        for number, each in enumerate(vectors, first)
    ]


def exact(metric: str, question: NDArray[np.float32], vectors: NDArray[np.float32]) -> Matrix:
    """The similarity of each vector, in double precision."""
    first, second = question.astype(np.float64), vectors.astype(np.float64)
    if metric == "l2":
        return np.asarray(1 / (1 + ((second - first) ** 2).sum(axis=1)))
    if metric == "cosine":
        first = first / np.linalg.norm(first)
        second = second / np.linalg.norm(second, axis=1, keepdims=True)
    return np.asarray(second @ first)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of all the vectors; to be copied."""
    path = tmp_path_factory.mktemp("filled") / "index"
    store = FaissStore(path, lexical=False)
    store.add(nodes_of(VECTORS))
    store.close()
    return path


@pytest.fixture
def path(filled: Path, tmp_path: Path) -> Path:
    """An index of all the vectors, one's own."""
    return Path(shutil.copytree(filled, tmp_path / "index"))


@pytest.fixture(scope="module")
def opened(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Stores over all the vectors by their settings, each made once and only read."""
    stores: dict[str, FaissStore] = {}

    def open_store(**settings: Any) -> FaissStore:
        name = str(sorted(settings.items()))
        if name not in stores:
            path = Path(shutil.copytree(filled, tmp_path_factory.mktemp("opened") / "index"))
            stores[name] = FaissStore(path, lexical=False, **settings)
            stores[name].snapshot()  # builds the index
        return stores[name]

    yield open_store
    for store in stores.values():
        store.close()


def numbers(store: FaissStore, question: NDArray[np.float32], top_k: int, **restrictions: Any) -> list[int]:
    """The numbers of the nodes that are found; asserts that the answer is one."""
    result = store.query(ask(question.tolist(), top_k, **restrictions))
    found = [int(name[1:]) for name in result.ids or []]
    assert len(set(found)) == len(found)
    assert result.similarities == sorted(result.similarities or [], reverse=True)
    assert [node.node_id for node in result.nodes or []] == result.ids
    return found


def recall_of(
    store: FaissStore,
    vectors: NDArray[np.float32],
    allowed: NDArray[np.bool_] | None = None,
    top_k: int = 10,
    **restrictions: Any,
) -> float:
    """The share of the true nearest that the store finds for the questions."""
    hits = 0
    for question in QUESTIONS:
        scores = exact(store.metric, question, vectors)
        if allowed is not None:
            scores[~allowed] = -np.inf
        best = np.argsort(-scores)[:top_k]
        hits += len(set(best.tolist()) & set(numbers(store, question, top_k, **restrictions)))
    return hits / (top_k * len(QUESTIONS))


KINDS: dict[str, dict[str, Any]] = {
    "Flat float16": {"index": "Flat", "precision": "float16"},
    "Flat int8": {"index": "Flat", "precision": "int8"},
    "HNSW": {"index": "HNSW"},
    "HNSW int8": {"index": "HNSW", "precision": "int8"},
    "IVF": {"index": "IVF"},
    "IVF float16": {"index": "IVF", "precision": "float16"},
    "IVF int8": {"index": "IVF", "precision": "int8"},
    "SQ8": {"index": "SQ8"},
    "HNSW16_SQ8": {"index": "HNSW16_SQ8"},
    "IVF8,Flat,RFlat": {"index": "IVF8,Flat,RFlat"},
    "IDMap,Flat": {"index": "IDMap,Flat"},
    "PCA24,IVF8,Flat": {"index": "PCA24,IVF8,Flat"},
}
SOME = {name: KINDS[name] for name in ("HNSW", "IVF", "IVF int8", "SQ8", "IVF8,Flat,RFlat", "PCA24,IVF8,Flat")}
EVERY = pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)
ALL_SLOWLY = pytest.mark.parametrize(
    "metric",
    ["cosine", *(pytest.param(metric, marks=pytest.mark.slow) for metric in METRICS if metric != "cosine")],
)
A_FEW = pytest.mark.parametrize("settings", SOME.values(), ids=SOME)


# ---------------------------------------------------------------------------------- what is found


@EVERY
@ALL_SLOWLY
def test_as_much_is_found_as_the_recall_asks_for(opened: Any, settings: dict[str, Any], metric: str) -> None:
    store = opened(metric=metric, **settings)
    assert recall_of(store, VECTORS) >= 0.95 - SLACK
    assert store.info().faiss != "searched exactly"


@EVERY
@ALL_SLOWLY
def test_scores_are_those_of_the_exact_vectors(opened: Any, settings: dict[str, Any], metric: str) -> None:
    store = opened(metric=metric, **settings)
    for question in QUESTIONS[:10]:
        result = store.query(ask(question.tolist(), 10))
        true = exact(metric, question, VECTORS)
        expected = [float(true[int(name[1:])]) for name in result.ids or []]
        assert result.similarities == pytest.approx(expected, rel=1e-4, abs=1e-5)


@EVERY
@ALL_SLOWLY
def test_a_filter_gives_only_and_enough_of_what_it_lets_through(
    opened: Any, settings: dict[str, Any], metric: str
) -> None:
    store = opened(metric=metric, **settings)
    place = np.arange(COUNT)
    for filters, allowed in ((where("percent", 7), place % 100 == 7), (where("half", 1), place % 2 == 1)):
        for top_k in (10, 40, 400):
            found = numbers(store, QUESTIONS[0], top_k, filters=filters)
            assert allowed[found].all()
            assert len(found) == min(top_k, int(allowed.sum()))
        assert recall_of(store, VECTORS, allowed, filters=filters) >= 0.95 - SLACK


@EVERY
@ALL_SLOWLY
def test_asking_for_more_than_there_is_gives_everything(opened: Any, settings: dict[str, Any], metric: str) -> None:
    store = opened(metric=metric, **settings)
    for top_k in (COUNT, 2 * COUNT):
        assert len(numbers(store, QUESTIONS[0], top_k)) == COUNT
    assert len(numbers(store, QUESTIONS[0], COUNT, filters=where("half", 1))) == COUNT // 2


@A_FEW
def test_asking_for_many_gives_as_many(opened: Any, settings: dict[str, Any]) -> None:
    store = opened(metric="cosine", **settings)
    for top_k in (500, 1500, 4000):
        found = numbers(store, QUESTIONS[0], top_k)
        assert len(found) == top_k
        best = np.argsort(-exact("cosine", QUESTIONS[0], VECTORS))[:top_k]
        assert len(set(found) & set(best.tolist())) >= 0.6 * top_k


@A_FEW
@pytest.mark.parametrize("rescore", [True, False], ids=["rescored", "not rescored"])
def test_many_are_given_with_and_without_rescoring(opened: Any, settings: dict[str, Any], rescore: bool) -> None:
    store = opened(metric="cosine", rescore=rescore, **settings)
    assert len(numbers(store, QUESTIONS[1], COUNT)) == COUNT


@A_FEW
def test_what_was_written_after_the_base_was_made_is_found(path: Path, settings: dict[str, Any]) -> None:
    store = FaissStore(path, lexical=False, **settings)
    store.snapshot()
    made = store.info().faiss
    vectors = VECTORS.copy()
    alive = np.ones(COUNT, dtype=bool)
    alive[1000:1500] = False
    store.delete_nodes([f"n{number}" for number in range(1000, 1500)])
    vectors[:100] = clustered(100, 5)
    store.add(nodes_of(vectors[:100]))
    vectors = np.concatenate([vectors, clustered(50, 6)])
    alive = np.concatenate([alive, np.ones(50, dtype=bool)])
    store.add(nodes_of(vectors[COUNT:], COUNT))
    half = (np.arange(COUNT + 50) % 2 == 1) & alive
    other = FaissStore(path, lexical=False, **settings)
    for each in (store, other):
        assert recall_of(each, vectors, alive) >= 0.95 - SLACK
        assert len(numbers(each, QUESTIONS[0], 10_000)) == int(alive.sum())
        found = numbers(each, QUESTIONS[0], 2000, filters=where("half", 1))
        assert half[found].all()
        assert len(found) == 2000
        assert numbers(each, vectors[7], 1) == [7]
        assert numbers(each, vectors[COUNT + 3], 1) == [COUNT + 3]
    assert store.info().faiss == made
    store.close()
    other.close()
    again = FaissStore(path, lexical=False, **settings)
    assert recall_of(again, vectors, alive) >= 0.95 - SLACK
    again.close()


@pytest.mark.parametrize("rescore", [True, False], ids=["rescored", "not rescored"])
def test_rescoring_is_what_makes_scores_exact(opened: Any, rescore: bool) -> None:
    store = opened(metric="cosine", index="Flat", precision="int8", rescore=rescore)
    worst = 0.0
    for question in QUESTIONS:
        result = store.query(ask(question.tolist(), 10))
        true = exact("cosine", question, VECTORS)
        scores = zip(result.ids or [], result.similarities or [])
        worst = max(worst, *(abs(score - float(true[int(name[1:])])) for name, score in scores))
    assert (worst < 1e-5) == rescore


def test_vectors_of_zeros_and_equal_ones_are_no_problem(tmp_path: Path) -> None:
    for index in ("HNSW", "IVF", "SQ8"):
        store = FaissStore(tmp_path / index, index=index, lexical=False)
        vectors = np.zeros((1500, 8), dtype=np.float32)
        vectors[500:, 0] = 1
        store.add(nodes_of(vectors))
        store.snapshot()
        result = store.query(VectorStoreQuery(query_embedding=[1.0] + [0.0] * 7, similarity_top_k=1500))
        assert sorted(result.similarities or []) == pytest.approx([0.0] * 500 + [1.0] * 1000, abs=1e-6)
        store.close()


# ---------------------------------------------------------------------------------- the recall that is told


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    "settings",
    [
        {"index": "HNSW"},
        {"index": "HNSW4"},
        {"index": "IVF", "recall": 0.3},
        {"index": "IVF", "precision": "int8"},
        {"index": "SQ4"},
        {"index": "PCA8,IVF8,Flat"},
    ],
    ids=str,
)
def test_info_tells_the_recall_that_one_measures_oneself(opened: Any, settings: dict[str, Any], metric: str) -> None:
    store = opened(metric=metric, rescore=False, **settings)
    told = store.info().recall
    hits = 0
    some = np.random.default_rng(9).choice(COUNT, 200, replace=False)
    for number in some.tolist():
        scores = exact(metric, VECTORS[number], VECTORS)
        scores[number] = -np.inf
        best = set(np.argsort(-scores)[:10].tolist())
        found = [each for each in numbers(store, VECTORS[number], 11) if each != number]
        hits += len(best & set(found[:10]))
    assert told == pytest.approx(hits / 2000, abs=0.06)


def test_more_recall_is_bought_where_it_is_asked_for(opened: Any) -> None:
    found = [recall_of(opened(index="IVF", recall=recall, metric="cosine"), VECTORS) for recall in (0.1, 0.99)]
    assert found[0] < found[1]
    assert found[1] >= 0.97


def test_hnsw_is_not_tuned_below_the_effort_that_new_questions_need(opened: Any) -> None:
    # Its own vectors, which the recall is measured with, are easier to find than others.
    base = opened(index="HNSW", recall=0.1, metric="cosine").client
    assert faiss.downcast_index(base.index).hnsw.efSearch == 64


def test_what_compares_with_every_vector_has_no_recall(opened: Any) -> None:
    info = opened(metric="cosine").info()
    assert (info.recall, info.index, info.precision) == (None, "Flat", "float32")


# ---------------------------------------------------------------------------------- training


@pytest.mark.parametrize(
    ("index", "enough", "name"),
    [
        ("IVF64,Flat", 64 * 39, "IndexIVFFlat"),
        ("HNSW", 1000, "IndexHNSWFlat"),
        ("SQ8", 1000, "IndexScalarQuantizer"),
        ("IVF", 1000, "IndexIVFFlat"),
    ],
    ids=lambda value: str(value),
)
def test_an_index_is_made_when_there_is_enough_for_it_and_exact_before(
    tmp_path: Path, index: str, enough: int, name: str
) -> None:
    store = FaissStore(tmp_path / "index", index=index, lexical=False)
    store.add(nodes_of(VECTORS[: enough - 1]))
    assert recall_of(store, VECTORS[: enough - 1]) == 1
    assert (store.info().faiss, store.info().recall) == ("searched exactly", None)
    store.snapshot()
    store.add(nodes_of(VECTORS[enough - 1 : enough], enough - 1))
    store.snapshot()
    assert recall_of(store, VECTORS[:enough]) >= 0.95 - SLACK
    assert store.info().faiss == name
    assert (store.info().recall or 0) >= 0.95 - SLACK
    store.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("index", "least"), [("IVF16,PQ4x4", 0.2), ("IVF16,PQ8", 0.6), ("OPQ8,IVF16,PQ8", 0.6), ("PQ8", 0.6)]
)
def test_product_quantizers_are_trained_from_enough_and_rescored(tmp_path: Path, index: str, least: float) -> None:
    vectors = clustered(10_500, 1)
    store = FaissStore(tmp_path / "index", index=index, lexical=False)
    store.add(nodes_of(vectors[:9_900]))
    assert recall_of(store, vectors[:9_900]) == 1
    assert store.info().faiss == "searched exactly"
    store.add(nodes_of(vectors[9_900:], 9_900))
    store.snapshot()
    assert recall_of(store, vectors) >= least
    assert store.info().faiss != "searched exactly"
    recall = store.info().recall
    assert recall is not None
    assert recall < 0.999
    for question in QUESTIONS[:5]:
        result = store.query(ask(question.tolist(), 10))
        true = exact("cosine", question, vectors)
        assert result.similarities == pytest.approx([float(true[int(name[1:])]) for name in result.ids or []], rel=1e-4)
    assert len(numbers(store, QUESTIONS[0], 20_000)) == 10_500
    half = numbers(store, QUESTIONS[0], 5_000, filters=where("half", 1))
    assert (len(half), {number % 2 for number in half}) == (5_000, {1})
    store.close()


# ---------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("index", "precision", "message"),
    [
        (
            "HNSW32_SQ8",
            "int8",
            "precision: int8 is for index Flat, HNSW or IVF; the factory string 'HNSW32_SQ8' has its own precision, "
            "as in 'HNSW32_SQ8' or 'IVF1024,SQfp16'",
        ),
        (
            "IVF8,Flat",
            "float16",
            "precision: float16 is for index Flat, HNSW or IVF; the factory string 'IVF8,Flat' has its own "
            "precision, as in 'HNSW32_SQ8' or 'IVF1024,SQfp16'",
        ),
        (
            "flat",
            "float32",
            "FAISS has no index 'flat'; valid are Flat, HNSW, IVF, and the strings of "
            "https://github.com/facebookresearch/faiss/wiki/The-index-factory",
        ),
        (
            "IVFF8,Flat",
            "float32",
            "FAISS has no index 'IVFF8,Flat'; valid are Flat, HNSW, IVF, and the strings of "
            "https://github.com/facebookresearch/faiss/wiki/The-index-factory",
        ),
    ],
    ids=["int8 and a factory string", "float16 and a factory string", "misspelt", "misspelt list"],
)
def test_an_index_that_faiss_does_not_know_is_refused_when_the_store_is_made(
    tmp_path: Path, index: str, precision: Any, message: str
) -> None:
    with pytest.raises(StoreError) as caught:
        FaissStore(tmp_path / "index", index=index, precision=precision)
    assert " ".join(str(caught.value).split()) == message


@pytest.mark.parametrize("index", ["", ",", "IVF", "HNSW", "IVF0,Flat", "Flat,Flat", "IDMap,IDMap,Flat", "\x00"])
def test_an_odd_index_is_a_store_error_or_works(tmp_path: Path, index: str) -> None:
    try:
        store = FaissStore(tmp_path / "index", index=index, lexical=False)
    except StoreError:
        return
    store.add(nodes_of(VECTORS[:1200]))
    store.snapshot()
    assert numbers(store, VECTORS[3], 1) == [3]
    store.close()


@pytest.mark.parametrize(("index", "dimension"), [("IVF4,PQ5", 100), ("PQ25", 300), ("OPQ5,PQ5", 100)])
def test_an_index_that_fits_the_vectors_is_not_refused_for_another_length(
    tmp_path: Path, index: str, dimension: int
) -> None:
    faiss.index_factory(dimension, index)  # FAISS has nothing against it
    store = FaissStore(tmp_path / "index", index=index, lexical=False)
    store.add(nodes_of(clustered(30, 1, dimension)))
    assert len(store) == 30


@pytest.mark.parametrize("index", ["PCA64,Flat", "PQ5", "IVF4,PQ48"])
def test_an_index_that_does_not_fit_the_vectors_is_a_store_error(tmp_path: Path, index: str) -> None:
    problem: StoreError | None = None
    try:
        store = FaissStore(tmp_path / "index", index=index, lexical=False)
        store.add(nodes_of(clustered(9_990, 1)))
        store.snapshot()
        store.query(ask(QUESTIONS[0].tolist(), 3))
    except StoreError as error:
        problem = error
    assert problem is not None
    assert repr(index) in str(problem)


# ---------------------------------------------------------------------------------- snapshots


def files(path: Path) -> list[str]:
    return sorted(file.name for file in path.glob("vectors-*.faiss"))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows whose vectors were read from SQLite to fill an index."""
    rows: list[int] = []
    vectors_after = Database.vectors_after

    def spy(self: Database, *args: Any, **kwargs: Any) -> Any:
        for batch in vectors_after(self, *args, **kwargs):
            rows.extend(batch[0])
            yield batch

    monkeypatch.setattr(Database, "vectors_after", spy)
    return rows


@pytest.mark.parametrize("memory_map", [True, False], ids=["mapped", "read"])
@pytest.mark.parametrize("settings", [{}, *SOME.values()], ids=["Flat", *SOME])
def test_a_snapshot_saves_reading_the_vectors(
    path: Path, settings: dict[str, Any], memory_map: bool, read: list[int]
) -> None:
    first = FaissStore(path, lexical=False, memory_map=memory_map, **settings)
    before = [first.query(ask(question.tolist(), 10)) for question in QUESTIONS]
    first.snapshot()
    kept = first.info()
    first.add(nodes_of(VECTORS[:3] + 1, COUNT))
    first.delete_nodes(["n4"])
    first.close()
    read.clear()
    second = FaissStore(path, lexical=False, memory_map=memory_map, **settings)
    assert numbers(second, VECTORS[0] + 1, 1) == [COUNT]
    assert len(read) == 3  # what came after the snapshot
    second.delete_nodes([f"n{number}" for number in range(COUNT, COUNT + 3)])
    assert 4 not in numbers(second, VECTORS[4], 10)
    second.add(nodes_of(VECTORS[4:5], 4))
    after = [second.query(ask(question.tolist(), 10)) for question in QUESTIONS]
    # Not each one equal: what is written after the base is compared with exactly, and what is in it is not.
    shared = [len(set(one.ids or []) & set(two.ids or [])) for one, two in zip(before, after)]
    assert sum(shared) >= 0.95 * 10 * len(QUESTIONS)
    assert len(read) == 4
    assert (second.info().faiss, second.info().recall) == (kept.faiss, kept.recall)
    second.close()


@A_FEW
def test_mapped_or_read_a_snapshot_answers_the_same(path: Path, settings: dict[str, Any]) -> None:
    writer = FaissStore(path, lexical=False, **settings)
    writer.snapshot()
    writer.close()
    stores = [FaissStore(path, lexical=False, memory_map=mapped, **settings) for mapped in (True, False)]
    for question in QUESTIONS:
        one, two = (store.query(ask(question.tolist(), 20)) for store in stores)
        assert (one.ids, one.similarities) == (two.ids, two.similarities)
        one, two = (store.query(ask(question.tolist(), 20, filters=where("half", 0))) for store in stores)
        assert (one.ids, one.similarities) == (two.ids, two.similarities)
    for store in stores:
        store.close()


def test_one_snapshot_file_is_kept(path: Path) -> None:
    store = FaissStore(path, lexical=False)
    store.snapshot()
    (first,) = files(path)
    store.snapshot()
    assert files(path) == [first]  # nothing was written since
    store.add(nodes_of(VECTORS[:1] + 1, COUNT))
    store.snapshot()
    (second,) = files(path)
    assert second != first
    store.close()
    assert files(path) == [second]


def test_a_reader_goes_on_with_a_snapshot_that_was_replaced(path: Path) -> None:
    writer = FaissStore(path, lexical=False)
    writer.snapshot()
    (old,) = files(path)
    reader = FaissStore(path, lexical=False)
    assert numbers(reader, VECTORS[9], 1) == [9]
    writer.delete_nodes(["n9"])
    writer.add(nodes_of(VECTORS[9:10] * np.float32(1.0), COUNT))
    writer.snapshot()
    assert old not in files(path)
    for number in range(0, COUNT, 250):
        assert numbers(reader, VECTORS[number], 1) == [number]
    assert numbers(reader, VECTORS[9], 1) == [COUNT]
    assert len(numbers(reader, VECTORS[9], 2 * COUNT)) == COUNT
    reader.close()
    writer.close()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"index": "Flat"}, {"index": "HNSW"}),
        ({"index": "HNSW"}, {"index": "Flat"}),
        ({"index": "HNSW"}, {"index": "IVF"}),
        ({"index": "IVF"}, {"index": "IVF", "metric": "l2"}),
        ({"index": "Flat"}, {"index": "Flat", "metric": "inner_product"}),
        ({"index": "Flat"}, {"index": "Flat", "precision": "int8"}),
        ({"index": "IVF", "precision": "int8"}, {"index": "IVF", "precision": "float32"}),
        ({"index": "IVF", "recall": 0.5}, {"index": "IVF", "recall": 0.99}),
    ],
    ids=str,
)
def test_other_settings_on_reopening_make_it_anew_from_the_vectors_in_sqlite(
    path: Path, first: dict[str, Any], second: dict[str, Any]
) -> None:
    store = FaissStore(path, lexical=False, **first)
    numbers(store, QUESTIONS[0], 1)
    store.snapshot()
    (old,) = files(path)
    store.close()
    store = FaissStore(path, lexical=False, **second)
    store.snapshot()
    assert recall_of(store, VECTORS) >= 0.95 - SLACK
    for question in QUESTIONS[:3]:
        result = store.query(ask(question.tolist(), 10))
        true = exact(store.metric, question, VECTORS)
        assert result.similarities == pytest.approx(
            [float(true[int(name[1:])]) for name in result.ids or []], rel=1e-4, abs=1e-5
        )
    made = store.info().faiss
    (new,) = files(path)
    assert new != old
    store.close()
    store = FaissStore(path, lexical=False, **second)
    numbers(store, QUESTIONS[0], 1)
    plain = second == {"index": "Flat"} or second == {"index": "Flat", "metric": "inner_product"}
    assert plain or store.info().faiss == made
    assert store.info().not_in_snapshot == 0
    store.close()


def test_two_stores_of_two_kinds_on_one_directory_answer_right(path: Path) -> None:
    flat, graph = FaissStore(path, lexical=False), FaissStore(path, lexical=False, index="HNSW")
    for turn in range(3):
        flat.add(nodes_of(VECTORS[turn : turn + 1] + 3, COUNT + turn))
        for store in (flat, graph, flat):
            store.snapshot()
            assert numbers(store, VECTORS[turn] + 3, 1) == [COUNT + turn]
            assert len(numbers(store, QUESTIONS[0], 2 * COUNT)) == COUNT + turn + 1
    flat.close()
    graph.close()
    assert len(files(path)) == 1

"""The FAISS store as a LlamaIndex vector store: contract, scores, isolation, threads, and a model beside it."""

from __future__ import annotations

import asyncio
import datetime
import gc
import inspect
import json
import math
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from llama_index.core import Document, StorageContext, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.callbacks import CallbackManager
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import (
    BaseNode,
    ImageNode,
    IndexNode,
    MediaResource,
    Node,
    TextNode,
)
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from rag_plugin.components.registry.find import find
from rag_plugin.errors import IndexLocked, StoreError, UnsupportedQuery
from rag_plugin.faiss_store import FaissStore
from rag_plugin.faiss_store.settings import FaissSettings
from rag_plugin.faiss_store.vectors.vector_index import VectorIndex
from rag_plugin.protocols import DocumentRecord, FailureRecord
from tests.faiss_store.nodes import FULL, METRICS, Vector, agrees, ask, make, vector, where
from tests.processes import PROCESSES


class Sync:
    """The store's methods as they are."""

    def __init__(self, store: FaissStore) -> None:
        self.add, self.delete, self.delete_nodes = store.add, store.delete, store.delete_nodes
        self.get_nodes, self.clear, self.query = store.get_nodes, store.clear, store.query


class Async:
    """The store's asynchronous methods, each run to its end."""

    def __init__(self, store: FaissStore) -> None:
        def ended(method: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *args, **kwargs: asyncio.run(method(*args, **kwargs))

        self.add, self.delete, self.delete_nodes = (
            ended(store.async_add),
            ended(store.adelete),
            ended(store.adelete_nodes),
        )
        self.get_nodes, self.clear, self.query = ended(store.aget_nodes), ended(store.aclear), ended(store.aquery)


@pytest.fixture(params=[Sync, Async], ids=["sync", "async"])
def api(request: pytest.FixtureRequest, store: FaissStore) -> Any:
    """The store through its synchronous and through its asynchronous methods."""
    return request.param(store)


# ---------------------------------------------------------------------------------- LlamaIndex's contract


def test_what_is_added_is_found(api: Any) -> None:
    assert api.add([make("a", 1), make("b", 2)]) == ["a", "b"]
    result = api.query(ask(2, top_k=1))
    assert (result.ids, [node.text for node in result.nodes]) == (["b"], ["text of b"])
    assert result.similarities == [pytest.approx(1.0)]


def test_deleting_a_document_removes_all_its_nodes_and_no_others(api: Any) -> None:
    api.add([make("a1", 1, "a"), make("a2", 2, "a"), make("b1", 3, "b"), make("free", 4)])
    api.delete("a")
    assert [node.node_id for node in api.get_nodes()] == ["b1", "free"]
    assert set(api.query(ask(1, top_k=9)).ids) == {"b1", "free"}
    api.delete("never heard of")
    assert len(api.get_nodes()) == 2


def test_nodes_are_deleted_by_id(api: Any) -> None:
    api.add([make("a", 1), make("b", 2), make("c", 3)])
    api.delete_nodes(["a", "c", "unknown"])
    assert api.query(ask(1, top_k=9)).ids == ["b"]


def test_nodes_are_deleted_by_filter(api: Any) -> None:
    api.add([make("a", 1, year=2020), make("b", 2, year=2021), make("c", 3, year=2022)])
    api.delete_nodes(filters=where("year", 2021, FilterOperator.GTE))
    assert [node.node_id for node in api.get_nodes()] == ["a"]


def test_ids_and_filters_together_delete_what_both_name(api: Any) -> None:
    api.add([make("a", 1, kind="x"), make("b", 2, kind="x"), make("c", 3, kind="y")])
    api.delete_nodes(["a", "c"], where("kind", "x"))
    assert [node.node_id for node in api.get_nodes()] == ["b", "c"]


@pytest.mark.parametrize(
    "given",
    [{}, {"filters": MetadataFilters(filters=[])}, {"node_ids": None, "filters": None}],
    ids=["nothing", "empty filters", "None"],
)
def test_deleting_nodes_without_ids_and_filters_deletes_nothing(api: Any, given: dict[str, Any]) -> None:
    api.add([make("a")])
    api.delete_nodes(**given)
    assert len(api.get_nodes()) == 1


def test_an_empty_list_of_ids_deletes_and_gets_nothing(api: Any) -> None:
    api.add([make("a", kind="x")])
    api.delete_nodes([])
    api.delete_nodes([], where("kind", "x"))
    assert api.get_nodes([]) == []
    assert [node.node_id for node in api.get_nodes()] == ["a"]


def test_nodes_are_got_by_id_in_the_order_asked_for(api: Any) -> None:
    api.add([make(name) for name in "abcd"])
    assert [node.node_id for node in api.get_nodes(["d", "a", "unknown", "c", "a"])] == ["d", "a", "c"]


def test_nodes_are_got_by_filter(api: Any) -> None:
    api.add([make("a", kind="x"), make("b", kind="y"), make("c")])
    assert [node.node_id for node in api.get_nodes(filters=where("kind", "x"))] == ["a"]
    assert [node.node_id for node in api.get_nodes(["a", "b"], where("kind", "y"))] == ["b"]
    assert len(api.get_nodes(filters=MetadataFilters(filters=[]))) == 3


def test_more_ids_than_one_sql_statement_holds_are_no_problem(api: Any) -> None:
    names = [f"n{number}" for number in range(1203)]
    api.add([make(name, number, document=f"d{number % 2}") for number, name in enumerate(names)])
    assert [node.node_id for node in api.get_nodes(names[::-1])] == names[::-1]
    assert len(api.query(ask(1, top_k=2000, node_ids=names)).ids) == 1203
    api.delete_nodes(names[3:])
    assert [node.node_id for node in api.get_nodes()] == names[:3]


def test_clear_removes_everything_and_the_store_can_be_filled_again(api: Any, path: Path) -> None:
    api.add([make("a", 1), make("b", 2)])
    api.clear()
    assert (api.get_nodes(), api.query(ask(1)).ids) == ([], [])
    api.add([TextNode(id_="wide", text="of another length", embedding=[1.0] * 9)])
    assert api.query(ask([1.0] * 9)).ids == ["wide"]


def test_clear_also_removes_a_sync_that_never_finished(store: FaissStore) -> None:
    generation = store.open_generation({"encoder": "x"}, lambda old, new: old == new)
    store.commit(generation, [(DocumentRecord("d", "hash", None, "recipe"), [make("a", 1, "d")])])
    assert (store.is_first_sync_unfinished(), len(store)) == (True, 0)
    store.clear()
    assert (store.is_first_sync_unfinished(), store.document_records(generation), len(store)) == (False, {}, 0)


def test_failure_records_are_those_of_the_last_finish_of_a_generation(store: FaissStore, path: Path) -> None:
    failures = [FailureRecord(name, "token", "no text") for name in ("a", "\ud83d b")]  # SQLite stores no surrogate
    first = store.open_generation({"encoder": "x"}, lambda old, new: old == new)
    assert store.failure_records(first) == {}
    store.finish(first, {"encoder": "x"}, failures)
    second = FaissStore(path)
    assert second.failure_records(first) == {failure.id: failure for failure in failures}
    assert (len(second), second.info().documents, second.document_records(first)) == (0, 0, {})
    other = store.open_generation({"encoder": "y"}, lambda old, new: old == new)
    assert store.failure_records(other) == {}
    store.finish(first, {"encoder": "x"}, failures[:1])
    assert list(second.failure_records(first)) == ["a"]
    store.clear()
    assert second.failure_records(second.live_generation() or 0) == {}
    second.close()


def test_an_empty_store_answers_everything(api: Any, path: Path) -> None:
    assert (api.get_nodes(), api.get_nodes(["a"]), api.query(ask(1)).ids) == ([], [], [])
    api.delete("a")
    api.delete_nodes(["a"])
    api.clear()
    assert not path.exists()


def test_adding_no_nodes_is_no_error(api: Any) -> None:
    assert api.add([]) == []
    assert (api.get_nodes(), api.query(ask(1)).ids) == ([], [])


def test_an_added_id_replaces_the_node_of_that_id(api: Any, store: FaissStore) -> None:
    api.add([make("a", 1, "first", text="old"), make("b", 2)])
    api.add([make("a", 3, "second", text="new")])
    result = api.query(ask(1, top_k=9))
    assert sorted(result.ids) == ["a", "b"]
    assert api.query(ask(3, top_k=1)).nodes[0].text == "new"
    api.delete("first")
    assert len(store) == 2
    api.delete("second")
    assert (len(store), store.client.ntotal) == (1, 1)


def test_an_id_given_twice_in_one_call_is_there_once_as_given_last(api: Any, store: FaissStore) -> None:
    api.add([make("a", 1, text="first"), make("a", 2, text="last")])
    assert [node.text for node in api.get_nodes()] == ["last"]
    assert api.query(ask(2, top_k=9)).similarities == [pytest.approx(1.0)]
    assert store.client.ntotal == 1


def test_deleting_and_adding_never_gives_another_nodes_text(store: FaissStore) -> None:
    # FaissMapVectorStore takes `ntotal` for the next id and then answers with the wrong node.
    store.add([make(f"n{number}", number) for number in range(3)])
    store.delete_nodes(["n0"])
    store.add([make("n3", 3)])
    store.delete_nodes(["n3"])  # the highest row is gone: its number may not come again
    store.add([make("n4", 4)])
    for name, number in (("n1", 1), ("n2", 2), ("n4", 4)):
        result = store.query(ask(number, top_k=1))
        assert (result.ids, result.nodes and result.nodes[0].text) == ([name], f"text of {name}")  # type: ignore[attr-defined]


# ---------------------------------------------------------------------------------- queries


@pytest.fixture
def three(store: FaissStore) -> FaissStore:
    store.add([make("a", 1, "x", year=1), make("b", 2, "x", year=2), make("c", 3, "y", year=3)])
    return store


@pytest.mark.parametrize(
    ("restrictions", "expected"),
    [
        ({"node_ids": ["a", "c", "unknown"]}, "ac"),
        ({"node_ids": ["unknown"]}, ""),
        ({"doc_ids": ["x"]}, "ab"),
        ({"doc_ids": ["unknown"]}, ""),
        ({"filters": where("year", 2, FilterOperator.GT)}, "c"),
        ({"node_ids": ["a", "c"], "doc_ids": ["x"]}, "a"),
        ({"doc_ids": ["x"], "filters": where("year", 2)}, "b"),
        ({"node_ids": ["a"], "filters": where("year", 2)}, ""),
        ({"node_ids": []}, "abc"),
        ({"doc_ids": []}, ""),
        ({"node_ids": [], "doc_ids": []}, ""),
        ({"filters": MetadataFilters(filters=[])}, "abc"),
        ({}, "abc"),
    ],
    ids=[
        "ids", "unknown id", "document", "unknown document", "filter", "ids and document", "document and filter",
        "ids and filter", "no ids", "no documents", "empty lists", "empty filters", "nothing",
    ],
)  # fmt: skip
def test_a_query_is_restricted_by(three: FaissStore, restrictions: dict[str, Any], expected: str) -> None:
    result = three.query(ask(1, top_k=9, **restrictions))
    assert sorted(result.ids or []) == list(expected)


@pytest.mark.parametrize(
    ("metadata_filter", "expected"),
    [
        (MetadataFilter(key="n", value=2, operator=FilterOperator.EQ), "b"),
        (MetadataFilter(key="n", value=2, operator=FilterOperator.NE), "acd"),
        (MetadataFilter(key="n", value=2, operator=FilterOperator.LT), "a"),
        (MetadataFilter(key="n", value=2, operator=FilterOperator.LTE), "ab"),
        (MetadataFilter(key="n", value=[1, 3], operator=FilterOperator.IN), "ac"),
        (MetadataFilter(key="n", value=[1, 3], operator=FilterOperator.NIN), "bd"),
        (MetadataFilter(key="tags", value="red", operator=FilterOperator.CONTAINS), "ab"),
        (MetadataFilter(key="tags", value=["red", "big"], operator=FilterOperator.ALL), "a"),
        (MetadataFilter(key="tags", value=["big", "sad"], operator=FilterOperator.ANY), "ac"),
        (MetadataFilter(key="word", value="Ä", operator=FilterOperator.TEXT_MATCH), "a"),
        (MetadataFilter(key="word", value="ä", operator=FilterOperator.TEXT_MATCH_INSENSITIVE), "ab"),
        (MetadataFilter(key="tags", value=None, operator=FilterOperator.IS_EMPTY), "d"),
    ],
    ids=lambda value: value.operator.name if isinstance(value, MetadataFilter) else value,
)
def test_every_filter_operator_works(store: FaissStore, metadata_filter: MetadataFilter, expected: str) -> None:
    store.add(
        [
            make("a", n=1, tags=["red", "big"], word="Ärger"),
            make("b", n=2, tags=["red"], word="ärgerlich"),
            make("c", n=3, tags=["sad"], word="ruhig"),
            make("d", word="leer"),
        ]
    )
    result = store.query(ask(1, top_k=9, filters=MetadataFilters(filters=[metadata_filter])))
    assert "".join(sorted(result.ids or [])) == expected


@pytest.mark.parametrize(
    ("condition", "expected"), [(FilterCondition.AND, "b"), (FilterCondition.OR, "abc"), (FilterCondition.NOT, "d")]
)
def test_filters_are_joined_by_their_condition(store: FaissStore, condition: FilterCondition, expected: str) -> None:
    store.add([make("a", n=1, k=1), make("b", n=1, k=2), make("c", n=2, k=2), make("d", n=3, k=3)])
    both = MetadataFilters(
        filters=[MetadataFilter(key="n", value=1), MetadataFilter(key="k", value=2)], condition=condition
    )
    assert "".join(sorted(store.query(ask(1, top_k=9, filters=both)).ids or [])) == expected


def test_filters_inside_filters_are_taken_together(three: FaissStore) -> None:
    years = {node.metadata["year"]: node.node_id for node in three.get_nodes()}
    first, second = sorted(years)[:2]
    either = MetadataFilters(filters=[where("year", first), where("year", second)], condition=FilterCondition.OR)
    but = MetadataFilters(filters=[where("year", second)], condition=FilterCondition.NOT)
    nested = MetadataFilters(filters=[either, but], condition=FilterCondition.AND)
    assert three.query(ask(1, top_k=3, filters=nested)).ids == [years[first]]
    assert [node.node_id for node in three.get_nodes(filters=nested)] == [years[first]]
    three.delete_nodes(filters=nested)
    assert years[first] not in {node.node_id for node in three.get_nodes()}
    assert len(three) == 2


def test_a_filter_that_does_not_fit_the_metadata_is_a_clear_error(three: FaissStore) -> None:
    with pytest.raises(StoreError) as caught:
        three.query(ask(1, filters=where("year", "2020", FilterOperator.GT)))
    assert str(caught.value) == (
        "the filter on 'year' does not fit the metadata: '>' not supported between instances of 'int' and 'str'"
    )


@pytest.mark.parametrize(
    "mode",
    [mode for mode in VectorStoreQueryMode if mode.value in ("semantic_hybrid", "svm", "logistic_regression")],
    ids=lambda mode: mode.value,
)
def test_a_mode_that_is_not_there_is_refused(api: Any, path: Path, mode: VectorStoreQueryMode) -> None:
    with pytest.raises(UnsupportedQuery) as caught:
        api.query(ask(1, mode=mode))
    assert str(caught.value) == (
        f"{path}: this store does not support mode {mode.value!r}; "
        "it supports default, text_search, sparse, hybrid, mmr"
    )
    assert isinstance(caught.value, NotImplementedError)


@pytest.mark.parametrize("top_k", [0, -1])
def test_fewer_than_one_hit_cannot_be_asked_for(three: FaissStore, top_k: int) -> None:
    with pytest.raises(StoreError) as caught:
        three.query(ask(1, top_k=top_k))
    assert str(caught.value) == f"similarity_top_k has to be 1 or more, not {top_k}"


def test_more_hits_than_there_are_nodes_gives_all_of_them(three: FaissStore) -> None:
    result = three.query(ask(2, top_k=1000))
    assert result.ids is not None
    assert (len(result.ids), result.ids[0]) == (3, "b")
    assert result.similarities == sorted(result.similarities or [], reverse=True)


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (None, "the query has no vector"),
        ([1.0] * 5, "the query has a vector of dimension 5, and this index has dimension 6: the vectors are from "
         "another encoder"),
        ([], "the query has a vector of shape (0,); a list of numbers is expected"),
        ([[1.0] * 6], "the query has a vector of shape (1, 6); a list of numbers is expected"),
        ([math.nan] + [1.0] * 5, "the query has a vector with NaN or infinity in it"),
        ([math.inf] + [1.0] * 5, "the query has a vector with NaN or infinity in it"),
    ],
    ids=["none", "short", "empty", "matrix", "NaN", "infinity"],
)  # fmt: skip
def test_a_question_without_a_fitting_vector_is_a_clear_error(three: FaissStore, question: Any, message: str) -> None:
    query = VectorStoreQuery(similarity_top_k=1)
    query.query_embedding = question
    with pytest.raises(StoreError) as caught:
        three.query(query)
    assert str(caught.value) == message


@pytest.mark.parametrize("metric", METRICS)
def test_scores_are_similarities_and_agree_with_numpy(path: Path, metric: Any) -> None:
    store = FaissStore(path, metric=metric)
    random = np.random.default_rng(7)
    vectors = {f"n{number}": random.normal(size=24).astype(np.float32).tolist() for number in range(300)}
    store.add([TextNode(id_=name, text=name, embedding=given) for name, given in vectors.items()])
    for _ in range(20):
        question = random.normal(size=24).astype(np.float32).tolist()
        result = store.query(ask(question, top_k=10))
        agrees(result, vectors, question, 10, metric)
        chosen = [f"n{number}" for number in random.choice(300, size=40, replace=False)]
        restricted = store.query(ask(question, top_k=10, node_ids=chosen))
        agrees(restricted, {name: vectors[name] for name in chosen}, question, 10, metric)
        assert all(type(score) is float for score in result.similarities or [])
        json.dumps(result.similarities)


@pytest.mark.parametrize("metric", METRICS)
def test_the_same_vector_scores_highest(path: Path, metric: Any) -> None:
    store = FaissStore(path, metric=metric)
    given = {"same": [1.0, 0.0], "near": [0.9, 0.3], "far": [-1.0, 0.2]}
    store.add([TextNode(id_=name, text=name, embedding=numbers) for name, numbers in given.items()])
    assert store.query(ask([1.0, 0.0])).ids == ["same", "near", "far"]


def test_a_vector_of_zeros_scores_zero_by_cosine(store: FaissStore) -> None:
    store.add(
        [TextNode(id_="zeros", text="z", embedding=[0.0, 0.0]), TextNode(id_="a", text="a", embedding=[3.0, 4.0])]
    )
    assert store.query(ask([3.0, 4.0])).similarities == [pytest.approx(1.0), 0.0]
    assert store.query(ask([0.0, 0.0])).similarities == [0.0, 0.0]


def test_one_index_opens_with_every_metric(path: Path) -> None:
    nodes = {f"n{number}": vector(number) for number in range(20)}
    FaissStore(path, metric="l2").add([TextNode(id_=name, text=name, embedding=v) for name, v in nodes.items()])
    for metric in METRICS:
        agrees(FaissStore(path, metric=metric).query(ask(99, top_k=5)), nodes, vector(99), 5, metric)


def test_a_query_sees_one_commit_wholly(store: FaissStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Between the search in FAISS and the look-up of the texts, another process renews every node.
    store.add([make(f"n{number}", number, "d", text="old") for number in range(5)])
    other, search = FaissStore(path), VectorIndex.search

    def interrupted(self: VectorIndex, *args: Any) -> Any:
        found = search(self, *args)
        monkeypatch.undo()
        other.add([make(f"n{number}", number, "d", text="new") for number in range(5)])
        return found

    monkeypatch.setattr(VectorIndex, "search", interrupted)
    result = store.query(ask(2, top_k=5))
    assert [node.text for node in result.nodes or []] == ["old"] * 5  # type: ignore[attr-defined]
    assert [node.text for node in store.query(ask(2, top_k=5)).nodes or []] == ["new"] * 5  # type: ignore[attr-defined]


# ---------------------------------------------------------------------------------- nodes and what they hold


@pytest.mark.parametrize(
    "node",
    [
        FULL,
        TextNode(id_="empty", text=""),
        Document(id_="document", text="a whole document", metadata={"k": 1}),
        Node(
            id_="media", text_resource=MediaResource(text="words"), image_resource=MediaResource(url="http://x/y.png")
        ),
        ImageNode(id_="image", text="a caption", image="aGVsbG8=", image_mimetype="image/png"),
        ImageNode(id_="link", image_url="http://x/y.png"),
        IndexNode(id_="pointer", text="see there", index_id="there"),
        IndexNode(id_="object", text="see there", index_id="there", obj=TextNode(id_="inner", text="inner")),
    ],
    ids=lambda node: node.node_id,
)
def test_a_node_comes_back_as_it_was(store: FaissStore, path: Path, node: BaseNode) -> None:
    given = node.model_copy(deep=True)
    given.embedding = vector(1)
    store.add([given])
    found = store.query(ask(1, top_k=1)).nodes
    for back in (*(found or []), *store.get_nodes(), *FaissStore(path).get_nodes()):
        assert type(back) is type(node)
        assert back == node
        assert back.get_content() == node.get_content()
        assert back.ref_doc_id == node.ref_doc_id
        if isinstance(node, ImageNode):
            assert (back.image, back.image_url) == (node.image, node.image_url)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (datetime.datetime(2024, 1, 1), "Object of type datetime is not JSON serializable"),
        (datetime.date(2024, 1, 1), "Object of type date is not JSON serializable"),
        ({1, 2}, "Object of type set is not JSON serializable"),
        (np.float32(1), "Object of type float32 is not JSON serializable"),
        (np.int64(1), "Object of type int64 is not JSON serializable"),
        (b"raw", "Object of type bytes is not JSON serializable"),
        (Path("x"), f"Object of type {type(Path('x')).__name__} is not JSON serializable"),
        (math.nan, "Out of range float values are not JSON compliant"),
        ({"deep": [math.inf]}, "Out of range float values are not JSON compliant"),
    ],
    ids=["datetime", "date", "set", "float32", "int64", "bytes", "path", "NaN", "nested infinity"],
)
def test_metadata_that_json_cannot_hold_is_refused_and_nothing_is_written(
    api: Any, store: FaissStore, value: Any, reason: str
) -> None:
    api.add([make("before")])
    with pytest.raises(StoreError) as caught:
        api.add([make("good"), make("bad", 2, fine=1, odd=value), make("also good")])
    # Newer Pythons put the number behind the reason.
    assert str(caught.value).startswith(f"node 'bad' has metadata 'odd' that JSON cannot represent: {reason}")
    assert [node.node_id for node in api.get_nodes()] == ["before"]
    api.add([make("after")])
    assert len(store) == 2


@pytest.mark.parametrize(
    "node",
    [TextNode(id_="n", text="cut \ud83d off"), TextNode(id_="n", text="t", metadata={"k": ["\udc00"]})],
    ids=["text", "metadata"],
)
def test_text_that_no_encoding_holds_is_a_clear_error(store: FaissStore, node: TextNode) -> None:
    given = node.model_copy()
    given.embedding = vector(1)
    with pytest.raises(StoreError) as caught:
        store.add([given])
    assert str(caught.value) == "node 'n' contains a lone surrogate, which UTF-8 cannot encode"


@pytest.mark.parametrize(
    ("embedding", "message"),
    [
        (None, "node 'bad' has no vector"),
        (
            [1.0, 2.0],
            "node 'bad' has a vector of dimension 2, and this index has dimension 6: "
            "the vectors are from another encoder",
        ),
        ([], "node 'bad' has a vector of shape (0,); a list of numbers is expected"),
        ([math.nan] * 6, "node 'bad' has a vector with NaN or infinity in it"),
        ([1e39] * 6, "node 'bad' has a vector with NaN or infinity in it"),
    ],
    ids=["none", "short", "empty", "NaN", "too large for float32"],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
def test_a_node_without_a_fitting_vector_is_refused_and_nothing_is_written(
    store: FaissStore, embedding: Any, message: str
) -> None:
    bad = TextNode(id_="bad", text="bad")
    bad.embedding = embedding
    with pytest.raises(StoreError) as caught:
        store.add([make("first"), bad])
    assert str(caught.value) == message
    assert len(store) == 0
    store.add([make("again")])
    assert store.query(ask(1)).ids == ["again"]


def test_a_node_given_to_add_is_not_changed(store: FaissStore) -> None:
    node = make("a", 1, "d", k=[1])
    copy = node.model_copy(deep=True)
    store.add([node])
    assert node == copy


# ---------------------------------------------------------------------------------- settings

SETTINGS = ["index", "metric", "lexical", "language", "precision", "memory_map", "rescore", "recall", "cache_size"]


def test_the_signature_lists_the_settings_with_their_defaults() -> None:
    path, *parameters = inspect.signature(FaissStore).parameters.values()
    assert (path.name, [parameter.name for parameter in parameters]) == ("path", SETTINGS)
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters)
    assert {p.name: p.default for p in parameters} == FaissSettings().model_dump()


def test_the_component_has_the_settings_of_the_store() -> None:
    fields = dict(find("store", "faiss").schema.model_fields)
    assert fields.pop("path").is_required()
    assert {name: field.default for name, field in fields.items()} == FaissSettings().model_dump()
    assert all(field.description for field in fields.values())


def test_a_setting_that_does_not_exist_is_refused_with_those_that_do(path: Path) -> None:
    with pytest.raises(TypeError) as caught:
        FaissStore(path, metrik="l2")
    assert str(caught.value) == f"FaissStore has no setting metrik; it has {', '.join(SETTINGS)}"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metric": "dot"}, "metric: Input should be 'cosine', 'inner_product' or 'l2', not 'dot'"),
        ({"precision": "int4"}, "precision: Input should be 'float32', 'float16' or 'int8', not 'int4'"),
        ({"recall": 0}, "recall: Input should be greater than 0, not 0"),
        ({"recall": math.nan}, "recall: Input should be less than or equal to 1, not nan"),
        ({"cache_size": -1}, "cache_size: Input should be greater than or equal to 0, not -1"),
        (
            {"recall": 2, "index": ""},
            "index: String should have at least 1 character, not ''; "
            "recall: Input should be less than or equal to 1, not 2",
        ),
    ],
    ids=["metric", "precision", "recall", "NaN", "cache_size", "two"],
)
def test_an_invalid_value_of_a_setting_is_refused_with_its_name(
    path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(StoreError) as caught:
        FaissStore(path, **settings)
    assert str(caught.value) == message


def test_the_settings_can_be_imported_without_faiss() -> None:
    code = "import sys; import rag_plugin.faiss_store.settings; print([name for name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert "'pydantic'" in done.stdout
    assert not [name for name in ("'faiss'", "'llama_index.core'") if name in done.stdout]


def test_the_location_is_the_path_as_text(store: FaissStore, path: Path) -> None:
    assert store.location == str(path)


# ---------------------------------------------------------------------------------- files, processes, locks


def test_making_a_store_touches_nothing(tmp_path: Path) -> None:
    store = FaissStore(tmp_path / "not" / "there")
    assert (len(store), bool(store), store.client) == (0, True, None)
    assert (store.get_nodes(), store.query(ask(1)).ids) == ([], [])
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_reading_writes_nothing(store: FaissStore, path: Path) -> None:
    store.add([make("a", 1)])
    store.close()
    before = (path / "index.sqlite").read_bytes()
    other = FaissStore(path)
    other.query(ask(1))
    other.get_nodes()
    other.close()
    assert (path / "index.sqlite").read_bytes() == before


def test_what_was_written_is_there_after_opening_again(path: Path) -> None:
    first = FaissStore(path)
    first.add([make(f"n{number}", number) for number in range(50)])
    first.delete_nodes(["n7"])
    first.close()
    second = FaissStore(path)
    assert len(second) == 49
    assert second.query(ask(8, top_k=1)).ids == ["n8"]
    assert "n7" not in (second.query(ask(7, top_k=50)).ids or [])


def test_a_closed_store_opens_again_by_itself(store: FaissStore) -> None:
    store.add([make("a", 1)])
    store.close()
    store.close()
    assert store.query(ask(1)).ids == ["a"]
    store.close()
    store.add([make("b", 2)])
    assert len(store) == 2


def test_a_store_sees_what_another_one_commits(path: Path) -> None:
    one, two = FaissStore(path), FaissStore(path)
    assert two.query(ask(1)).ids == []
    one.add([make("a", 1, "d"), make("b", 2)])
    assert two.query(ask(1, top_k=1)).ids == ["a"]
    two.delete("d")
    assert (one.query(ask(1)).ids, len(one)) == (["b"], 1)
    one.clear()
    assert (two.query(ask(1)).ids, two.get_nodes(), len(two)) == ([], [], 0)
    two.add([make("c", 3)])
    assert one.query(ask(1)).ids == ["c"]


def _answer(path: Path, pipe: Any) -> None:
    """In another process: what a store says that stays open all the time."""
    store = FaissStore(path)
    while (seed := pipe.recv()) is not None:
        pipe.send((store.query(ask(seed, top_k=100)).ids, len(store)))
    store.add([make("from the other process", 1000)])
    store.close()


def test_another_process_sees_every_commit_without_opening_again(store: FaissStore, path: Path) -> None:
    here, there = PROCESSES.Pipe()
    process = PROCESSES.Process(target=_answer, args=(path, there))
    process.start()
    there.close()

    def answer() -> tuple[list[str], int]:
        here.send(1)
        assert here.poll(60)
        ids, count = here.recv()
        return sorted(ids), count

    assert answer() == ([], 0)
    store.add([make("a", 1), make("b", 2)])
    assert answer() == (["a", "b"], 2)
    store.delete_nodes(["a"])
    assert answer() == (["b"], 1)
    store.clear()
    assert answer() == ([], 0)
    here.send(None)
    process.join(60)
    assert (process.exitcode, store.query(ask(1000)).ids) == (0, ["from the other process"])


def _hold(path: Path, pipe: Any) -> None:
    """In another process: be the writer until told to stop."""
    store = FaissStore(path)
    with store.writing():
        pipe.send("writing")
        pipe.recv()
    pipe.send("ended")


def test_a_second_writer_is_told_who_writes(store: FaissStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add([make("a", 1)])
    here, there = PROCESSES.Pipe()
    process = PROCESSES.Process(target=_hold, args=(path, there))
    process.start()
    there.close()
    assert here.poll(60)
    assert here.recv() == "writing"
    holder = json.loads((path / "writer.json").read_text())
    monkeypatch.setattr("rag_plugin.faiss_store.locks.writer_lock.LOCK_SECONDS", 0.2)
    for write in (lambda: store.add([make("b", 2)]), lambda: store.delete("a"), store.clear):
        with pytest.raises(IndexLocked) as caught:
            write()
        assert str(caught.value) == (
            f"{path} is being written to by process {process.pid} on {holder['host']} since {holder['since']}"
        )
    assert store.query(ask(1)).ids == ["a"]  # reading goes on
    here.send("stop")
    process.join(60)
    store.add([make("b", 2)])
    assert len(store) == 2


def test_a_second_writing_thread_is_told_so(store: FaissStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rag_plugin.faiss_store.locks.writer_lock.LOCK_SECONDS", 0.1)
    with store.writing(), ThreadPoolExecutor(1) as other:
        with pytest.raises(IndexLocked) as caught:
            other.submit(store.add, [make("a")]).result()
        assert str(caught.value) == f"{path} is being written to by another thread of this process"
        store.add([make("b", 1)])
        with store.writing():
            store.add([make("c", 1)])
    store.add([make("d", 1)])
    assert len(store) == 3


def test_a_lock_whose_holder_is_unknown_is_still_told(
    store: FaissStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rag_plugin.faiss_store.locks.writer_lock.LOCK_SECONDS", 0.1)
    with store.writing():
        (path / "writer.json").write_text("{half")
        with pytest.raises(IndexLocked) as caught:
            FaissStore(path).add([make("a")])
    assert str(caught.value) == f"{path} is being written to by another process"


def test_another_version_of_the_format_is_named(store: FaissStore, path: Path) -> None:
    store.add([make("a")])
    store.close()
    connection = sqlite3.connect(path / "index.sqlite")
    connection.execute("UPDATE meta SET value = '99' WHERE key = 'format'")
    connection.commit()
    connection.close()
    for use in (lambda: store.query(ask(1)), lambda: store.add([make("b")]), lambda: len(store)):
        with pytest.raises(StoreError) as caught:
            use()
        assert str(caught.value) == (
            f"{path / 'index.sqlite'} has format 99; this version of rag-plugin reads format 2: "
            "use the version that wrote it, or build a new index at another path"
        )


def test_a_file_that_is_no_sqlite_is_named_and_left_alone(store: FaissStore, path: Path) -> None:
    path.mkdir()
    (path / "index.sqlite").write_bytes(b"notes of mine\n" * 500)
    for use in (lambda: store.query(ask(1)), lambda: store.add([make("b")])):
        with pytest.raises(StoreError) as caught:
            use()
        assert str(caught.value) == (
            f"{path / 'index.sqlite'} cannot be opened: file is not a database; "
            "delete the directory; the next sync rebuilds it from the documents"
        )
    assert (path / "index.sqlite").read_bytes() == b"notes of mine\n" * 500


def test_an_sqlite_file_of_something_else_is_named_and_left_alone(store: FaissStore, path: Path) -> None:
    path.mkdir()
    connection = sqlite3.connect(path / "index.sqlite")
    connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()
    for use in (lambda: store.query(ask(1)), lambda: store.add([make("b")])):
        with pytest.raises(StoreError) as caught:
            use()
        assert str(caught.value) == f"{path / 'index.sqlite'} is not an index of this package: no such table: meta"
    connection = sqlite3.connect(path / "index.sqlite")
    assert [row[0] for row in connection.execute("SELECT name FROM sqlite_master")] == ["recipes"]
    connection.close()


@pytest.mark.parametrize("wal", [False, True], ids=["no byte", "header only"])
def test_a_file_that_was_only_begun_is_an_empty_index(store: FaissStore, path: Path, wal: bool) -> None:
    # What is there when the process ends, or another one looks, between the file's making and its tables'.
    path.mkdir()
    connection = sqlite3.connect(path / "index.sqlite")
    if wal:
        connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    (path / "index.sqlite").touch()
    assert (store.query(ask(1)).ids, len(store), store.live_fingerprint(), store.is_first_sync_unfinished()) == (
        [],
        0,
        None,
        False,
    )
    store.delete("a")
    store.add([make("a")])
    assert (store.query(ask(1)).ids, len(store)) == (["a"], 1)


def test_a_path_that_cannot_be_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError) as caught:
        FaissStore(tmp_path / "file" / "index").add([make("a")])
    assert str(caught.value) == f"{tmp_path / 'file' / 'index'} cannot be written to: Not a directory"


def test_a_full_disk_is_a_clear_error_and_the_last_commit_stays(store: FaissStore, path: Path) -> None:
    store.add([make("a", 1)])
    (database,) = store._directory._pool._idle
    database.connection.execute("PRAGMA max_page_count = 20")
    with pytest.raises(StoreError) as caught:
        store.add([make(f"n{number}", number, text="long " * 500) for number in range(200)])
    assert str(caught.value) == f"{path / 'index.sqlite'}: database or disk is full"
    assert store.query(ask(1)).ids == ["a"]
    database.connection.execute("PRAGMA max_page_count = 1000000")
    store.add([make("b", 2)])
    assert store.query(ask(2)).ids == ["b", "a"]


def test_a_damaged_file_is_a_clear_error(store: FaissStore, path: Path) -> None:
    store.add([make(f"n{number}", number, text="long " * 500) for number in range(100)])
    store.close()
    raw = bytearray((path / "index.sqlite").read_bytes())
    raw[4096 * 8 :] = b"\xee" * (len(raw) - 4096 * 8)
    (path / "index.sqlite").write_bytes(bytes(raw))
    with pytest.raises(StoreError) as caught:
        FaissStore(path).query(ask(1))
    assert str(caught.value) == f"{path / 'index.sqlite'}: database disk image is malformed"


def test_an_index_that_is_taken_away_or_replaced_is_noticed(store: FaissStore, path: Path, tmp_path: Path) -> None:
    store.add([make("a", 1)])
    shutil.rmtree(path)
    assert store.query(ask(1)).ids == []
    store.add([make("b", 2)])
    assert FaissStore(path).query(ask(1)).ids == ["b"]  # and not written where nobody finds it
    FaissStore(tmp_path / "other").add([make("c", 3)])
    shutil.rmtree(path)
    (tmp_path / "other").rename(path)
    assert store.query(ask(1)).ids == ["c"]


def test_an_interrupt_while_faiss_is_filled_leaves_it_right(
    store: FaissStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add([make(f"n{number}", number) for number in range(10)])
    add = VectorIndex.add

    def interrupted(self: VectorIndex, *args: Any) -> None:
        add(self, *args)
        raise KeyboardInterrupt

    other = FaissStore(path)
    monkeypatch.setattr(VectorIndex, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        other.query(ask(1))
    store.add([make("late", 99)])
    with pytest.raises(KeyboardInterrupt):
        store.query(ask(1))
    monkeypatch.undo()
    for each in (store, other):
        assert sorted(each.query(ask(1, top_k=100)).ids or []) == sorted(
            [f"n{number}" for number in range(10)] + ["late"]
        )


def test_nothing_is_left_open(path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sqlite3.connect", _Counted.connect)
        store = FaissStore(path)
        store.add([make("a", 1)])
        store.query(ask(1))
        store.close()
        (path / "index.sqlite").write_bytes(b"no database" * 100)
        with pytest.raises(StoreError):
            store.query(ask(1))
    gc.collect()
    assert _Counted.open == 0


class _Counted(sqlite3.Connection):
    open = 0
    _connect = staticmethod(sqlite3.connect)

    @classmethod
    def connect(cls, *args: Any, **kwargs: Any) -> sqlite3.Connection:
        cls.open += 1
        return cls._connect(*args, factory=cls, **kwargs)

    def close(self) -> None:
        type(self).open -= 1
        super().close()


# ---------------------------------------------------------------------------------- threads


def test_eight_threads_add_delete_and_query_at_once(store: FaissStore, path: Path) -> None:
    store.add([make(f"fixed {number}", 10_000 + number) for number in range(20)])
    other = FaissStore(path)
    problems: list[str] = []

    def work(thread: int) -> None:
        for turn in range(12):
            seeds = [thread * 1000 + turn * 10 + number for number in range(4)]
            document = f"{thread}/{turn}"
            mine = store if thread % 2 else other
            mine.add([make(f"{document}/{seed}", seed, document) for seed in seeds])
            for reader in (store, other):
                for seed in seeds:
                    found = reader.query(ask(seed, top_k=1)).ids
                    if found != [f"{document}/{seed}"]:
                        problems.append(f"{document}/{seed}: {found}")
            fixed = reader.query(ask(10_000 + turn, top_k=1))
            if fixed.ids != [f"fixed {turn}"] or fixed.nodes[0].text != f"text of fixed {turn}":  # type: ignore
                problems.append(f"fixed {turn}: {fixed.ids}")
            if turn % 2:
                mine.delete(document)
                if any(f"{document}/{seed}" in (store.query(ask(seed, top_k=3)).ids or []) for seed in seeds):
                    problems.append(f"{document} was deleted")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert problems == []
    assert len(store) == len(other) == 20 + 8 * 6 * 4
    assert store.client.ntotal == other.client.ntotal == len(store)


async def test_the_event_loop_goes_on_while_the_store_waits(store: FaissStore) -> None:
    store.add([make("a", 1)])
    release = threading.Event()

    def hold() -> None:
        with store._directory._memory_index_lock.writing():
            release.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    waiting = [asyncio.create_task(store.aquery(ask(1))), asyncio.create_task(store.aget_nodes())]
    await asyncio.sleep(0.05)  # would never come back if a method ran on the loop
    assert not any(task.done() for task in waiting)
    release.set()
    assert (await waiting[0]).ids == ["a"]
    assert len(await waiting[1]) == 1
    holder.join()


# ---------------------------------------------------------------------------------- inside LlamaIndex


class LexicalView(BaseEmbedding):
    """A bag of letters: the same text has the same vector, and a shared word brings texts together."""

    def _get_text_embedding(self, text: str) -> list[float]:
        counts = np.zeros(64, dtype=np.float32)
        for word in text.lower().split():
            counts[sum(word.encode()) % 64] += 1
        return counts.tolist()  # type: ignore[no-any-return]

    _get_query_embedding = _get_text_embedding

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


@pytest.fixture
def words() -> LexicalView:
    return LexicalView(callback_manager=CallbackManager([]))


def _index(store: FaissStore, encoder: BaseEmbedding) -> VectorStoreIndex:
    return VectorStoreIndex.from_vector_store(
        store, embed_model=encoder, callback_manager=encoder.callback_manager, transformations=[]
    )


def _best(index: VectorStoreIndex, question: str, **settings: Any) -> list[str]:
    return [hit.node.get_content() for hit in index.as_retriever(similarity_top_k=1, **settings).retrieve(question)]


def test_an_index_over_the_store_inserts_deletes_and_finds(store: FaissStore, words: LexicalView) -> None:
    index = _index(store, words)
    for number, text in enumerate(["red apples", "green pears", "blue plums"]):
        index.insert(Document(id_=f"d{number}", text=text, metadata={}))
    assert _best(index, "green pears") == ["green pears"]
    index.delete_ref_doc("d1")
    index.insert(Document(id_="d9", text="yellow quinces"))
    assert _best(index, "blue plums") == ["blue plums"]
    assert _best(index, "green pears") != ["green pears"]
    index.update_ref_doc(Document(id_="d0", text="grey apples"))
    assert _best(index, "grey apples") == ["grey apples"]
    assert len(store) == 3
    assert _best(index, "blue plums", doc_ids=["d0"]) == ["grey apples"]


def test_an_index_is_built_from_documents_into_the_store(store: FaissStore, path: Path, words: LexicalView) -> None:
    VectorStoreIndex.from_documents(
        [Document(id_="d", text="one two three. " * 40)],
        storage_context=StorageContext.from_defaults(vector_store=store),
        embed_model=words,
        callback_manager=words.callback_manager,
        transformations=[SentenceSplitter(chunk_size=40, chunk_overlap=0, callback_manager=words.callback_manager)],
    )
    again = FaissStore(path)
    assert len(again) > 3
    assert _best(_index(again, words), "one two three.")
    assert {node.ref_doc_id for node in again.get_nodes()} == {"d"}


def test_a_pipeline_with_upserts_leaves_the_right_nodes(store: FaissStore, words: LexicalView) -> None:
    pipeline = IngestionPipeline(
        transformations=[SentenceSplitter(callback_manager=words.callback_manager), words],
        vector_store=store,
        docstore=SimpleDocumentStore(),
        docstore_strategy=DocstoreStrategy.UPSERTS_AND_DELETE,
        disable_cache=True,
    )
    pipeline.run(documents=[Document(id_=f"d{n}", text=f"text number {n}") for n in range(3)])
    pipeline.run(documents=[Document(id_="d0", text="text number 0"), Document(id_="d1", text="changed")])
    assert sorted(node.get_content() for node in store.get_nodes()) == ["changed", "text number 0"]
    assert store.client.ntotal == 2


async def test_an_index_over_the_store_answers_asynchronously(store: FaissStore, words: LexicalView) -> None:
    index = _index(store, words)
    await index.ainsert(Document(id_="d", text="red apples"))
    hits = await index.as_retriever(similarity_top_k=5).aretrieve("red apples")
    assert [(hit.node.ref_doc_id, hit.score) for hit in hits] == [("d", pytest.approx(1.0))]
    await index.adelete_ref_doc("d")
    assert len(store) == 0


def test_an_empty_store_is_not_taken_for_none(store: FaissStore) -> None:
    assert StorageContext.from_defaults(vector_store=store).vector_store is store


# ---------------------------------------------------------------------------------- growth


def _cpu_seconds(work: Callable[[], Any]) -> float:
    """Processor time of this process, which other work on the machine does not change much."""
    started = time.process_time()
    work()
    return time.process_time() - started


@pytest.mark.slow
def test_one_long_document_is_not_quadratic(tmp_path: Path, words: LexicalView) -> None:
    def build(count: int) -> None:
        store = FaissStore(tmp_path / str(count))
        _index(store, words).insert_nodes([make(f"n{number}", number, "one document") for number in range(count)])
        assert len(store) == count

    build(10)
    small, large = _cpu_seconds(lambda: build(2000)), _cpu_seconds(lambda: build(8000))
    assert large < 8 * small + 0.5


@pytest.mark.slow
def test_single_inserts_are_not_quadratic(store: FaissStore, words: LexicalView) -> None:
    index = _index(store, words)
    nodes = [make(f"n{number}", number, f"d{number}") for number in range(4000)]

    def insert(part: list[TextNode]) -> None:
        for node in part:
            index.insert_nodes([node])

    first = _cpu_seconds(lambda: insert(nodes[:500]))
    insert(nodes[500:3500])
    last = _cpu_seconds(lambda: insert(nodes[3500:]))
    assert len(store) == 4000
    assert last < 3 * first + 1


# ---------------------------------------------------------------------------------- a model beside the store

NAMES = st.sampled_from([f"n{number}" for number in range(12)])
DOCUMENTS = st.sampled_from(["d0", "d1", "d2", None])
SMALL = st.lists(st.integers(-3, 3), min_size=3, max_size=3).map(lambda numbers: [float(number) for number in numbers])


class StoreBesideModel(RuleBasedStateMachine):
    """The store, a second store object on the same files, and a dictionary that says what both should hold."""

    @initialize(metric=st.sampled_from(METRICS))
    def open(self, metric: Any) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.metric = metric
        self.store = FaissStore(self.folder / "index", metric=metric)
        self.other = FaissStore(self.folder / "index", metric=metric)
        self.model: dict[str, tuple[str | None, Vector, int]] = {}
        self.turn = 0

    @rule(nodes=st.lists(st.tuples(NAMES, DOCUMENTS, SMALL), max_size=5), by_other=st.booleans())
    def add(self, nodes: list[tuple[str, str | None, Vector]], by_other: bool) -> None:
        self.turn += 1
        given = []
        for name, document, numbers in nodes:
            node = make(name, 0, document, text=f"{name} of turn {self.turn}", turn=self.turn)
            node.embedding = numbers
            given.append(node)
            self.model[name] = (document, numbers, self.turn)
        (self.other if by_other else self.store).add(given)

    @rule(document=DOCUMENTS.filter(bool), by_other=st.booleans())
    def delete_document(self, document: str, by_other: bool) -> None:
        (self.other if by_other else self.store).delete(document)
        self.model = {name: known for name, known in self.model.items() if known[0] != document}

    @rule(names=st.lists(NAMES, max_size=4))
    def delete_nodes(self, names: list[str]) -> None:
        self.store.delete_nodes(names)
        self.model = {name: known for name, known in self.model.items() if name not in names}

    @rule(data=st.data())
    def delete_by_filter(self, data: st.DataObject) -> None:
        turn = data.draw(st.integers(0, self.turn))
        self.store.delete_nodes(filters=where("turn", turn))
        self.model = {name: known for name, known in self.model.items() if known[2] != turn}

    @precondition(lambda self: self.turn > 3)
    @rule()
    def clear(self) -> None:
        self.store.clear()
        self.model = {}

    @rule()
    def open_again(self) -> None:
        self.store.close()
        self.store = FaissStore(self.folder / "index", metric=self.metric)

    @rule(question=SMALL, top_k=st.integers(1, 15), by_other=st.booleans())
    def query(self, question: Vector, top_k: int, by_other: bool) -> None:
        result = (self.other if by_other else self.store).query(ask(question, top_k=top_k))
        agrees(result, {name: known[1] for name, known in self.model.items()}, question, top_k, self.metric)
        for node in result.nodes or []:
            assert node.get_content() == f"{node.node_id} of turn {self.model[node.node_id][2]}"

    @rule(question=SMALL, names=st.lists(NAMES, min_size=1, max_size=4), document=DOCUMENTS)
    def query_some(self, question: Vector, names: list[str], document: str | None) -> None:
        documents = [document] if document else []
        result = self.store.query(ask(question, top_k=3, node_ids=names, doc_ids=documents))
        some = {name: known[1] for name, known in self.model.items() if name in names and document in (known[0], None)}
        agrees(result, some, question, 3, self.metric)

    @invariant()
    def both_hold_what_the_model_holds(self) -> None:
        if hasattr(self, "model"):
            expected = {name: known[0] for name, known in self.model.items()}
            for store in (self.store, self.other):
                assert len(store) == len(self.model)
                assert {node.node_id: node.ref_doc_id for node in store.get_nodes()} == expected

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.store.close()
            self.other.close()
            shutil.rmtree(self.folder)


StoreBesideModel.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestStoreBesideModel = pytest.mark.slow(StoreBesideModel.TestCase)

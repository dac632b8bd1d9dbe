"""Arguments and results of `FaissStore.query` that LlamaIndex's retrievers and apps rely on."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core.schema import MetadataMode
from llama_index.core.vector_stores.types import MetadataFilters, VectorStoreQuery, VectorStoreQueryMode

from rag_plugin.errors import StoreError
from rag_plugin.faiss_store import FaissStore

from .nodes import ask, by_words, make, similarity, vector, where


@pytest.fixture
def store(tmp_path: Any) -> FaissStore:
    store = FaissStore(tmp_path / "index")
    store.add(
        [
            make(f"n{number}", number, f"d{number % 3}", f"word{number} harbour", year=2000 + number)
            for number in range(12)
        ]
    )
    return store


def mmr(threshold: float | None = None, top_k: int = 4) -> VectorStoreQuery:
    return ask(3, top_k, mode=VectorStoreQueryMode.MMR, mmr_threshold=threshold)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 1.0])
def test_mmr_threshold_as_an_argument_wins_over_the_field(store: FaissStore, threshold: float) -> None:
    expected = store.query(mmr(threshold))
    assert store.query(mmr(0.9), mmr_threshold=threshold).similarities == expected.similarities
    assert store.query(mmr(), mmr_threshold=threshold).ids == expected.ids


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_mmr_threshold_as_an_argument_is_checked(store: FaissStore, value: float) -> None:
    with pytest.raises(StoreError, match="mmr_threshold has to be between 0 and 1"):
        store.query(mmr(), mmr_threshold=value)


def test_an_unknown_argument_is_refused_by_name(store: FaissStore) -> None:
    with pytest.raises(StoreError, match="unknown query argument mmr_treshold; valid are .*mmr_threshold"):
        store.query(mmr(), mmr_treshold=0.5)


@pytest.mark.parametrize("mode", ["default", "mmr", "hybrid", "text_search", "sparse"])
@pytest.mark.parametrize(
    ("restriction", "expected"),
    [
        ({"filters": where("year", 2004)}, ["n4"]),
        ({"doc_ids": ["d1"]}, ["n1", "n4", "n7"]),
        ({"filters": where("year", 1990)}, []),
        ({"node_ids": ["n8", "n2"], "filters": where("year", 2002)}, ["n2"]),
    ],
    ids=["filter", "document", "nothing passes", "ids and filter"],
)
def test_a_query_with_filters_and_no_vector_returns_what_they_allow(
    store: FaissStore, mode: str, restriction: dict[str, Any], expected: list[str]
) -> None:
    query = VectorStoreQuery(query_str="", similarity_top_k=3, mode=VectorStoreQueryMode(mode), **restriction)
    result = store.query(query)
    assert (result.ids, [node.node_id for node in result.nodes or []]) == (expected, expected)
    assert result.similarities is None or not expected


def test_a_query_without_vector_and_filters_is_an_error(store: FaissStore) -> None:
    for filters in (None, MetadataFilters(filters=[])):
        with pytest.raises(StoreError):
            store.query(VectorStoreQuery(similarity_top_k=3, filters=filters))


def test_embeddings_are_included_where_asked(store: FaissStore) -> None:
    for number, node in enumerate(store.get_nodes(include_embeddings=True)):
        assert node.embedding == pytest.approx(vector(number))
    (node,) = store.get_nodes(["n7"], include_embeddings=True)
    assert node.embedding == pytest.approx(vector(7))
    for query in (ask(5, 2), by_words("word5"), mmr(0.5)):
        hits = store.query(query, include_embeddings=True).nodes or []
        assert hits
        for hit in hits:
            assert hit.embedding == pytest.approx(vector(int(hit.node_id[1:])))
    assert store.query(ask(5, 2)).nodes[0].embedding is None  # type: ignore[index]
    assert store.get_nodes(["n7"])[0].embedding is None


@pytest.mark.parametrize("metric", ["cosine", "inner_product", "l2"])
@pytest.mark.parametrize("fusion", ["relative_score", "reciprocal_rank"])
def test_hybrid_hits_have_the_scores_of_both_legs(tmp_path: Any, metric: Any, fusion: str) -> None:
    store = FaissStore(tmp_path / "index", metric=metric)
    # 300 nodes: the best by words is outside of the 100 candidates by vectors, and most have none of the words.
    store.add([make(f"n{number}", number, text=f"word{number} {'tide' * (number % 50 == 0)}") for number in range(300)])
    query = VectorStoreQuery(
        query_embedding=vector(3), query_str="tide", similarity_top_k=20, mode=VectorStoreQueryMode.HYBRID, alpha=0.5
    )
    lexical = store.query(by_words("tide", 300))
    expected = dict(zip(lexical.ids or [], lexical.similarities or []))
    nodes = store.query(query, fusion=fusion).nodes or []
    assert {"n50", "n3"} <= {node.node_id for node in nodes}
    for node in nodes:
        own = vector(int(node.node_id[1:]))
        assert node.metadata["vector_score"] == pytest.approx(similarity(metric, own, vector(3)), rel=1e-4, abs=1e-5)
        assert node.metadata["lexical_score"] == pytest.approx(expected.get(node.node_id, 0.0), rel=1e-5)
        for mode in (MetadataMode.EMBED, MetadataMode.LLM):
            assert node.get_content(metadata_mode=mode) == store.get_nodes([node.node_id])[0].get_content(mode)
    assert "vector_score" not in store.query(ask(3)).nodes[0].metadata  # type: ignore[index]
    assert "vector_score" not in store.get_nodes(["n3"])[0].metadata
    assert type(nodes[0].metadata["vector_score"]) is float

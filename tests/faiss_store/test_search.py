"""Searching the store: by words, by both together, for variety, and under filters; each beside a literal reading."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from rag_plugin.errors import StoreError, UnsupportedQuery
from rag_plugin.faiss_store import FaissStore
from rag_plugin.faiss_store.lexical.analysis import LANGUAGES
from rag_plugin.protocols import DocumentRecord
from tests.faiss_store.nodes import METRICS, Vector, ask, by_words, found, make, similarity, vector, where
from tests.processes import PROCESSES

MODES = ["default", "text_search", "sparse", "hybrid", "mmr"]
WITH_WORDS = ["text_search", "sparse", "hybrid"]


def by_both(words: str, seed: int | Vector, top_k: int = 10, mode: str = "hybrid", **others: Any) -> VectorStoreQuery:
    query = by_words(words, top_k, mode, **others)
    query.query_embedding = vector(seed) if isinstance(seed, int) else seed
    return query


def put_texts(store: FaissStore, **texts: str) -> None:
    store.add([make(name, text=text) for name, text in texts.items()])


def sentences(count: int, seed: int = 0) -> list[TextNode]:
    """Nodes with made-up words, some rare and some in every second text, of five documents and three kinds."""
    random = np.random.default_rng(seed)
    nodes = []
    for number in range(count):
        words = [f"w{int(random.zipf(1.4)) % 300}" for _ in range(int(random.integers(3, 40)))]
        text = " ".join([*words, "harbour" if number % 2 else "meadow", f"only{number}"])
        nodes.append(make(f"n{number}", number, f"d{number % 5}", text=text, kind="abc"[number % 3], number=number))
    return nodes


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaissStore]:
    """400 nodes, read only."""
    store = FaissStore(tmp_path_factory.mktemp("many") / "index")
    store.add(sentences(400))
    yield store
    store.close()


# ---------------------------------------------------------------------------------- words


@pytest.mark.parametrize("mode", ["text_search", "sparse"])
def test_a_word_finds_the_texts_that_have_it_and_no_others(store: FaissStore, mode: str) -> None:
    put_texts(store, a="the harbour pump", b="the harbour wall and the harbour light", c="a meadow")
    result = store.query(by_words("harbour", mode=mode))
    assert sorted(result.ids or []) == ["a", "b"]
    assert result.similarities == sorted(result.similarities or [], reverse=True)
    assert all(type(score) is float and score > 0 for score in result.similarities or [])
    assert [node.node_id for node in result.nodes or []] == result.ids


def test_words_need_no_vector(store: FaissStore) -> None:
    put_texts(store, a="the harbour pump")
    assert store.query(by_words("pump")).ids == ["a"]
    assert asyncio.run(store.aquery(by_words("pump"))).ids == ["a"]


def test_a_rare_word_weighs_more_than_a_common_one(many: FaissStore) -> None:
    assert found(many, "harbour only42")[0] == "n42"
    assert len(found(many, "harbour only42", 400)) == 201


def test_top_k_cuts_a_search_by_words(many: FaissStore) -> None:
    every = many.query(by_words("harbour", 400))
    first = many.query(by_words("harbour", 7))
    assert (first.ids, first.similarities) == ((every.ids or [])[:7], (every.similarities or [])[:7])


@pytest.mark.parametrize(
    ("sparse_top_k", "expected"), [(None, 5), (2, 2), (5, 5), (50, 50)], ids=["unset", "fewer", "as many", "more"]
)
@pytest.mark.parametrize("mode", ["text_search", "sparse"])
def test_sparse_top_k_is_how_many_lexical_hits_there_are(
    many: FaissStore, mode: str, sparse_top_k: int | None, expected: int
) -> None:
    result = many.query(by_words("meadow", 5, mode, sparse_top_k=sparse_top_k))
    assert result.ids == found(many, "meadow")[:expected]


@pytest.mark.parametrize(
    ("language", "text", "question"),
    [
        ("english", "The pumps were running all night", "pump run"),
        ("english", "Generalisation of the RULES", "rule"),
        ("german", "Die Häuser am Fluß", "Haus"),
        ("german", "Die Größe der Bäume", "GRÖSSE"),
        ("german", "Übermäßige Lösungen", "übermäßigen Lösung"),
        ("french", "Les maisons étaient vendues", "maison"),
        ("spanish", "Las canciones cantadas", "canción"),
        ("russian", "Собаки бегают", "собака"),
        ("swedish", "Husen vid sjön", "hus"),
        ("finnish", "Taloissa asutaan", "talo"),
        ("italian", "Le case nuove", "casa"),
        ("dutch", "De huizen staan leeg", "leegstaan leeg"),
        ("none", "running PUMPS", "Running"),
    ],
    ids=lambda value: value if value.isascii() and " " not in value else None,
)
def test_each_language_finds_other_forms_of_a_word(path: Path, language: str, text: str, question: str) -> None:
    store = FaissStore(path, language=language)
    put_texts(store, right=text, wrong="12345 67890")
    assert found(store, question) == ["right"]


def test_without_a_language_a_word_is_found_only_as_it_is_written(path: Path) -> None:
    store = FaissStore(path, language="none")
    put_texts(store, a="running pumps", b="the pump runs")
    assert (found(store, "pump"), found(store, "PUMPS")) == (["b"], ["a"])


@pytest.mark.parametrize(
    ("language", "stop_words"),
    [
        ("english", "the and is of"),
        ("german", "und die ist mit"),
        ("french", "le la les et"),
        ("spanish", "el la y"),
        ("russian", "и в не"),
        ("dutch", "de het een"),
    ],
    ids=lambda value: value if value in LANGUAGES else None,
)
def test_stop_words_of_the_language_count_only_where_nothing_else_is_asked(
    path: Path, language: str, stop_words: str
) -> None:
    store = FaissStore(path, language=language)
    put_texts(store, a=f"{stop_words} zephyr", b="zephyr", c=f"{stop_words} harbour")
    assert sorted(found(store, stop_words)) == ["a", "c"]
    assert sorted(found(store, f"{stop_words} zephyr")) == ["a", "b"]
    none = FaissStore(path.with_name("none"), language="none")
    put_texts(none, a=f"{stop_words} zephyr")
    assert found(none, stop_words) == ["a"]


@pytest.mark.parametrize("language", ["none", *LANGUAGES])
def test_every_language_that_is_offered_can_be_used(path: Path, language: str) -> None:
    store = FaissStore(path, language=language)
    put_texts(store, a="quokka zephyr", b="zephyr")
    assert (found(store, "quokka"), sorted(found(store, "zephyr"))) == (["a"], ["a", "b"])
    store.close()


def test_a_language_that_is_not_there_is_refused_with_those_that_are(path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        FaissStore(path, language="klingon")
    assert str(caught.value) == (
        "language: Input should be 'none', 'arabic', 'danish', 'dutch', 'english', 'finnish', 'french', 'german', "
        "'greek', 'hungarian', 'italian', 'norwegian', 'portuguese', 'romanian', 'russian', 'spanish', 'swedish', "
        "'tamil' or 'turkish', not 'klingon'"
    )


def test_letters_with_marks_are_found_however_they_are_encoded(path: Path) -> None:
    # File names and PDFs of a Mac give ö as two characters.
    store = FaissStore(path, language="german")
    put_texts(store, composed="Die Gr\u00f6\u00dfe", decomposed="Die Gro\u0308\u00dfe")
    assert sorted(found(store, "Gr\u00f6\u00dfe")) == ["composed", "decomposed"]
    assert sorted(found(store, "Gro\u0308\u00dfe")) == ["composed", "decomposed"]


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("東京大学は文京区にあります。", "東京"),
        ("東京大学は文京区にあります。", "文京区"),
        ("我们在北京学习中文。", "北京"),
        ("我们在北京学习中文。", "学习中文"),
        ("データベースを検索する", "データベース"),
        ("使用 FAISS 搜索向量", "faiss"),
        ("使用FAISS搜索向量", "搜索"),
        ("吾輩は猫である。", "猫"),
        ("水", "水"),
        ("𠮷野家で食べる", "𠮷野家"),
    ],
)
def test_text_without_spaces_is_found_by_its_words(store: FaissStore, text: str, question: str) -> None:
    put_texts(store, right=text, other="これは関係ない文です", latin="nothing of the kind")
    assert found(store, question)[:1] == ["right"]


JUNK = [
    "AND OR NOT",
    "(",
    ")",
    ": * ~ ^ + -",
    '"',
    '"harbour',
    "text:harbour",
    "row:1",
    "harbour*",
    "harbour~2",
    "harbour^9",
    "+harbour -pump",
    "[a TO z]",
    "harbour AND NOT pump",
    "\\",
    "{}",
    "<harbour>",
    "\x00",
    "//harbour//",
    "IN [harbour]",
]


@pytest.mark.parametrize("question", JUNK)
def test_no_character_of_a_question_is_an_operator(store: FaissStore, question: str) -> None:
    put_texts(store, both="harbour pump", one="harbour", none="meadow")
    expected = {"both", "one"} if "harbour" in question else set()
    assert set(found(store, question)) - ({"both"} if "pump" in question else set()) == expected - (
        {"both"} if "pump" in question else set()
    )
    if "pump" in question:
        assert "both" in found(store, question)  # the minus and NOT take nothing away


@pytest.mark.parametrize("question", ["", " ", "\t\n ", "with by", "?!…", "\u3000"], ids=repr)
@pytest.mark.parametrize("mode", ["text_search", "sparse"])
def test_a_question_without_words_finds_nothing(store: FaissStore, question: str, mode: str) -> None:
    put_texts(store, a="the harbour pump", b="")
    assert store.query(by_words(question, mode=mode)).ids == []


@pytest.mark.parametrize("question", ["", " ", "the of and"], ids=repr)
def test_hybrid_with_a_question_without_words_is_led_by_the_vectors(store: FaissStore, question: str) -> None:
    store.add([make(f"n{number}", number, text="harbour") for number in range(6)])
    assert store.query(by_both(question, 3, 4)).ids == store.query(ask(3, 4)).ids


def test_a_question_of_ten_thousand_words_is_answered(many: FaissStore) -> None:
    question = " ".join(["only7", *(f"word{number}" for number in range(10_000))])
    assert found(many, question) == ["n7"]


def test_a_word_said_often_in_a_question_counts_once(many: FaissStore) -> None:
    once, often = many.query(by_words("harbour")), many.query(by_words("harbour " * 500))
    assert (once.ids, once.similarities) == (often.ids, often.similarities)


def test_metadata_is_not_found_by_words(store: FaissStore) -> None:
    store.add([make("a", text="harbour", file="zephyr.txt")])
    assert (found(store, "zephyr"), found(store, "harbour")) == ([], ["a"])


# ---------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("mode", WITH_WORDS)
def test_a_mode_with_words_needs_the_questions_text(store: FaissStore, mode: str) -> None:
    put_texts(store, a="harbour")
    with pytest.raises(StoreError) as caught:
        store.query(VectorStoreQuery(query_embedding=vector(1), mode=VectorStoreQueryMode(mode)))
    assert str(caught.value) == f"mode {mode!r} needs the text of the query (query_str)"


@pytest.mark.parametrize("mode", WITH_WORDS)
def test_a_mode_with_words_needs_the_lexical_leg(path: Path, mode: str) -> None:
    store = FaissStore(path, lexical=False)
    put_texts(store, a="harbour")
    with pytest.raises(UnsupportedQuery) as caught:
        store.query(by_both("harbour", 1, mode=mode))
    assert str(caught.value) == (
        f"{path}: mode {mode!r} needs the BM25 index, and this store has none (lexical: false)"
    )


@pytest.mark.parametrize("mode", ["hybrid", "mmr"])
def test_a_mode_with_vectors_needs_the_questions_vector(store: FaissStore, mode: str) -> None:
    put_texts(store, a="harbour")
    with pytest.raises(StoreError) as caught:
        store.query(by_words("harbour", mode=mode))
    assert str(caught.value) == "the query has no vector"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["sparse_top_k", "hybrid_top_k"])
def test_a_leg_of_fewer_than_one_is_refused_in_every_mode(store: FaissStore, mode: str, name: str) -> None:
    with pytest.raises(StoreError) as caught:
        store.query(by_both("harbour", 1, mode=mode, **{name: 0}))
    assert str(caught.value) == f"{name} has to be 1 or more, not 0"


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
@pytest.mark.parametrize("name", ["alpha", "mmr_threshold"])
def test_a_weight_outside_of_0_to_1_is_refused(store: FaissStore, name: str, value: float) -> None:
    with pytest.raises(StoreError) as caught:
        store.query(by_both("harbour", 1, **{name: value}))
    assert str(caught.value) == f"{name} has to be between 0 and 1, not {value}"


@pytest.mark.parametrize("filled", [True, False], ids=["filled", "empty"])
def test_a_fusion_that_is_not_there_is_refused(store: FaissStore, filled: bool) -> None:
    if filled:
        put_texts(store, a="harbour")
        with pytest.raises(StoreError) as caught:
            store.query(by_both("harbour", 1), fusion="borda")
        assert str(caught.value) == "fusion is relative_score or reciprocal_rank, not 'borda'"
    else:
        with pytest.raises(StoreError, match="not 'borda'"):
            store.query(by_both("harbour", 1), fusion="borda")


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_answers_an_empty_store(store: FaissStore, path: Path, mode: str) -> None:
    assert store.query(by_both("harbour", 1, mode=mode)).ids == []
    assert not path.exists()
    put_texts(store, a="harbour")
    store.clear()
    assert store.query(by_both("harbour", 1, mode=mode)).ids == []


# ---------------------------------------------------------------------------------- hybrid


def _leg(store: FaissStore, query: VectorStoreQuery) -> list[tuple[str, float]]:
    result = store.query(query)
    return list(zip(result.ids or [], result.similarities or []))


def _fused(
    vectors: Sequence[tuple[str, float]], words: Sequence[tuple[str, float]], alpha: float, fusion: str
) -> dict[str, float]:
    """The two legs joined, as the documentation says it."""
    total: dict[str, float] = {}
    for leg, weight in ((vectors, alpha), (words, 1 - alpha)):
        if not leg or weight == 0:
            continue
        best, worst = max(score for _, score in leg), min(score for _, score in leg)
        for rank, (name, score) in enumerate(leg, 1):
            if fusion == "reciprocal_rank":
                part = 1 / (60 + rank)
            else:
                part = 1.0 if best == worst else (score - worst) / (best - worst)
            total[name] = total.get(name, 0.0) + weight * part
    return total


@pytest.mark.parametrize("fusion", ["relative_score", "reciprocal_rank"])
@pytest.mark.parametrize("alpha", [None, 0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("metric", METRICS)
def test_hybrid_is_the_two_legs_joined(many: FaissStore, metric: Any, alpha: float | None, fusion: str) -> None:
    store = FaissStore(many.path, metric=metric)
    for question, seed in (("harbour w3 only17", 1), ("only3 only9 only300", 2), ("meadow", 3)):
        vectors = _leg(store, ask(seed, 100))
        words = _leg(store, by_words(question, 100))
        expected = _fused(vectors, words, 0.5 if alpha is None else alpha, fusion)
        result = store.query(by_both(question, seed, 12, alpha=alpha), fusion=fusion)
        best = sorted(expected.values(), reverse=True)[:12]
        assert result.similarities == pytest.approx(best, rel=1e-4, abs=1e-5)
        assert [expected[name] for name in result.ids or []] == pytest.approx(best, rel=1e-4, abs=1e-5)
        assert len(set(result.ids or [])) == len(best)
    store.close()


def test_hybrid_joins_by_scores_unless_told(many: FaissStore) -> None:
    query = by_both("harbour w3 only17", 5, 20)
    unsaid, said = many.query(query), many.query(query, fusion="relative_score")
    assert (unsaid.ids, unsaid.similarities) == (said.ids, said.similarities)
    assert many.query(query, fusion="reciprocal_rank").similarities != said.similarities


def test_alpha_1_ranks_as_the_vectors_do_and_alpha_0_as_the_words_do(many: FaissStore) -> None:
    assert many.query(by_both("harbour only17", 4, 10, alpha=1)).ids == many.query(ask(4, 10)).ids
    assert many.query(by_both("only5 only6 only7", 4, 10, alpha=0)).ids == found(many, "only5 only6 only7")


def test_alpha_0_needs_no_vector(many: FaissStore) -> None:
    assert many.query(by_words("only5", mode="hybrid", alpha=0)).ids == ["n5"]


@pytest.mark.parametrize(
    ("top_k", "hybrid_top_k", "expected"), [(5, None, 5), (5, 9, 9), (5, 3, 3), (5, 150, 150)], ids=str
)
def test_hybrid_top_k_is_how_many_hybrid_gives(
    many: FaissStore, top_k: int, hybrid_top_k: int | None, expected: int
) -> None:
    result = many.query(by_both("harbour", 4, top_k, hybrid_top_k=hybrid_top_k))
    assert len(result.ids or []) == expected


def test_sparse_top_k_is_how_many_the_words_contribute(many: FaissStore) -> None:
    words = _leg(many, by_words("harbour", 3))
    expected = _fused(_leg(many, ask(4, 100)), words, 0.5, "reciprocal_rank")
    result = many.query(by_both("harbour", 4, 400, sparse_top_k=3), fusion="reciprocal_rank")
    # More than 100 are asked for, so the vectors contribute all 400 of them.
    wide = _fused(_leg(many, ask(4, 400)), words, 0.5, "reciprocal_rank")
    assert dict(zip(result.ids or [], result.similarities or [])) == pytest.approx(wide)
    narrow = many.query(by_both("harbour", 4, 20, sparse_top_k=3), fusion="reciprocal_rank")
    assert narrow.similarities == pytest.approx(sorted(expected.values(), reverse=True)[:20])


def test_hybrid_finds_what_only_one_leg_finds(store: FaissStore) -> None:
    store.add([make(f"n{number}", number, text="meadow") for number in range(150)])
    far = [-value for value in vector(7)]
    store.add([TextNode(id_="far", text="zephyr", embedding=far)])
    ids = store.query(by_both("zephyr", 7, 3)).ids or []
    assert {"far", "n7"} <= set(ids)


# ---------------------------------------------------------------------------------- variety


def _greedy(
    nodes: Mapping[str, Vector], question: Vector, top_k: int, threshold: float, metric: str, among: int
) -> list[str]:
    """Maximal mmr relevance after Carbonell and Goldstein (1998), by comparing everything with everything."""
    near = {name: similarity(metric, given, question) for name, given in nodes.items()}
    waiting = sorted(near, key=lambda name: -near[name])[:among]
    chosen: list[str] = []
    while waiting and len(chosen) < top_k:

        def gain(name: str) -> float:
            overlap = max((similarity(metric, nodes[name], nodes[other]) for other in chosen), default=0.0)
            return threshold * near[name] - (1 - threshold) * overlap

        best = max(waiting, key=gain) if chosen else waiting[0]
        chosen.append(best)
        waiting.remove(best)
    return chosen


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("metric", METRICS)
def test_mmr_is_the_greedy_choice(path: Path, metric: Any, threshold: float) -> None:
    store = FaissStore(path, metric=metric)
    random = np.random.default_rng(3)
    nodes = {f"n{number}": random.normal(size=6).astype(np.float32).tolist() for number in range(60)}
    store.add([TextNode(id_=name, text=name, embedding=given) for name, given in nodes.items()])
    for seed in range(5):
        result = store.query(by_both("", seed, 8, "mmr", mmr_threshold=threshold))
        assert result.ids == _greedy(nodes, vector(seed), 8, threshold, metric, 32)
        every = store.query(by_both("", seed, 8, "mmr", mmr_threshold=threshold), mmr_prefetch_k=60)
        assert every.ids == _greedy(nodes, vector(seed), 8, threshold, metric, 60)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5])
def test_mmr_does_not_come_back_to_what_it_chose_before(path: Path, threshold: float) -> None:
    # The third choice has to be unlike the first too, not only unlike the second.
    store = FaissStore(path)
    given = {
        "first": [1.0, 0.0, 0.0],
        "the same": [0.9999, 0.01, 0.0],
        "second": [0.5, 0.8, 0.0],
        "third": [0.5, 0.0, 0.8],
    }
    store.add([TextNode(id_=name, text=name, embedding=numbers) for name, numbers in given.items()])
    ids = store.query(by_both("", [1.0, 0.05, 0.04], 3, "mmr", mmr_threshold=threshold)).ids or []
    assert not {"first", "the same"} <= set(ids), ids


@pytest.mark.parametrize("metric", METRICS)
def test_mmr_without_variety_is_the_plain_search(many: FaissStore, metric: Any) -> None:
    store = FaissStore(many.path, metric=metric)
    for seed in range(5):
        plain = store.query(ask(seed, 9))
        varied = store.query(by_both("", seed, 9, "mmr", mmr_threshold=1))
        assert varied.ids == plain.ids
        assert varied.similarities == pytest.approx(plain.similarities, rel=1e-5)
    store.close()


def test_variety_rises_as_the_threshold_falls(store: FaissStore) -> None:
    # Six groups of six near-duplicates, the first group nearest to the question.
    random = np.random.default_rng(5)
    centres = np.eye(6) * 0.6 + np.eye(6)[0]
    for group, centre in enumerate(centres):
        store.add(
            [
                TextNode(id_=f"{group}/{n}", text="", embedding=(centre + random.normal(size=6) * 0.01).tolist())
                for n in range(6)
            ]
        )
    question = (np.eye(6)[0] + 0.05).tolist()

    def groups(threshold: float) -> int:
        result = store.query(by_both("", question, 6, "mmr", mmr_threshold=threshold), mmr_prefetch_k=36)
        return len({name.split("/")[0] for name in result.ids or []})

    counts = [groups(threshold) for threshold in (1.0, 0.9, 0.7, 0.5, 0.3, 0.0)]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (1, 6)


def test_mmr_gives_all_there_is_once(many: FaissStore) -> None:
    ids = many.query(by_both("", 3, 1000, "mmr")).ids or []
    assert sorted(ids) == sorted(f"n{number}" for number in range(400))


# ---------------------------------------------------------------------------------- restrictions in every mode

RESTRICTIONS: dict[str, tuple[dict[str, Any], Callable[[int], bool]]] = {
    "no node ids": ({"node_ids": []}, lambda n: True),
    "no documents": ({"doc_ids": []}, lambda n: False),
    "ids": ({"node_ids": ["n1", "n2", "n30", "n399", "unknown"]}, lambda n: n in (1, 2, 30, 399)),
    "documents": ({"doc_ids": ["d1", "d4", "unknown"]}, lambda n: n % 5 in (1, 4)),
    "filter": ({"filters": where("kind", "a")}, lambda n: n % 3 == 0),
    "few": ({"filters": where("number", 390, FilterOperator.GTE)}, lambda n: n >= 390),
    "old only": ({"filters": where("number", 5, FilterOperator.LT)}, lambda n: n < 5),
    "filter and documents": (
        {"filters": where("kind", "a"), "doc_ids": ["d0"]},
        lambda n: n % 3 == 0 and n % 5 == 0,
    ),
    "all three": (
        {"filters": where("kind", "a"), "doc_ids": ["d0", "d1"], "node_ids": [f"n{n}" for n in range(50)]},
        lambda n: n % 3 == 0 and n % 5 < 2 and n < 50,
    ),
    "none fits": ({"filters": where("kind", "z")}, lambda n: False),
    "unknown id": ({"node_ids": ["unknown"]}, lambda n: False),
    "two that exclude each other": ({"node_ids": ["n1"], "doc_ids": ["d2"]}, lambda n: False),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", RESTRICTIONS)
@pytest.mark.parametrize("few", [2_000, 1], ids=["named rows", "sifted"])
def test_a_restriction_holds_in_every_mode(
    many: FaissStore, mode: str, name: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rag_plugin.faiss_store.lexical.bm25_index.MAX_ROWS_IN_QUERY", few)
    restriction, allowed = RESTRICTIONS[name]
    result = many.query(by_both("harbour meadow", 3, 400, mode, **restriction))
    expected = {f"n{number}" for number in range(400) if allowed(number)}
    assert set(result.ids or []) == expected
    assert len(result.ids or []) == len(expected)
    top = many.query(by_both("harbour meadow", 3, 4, mode, **restriction))
    assert len(top.ids or []) == min(4, len(expected))
    if mode in ("default", "text_search", "sparse"):
        # The scores are those of the search without a restriction.
        every = many.query(by_both("harbour meadow", 3, 400, mode))
        scores = dict(zip(every.ids or [], every.similarities or []))
        assert top.similarities == pytest.approx(sorted((scores[n] for n in expected), reverse=True)[:4], rel=1e-5)


# ---------------------------------------------------------------------------------- the leg through writes


def _words_of(store: FaissStore) -> dict[str, set[str]]:
    words = ("harbour", "meadow", "w1", "w2", "w5", "changed", "only3", "only30", "only100", "late")
    return {word: set(found(store, word, 1000)) for word in words}


def _anew(path: Path, target: Path) -> FaissStore:
    """A store on a copy of the truth alone: all that is derived has to be made anew."""
    target.mkdir()
    for file in path.glob("index.sqlite*"):
        shutil.copy(file, target / file.name)
    return FaissStore(target)


def test_words_follow_every_write(store: FaissStore) -> None:
    put_texts(store, a="harbour", b="meadow")
    assert found(store, "harbour") == ["a"]
    put_texts(store, a="meadow now")
    assert (found(store, "harbour"), sorted(found(store, "meadow"))) == ([], ["a", "b"])
    store.delete_nodes(["b"])
    assert found(store, "meadow") == ["a"]
    store.clear()
    assert found(store, "meadow") == []
    put_texts(store, c="meadow")
    assert found(store, "meadow") == ["c"]


@pytest.mark.parametrize("how", ["anew at the end", "after every write", "by another store"])
def test_a_leg_that_grew_with_the_writes_is_one_built_anew(store: FaissStore, path: Path, how: str) -> None:
    other = FaissStore(path)
    nodes = sentences(150)

    def look() -> None:
        if how == "after every write":
            found(store, "harbour")
        elif how == "by another store":
            found(other, "harbour")

    store.add(nodes[:100])
    look()
    store.add(nodes[100:])
    look()
    store.delete("d3")
    look()
    store.add([make(f"n{number}", text="changed harbour") for number in range(0, 20, 2)])
    look()
    store.delete_nodes(["n30", "n31"])
    look()
    store.add([make("new", text="late meadow"), make("n30", text="late harbour")])
    look()
    fresh = _anew(path, path.with_name("copy"))
    assert _words_of(store) == _words_of(other) == _words_of(fresh)
    assert set(found(fresh, "changed")) == {f"n{number}" for number in range(0, 20, 2)}
    for each in (fresh, other):
        each.close()


def test_scores_of_a_leg_that_grew_are_those_of_one_built_anew(store: FaissStore, path: Path) -> None:
    nodes = sentences(150)
    store.add(nodes)
    found(store, "harbour")
    store.delete_nodes([f"n{number}" for number in range(1, 140, 2)])
    found(store, "harbour")
    fresh = _anew(path, path.with_name("copy"))
    for question in ("harbour", "harbour w2", "meadow w1 w5"):
        grown, built = store.query(by_words(question, 200)), fresh.query(by_words(question, 200))
        assert set(grown.ids or []) == set(built.ids or [])
        scores = dict(zip(built.ids or [], built.similarities or []))
        assert dict(zip(grown.ids or [], grown.similarities or [])) == pytest.approx(scores, rel=1e-4)
    fresh.close()


def test_a_new_generation_is_searched_by_its_own_words(store: FaissStore, path: Path) -> None:
    other = FaissStore(path)

    def build(name: str, text: str) -> int:
        generation = store.open_generation({"encoder": name}, lambda old, new: old == new)
        store.commit(generation, [(DocumentRecord("d", name, None, "recipe"), [make("a", 1, "d", text=text)])])
        return generation

    store.finish(build("one", "harbour"), {"encoder": "one"})
    assert found(store, "harbour") == found(other, "harbour") == ["a"]
    second = build("two", "meadow")
    for each in (store, other):
        assert (found(each, "harbour"), found(each, "meadow")) == (["a"], [])  # not finished yet
    store.finish(second, {"encoder": "two"})
    for each in (store, other):
        assert (found(each, "harbour"), found(each, "meadow")) == ([], ["a"])
    other.close()


def test_a_reader_finds_the_newest_words_while_another_one_writes(store: FaissStore, path: Path) -> None:
    put_texts(store, a="harbour", b="meadow", c="harbour meadow")
    reader = FaissStore(path)
    assert sorted(found(reader, "harbour")) == ["a", "c"]
    lexical = path / "lexical"
    with store.writing():
        put_texts(store, d="harbour zephyr", a="meadow")
        store.delete_nodes(["b"])
        before = {file.name: file.read_bytes() for file in lexical.iterdir()}
        assert sorted(found(reader, "harbour")) == ["c", "d"]
        assert sorted(found(reader, "meadow")) == ["a", "c"]
        assert found(reader, "zephyr") == ["d"]
        restricted = reader.query(by_words("harbour", node_ids=["c", "b"]))
        assert restricted.ids == ["c"]
        assert reader.query(by_words("harbour", 1)).ids is not None
        store.add([make("e", text="harbour")])
        assert sorted(found(reader, "harbour")) == ["c", "d", "e"]
        assert {file.name: file.read_bytes() for file in lexical.iterdir()} == before  # it only read
    assert sorted(found(reader, "harbour")) == ["c", "d", "e"]
    reader.close()


def test_a_first_reader_finds_words_while_another_one_writes(store: FaissStore, path: Path) -> None:
    with store.writing():
        put_texts(store, a="harbour", b="meadow")
        reader = FaissStore(path)
        assert (found(reader, "harbour"), found(reader, "meadow zephyr")) == (["a"], ["b"])
        store.clear()
        put_texts(store, c="harbour")
        assert found(reader, "harbour") == ["c"]
        reader.close()


def _find_words(path: Path, pipe: Any) -> None:
    """In another process: what words find in a store that stays open."""
    store = FaissStore(path)
    while (question := pipe.recv()) is not None:
        pipe.send(sorted(found(store, question)))
    store.close()


def test_another_process_finds_the_newest_words_while_this_one_writes(store: FaissStore, path: Path) -> None:
    put_texts(store, a="harbour")
    here, there = PROCESSES.Pipe()
    process = PROCESSES.Process(target=_find_words, args=(path, there))
    process.start()
    there.close()

    def answer(question: str) -> list[str]:
        here.send(question)
        assert here.poll(60)
        return here.recv()  # type: ignore[no-any-return]

    assert answer("harbour") == ["a"]
    with store.writing():
        put_texts(store, b="harbour zephyr")
        assert (answer("harbour"), answer("zephyr")) == (["a", "b"], ["b"])
        store.delete_nodes(["a"])
        assert answer("harbour") == ["b"]
    assert answer("harbour") == ["b"]
    here.send(None)
    process.join(60)
    assert process.exitcode == 0


def test_another_language_on_reopening_is_the_one_that_counts(path: Path) -> None:
    english = FaissStore(path, language="english")
    put_texts(english, a="the running pumps", b="Häuser und Bäume")
    assert (found(english, "run"), found(english, "Haus")) == (["a"], [])
    english.close()
    german = FaissStore(path, language="german")
    assert (found(german, "Haus"), found(german, "und Haus")) == (["b"], ["b"])
    german.close()
    none = FaissStore(path, language="none")
    assert (found(none, "the"), found(none, "run"), found(none, "und")) == (["a"], [], ["b"])
    none.close()
    again = FaissStore(path, language="english")
    assert (found(again, "run"), found(again, "the run")) == (["a"], ["a"])
    again.close()


def test_two_open_stores_of_two_languages_each_answer_in_theirs(path: Path) -> None:
    english, german = FaissStore(path, language="english"), FaissStore(path, language="german")
    for turn in range(3):
        english.add([make(f"e{turn}", text=f"running pumps turn{turn}")])
        german.add([make(f"g{turn}", text=f"Häuser turn{turn}")])
        assert (len(found(english, "run")), len(found(german, "Haus"))) == (turn + 1, turn + 1)
        assert (sorted(found(german, f"turn{turn}")), len(found(english, "turn0"))) == ([f"e{turn}", f"g{turn}"], 2)
    english.close()
    german.close()


def test_a_leg_is_made_of_what_was_written_without_one(path: Path) -> None:
    without = FaissStore(path, lexical=False)
    put_texts(without, a="harbour", b="meadow")
    without.close()
    assert not (path / "lexical").exists()
    with_words = FaissStore(path, lexical=True)
    assert found(with_words, "harbour") == ["a"]
    with_words.close()
    without = FaissStore(path, lexical=False)
    put_texts(without, a="meadow", c="harbour")
    without.delete_nodes(["b"])
    without.snapshot()
    without.close()
    with_words = FaissStore(path, lexical=True)
    assert (found(with_words, "harbour"), found(with_words, "meadow")) == (["c"], ["a"])
    with_words.close()


# ---------------------------------------------------------------------------------- filters

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([2**53, 2**53 + 1, -(2**63), 2**64, 10**40]),
    st.sampled_from([0.0, -0.0, 1.0, 1.5, -2.5, 1e300, 5e-324]),
    st.sampled_from(["", "a", "A", "ab", "1", "Größe", "GRÖSSE", "東京", "a\x00b", "True", "null"]),
)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3), st.dictionaries(st.sampled_from("ab"), SCALARS, max_size=2))
METADATA = st.lists(st.dictionaries(st.sampled_from(["x", "y", "z"]), VALUES, max_size=3), max_size=8)
LEAVES = st.builds(
    lambda key, value, operator: MetadataFilter(key=key, value=value, operator=operator),
    st.sampled_from(["x", "y", "z", "never"]),
    st.one_of(
        st.none(),
        st.integers(-3, 3),
        st.sampled_from([2**53, 2**53 + 1, 2**64, 10**40, 0.0, 1.0, 1.5, 1e300]),
        st.sampled_from(["", "a", "A", "ab", "1", "größe", "東", "b", "True"]),
        st.lists(st.integers(-2, 2), max_size=3),
        st.lists(st.sampled_from(["", "a", "ab", "Größe"]), max_size=3),
        st.lists(st.sampled_from([0.0, 1.0, 1.5]), max_size=2),
    ),
    st.sampled_from(list(FilterOperator)),
)
NESTED = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        lambda filters, condition: MetadataFilters(filters=filters, condition=condition),
        st.lists(inner, max_size=3),
        st.sampled_from([None, *FilterCondition]),
    ),
    max_leaves=6,
)
SETTINGS = hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def _leaf(leaf: MetadataFilter, metadata: Mapping[str, Any]) -> bool:
    return build_metadata_filter_fn(lambda _: metadata, MetadataFilters(filters=[leaf]))("")


def _reads(filters: MetadataFilters | MetadataFilter, metadata: Mapping[str, Any]) -> bool:
    """What nested filters say of one node, read literally; every leaf is asked."""
    if isinstance(filters, MetadataFilter):
        return _leaf(filters, metadata)
    answers = [_reads(one, metadata) for one in filters.filters]
    if not answers:
        return True
    return {
        None: all,
        FilterCondition.AND: all,
        FilterCondition.OR: any,
        FilterCondition.NOT: lambda given: not any(given),
    }[filters.condition](answers)


def _expected(filters: MetadataFilters, metadata: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """The ids that pass; None where LlamaIndex's function finds that value and metadata do not fit."""
    try:
        return [f"n{number}" for number, each in enumerate(metadata) if _reads(filters, each)]
    except TypeError:
        return None


def _answer(store: FaissStore, filters: MetadataFilters) -> list[str] | None:
    try:
        return [node.node_id for node in store.get_nodes(filters=filters)]
    except StoreError as error:
        assert " does not fit the metadata: " in str(error)  # noqa: PT017  (any other would be a wrong answer)
        return None


def _of_metadata(metadata: Sequence[Mapping[str, Any]], check: Callable[[FaissStore], None]) -> None:
    folder = tempfile.mkdtemp()
    store = FaissStore(Path(folder) / "index", lexical=False)
    try:
        if metadata:
            store.add([make(f"n{number}", number, **each) for number, each in enumerate(metadata)])
        check(store)
    finally:
        store.close()
        shutil.rmtree(folder)


@SETTINGS
@given(metadata=METADATA, leaves=st.lists(LEAVES, min_size=1, max_size=12))
def test_a_filter_means_what_it_means_to_llama_index(
    metadata: list[dict[str, Any]], leaves: list[MetadataFilter]
) -> None:
    def check(store: FaissStore) -> None:
        for leaf in leaves:
            filters = MetadataFilters(filters=[leaf])
            assert _answer(store, filters) == _expected(filters, metadata), leaf

    _of_metadata(metadata, check)


@SETTINGS
@given(metadata=METADATA, trees=st.lists(NESTED, min_size=1, max_size=6))
def test_nested_filters_mean_what_they_say(metadata: list[dict[str, Any]], trees: list[Any]) -> None:
    def check(store: FaissStore) -> None:
        for tree in trees:
            filters = MetadataFilters(filters=[tree])
            assert _answer(store, filters) == _expected(filters, metadata), filters

    _of_metadata(metadata, check)


def test_an_empty_group_of_filters_restricts_nothing(store: FaissStore) -> None:
    store.add([make("a", kind="x"), make("b")])
    for _ in range(2):
        for condition in FilterCondition:
            empty = MetadataFilters(filters=[], condition=condition)
            assert len(store.get_nodes(filters=MetadataFilters(filters=[empty]))) == 2
        store.add([make("c")])
        store.delete_nodes(["c"])


def test_true_and_1_and_1_0_are_told_apart_only_where_llama_index_does(store: FaissStore) -> None:
    for number, value in enumerate([True, 1, 1.0, "1", False, 0, 0.0, "0", None]):
        store.add([make(f"n{number}", number, k=value)])
    assert [node.node_id for node in store.get_nodes(filters=where("k", 1))] == ["n0", "n1", "n2"]
    assert [node.metadata["k"] for node in store.get_nodes()] == [True, 1, 1.0, "1", False, 0, 0.0, "0", None]
    assert [type(node.metadata["k"]) for node in store.get_nodes()][:3] == [bool, int, float]


def test_a_filter_that_does_not_fit_says_so(store: FaissStore) -> None:
    store.add([make("a", year="2020"), make("b", year=2021)])
    with pytest.raises(StoreError) as caught:
        store.query(ask(1, filters=where("year", 2020, FilterOperator.GT)))
    assert str(caught.value) == (
        "the filter on 'year' does not fit the metadata: '>' not supported between instances of 'str' and 'int'"
    )


def test_a_value_that_is_gone_spoils_no_filter(store: FaissStore) -> None:
    store.add([make("odd", year="unknown"), make("a", year=2020), make("b", year=2021)])
    late = where("year", 2020, FilterOperator.GT)
    with pytest.raises(StoreError):
        store.get_nodes(filters=late)
    store.delete_nodes(["odd"])
    assert [node.node_id for node in store.get_nodes(filters=late)] == ["b"]
    assert store.query(ask(1, filters=late)).ids == ["b"]


NUMBERS: dict[str, list[Any]] = {
    "whole numbers": [*range(-60, 60)],
    "floats": [number / 8 for number in range(-60, 60)],
    "both": [number if number % 2 else float(number) for number in range(120)],
    "whole numbers too big for a float": [2**53 + number for number in range(100)],
    "with a truth": [*range(100), True, False],
    "with a text": [*range(100), "12"],
    "with a list": [*range(100), [12]],
    "with nothing": [*range(100), None],
    "texts": [str(number) for number in range(100)],
    "huge": [*range(100), 10**400],
}


@pytest.mark.parametrize("name", NUMBERS)
def test_many_distinct_values_are_filtered_as_few_are(store: FaissStore, name: str) -> None:
    values = NUMBERS[name]
    metadata: list[dict[str, Any]] = [*({"k": value} for value in values), {}, {"other": 1}]
    store.add([make(f"n{number}", number, **each) for number, each in enumerate(metadata)])
    wanted: list[Any] = [-1, 0, 12, 12.0, 12.5, 99, 2**53 + 3, -(2**60), "12", None]
    for value in wanted:
        for operator in FilterOperator:
            filters = where("k", value, operator)
            assert _answer(store, filters) == _expected(filters, metadata), filters
    for members in ([1, 12, 13], [1.5, 12.0], ["12", "99"], []):
        for operator in (FilterOperator.IN, FilterOperator.NIN, FilterOperator.ANY, FilterOperator.ALL):
            filters = where("k", members, operator)
            assert _answer(store, filters) == _expected(filters, metadata), filters


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")], ids=str)
@pytest.mark.parametrize("count", [3, 100], ids=["few", "many"])
def test_no_number_is_too_large_to_compare_with(store: FaissStore, path: Path, value: float, count: int) -> None:
    metadata: list[dict[str, Any]] = [*({"k": number} for number in range(count)), {}]
    store.add([make(f"n{number}", number, **each) for number, each in enumerate(metadata)])
    for operator in FilterOperator:
        fresh = FaissStore(path)  # which has answered nothing yet
        filters = where("k", value, operator)
        assert _answer(fresh, filters) == _expected(filters, metadata), filters
        fresh.close()


def test_filters_that_look_alike_are_not_answered_alike(store: FaissStore) -> None:
    store.add([make("a", k=1), make("b", k=None), make("c", k=-1.5)])
    pairs: list[tuple[MetadataFilters, list[str]]] = [
        (where("k", float("inf"), FilterOperator.LT), ["a", "c"]),
        (where("k", float("-inf"), FilterOperator.LT), []),
        (where("k", float("inf"), FilterOperator.GT), []),
        (where("k", float("-inf"), FilterOperator.GT), ["a", "c"]),
        (where("k", None, FilterOperator.NE), ["a", "b", "c"]),
        (where("k", float("nan"), FilterOperator.GT), []),
        (where("k", "1"), []),
        (where("k", 1), ["a"]),
    ]
    for _ in range(2):
        for filters, expected in pairs:
            assert [node.node_id for node in store.get_nodes(filters=filters)] == expected, filters


def _check_all(store: FaissStore, metadata: Mapping[str, Mapping[str, Any]], keys: Sequence[str]) -> None:
    for key in keys:
        for value in range(4):
            for operator in (FilterOperator.EQ, FilterOperator.NE, FilterOperator.GTE, FilterOperator.IS_EMPTY):
                filters = where(key, value, operator)
                expected = {name for name, each in metadata.items() if _reads(filters, each)}
                assert {node.node_id for node in store.get_nodes(filters=filters)} == expected, filters
                hits = store.query(ask(1, 1000, filters=filters)).ids or []
                assert (set(hits), len(hits)) == (expected, len(expected)), filters


def test_keys_are_asked_for_one_after_the_other_while_nodes_come_and_go(store: FaissStore, path: Path) -> None:
    other = FaissStore(path)
    random = np.random.default_rng(11)
    metadata: dict[str, dict[str, Any]] = {}

    def add(names: Sequence[str]) -> None:
        for name in names:
            metadata[name] = {key: int(random.integers(0, 4)) for key in "abcd" if random.random() < 0.8}
        store.add([make(name, **metadata[name]) for name in names])

    def remove(names: Sequence[str]) -> None:
        store.delete_nodes(list(names))
        for name in names:
            metadata.pop(name, None)

    add([f"n{number}" for number in range(40)])
    _check_all(store, metadata, ["a"])
    remove([f"n{number}" for number in range(0, 10)])
    _check_all(store, metadata, ["b"])  # a new key, after the columns know rows that are gone
    _check_all(store, metadata, ["a", "b"])
    remove(["n39", "n38"])
    add(["n39", "new"])
    _check_all(store, metadata, ["b", "c", "a"])
    remove(["n20"])
    _check_all(other, metadata, ["d", "a"])
    add(["n20", "n21"])
    for each in (store, other):
        _check_all(each, metadata, ["d", "c", "b", "a"])
    remove(list(metadata))
    _check_all(store, metadata, ["a", "e"])
    add(["back"])
    _check_all(store, metadata, ["a", "e", "f"])
    store.clear()
    metadata.clear()
    _check_all(store, metadata, ["a"])
    add(["after"])
    for each in (store, other):
        _check_all(each, metadata, ["a", "d"])
    other.close()


def test_an_answer_that_was_given_before_is_not_given_after_a_write(store: FaissStore, path: Path) -> None:
    other, even = FaissStore(path), where("even", 1)

    def answers() -> list[list[str]]:
        return [[node.node_id for node in each.get_nodes(filters=even)] for each in (store, store, other)]

    store.add([make("a", even=1), make("b", even=0)])
    assert answers() == [["a"]] * 3
    other.add([make("c", even=1)])
    assert answers() == [["a", "c"]] * 3
    store.add([make("a", even=0)])
    assert answers() == [["c"]] * 3
    store.delete_nodes(filters=even)
    assert answers() == [[]] * 3
    store.clear()
    store.add([make("d", even=1)])
    assert answers() == [["d"]] * 3
    other.close()


def test_more_filters_than_are_remembered_are_all_answered(store: FaissStore) -> None:
    store.add([make(f"n{number}", number, k=number) for number in range(300)])
    for _ in range(2):
        for number in range(300):
            assert [node.node_id for node in store.get_nodes(filters=where("k", number))] == [f"n{number}"]


def test_a_document_is_filtered_by_its_newest_metadata_in_a_new_generation(store: FaissStore) -> None:
    for turn in range(3):
        encoder = {"encoder": turn}
        generation = store.open_generation(encoder, lambda old, new: old == new)
        node = make("a", 1, "d", turn=turn)
        store.commit(generation, [(DocumentRecord("d", str(turn), None, "recipe"), [node])])
        if turn:
            assert [node.metadata["turn"] for node in store.get_nodes(filters=where("turn", turn - 1))] == [turn - 1]
            assert store.get_nodes(filters=where("turn", turn)) == []
        store.finish(generation, encoder)
        assert [node.metadata["turn"] for node in store.get_nodes(filters=where("turn", turn))] == [turn]

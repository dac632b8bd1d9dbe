"""Spaces: neighbours, vector arithmetic, the space of an index, and the cache of vectors."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode

import rag_plugin.explore
from rag_plugin import FaissStore
from rag_plugin.errors import ComponentError, IndexNotBuilt, QuestionError, StoreError
from rag_plugin.explore import (
    Expression,
    Piece,
    Space,
    Term,
    analogy,
    document_space,
    encode,
    encode_concepts,
    encode_vocabulary,
    node_space,
    read_concepts,
    read_lines,
    sum_of,
    words_of,
)
from rag_plugin.explore.cache import VectorCache
from tests.conftest import ROOT
from tests.processes import imported_by


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_PLUGIN_CACHE", str(tmp_path / "cache"))


class Letters(BaseEmbedding):
    """Counts of each letter, so that expected vectors are easy to calculate; `seen` records the encoded texts."""

    size: int = 26
    seen: list[str] = []

    def _get_text_embedding(self, text: str) -> list[float]:
        self.seen.append(text)
        if text == "broken":
            return [float("nan")] * self.size
        return [float(text.lower().count(chr(ord("a") + index))) for index in range(self.size)]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


def space_of(vectors: Any, texts: Any = None) -> Space:
    matrix = np.asarray(vectors, dtype=np.float32)
    names = texts if texts is not None else [f"text {number}" for number in range(len(matrix))]
    return Space(tuple(Piece(name) for name in names), matrix)


matrices = st.tuples(st.integers(1, 12), st.integers(1, 6), st.integers(0, 1000)).map(
    lambda shape: np.random.default_rng(shape[2]).normal(size=shape[:2]).astype(np.float32)
)

# ---------------------------------------------------------------------------------- neighbours


@given(matrices, matrices)
def test_similarity_is_the_cosine(first: Any, second: Any) -> None:
    space = space_of(first)
    exact = first.astype(np.float64) / np.linalg.norm(first.astype(np.float64), axis=1, keepdims=True)
    np.testing.assert_allclose(space.similarity(), exact @ exact.T, atol=1e-6)
    if first.shape[1] == second.shape[1]:
        other = second.astype(np.float64) / np.linalg.norm(second.astype(np.float64), axis=1, keepdims=True)
        np.testing.assert_allclose(space.similarity(space_of(second)), exact @ other.T, atol=1e-6)
    else:
        with pytest.raises(ValueError, match="are from different encoders"):
            space.similarity(space_of(second))


@given(matrices, st.integers(1, 15), st.integers(0, 999))
def test_nearest_equals_a_comparison_with_each_vector(matrix: Any, top_k: int, seed: int) -> None:
    vector = np.random.default_rng(seed).normal(size=matrix.shape[1])
    neighbours = space_of(matrix).nearest(vector, top_k)
    cosines = [float(row @ vector / np.linalg.norm(row) / np.linalg.norm(vector)) for row in matrix.astype(np.float64)]
    assert len(neighbours) == min(top_k, len(matrix))
    np.testing.assert_allclose([item.score for item in neighbours], sorted(cosines, reverse=True)[:top_k], atol=1e-5)
    for item in neighbours:
        number = int(item.piece.text.removeprefix("text "))
        assert item.score == pytest.approx(cosines[number], abs=1e-5)


def test_the_length_of_a_vector_is_ignored_and_ties_keep_their_order() -> None:
    space = space_of([[0, 5], [3, 0], [1e-30, 0], [1e18, 0]], ["up", "b", "c", "a"])
    assert [item.piece.text for item in space.nearest(np.array([7.0, 0.0]))] == ["b", "c", "a", "up"]


def test_a_zero_vector_has_no_neighbours() -> None:
    space = space_of([[0, 0], [1, 0]])
    assert space.similarity().tolist() == [[0, 0], [0, 1]]
    assert [item.score for item in space.nearest(np.array([1, 0]))] == [1, 0]
    with pytest.raises(QuestionError, match="a zero vector has no direction"):
        space.nearest(np.zeros(2))


def test_excluded_texts_match_in_any_case_and_composition() -> None:
    space = space_of([[1, 0], [1, 0.1], [1, 0.2], [1, 0.3]], ["Café", "cafe", "NEW york", "river"])
    neighbours = space.nearest(np.array([1, 0]), exclude=["CAFE\u0301", "new  York"])
    assert [item.piece.text for item in neighbours] == ["cafe", "river"]


def test_distinct_keeps_the_nearest_of_equal_texts() -> None:
    space = space_of([[1, 0.5], [1, 0], [0, 1], [1, 0.1]], ["Bank", "bank", "river", "bank"])
    neighbours = space.nearest(np.array([1, 0]), distinct=True)
    assert [(item.piece.text, round(item.score, 2)) for item in neighbours] == [("bank", 1.0), ("river", 0.0)]
    assert len(space.nearest(np.array([1, 0]))) == 4


def test_an_empty_space_has_no_neighbours() -> None:
    empty = encode(Letters(), [])
    assert empty.similarity().shape == (0, 0)
    assert empty.similarity(space_of([[1, 0]])).shape == (0, 1)
    with pytest.raises(QuestionError, match="there is nothing to compare with"):
        empty.nearest(np.array([1.0]))


def test_each_text_is_encoded_once_and_in_its_place() -> None:
    encoder = Letters(seen=[])
    space = encode(encoder, ["ab", "b", "ab"])
    assert sorted(encoder.seen) == ["ab", "b"]
    assert space.vectors[:, :2].tolist() == [[1, 1], [0, 1], [1, 1]]
    assert space.select([1, 0]).texts == ["b", "ab"]


def test_a_vector_that_is_not_finite_is_an_error_with_its_text() -> None:
    with pytest.raises(ComponentError, match="the encoder's vector of 'broken' contains NaN or infinity"):
        encode(Letters(), ["fine", "broken"])


def test_vectors_are_those_of_the_encoder(minilm: Any, library_minilm: Any) -> None:
    texts = ["Apple", "Fruit", "Car"]
    plain = library_minilm.encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(encode(minilm, texts).vectors, plain, atol=1e-6)
    apple, fruit, car = range(3)
    similarity = encode(minilm, texts).similarity()
    np.testing.assert_allclose(similarity, plain @ plain.T, atol=1e-6)
    assert similarity[apple, fruit] > similarity[apple, car]


# ---------------------------------------------------------------------------------- arithmetic


def test_a_sum_weights_directions() -> None:
    encoder = Letters()
    total = sum_of(encoder, "2 * aab - 0.5 * bb + c")
    expected = np.zeros(26)
    expected[:3] = 2 * np.array([2, 1, 0]) / np.sqrt(5) - 0.5 * np.array([0, 1, 0]) + np.array([0, 0, 1])
    np.testing.assert_allclose(total, expected, atol=1e-6)


def test_an_analogy_leaves_its_terms_out(minilm: Any, library_minilm: Any) -> None:
    words = ["king", "Queen", "KING", "woman", "apple", "prince", "man"]
    neighbours = analogy(minilm, "king - man + woman", words, 2)
    assert [item.piece.text for item in neighbours] == ["Queen", "prince"]
    plain = library_minilm.encode(["king", "man", "woman", "Queen"], normalize_embeddings=True).astype(np.float64)
    total = plain[0] - plain[1] + plain[2]
    assert neighbours[0].score == pytest.approx(float(total @ plain[3] / np.linalg.norm(total)), abs=1e-6)
    assert analogy(minilm, Expression((Term("king"), Term("man", -1), Term("woman"))), words, 2) == neighbours


@pytest.mark.parametrize(
    ("expression", "vocabulary", "message"),
    [
        ("a - a", ["b"], "the terms of 'a - a' cancel out; a zero vector has no neighbours"),
        ("2 * a - aa - a", ["b"], "cancel out"),
        ("a", [], "the vocabulary is empty"),
        ("a - b", ["A", "b"], "the vocabulary contains only the terms of 'a - b'"),
        ("a -", ["b"], "a term is missing after '-'"),
    ],
)
def test_an_analogy_without_a_result_is_an_error(expression: str, vocabulary: list[str], message: str) -> None:
    with pytest.raises(QuestionError) as caught:
        analogy(Letters(), expression, vocabulary)
    assert message in str(caught.value)


def test_a_concept_is_the_mean_of_its_examples_directions() -> None:
    space = encode_concepts(Letters(), {"first": ["a", "bbb"], "second": ["c"]})
    assert space.vectors[:, :3].tolist() == [[0.5, 0.5, 0], [0, 0, 1]]
    assert space.texts == ["first", "second"]
    assert space.pieces[0].metadata == {"examples": ["a", "bbb"]}
    for wrong in ({"x": []}, {" ": ["a"]}, {"x": ["a", " "]}):
        with pytest.raises(QuestionError, match="needs a name and examples: fruit=apple,pear,plum"):
            encode_concepts(Letters(), wrong)


@pytest.mark.parametrize("score", ["analogies", "stsb"])
def test_the_published_figures_are_reached(shared_data: Path, minilm: Any, score: str) -> None:
    from scipy.stats import spearmanr

    if score == "stsb":
        lines = (shared_data / "stsb-test" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]
        rows = [line.split("\t") for line in lines]
        left, right = (encode(minilm, [row[side] for row in rows]).directions for side in (0, 1))
        assert spearmanr((left * right).sum(axis=1), [float(row[2]) for row in rows]).statistic >= 0.820
        return
    lines = (shared_data / "words-small" / "analogies.tsv").read_text(encoding="utf-8").splitlines()[1:]
    rows = [line.split("\t")[1:] for line in lines]
    space = encode(minilm, sorted({word for row in rows for word in row}))
    right = [
        analogy(minilm, Expression((Term(b), Term(a, -1), Term(c))), space, 1)[0].piece.text == expected
        for a, b, c, expected in rows[::8]
    ]
    assert np.mean(right) >= 0.65


# ---------------------------------------------------------------------------------- an index


def node(name: str, text: str, vector: Any, document: str | None = None, **metadata: Any) -> TextNode:
    relationships = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=document)} if document is not None else {}
    return TextNode(id_=name, text=text, embedding=list(vector), metadata=metadata, relationships=relationships)


@pytest.fixture
def store(tmp_path: Path) -> FaissStore:
    store = FaissStore(tmp_path / "index")
    store.add(
        [
            node("1", "abcdef", [3, 0, 0], "one.md", page=1, kind="x"),
            node("2", "ab", [0, 5, 0], "one.md", page=2, kind="x"),
            node("3", "no document", [0, 0, 2]),
            node("4", "gone", [1, 1, 1], "two.md"),
            node("5", "", [0, 0, 0], "three.md"),
        ]
    )
    store.delete("two.md")
    return store


def test_the_nodes_of_an_index_have_their_stored_vectors(store: FaissStore) -> None:
    space = node_space(store)
    assert space.texts == ["abcdef", "ab", "no document", ""]
    assert space.vectors.tolist() == [[3, 0, 0], [0, 5, 0], [0, 0, 2], [0, 0, 0]]
    first = space.pieces[0]
    assert (first.document, first.node, first.metadata) == ("one.md", "1", {"page": 1, "kind": "x"})
    nodes, vectors = store.nodes_with_vectors()
    assert [item.node_id for item in nodes] == ["1", "2", "3", "5"]
    assert nodes == store.get_nodes()
    assert vectors.dtype == np.float32


def test_a_document_is_the_mean_of_its_nodes_weighted_by_length(store: FaissStore) -> None:
    space = document_space(node_space(store))
    assert space.texts == ["one.md", "3", "three.md"]
    mean = np.array([6 / 8, 2 / 8, 0])
    np.testing.assert_allclose(space.vectors, [mean / np.linalg.norm(mean), [0, 0, 1], [0, 0, 0]], atol=1e-6)
    assert space.pieces[0].metadata == {"kind": "x"}


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_vectors_are_exact_at_any_faiss_precision(tmp_path: Path, precision: Any) -> None:
    vectors = np.random.default_rng(1).normal(size=(3000, 8)).astype(np.float32)
    store = FaissStore(tmp_path / "index", precision=precision)
    store.add([node(str(number), "text", vector.tolist()) for number, vector in enumerate(vectors)])
    assert np.array_equal(node_space(store).vectors, vectors)
    store.close()
    assert np.array_equal(node_space(FaissStore(tmp_path / "index", precision=precision)).vectors, vectors)


def test_an_empty_index_is_an_error_with_a_hint(tmp_path: Path) -> None:
    store = FaissStore(tmp_path / "index")
    assert store.nodes_with_vectors()[1].shape == (0, 0)
    with pytest.raises(IndexNotBuilt, match=r"index: the index is empty; call sync\(\)"):
        node_space(store)
    store.add([node("1", "a", [1, 0])])
    store.clear()
    with pytest.raises(IndexNotBuilt):
        node_space(store)


def test_a_store_that_does_not_return_vectors_is_an_error() -> None:
    from llama_index.core.vector_stores import SimpleVectorStore

    with pytest.raises(StoreError, match="a SimpleVectorStore does not return its vectors; use the store"):
        node_space(SimpleVectorStore())


# ---------------------------------------------------------------------------------- vocabularies


def test_words_are_ordered_by_frequency() -> None:
    texts = ["The heron, the Heron and the eel.", "The eel 42 a I", "東 the"]
    assert words_of(texts) == ["the", "eel", "heron", "and", "東"]
    assert words_of(texts, 2) == ["the", "eel"]
    assert words_of(["Paris paris Paris"]) == ["Paris"]
    assert words_of(["12 3.4 — x"]) == []


def test_common_words_have_a_low_weight() -> None:
    texts = [f"the the the topic{number % 3} of" for number in range(30)]
    assert words_of(texts)[0] == "the"
    assert words_of(texts, by="weight")[:3] == ["topic0", "topic1", "topic2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty; write one text per line"), (b" \n\n", "is empty"), (b"caf\xe9", "is not UTF-8 (byte 3)")],
)
def test_a_file_without_words_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "words.txt").write_bytes(content)
    with pytest.raises(QuestionError) as caught:
        read_lines(tmp_path / "words.txt")
    assert message in str(caught.value)


def test_a_file_of_words_is_read_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes("\ufeffking\r\n New York \n\nking\ncafé".encode())
    assert read_lines(tmp_path / "words.txt") == ["king", "New York", "café"]
    with pytest.raises(QuestionError, match=r"none\.txt: No such file"):
        read_lines(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fruit: [apple, pear]\nyear:\n  - 1984\n", {"fruit": ["apple", "pear"], "year": ["1984"]}),
        ('{"fruit": ["apple"]}', {"fruit": ["apple"]}),
        ("fruit: apple", "('fruit' has no list)"),
        ("- a", "write names with lists of examples, such as  fruit: [apple, pear, plum]"),
        ("", "write names with lists"),
        ("a: [b", "write names with lists"),
    ],
)
def test_concepts_come_from_yaml_or_json(tmp_path: Path, text: str, expected: Any) -> None:
    path = tmp_path / "concepts.yaml"
    path.write_text(text)
    if isinstance(expected, dict):
        assert read_concepts(path) == expected
        return
    with pytest.raises(QuestionError) as caught:
        read_concepts(path)
    assert expected in str(caught.value)
    with pytest.raises(QuestionError, match="No such file"):
        read_concepts(tmp_path / "none.yaml")


# ---------------------------------------------------------------------------------- cache


def newly_encoded(encoder: Letters) -> list[str]:
    """The texts encoded since the last call, without the fixed sentence that identifies encoders."""
    texts = [text for text in encoder.seen if "quick brown fox" not in text]
    encoder.seen.clear()
    return texts


def test_words_are_encoded_once() -> None:
    encoder = Letters(seen=[])
    first = encode_vocabulary(encoder, ["king", "queen", "king"])
    assert sorted(newly_encoded(encoder)) == ["king", "queen"]
    again = encode_vocabulary(encoder, ["queen", "prince", "king"])
    assert newly_encoded(encoder) == ["prince"]
    assert np.array_equal(again.vectors[[2, 0]], first.vectors[:2])
    assert encode_vocabulary(encoder, ["king"], cache=False).vectors.shape == (1, 26)
    assert newly_encoded(encoder) == ["king"]


def test_another_encoder_has_vectors_of_its_own() -> None:
    for first, second in ((Letters(), Letters(seen=[], size=5)), (Letters(), Letters(seen=[], model_name="other"))):
        encode_vocabulary(first, ["king"])
        assert encode_vocabulary(second, ["king"]).vectors.shape == (1, second.size)
        assert newly_encoded(second) == ["king"]


def test_the_same_name_with_other_vectors_is_another_encoder() -> None:
    class Shifted(Letters):
        def _get_text_embedding(self, text: str) -> list[float]:
            vector = super()._get_text_embedding(text)
            return [*vector[1:], vector[0]]

    assert Shifted.class_name() == Letters.class_name()
    encode_vocabulary(Letters(), ["ab"])
    assert encode_vocabulary(Shifted(), ["ab"]).vectors[0, [0, 25]].tolist() == [1, 1]


def test_a_moved_encoder_class_keeps_its_cached_vectors() -> None:
    class Moved(Letters):
        pass

    Moved.__module__, Moved.__qualname__ = "elsewhere", "Renamed"
    encode_vocabulary(Letters(), ["king"])
    moved = Moved(seen=[])
    assert encode_vocabulary(moved, ["king"]).texts == ["king"]
    assert newly_encoded(moved) == []


def test_without_a_usable_cache_words_are_encoded_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Letters(seen=[])
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "words.sqlite").write_bytes(b"no database" * 100)
    with caplog.at_level(logging.WARNING):
        assert encode_vocabulary(encoder, ["king"]).texts == ["king"]
    assert "vectors of words are not cached, so each run encodes them again" in caplog.text
    monkeypatch.setenv("RAG_PLUGIN_CACHE", str(folder / "words.sqlite" / "inside"))
    caplog.clear()
    assert encode_vocabulary(encoder, ["king"]).texts == ["king"]
    assert "are not cached" in caplog.text


def test_the_cache_removes_the_oldest_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rag_plugin.explore.cache._MAX_VECTORS", 3)
    encoder = Letters(seen=[])
    for words in (["a", "b"], ["c", "d"]):
        encode_vocabulary(encoder, words)
    path = VectorCache.of(encoder).path
    with sqlite3.connect(path) as connection:
        assert [text for (text,) in connection.execute("SELECT text FROM word ORDER BY seq")] == ["b", "c", "d"]
    connection.close()
    newly_encoded(encoder)
    encode_vocabulary(encoder, ["a", "d"])
    assert newly_encoded(encoder) == ["a"]


def test_processes_share_the_cache(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "from tests.explore.test_vectors import Letters\n"
        "from rag_plugin.explore import encode_vocabulary\n"
        "words = [f'{word}x{sys.argv[1]}' for word in range(300)] + [f'all{n}' for n in range(300)]\n"
        "assert len(encode_vocabulary(Letters(), words)) == 600\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(number)], cwd=ROOT) for number in range(3)]
    assert [process.wait(timeout=120) for process in running] == [0, 0, 0]
    encoder = Letters(seen=[])
    encode_vocabulary(encoder, [f"{word}x{number}" for word in range(300) for number in range(3)])
    assert newly_encoded(encoder) == []


def test_two_first_writers_share_one_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, probe, vector = tmp_path / "words.sqlite", np.ones(4, np.float32), np.ones((1, 4), np.float32)
    first, second = VectorCache("letters", probe, path), VectorCache("letters", probe, path)
    look_up = VectorCache._encoder_id
    writing = threading.Thread(target=second.write, args=(["second"], vector))

    def interrupted(self: VectorCache, connection: Any) -> int | None:
        found = look_up(self, connection)
        if self is first:
            writing.start()
            writing.join(timeout=1)  # it waits for the transaction of the first
        return found

    monkeypatch.setattr(VectorCache, "_encoder_id", interrupted)
    first.write(["first"], vector)
    writing.join()
    monkeypatch.undo()
    assert set(first.read(["first", "second"])) == {"first", "second"}


# ---------------------------------------------------------------------------------- the module


def test_importing_the_package_loads_no_model_and_no_plotting() -> None:
    modules = imported_by("import rag_plugin.explore")
    assert modules.isdisjoint({"torch", "transformers", "sentence_transformers", "matplotlib", "umap", "scipy"})


def test_every_name_of_the_module_is_documented() -> None:
    for name in rag_plugin.explore.__all__:
        value = getattr(rag_plugin.explore, name)
        assert name in ("Granularity", "Method", "GRANULARITIES", "METHODS") or value.__doc__, name
    assert len(rag_plugin.explore.__all__) == len(set(rag_plugin.explore.__all__))

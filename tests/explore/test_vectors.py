"""Spaces: what is near, what can be calculated, what an index holds, what is kept for the next time."""

from __future__ import annotations

import json
import logging
import sqlite3
import subprocess
import sys
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
    """How often a text has each letter: vectors that can be worked out by hand. It counts the texts it was given."""

    size: int = 26
    seen: list[str] = []

    def _get_text_embedding(self, text: str) -> list[float]:
        self.seen.append(text)
        if text == "broken":
            return [float("nan")] * self.size
        return [float(text.lower().count(chr(ord("a") + place))) for place in range(self.size)]

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

# ---------------------------------------------------------------------------------- near


@given(matrices, matrices)
def test_similarity_is_the_cosine(first: Any, second: Any) -> None:
    space = space_of(first)
    exact = first.astype(np.float64) / np.linalg.norm(first.astype(np.float64), axis=1, keepdims=True)
    np.testing.assert_allclose(space.similarity(), exact @ exact.T, atol=1e-6)
    if first.shape[1] == second.shape[1]:
        other = second.astype(np.float64) / np.linalg.norm(second.astype(np.float64), axis=1, keepdims=True)
        np.testing.assert_allclose(space.similarity(space_of(second)), exact @ other.T, atol=1e-6)
    else:
        with pytest.raises(ValueError, match="are of different encoders"):
            space.similarity(space_of(second))


@given(matrices, st.integers(1, 15), st.integers(0, 999))
def test_nearest_are_those_that_comparing_with_each_finds(matrix: Any, top_k: int, seed: int) -> None:
    vector = np.random.default_rng(seed).normal(size=matrix.shape[1])
    found = space_of(matrix).nearest(vector, top_k)
    cosines = [float(row @ vector / np.linalg.norm(row) / np.linalg.norm(vector)) for row in matrix.astype(np.float64)]
    assert len(found) == min(top_k, len(matrix))
    np.testing.assert_allclose([item.score for item in found], sorted(cosines, reverse=True)[:top_k], atol=1e-5)
    for item in found:
        number = int(item.piece.text.removeprefix("text "))
        assert item.score == pytest.approx(cosines[number], abs=1e-5)


def test_length_does_not_count_and_what_is_equally_near_keeps_its_order() -> None:
    space = space_of([[0, 5], [3, 0], [1e-30, 0], [1e18, 0]], ["up", "b", "c", "a"])
    assert [item.piece.text for item in space.nearest(np.array([7.0, 0.0]))] == ["b", "c", "a", "up"]


def test_a_vector_of_zeros_is_near_to_nothing() -> None:
    space = space_of([[0, 0], [1, 0]])
    assert space.similarity().tolist() == [[0, 0], [0, 1]]
    assert [item.score for item in space.nearest(np.array([1, 0]))] == [1, 0]
    with pytest.raises(QuestionError, match="a vector of zeros points nowhere"):
        space.nearest(np.zeros(2))


def test_what_is_not_wanted_is_left_out_however_it_is_written() -> None:
    space = space_of([[1, 0], [1, 0.1], [1, 0.2], [1, 0.3]], ["Café", "cafe", "NEW york", "river"])
    found = space.nearest(np.array([1, 0]), leave_out=["CAFE\u0301", "new  York"])
    assert [item.piece.text for item in found] == ["cafe", "river"]


def test_of_equal_texts_the_nearest_is_enough() -> None:
    space = space_of([[1, 0.5], [1, 0], [0, 1], [1, 0.1]], ["Bank", "bank", "river", "bank"])
    found = space.nearest(np.array([1, 0]), each=False)
    assert [(item.piece.text, round(item.score, 2)) for item in found] == [("bank", 1.0), ("river", 0.0)]
    assert len(space.nearest(np.array([1, 0]), each=True)) == 4


def test_an_empty_space_says_so() -> None:
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


def test_a_vector_that_is_not_finite_is_an_error_that_names_the_text() -> None:
    with pytest.raises(ComponentError, match="the encoder's vector of 'broken' is not made of finite numbers"):
        encode(Letters(), ["fine", "broken"])


def test_ours_are_the_encoders_own_vectors(minilm: Any) -> None:
    texts = ["Apple", "Fruit", "Car"]
    plain = minilm._model.encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(encode(minilm, texts).vectors, plain, atol=1e-6)
    apple, fruit, car = range(3)
    found = encode(minilm, texts).similarity()
    np.testing.assert_allclose(found, plain @ plain.T, atol=1e-6)
    assert found[apple, fruit] > found[apple, car]


# ---------------------------------------------------------------------------------- calculated


def test_a_sum_is_of_directions_and_weights() -> None:
    encoder = Letters()
    found = sum_of(encoder, "2 * aab - 0.5 * bb + c")
    expected = np.zeros(26)
    expected[:3] = 2 * np.array([2, 1, 0]) / np.sqrt(5) - 0.5 * np.array([0, 1, 0]) + np.array([0, 0, 1])
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_an_analogy_leaves_its_terms_out(minilm: Any) -> None:
    words = ["king", "Queen", "KING", "woman", "apple", "prince", "man"]
    found = analogy(minilm, "king - man + woman", words, 2)
    assert [item.piece.text for item in found] == ["Queen", "prince"]
    plain = minilm._model.encode(["king", "man", "woman", "Queen"], normalize_embeddings=True).astype(np.float64)
    total = plain[0] - plain[1] + plain[2]
    assert found[0].score == pytest.approx(float(total @ plain[3] / np.linalg.norm(total)), abs=1e-6)
    assert analogy(minilm, Expression((Term("king"), Term("man", -1), Term("woman"))), words, 2) == found


@pytest.mark.parametrize(
    ("expression", "vocabulary", "message"),
    [
        ("a - a", ["b"], "the terms of 'a - a' cancel out, and nothing is near to nothing"),
        ("2 * a - aa - a", ["b"], "cancel out"),
        ("a", [], "the vocabulary is empty"),
        ("a - b", ["A", "b"], "the vocabulary holds nothing besides the terms of 'a - b'"),
        ("a -", ["b"], "nothing stands behind the '-'"),
    ],
)
def test_an_analogy_without_an_answer_says_why(expression: str, vocabulary: list[str], message: str) -> None:
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
    made = TextNode(id_=name, text=text, embedding=list(vector), metadata=metadata)
    if document is not None:
        made.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=document)
    return made


@pytest.fixture
def store(tmp_path: Path) -> FaissStore:
    found = FaissStore(tmp_path / "index")
    found.add(
        [
            node("1", "abcdef", [3, 0, 0], "one.md", page=1, kind="x"),
            node("2", "ab", [0, 5, 0], "one.md", page=2, kind="x"),
            node("3", "no document", [0, 0, 2]),
            node("4", "gone", [1, 1, 1], "two.md"),
            node("5", "", [0, 0, 0], "three.md"),
        ]
    )
    found.delete("two.md")
    return found


def test_the_nodes_of_an_index_come_with_the_vectors_that_it_holds(store: FaissStore) -> None:
    space = node_space(store)
    assert space.texts == ["abcdef", "ab", "no document", ""]
    assert space.vectors.tolist() == [[3, 0, 0], [0, 5, 0], [0, 0, 2], [0, 0, 0]]
    first = space.pieces[0]
    assert (first.document, first.node, first.metadata) == ("one.md", "1", {"page": 1, "kind": "x"})
    nodes, vectors = store.nodes_with_vectors()
    assert [found.node_id for found in nodes] == ["1", "2", "3", "5"]
    assert nodes == store.get_nodes()
    assert vectors.dtype == np.float32


def test_a_document_is_the_mean_of_its_nodes_by_their_length(store: FaissStore) -> None:
    space = document_space(node_space(store))
    assert space.texts == ["one.md", "3", "three.md"]
    mean = np.array([6 / 8, 2 / 8, 0])
    np.testing.assert_allclose(space.vectors, [mean / np.linalg.norm(mean), [0, 0, 1], [0, 0, 0]], atol=1e-6)
    assert space.pieces[0].metadata == {"kind": "x"}


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_vectors_are_exact_whatever_faiss_keeps_of_them(tmp_path: Path, precision: Any) -> None:
    vectors = np.random.default_rng(1).normal(size=(3000, 8)).astype(np.float32)
    store = FaissStore(tmp_path / "index", precision=precision)
    store.add([node(str(number), "text", vector.tolist()) for number, vector in enumerate(vectors)])
    assert np.array_equal(node_space(store).vectors, vectors)
    store.close()
    assert np.array_equal(node_space(FaissStore(tmp_path / "index", precision=precision)).vectors, vectors)


def test_an_index_with_nothing_in_it_says_what_to_do(tmp_path: Path) -> None:
    store = FaissStore(tmp_path / "index")
    assert store.nodes_with_vectors()[1].shape == (0, 0)
    with pytest.raises(IndexNotBuilt, match="index: nothing is in it; run `rag-plugin sync`"):
        node_space(store)
    store.add([node("1", "a", [1, 0])])
    store.clear()
    with pytest.raises(IndexNotBuilt):
        node_space(store)


def test_a_store_that_keeps_its_vectors_to_itself_says_so() -> None:
    from llama_index.core.vector_stores import SimpleVectorStore

    with pytest.raises(StoreError, match="a SimpleVectorStore does not give its vectors back; this needs the store"):
        node_space(SimpleVectorStore())


# ---------------------------------------------------------------------------------- vocabularies


def test_the_words_of_texts_come_by_their_number() -> None:
    texts = ["The heron, the Heron and the eel.", "The eel 42 a I", "東 the"]
    assert words_of(texts) == ["the", "eel", "heron", "and", "東"]
    assert words_of(texts, 2) == ["the", "eel"]
    assert words_of(["Paris paris Paris"]) == ["Paris"]
    assert words_of(["12 3.4 — x"]) == []


def test_words_that_are_everywhere_weigh_little() -> None:
    texts = [f"the the the topic{number % 3} of" for number in range(30)]
    assert words_of(texts)[0] == "the"
    assert words_of(texts, by="weight")[:3] == ["topic0", "topic1", "topic2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty; write a text a line"), (b" \n\n", "is empty"), (b"caf\xe9", "is not UTF-8 (byte 3)")],
)
def test_a_file_of_words_that_has_none_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
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
    ("text", "found"),
    [
        ("fruit: [apple, pear]\nyear:\n  - 1984\n", {"fruit": ["apple", "pear"], "year": ["1984"]}),
        ('{"fruit": ["apple"]}', {"fruit": ["apple"]}),
        ("fruit: apple", "('fruit' has no list)"),
        ("- a", "write names with lists of examples, such as  fruit: [apple, pear, plum]"),
        ("", "write names with lists"),
        ("a: [b", "write names with lists"),
    ],
)
def test_concepts_come_from_yaml_or_json(tmp_path: Path, text: str, found: Any) -> None:
    path = tmp_path / "concepts.yaml"
    path.write_text(text)
    if isinstance(found, dict):
        assert read_concepts(path) == found
        return
    with pytest.raises(QuestionError) as caught:
        read_concepts(path)
    assert found in str(caught.value)
    with pytest.raises(QuestionError, match="No such file"):
        read_concepts(tmp_path / "none.yaml")


# ---------------------------------------------------------------------------------- what is kept


def new(encoder: Letters) -> list[str]:
    """What was encoded since the last time, without the fixed sentence that tells encoders apart."""
    found = [text for text in encoder.seen if "quick brown fox" not in text]
    encoder.seen.clear()
    return found


def test_words_are_encoded_once() -> None:
    encoder = Letters(seen=[])
    first = encode_vocabulary(encoder, ["king", "queen", "king"])
    assert sorted(new(encoder)) == ["king", "queen"]
    again = encode_vocabulary(encoder, ["queen", "prince", "king"])
    assert new(encoder) == ["prince"]
    assert np.array_equal(again.vectors[[2, 0]], first.vectors[:2])
    assert encode_vocabulary(encoder, ["king"], cache=False).vectors.shape == (1, 26)
    assert new(encoder) == ["king"]


def test_another_encoder_has_vectors_of_its_own() -> None:
    for first, second in ((Letters(), Letters(seen=[], size=5)), (Letters(), Letters(seen=[], model_name="other"))):
        encode_vocabulary(first, ["king"])
        assert encode_vocabulary(second, ["king"]).vectors.shape == (1, second.size)
        assert new(second) == ["king"]


def test_the_same_name_with_other_vectors_is_another_encoder() -> None:
    class Shifted(Letters):
        def _get_text_embedding(self, text: str) -> list[float]:
            found = super()._get_text_embedding(text)
            return [*found[1:], found[0]]

    Shifted.__qualname__ = Letters.__qualname__
    encode_vocabulary(Letters(), ["ab"])
    assert encode_vocabulary(Shifted(), ["ab"]).vectors[0, [0, 25]].tolist() == [1, 1]


def test_a_cache_that_cannot_be_used_costs_time_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Letters(seen=[])
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "words.sqlite").write_bytes(b"no database" * 100)
    with caplog.at_level(logging.WARNING):
        assert encode_vocabulary(encoder, ["king"]).texts == ["king"]
    assert "vectors of words are not kept, which costs time and nothing else" in caplog.text
    monkeypatch.setenv("RAG_PLUGIN_CACHE", str(folder / "words.sqlite" / "inside"))
    caplog.clear()
    assert encode_vocabulary(encoder, ["king"]).texts == ["king"]
    assert "are not kept" in caplog.text


def test_the_cache_lets_go_of_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rag_plugin.explore.cache._MOST", 3)
    encoder = Letters(seen=[])
    for words in (["a", "b"], ["c", "d"]):
        encode_vocabulary(encoder, words)
    path = VectorCache.of(encoder).path
    with sqlite3.connect(path) as connection:
        assert [text for (text,) in connection.execute("SELECT text FROM word ORDER BY seq")] == ["b", "c", "d"]
    connection.close()
    new(encoder)
    encode_vocabulary(encoder, ["a", "d"])
    assert new(encoder) == ["a"]


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
    assert new(encoder) == []


# ---------------------------------------------------------------------------------- the module


def test_the_module_loads_no_model_and_draws_nothing_until_it_is_asked() -> None:
    found = imported_by("import rag_plugin.explore")
    assert found.isdisjoint({"torch", "transformers", "sentence_transformers", "matplotlib", "umap", "scipy"})


def test_every_name_of_the_module_is_documented() -> None:
    for name in rag_plugin.explore.__all__:
        found = getattr(rag_plugin.explore, name)
        assert name in ("Granularity", "Method", "GRANULARITIES", "METHODS") or found.__doc__, name
    assert json.dumps(sorted(rag_plugin.explore.__all__)) == json.dumps(sorted(set(rag_plugin.explore.__all__)))

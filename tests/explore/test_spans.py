"""Spans of characters, words, sentences and tokens, and their vectors in context."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rag_plugin.errors import ComponentError, QuestionError
from rag_plugin.explore import (
    TokenVectors,
    character_spans,
    encode,
    encode_pieces,
    find_spans,
    sentence_spans,
    token_vectors,
    vector_of,
    word_spans,
)
from tests.components.encoders.minilm import library_encoder_of
from tests.conftest import MINILM

some_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
BANKS = ["She sat on the bank of the river.", "The bank lent me money.", "I opened an account at a bank."]


def parts(text: str, spans: Any) -> list[str]:
    return [text[start:end] for start, end in spans]


def covered(spans: Any) -> set[int]:
    return {place for start, end in spans for place in range(start, end)}


# ---------------------------------------------------------------------------------- spans


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A well-known café, isn't it?", ["A", "well-known", "café", "isn't", "it"]),
        ("Python 3.10 - 3.13", ["Python", "3.10", "3.13"]),
        ("東京は大きい", ["東", "京", "は", "大", "きい"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("cafe\u0301 nai\u0308ve", ["cafe\u0301", "nai\u0308ve"]),
        ("snake_case", ["snake", "case"]),
        (" — … !", []),
    ],
)
def test_words_are_letters_marks_and_digits(text: str, words: list[str]) -> None:
    assert parts(text, word_spans(text)) == words


def test_sentences_end_at_their_points_and_at_blank_lines() -> None:
    text = "# Title\n\nThe heron came. He sat\ndown!  \n\n\n  東京は大きい。大阪も。Yes."
    sentences = parts(text, sentence_spans(text))
    assert sentences == ["# Title", "The heron came.", "He sat\ndown!", "東京は大きい。", "大阪も。", "Yes."]


@settings(deadline=None)
@given(some_text)
@example("a\u0301b \U0001f468\u200d\U0001f469\u200d\U0001f467 x")
def test_no_character_is_lost_or_doubled(text: str) -> None:
    visible = {place for place, character in enumerate(text) if not character.isspace()}
    for split in (character_spans, sentence_spans):
        spans = split(text)
        assert visible <= covered(spans)
        assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:]))
        assert all(0 <= start < end <= len(text) for start, end in spans)
    words = word_spans(text)
    assert {place for place, character in enumerate(text) if character.isalpha() or character.isdecimal()} <= covered(
        words
    )
    assert all(a[1] <= b[0] for a, b in zip(words, words[1:]))


@pytest.mark.parametrize(
    ("text", "phrase", "expected"),
    [
        ("The Bank's banker banks at the bank.", "bank", ["Bank", "bank"]),
        ("new\nYork, New  York", "New York", ["new\nYork", "New  York"]),
        ("STRASSE and straße", "straße", ["STRASSE", "straße"]),
        ("a+b (a+b)", "a+b", ["a+b", "a+b"]),
        ("river", "bank", []),
    ],
)
def test_a_phrase_is_found_as_a_whole_word_in_any_case(text: str, phrase: str, expected: list[str]) -> None:
    assert parts(text, find_spans(text, phrase)) == expected


# ---------------------------------------------------------------------------------- tokens


def test_token_vectors_are_the_models_own_last_hidden_state(minilm: Any, library_minilm: Any) -> None:
    plain = library_minilm.encode(BANKS, output_value="token_embeddings")
    for tokens, states in zip(token_vectors(minilm, BANKS), plain):
        np.testing.assert_allclose(tokens.vectors, states.cpu().numpy()[1:-1], atol=1e-5)  # without [CLS] and [SEP]
        assert " ".join(parts(tokens.text, tokens.spans)) == tokens.text.replace(".", " .")


@settings(max_examples=25, deadline=None)  # the first example loads what the model needs
@given(st.lists(some_text, min_size=1, max_size=3))
@example(["[SEP] x [CLS]", "naïve café ﬁne Ⅷ", "\u202eabc", "e\u0301" * 9])
def test_tokens_cover_characters_of_the_text_in_order(minilm: Any, texts: list[str]) -> None:
    for text in texts:
        if not text.strip():
            continue
        (tokens,) = token_vectors(minilm, [text])
        assert len(tokens.spans) == len(tokens.vectors)
        assert all(0 <= start < end <= len(text) for start, end in tokens.spans)
        assert [start for start, _ in tokens.spans] == sorted(start for start, _ in tokens.spans)
        assert np.isfinite(tokens.vectors).all()
        space = encode_pieces(minilm, [text], "word")
        for piece in space.pieces:
            assert text[piece.start : piece.start + len(piece.text)] == piece.text
        assert {(piece.start, piece.text) for piece in space.pieces} <= {
            (start, text[start:end]) for start, end in word_spans(text)
        }


spans_of_tokens = st.lists(st.integers(0, 3), min_size=1, max_size=12)


@given(spans_of_tokens, st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=6), st.integers(0, 99))
def test_the_mean_of_a_span_is_that_of_the_overlapping_tokens(gaps: list[int], lengths: Any, seed: int) -> None:
    spans, position = [], 0
    for gap in gaps:  # tokens in order, with gaps between them and one to three characters long
        position += gap
        spans.append((position, position + 1 + gap % 3))
        position = spans[-1][1]
    vectors = np.random.default_rng(seed).normal(size=(len(spans), 5)).astype(np.float32)
    queries = [(start, start + length) for start, length in lengths]
    means = TokenVectors("", tuple(spans), vectors).means(queries)
    for (start, end), mean in zip(queries, means):
        inside = [vector for (a, b), vector in zip(spans, vectors) if a < end and b > start]
        if inside:
            np.testing.assert_allclose(mean, np.mean(inside, axis=0), atol=1e-5)
        else:
            assert np.isnan(mean).all()


def encoder_with_limit(limit: int, **settings: Any) -> Any:
    from rag_plugin import load_config

    encoder = {"type": "huggingface", "model": MINILM, "device": "cpu", "max_length": limit, **settings}
    return load_config({"encoder": encoder}, provided=("reader", "store")).build("encoder")


def test_a_text_longer_than_the_limit_loses_no_token(minilm: Any) -> None:
    text = " ".join(f"word{number} by the river" for number in range(40))
    encoder = encoder_with_limit(20)
    (complete,) = token_vectors(minilm, [text])
    (windowed,) = token_vectors(encoder, [text])
    assert windowed.spans == complete.spans
    # The first window equals the truncated text, and the first half of its tokens is taken from it.
    library = library_encoder_of(device="cpu", max_length=20)._model
    (truncated,) = library.encode([text], output_value="token_embeddings")
    np.testing.assert_allclose(windowed.vectors[:9], truncated.cpu().numpy()[1:10], atol=1e-5)
    cosines = np.einsum("ij,ij->i", windowed.vectors, complete.vectors) / (
        np.linalg.norm(windowed.vectors, axis=1) * np.linalg.norm(complete.vectors, axis=1)
    )
    assert cosines.min() > 0.2
    assert cosines.mean() > 0.6
    # Each token has at least a quarter of a window as context on both sides, except at the ends of the text.
    (last,) = library.encode([text[complete.spans[-18][0] :]], output_value="token_embeddings")
    np.testing.assert_allclose(windowed.vectors[-5:], last.cpu().numpy()[-6:-1], atol=1e-5)


@pytest.mark.parametrize("count", [*range(1, 40)])
def test_windows_of_any_length_of_text_fit_together(count: int) -> None:
    from rag_plugin.explore.contextual import _TokenEncoder, _TokenizedText, merge_windows

    encoder = object.__new__(_TokenEncoder)
    encoder.max_tokens = 9
    windows = list(encoder.windows(_TokenizedText([1], list(range(count)), [2], ())))
    assert all(len(window) <= 7 for window in windows)
    states = [(window, np.array([[index] for index in window], dtype=np.float32)) for window in windows]
    assert merge_windows(count, states)[:, 0].tolist() == list(range(count))
    assert len(windows) == 1 or count > 7


def test_the_prompt_is_before_the_text_and_not_in_it(library_minilm: Any) -> None:
    encoder = encoder_with_limit(256, document_prompt="passage: ")
    (tokens,) = token_vectors(encoder, [BANKS[0]])
    (plain,) = library_minilm.encode(["passage: " + BANKS[0]], output_value="token_embeddings")
    assert parts(BANKS[0], tokens.spans)[0] == "She"
    np.testing.assert_allclose(tokens.vectors, plain.cpu().numpy()[3:-1], atol=1e-6)  # [CLS] passage :


def test_a_prompt_that_leaves_no_room_is_an_error() -> None:
    with pytest.raises(ComponentError, match="the encoder's input is limited to 8 tokens, of which its prompt takes 8"):
        list(token_vectors(encoder_with_limit(8, document_prompt="one two three four five six seven "), ["a b c"]))


def test_an_encoder_without_token_vectors_is_an_error() -> None:
    from llama_index.core import MockEmbedding

    with pytest.raises(ComponentError) as caught:
        encode_pieces(MockEmbedding(embed_dim=3), ["a"], "word")
    assert str(caught.value) == (
        "the encoder MockEmbedding has vectors of texts only, not of tokens; for tokens, words and characters use a "
        "sentence-transformers model (encoder: {type: huggingface, model: ...})"
    )


def test_token_vectors_leave_the_encoder_unchanged(minilm: Any) -> None:
    before = encode(minilm, BANKS).vectors
    state = minilm._model.tokenizer.backend_tokenizer.to_str()
    list(token_vectors(minilm, BANKS))
    assert minilm._model.tokenizer.backend_tokenizer.to_str() == state
    np.testing.assert_allclose(encode(minilm, BANKS).vectors, before, atol=1e-6)


# ---------------------------------------------------------------------------------- pieces


def test_the_same_word_has_another_vector_in_another_sentence(minilm: Any) -> None:
    space = encode_pieces(minilm, BANKS, "word", only="bank")
    river, lent, account = range(3)
    similarity = space.similarity()
    assert space.texts == ["bank"] * 3
    assert similarity[lent, account] > similarity[river, lent] > similarity[river, account]


def test_a_word_is_the_mean_of_its_tokens(minilm: Any) -> None:
    text = "An unbelievable lapwing."
    (tokens,) = token_vectors(minilm, [text])
    space = encode_pieces(minilm, [text], "word")
    row = space.texts.index("lapwing")
    vectors = [vector for (start, end), vector in zip(tokens.spans, tokens.vectors) if start >= 16 and end <= 23]
    assert len(vectors) > 1
    np.testing.assert_allclose(space.vectors[row], np.mean(vectors, axis=0), atol=1e-6)
    np.testing.assert_allclose(
        encode_pieces(minilm, [text], "character").vectors[2], tokens.means([(3, 4)])[0], atol=1e-6
    )


def test_a_sentence_is_encoded_alone_and_a_text_as_a_whole(minilm: Any) -> None:
    text = "The heron eats fish. The oven is hot."
    sentences = encode_pieces(minilm, [text], "sentence")
    alone = encode(minilm, ["The heron eats fish.", "The oven is hot."]).vectors
    np.testing.assert_allclose(sentences.vectors, alone, atol=1e-6)
    assert [(piece.context, piece.start) for piece in sentences.pieces] == [(text, 0), (text, 21)]
    np.testing.assert_allclose(encode_pieces(minilm, [text]).vectors, encode(minilm, [text]).vectors, atol=1e-6)


def test_the_direction_of_a_text_below_a_sentence_is_that_of_its_tokens(minilm: Any) -> None:
    (tokens,) = token_vectors(minilm, [BANKS[0]])
    mean = tokens.vectors.mean(axis=0)
    np.testing.assert_allclose(vector_of(minilm, [BANKS[0]], "word"), mean / np.linalg.norm(mean), atol=1e-6)
    (bank,) = encode_pieces(minilm, [BANKS[0]], "word", only="bank").directions
    np.testing.assert_allclose(vector_of(minilm, [BANKS[0]], "word", only="bank"), bank, atol=1e-6)


@pytest.mark.parametrize(
    ("texts", "granularity", "only", "message"),
    [
        (["a river"], "word", "bank", "the word 'bank' is not in 'a river'"),
        (["a", " "], "text", None, "text 2 of 2 is empty"),
        (["\n"], "token", None, "the text is empty"),
        (["a\udcff"], "text", None, "the text contains a lone surrogate, so it is not UTF-8"),
        (["a\udcff"], "word", None, "the text contains a lone surrogate, so it is not UTF-8"),
        (["a"], "syllable", None, "there is no granularity 'syllable': text, sentence, word, token, character"),
        (["a"], "token", "a", "a single word can only be selected with the granularity 'word'"),
    ],
)
def test_invalid_pieces_are_an_error(
    minilm: Any, texts: list[str], granularity: Any, only: str | None, message: str
) -> None:
    with pytest.raises(QuestionError) as caught:
        encode_pieces(minilm, texts, granularity, only=only)
    assert str(caught.value) == message


def test_a_text_without_tokens_has_no_pieces(minilm: Any) -> None:
    assert encode_pieces(minilm, ["\u200b", "a river"], "word").texts == ["a", "river"]
    assert len(encode_pieces(minilm, ["\u200b"], "token")) == 0
    with pytest.raises(QuestionError, match=r"the encoder's tokenizer produces no tokens for '\\u200b'"):
        vector_of(minilm, ["\u200b"], "token")

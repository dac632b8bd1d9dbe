"""Batches: sorted by length, within a budget, equal to what sentence-transformers gives, shared by all who ask."""

from __future__ import annotations

import asyncio
import pickle
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_plugin import EncoderError
from rag_plugin.components.encoders.batching import DynamicBatcher, FairLock, batches_by_length, windows_by_length
from rag_plugin.components.encoders.matrix import encode_documents, encode_queries
from tests.components.encoders.minilm import encoder_of, library_encoder_of, texts_of_all_lengths
from tests.conftest import ROOT

# ---------------------------------------------------------------------------------- which texts go together


@given(st.lists(st.integers(0, 300), max_size=80), st.none() | st.integers(1, 9), st.none() | st.integers(1, 600))
def test_each_text_is_in_one_batch_and_no_batch_is_larger_than_allowed(
    lengths: list[int], texts: int | None, tokens: int | None
) -> None:
    batches = list(batches_by_length(lengths, max_texts=texts, max_tokens=tokens))
    assert sorted(number for batch in batches for number in batch) == list(range(len(lengths)))
    flat = [lengths[number] for batch in batches for number in batch]
    assert flat == sorted(lengths, reverse=True)
    for batch in batches:
        if texts is not None:
            assert len(batch) <= texts
        if tokens is not None:
            assert len(batch) == 1 or len(batch) * lengths[batch[0]] <= tokens


@given(st.lists(st.integers(0, 400_000).map(lambda size: "x" * size), max_size=8))
def test_a_window_holds_no_more_than_memory_should(texts: list[str]) -> None:
    windows = list(windows_by_length(texts))
    assert sorted(number for window in windows for number in window) == list(range(len(texts)))
    for window in windows:
        assert len(window) == 1 or sum(len(texts[number]) for number in window) <= 250_000


# ---------------------------------------------------------------------------------- the same vectors


@pytest.mark.parametrize("batch_size", ["auto", 1, 3, 64])
def test_vectors_equal_those_of_the_library_whatever_the_batches(library_minilm: Any, batch_size: Any) -> None:
    texts = ["", " ", *texts_of_all_lengths(20)]
    encoder = encoder_of(batch_size=batch_size, device="cpu")
    theirs = library_minilm.encode(texts, batch_size=32, normalize_embeddings=True)
    assert np.abs(encoder.encode_documents(texts) - theirs).max() < 1e-6
    assert np.abs(np.array(encoder.get_text_embedding_batch(texts)) - theirs).max() < 1e-6


@pytest.mark.parametrize(
    "settings",
    [
        {"pooling": "cls"},
        {"pooling": "max"},
        {"pooling": "lasttoken"},
        {"normalize": False},
        {"truncate_dim": 100},
        {"max_length": 40},
        {"document_prompt": "passage: "},
    ],
    ids=str,
)
def test_vectors_equal_those_of_the_library_with_settings(settings: dict[str, Any]) -> None:
    texts = texts_of_all_lengths(12)
    encoder = encoder_of(device="cpu", **settings)
    theirs = library_encoder_of(device="cpu", **settings)._model.encode_document(
        texts, prompt=encoder.document_prompt, normalize_embeddings=settings.get("normalize", True)
    )
    assert np.abs(encoder.encode_documents(texts) - theirs).max() < (1e-5 if "normalize" in settings else 1e-6)


def test_a_model_that_is_batched_by_the_library_gives_the_same(minilm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = texts_of_all_lengths(10)
    encoder = library_encoder_of(device="cpu", query_prompt="ask ", truncate_dim=100)
    ours = encoder.encode_queries(texts)
    monkeypatch.setattr(encoder, "_has_token_rows", False)
    assert np.abs(encoder.encode_queries(texts) - ours).max() < 1e-6


def test_no_texts_give_an_empty_matrix(minilm: Any) -> None:
    from llama_index.core.embeddings import MockEmbedding

    for encoder, dimension in ((minilm, 384), (MockEmbedding(embed_dim=7), 7)):
        for encode in (encode_documents, encode_queries):
            empty = encode(encoder, [])
            assert (empty.shape, empty.dtype) == ((0, dimension), np.float32)


def test_an_encoder_without_a_way_of_its_own_keeps_the_order() -> None:
    from tests.fakes import Hashes

    encoder = Hashes()
    texts = [f"{number} " * (number % 7) for number in range(1100)]
    told: list[tuple[int, int]] = []
    found = encode_documents(encoder, texts, lambda *counts: told.append(counts))
    assert found.dtype == np.float32
    assert np.abs(found - np.array([Hashes().get_text_embedding(text) for text in texts])).max() < 1e-6
    assert told == [(512, 0), (512, 0), (76, 0)]
    assert np.abs(encode_queries(encoder, texts[:9]) - found[:9]).max() < 1e-6


def test_progress_tells_texts_and_tokens(minilm: Any) -> None:
    told: list[tuple[int, int]] = []
    minilm.encode_documents(["one two", "one", "x " * 400], lambda *counts: told.append(counts))
    assert [sum(column) for column in zip(*told)] == [3, 4 + 3 + 256]


def test_a_batch_that_does_not_fit_into_memory_is_halved(
    minilm: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    texts = texts_of_all_lengths(9)
    expected = minilm.encode_documents(texts)
    encoder = encoder_of(device="cpu")
    forward, seen = encoder._model.forward, []

    def small(features: dict[str, Any], **kwargs: Any) -> Any:
        seen.append(len(features["input_ids"]))
        if seen[-1] > 2:
            raise torch.OutOfMemoryError("no room")
        return forward(features, **kwargs)

    monkeypatch.setattr(encoder._model, "forward", small)
    before = encoder._batch_tokens
    assert np.abs(encoder.encode_documents(texts) - expected).max() < 1e-6
    assert max(seen) > 2
    assert encoder._batch_tokens < before
    assert "exceeded the device's memory; it is halved" in caplog.text


# ---------------------------------------------------------------------------------- long words


def tokenized(encoder: Any, text: str) -> list[str]:
    """All tokens of a text, without special ones."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(encoder._model.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_truncation()
    return list(tokenizer.encode(text, add_special_tokens=False).tokens)


@pytest.mark.parametrize("character", ["a", "ä", "東", "x1"])
def test_a_long_word_is_read_as_several(minilm: Any, library_minilm: Any, character: str) -> None:
    word = character * 100
    for count in (100, 101, 250, 5000):
        assert "[UNK]" not in tokenized(minilm, (word * 50)[:count])
    assert tokenized(minilm, word[:100]) == library_minilm.tokenizer.tokenize(word[:100])


def test_long_words_that_differ_have_other_vectors(minilm: Any, library_minilm: Any) -> None:
    texts = ["heron" * 40, "bicycle" * 40]
    first, second = library_minilm.encode(texts, normalize_embeddings=True)
    assert first @ second > 0.999  # one unknown token each
    first, second = minilm.encode_documents(texts)
    assert first @ second < 0.9


@pytest.mark.slow
def test_tokenizing_takes_time_in_proportion_to_the_text(minilm: Any) -> None:
    letters = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz", k=400_000))
    seconds = []
    for text in (letters[:100_000], letters):
        started = time.process_time()
        assert "[UNK]" not in tokenized(minilm, text)
        seconds.append(time.process_time() - started)
    assert seconds[1] < 10 * seconds[0]  # four times the text; with quadratic work it were sixteen


@pytest.mark.parametrize("name", ["prose", "code"])
def test_texts_without_long_words_have_the_tokens_that_they_had(minilm: Any, library_minilm: Any, name: str) -> None:
    text = (
        (ROOT / "rag_plugin" / "engine.py").read_text(encoding="utf-8")
        if name == "code"
        else " ".join(texts_of_all_lengths(20))
    )
    assert tokenized(minilm, text) == library_minilm.tokenizer.tokenize(text)


# ---------------------------------------------------------------------------------- bad texts


@pytest.mark.parametrize("asked", ["encode_documents", "encode_queries"])
def test_a_text_that_no_tokenizer_takes_is_told(minilm: Any, asked: str) -> None:
    with pytest.raises(EncoderError) as caught:
        getattr(minilm, asked)(["fine", "half \ud800 of it"])
    assert str(caught.value) == ("a text contains a lone surrogate, which is not valid Unicode: 'half \\ud800 of it'")
    with pytest.raises(TypeError, match=r"^a text to encode is a str, not NoneType$"):
        getattr(minilm, asked)([None])


# ---------------------------------------------------------------------------------- together


class Held:
    """An encoder of groups that waits until it may go on, and remembers what it was given together."""

    def __init__(self, open_from_start: bool = False) -> None:
        self.groups: list[tuple[list[str], str]] = []
        self.entered, self.go_on = threading.Semaphore(0), threading.Semaphore(0)
        self.is_open = open_from_start

    def __call__(self, texts: list[str], role: str) -> Any:
        self.groups.append((texts, role))
        self.entered.release()
        if not self.is_open:
            assert self.go_on.acquire(timeout=20)
        if "bad" in texts:
            raise ValueError("a bad text")
        return np.array([[len(text)] for text in texts], dtype=np.float32)


def test_who_comes_while_a_batch_is_encoded_goes_into_the_next_one() -> None:
    held = Held()
    batcher = DynamicBatcher()
    first = batcher.submit(held, "a", "query")
    assert held.entered.acquire(timeout=20)
    others = [batcher.submit(held, "b" * number, "query") for number in range(2, 6)]
    held.is_open = True
    held.go_on.release()
    assert [future.result(20).tolist() for future in (first, *others)] == [[1], [2], [3], [4], [5]]
    assert [texts for texts, _ in held.groups] == [["a"], ["bb", "bbb", "bbbb", "bbbbb"]]


def test_questions_and_documents_are_not_mixed_and_none_is_forgotten() -> None:
    held = Held()
    batcher = DynamicBatcher()
    futures = [batcher.submit(held, "a", "query")]
    assert held.entered.acquire(timeout=20)
    for text, role in (("b", "document"), ("c", "query"), ("d", "document")):
        futures.append(batcher.submit(held, text, role))
    held.is_open = True
    held.go_on.release()
    assert [future.result(20).tolist() for future in futures] == [[1]] * 4
    assert held.groups == [(["a"], "query"), (["b", "d"], "document"), (["c"], "query")]


def test_a_bad_text_fails_alone() -> None:
    held = Held()
    batcher = DynamicBatcher()
    batcher.submit(held, "first", "query")
    assert held.entered.acquire(timeout=20)
    futures = [batcher.submit(held, text, "query") for text in ("good", "bad", "better")]
    held.is_open = True
    held.go_on.release()
    assert futures[0].result(20).tolist() == [4]
    assert futures[2].result(20).tolist() == [6]
    with pytest.raises(ValueError, match="^a bad text$"):
        futures[1].result(20)


def test_who_gives_up_is_left_out_and_the_others_are_answered() -> None:
    held = Held()
    batcher = DynamicBatcher()
    batcher.submit(held, "first", "query")
    assert held.entered.acquire(timeout=20)
    gone, kept = batcher.submit(held, "gone", "query"), batcher.submit(held, "kept", "query")
    assert gone.cancel()
    held.is_open = True
    held.go_on.release()
    assert kept.result(20).tolist() == [4]
    assert held.groups[1][0] == ["kept"]


def test_no_thread_is_left_when_nobody_waits() -> None:
    batcher, held = DynamicBatcher(), Held(open_from_start=True)
    for _ in range(3):
        assert batcher.submit(held, "a", "query").result(20).tolist() == [1]
        deadline = time.monotonic() + 20
        while batcher._thread is not None and time.monotonic() < deadline:
            time.sleep(0.001)
        assert batcher._thread is None


@given(st.integers(1, 6), st.integers(1, 12), st.integers(0, 3))
def test_every_one_of_many_threads_gets_its_own_answer(threads: int, each: int, bad: int) -> None:
    batcher, held = DynamicBatcher(), Held(open_from_start=True)

    def ask(thread: int) -> list[Any]:
        futures: list[Future[Any]] = []
        for number in range(each):
            text = "bad" if number < bad and thread == 0 else "x" * (1 + (thread + number) % 5)
            futures.append(batcher.submit(held, text, "query" if number % 2 else "document"))
        return [future.exception(20) or future.result(20).tolist() for future in futures]

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(ask, range(threads)))
    for thread, answers in enumerate(found):
        for number, answer in enumerate(answers):
            if thread == 0 and number < bad:
                assert isinstance(answer, ValueError)
            else:
                assert answer == [1 + (thread + number) % 5]


def test_turns_are_had_in_the_order_of_asking() -> None:
    lock, order = FairLock(), []
    ready: list[threading.Thread] = []
    with lock.turn():
        for number in range(5):
            thread = threading.Thread(target=lambda number=number: take(number))

            def take(number: int) -> None:
                with lock.turn():
                    order.append(number)

            thread.start()
            ready.append(thread)
            while len(lock._queue) < number + 2:  # the holder and those that wait
                time.sleep(0.001)
        assert not lock.is_free
    for thread in ready:
        thread.join(20)
    assert order == [0, 1, 2, 3, 4]
    assert lock.is_free


def test_who_is_interrupted_while_waiting_takes_nobodys_turn() -> None:
    lock = FairLock()

    class Interrupting(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            raise KeyboardInterrupt

    patch = pytest.MonkeyPatch()
    with lock.turn():
        patch.setattr("rag_plugin.components.encoders.batching.threading.Event", Interrupting)
        with pytest.raises(KeyboardInterrupt), lock.turn():
            pass
        patch.undo()
        assert len(lock._queue) == 1
    assert lock.is_free


# ---------------------------------------------------------------------------------- the encoder, asked by many


def test_sixty_four_tasks_are_answered_in_a_few_batches(minilm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = [f"what does heron number {number} eat?" for number in range(64)]
    expected = minilm.encode_queries(questions)
    sizes: list[int] = []
    matrix = type(minilm)._matrix

    def counted(encoder: Any, texts: list[str], role: str, progress: Any) -> Any:
        sizes.append(len(texts))
        return matrix(encoder, texts, role, progress)

    monkeypatch.setattr(type(minilm), "_matrix", counted)

    async def ask() -> list[list[float]]:
        return await asyncio.gather(*(minilm.aget_query_embedding(question) for question in questions))

    for _ in range(2):  # a second event loop finds nothing of the first one's
        sizes.clear()
        assert np.abs(np.array(asyncio.run(ask())) - expected).max() < 1e-6
        assert sum(sizes) == 64
        assert len(sizes) <= 8


async def test_the_event_loop_goes_on_while_questions_are_encoded(minilm: Any) -> None:
    tasks = [asyncio.ensure_future(minilm.aget_query_embedding("heron " * 200)) for _ in range(24)]
    pending: set[Any] = set(tasks)
    turns = 0
    while pending:
        _, pending = await asyncio.wait(pending, timeout=0.002)
        turns += 1
    total = sum(len(task.result()) for task in tasks)
    assert total == 24 * 384
    assert turns > 24  # a loop that each question blocks turns once per question at most


async def test_a_task_that_is_cancelled_hurts_nobody(minilm: Any) -> None:
    tasks = [asyncio.ensure_future(minilm.aget_query_embedding(f"heron {number}")) for number in range(12)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(item, (asyncio.CancelledError, list)) for item in found[::2])
    expected = minilm.encode_queries([f"heron {number}" for number in range(1, 12, 2)])
    assert np.abs(np.array(found[1::2]) - expected).max() < 1e-6


async def test_an_error_reaches_the_task_that_asked_and_no_other(minilm: Any) -> None:
    texts = ["heron", "half \ud800", "lapwing"]
    found = await asyncio.gather(*(minilm.aget_query_embedding(text) for text in texts), return_exceptions=True)
    assert isinstance(found[1], EncoderError)
    assert np.abs(np.array([found[0], found[2]]) - minilm.encode_queries(["heron", "lapwing"])).max() < 1e-6


def test_a_question_does_not_wait_for_the_end_of_a_sync() -> None:
    texts = texts_of_all_lengths(60)
    encoder = encoder_of(device="cpu", batch_size=4)
    done, begun = threading.Event(), threading.Event()
    told = 0

    def count(number: int, tokens: int) -> None:
        nonlocal told
        told += number
        begun.set()

    def encode() -> None:
        encoder.encode_documents(texts, count)
        done.set()

    thread = threading.Thread(target=encode)
    thread.start()
    assert begun.wait(20)
    vector = encoder.get_query_embedding("what does a heron eat?")
    answered_at, was_done = told, done.is_set()
    thread.join(60)
    assert np.abs(np.array(vector) - encoder.encode_queries(["what does a heron eat?"])[0]).max() < 1e-6
    assert not was_done
    assert answered_at < len(texts)


def test_threads_that_ask_at_once_get_the_same_vectors(minilm: Any) -> None:
    texts = [f"thread {number} asks about herons " * (1 + number % 5) for number in range(24)]
    expected = minilm.encode_documents(texts)

    def ask(number: int) -> Any:
        asked: Callable[[str], Any] = minilm.get_text_embedding if number % 3 else minilm.get_query_embedding
        return asked(texts[number])

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(24)))
    assert np.abs(np.array(found) - expected).max() < 1e-6


def test_it_can_be_sent_to_another_process(minilm: Any) -> None:
    encoder = encoder_of(device="cpu", query_prompt="ask ", truncate_dim=50)
    sent = pickle.dumps(encoder)
    assert len(sent) < 5000  # not the weights
    copy = pickle.loads(sent)
    assert copy.identity() == encoder.identity()
    assert copy.query_prompt_from == "config"
    assert copy.get_query_embedding("x") == encoder.get_query_embedding("x")

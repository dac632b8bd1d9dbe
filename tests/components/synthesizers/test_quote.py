"""Synthesizer `quote`: sentences word for word with their places, or that the documents do not say."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.callbacks import CallbackManager
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from rag_plugin import build_engine
from rag_plugin.components.encoders.components import huggingface
from rag_plugin.components.synthesizers import components
from rag_plugin.components.synthesizers.quotable_spans import quotable_spans
from rag_plugin.components.synthesizers.quote import NO_ANSWER
from tests.conftest import MINILM

GUIDE = """# The mill

## Running hours

The mill runs every day from six to two. Nobody is
allowed to switch it off by hand.

## Maintenance

**Oil.** Its oil is changed twice a year. The mechanic writes
the date into the red book:

```sh
logbook --add "oil changed"
```

| part | interval |
|---|---|
| filter | every three months |
"""


def units(text: str) -> list[str]:
    return [text[start:end] for start, end in quotable_spans(text)]


def test_sentences_rows_items_and_code_are_quotable_and_headings_are_not() -> None:
    assert units(GUIDE) == [
        "The mill runs every day from six to two.",
        "Nobody is\nallowed to switch it off by hand.",
        "**Oil.** Its oil is changed twice a year.",
        'The mechanic writes\nthe date into the red book:\n\n```sh\nlogbook --add "oil changed"\n```',
        "| part | interval |\n|---|---|",
        "| filter | every three months |",
    ]


def test_a_sentence_that_the_chunker_has_cut_is_not_quoted(guide: dict[str, Any], minilm: Any, documents: Path) -> None:
    (documents / "guide.md").write_text(
        "The mill was built in 1730 by a family of masons who came over the mountains from the south and stayed. " * 20,
        encoding="utf-8",
    )
    engine = build_engine({**guide, "chunker": {"type": "token", "chunk_size": 32, "chunk_overlap": 0}}, encoder=minilm)
    quotes = engine.query("Who built the mill?").metadata["quotes"]
    assert quotes
    for quote in quotes:
        assert quote["text"].startswith("The mill was built")
        assert quote["text"].endswith("stayed.")


def test_a_long_text_without_sentences_is_quoted_in_parts() -> None:
    parts = units("mill " * 1000)
    assert max(map(len, parts)) <= 600
    assert " ".join(parts).split() == ["mill"] * 1000


@given(
    text=st.lists(
        st.sampled_from([*GUIDE.splitlines(keepends=True), "水泵每晚运行。", "---\n", "x" * 700, "\f", ""])
    ).map("".join)
)
@settings(max_examples=200, deadline=None)
def test_quotable_spans_ascend_and_hold_words(text: str) -> None:
    spans = list(quotable_spans(text))
    assert all(start < end for start, end in spans)
    assert all(first[1] <= second[0] for first, second in zip(spans, spans[1:]))
    assert all(text[start:end] == text[start:end].strip() for start, end in spans)
    assert not any(text[start:end].startswith("# ") for start, end in spans)
    # Nothing but headings, marks and lone letters is left out.
    gaps = zip([0, *(end for _, end in spans)], [*(start for start, _ in spans), len(text)])
    left_out = "".join(text[start:end] for start, end in gaps)
    without_headings = re.sub(r"(?m)^\s*#.*$|^.*\n---+$", "", left_out)
    assert not re.search(r"[^\W\d_]{2,}|水", without_headings), left_out


@pytest.fixture
def guide(settings: dict[str, Any], documents: Path) -> dict[str, Any]:
    (documents / "guide.md").write_text(GUIDE, encoding="utf-8")
    return {**settings, "chunker": "markdown"}


def test_an_answer_is_the_nearest_sentence_with_its_place(guide: dict[str, Any], minilm: Any) -> None:
    engine = build_engine(guide, encoder=minilm)
    assert engine.config.synthesizer.type == "quote"
    response = engine.query("When does the mill run?")
    assert str(response).startswith("The mill runs every day from six to two.\n  (guide.md, line 5)")
    assert response.metadata["answered"] is True
    for quote in response.metadata["quotes"]:
        text = GUIDE if quote["document"] == "guide.md" else None
        if text is not None:
            assert text[quote["start"] : quote["end"]] == quote["text"]
            assert quote["place"] == f"line {text.count(chr(10), 0, quote['start']) + 1}"
        assert quote["node"] in {item.node.node_id for item in response.source_nodes}
    assert len(response.metadata["quotes"]) <= 3


def test_quotes_stand_in_the_order_of_the_text(guide: dict[str, Any], minilm: Any) -> None:
    response = build_engine(guide, encoder=minilm).query("What does the mechanic do with the oil of the mill?")
    starts = [quote["start"] for quote in response.metadata["quotes"] if quote["document"] == "guide.md"]
    assert len(starts) >= 2
    assert starts == sorted(starts)
    # A sentence whose lines were broken is one line of the answer; the quote itself is word for word.
    assert "**Oil.** Its oil is changed twice a year." in str(response)


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_what_the_documents_do_not_say_is_said(guide: dict[str, Any], pooling: str) -> None:
    encoder = huggingface(CallbackManager(), model=MINILM, device="cpu", pooling=pooling)
    engine = build_engine(guide, encoder=encoder)
    for question in ("Who won the football world cup in 1954?", "How do I apply for a visa?"):
        response = engine.query(question)
        assert (str(response), response.metadata["answered"], response.metadata["quotes"]) == (NO_ANSWER, False, [])
    assert engine.query("When does the mill run?").metadata["answered"]


def test_an_empty_index_says_nothing(settings: dict[str, Any], minilm: Any, documents: Path) -> None:
    for file in documents.rglob("*.*"):
        file.unlink()
    engine = build_engine(settings, encoder=minilm)
    for response in (engine.query("When?"), asyncio.run(engine.aquery("When?"))):
        assert (str(response), response.metadata) == (NO_ANSWER, {"answered": False, "quotes": []})


def test_every_form_of_asking_gives_the_same_answer(guide: dict[str, Any], minilm: Any) -> None:
    question = "When does the mill run?"
    engine = build_engine(guide, encoder=minilm)
    expected = engine.query(question)
    streaming = build_engine({**guide, "synthesizer": {"streaming": True}}, encoder=minilm)

    async def asked_asynchronously() -> tuple[Any, str, Any]:
        whole = await engine.aquery(question)
        streamed = await streaming.aquery(question)
        return whole, "".join([piece async for piece in streamed.response_gen]), streamed

    whole, pieces, streamed = asyncio.run(asked_asynchronously())
    response = streaming.query(question)
    assert "".join(response.response_gen) == pieces == str(whole) == str(expected)
    for other in (whole, streamed, response):
        assert other.metadata["quotes"] == expected.metadata["quotes"]
    assert str(engine.as_tool().call(input=question)) == str(expected)
    nodes = engine.retrieve(question)
    assert str(engine.synthesize(QueryBundle(question), nodes)) == str(expected)
    synthesizer = engine._response_synthesizer
    texts = [item.node.get_content() for item in nodes]
    assert synthesizer.get_response(question, texts).startswith("The mill runs every day from six to two.")
    assert asyncio.run(synthesizer.aget_response(question, texts)) == synthesizer.get_response(question, texts)


def test_the_sentences_of_a_question_are_one_batch(guide: dict[str, Any], minilm: Any, monkeypatch: Any) -> None:
    engine = build_engine(guide, encoder=minilm)
    engine.query("When does the mill run?")  # encodes the unrelated sentences too
    calls: list[int] = []
    encode = type(minilm).encode_documents

    def counted(self: Any, texts: Any, progress: Any = None) -> Any:
        calls.append(len(texts))
        return encode(self, texts, progress)

    monkeypatch.setattr(type(minilm), "encode_documents", counted)
    monkeypatch.setattr(type(minilm), "encode_queries", lambda *_: pytest.fail("the question has a vector already"))
    engine.query("When is the oil changed?")
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("text", "question", "expected"),
    [
        pytest.param(
            "## Address\n\nMill street 12 in Zurich near the old station\n\n## End\n\nThe end is here.",
            "What is the address of the mill in Zurich?",
            "Mill street 12 in Zurich near the old station",
            id="a line without a full stop",
        ),
        pytest.param(
            "## Opening hours\n\n- Monday: eight to twelve\n- Sunday: nine to five\n\n## End\n\nThe end is here.",
            "When is it open on Sunday?",
            "- Sunday: nine to five",
            id="the last item of a section",
        ),
        pytest.param(
            "# Tickets\n\nAdults pay 30.\n\n## Children\n\nThey enter free of charge.",
            "How much do adults pay for tickets?",
            "Adults pay 30.",
            id="a short sentence before a heading",
        ),
        pytest.param(
            "# Start\n\nFirst of all.\n\n## rag\n\npip installs the package from the registry. Then it is there.",
            "What installs the package?",
            "pip installs the package from the registry.",
            id="a small letter below a heading",
        ),
    ],
)
def test_whole_sentences_are_quoted(
    settings: dict[str, Any], minilm: Any, documents: Path, text: str, question: str, expected: str
) -> None:
    (documents / "text.md").write_text(text, encoding="utf-8")
    for chunker in ("markdown", "sentence"):
        quotes = (
            build_engine({**settings, "chunker": chunker, "sync": {"on_change": "resync"}}, encoder=minilm)
            .query(question)
            .metadata["quotes"]
        )
        assert expected in [quote["text"] for quote in quotes], chunker


def test_a_node_that_starts_inside_a_code_block_is_code_up_to_the_fence() -> None:
    text = "logbook --add oil\n```\n\nMechanics write the date. Visitors leave their names.\n"
    assert [text[start:end] for start, end in quotable_spans(text, follows=True)] == [
        "logbook --add oil\n```",
        "Mechanics write the date.",
        "Visitors leave their names.",
    ]


def test_a_quote_from_a_window_has_its_own_span_and_line(
    settings: dict[str, Any], minilm: Any, documents: Path
) -> None:
    text = "# Mill\n\nIt is old.\nThe mill runs on wind.\nIts wheel is of oak.\nNobody lives there.\n"
    (documents / "mill.md").write_text(text, encoding="utf-8")
    engine = build_engine({**settings, "chunker": {"type": "sentence_window", "window_size": 2}}, encoder=minilm)
    quotes = engine.query("Of which wood is the wheel of the mill?").metadata["quotes"]
    assert "Its wheel is of oak." in [quote["text"] for quote in quotes]
    for quote in quotes:
        if quote["document"] == "mill.md":
            assert text[quote["start"] : quote["end"]] == quote["text"]
            assert quote["place"] == f"line {text.count(chr(10), 0, quote['start']) + 1}"


def test_a_node_whose_text_was_replaced_has_no_span(minilm: Any) -> None:
    synthesizer = components.quote(minilm, CallbackManager(), max_sentences=1)
    node = TextNode(
        text="It stands far before the town. The mill runs at night.",
        metadata={"line": 7},
        start_char_idx=100,
        end_char_idx=123,
    )
    response = synthesizer.synthesize("When does the mill run?", [NodeWithScore(node=node)])
    (quote,) = response.metadata["quotes"]
    assert (quote["text"], quote["start"], quote["place"]) == ("The mill runs at night.", None, "")


@pytest.mark.parametrize(("least", "is_answered"), [(0.0, True), (0.99, False)])
def test_the_least_similarity_can_be_set(guide: dict[str, Any], minilm: Any, least: float, is_answered: bool) -> None:
    config = {**guide, "synthesizer": {"type": "quote", "min_similarity": least, "max_sentences": 1}}
    response = build_engine(config, encoder=minilm).query("How do I apply for a visa to see the mill?")
    assert response.metadata["answered"] is is_answered
    assert len(response.metadata["quotes"]) == is_answered


def test_a_notebook_shows_answer_sources_and_parts(guide: dict[str, Any], minilm: Any) -> None:
    engine = build_engine(guide, encoder=minilm)
    shown = engine.query("When does the mill run?")._repr_markdown_()
    assert shown.startswith("The mill runs every day from six to two.\n\n— `guide.md, line 5`")
    assert "| chunker | markdown |" in engine._repr_markdown_()
    assert "| encoder | ready object |" in engine._repr_markdown_()
    context = build_engine({**guide, "synthesizer": "context_only"}, encoder=minilm).query("When does the mill run?")
    assert "| score | source |\n| --- | --- |\n| 0." in context._repr_markdown_()

"""Synthesizer `quote`: an answer without an LLM, made of the sentences that are nearest to the question."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from llama_index.core.response_synthesizers import BaseSynthesizer
from llama_index.core.schema import BaseNode, NodeRelationship, NodeWithScore, QueryBundle, TextNode

from ..encoders.matrix import encode_documents, encode_queries, unit_rows
from ..places import document_of, place_of, source
from .quotable_spans import quotable_spans

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.base.response.schema import RESPONSE_TYPE
    from llama_index.core.prompts.mixin import PromptDictType
    from llama_index.core.types import RESPONSE_TEXT_TYPE
    from numpy.typing import NDArray

NO_ANSWER = "The documents do not say."

_SENTENCES_OF_CONTEXT, _MAX_CONTEXT_CHARACTERS = 2, 400
_MIN_SHARE_OF_BEST = 0.8  # of the best sentence's score, for a further one
_LOSS_PER_RANK, _MAX_RANKS_WITH_LOSS = 0.05, 10  # of a sentence's score, for each node ranked before its own
_LAID_OUT = re.compile(r"^ {0,3}(?:`{3}|~{3}|\||[-*+] |\d+[.)] )", re.MULTILINE)
_END = re.compile(r"[.!?…|。！？｡．`~][)\]\"'”’»」』*_]*\Z")

# Sentences about unrelated subjects. The scale of the cosine differs between encoders: a question's mean similarity to
# these sentences is its zero (cohort normalization, as in speaker verification).
_COHORT = (
    "The bread has to rest for an hour before it goes into the oven.",
    "She took the early train to visit her sister in the mountains.",
    "The river froze over in the second week of January.",
    "Our team lost the final by a single goal in the last minute.",
    "The painter mixed the blue with a little white and grey.",
    "Bees return to the hive when the temperature drops.",
    "The king was crowned in the cathedral two years after the war.",
    "A violin has four strings, which are tuned in fifths.",
    "Interest rates rose again, and the price of houses fell.",
    "The patient was given a low dose twice a day for a week.",
    "Tomatoes need sun, water and a sheltered place in the garden.",
    "The parliament passed the law against the votes of the opposition.",
    "The planet needs eleven years to travel around its star.",
    "Children under six years enter the museum free of charge.",
    "The bridge was closed because a bolt had come loose.",
    "He wrote three novels and a book of poems about the sea.",
)


@dataclass(frozen=True)
class Quote:
    """A quoted sentence.

    Attributes:
        text: Word for word.
        document: The document's id.
        place: The page or line where the quote starts, such as `line 12`; "" where it is unknown.
        start, end: Its span in the document in characters; None where it is unknown.
        node: The node's id.
        score: Similarity to the question, of the sentence alone or in its context, whichever is more: 0 is the mean of
            unrelated sentences, 1 the question itself.
    """

    text: str
    document: str
    place: str
    start: int | None
    end: int | None
    node: str
    score: float


@dataclass(frozen=True)
class _Sentence:
    rank: int  # of its node
    node: BaseNode
    context_start: int
    start: int
    end: int

    @property
    def document(self) -> str:
        return document_of(self.node)

    @property
    def text(self) -> str:
        return self.node.get_content()[self.start : self.end]

    @property
    def text_in_context(self) -> str:
        """The sentence with the headings and sentences before it, to which its pronouns refer."""
        headings = str(self.node.metadata.get("header_path", "")).strip("/").replace("/", ": ")
        text = self.node.get_content()[self.context_start : self.end]
        return f"{headings}\n\n{text}" if headings else text

    def quote(self, score: float) -> Quote:
        node_start, node_end = getattr(self.node, "start_char_idx", None), getattr(self.node, "end_char_idx", None)
        # Another text than that of the span: a reranker has replaced it.
        is_span = node_start is None or node_end == node_start + len(self.node.get_content())
        offset = node_start if is_span else None
        return Quote(
            self.text,
            self.document,
            place_of(self.node, self.start) if is_span else "",
            None if offset is None else offset + self.start,
            None if offset is None else offset + self.end,
            self.node.node_id,
            score,
        )


class QuoteSynthesizer(BaseSynthesizer):
    """Answers with the sentences of the nodes that are nearest to the question, in the order of the text.

    The response's metadata has `answered` (whether a sentence is near enough) and `quotes` (a list of dicts with the
    fields of `Quote`). No LLM is called.

    Args:
        encoder: The encoder of the nodes.
        max_sentences: Maximum number of quoted sentences.
        min_similarity: The least score of a quoted sentence, on the scale of `Quote.score`.
        settings: Arguments of LlamaIndex's `BaseSynthesizer`.
    """

    def __init__(self, encoder: BaseEmbedding, *, max_sentences: int, min_similarity: float, **settings: Any) -> None:
        super().__init__(**settings, empty_response=NO_ANSWER)
        self._encoder, self._max_sentences, self._min_similarity = encoder, max_sentences, min_similarity
        self._cohort: NDArray[np.float32] | None = None

    def _get_prompts(self) -> PromptDictType:
        return {}

    def _update_prompts(self, prompts_dict: PromptDictType) -> None:
        pass

    # ------------------------------------------------------------------ LlamaIndex's methods

    def synthesize(
        self,
        query: str | QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        **response_kwargs: Any,
    ) -> RESPONSE_TYPE:
        """The response with its quotes."""
        quotes = self.quotes(query, [item.node for item in nodes])
        response = super().synthesize(query, nodes, additional_source_nodes, quotes=quotes)
        return _with_quotes(response, quotes)

    async def asynthesize(
        self,
        query: str | QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        **response_kwargs: Any,
    ) -> RESPONSE_TYPE:
        """As `synthesize`; the sentences are encoded in a thread."""
        quotes = await asyncio.to_thread(self.quotes, query, [item.node for item in nodes])
        response = await super().asynthesize(query, nodes, additional_source_nodes, quotes=quotes)
        return _with_quotes(response, quotes)

    def get_response(
        self, query_str: str, text_chunks: Sequence[str], quotes: list[Quote] | None = None, **response_kwargs: Any
    ) -> RESPONSE_TEXT_TYPE:
        """The answer as text, or with `streaming` a generator of its quotes."""
        if quotes is None:
            quotes = self.quotes(query_str, [TextNode(text=text) for text in text_chunks])
        pieces = list(_pieces(quotes))
        return _stream(pieces) if self._streaming else "".join(pieces)

    async def aget_response(
        self, query_str: str, text_chunks: Sequence[str], quotes: list[Quote] | None = None, **response_kwargs: Any
    ) -> RESPONSE_TEXT_TYPE:
        """As `get_response`."""
        if quotes is None:
            nodes = [TextNode(text=text) for text in text_chunks]
            quotes = await asyncio.to_thread(self.quotes, query_str, nodes)
        pieces = list(_pieces(quotes))
        return _astream(pieces) if self._streaming else "".join(pieces)

    # ------------------------------------------------------------------ selection

    def quotes(self, query: str | QueryBundle, nodes: Sequence[BaseNode]) -> list[Quote]:
        """The nearest sentences in the order of the text, documents by their best node; [] if none is near enough."""
        bundle = QueryBundle(query) if isinstance(query, str) else query
        sentences = list(_sentences(nodes))
        if not sentences:
            return []
        texts = [sentence.text for sentence in sentences]
        in_context = [sentence.text_in_context for sentence in sentences]
        unique = list(dict.fromkeys([*texts, *in_context]))
        rows = dict(zip(unique, unit_rows(encode_documents(self._encoder, unique))))
        if bundle.embedding is None:
            question = unit_rows(encode_queries(self._encoder, [bundle.query_str]))[0]
        else:
            question = unit_rows(np.asarray([bundle.embedding], dtype=np.float32))[0]
        zero = self._unrelated(question)
        alone, with_context = (
            (np.array([rows[text] @ question for text in column]) - zero) / max(1 - zero, 1e-6)
            for column in (texts, in_context)
        )
        similarities = np.maximum(alone, with_context)
        weights = [1 - _LOSS_PER_RANK * min(sentence.rank, _MAX_RANKS_WITH_LOSS) for sentence in sentences]
        scores = np.where(similarities >= self._min_similarity, (alone + with_context) / 2 * weights, -np.inf)
        chosen: list[int] = []
        for index in np.argsort(-scores, kind="stable")[: self._max_sentences].tolist():
            least = _MIN_SHARE_OF_BEST * scores[chosen[0]] if chosen else -np.inf
            if scores[index] > -np.inf and scores[index] >= least:
                chosen.append(index)
        ranks: dict[str, int] = {}
        for sentence in sentences:
            ranks.setdefault(sentence.document, sentence.rank)
        quotes = [(sentences[index], sentences[index].quote(float(similarities[index]))) for index in chosen]
        quotes.sort(key=lambda pair: (ranks[pair[1].document], pair[1].start or 0, pair[0].rank, pair[0].start))
        return [quote for _, quote in quotes]

    def _unrelated(self, question: NDArray[np.float32]) -> float:
        """The mean cosine similarity of a question to unrelated sentences."""
        if self._cohort is None:
            self._cohort = unit_rows(encode_documents(self._encoder, _COHORT))
        return float((self._cohort @ question).mean())


def _sentences(nodes: Sequence[BaseNode]) -> Iterator[_Sentence]:
    """The sentences of nodes, each once: neighbouring nodes overlap. One that the chunker has cut is left out."""
    seen: set[tuple[str, str]] = set()
    for rank, node in enumerate(nodes):
        text = node.get_content()
        follows, is_followed = (
            kind in node.relationships for kind in (NodeRelationship.PREVIOUS, NodeRelationship.NEXT)
        )
        spans = list(quotable_spans(text, follows=follows))
        if follows and spans and not text[: spans[0][0]].strip() and _lacks_start(text[slice(*spans[0])]):
            del spans[0]
        if is_followed and spans and _lacks_end(text, *spans[-1]):
            del spans[-1]
        for number, (start, end) in enumerate(spans):
            before = spans[max(0, number - _SENTENCES_OF_CONTEXT)][0]
            sentence = _Sentence(rank, node, max(before, start - _MAX_CONTEXT_CHARACTERS), start, end)
            key = (sentence.document, sentence.text)
            if key not in seen:
                seen.add(key)
                yield sentence


def _lacks_start(text: str) -> bool:
    """Whether a text looks like the end of a sentence or of a table row."""
    return text[0].islower() or text[0] in ",;:.)]}" or (text[0] != "|" and text.endswith("|"))


def _lacks_end(text: str, start: int, end: int) -> bool:
    """Whether a span looks like the start of a sentence in a paragraph; an item or a line of its own may end anyhow."""
    is_own_line = "\n" not in text[start:end] and not text[:start].rpartition("\n")[2].strip()
    return not (is_own_line or _LAID_OUT.match(text, start) or _END.search(text, start, end))


# ---------------------------------------------------------------------- the answer


def _pieces(quotes: Sequence[Quote]) -> Iterator[str]:
    """The text of an answer: each quote, and below it its source."""
    if not quotes:
        yield NO_ANSWER
    for number, quote in enumerate(quotes):
        origin = source(quote.document, quote.place)
        yield ("\n\n" if number else "") + _joined_lines(quote.text) + (f"\n  ({origin})" if origin else "")


def _joined_lines(text: str) -> str:
    """A text whose lines were broken at some width, as one line; lines of code, lists and tables stay."""
    return text if _LAID_OUT.search(text) else " ".join(text.split())


def _with_quotes(response: RESPONSE_TYPE, quotes: Sequence[Quote]) -> RESPONSE_TYPE:
    found = {"answered": bool(quotes), "quotes": [asdict(quote) for quote in quotes]}
    response.metadata = {**(response.metadata or {}), **found}
    return response


def _stream(pieces: Sequence[str]) -> Generator[str, None, None]:
    yield from pieces


async def _astream(pieces: Sequence[str]) -> AsyncGenerator[str, None]:
    for piece in pieces:
        yield piece

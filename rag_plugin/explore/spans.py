"""Spans of characters, words and sentences in a text: (start, end) pairs for `text[start:end]`."""

from __future__ import annotations

import regex

Span = tuple[int, int]

# A word is a run of letters, marks and digits, joined by apostrophes, hyphens and points. In scripts without spaces
# each Chinese character is a word, and otherwise each run of letters.
_RUN = r"[[\p{L}\p{M}\p{N}]--\p{Han}]+"
_WORD = regex.compile(rf"\p{{Han}}|{_RUN}(?:['’\-·.\u200c\u200d]{_RUN})*", regex.V1)
_CHARACTER = regex.compile(r"\X", regex.V1)
_PARAGRAPH = regex.compile(r"\S(?:.|\n(?!\s*\n))*", regex.V1)
_CJK_SENTENCE_END = regex.compile(r"(?<=[。！？｡])\s*(?=\S)", regex.V1)  # the sentence tokenizer does not split there


def word_spans(text: str) -> list[Span]:
    """The words; `well-known`, `don't` and `3.10` are one each. Punctuation and symbols are in no word."""
    return [match.span() for match in _WORD.finditer(text)]


def character_spans(text: str) -> list[Span]:
    """The grapheme clusters, without spaces."""
    return [match.span() for match in _CHARACTER.finditer(text) if not match[0].isspace()]


def sentence_spans(text: str) -> list[Span]:
    """The sentences, by LlamaIndex's sentence tokenizer and at blank lines."""
    from llama_index.core.node_parser.text.utils import split_by_sentence_tokenizer

    split = split_by_sentence_tokenizer()
    spans: list[Span] = []
    for paragraph in _PARAGRAPH.finditer(text):
        start = paragraph.start()
        for sentence in split(paragraph[0]):
            edges = [0, *(end.start() for end in _CJK_SENTENCE_END.finditer(sentence)), len(sentence)]
            spans += [stripped(text, (start + left, start + right)) for left, right in zip(edges, edges[1:])]
            start += len(sentence)
    return [span for span in spans if span[0] < span[1]]


def find_spans(text: str, phrase: str) -> list[Span]:
    """Occurrences of a word or phrase in a text, as whole words, ignoring case."""
    words = r"\s+".join(regex.escape(word, literal_spaces=True) for word in phrase.split())
    inside = r"[\p{L}\p{M}\p{N}]"
    pattern = f"(?<!{inside}){words}(?!{inside})"
    return [match.span() for match in regex.finditer(pattern, text, regex.IGNORECASE | regex.FULLCASE | regex.V1)]


def stripped(text: str, span: Span) -> Span:
    """The span without spaces at its ends; start > end or start == end for a blank one."""
    start, end = span
    part = text[start:end]
    return start + len(part) - len(part.lstrip()), start + len(part.rstrip())

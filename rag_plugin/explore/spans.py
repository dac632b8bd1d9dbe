"""Where the characters, words and sentences of a text are: (start, end) pairs, `text[start:end]` each."""

from __future__ import annotations

import regex

Span = tuple[int, int]

# Letters, marks and digits, joined by an apostrophe, hyphen or point in between. Writing that puts no spaces between
# words has a word for each Chinese character, and else for each run of letters.
_RUN = r"[[\p{L}\p{M}\p{N}]--\p{Han}]+"
_WORD = regex.compile(rf"\p{{Han}}|{_RUN}(?:['’\-·.\u200c\u200d]{_RUN})*", regex.V1)
_CHARACTER = regex.compile(r"\X", regex.V1)
_PARAGRAPH = regex.compile(r"\S(?:.|\n(?!\s*\n))*", regex.V1)
_WIDE_END = regex.compile(r"(?<=[。！？｡])\s*(?=\S)", regex.V1)  # the sentence tokenizer knows none of these


def word_spans(text: str) -> list[Span]:
    """The words: `well-known`, `don't` and `3.10` are one each; what is no letter, mark or digit is in none."""
    return [found.span() for found in _WORD.finditer(text)]


def character_spans(text: str) -> list[Span]:
    """The characters as a reader counts them, marks and all; spaces are left out."""
    return [found.span() for found in _CHARACTER.finditer(text) if not found[0].isspace()]


def sentence_spans(text: str) -> list[Span]:
    """The sentences, by the sentence tokenizer of LlamaIndex; a blank line ends one too."""
    from llama_index.core.node_parser.text.utils import split_by_sentence_tokenizer

    split = split_by_sentence_tokenizer()
    found: list[Span] = []
    for paragraph in _PARAGRAPH.finditer(text):
        start = paragraph.start()
        for sentence in split(paragraph[0]):
            edges = [0, *(end.start() for end in _WIDE_END.finditer(sentence)), len(sentence)]
            found += [_stripped(text, start + left, start + right) for left, right in zip(edges, edges[1:])]
            start += len(sentence)
    return [span for span in found if span[0] < span[1]]


def find_spans(text: str, phrase: str) -> list[Span]:
    """Where a word or phrase stands in a text as a whole word, in whatever case."""
    words = r"\s+".join(regex.escape(word, literal_spaces=True) for word in phrase.split())
    inside = r"[\p{L}\p{M}\p{N}]"
    found = regex.finditer(f"(?<!{inside}){words}(?!{inside})", text, regex.IGNORECASE | regex.FULLCASE | regex.V1)
    return [match.span() for match in found]


def _stripped(text: str, start: int, end: int) -> Span:
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())

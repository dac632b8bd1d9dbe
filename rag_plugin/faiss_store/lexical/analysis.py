"""How texts and questions become terms of the BM25 index.

Both are normalised in Python where they are not plain ASCII, and then tokenized and stemmed by tantivy.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any, get_args

from tantivy import Filter, TextAnalyzerBuilder, Tokenizer

from ..settings import Language

VERSION = 2
"""Recorded in the files: those of another version are rebuilt."""

LANGUAGES = tuple(language for language in get_args(Language) if language != "none")
_WITH_STOP_WORDS = frozenset(LANGUAGES) - {"arabic", "greek", "romanian", "tamil", "turkish"}
_MAX_WORD_CHARACTERS = 255
_MAX_COMPOUND_CHARACTERS = 64

# Scripts without spaces between words, and Hangul, whose words have particles attached: indexed by pairs of letters.
_UNSPACED = re.compile(
    "["
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f"  # Myanmar
    "\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff"  # Hangul
    "\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u1b00-\u1b7f\ua980-\ua9df"  # Khmer, Tai scripts, Balinese, Javanese
    "\u3005-\u3007\u3031-\u3035\u303b\u3040-\u312f\u31a0-\u31bf\u31f0-\u31ff\U0001b000-\U0001b16f"  # kana, Bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\uf900-\ufaff\U00020000-\U0003347f"  # Han, Yi
    "]+"
)

# Soft hyphens, zero-width and bidirectional characters, variation selectors; Arabic and Hebrew vowel points, tatweel.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    "\U000e0100-\U000e01ef\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670]"
)

# Marks that would end a word for tantivy, which takes them for no letters: tones, viramas, nuktas, and diacritics
# without a composed form. Other marks, such as vowel signs, are letters.
_MARK_CLASSES = frozenset((1, 7, 9, 107, 122, *range(200, 241)))

# Words with capitals inside, such as getUserById, and where they are divided.
_INNER_CAPITAL = re.compile(r"(?=[A-ZÀ-Þ])(?:(?<=[a-z0-9ß-ÿ])|(?<=[A-ZÀ-Þ0-9])(?=.[a-zß-ÿ]{2}))")
_HAS_INNER_CAPITAL = re.compile(r"[A-ZÀ-Þ](?:(?<=[a-z0-9ß-ÿ].)|(?<=[A-ZÀ-Þ0-9].)[a-zß-ÿ]{2})")
_COMPOUND = re.compile(rf"\b\w*(?:{_HAS_INNER_CAPITAL.pattern})\w*")

# Names such as C++ and C#, whose signs tantivy drops: they get a second word, in the usual spelling.
_SIGNS = (("++", re.compile(r"\b([^\W_]+)\+\+"), "plusplus"), ("#", re.compile(r"\b([A-Za-z])#"), "sharp"))


class Analyzer:
    """The analysis of one language; `none` for neither stemmer nor stop words."""

    def __init__(self, language: str) -> None:
        self.index_analyzer = _analyzer(language, stop_words=False)
        self._query_analyzer = _analyzer(language, stop_words=True)

    def terms(self, question: str) -> list[str]:
        """The distinct terms of a question: without stop words, unless it has nothing else."""
        text = _normalized(question.encode("utf-8", "replace").decode(), _query_units)
        return list(dict.fromkeys(self._query_analyzer.analyze(text) or self.index_analyzer.analyze(text)))


def indexed_text(text: str) -> str:
    """A text as it is passed to tantivy; unspaced scripts as single letters and pairs."""
    return _normalized(text, lambda letters: [*letters, *_pairs(letters)])


def _analyzer(language: str, *, stop_words: bool) -> Any:
    builder = TextAnalyzerBuilder(Tokenizer.simple())
    builder = builder.filter(Filter.remove_long(_MAX_WORD_CHARACTERS)).filter(Filter.lowercase())
    if stop_words and language in _WITH_STOP_WORDS:
        builder = builder.filter(Filter.stopword(language))
    if language != "none":
        builder = builder.filter(Filter.stemmer(language))
    return builder.build()


def _normalized(text: str, units: Callable[[list[str]], list[str]]) -> str:
    """The text with the parts of compounds behind them, in one normal form and one case, without invisible characters.

    Args:
        text: Valid Unicode.
        units: The words for a run of letters of an unspaced script.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
        text = _without(text, _is_invisible)
    if _HAS_INNER_CAPITAL.search(text):
        text = _COMPOUND.sub(_with_parts, text)
    for sign, pattern, spelling in _SIGNS:
        if sign in text:
            text = pattern.sub(rf"\g<0> \g<1>{spelling} ", text)
    if text.isascii():
        return text
    # Dotted and dotless i are one letter: which of them a capital stands for depends on the language.
    text = unicodedata.normalize("NFKC", text.casefold()).replace("i\u0307", "i").replace("ı", "i")
    if _UNSPACED.search("".join(set(text))):
        text = _UNSPACED.sub(lambda run: f" {' '.join(units(_letters(run[0])))} ", text)
    return _without(text, _ends_a_word)


def _without(text: str, drops: Callable[[str], object]) -> str:
    """The text without some characters; few distinct ones are tested, which takes a tenth of the time for a text."""
    dropped = [character for character in set(text) if character > "\u007f" and drops(character)]
    return text.translate(dict.fromkeys(map(ord, dropped))) if dropped else text


def _is_invisible(character: str) -> object:
    return _INVISIBLE.match(character)


def _ends_a_word(character: str) -> bool:
    return unicodedata.combining(character) in _MARK_CLASSES


def _with_parts(word: re.Match[str]) -> str:
    is_identifier = len(word[0]) <= _MAX_COMPOUND_CHARACTERS  # longer ones are hashes or encoded data
    return f"{word[0]} {_INNER_CAPITAL.sub(' ', word[0])} " if is_identifier else word[0]


def _query_units(letters: list[str]) -> list[str]:
    return _pairs(letters) or letters


def _letters(run: str) -> list[str]:
    """The letters of a run, each with the marks behind it."""
    letters: list[str] = []
    for character in run:
        if letters and unicodedata.category(character).startswith("M"):
            letters[-1] += character
        else:
            letters.append(character)
    return letters


def _pairs(letters: list[str]) -> list[str]:
    return [first + second for first, second in zip(letters, letters[1:])]

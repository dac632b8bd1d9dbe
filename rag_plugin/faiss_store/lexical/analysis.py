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

# A Hangul or kana particle behind a Latin name, as in FAISS를: as a term it would find every text with this letter.
_PARTICLE = re.compile(r"(?<=[A-Za-z+#][A-Za-z0-9+#])[\u3041-\u30fa\uac00-\ud7a3](?!\w)")

# Added to the code points of marks in unspaced scripts: tantivy ends words at some marks, at none of these letters.
_MARK_OFFSET = 0x20000

# Persian words of parts that a zero-width non-joiner keeps apart; a capital I of Turkish, which is i or dotless i.
_NON_JOINER = "\u200c"
_JOINED = re.compile("[\u0600-\u08ff]+(?:\u200c[\u0600-\u08ff]+)+")
_WITH_CAPITAL_I = re.compile(r"\b\w*I\w*")

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
_SIGNS = (
    ("++", re.compile(r"\b([^\W_]+)\+\+"), r"\g<0> \g<1>plusplus "),
    ("#", re.compile(r"\b([A-Za-z])#"), r"\g<0> \g<1>sharp "),
    ("♯", re.compile(r"\b([A-Za-z])♯"), r"\g<0> \g<1>sharp "),
    (".", re.compile(r"\.(?<!\w\.)net\b", re.IGNORECASE), r"\g<0> dotnet "),
)


class Analyzer:
    """The analysis of one language; `none` for neither stemmer nor stop words."""

    def __init__(self, language: str) -> None:
        self._language = language
        self.index_analyzer = _analyzer(language, stop_words=False)
        self._query_analyzer = _analyzer(language, stop_words=True)

    def terms(self, question: str) -> list[str]:
        """The distinct terms of a question: without stop words, unless it has nothing else."""
        text = unicodedata.normalize("NFKC", question.encode("utf-8", "replace").decode())
        text = _normalized(_PARTICLE.sub(" ", text), self._language, _query_units)
        return list(dict.fromkeys(self._query_analyzer.analyze(text) or self.index_analyzer.analyze(text)))


def indexed_text(text: str, language: str) -> str:
    """A text as it is passed to tantivy; unspaced scripts as single letters and pairs."""
    return _normalized(text, language, lambda letters: [*letters, *_pairs(letters)])


def _analyzer(language: str, *, stop_words: bool) -> Any:
    builder = TextAnalyzerBuilder(Tokenizer.simple())
    builder = builder.filter(Filter.remove_long(_MAX_WORD_CHARACTERS)).filter(Filter.lowercase())
    if stop_words and language in _WITH_STOP_WORDS:
        builder = builder.filter(Filter.stopword(language))
    if language != "none":
        builder = builder.filter(Filter.stemmer(language))
    return builder.build()


def _normalized(text: str, language: str, units: Callable[[list[str]], list[str]]) -> str:
    """The text with the parts of compounds behind them, in one normal form and one case, without invisible characters.

    Args:
        text: Valid Unicode.
        language: Of the stemmer.
        units: The words for a run of letters of an unspaced script.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
        if _NON_JOINER in text:
            text = _JOINED.sub(lambda word: f"{word[0]} {word[0].replace(_NON_JOINER, ' ')} ", text)
        text = _replaced(text, _is_invisible)
    if language == "turkish":
        text = _WITH_CAPITAL_I.sub(lambda word: f"{word[0]} {word[0].replace('I', 'ı')}", text)
    if _HAS_INNER_CAPITAL.search(text):
        text = _COMPOUND.sub(_with_parts, text)
    for sign, pattern, words in _SIGNS:
        if sign in text:
            text = pattern.sub(words, text)
    if text.isascii():
        return text
    text = unicodedata.normalize("NFKC", text.casefold()).replace("i\u0307", "i")
    if language != "turkish":  # its stemmer needs the dotless i; elsewhere both are one letter
        text = text.replace("ı", "i")
    if _UNSPACED.search("".join(set(text))):
        text = _replaced(text, _separates, " ")
        text = _UNSPACED.sub(lambda run: f" {' '.join(units(_letters(run[0])))} ", text)
    return _replaced(text, _ends_a_word)


def _replaced(text: str, chosen: Callable[[str], object], by: str = "") -> str:
    """The text with some characters replaced; only distinct ones are tested, in a tenth of the time for a text."""
    replaced = [character for character in set(text) if character > "\u007f" and chosen(character)]
    return text.translate(dict.fromkeys(map(ord, replaced), by)) if replaced else text


def _is_invisible(character: str) -> object:
    return _INVISIBLE.match(character)


def _separates(character: str) -> bool:
    """Whether a character is a punctuation mark or sign of an unspaced script."""
    return unicodedata.category(character)[0] in "PSZ" and _UNSPACED.match(character) is not None


def _ends_a_word(character: str) -> bool:
    return unicodedata.combining(character) in _MARK_CLASSES


def _with_parts(word: re.Match[str]) -> str:
    is_identifier = len(word[0]) <= _MAX_COMPOUND_CHARACTERS  # longer ones are hashes or encoded data
    return f"{word[0]} {_INNER_CAPITAL.sub(' ', word[0])} " if is_identifier else word[0]


def _query_units(letters: list[str]) -> list[str]:
    return _pairs(letters) or letters


def _letters(run: str) -> list[str]:
    """The letters of a run, each with the marks behind it, which are sorted: they are typed in any order."""
    letters: list[str] = []
    for character in run:
        if not unicodedata.category(character).startswith("M"):
            letters.append(character)
        elif letters:
            letters[-1] += chr(ord(character) + _MARK_OFFSET)
    return [letter if len(letter) < 3 else letter[0] + "".join(sorted(letter[1:])) for letter in letters]


def _pairs(letters: list[str]) -> list[str]:
    return [first + second for first, second in zip(letters, letters[1:])]

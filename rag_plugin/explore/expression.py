"""Parser for sums of texts: `king - man + woman`, or the proportion `man : king :: woman : ?`.

A term is one or more words: `New York - USA + France`. A sign needs a space on at least one side, since a hyphen
without spaces is part of a word. `2 * king` and `0.5 * king` weight a term. A term that contains signs is quoted:
`"C++" - "C" + Java`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal

from ..errors import QuestionError

_PLUS, _SIGNS = "+", "+-−–"
_QUOTES = '"“„'
_QUOTED = re.compile(r""""(?:[^"\\]|\\.)*"|“(?:[^”\\]|\\.)*”|„(?:[^“\\]|\\.)*“""", re.DOTALL)
_UNQUOTED = re.compile(r"""(?:[^+\-−–*"“„]|(?<=\S)[+\-−–*](?=\S))*""")  # a hyphen within a word is no sign
_WEIGHT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*\*\s*", re.ASCII)
_NEEDS_NO_QUOTES = re.compile(r"[^\W\d_]\w*(?:['’\-]\w+)*(?: [^\W\d_]\w*(?:['’\-]\w+)*)*")
_SUM_EXAMPLE = "write it as  king - man + woman"
_PROPORTION_EXAMPLE = "write it as  man : king :: woman : ?"


@dataclass(frozen=True)
class Term:
    """A text and its weight; a negative weight subtracts it."""

    text: str
    weight: float = 1.0

    def __str__(self) -> str:
        text, factor = self.text, abs(self.weight)
        if not _NEEDS_NO_QUOTES.fullmatch(text):
            text = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return text if factor == 1 else f"{format(Decimal(repr(factor)), 'f').removesuffix('.0')} * {text}"


@dataclass(frozen=True)
class Expression:
    """A sum of terms; its string is valid input of `parse_expression`."""

    terms: tuple[Term, ...]

    def __str__(self) -> str:
        signs = ("- " if math.copysign(1.0, term.weight) < 0 else "+ " for term in self.terms)
        return " ".join(f"{sign}{term}" for sign, term in zip(signs, self.terms)).removeprefix("+ ")

    @property
    def texts(self) -> list[str]:
        return [term.text for term in self.terms]


def parse_expression(text: str) -> Expression:
    """Parse a sum of texts, or a proportion.

    Raises:
        QuestionError: The text is neither; the message contains the position.
    """
    masked = _QUOTED.sub(lambda match: "_" * len(match[0]), text)
    return _proportion(text, masked) if "::" in masked else _Parser(text).parse()


class _Parser:
    """Parses one sum from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def parse(self) -> Expression:
        terms: list[Term] = []
        self._skip_spaces()
        if self.position == len(self.text):
            raise QuestionError(f"the sum is empty; {_SUM_EXAMPLE}")
        while self.position < len(self.text):
            sign = self._sign(required=bool(terms))
            terms.append(self._term(sign))
            self._skip_spaces()
        return Expression(tuple(terms))

    def _skip_spaces(self) -> None:
        while self.position < len(self.text) and self.text[self.position].isspace():
            self.position += 1

    def _sign(self, *, required: bool) -> float:
        start = self.position
        character = self.text[start]
        if character not in _SIGNS:
            if required:
                raise self._error(f"a + or - is missing before {self.text[start:]!r}", start)
            return 1.0
        self.position += 1
        self._skip_spaces()
        if self.position == len(self.text):
            raise self._error(f"a term is missing after {character!r}", start)
        if self.text[self.position] in _SIGNS:
            raise self._error('two signs in a row; quote a term that contains a sign, such as "C++"', start)
        return 1.0 if character in _PLUS else -1.0

    def _term(self, sign: float) -> Term:
        weight, start = 1.0, self.position
        match = _WEIGHT.match(self.text, start)
        if match:
            weight = float(match[1])
            if not math.isfinite(weight):
                raise self._error(f"the weight {match[1][:20]}... is too large", start)
            self.position = match.end()
            if self.position == len(self.text):
                raise self._error(f"a term is missing after {match[0].strip()!r}", start)
        name = self._quoted() if self.text[self.position] in _QUOTES else self._unquoted()
        return Term(name, sign * weight)

    def _quoted(self) -> str:
        start = self.position
        match = _QUOTED.match(self.text, start)
        if match is None:
            raise self._error("a quote is not closed", start)
        self.position = match.end()
        name = re.sub(r"\\(.)", r"\1", match[0][1:-1], flags=re.DOTALL)
        if not name.strip():
            raise self._error("the quotes are empty", start)
        return name

    def _unquoted(self) -> str:
        start = self.position
        match = _UNQUOTED.match(self.text, start)
        self.position = match.end() if match else start
        following = self.text[self.position : self.position + 1]
        if following and following in _QUOTES:
            raise self._error("a quote in the middle of a term; quote the whole term", self.position)
        if following == "*":
            raise self._error("a weight is a number before its term, such as 2 * king", self.position)
        name = " ".join(self.text[start : self.position].split())
        if not name:
            raise self._error(f"a term is missing; {_SUM_EXAMPLE}", start)
        return name

    def _error(self, message: str, position: int) -> QuestionError:
        return QuestionError(f"{self.text!r}, character {position + 1}: {message}")


def _proportion(text: str, masked: str) -> Expression:
    """`a : b :: c : ?` is b - a + c; `masked` is the text with quoted parts replaced."""
    middle = masked.index("::")
    parts: list[str] = []
    for start, end in ((0, middle), (middle + 2, len(text))):
        if masked.count(":", start, end) != 1:
            raise QuestionError(f"{text!r}: {_PROPORTION_EXAMPLE}")
        colon = masked.index(":", start)
        parts += [text[start:colon].strip(), text[colon + 1 : end].strip()]
    first, second, third, unknown = parts
    if unknown != "?" or not (first and second and third):
        raise QuestionError(f"{text!r}: the question mark is the last term; {_PROPORTION_EXAMPLE}")
    sums = [_Parser(part).parse().terms for part in (first, second, third)]
    if any(len(terms) != 1 for terms in sums):
        raise QuestionError(f"{text!r}: each part of a proportion is one term; {_PROPORTION_EXAMPLE}")
    (a,), (b,), (c,) = sums
    return Expression((b, Term(a.text, -a.weight), c))

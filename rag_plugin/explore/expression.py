"""Sums of texts, as people write them: `king - man + woman`, or `man : king :: woman : ?`.

A term is a word or several: `New York - USA + France`. A hyphen within a word belongs to the word, so a sign needs a
space on one side at least. `2 * king` and `0.5 * king` weigh a term. What else has a sign in it stands between
quotes: `"C++" - "C" + Java`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal

from ..errors import QuestionError

_PLUS, _MINUS = "+", "-−–"
_QUOTES = {'"': '"', "“": "”", "„": "“"}
_WEIGHT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*\*\s*", re.ASCII)
_PLAIN = re.compile(r"[^\W\d_]\w*(?:['’\-]\w+)*(?: [^\W\d_]\w*(?:['’\-]\w+)*)*")  # needs no quotes
_FORM = "write it as  king - man + woman"
_PROPORTION = "write it as  man : king :: woman : ?"


@dataclass(frozen=True)
class Term:
    """A text and how often it counts; a weight below zero takes it away."""

    text: str
    weight: float = 1.0

    def __str__(self) -> str:
        size = abs(self.weight)
        text = self.text
        if not _PLAIN.fullmatch(text):
            text = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return text if size == 1 else f"{_number(size)} * {text}"


@dataclass(frozen=True)
class Expression:
    """A sum of terms."""

    terms: tuple[Term, ...]

    def __str__(self) -> str:
        """The sum as `parse_expression` reads it."""
        parts = []
        for number, term in enumerate(self.terms):
            minus = math.copysign(1.0, term.weight) < 0
            parts.append(f"{'- ' if minus else '+ ' if number else ''}{term}")
        return " ".join(parts)

    @property
    def texts(self) -> list[str]:
        return [term.text for term in self.terms]


def _number(value: float) -> str:
    return format(Decimal(repr(value)), "f").removesuffix(".0")


def parse_expression(text: str) -> Expression:
    """Read a sum of texts, or a proportion.

    Raises:
        QuestionError: It is none; the message says where.
    """
    colons = [start for start in _outside_quotes(text) if text.startswith("::", start)]
    if colons:
        return _proportion(text, colons)
    return _Reader(text).read()


class _Reader:
    """Reads one sum from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0

    def read(self) -> Expression:
        terms: list[Term] = []
        self._skip_spaces()
        if self.place == len(self.text):
            raise QuestionError(f"the sum is empty; {_FORM}")
        while self.place < len(self.text):
            sign = self._sign(needed=bool(terms))
            terms.append(self._term(sign))
            self._skip_spaces()
        return Expression(tuple(terms))

    def _skip_spaces(self) -> None:
        while self.place < len(self.text) and self.text[self.place].isspace():
            self.place += 1

    def _sign(self, *, needed: bool) -> float:
        character = self.text[self.place]
        if character not in _PLUS + _MINUS:
            if needed:
                raise self._wrong(f"a + or - is missing before {self.text[self.place :]!r}", self.place)
            return 1.0
        at = self.place
        self.place += 1
        self._skip_spaces()
        if self.place == len(self.text):
            raise self._wrong(f"nothing stands behind the {character!r}", at)
        if self.text[self.place] in _PLUS + _MINUS:
            raise self._wrong('two signs in a row; a name that has a sign in it stands in quotes, such as "C++"', at)
        return 1.0 if character in _PLUS else -1.0

    def _term(self, sign: float) -> Term:
        weight, at = 1.0, self.place
        found = _WEIGHT.match(self.text, self.place)
        if found:
            weight = float(found[1])
            if not math.isfinite(weight):
                raise self._wrong(f"{found[1][:20]}... is too large a weight", at)
            self.place = found.end()
            if self.place == len(self.text):
                raise self._wrong(f"nothing stands behind {found[0].strip()!r}", at)
        name = self._quoted() if self.text[self.place] in _QUOTES else self._plain()
        return Term(name, sign * weight)

    def _quoted(self) -> str:
        start = self.place
        end = _end_of_quote(self.text, start)
        if end is None:
            raise self._wrong("a quote is opened and not closed", start)
        self.place = end + 1
        name = re.sub(r"\\(.)", r"\1", self.text[start + 1 : end], flags=re.DOTALL)
        if not name.strip():
            raise self._wrong("there is nothing between the quotes", start)
        return name

    def _plain(self) -> str:
        start = self.place
        while self.place < len(self.text) and not self._is_sign(self.place):
            character = self.text[self.place]
            if character in _QUOTES:
                raise self._wrong("a quote stands in the middle of a term; quote it whole", self.place)
            if character == "*" and (self._is_space(self.place - 1) or self._is_space(self.place + 1)):
                raise self._wrong("a weight is a number before its term, such as 2 * king", self.place)
            self.place += 1
        name = " ".join(self.text[start : self.place].split())
        if not name:
            raise self._wrong(f"a term is missing; {_FORM}", start)
        return name

    def _is_sign(self, place: int) -> bool:
        """Whether a sign stands here that is not within a word."""
        if self.text[place] not in _PLUS + _MINUS:
            return False
        return self._is_space(place - 1) or self._is_space(place + 1)

    def _is_space(self, place: int) -> bool:
        return not 0 <= place < len(self.text) or self.text[place].isspace()

    def _wrong(self, message: str, place: int) -> QuestionError:
        return QuestionError(f"{self.text!r}, character {place + 1}: {message}")


def _end_of_quote(text: str, start: int) -> int | None:
    """Where the quote that opens at `start` is closed."""
    close, place = _QUOTES[text[start]], start + 1
    while place < len(text):
        if text[place] == close:
            return place
        place += 2 if text[place] == "\\" else 1
    return None


def _outside_quotes(text: str) -> list[int]:
    """The places that are not between quotes."""
    places, place = [], 0
    while place < len(text):
        end = _end_of_quote(text, place) if text[place] in _QUOTES else None
        if end is None:
            places.append(place)
            place += 1
        else:
            place = end + 1
    return places


def _proportion(text: str, colons: list[int]) -> Expression:
    """`a : b :: c : ?` is b - a + c."""
    outside = set(_outside_quotes(text))
    middle = colons[0]
    sides = [(0, middle), (middle + 2, len(text))]
    parts: list[str] = []
    for start, end in sides:
        single = [place for place in range(start, end) if place in outside and text[place] == ":"]
        if len(single) != 1:
            raise QuestionError(f"{text!r}: {_PROPORTION}")
        parts += [text[start : single[0]].strip(), text[single[0] + 1 : end].strip()]
    first, second, third, unknown = parts
    if unknown != "?" or not (first and second and third):
        raise QuestionError(f"{text!r}: the question mark stands at the end; {_PROPORTION}")
    (a,), (b,), (c,) = (_Reader(part).read().terms for part in (first, second, third))
    return Expression((b, Term(a.text, -a.weight), c))

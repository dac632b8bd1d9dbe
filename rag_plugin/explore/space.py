"""Texts as points in a vector space."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..components.encoders.long_texts import encode_any_length
from ..components.encoders.matrix import unit_rows
from ..errors import ComponentError, QuestionError, has_lone_surrogate

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Piece:
    """A piece of text that has a vector.

    `text` is its content, or the name of a document or concept. `context` is the text in which it was encoded, with
    `text == context[start : start + len(text)]`; it is empty for a text encoded alone. `document` and `node` are ids
    in an index, or empty.
    """

    text: str
    context: str = ""
    start: int = 0
    document: str = ""
    node: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Neighbour:
    """A piece with the cosine of its vector and the query's."""

    piece: Piece
    score: float


@dataclass(frozen=True, eq=False)
class Space:
    """Pieces of text with their vectors.

    Args:
        pieces: One for each vector.
        vectors: The encoder's output, float32, shape (len(pieces), dimension).

    Raises:
        ComponentError: A vector contains NaN or infinity; the message contains its text.
    """

    pieces: tuple[Piece, ...]
    vectors: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.pieces):
            raise ValueError(f"{len(self.pieces)} pieces do not fit vectors of shape {self.vectors.shape}")
        finite = np.isfinite(self.vectors).all(axis=1)
        if not finite.all():
            text = self.pieces[int(finite.argmin())].text
            raise ComponentError(f"the encoder's vector of {shortened(text)!r} contains NaN or infinity")

    def __len__(self) -> int:
        return len(self.pieces)

    @property
    def texts(self) -> list[str]:
        return [piece.text for piece in self.pieces]

    @cached_property
    def directions(self) -> NDArray[np.float32]:
        """The vectors scaled to length 1, shape (len(self), dimension); zero vectors stay zero."""
        return unit_rows(self.vectors)

    def select(self, indices: Iterable[int]) -> Space:
        """The pieces at these indices, in this order."""
        rows = list(indices)
        return Space(tuple(self.pieces[row] for row in rows), self.vectors[rows])

    def similarity(self, other: Space | None = None) -> NDArray[np.float32]:
        """The cosine of each piece with each piece of `other`; None: of this space.

        Returns:
            Shape (len(self), len(other)), between -1 and 1; 0 for zero vectors.
        """
        other = self if other is None else other
        if not len(self) or not len(other):
            return np.zeros((len(self), len(other)), dtype=np.float32)
        left, right = self.directions, other.directions
        if left.shape[1] != right.shape[1]:
            raise ValueError(f"vectors of dimensions {left.shape[1]} and {right.shape[1]} are from different encoders")
        return np.clip(left @ right.T, -1.0, 1.0)

    def nearest(
        self,
        vector: NDArray[np.floating[Any]],
        top_k: int = 10,
        *,
        exclude: Collection[str] = (),
        distinct: bool = False,
    ) -> list[Neighbour]:
        """The pieces with the highest cosines, best first.

        Args:
            vector: The query, shape (dimension,), of any length.
            top_k: Maximum number of results.
            exclude: Texts to leave out, ignoring case.
            distinct: Return only the nearest of equal texts.

        Raises:
            QuestionError: The space is empty, or the vector is zero.
        """
        if not len(self):
            raise QuestionError("there is nothing to compare with")
        direction = unit_rows(np.asarray(vector, dtype=np.float64)[None, :])[0]
        if not direction.any():
            raise QuestionError("a zero vector has no direction, so it has no neighbours")
        scores = np.clip(self.directions @ direction, -1.0, 1.0)
        skipped = {normalized(text) for text in exclude}
        neighbours: list[Neighbour] = []
        for row in np.argsort(-scores, kind="stable").tolist():
            if len(neighbours) >= top_k:
                break
            if skipped or distinct:
                name = normalized(self.pieces[row].text)
                if name in skipped:
                    continue
                if distinct:
                    skipped.add(name)
            neighbours.append(Neighbour(self.pieces[row], float(scores[row])))
        return neighbours


def empty_space() -> Space:
    return Space((), np.zeros((0, 0), dtype=np.float32))


def encode(encoder: BaseEmbedding, texts: Sequence[str] | Sequence[Piece]) -> Space:
    """Encode each text as a whole; equal texts are encoded once.

    Raises:
        QuestionError: A text is empty or not valid Unicode.
        ComponentError: The encoder does not return one finite vector for each text.
    """
    pieces = tuple(text if isinstance(text, Piece) else Piece(text) for text in texts)
    check_texts([piece.text for piece in pieces])
    rows = {text: row for row, text in enumerate(dict.fromkeys(piece.text for piece in pieces))}
    if not rows:
        return empty_space()
    vectors = np.asarray(encode_any_length(encoder, list(rows)), dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != len(rows):
        name = type(encoder).__name__
        raise ComponentError(f"the encoder {name} returned vectors of shape {vectors.shape} for {len(rows)} texts")
    return Space(pieces, vectors[[rows[piece.text] for piece in pieces]])


def check_texts(texts: Sequence[str]) -> None:
    """Check that each text can be encoded.

    Raises:
        QuestionError: A text is empty or not valid Unicode; the message contains its number.
    """
    for number, text in enumerate(texts, 1):
        name = f"text {number} of {len(texts)}" if len(texts) > 1 else "the text"
        if not text.strip():
            raise QuestionError(f"{name} is empty")
        if has_lone_surrogate(text):
            raise QuestionError(f"{name} contains a lone surrogate, so it is not UTF-8")


def normalized(text: str) -> str:
    """The text without differences in case, spaces and Unicode composition."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def shortened(text: str, max_characters: int = 60) -> str:
    """The text on one line, cut at a maximum length."""
    line = " ".join(text.split())
    return line if len(line) <= max_characters else line[: max_characters - 1].rstrip() + "…"

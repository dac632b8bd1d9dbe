"""Texts as points in a space: which are near, and how near."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..components.encoders.matrix import encode_documents
from ..errors import ComponentError, QuestionError

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Piece:
    """A piece of text that has a vector.

    `text` is what it says, or what it is called where it is a document or a concept. `context` is the text that
    it was read in, of which it is `context[start : start + len(text)]`; empty where it was read alone. `document`
    and `node` are the ids of what it comes from in an index, and empty otherwise.
    """

    text: str
    context: str = ""
    start: int = 0
    document: str = ""
    node: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Neighbour:
    """A piece with its nearness: the cosine of the angle between its vector and what was asked about."""

    piece: Piece
    score: float


@dataclass(frozen=True, eq=False)
class Space:
    """Pieces of text with their vectors.

    Args:
        pieces: What the points are.
        vectors: Float32, shape (len(pieces), dimension), as the encoder gave them.

    Raises:
        ComponentError: A vector holds something that is no finite number; the message names the piece.
    """

    pieces: tuple[Piece, ...]
    vectors: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.pieces):
            raise ValueError(f"{len(self.pieces)} pieces, and vectors of the shape {self.vectors.shape}")
        finite = np.isfinite(self.vectors).all(axis=1)
        if not finite.all():
            text = self.pieces[int(finite.argmin())].text
            raise ComponentError(f"the encoder's vector of {shortened(text)!r} is not made of finite numbers")

    def __len__(self) -> int:
        return len(self.pieces)

    @property
    def texts(self) -> list[str]:
        return [piece.text for piece in self.pieces]

    @cached_property
    def directions(self) -> NDArray[np.float32]:
        """The vectors scaled to length 1, shape (len(self), dimension); a vector of zeros stays one."""
        return directions(self.vectors)

    def select(self, numbers: Iterable[int]) -> Space:
        """The pieces with these numbers, in this order."""
        chosen = list(numbers)
        return Space(tuple(self.pieces[number] for number in chosen), self.vectors[chosen])

    def similarity(self, other: Space | None = None) -> NDArray[np.float32]:
        """The cosine of each piece here with each of `other` (unset: of this space).

        Returns:
            Shape (len(self), len(other)), between -1 and 1; with a vector of zeros it is 0.
        """
        other = self if other is None else other
        if not len(self) or not len(other):
            return np.zeros((len(self), len(other)), dtype=np.float32)
        mine, theirs = self.directions, other.directions
        if mine.shape[1] != theirs.shape[1]:
            raise ValueError(f"vectors of {mine.shape[1]} numbers and of {theirs.shape[1]} are of different encoders")
        return np.clip(mine @ theirs.T, -1.0, 1.0)

    def nearest(
        self, vector: NDArray[np.floating[Any]], top_k: int = 10, *, leave_out: Collection[str] = (), each: bool = True
    ) -> list[Neighbour]:
        """The pieces whose vectors point most nearly the same way, best first.

        Args:
            vector: Shape (dimension,), of any length.
            top_k: The most to return.
            leave_out: Texts that are not wanted, in whatever case they are written.
            each: Whether of equal texts each one counts; false: only the nearest of them.

        Raises:
            QuestionError: There is nothing here, or the vector is all zeros and so points nowhere.
        """
        if not len(self):
            raise QuestionError("there is nothing to compare with")
        direction = directions(np.asarray(vector, dtype=np.float64)[None, :])[0]
        if not direction.any():
            raise QuestionError("a vector of zeros points nowhere, so nothing is near to it")
        scores = np.clip(self.directions @ direction, -1.0, 1.0)
        unwanted = {same_text(text) for text in leave_out}
        found: list[Neighbour] = []
        for number in np.argsort(-scores, kind="stable").tolist():
            if len(found) >= top_k:
                break
            if unwanted or not each:
                name = same_text(self.pieces[number].text)
                if name in unwanted:
                    continue
                if not each:
                    unwanted.add(name)
            found.append(Neighbour(self.pieces[number], float(scores[number])))
        return found


def directions(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Vectors scaled to length 1, row by row; a vector of zeros stays one."""
    exact = np.asarray(vectors, dtype=np.float64)  # whose squares cannot overflow
    norms = np.linalg.norm(exact, axis=1, keepdims=True)
    return (exact / np.where(norms > 0, norms, 1.0)).astype(np.float32)


def encode(encoder: BaseEmbedding, texts: Sequence[str] | Sequence[Piece]) -> Space:
    """Give each text, read as a whole, its vector; of equal texts the encoder sees one.

    Raises:
        QuestionError: A text is empty, or none that UTF-8 can hold.
        ComponentError: The encoder does not give a finite vector for each.
    """
    pieces = tuple(text if isinstance(text, Piece) else Piece(text) for text in texts)
    check_texts([piece.text for piece in pieces])
    unique = {text: number for number, text in enumerate(dict.fromkeys(piece.text for piece in pieces))}
    if not unique:
        return Space((), np.zeros((0, 0), dtype=np.float32))
    vectors = np.asarray(encode_documents(encoder, list(unique)), dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != len(unique):
        name = type(encoder).__name__
        raise ComponentError(f"the encoder {name} gave vectors of the shape {vectors.shape} for {len(unique)} texts")
    return Space(pieces, vectors[[unique[piece.text] for piece in pieces]])


def check_texts(texts: Sequence[str]) -> None:
    """See to it that each text can be encoded.

    Raises:
        QuestionError: One cannot; the message says which.
    """
    for number, text in enumerate(texts, 1):
        which = f"text {number} of {len(texts)}" if len(texts) > 1 else "the text"
        if not text.strip():
            raise QuestionError(f"{which} is empty")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise QuestionError(f"{which} holds half a surrogate pair: it was not read as UTF-8") from error


def same_text(text: str) -> str:
    """What two texts have in common that differ only in case, in spaces, or in how Unicode writes them."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def shortened(text: str, most: int = 60) -> str:
    """A text on one line, cut where it is too long."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"

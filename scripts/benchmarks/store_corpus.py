"""Synthetic nodes and queries for the store benchmark."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Hits = list[tuple[str, float]]
"""Node ids and scores, the best first."""
TEXTS_PER_FILE = 1000
QUERIES = 1000  # vectors that no node has
EXACT_QUERIES = 400  # queries with their exact hits, for recall
SPARE_NODES = 16_000  # nodes that are added later


@dataclass(frozen=True)
class Query:
    vector: Vectors
    text: str = ""  # with a text: a hybrid query
    where: tuple[str, str] | None = None  # a metadata key and its value
    top_k: int = 10


def metadata(number: int) -> dict[str, Any]:
    """`group` has 100 values, `half` two, evenly distributed and independent of the order of the nodes."""
    mixed = number * 7919
    half = "odd" if mixed // 100 % 2 else "even"
    group = f"group {mixed % 100}"
    return {"group": group, "half": half, "page": number % 10, "year": 1990 + mixed % 35, "title": f"File {number}"}


class Corpus:
    """Synthetic nodes in files, read in blocks without memory maps: they do not count as memory of a store."""

    def __init__(self, folder: Path, dimension: int) -> None:
        self.folder, self.dimension = folder, dimension

    @classmethod
    def make(cls, folder: Path, count: int, dimension: int, words: int) -> Corpus:
        """Write `count` nodes of about `words` words, drawn by Zipf's law."""
        folder.mkdir(parents=True)
        random = np.random.default_rng(7)
        syllables = np.array([a + b for a in "bcdfglmnprstv" for b in ("a", "en", "i", "or", "ul", "est")])
        drawn = ("".join(random.choice(syllables, size)) for size in random.integers(2, 5, 40_000))
        vocabulary = list(dict.fromkeys(drawn))[:30_000]
        zipf = np.cumsum(1 / np.arange(1, len(vocabulary) + 1))
        # Overlapping clusters of 24 intrinsic dimensions, as text embeddings have: in disjoint clusters every IVF
        # index would have a perfect recall with a single list.
        centres, spread = 0.9 * random.normal(size=(1000, 24)), random.normal(size=(24, dimension))

        def vectors(size: int) -> Vectors:
            inner = centres[random.integers(0, 1000, size)] + random.normal(size=(size, 24))
            outer = inner @ spread + random.normal(size=(size, dimension))
            return (outer / np.linalg.norm(outer, axis=1, keepdims=True)).astype(np.float32)

        with (folder / "vectors").open("wb") as file:
            for block in range(-(-count // TEXTS_PER_FILE)):
                vectors(TEXTS_PER_FILE).tofile(file)
                ends = np.cumsum(random.integers(words // 2, words * 3 // 2 + 1, TEXTS_PER_FILE))
                ranks = np.searchsorted(zipf, random.random(ends[-1]) * zipf[-1]).tolist()
                text = [vocabulary[rank] for rank in ranks]
                texts = [" ".join(text[a:b]) for a, b in itertools.pairwise([0, *ends.tolist()])]
                (folder / f"{block}.json").write_text(json.dumps(texts))
        np.save(folder / "queries.npy", vectors(QUERIES))
        return cls(folder, dimension)

    def vectors(self, start: int, stop: int) -> Vectors:
        offset, count = start * self.dimension * 4, (stop - start) * self.dimension
        return np.fromfile(self.folder / "vectors", np.float32, count, offset=offset).reshape(-1, self.dimension)

    def texts(self, start: int, stop: int) -> list[str]:
        blocks = range(start // TEXTS_PER_FILE, -(-stop // TEXTS_PER_FILE))
        texts = [text for block in blocks for text in json.loads((self.folder / f"{block}.json").read_text())]
        return texts[start % TEXTS_PER_FILE : start % TEXTS_PER_FILE + stop - start]

    def nodes(self, start: int, stop: int, document: str = "") -> list[Any]:
        """LlamaIndex nodes with their vectors; of this document, or ten to a document."""
        from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode

        return [
            TextNode(
                id_=f"n{number}",
                text=text,
                metadata=metadata(number),
                embedding=vector,
                relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=document or f"d{number // 10}")},
            )
            for number, text, vector in zip(
                range(start, stop), self.texts(start, stop), self.vectors(start, stop).tolist()
            )
        ]

    def batches(self, count: int, size: int) -> Iterator[list[Any]]:
        return (self.nodes(start, min(start + size, count)) for start in range(0, count, size))

    def queries(self, start: int, stop: int) -> list[Query]:
        return [Query(vector) for vector in np.load(self.folder / "queries.npy")[start:stop]]

    def write_exact(self, count: int) -> None:
        """Find the exact ten hits of the first queries among `count` nodes with raw FAISS."""
        import faiss

        queries = np.load(self.folder / "queries.npy")[:EXACT_QUERIES]
        scores, rows = np.empty((EXACT_QUERIES, 0), np.float32), np.empty((EXACT_QUERIES, 0), np.int64)
        for start in range(0, count, 50_000):
            part = self.vectors(start, min(start + 50_000, count))
            part_scores, part_rows = faiss.knn(queries, part, 10, metric=faiss.METRIC_INNER_PRODUCT)
            scores, rows = np.hstack([scores, part_scores]), np.hstack([rows, part_rows + start])
            best = np.argsort(-scores, axis=1)[:, :10]
            scores, rows = np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)
        hits = [[(f"n{row}", score) for row, score in zip(*pair)] for pair in zip(rows.tolist(), scores.tolist())]
        (self.folder / "exact.json").write_text(json.dumps(hits))

    def exact(self) -> list[Hits]:
        return [[(id_, score) for id_, score in hits] for hits in json.loads((self.folder / "exact.json").read_text())]


def recall(results: Sequence[Hits], exact: Sequence[Hits]) -> float:
    return float(np.mean([len({*dict(a)} & {*dict(b)}) / len(b) for a, b in zip(results, exact)]))

"""Measures what vectors express, here and with plain sentence-transformers, and what the commands cost.

    .venv/bin/python scripts/benchmarks/meaning.py WORDS STSB             all workloads
    .venv/bin/python scripts/benchmarks/meaning.py WORDS STSB analogies   these workloads

WORDS is a folder with analogies.tsv (category, a, b, c, expected) and sim-*.tsv (two words, a human score), STSB one
with test.tsv (two sentences, a human score), each with a header. Exits 1 if a figure differs from the plain model's by
more than .002.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import MODEL, build_encoder, in_turn, print_machine, print_ratios, read_tsv

TOLERANCE = 0.002


def plain_model(model: str) -> Any:
    """The same files, loaded by sentence-transformers alone."""
    from sentence_transformers import SentenceTransformer

    from rag_plugin.components.model_files.locate import find_model

    return SentenceTransformer(find_model(model, "the benchmark").name)


class Report:
    """Prints the lines of the table, and records whether all figures agree."""

    def __init__(self) -> None:
        self.equal = True
        print(f"{'':<44}{'ours':>9}{'plain':>9}")

    def line(self, name: str, ours: float, plain: float, form: str = ".4f") -> None:
        equal = abs(ours - plain) <= TOLERANCE
        self.equal = self.equal and equal
        print(f"{name:<44}{ours:>9{form}}{plain:>9{form}}{'' if equal else '   DIFFERS'}")


def analogies(arguments: argparse.Namespace, encoder: Any, plain: Any, report: Report) -> None:
    """Top-1 accuracy over the words of all questions, without the three given words."""
    from rag_plugin.explore import Expression, Term, analogy, encode_vocabulary

    questions = read_tsv(arguments.words / "analogies.tsv")
    vocabulary = sorted({word for row in questions for word in row[1:]})
    space = encode_vocabulary(encoder, vocabulary, cache=False)
    correct: dict[str, list[bool]] = {}
    for category, a, b, c, expected in questions:
        expression = Expression((Term(b), Term(a, -1.0), Term(c)))
        best = analogy(encoder, expression, space, 1)[0].piece.text
        correct.setdefault(category, []).append(best == expected)

    vectors = plain.encode(vocabulary, normalize_embeddings=True)
    number = {word: position for position, word in enumerate(vocabulary)}
    words = np.array([[number[word] for word in row[1:]] for row in questions])
    scores = (vectors[words[:, 1]] - vectors[words[:, 0]] + vectors[words[:, 2]]) @ vectors.T
    for column in range(3):
        scores[np.arange(len(words)), words[:, column]] = -np.inf
    plain_correct = scores.argmax(axis=1) == words[:, 3]

    ours = np.concatenate([correct[category] for category in correct])
    name = f"analogies, {len(questions)} over {len(vocabulary)} words, top-1"
    report.line(name, float(ours.mean()), float(plain_correct.mean()))
    for category, values in correct.items():
        same_category = plain_correct[[row[0] == category for row in questions]]
        report.line(f"  {category}", float(np.mean(values)), float(same_category.mean()), ".3f")


def spearman(arguments: argparse.Namespace, encoder: Any, plain: Any, report: Report) -> None:
    """Spearman's correlation of the cosine with human scores."""
    from scipy.stats import spearmanr

    from rag_plugin.explore import encode

    files = {"stsb test": arguments.stsb / "test.tsv"}
    files |= {path.stem.removeprefix("sim-"): path for path in sorted(arguments.words.glob("sim-*.tsv"))}
    for name, path in files.items():
        pairs = read_tsv(path)
        human = [float(row[2]) for row in pairs]
        left, right = [row[0] for row in pairs], [row[1] for row in pairs]
        ours = np.einsum("ij,ij->i", encode(encoder, left).directions, encode(encoder, right).directions)
        a, b = (plain.encode(texts, normalize_embeddings=True) for texts in (left, right))
        correlations = (float(spearmanr(values, human).statistic) for values in (ours, (a * b).sum(axis=1)))
        report.line(f"{name}, {len(pairs)} pairs, Spearman", *correlations)


def speed(arguments: argparse.Namespace, encoder: Any, plain: Any, report: Report) -> None:
    """Seconds for 10,000 words: ours, one sorted encode, from the cache; and a map of 50,000 points."""
    from rag_plugin.explore import Piece, Space, encode_vocabulary, make_map, map_page

    files = [*arguments.words.glob("sim-*.tsv"), arguments.words / "analogies.tsv"]
    stems = sorted({word for path in files for row in read_tsv(path) for word in row if word.isalpha()})
    words = [f"{stem}{ending}" for stem in stems for ending in ("", "s", "ed", "ing", "er", "ly", "able")]
    words = list(dict.fromkeys(words))[: arguments.count]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RAG_PLUGIN_CACHE"] = folder
        encode_vocabulary(encoder, words)
        runs: dict[str, Callable[[], Any]] = {
            "plain": lambda: plain.encode(words, normalize_embeddings=True, batch_size=32),
            "ours": lambda: encode_vocabulary(encoder, words, cache=False),
            "from the cache": lambda: encode_vocabulary(encoder, words),
        }
        seconds = in_turn(runs, 3, warm_up=False)
    print(f"\n{len(words):,} words, median seconds, and the ratio to plain round by round:")
    print_ratios(seconds, "plain")

    count = arguments.points
    vectors = np.random.default_rng(0).normal(size=(count, 384)).astype(np.float32)
    space = Space(tuple(Piece(f"text number {i} " * 12, document=f"document {i % 40}") for i in range(count)), vectors)
    points = make_map(space, colour_by="document")
    centred = space.directions - space.directions.mean(axis=0)
    runs = {
        "map: PCA of the points": lambda: make_map(space, colour_by="document"),
        "numpy: SVD of the same": lambda: np.linalg.svd(centred, full_matrices=False),
        "map: the page": lambda: map_page(points),
    }
    print(f"\n{count:,} points of 384 dimensions, median seconds:")
    for name, values in in_turn(runs, 3, warm_up=False).items():
        print(f"{name:<28} {statistics.median(values):7.3f} s")
    print(f"{'the page':<28} {len(map_page(points)) / 1e6:7.1f} MB")


WORKLOADS = {"analogies": analogies, "spearman": spearman, "speed": speed}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", type=Path, help="a folder with analogies.tsv and sim-*.tsv")
    parser.add_argument("stsb", type=Path, help="a folder with test.tsv")
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"{', '.join(WORKLOADS)}; all by default")
    parser.add_argument("--model", default=MODEL, help="as in the encoder's setting")
    parser.add_argument("--count", type=int, default=10_000, help="words for `speed`")
    parser.add_argument("--points", type=int, default=50_000, help="points of the map for `speed`")
    arguments = parser.parse_args()
    unknown = set(arguments.workloads) - set(WORKLOADS)
    if unknown:
        parser.error(f"no workload {sorted(unknown)[0]!r}")
    print_machine()
    encoder, plain = build_encoder(arguments.model), plain_model(arguments.model)
    report = Report()
    for name in arguments.workloads or WORKLOADS:
        WORKLOADS[name](arguments, encoder, plain, report)
    return 0 if report.equal else 1


if __name__ == "__main__":
    sys.exit(main())

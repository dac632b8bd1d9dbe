"""Measures the chunkers beside LlamaIndex's own.

    .venv/bin/python scripts/benchmarks/chunkers.py unseen FILES...   characters in no vector, and seconds
    .venv/bin/python scripts/benchmarks/chunkers.py passages DATA     recall and precision of passages at equal lengths
    .venv/bin/python scripts/benchmarks/chunkers.py edits FILES...    nodes that change with one paragraph

FILES are texts, or folders of them. DATA is a folder with corpus.jsonl (`_id`, `text`), queries.jsonl (`_id`, `text`,
`spans`: start and end of the passages that answer the question) and qrels.tsv (question and document).
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from common import MODEL, build_encoder, command_line, print_machine, read_jsonl, read_tsv

OURS = ("sentence", "token", "markdown", "code", "sentence_window", "hierarchical", "semantic", "none")
STOCK_SIZES = ((1024, 200), (512, 50), (256, 20))
Cut = Callable[[Any], list[Any]]
"""A document → its nodes."""


def our_chunker(chunker: Any, encoder: Any) -> Cut:
    from rag_plugin import load_config

    config = load_config(
        {
            "reader": {"type": "directory", "path": "."},
            "chunker": chunker,
            "encoder": {"type": "huggingface", "model": MODEL},
            "store": {"type": "faiss", "path": "./index"},
        }
    )
    return config.assemble({"encoder": encoder}).new_splitter()


def stock_chunker(size: int, overlap: int) -> Cut:
    from llama_index.core.node_parser import SentenceSplitter

    splitter = SentenceSplitter(chunk_size=size, chunk_overlap=overlap)
    return lambda document: splitter.get_nodes_from_documents([document])


def chunkers(encoder: Any, names: Iterable[str]) -> dict[str, Cut]:
    stock = {f"LlamaIndex {size}/{overlap}": stock_chunker(size, overlap) for size, overlap in STOCK_SIZES}
    return {**stock, **{name: our_chunker(name, encoder) for name in names}}


def read_texts(paths: list[Path]) -> list[tuple[str, str]]:
    files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return [(str(file), file.read_text(encoding="utf-8", errors="replace")) for file in files if file.is_file()]


def encoded_characters(nodes: list[Any], length: int, tokens: Any, limit: int) -> Any:
    """By character, whether it is within the first `limit` tokens of some node."""
    encoded = np.zeros(length, dtype=bool)
    for node in nodes:
        if node.start_char_idx is None:
            continue
        starts = tokens.starts(node.text)
        end = node.end_char_idx if len(starts) <= limit else node.start_char_idx + int(starts[limit])
        encoded[node.start_char_idx : end] = True
    return encoded


def unseen(arguments: argparse.Namespace) -> None:
    from llama_index.core.schema import Document

    from rag_plugin.components.encoders.tokens import max_input_tokens, tokens_of

    encoder = build_encoder()
    tokens, limit = tokens_of(encoder), max_input_tokens(encoder)
    assert limit is not None
    files = read_texts(arguments.files)
    print(f"{len(files)} files, {sum(len(text) for _, text in files):,} characters")
    for name, cut in chunkers(encoder, arguments.chunkers or OURS).items():
        cut(Document(text="A sentence for the warm-up.", id_="warm-up"))
        total = lost = too_long = count = 0
        seconds = 0.0
        for path, text in files:
            started = time.perf_counter()
            nodes = cut(Document(text=text, id_=path, metadata={"file_name": Path(path).name}))
            seconds += time.perf_counter() - started
            solid = np.array([not character.isspace() for character in text], dtype=bool)
            total += int(solid.sum())
            lost += int((solid & ~encoded_characters(nodes, len(text), tokens, limit)).sum())
            too_long += int((tokens.counts([node.text for node in nodes]) > limit).sum()) if nodes else 0
            count += len(nodes)
        share = 100 * lost / max(1, total)
        print(
            f"{name:<22} {count:6} nodes {too_long:5} too long {share:6.1f} % in no vector {seconds:7.2f} s", flush=True
        )


def passages(arguments: argparse.Namespace) -> None:
    from llama_index.core.schema import Document

    from rag_plugin.components.encoders.tokens import tokens_of

    encoder = build_encoder()
    counts = tokens_of(encoder).counts
    corpus = {record["_id"]: record["text"] for record in read_jsonl(arguments.data / "corpus.jsonl")}
    questions = read_jsonl(arguments.data / "queries.jsonl", arguments.questions)
    document_of = {row[0]: row[1] for row in read_tsv(arguments.data / "qrels.tsv")}
    if arguments.questions:
        corpus = {id_: corpus[id_] for id_ in {document_of[question["_id"]] for question in questions}}
    queries = encoder.encode_queries([question["text"] for question in questions])
    print(f"{len(corpus)} documents, {len(questions)} questions; tokens to read: {arguments.tokens}")
    for name, cut in chunkers(encoder, arguments.chunkers or OURS).items():
        nodes = [node for id_, text in corpus.items() for node in cut(Document(text=text, id_=id_))]
        vectors = encoder.encode_documents([node.text for node in nodes])
        order = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")
        lengths = counts([node.text for node in nodes])
        line = f"{name:<22} {len(nodes):5} nodes of {lengths.mean():5.0f}"
        for budget in arguments.tokens:
            figures = [
                _recall_and_precision(
                    [nodes[column] for column in ranking],
                    lengths[ranking],
                    document_of[question["_id"]],
                    len(corpus[document_of[question["_id"]]]),
                    question["spans"],
                    budget,
                )
                for ranking, question in zip(order, questions)
            ]
            recall, precision = (statistics.mean(values) for values in zip(*figures))
            line += f" | {budget}: recall {recall:.3f} precision {precision:.3f}"
        print(line, flush=True)


def _recall_and_precision(
    ranking: list[Any], lengths: Any, document: str, size: int, spans: list[list[int]], budget: int
) -> tuple[float, float]:
    """Of the characters of the passages, by reading ranked nodes up to a budget of tokens."""
    relevant, read = np.zeros(size, dtype=bool), np.zeros(size, dtype=bool)
    for start, end in spans:
        relevant[start:end] = True
    left, elsewhere = budget, 0
    for node, tokens in zip(ranking, lengths.tolist()):
        share = min(1.0, left / max(1, tokens))  # the last node is read in part
        end = node.start_char_idx + int(share * len(node.text))
        if node.ref_doc_id == document:
            read[node.start_char_idx : end] = True
        else:
            elsewhere += end - node.start_char_idx
        left -= tokens
        if left <= 0:
            break
    both = int((relevant & read).sum())
    return both / max(1, int(relevant.sum())), both / max(1, int(read.sum()) + elsewhere)


def edits(arguments: argparse.Namespace) -> None:
    from llama_index.core.schema import Document

    encoder = build_encoder()
    chance = random.Random(5)
    cases = []
    for path, text in read_texts(arguments.files):
        paragraphs = text.split("\n\n")
        if len(paragraphs) > 30:
            number = chance.randrange(3, len(paragraphs) - 3)
            changed = [*paragraphs]
            changed[number] = "This paragraph was written anew. " * chance.randrange(1, 8) + changed[number][::2]
            cases.append((path, text, "\n\n".join(changed)))
    print(f"{len(cases)} documents of more than 30 paragraphs, one of which is rewritten")
    for name, cut in chunkers(encoder, arguments.chunkers or OURS).items():
        new: list[int] = []
        total = 0
        for path, before, after in cases:
            metadata = {"file_name": Path(path).name}
            old = {node.text for node in cut(Document(text=before, id_=path, metadata=metadata))}
            nodes = cut(Document(text=after, id_=path, metadata=metadata))
            total += len(nodes)
            new.append(sum(node.text not in old for node in nodes))
        shown = f"median {statistics.median(new):.0f}, maximum {max(new)}" if new else "no document"
        print(f"{name:<22} {total:6} nodes, {sum(new):5} to encode again: {shown} per document", flush=True)


def main() -> None:
    parser, commands = command_line(__doc__, (unseen, passages, edits))
    for name, command in commands.items():
        command.add_argument("--chunkers", nargs="+", help="only these of ours")
        if name == "passages":
            command.add_argument("data", type=Path)
            command.add_argument("--tokens", type=int, nargs="+", default=[512, 1024, 2048])
            command.add_argument("--questions", type=int, help="only the first ones, and their documents")
        else:
            command.add_argument("files", type=Path, nargs="+")
    arguments = parser.parse_args()
    print_machine()
    arguments.run(arguments)


if __name__ == "__main__":
    main()

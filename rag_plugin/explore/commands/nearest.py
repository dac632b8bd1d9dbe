"""The command `nearest`: the nearest neighbours of a text or a concept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import click

from ...cli.common import Settings, cli, common, note
from .parts import (
    assembly_for,
    concept_options,
    encoder_of,
    in_context,
    json_option,
    model_option,
    nodes_of,
    piece_data,
    sync_option,
    top_k_option,
    vocabulary_of,
    vocabulary_option,
)
from .table import fitted

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding

    from ...components.assembly import Assembly
    from ..pieces import Granularity
    from ..space import Neighbour, Piece, Space

    Target = Literal["token", "word", "sentence", "document", "concept"]


@cli.command()
@click.argument("text", required=False)
@click.option(
    "--granularity",
    "target",
    type=click.Choice(["token", "word", "sentence", "document", "concept"]),
    help="The kind of result.  [default: concept for a text and concepts, else document]",
)
@vocabulary_option
@concept_options
@click.option("--word", metavar="WORD", help="Only this word of TEXT; for token and word.")
@click.option("--occurrences", is_flag=True, help="List all occurrences of a word, not only the nearest.")
@click.option(
    "--among",
    "max_nodes",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="For token, word and sentence: encode the pieces of so many nodes of the index, the nearest ones.",
)
@top_k_option
@sync_option
@json_option
@model_option
@common
def nearest(
    settings: Settings,
    text: str | None,
    target: Target | None,
    vocabulary: str | None,
    concepts: dict[str, list[str]],
    word: str | None,
    occurrences: bool,
    max_nodes: int,
    top_k: int,
    sync: bool,
    as_json: bool,
    model: str | None,
) -> None:
    """Print what is nearest in meaning to TEXT.

    These are documents, sentences, words, tokens or concepts.
    Searches the index, or a file whose lines are documents. Without TEXT, prints what is nearest to each concept,
    without its examples.

    \b
      rag-plugin nearest "a boat on the water" --granularity sentence
      rag-plugin nearest "the bank of the river" --word bank --granularity word --occurrences
      rag-plugin nearest "cherry" --concept fruit=apple,pear,plum --concept car=bus,truck,van
      rag-plugin nearest --concept fruit=apple,pear,plum --vocabulary words.txt
    """
    target = target or ("concept" if text is not None and concepts else "document")
    _check_options(text, target, concepts, word, occurrences, vocabulary)
    needs_index = vocabulary is None and target != "concept"
    assembly = assembly_for(settings, model, needs_index=needs_index, sync=sync)
    nodes = nodes_of(assembly, check_encoder=True) if needs_index else None
    encoder = encoder_of(assembly)
    from ..pieces import encode_concepts, vector_of

    if target == "concept":
        space = encode_concepts(encoder, concepts)
    elif vocabulary is not None:
        space = _file_space(assembly, vocabulary, target)
    granularity: Granularity = "text" if target == "document" or target == "concept" else target
    queries = {text: [text]} if text is not None else concepts
    results: dict[str, list[Neighbour]] = {}
    for name, examples in queries.items():
        if nodes is not None:
            space = _index_space(encoder, nodes, examples, target, max_nodes)
        vector = vector_of(encoder, examples, granularity, only=word)
        distinct = not occurrences and granularity != "text"
        exclude = examples if text is None else ()
        results[name] = space.nearest(vector, top_k, exclude=exclude, distinct=distinct)
    if as_json:
        data = [
            {"of": name, "nearest": [{**piece_data(item.piece), "score": round(item.score, 6)} for item in neighbours]}
            for name, neighbours in results.items()
        ]
        click.echo(json.dumps(data[0] if text is not None else data, ensure_ascii=False))
        return
    for name, neighbours in results.items():
        if text is None:
            click.secho(name, bold=True)
        for item in neighbours:
            click.echo(f"{item.score:6.3f}  {_line(item.piece, target)}")


def _check_options(
    text: str | None,
    target: Target,
    concepts: dict[str, list[str]],
    word: str | None,
    occurrences: bool,
    vocabulary: str | None,
) -> None:
    if text is None and not concepts:
        raise click.UsageError("name a TEXT, or a concept: --concept fruit=apple,pear,plum")
    if text is not None and concepts and target != "concept":
        raise click.UsageError("name a TEXT or concepts, not both; or --granularity concept for the nearest concept")
    if target == "concept" and not (text is not None and concepts):
        raise click.UsageError("--granularity concept needs a TEXT and concepts: --concept fruit=apple,pear,plum")
    if target == "concept" and vocabulary is not None:
        raise click.UsageError("--granularity concept excludes --vocabulary")
    if (word is not None or occurrences) and target not in ("word", "token"):
        raise click.UsageError("--word and --occurrences go with --granularity word or token")
    if word is not None and text is None:
        raise click.UsageError("--word needs a TEXT that contains it")


def _file_space(assembly: Assembly, file: str, target: Literal["token", "word", "sentence", "document"]) -> Space:
    """The lines of a file, or their pieces."""
    from ..pieces import encode_pieces
    from ..vocabulary import read_lines

    if target == "document":
        return vocabulary_of(assembly, file)
    return encode_pieces(encoder_of(assembly), read_lines(file), target)


def _index_space(
    encoder: BaseEmbedding, nodes: Space, examples: Sequence[str], target: Target, max_nodes: int
) -> Space:
    """The documents, or the pieces of the nodes nearest to the examples."""
    from ..index import document_space
    from ..pieces import encode_pieces, vector_of

    if target == "document" or target == "concept":
        return document_space(nodes)
    neighbours = nodes.nearest(vector_of(encoder, examples), max_nodes)
    if len(neighbours) < len(nodes):
        note(f"encoding the pieces of the {len(neighbours):,} nearest of {len(nodes):,} nodes (--among)")
    return encode_pieces(encoder, [item.piece for item in neighbours if item.piece.text.strip()], target)


def _line(piece: Piece, target: Target) -> str:
    if target == "concept":
        return f"{fitted(piece.text, 20)}  {', '.join(piece.metadata['examples'])}"
    if not piece.document or target == "document":
        return piece.text if not piece.context or target == "sentence" else in_context(piece)
    if target == "sentence":
        return f"{' '.join(piece.text.split())}  ({piece.document})"
    return f"{fitted(piece.text, 16)}  {in_context(piece)}  ({piece.document})"

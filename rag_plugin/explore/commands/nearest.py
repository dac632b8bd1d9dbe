"""The command `nearest`: what is near to a text or a concept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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
    from .. import Neighbour, Piece, Space

_AMONG = 100


@cli.command()
@click.argument("text", required=False)
@click.option(
    "--granularity",
    type=click.Choice(["token", "word", "sentence", "document", "concept"]),
    help="What is looked for.  [default: concept where concepts are named, else document]",
)
@vocabulary_option
@concept_options
@click.option("--word", metavar="WORD", help="The word of TEXT that is meant; for token and word.")
@click.option("--occurrences", is_flag=True, help="List every place of a word, not the nearest of each word.")
@click.option(
    "--among",
    type=click.IntRange(1),
    default=_AMONG,
    show_default=True,
    help="For token, word and sentence: read so many of the index's nodes anew, the nearest ones.",
)
@top_k_option
@sync_option
@json_option
@model_option
@common
def nearest(
    settings: Settings,
    text: str | None,
    granularity: str | None,
    vocabulary: str | None,
    concepts: dict[str, list[str]],
    word: str | None,
    occurrences: bool,
    among: int,
    top_k: int,
    sync: bool,
    as_json: bool,
    model: str | None,
) -> None:
    """What is nearest in meaning to TEXT: documents, sentences, words, tokens or concepts.

    Looks into the index, or into the lines of a file, each of which is a document then. Without TEXT, finds what is
    nearest to each concept that is named, besides its examples.

    \b
      rag-plugin nearest "how do I swap the encoder" --granularity sentence
      rag-plugin nearest "the bank of the river" --word bank --granularity word --occurrences
      rag-plugin nearest "cherry" --concept fruit=apple,pear,plum --concept car=bus,truck,van
      rag-plugin nearest --concept fruit=apple,pear,plum --vocabulary words.txt
    """
    kind = granularity or ("concept" if text is not None and concepts else "document")
    _check_nearest(text, kind, concepts, word, occurrences, vocabulary)
    looks_into_index = vocabulary is None and kind != "concept"
    assembly = assembly_for(settings, model, needs_index=looks_into_index, sync=sync)
    nodes = nodes_of(assembly, checked=True) if looks_into_index else None
    encoder = encoder_of(assembly)
    piece_kind: Any = {"document": "text", "concept": "text"}.get(kind, kind)
    from .. import encode_concepts, vector_of

    asked = {text: [text]} if text is not None else concepts
    found: dict[str, list[Neighbour]] = {}
    for name, examples in asked.items():
        if kind == "concept":
            space = encode_concepts(encoder, concepts)
        elif nodes is not None:
            space = _in_index(encoder, nodes, examples, kind, among)
        elif not found:  # the lines are the same for each
            space = _in_file(assembly, str(vocabulary), kind)
        vector = vector_of(encoder, examples, piece_kind, only=word)
        each = occurrences or kind in ("document", "concept")
        found[name] = space.nearest(vector, top_k, each=each, leave_out=() if text is not None else examples)
    if as_json:
        data = [
            {"of": name, "nearest": [{**piece_data(item.piece), "score": round(item.score, 6)} for item in items]}
            for name, items in found.items()
        ]
        click.echo(json.dumps(data[0] if text is not None else data, ensure_ascii=False))
        return
    for name, items in found.items():
        if text is None:
            click.secho(name, bold=True)
        for item in items:
            click.echo(f"{item.score:6.3f}  {_shown(item.piece, kind)}")


def _check_nearest(
    text: str | None,
    kind: str,
    concepts: dict[str, list[str]],
    word: str | None,
    occurrences: bool,
    vocabulary: str | None,
) -> None:
    if text is None and not concepts:
        raise click.UsageError("name a TEXT, or a concept: --concept fruit=apple,pear,plum")
    if text is not None and concepts and kind != "concept":
        raise click.UsageError("name a TEXT or concepts, not both; or --granularity concept for the nearest concept")
    if kind == "concept" and not (text is not None and concepts):
        raise click.UsageError("--granularity concept needs a TEXT and concepts: --concept fruit=apple,pear,plum")
    if kind == "concept" and vocabulary is not None:
        raise click.UsageError("among concepts there is no --vocabulary")
    if (word is not None or occurrences) and kind not in ("word", "token"):
        raise click.UsageError("--word and --occurrences go with --granularity word or token")
    if word is not None and text is None:
        raise click.UsageError("--word is a word of TEXT, and there is none")


def _in_file(assembly: Assembly, file: str, kind: str) -> Space:
    """The lines of a file, or their pieces."""
    from .. import encode_pieces, read_lines

    if kind == "document":
        return vocabulary_of(assembly, file)
    return encode_pieces(encoder_of(assembly), read_lines(file), kind)  # type: ignore[arg-type]


def _in_index(encoder: BaseEmbedding, nodes: Space, examples: Sequence[str], kind: str, among: int) -> Space:
    """The documents, or the pieces of those nodes that are nearest to the examples."""
    from .. import document_space, encode_pieces, vector_of

    if kind == "document":
        return document_space(nodes)
    chosen = nodes.nearest(vector_of(encoder, examples), among)
    if len(chosen) < len(nodes):
        note(f"read the {len(chosen):,} nearest of {len(nodes):,} nodes (--among)")
    pieces = [item.piece for item in chosen if item.piece.text.strip()]
    return encode_pieces(encoder, pieces, kind)  # type: ignore[arg-type]


def _shown(piece: Piece, kind: str) -> str:
    if kind == "concept":
        return f"{fitted(piece.text, 20)}  {', '.join(piece.metadata['examples'])}"
    if not piece.document or kind == "document":
        return piece.text if not piece.context or kind == "sentence" else in_context(piece)
    if kind == "sentence":
        return f"{' '.join(piece.text.split())}  ({piece.document})"
    return f"{fitted(piece.text, 16)}  {in_context(piece)}  ({piece.document})"

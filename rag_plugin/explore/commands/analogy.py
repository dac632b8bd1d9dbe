"""The command `analogy`: vector arithmetic with texts."""

from __future__ import annotations

import json

import click

from ...cli.common import Settings, cli, common
from .parts import (
    assembly_for,
    encoder_of,
    json_option,
    model_option,
    sync_option,
    top_k_option,
    vocabulary_of,
    vocabulary_option,
)


@cli.command()
@click.argument("expression", nargs=-1, required=True)
@vocabulary_option
@click.option(
    "--most",
    "limit",
    type=click.IntRange(1),
    default=10_000,
    show_default=True,
    help="Maximum number of words from the index.",
)
@top_k_option
@sync_option
@json_option
@model_option
@common
def analogy(
    settings: Settings,
    expression: tuple[str, ...],
    vocabulary: str | None,
    limit: int,
    top_k: int,
    sync: bool,
    as_json: bool,
    model: str | None,
) -> None:
    """Calculate with texts, and find the words nearest to the result.

    The words are those of the index, most frequent first, or of a file. The terms of the expression are left out.

    \b
      rag-plugin analogy "king - man + woman"
      rag-plugin analogy "man : king :: woman : ?" --vocabulary words.txt
      rag-plugin analogy "2 * \\"New York\\" - USA + France"
    """
    from ..analogies import analogy as find
    from ..expression import parse_expression

    parsed = parse_expression(" ".join(expression))
    assembly = assembly_for(settings, model, needs_index=vocabulary is None, sync=sync)
    words = vocabulary_of(assembly, vocabulary, limit)
    neighbours = find(encoder_of(assembly), parsed, words, top_k)
    if as_json:
        terms = [{"text": term.text, "weight": term.weight} for term in parsed.terms]
        nearest = [{"text": item.piece.text, "score": round(item.score, 6)} for item in neighbours]
        data = {"expression": str(parsed), "terms": terms, "vocabulary": len(words), "nearest": nearest}
        click.echo(json.dumps(data, ensure_ascii=False))
        return
    for item in neighbours:
        click.echo(f"{item.score:6.3f}  {item.piece.text}")

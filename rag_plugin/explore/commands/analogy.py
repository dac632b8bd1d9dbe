"""The command `analogy`: calculating with texts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    pass

_WORDS = 10_000


@cli.command()
@click.argument("expression", nargs=-1, required=True)
@vocabulary_option
@click.option(
    "--most", type=click.IntRange(1), default=_WORDS, show_default=True, help="How many of the index's words, at most."
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
    most: int,
    top_k: int,
    sync: bool,
    as_json: bool,
    model: str | None,
) -> None:
    """Calculate with texts, and find the words nearest to the result.

    The words are those of the index, most frequent first, or of a file. What stands in the expression is left out.

    \b
      rag-plugin analogy "king - man + woman"
      rag-plugin analogy "man : king :: woman : ?" --vocabulary words.txt
      rag-plugin analogy "2 * \\"New York\\" - USA + France"
    """
    from ..expression import parse_expression

    parsed = parse_expression(" ".join(expression))
    assembly = assembly_for(settings, model, needs_index=vocabulary is None, sync=sync)
    words = vocabulary_of(assembly, vocabulary, most)
    from .. import analogy as find

    found = find(encoder_of(assembly), parsed, words, top_k)
    if as_json:
        terms = [{"text": term.text, "weight": term.weight} for term in parsed.terms]
        nearest = [{"text": item.piece.text, "score": round(item.score, 6)} for item in found]
        data = {"expression": str(parsed), "terms": terms, "vocabulary": len(words), "nearest": nearest}
        click.echo(json.dumps(data, ensure_ascii=False))
        return
    for item in found:
        click.echo(f"{item.score:6.3f}  {item.piece.text}")

"""The command `similarity`: cosines of texts with each other."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ...cli.common import Settings, cli, common, note
from .parts import assembly_for, concept_options, encoder_of, in_context, json_option, model_option, piece_data
from .table import similarity_table

if TYPE_CHECKING:
    from ..pieces import Granularity

_MAX_TABLE_ROWS = 60


@cli.command()
@click.argument("texts", nargs=-1)
@click.option("--file", "file", metavar="FILE", help="Texts from a file, one per line.")
@click.option(
    "--granularity",
    type=click.Choice(["text", "sentence", "word", "token", "character"]),
    default="text",
    help="Compare the texts, or their pieces, each in its context.  [default: text]",
)
@click.option("--word", metavar="WORD", help="Compare only this word, with its meaning in each text.")
@concept_options
@click.option("--heatmap", metavar="FILE.png", help="Draw the matrix as well.")
@click.option("--csv", "as_csv", is_flag=True, help="As CSV.")
@json_option
@model_option
@common
def similarity(
    settings: Settings,
    texts: tuple[str, ...],
    file: str | None,
    granularity: Granularity,
    word: str | None,
    concepts: dict[str, list[str]],
    heatmap: str | None,
    as_csv: bool,
    as_json: bool,
    model: str | None,
) -> None:
    """Print how similar texts are in meaning: the cosines of all pairs.

    Without TEXTS or --file, texts are read from stdin, one per line.

    \b
      rag-plugin similarity Apple Fruit Car
      rag-plugin similarity --word bank "the bank of the river" "money in the bank" "rob a bank"
    """
    if word is not None:
        if granularity not in ("text", "word"):
            raise click.UsageError("--word goes with --granularity word")
        granularity = "word"
    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")
    if concepts and granularity != "text":
        raise click.UsageError("concepts are compared with whole texts, without --granularity and --word")
    inputs = _texts(texts, file, required=not concepts)
    encoder = encoder_of(assembly_for(settings, model, needs_index=False))
    import numpy as np

    from ..pieces import encode_concepts, encode_pieces
    from ..space import Space

    space = encode_pieces(encoder, inputs, granularity, only=word)
    if concepts:
        named = encode_concepts(encoder, concepts)
        space = Space(space.pieces + named.pieces, np.concatenate([space.vectors, named.vectors])) if inputs else named
    if len(space) < 2:
        raise click.UsageError("there is nothing to compare: name at least two texts")
    matrix = space.similarity()
    names = [in_context(piece) if word is not None else piece.text for piece in space.pieces]
    if heatmap is not None:
        from ..picture import write_heatmap

        write_heatmap(heatmap, names, matrix)
        note(f"wrote {heatmap}")
    rounded = np.round(matrix.astype(float), 6).tolist()
    if as_json:
        pieces = [piece_data(piece) for piece in space.pieces]
        click.echo(json.dumps({"pieces": pieces, "similarity": rounded}, ensure_ascii=False))
    elif as_csv:
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["", *names])
        writer.writerows([name, *row] for name, row in zip(names, rounded))
        click.echo(table.getvalue(), nl=False)
    elif len(space) <= _MAX_TABLE_ROWS:
        columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        click.echo("\n".join(similarity_table(names, matrix, columns)))
    elif heatmap is None:
        raise click.UsageError(f"{len(space):,} rows are too many for a table; use --csv, --json or --heatmap")


def _texts(texts: Sequence[str], file: str | None, *, required: bool) -> list[str]:
    """The texts from the arguments, the file or stdin."""
    if texts and file is not None:
        raise click.UsageError("name texts or --file, not both")
    if texts:
        return list(texts)
    if file is not None:
        from ..vocabulary import read_lines

        return read_lines(file)
    if not required:
        return []
    if sys.stdin.isatty():
        raise click.UsageError("name texts, or --file, or send them to stdin, one per line")
    try:
        content = sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise click.UsageError(f"stdin is not UTF-8 (byte {error.start})") from error
    return [line.strip() for line in content.splitlines() if line.strip()]

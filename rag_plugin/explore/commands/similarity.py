"""The command `similarity`: how near texts are to each other."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ...cli.common import Settings, cli, common, note
from .parts import assembly_for, concept_options, encoder_of, in_context, json_option, model_option, piece_data
from .table import similarity_table

if TYPE_CHECKING:
    from .. import Space

_LARGEST_TABLE = 60  # rows that a person can read


@cli.command()
@click.argument("texts", nargs=-1)
@click.option("--file", "file", metavar="FILE", help="Texts from a file, one a line.")
@click.option(
    "--granularity",
    type=click.Choice(["text", "sentence", "word", "token", "character"]),
    default="text",
    help="Compare the texts, or what they are made of, each piece in its context.  [default: text]",
)
@click.option("--word", metavar="WORD", help="Compare this word alone, as it is meant in each text.")
@concept_options
@click.option("--heatmap", metavar="FILE.png", help="Draw the matrix too.")
@click.option("--csv", "as_csv", is_flag=True, help="As CSV.")
@json_option
@model_option
@common
def similarity(
    settings: Settings,
    texts: tuple[str, ...],
    file: str | None,
    granularity: str,
    word: str | None,
    concepts: dict[str, list[str]],
    heatmap: str | None,
    as_csv: bool,
    as_json: bool,
    model: str | None,
) -> None:
    """How near texts are to each other in meaning: the cosines of all pairs.

    Without TEXTS or --file, texts are read from stdin, one a line.

    \b
      rag-plugin similarity Apple Fruit Car
      rag-plugin similarity --word bank "the bank of the river" "money in the bank" "rob a bank"
    """
    if word is not None and granularity not in ("text", "word"):
        raise click.UsageError("--word goes with --granularity word")
    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")
    chosen = "word" if word is not None else granularity
    if concepts and chosen != "text":
        raise click.UsageError("concepts are compared with whole texts, without --granularity and --word")
    given = _texts(texts, file, needed=not concepts)
    encoder = encoder_of(assembly_for(settings, model, needs_index=False))
    from .. import Space, encode_concepts, encode_pieces, write_heatmap

    space = encode_pieces(encoder, given, chosen, only=word)  # type: ignore[arg-type]
    if concepts:
        named = encode_concepts(encoder, concepts)
        space = named if not given else Space(space.pieces + named.pieces, _stacked(space, named))
    if len(space) < 2:
        raise click.UsageError("there is nothing to compare: name two texts at least")
    matrix = space.similarity()
    names = [in_context(piece) if word is not None else piece.text for piece in space.pieces]
    if heatmap is not None:
        write_heatmap(heatmap, names, matrix)
        note(f"wrote {heatmap}")
    if as_json:
        pieces = [piece_data(piece) for piece in space.pieces]
        click.echo(json.dumps({"pieces": pieces, "similarity": _rounded(matrix)}, ensure_ascii=False))
    elif as_csv:
        _write_csv(names, matrix)
    elif len(space) <= _LARGEST_TABLE:
        columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        for line in similarity_table(names, matrix, columns):
            click.echo(line)
    elif heatmap is None:
        raise click.UsageError(f"{len(space):,} rows are too many to read; take --csv, --json or --heatmap")


def _texts(texts: Sequence[str], file: str | None, *, needed: bool) -> list[str]:
    """What is named, what is in the file, or what is on stdin."""
    if texts and file is not None:
        raise click.UsageError("name texts or --file, not both")
    if texts:
        return list(texts)
    if file is not None:
        from .. import read_lines

        return read_lines(file)
    if not needed:
        return []
    if sys.stdin.isatty():
        raise click.UsageError("name texts, or --file, or send them to stdin, one a line")
    try:
        content = sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise click.UsageError(f"stdin is not UTF-8 (byte {error.start})") from error
    return [line.strip() for line in content.splitlines() if line.strip()]


def _stacked(first: Space, second: Space) -> Any:
    import numpy as np

    return np.concatenate([first.vectors, second.vectors])


def _rounded(matrix: Any) -> list[list[float]]:
    import numpy as np

    return np.round(matrix.astype(float), 6).tolist()  # type: ignore[no-any-return]


def _write_csv(names: Sequence[str], matrix: Any) -> None:
    import csv
    import io

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["", *names])
    for name, row in zip(names, _rounded(matrix)):
        writer.writerow([name, *row])
    click.echo(out.getvalue(), nl=False)

"""The command `map`: an index in two dimensions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ...cli.common import Settings, cli, common, note, quiet_libraries
from .parts import (
    assembly_for,
    encoder_of,
    json_option,
    model_option,
    nodes_of,
    sync_option,
    vocabulary_of,
    vocabulary_option,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ...components.assembly import Assembly
    from ..map import Hit
    from ..projection import Method
    from ..space import Space

    PointType = Literal["nodes", "documents", "words"]

_DEFAULT_NEAREST_WORDS = 5


@cli.command("map")
@click.argument("files", nargs=-1, metavar="FILE.html|FILE.png...")
@click.option(
    "--of",
    type=click.Choice(["nodes", "documents", "words"]),
    help="What the points are.  [default: words for a vocabulary, else nodes]",
)
@click.option(
    "--method",
    type=click.Choice(["pca", "umap"]),
    default="pca",
    show_default=True,
    help="PCA keeps the largest variance; UMAP keeps neighbours together, and needs an extra.",
)
@click.option("--question", metavar="TEXT", help="Draw a question and its hits.")
@click.option("-k", "--top-k", type=click.IntRange(1), help="Maximum number of hits; unset, the config's.")
@click.option("--colour-by", "--color-by", "colour_by", metavar="KEY", help="`document`, a metadata key, or `none`.")
@vocabulary_option
@click.option(
    "--most",
    "limit",
    type=click.IntRange(1),
    default=300,
    show_default=True,
    help="Maximum number of words from the index, the most characteristic ones.",
)
@click.option("--dark", is_flag=True, help="A PNG with a dark background; a page follows the reader's own setting.")
@sync_option
@json_option
@model_option
@common
def map_command(
    settings: Settings,
    files: tuple[str, ...],
    of: PointType | None,
    method: Method,
    question: str | None,
    top_k: int | None,
    colour_by: str | None,
    vocabulary: str | None,
    limit: int,
    dark: bool,
    sync: bool,
    as_json: bool,
    model: str | None,
) -> None:
    """Draw the documents, nodes or words of the index in two dimensions.

    A page (.html) can be searched and zoomed, and needs neither a network nor another file. The vectors are those of
    the index; only words and the question are encoded.

    \b
      rag-plugin map map.html --question "What happens when the process is killed?"
      rag-plugin map words.png --of words
    """
    for name in files:
        if Path(name).suffix.lower() not in (".html", ".htm", ".png"):
            raise click.UsageError(f"{name}: a map is an HTML page, .html, or a picture, .png")
    if not files and not as_json:
        raise click.UsageError("name a file to write: rag-plugin map map.html")
    if vocabulary is not None and of not in ("words", None):
        raise click.UsageError("--vocabulary goes with --of words")
    of = of or ("nodes" if vocabulary is None else "words")
    if colour_by is None:
        colour_by = "document" if of == "nodes" else "none"
    overrides = {} if top_k is None or vocabulary is not None else {"retriever.top_k": top_k}
    assembly = assembly_for(settings, model, needs_index=vocabulary is None, sync=sync, **overrides)
    if of == "words":
        space = vocabulary_of(assembly, vocabulary, limit, "weight")
    else:
        from ..index import document_space

        space = nodes_of(assembly, check_encoder=False)
        space = space if of == "nodes" else document_space(space)
    vector, hits = (None, []) if question is None else _search(assembly, question, space, of, top_k)
    from ..map import make_map

    drawn = make_map(
        space,
        of=of,
        method=method,
        colour_by="" if colour_by == "none" else colour_by,
        question=question or "",
        question_vector=vector,
        hits=hits,
        labelled=of != "nodes",
    )
    for name in files:
        if name.lower().endswith(".png"):
            from ..picture import write_map

            write_map(name, drawn, dark=dark)
        else:
            from ..page import map_page

            try:
                Path(name).write_text(map_page(drawn), encoding="utf-8")
            except OSError as error:
                raise click.ClickException(f"{name}: {error.strerror}") from None
        if not as_json:
            click.echo(name)
    if as_json:
        click.echo(json.dumps(drawn.to_dict(), ensure_ascii=False))
    note(f"{drawn.title}; {drawn.method}")


def _search(
    assembly: Assembly, question: str, space: Space, of: PointType, top_k: int | None
) -> tuple[NDArray[np.float32], list[Hit]]:
    """The question's vector, and its hits: the nearest words, or the nodes or documents that the retriever returns."""
    from ...components.encoders.matrix import encode_queries
    from ..map import Hit
    from ..space import check_texts

    check_texts([question])
    vector = encode_queries(encoder_of(assembly), [question])[0]
    if of == "words":
        index_of = {text: index for index, text in enumerate(space.texts)}
        neighbours = space.nearest(vector, top_k or _DEFAULT_NEAREST_WORDS, exclude=[question])
        return vector, [Hit(index_of[item.piece.text], item.score) for item in neighbours]
    from ...sync import check_index

    with quiet_libraries():
        check_index(assembly)
        results = assembly.retriever.retrieve(question)
    index_of = {piece.node or piece.document: index for index, piece in enumerate(space.pieces)}
    hits: dict[int, Hit] = {}
    for item in results:
        name = item.node.node_id if of == "nodes" else item.node.ref_doc_id or item.node.node_id
        if name in index_of:
            hits.setdefault(index_of[name], Hit(index_of[name], item.score))
    return vector, list(hits.values())

"""The command `map`: an index in two dimensions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    from ...components.assembly import Assembly
    from .. import Hit, Space

_WORDS_ON_A_MAP = 300
_NEAREST_WORDS = 5


@cli.command("map")
@click.argument("files", nargs=-1, metavar="FILE.html|FILE.png...")
@click.option(
    "--of",
    type=click.Choice(["nodes", "documents", "words"]),
    default="nodes",
    show_default=True,
    help="What the points are.",
)
@click.option(
    "--method",
    type=click.Choice(["pca", "umap"]),
    default="pca",
    show_default=True,
    help="PCA shows the directions of the largest differences; UMAP keeps neighbours together, and needs an extra.",
)
@click.option("--question", metavar="TEXT", help="Draw a question in, and what is found for it.")
@click.option("-k", "--top-k", type=click.IntRange(1), help="How many hits; unset, as the config says.")
@click.option("--colour-by", "--color-by", "colour_by", metavar="KEY", help="`document`, a metadata key, or `none`.")
@vocabulary_option
@click.option(
    "--most",
    type=click.IntRange(1),
    default=_WORDS_ON_A_MAP,
    show_default=True,
    help="How many of the index's words; those that are everywhere come last.",
)
@click.option("--dark", is_flag=True, help="A PNG on a dark background; a page follows the reader's own setting.")
@sync_option
@json_option
@model_option
@common
def map_command(
    settings: Settings,
    files: tuple[str, ...],
    of: str,
    method: str,
    question: str | None,
    top_k: int | None,
    colour_by: str | None,
    vocabulary: str | None,
    most: int,
    dark: bool,
    sync: bool,
    as_json: bool,
    model: str | None,
) -> None:
    """Draw the documents, nodes or words of the index in two dimensions.

    A page (.html) can be searched and zoomed, and needs neither a network nor another file. Vectors come from the
    index; only words and the question are encoded.

    \b
      rag-plugin map map.html --question "What happens when the process is killed?"
      rag-plugin map words.png --of words
    """
    kinds = {name: Path(name).suffix.lower() for name in files}
    for name, kind in kinds.items():
        if kind not in (".html", ".htm", ".png"):
            raise click.UsageError(f"{name}: a map is a page, .html, or a picture, .png")
    if not files and not as_json:
        raise click.UsageError("name a file to write: rag-plugin map map.html")
    if vocabulary is not None and of != "words":
        if click.get_current_context().get_parameter_source("of") is not click.core.ParameterSource.DEFAULT:
            raise click.UsageError("--vocabulary goes with --of words")
        of = "words"
    key = {"none": ""}.get(colour_by, colour_by) if colour_by is not None else "document" if of == "nodes" else ""
    assembly = assembly_for(
        settings,
        model,
        needs_index=vocabulary is None,
        sync=sync,
        **({} if top_k is None or vocabulary is not None else {"retriever.top_k": top_k}),
    )
    space = _space(assembly, of, vocabulary, most)
    vector, hits = (None, []) if question is None else _ask(assembly, question, space, of, top_k)
    from .. import make_map, map_page, write_map

    drawn = make_map(
        space,
        of=of,
        method=method,  # type: ignore[arg-type]
        colour_by=key,
        question=question or "",
        question_vector=vector,
        hits=hits,
        labelled=of != "nodes",
    )
    for name, kind in kinds.items():
        if kind == ".png":
            write_map(name, drawn, dark=dark)
        else:
            try:
                Path(name).write_text(map_page(drawn), encoding="utf-8")
            except OSError as error:
                raise click.ClickException(f"{name}: {error.strerror}") from None
        if not as_json:
            click.echo(name)
    if as_json:
        click.echo(json.dumps(drawn.to_dict(), ensure_ascii=False))
    note(f"{drawn.title}; {drawn.method}")


def _space(assembly: Assembly, of: str, vocabulary: str | None, most: int) -> Space:
    """What is drawn."""
    if of == "words":
        return vocabulary_of(assembly, vocabulary, most, "weight")
    from .. import document_space

    nodes = nodes_of(assembly, checked=False)
    return nodes if of == "nodes" else document_space(nodes)


def _ask(assembly: Assembly, question: str, space: Space, of: str, top_k: int | None) -> tuple[Any, list[Hit]]:
    """The question's vector, and the hits: of nodes and documents the retriever's, of words the nearest."""
    from ...components.encoders.matrix import encode_queries
    from .. import Hit
    from ..space import check_texts

    check_texts([question])
    encoder = encoder_of(assembly)
    vector = encode_queries(encoder, [question])[0]
    if of == "words":
        number = {piece.text: place for place, piece in enumerate(space.pieces)}
        near = space.nearest(vector, top_k or _NEAREST_WORDS, leave_out=[question])
        return vector, [Hit(number[item.piece.text], item.score) for item in near]
    from ...sync import check_index

    with quiet_libraries():
        check_index(assembly)
        found = assembly.retriever.retrieve(question)
    number = {piece.node or piece.document: place for place, piece in enumerate(space.pieces)}
    best: dict[int, Hit] = {}
    for item in found:
        name = item.node.node_id if of == "nodes" else item.node.ref_doc_id or item.node.node_id
        if name in number:
            best.setdefault(number[name], Hit(number[name], item.score))
    return vector, list(best.values())

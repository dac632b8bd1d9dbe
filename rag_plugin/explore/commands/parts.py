"""What the commands about meaning share: their options, and the encoder and the index that they need."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from ...cli.common import Settings, note, quiet_libraries

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding

    from ...components.assembly import Assembly
    from .. import Piece, Space

model_option = click.option(
    "--model", metavar="MODEL", help="An encoder to take instead of the config's: a hub id, a folder, or package:NAME."
)
top_k_option = click.option("-k", "--top-k", type=click.IntRange(1), default=10, show_default=True, help="How many.")
vocabulary_option = click.option(
    "--vocabulary", metavar="FILE", help="Look in this file, a word or text a line, and not in the index."
)
sync_option = click.option("--sync/--no-sync", default=False, help="Bring the index in line with the documents first.")
json_option = click.option("--json", "as_json", is_flag=True, help="As JSON.")


def concept_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--concept and --concepts, handed on as `concepts`: examples by name."""

    @click.option("--concept", "named", metavar="NAME=A,B,C", multiple=True, help="A concept by examples of it.")
    @click.option(
        "--concepts", "concept_file", metavar="FILE", help="Concepts from a file, YAML or JSON: names with lists."
    )
    @functools.wraps(function)
    def with_concepts(*args: Any, named: tuple[str, ...], concept_file: str | None, **options: Any) -> Any:
        concepts: dict[str, list[str]] = {}
        if concept_file is not None:
            from .. import read_concepts

            concepts.update(read_concepts(concept_file))
        for text in named:
            name, _, examples = text.partition("=")
            parts = [part.strip() for part in examples.split(",") if part.strip()]
            if not name.strip() or not parts:
                raise click.UsageError(f"--concept {text}: write it as NAME=EXAMPLE,EXAMPLE, such as fruit=apple,pear")
            concepts[name.strip()] = parts
        return function(*args, concepts=concepts, **options)

    return with_concepts


def assembly_for(
    settings: Settings, model: str | None, *, needs_index: bool, sync: bool = False, **overrides: Any
) -> Assembly:
    """What builds the encoder and, where it is needed, the store; neither is built here.

    Args:
        settings: What the common options said. The config may lack a reader, and a store if no index is needed.
        model: An encoder instead of the config's; if no index is needed, there need not be a config at all.
        needs_index: Whether the command reads the index.
        sync: Bring the index in line with the documents.
        overrides: Settings of the config to change.
    """
    from ...config import load_config
    from ...config.load import load_command_line_config

    encoder = {"type": "huggingface", "model": model}
    if model is not None and not needs_index:
        config = load_config({"encoder": encoder}, allow=settings.allow, provided=("reader", "store"))
        return config.assemble()
    if settings.config is None and not Path(settings.path).exists():
        hint = "words with --vocabulary" if needs_index else "an encoder with --model, such as BAAI/bge-small-en-v1.5"
        raise click.UsageError(f"there is no {settings.path} here: name a config with -c, or {hint}")
    provided = ("reader",) if needs_index else ("reader", "store")
    config = load_command_line_config(settings.path, settings.overrides, settings.allow, provided)
    if model is not None:
        overrides["encoder"] = encoder
    config = load_config(config, overrides=overrides)
    assembly = config.assemble()
    if sync:
        with quiet_libraries():
            from ...sync import sync as run

            run(assembly, config.sync)
    return assembly


def encoder_of(assembly: Assembly) -> BaseEmbedding:
    """The encoder, loaded with a word about what takes the time; of a command's calls the first one loads it."""
    with quiet_libraries():
        if "encoder" not in vars(assembly) and sys.stderr.isatty():
            note(click.style("loading the encoder ...", dim=True))
        return assembly.encoder


def nodes_of(assembly: Assembly, *, checked: bool) -> Space:
    """The index's nodes with their vectors; `checked`: which are this encoder's."""
    with quiet_libraries():
        if checked:
            from ...sync import check_index

            check_index(assembly)
        from .. import node_space

        return node_space(assembly.store)


def vocabulary_of(
    assembly: Assembly, file: str | None, most: int | None = None, by: Literal["frequency", "weight"] = "frequency"
) -> Space:
    """The lines of a file, or the words of the index, with their vectors.

    Raises:
        QuestionError: The file cannot be read, or the index has no words.
    """
    from ...errors import QuestionError
    from .. import encode_vocabulary, read_lines, words_of

    if file is not None:
        words = read_lines(file)
    else:
        words = words_of((piece.text for piece in nodes_of(assembly, checked=False).pieces), most, by=by)
    if not words:
        raise QuestionError("the index has no words")
    encoder = encoder_of(assembly)
    if len(words) > 2_000 and sys.stderr.isatty():
        note(click.style(f"looking at {len(words):,} words ...", dim=True))
    return encode_vocabulary(encoder, words)


def piece_data(piece: Piece) -> dict[str, Any]:
    data: dict[str, Any] = {"text": piece.text}
    if piece.context:
        data |= {"context": piece.context, "start": piece.start}
    for name in ("document", "node"):
        if value := getattr(piece, name):
            data[name] = value
    if "examples" in piece.metadata:
        data["examples"] = piece.metadata["examples"]
    return data


def in_context(piece: Piece, around: int = 28) -> str:
    """A word in brackets with what is around it."""
    end = piece.start + len(piece.text)
    before, after = piece.context[: piece.start], piece.context[end:]
    left = before if len(before) <= around else "…" + before[-around:]
    right = after if len(after) <= around else after[:around] + "…"
    return " ".join(f"{left}[{piece.text}]{right}".split())

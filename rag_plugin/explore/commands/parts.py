"""Shared by the commands about vectors: options, and access to the encoder and the index."""

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
    from ..space import Piece, Space

_MIN_WORDS_FOR_A_NOTE = 2_000

model_option = click.option(
    "--model", metavar="MODEL", help="An encoder instead of the config's: a hub id, a folder, or package:NAME."
)
top_k_option = click.option(
    "-k", "--top-k", type=click.IntRange(1), default=10, show_default=True, help="Maximum number of results."
)
vocabulary_option = click.option(
    "--vocabulary", metavar="FILE", help="Search this file, one word or text per line, instead of the index."
)
sync_option = click.option("--sync/--no-sync", default=False, help="Sync the index with the documents first.")
json_option = click.option("--json", "as_json", is_flag=True, help="As JSON.")


def concept_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --concept and --concepts; the command's parameter `concepts` contains the examples by name."""

    @click.option("--concept", "pairs", metavar="NAME=A,B,C", multiple=True, help="A concept and examples of it.")
    @click.option("--concepts", "concept_file", metavar="FILE", help="Concepts from YAML or JSON: names with lists.")
    @functools.wraps(function)
    def with_concepts(*args: Any, pairs: tuple[str, ...], concept_file: str | None, **options: Any) -> Any:
        concepts: dict[str, list[str]] = {}
        if concept_file is not None:
            from ..vocabulary import read_concepts

            concepts.update(read_concepts(concept_file))
        for text in pairs:
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
    """The assembly for encoder and store; neither is built here.

    Args:
        settings: The common options. The config may lack a reader, and without `needs_index` a store.
        model: An encoder instead of the config's; without `needs_index` no config is needed then.
        needs_index: Whether the command reads the index.
        sync: Sync the index with the documents first.
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
        from ...sync import sync as run_sync

        with quiet_libraries():
            settings.note_failed(run_sync(assembly, config.sync).failed)
    return assembly


def encoder_of(assembly: Assembly) -> BaseEmbedding:
    """The encoder; the first call loads it, with a message on a terminal."""
    with quiet_libraries():
        if "encoder" not in vars(assembly) and sys.stderr.isatty():
            note(click.style("loading the encoder ...", dim=True))
        return assembly.encoder


def nodes_of(assembly: Assembly, *, check_encoder: bool) -> Space:
    """The index's nodes with their vectors; with `check_encoder`, it must be built by the config's encoder."""
    from ..index import node_space

    with quiet_libraries():
        if check_encoder:
            from ...sync import check_index

            check_index(assembly)
        return node_space(assembly.store)


def vocabulary_of(
    assembly: Assembly, file: str | None, limit: int | None = None, by: Literal["frequency", "weight"] = "frequency"
) -> Space:
    """The lines of a file, or the words of the index, with their vectors.

    Raises:
        QuestionError: The file cannot be read, or the index contains no words.
    """
    from ...errors import QuestionError
    from ..vocabulary import encode_vocabulary, read_lines, words_of

    if file is not None:
        words = read_lines(file)
    else:
        words = words_of(nodes_of(assembly, check_encoder=False).texts, limit, by=by)
    if not words:
        raise QuestionError("the index contains no words")
    encoder = encoder_of(assembly)
    if len(words) > _MIN_WORDS_FOR_A_NOTE and sys.stderr.isatty():
        note(click.style(f"encoding {len(words):,} words ...", dim=True))
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


def in_context(piece: Piece, characters: int = 28) -> str:
    """The piece in brackets, with some characters of its context on both sides."""
    end = piece.start + len(piece.text)
    before, after = piece.context[: piece.start], piece.context[end:]
    left = before if len(before) <= characters else "…" + before[-characters:]
    right = after if len(after) <= characters else after[:characters] + "…"
    return " ".join(f"{left}[{piece.text}]{right}".split())

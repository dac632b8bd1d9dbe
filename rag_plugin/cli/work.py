"""The commands `sync`, `search` and `ask`."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from ..errors import MissingLLM, RagPluginError
from .common import (
    DOCUMENTS_FAILED,
    WORK_FAILED,
    Settings,
    cli,
    common,
    note,
    quiet_libraries,
    warnings_afterwards,
    while_loading,
)
from .wrapping import WrappedOutput, print_wrapped

if TYPE_CHECKING:
    from llama_index.core.schema import NodeWithScore

    from ..engine import RagEngine
    from ..sync import SyncPlan, SyncReport

_MAX_LISTED = 20  # above this number, documents are listed by folder


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
@click.option("--dry-run", is_flag=True, help="Show what a sync would do, and how long it would take; write nothing.")
@click.option("--strict", is_flag=True, help="Leave with exit code 3 if a document cannot be read.")
@click.option("-v", "--verbose", is_flag=True, help="List every document, also of a first or a large sync.")
@common
def sync(settings: Settings, as_json: bool, dry_run: bool, strict: bool, verbose: bool) -> None:
    """Bring the index in line with the documents."""
    config = settings.load()
    with quiet_libraries():
        while_loading(config.encoder)
        from ..sync import plan_sync
        from ..sync import sync as run

        report: SyncPlan | SyncReport = (plan_sync if dry_run else run)(config.assemble(), config.sync)
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2, ensure_ascii=False))
    else:
        _print_report(report, verbose)
    if strict and report.failed:
        raise click.exceptions.Exit(DOCUMENTS_FAILED)


def _print_report(report: SyncPlan | SyncReport, verbose: bool) -> None:
    from ..sync import SyncPlan

    if isinstance(report, SyncPlan):
        for difference in report.changes:
            click.echo(f"* {difference}")
    is_first = not (report.changed or report.removed or report.unchanged)
    is_large = len(report.added) + len(report.changed) + len(report.removed) > _MAX_LISTED
    for sign, names in (("+", report.added), ("~", report.changed), ("-", report.removed)):
        for line in _by_folder(names) if (is_first or is_large) and not verbose else names:
            click.echo(f"{sign} {line}")
    for name, reason in report.failed:
        click.echo(f"! {name}: {reason}")
    click.echo(str(report))
    if isinstance(report, SyncPlan) and report.refused:
        note("a sync would stop at the changes marked *: sync.on_change is error")


def _by_folder(names: Sequence[str]) -> Iterator[str]:
    """One line for each top-level folder, and for each document outside of folders if there are few."""
    from ..sync import documents

    folders: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        scheme, separator, path = name.rpartition("://")  # an id may be a URL
        folder, slash, _ = path.partition("/")
        folders[scheme + separator + folder + slash if slash else ""].append(name)
    for folder, members in folders.items():
        if len(members) == 1 or (not folder and len(members) <= _MAX_LISTED):
            yield from members
        else:
            yield f"{folder or 'top level'}  {documents(len(members))}"


@cli.command()
@click.argument("question", required=False)
@click.option("-k", "--top-k", type=click.IntRange(1), help="How many passages; unset, the config's top_k.")
@click.option("--sync/--no-sync", default=True, help="Bring the index in line with the documents first.")
@click.option("--json", "as_json", is_flag=True, help="The passages as JSON.")
@common
def search(settings: Settings, question: str | None, top_k: int | None, sync: bool, as_json: bool) -> None:
    """Find the passages for a question, without an LLM.

    Without a question, each line of stdin is one, until Ctrl-D.
    """
    overrides: dict[str, Any] = {} if top_k is None else {"retriever.top_k": top_k}
    engine = settings.engine(sync=sync, **{"llm": "none", **overrides})
    _for_each_question(settings, question, lambda text: _print_passages(engine.retrieve(text), as_json))


def _print_passages(hits: Sequence[NodeWithScore], as_json: bool) -> None:
    from ..components.places import place_of, source_of_node

    if as_json:
        data = [
            {
                "score": item.score,
                "document": item.node.ref_doc_id,
                "place": place_of(item.node),
                "node": item.node.node_id,
                "metadata": item.node.metadata,
                "text": item.node.get_content(),
            }
            for item in hits
        ]
        click.echo(json.dumps(data, indent=2, ensure_ascii=False))
        return
    if not hits:
        note("no passage was found")
    for number, item in enumerate(hits, 1):
        head = f"{number}. {_scores(item)}  {source_of_node(item.node)}"
        click.secho(head, bold=True)
        print_wrapped(item.node.get_content().strip(), "   ")
        click.echo()


def _scores(item: NodeWithScore) -> str:
    """The score of a hit, and of a hybrid hit the two scores that it was made of."""
    metadata, score = item.node.metadata, f"{item.score or 0:.3f}"
    if "vector_score" not in metadata:
        return score
    return f"{score} (vector {metadata['vector_score']:.3f}, BM25 {metadata['lexical_score']:.2f})"


@cli.command()
@click.argument("question", required=False)
@click.option("--sync/--no-sync", default=True, help="Bring the index in line with the documents first.")
@click.option("--json", "as_json", is_flag=True, help="Answer and sources as JSON.")
@common
def ask(settings: Settings, question: str | None, sync: bool, as_json: bool) -> None:
    """Answer questions from the documents.

    Without a question, each line of stdin is one, until Ctrl-D.
    """
    config = settings.load()
    if config.uses_llm and config.llm.type == "none":
        raise MissingLLM
    streams = not as_json and "streaming" in config.synthesizer.settings and "accumulate" not in config.synthesizer.type
    engine = settings.engine(sync=sync, **({"synthesizer.streaming": True} if streams else {}))
    if config.uses_llm:
        _load_llm(engine)
    _for_each_question(settings, question, lambda text: _answer(engine, text, as_json))


def _for_each_question(settings: Settings, question: str | None, answer: Callable[[str], None]) -> None:
    """Answer one question, or each line of stdin; an error ends one question only."""
    if question is not None:
        answer(question)
        return
    interactive = sys.stdin.isatty()
    if interactive:
        note("Each line is one question; Ctrl-D ends.")
    failed = False
    while True:
        try:
            question = input("? " if interactive else "")
        except EOFError:
            if interactive:
                note("")
            elif failed:
                raise click.exceptions.Exit(WORK_FAILED) from None
            return
        except KeyboardInterrupt:
            note("")
            continue
        if not question.strip():
            continue
        try:
            answer(question)
        except KeyboardInterrupt:
            note("\n(stopped)")
        except MissingLLM:
            raise
        except RagPluginError as error:
            failed = True
            note(f"error: {settings.in_shell(error.shell_text)}")


def _load_llm(engine: RagEngine) -> None:
    """Load the LLM with a progress bar; its server may have to download it first."""
    from tqdm import tqdm

    # disable=None: on a terminal only
    with tqdm(unit="B", unit_scale=True, desc="loading the LLM", disable=None, leave=False) as bar:

        def show(line: Mapping[str, Any]) -> None:
            bar.set_description_str(str(line.get("status", "downloading the LLM"))[:60])
            if line.get("total"):
                bar.total = int(line["total"])
                bar.n = int(line.get("completed", 0))
            bar.refresh()

        engine.warm_up(show)


def _answer(engine: RagEngine, question: str, as_json: bool) -> None:
    with warnings_afterwards():
        _print_answer(engine.query(question), question, as_json)


def _print_answer(response: Any, question: str, as_json: bool) -> None:
    from ..components.places import place_of, source_of_node

    metadata = response.metadata or {}
    if as_json:
        sources = [
            {"score": item.score, "document": item.node.ref_doc_id, "place": place_of(item.node)}
            for item in response.source_nodes
        ]
        data = {"question": question, "answer": str(response), "finish_reason": metadata.get("finish_reason")}
        data.update((key, metadata[key]) for key in ("answered", "quotes") if key in metadata)
        click.echo(json.dumps({**data, "sources": sources}, ensure_ascii=False))
        return
    if not response.source_nodes:
        note("no passage was found in the documents")
    stream = getattr(response, "response_gen", None)
    output = WrappedOutput()
    try:
        for piece in stream if stream is not None else [str(response)]:
            output.write(piece)
    finally:
        output.end()  # also of an answer that breaks off
    if "quotes" in metadata:  # each with its source
        return
    click.echo()
    if response.source_nodes:
        click.secho("Sources", bold=True)
    for item in response.source_nodes:
        click.echo(f"  {item.score or 0:.3f}  {source_of_node(item.node)}")

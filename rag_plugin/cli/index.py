"""The commands `info` and `verify`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from .common import WORK_FAILED, Settings, cli, common, note, quiet_libraries

if TYPE_CHECKING:
    from ..faiss_store import FaissStore


@cli.command("info")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@common
def info_command(settings: Settings, as_json: bool) -> None:
    """Show the content, size, settings and recall of the index."""
    store = _store(settings)
    info = store.info()
    if as_json:
        click.echo(json.dumps(info.to_dict(), indent=2, ensure_ascii=False))
        return
    if not info.nodes and not info.unfinished and not info.fingerprint:
        note(settings.in_shell("the index is empty; `rag-plugin sync` fills it"))
    recall = "exact search" if info.recall is None else f"finds {info.recall:.1%} of the nearest 10"
    lines = {
        "directory": info.path,
        "size": _size(info.bytes),
        "documents": f"{info.documents:,}",
        "nodes": f"{info.nodes:,}" + (f", vectors of {info.dimension} numbers" if info.dimension else ""),
        "search": f"{info.index}, {info.metric}, {info.precision}; {recall}",
        "lexical": f"BM25, language {info.language}" if info.lexical else "no lexical index (store.lexical: false)",
        "cached vectors": f"{info.cached_vectors:,} of removed nodes",
    }
    if info.not_in_snapshot:
        changes = "1 change" if info.not_in_snapshot == 1 else f"{info.not_in_snapshot:,} changes"
        lines["FAISS"] = f"{changes} held in SQLite, added at opening"
    if info.unfinished:
        lines["unfinished"] = f"a sync with another encoder has {info.unfinished:,} documents so far"
    if info.writer:
        lines["writing"] = info.writer
    for slot in ("encoder", "chunker", "reader"):
        fields = info.fingerprint.get(slot)
        if fields:
            lines[slot] = ", ".join(f"{key} {value}" for key, value in fields.items() if value not in (None, ""))
    for name, text in lines.items():
        click.echo(f"{name + ':':<16}{text}")


@cli.command()
@click.option("--repair", is_flag=True, help="Repair what can be repaired.")
@click.option("--json", "as_json", is_flag=True, help="The problems as JSON.")
@common
def verify(settings: Settings, repair: bool, as_json: bool) -> None:
    """Check every row, vector and derived file of the index against each other.

    --repair rebuilds derived files and removes nodes that cannot be read; the next sync restores their documents. The
    exit code is 0 if there is no problem left, else 1.
    """
    store = _store(settings)
    problems = store.verify(repair=repair)
    if as_json:
        data = [{"what": problem.what, "repaired": problem.repaired} for problem in problems]
        click.echo(json.dumps(data, indent=2, ensure_ascii=False))
    else:
        for problem in problems:
            click.echo(f"! {problem}")
        note(f"{len(problems)} problems" if problems else f"{store.path}: no problems, {len(store):,} nodes")
    remaining = [problem for problem in problems if not problem.repaired]
    if remaining and not repair and not as_json:
        note(settings.in_shell("`rag-plugin verify --repair` repairs what can be repaired"))
    if remaining:
        raise click.exceptions.Exit(WORK_FAILED)


def _store(settings: Settings) -> FaissStore:
    from ..faiss_store import FaissStore

    config = settings.load()
    if config.store is None or config.store.type != "faiss":
        name = None if config.store is None else config.store.type
        raise click.ClickException(f"this command needs the store 'faiss'; the config has {name!r}")
    with quiet_libraries():
        store = config.build("store")
    assert isinstance(store, FaissStore)
    return store


def _size(count: float) -> str:
    if count < 1000:
        return f"{count:.0f} bytes"
    power = 3 if count >= 1e9 else 2 if count >= 1e6 else 1
    return f"{count / 1000**power:.1f} {'kMG'[power - 1]}B"

"""The commands about the index: info and verify."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from .common import WORK_FAILED, Settings, cli, common, note, quiet_libraries

if TYPE_CHECKING:
    from ..faiss_store import FaissStore


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@common
def info(settings: Settings, as_json: bool) -> None:
    """Show what is in the index, its size, what made it, and its health."""
    store = _store(settings)
    found = store.info()
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
        return
    if not found.nodes and not found.unfinished and not found.fingerprint:
        note("nothing was ever synced into it; `rag-plugin sync` does")
    kind = f"{found.index}, {found.metric}, {found.precision}"
    recall = "every vector is compared" if found.recall is None else f"finds {found.recall:.1%} of the true nearest 10"
    lines = {
        "directory": found.path,
        "size": _size(found.bytes),
        "documents": f"{found.documents:,}",
        "nodes": f"{found.nodes:,}" + (f", vectors of {found.dimension} numbers" if found.dimension else ""),
        "search": f"{kind}; {recall}",
        "words": f"BM25, language {found.language}" if found.lexical else "not searched (store.lexical: false)",
        "kept vectors": f"{found.cached_vectors:,} of removed nodes",
    }
    if found.not_in_snapshot:
        lines["behind"] = f"{found.not_in_snapshot:,} changes are not in the FAISS file; opening adds them"
    if found.unfinished:
        lines["unfinished"] = f"a sync with another encoder has {found.unfinished:,} documents ready"
    if found.writer:
        lines["writing"] = found.writer
    for slot in ("encoder", "chunker", "reader"):
        described = found.fingerprint.get(slot)
        if described:
            lines[slot] = ", ".join(f"{key} {value}" for key, value in described.items() if value not in (None, ""))
    for name, text in lines.items():
        click.echo(f"{name + ':':<14}{text}")


@cli.command()
@click.option("--repair", is_flag=True, help="Mend what can be mended.")
@click.option("--json", "as_json", is_flag=True, help="What was found as JSON.")
@common
def verify(settings: Settings, repair: bool, as_json: bool) -> None:
    """Check every row, vector and derived file of the index against each other.

    What is derived is made anew by --repair; a node that cannot be read is removed, and the next sync brings its
    document back. The exit code is 0 if all is well (or was mended), else 1.
    """
    store = _store(settings)
    found = store.verify(repair=repair)
    if as_json:
        data = [{"what": finding.what, "repaired": finding.repaired} for finding in found]
        click.echo(json.dumps(data, indent=2, ensure_ascii=False))
    else:
        for finding in found:
            click.echo(f"! {finding}")
        note(f"{len(found)} findings" if found else f"{store.path} is fine: {len(store):,} nodes")
    left = [finding for finding in found if not finding.repaired]
    if left and not repair and not as_json:
        note("`rag-plugin verify --repair` mends what can be mended")
    if left:
        raise click.exceptions.Exit(WORK_FAILED)


def _store(settings: Settings) -> FaissStore:
    config = settings.load()
    if config.store is None or config.store.type != "faiss":
        name = None if config.store is None else config.store.type
        raise click.ClickException(f"this command is about the store 'faiss'; the config has {name!r}")
    with quiet_libraries():
        store: Any = config.build("store")
    return store  # type: ignore[no-any-return]


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError

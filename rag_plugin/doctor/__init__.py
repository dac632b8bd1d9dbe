"""Everything that a first run can fail on, looked at in turn, with the hint for each. It changes nothing."""

from __future__ import annotations

import logging
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement

from ..errors import ConfigError, LLMError, RagPluginError
from .findings import Finding, Level, as_size, free_memory
from .llm import LookAtLLM

if TYPE_CHECKING:
    from ..components.assembly import Assembly
    from ..config import Config
    from ..protocols import Listed, Unlisted

_log = logging.getLogger(__name__)

_PACKAGES = ("rag-plugin", "llama-index-core", "sentence-transformers", "torch", "faiss-cpu", "tantivy")
_MANY_DOCUMENTS = 2_000  # reading more only to foretell a sync would take longer than a person waits
_MANY_NODES = 200_000  # likewise for checking each row of an index
_TEXT_BYTES = 3_000  # of a node in SQLite and the lexical index, beside its vector


def examine(load: Callable[[], Config], *, ask_llm: bool = True) -> Iterator[Finding]:
    """Look at everything that a config's engine needs, the cheap things first.

    Args:
        load: Reads the config; what it raises is a finding too.
        ask_llm: Whether the LLM is loaded and asked for a few words.
    """
    yield from _seen("packages", _packages)
    config: Config | None = None
    try:
        config = load()
        yield Finding("ok", "config", f"{config.name} is right")
    except ConfigError as error:
        for problem in error.problems:
            line = f"line {problem.line}" if problem.line else ""
            where = ", ".join(part for part in (problem.file, line, problem.path) if part)
            yield Finding("fail", "config", f"{where}: {problem.message}", problem.hint)
    if config is None:
        yield Finding("skip", "all else", "needs a config that is right")
        return
    assembly = config.assemble()
    doctor = _Doctor(config, assembly)
    yield from _seen("reader", doctor.reader)
    yield from _seen("encoder", doctor.encoder)
    yield from _seen("index", doctor.index)
    yield from _seen("sync", doctor.sync)
    look = LookAtLLM(config, assembly, has_encoder=doctor.has_encoder)
    yield from _seen("llm", lambda: look.look(ask_llm))


def _seen(name: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    except LLMError as error:
        yield Finding("fail", name, error.what, error.hint)
    except RagPluginError as error:
        what, _, hint = str(error).partition("\n")
        yield Finding("fail", name, what, hint)
    except Exception as error:  # a look that goes wrong is a finding, and must not hide the others
        reason = " ".join(str(error).split()) or "no reason given"
        _log.debug("looking at %s", name, exc_info=True)
        yield Finding("fail", name, f"{type(error).__name__}: {reason}", "rag-plugin doctor --debug shows where")


def _packages() -> Iterator[Finding]:
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        yield Finding("warn", "packages", f"Python {platform.python_version()}", "3.10 to 3.13 are what is tested")
    found = []
    for name in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    for wrong in _unmet_requirements():
        yield Finding("fail", "packages", wrong, "pip install -c constraints.txt rag-plugin")
    yield Finding("ok", "packages", f"Python {platform.python_version()}, {', '.join(found)}")


def _unmet_requirements() -> Iterator[str]:
    """What this package needs and has not got, or of another version."""
    try:
        needed = [Requirement(line) for line in metadata.requires("rag-plugin") or ()]
    except metadata.PackageNotFoundError:  # it runs from its source
        return
    for one in needed:
        if one.marker is not None and not one.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(one.name)
        except metadata.PackageNotFoundError:
            yield f"{one.name} is not installed"
            continue
        if not one.specifier.contains(version, prereleases=True):
            yield f"{one.name} {version} is installed, and {one.specifier} is needed"


class _Doctor:
    def __init__(self, config: Config, assembly: Assembly) -> None:
        self.config, self.assembly = config, assembly
        self.items: list[Listed | Unlisted] | None = None
        self.dimension = 0
        self.has_encoder = False

    # ------------------------------------------------------------------ documents and vectors

    def reader(self) -> Iterator[Finding]:
        from ..protocols import DocumentSource, Unlisted

        reader = self.assembly.reader
        if not isinstance(reader, DocumentSource):
            yield Finding("skip", "reader", f"{type(reader).__name__} only knows its documents once it has read them")
            return
        self.items = list(reader.list_documents())
        bad = [item for item in self.items if isinstance(item, Unlisted)]
        for item in bad[:5]:
            yield Finding("warn", "reader", f"{item.id}: {item.reason}", "mend it or exclude it; the others are read")
        if len(bad) > 5:
            yield Finding("warn", "reader", f"{len(bad) - 5} more documents that cannot be read")
        if len(self.items) == len(bad):
            where = self.config.reader.settings.get("path", "") if self.config.reader is not None else ""
            hint = f"put documents into {where}, or let reader.path and reader.include name others"
            yield Finding("warn", "reader", "there are no documents", hint)
        else:
            yield Finding("ok", "reader", f"{len(self.items) - len(bad):,} documents")

    def encoder(self) -> Iterator[Finding]:
        from ..components.encoders.matrix import encode_queries
        from ..components.encoders.tokens import max_input_tokens

        started = time.perf_counter()
        encoder = self.assembly.encoder
        self.dimension = int(encode_queries(encoder, ["Is anybody there?"]).shape[1])
        self.has_encoder = True
        most = max_input_tokens(encoder)
        parts = [f"{getattr(encoder, 'model_name', type(encoder).__name__)}: {self.dimension} numbers"]
        parts.append(f"reads {most:,} tokens" if most else "how much it reads is not known")
        for role in ("query", "document"):
            prompt, origin = getattr(encoder, f"{role}_prompt", ""), getattr(encoder, f"{role}_prompt_from", "")
            if prompt:
                parts.append(f"{role} prompt {prompt!r} ({origin})")
        device = getattr(encoder, "_device", "")
        parts += [f"on {device}"] if device else []
        yield Finding("ok", "encoder", f"{', '.join(parts)}; {time.perf_counter() - started:.1f} s")

    # ------------------------------------------------------------------ index

    def index(self) -> Iterator[Finding]:
        if self.config.store is None or self.config.store.type != "faiss":
            yield Finding("skip", "index", "of another store than faiss nothing can be told")
            return
        store: Any = self.assembly.store
        found = store.info()
        if not found.nodes and not found.fingerprint:
            yield Finding("ok", "index", f"{store.path} is not there yet; a sync makes it")
            return
        if found.writer:
            hint = "wait for it, or end it; questions and this look go on meanwhile"
            yield Finding("warn", "index", f"{found.path} is being written to by {found.writer}", hint)
        if found.nodes > _MANY_NODES:
            yield Finding("skip", "index", f"{found.nodes:,} nodes are many to check", "rag-plugin verify does it")
        else:
            for wrong in store.verify():
                yield Finding("fail", "index", wrong.what, "rag-plugin verify --repair")
        yield Finding(
            "ok", "index", f"{found.documents:,} documents, {found.nodes:,} nodes, {found.bytes / 1e6:,.1f} MB"
        )
        if self.has_encoder and found.fingerprint:
            from ..sync.fingerprint import HINT, all_differences, fingerprint_of

            level: Level = "fail" if self.config.sync.on_change == "error" else "warn"
            for difference in all_differences(found.fingerprint, fingerprint_of(self.assembly)):
                yield Finding(level, "index", f"it was built by other settings: {difference}", HINT)

    def sync(self) -> Iterator[Finding]:
        if not self.has_encoder:
            yield Finding("skip", "sync", "what a sync would do is not known without the encoder")
            return
        if self.items is not None and len(self.items) > _MANY_DOCUMENTS:
            hint = "rag-plugin sync --dry-run tells what it would do"
            yield Finding("skip", "sync", f"{len(self.items):,} documents are many to read for this", hint)
            return
        from ..sync import plan_sync

        plan = plan_sync(self.assembly, self.config.sync)
        for name, reason in plan.failed[:5]:
            yield Finding("warn", "sync", f"{name}: {reason}", "mend it or exclude it; the others are synced")
        nothing = not (plan.nodes or plan.removed or plan.changes or plan.failed)
        yield Finding("ok", "sync", "the index is as the documents are" if nothing else f"would do: {plan}")
        if self.config.store is None or self.config.store.type != "faiss":
            return
        needed = plan.nodes * (2 * 4 * self.dimension + _TEXT_BYTES)
        folder = Path(self.assembly.sync_store.location)
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        if needed > 0.9 * free:
            hint = "make room, or let store.path name another disk"
            yield Finding(
                "fail", "sync", f"it needs some {as_size(needed)} of disk, and {as_size(free)} are free", hint
            )
        memory = free_memory()
        held = plan.nodes * 4 * self.dimension * 2.2
        if memory is not None and held > 0.8 * memory:
            hint = "set store.index to IVF and store.precision to int8"
            what = f"making the index needs some {as_size(held)} of memory, and {as_size(memory)} are free"
            yield Finding("warn", "sync", what, hint)

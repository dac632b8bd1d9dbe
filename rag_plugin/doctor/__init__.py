"""Checks everything that a first run depends on and reports each problem with a hint; nothing is changed."""

from __future__ import annotations

import logging
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from ..errors import ConfigError, LLMError, RagPluginError, describe_error
from .findings import Finding, Level, as_size, free_memory
from .llm import LLMCheck

if TYPE_CHECKING:
    from ..components.assembly import Assembly
    from ..config import Config
    from ..faiss_store import FaissStore
    from ..protocols import Listed, Unlisted

_log = logging.getLogger(__name__)

_PACKAGES = ("rag-plugin", "llama-index-core", "sentence-transformers", "torch", "faiss-cpu", "tantivy")
_MAX_DOCUMENTS_TO_READ = 2_000  # for the plan of a sync; more would take too long
_MAX_NODES_TO_VERIFY = 200_000
_TEXT_BYTES_PER_NODE = 3_000  # in SQLite and the lexical index, without the vector
_MAX_UNREADABLE_SHOWN = 5
_EXCLUDE_HINT = "repair or exclude it; the others are synced"


def examine(load: Callable[[], Config], *, ask_llm: bool = True) -> Iterator[Finding]:
    """Check everything that a config's engine needs, the fast checks first.

    Args:
        load: Loads the config; its errors become findings.
        ask_llm: Whether to load the LLM and request a short answer.
    """
    yield from _findings_of("packages", _packages)
    try:
        config = load()
    except ConfigError as error:
        for problem in error.problems:
            line = f"line {problem.line}" if problem.line else ""
            location = ", ".join(part for part in (problem.file, line, problem.path) if part)
            yield Finding("fail", "config", f"{location}: {problem.message}", problem.hint)
        yield Finding("skip", "all else", "needs a valid config")
        return
    yield Finding("ok", "config", f"{config.name} is valid")
    assembly = config.assemble()
    checks = _Checks(config, assembly)
    for check in (checks.reader, checks.encoder, checks.index, checks.sync):
        yield from _findings_of(check.__name__, check)
    llm_check = LLMCheck(config, assembly, has_encoder=checks.has_encoder)
    yield from _findings_of("llm", lambda: llm_check.run(ask_llm))


def _findings_of(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except LLMError as error:
        yield Finding("fail", name, error.what, error.hint)
    except RagPluginError as error:
        what, _, hint = error.shell_text.partition("\n")
        yield Finding("fail", name, what, hint)
    except Exception as error:  # a failed check must not prevent the others
        _log.debug("the check of %s failed", name, exc_info=True)
        yield Finding("fail", name, describe_error(error), "`rag-plugin doctor --debug` shows the traceback")


def _packages() -> Iterator[Finding]:
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        yield Finding("warn", "packages", f"Python {platform.python_version()}", "use Python 3.10 to 3.13")
    versions = []
    for name in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions.append(f"{name} {metadata.version(name)}")
    for problem in _unmet_requirements():
        yield Finding("fail", "packages", problem, "pip install -c constraints.txt rag-plugin")
    yield Finding("ok", "packages", f"Python {platform.python_version()}, {', '.join(versions)}")


def _unmet_requirements() -> Iterator[str]:
    """The requirements of this package that are missing or have another version."""
    try:
        requirements = [Requirement(line) for line in metadata.requires("rag-plugin") or ()]
    except metadata.PackageNotFoundError:  # run from the source tree
        return
    for requirement in requirements:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield f"{requirement.name} is not installed"
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            yield f"{requirement.name} {version} is installed, {requirement.specifier} is required"


def _unreadable(name: str, failed: Sequence[tuple[str, str]]) -> Iterator[Finding]:
    for document, reason in failed[:_MAX_UNREADABLE_SHOWN]:
        yield Finding("warn", name, f"{document}: {reason}", _EXCLUDE_HINT)
    more = len(failed) - _MAX_UNREADABLE_SHOWN
    if more > 0:
        what = f"{more:,} more cannot be read"
        yield Finding("warn", name, what, "`rag-plugin sync --dry-run` lists them")


class _Checks:
    """One method per part; later ones use the results of earlier ones."""

    def __init__(self, config: Config, assembly: Assembly) -> None:
        self.config, self.assembly = config, assembly
        self.items: list[Listed | Unlisted] | None = None
        self.dimension = 0
        self.has_encoder = False

    def reader(self) -> Iterator[Finding]:
        from ..protocols import DocumentSource, Unlisted
        from ..sync import documents

        reader = self.assembly.reader
        if not isinstance(reader, DocumentSource):
            yield Finding("skip", "reader", f"{type(reader).__name__} cannot list its documents without reading them")
            return
        self.items = list(reader.list_documents())
        unreadable = [item for item in self.items if isinstance(item, Unlisted)]
        yield from _unreadable("reader", [(item.id, item.reason) for item in unreadable])
        if len(self.items) == len(unreadable):
            path = self.config.reader.settings.get("path", "") if self.config.reader is not None else ""
            hint = f"put documents into {path}, or change reader.path or reader.include"
            yield Finding("warn", "reader", "there are no documents", hint)
        else:
            yield Finding("ok", "reader", documents(len(self.items) - len(unreadable)))

    def encoder(self) -> Iterator[Finding]:
        from ..components.encoders.matrix import encode_queries
        from ..components.encoders.tokens import max_input_tokens

        started = time.perf_counter()
        encoder = self.assembly.encoder
        self.dimension = int(encode_queries(encoder, ["Is this a test?"]).shape[1])
        self.has_encoder = True
        max_tokens = max_input_tokens(encoder)
        parts = [f"{getattr(encoder, 'model_name', type(encoder).__name__)}: {self.dimension} dimensions"]
        parts.append(f"input of up to {max_tokens:,} tokens" if max_tokens else "unknown maximum input")
        for role in ("query", "document"):
            prompt, origin = getattr(encoder, f"{role}_prompt", ""), getattr(encoder, f"{role}_prompt_from", "")
            if prompt:
                parts.append(f"{role} prompt {prompt!r} ({origin})")
        device = getattr(encoder, "_device", "")
        parts += [f"on {device}"] if device else []
        yield Finding("ok", "encoder", f"{', '.join(parts)}; {time.perf_counter() - started:.1f} s")

    def index(self) -> Iterator[Finding]:
        store = self._faiss_store()
        if store is None:
            yield Finding("skip", "index", "only the store 'faiss' can be checked")
            return
        info = store.info()
        if not info.nodes and not info.fingerprint:
            yield Finding("ok", "index", f"{store.path} does not exist yet; a sync creates it")
            return
        if info.writer:
            hint = "wait for it, or end it; questions and this check work meanwhile"
            yield Finding("warn", "index", f"{info.path} is being written to by {info.writer}", hint)
        if info.nodes > _MAX_NODES_TO_VERIFY:
            hint = "`rag-plugin verify` checks them"
            yield Finding("skip", "index", f"{info.nodes:,} nodes are too many for this check", hint)
        else:
            for problem in store.verify():
                yield Finding("fail", "index", problem.what, "rag-plugin verify --repair")
        what = f"{info.documents:,} documents, {info.nodes:,} nodes, {as_size(info.bytes)}"
        yield Finding("ok", "index", what)
        if self.has_encoder and info.fingerprint:
            from ..sync.fingerprint import HINTS, all_differences, fingerprint_of

            level: Level = "fail" if self.config.sync.on_change == "error" else "warn"
            for difference in all_differences(info.fingerprint, fingerprint_of(self.assembly)):
                yield Finding(level, "index", f"it was built with other settings: {difference}", HINTS[1])

    def _faiss_store(self) -> FaissStore | None:
        """The store, if its index can be checked."""
        from ..faiss_store import FaissStore

        if self.config.store is None or self.config.store.type != "faiss":
            return None
        store = self.assembly.store
        return store if isinstance(store, FaissStore) else None

    def sync(self) -> Iterator[Finding]:
        if not self.has_encoder:
            yield Finding("skip", "sync", "the plan of a sync needs the encoder")
            return
        if self.items is not None and len(self.items) > _MAX_DOCUMENTS_TO_READ:
            hint = "`rag-plugin sync --dry-run` prints the plan of a sync"
            yield Finding("skip", "sync", f"{len(self.items):,} documents are too many for this check", hint)
            return
        from ..protocols import Unlisted
        from ..sync import plan_sync

        plan = plan_sync(self.assembly, self.config.sync)
        listed = {item.id for item in self.items or () if isinstance(item, Unlisted)}
        yield from _unreadable("sync", [pair for pair in plan.failed if pair[0] not in listed])
        up_to_date = not (plan.nodes or plan.removed or plan.changes or plan.failed)
        yield Finding("ok", "sync", "the index is up to date" if up_to_date else f"a sync would do: {plan}")
        if self._faiss_store() is None:
            return
        disk_bytes = plan.nodes * (2 * 4 * self.dimension + _TEXT_BYTES_PER_NODE)
        folder = Path(self.assembly.sync_store.location)
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        if disk_bytes > 0.9 * free:
            what = f"a sync needs about {as_size(disk_bytes)} of disk space; {as_size(free)} are free"
            yield Finding("fail", "sync", what, "free disk space, or set store.path to another disk")
        memory = free_memory()
        memory_bytes = plan.nodes * 4 * self.dimension * 2.2
        if memory_bytes > 0.8 * memory:
            hint = "set store.index to IVF and store.precision to int8"
            what = f"building the index needs about {as_size(memory_bytes)} of memory; {as_size(memory)} are free"
            yield Finding("warn", "sync", what, hint)

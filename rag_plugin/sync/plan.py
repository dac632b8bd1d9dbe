"""The plan of a sync, for `sync --dry-run`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from .change_detector import ChangeDetector, removed_documents
from .fingerprint import all_differences, fingerprint_of, same_vectors
from .report import NotebookReport
from .texts import encode_texts, encoded_texts

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.schema import BaseNode

    from ..components.assembly import Assembly
    from ..config import SyncSettings

_SAMPLE_TEXTS = 32  # texts that are encoded to measure the encoder's speed


@dataclass(frozen=True)
class SyncPlan(NotebookReport):
    """What a sync would do; documents by id.

    Attributes:
        changes: Settings that differ from those of the index, one sentence each.
        refused: Whether a sync would stop because of them.
        nodes: Nodes to write.
        texts, tokens: Texts to encode, and their tokens.
        seconds: Estimated encoding time, from the speed of a sample.
    """

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    refused: bool = False
    nodes: int = 0
    texts: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        counts = {name: len(getattr(self, name)) for name in ("added", "changed", "removed", "unchanged")}
        documents = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "no documents"
        return (
            f"{documents}; {self.nodes} nodes to write, {self.texts} texts with {self.tokens} tokens to encode, "
            f"about {self.seconds:.0f} s"
        )


def plan_sync(assembly: Assembly, settings: SyncSettings) -> SyncPlan:
    """Plan a sync: changed documents are read and split; nothing is locked or written.

    Raises:
        ComponentError: The reader's source as a whole is missing.
        DocumentError: A document cannot be read and `on_error` is `stop`.
    """
    from ..components.encoders.tokens import tokens_of

    store, encoder = assembly.sync_store, assembly.encoder
    fingerprint = fingerprint_of(assembly)
    detector = ChangeDetector(assembly, fingerprint, settings.on_error)
    items = detector.list_documents()
    generation = store.find_generation(fingerprint, same_vectors)
    records = {} if generation is None else store.document_records(generation)
    detector.known_failures = {} if generation is None else store.failure_records(generation)
    live, old = store.live_generation(), store.live_fingerprint()
    if live not in (None, generation):
        detector.before = store.document_records(live or 0)
    removed = removed_documents(items, {**detector.before, **records})
    filled_by_hand = old is not None and not old and len(store) > 0
    changes = all_differences(old or {}, fingerprint) if old or filled_by_hand else []
    _ = detector.splitter  # a failure to build it concerns no single document
    from ..components.encoders.identity import text_key

    count_tokens = tokens_of(encoder).counts
    nodes = texts = tokens = 0
    sample: list[str] = []
    seen: set[bytes] = set()

    def nodes_to_write() -> Iterator[list[BaseNode]]:
        for batch in detector.batches(items, records, settings.batch_size):
            yield batch.nodes
        # Documents that cannot be read now are copied from the live generation.
        done = {*records, *removed, *detector.added, *detector.changed, *detector.unchanged}
        yield store.nodes_of(live or 0, [name for name in detector.before if name not in done])

    for part in nodes_to_write():
        by_key = {text_key(text): text for text in encoded_texts(part).values()}
        keys = [key for key in by_key if key not in seen]
        if generation is None:
            cached = store.removed_vectors(fingerprint, same_vectors, keys)
        else:
            cached = store.vectors_by_key(generation, keys)
        new = [by_key[key] for key in keys if key not in cached]
        seen.update(by_key)
        nodes += len(part)
        texts += len(new)
        tokens += int(count_tokens(new).sum())
        sample = _spread([*sample, *new])
    return SyncPlan(
        detector.added,
        detector.changed,
        removed,
        detector.unchanged,
        detector.failed,
        changes,
        filled_by_hand or bool(changes) and settings.on_change == "error",
        nodes,
        texts,
        tokens,
        _seconds(encoder, sample, fingerprint["dimension"], tokens, int(count_tokens(sample).sum())),
    )


def _spread(texts: Sequence[str]) -> list[str]:
    """A sample of texts of all lengths."""
    ordered = sorted(texts, key=len)
    step = max(1.0, len(ordered) / _SAMPLE_TEXTS)
    return [ordered[int(number * step)] for number in range(min(_SAMPLE_TEXTS, len(ordered)))]


def _seconds(encoder: BaseEmbedding, sample: Sequence[str], dimension: int, tokens: int, sample_tokens: int) -> float:
    """The estimated seconds to encode `tokens` tokens."""
    if not sample:
        return 0.0
    encode_texts(encoder, sample[:1], dimension)  # the first call of a model includes initialization
    started = time.perf_counter()
    encode_texts(encoder, sample, dimension)
    return (time.perf_counter() - started) * tokens / max(1, sample_tokens)

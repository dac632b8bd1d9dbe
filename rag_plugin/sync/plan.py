"""What a sync would do, without doing it: for `sync --dry-run`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from .change_detector import ChangeDetector, removed_documents
from .fingerprint import all_differences, fingerprint_of, same_vectors
from .run import encoded_texts, sync_store, text_key

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.schema import BaseNode

    from ..components.assembly import Assembly

_SAMPLE = 32  # texts that are encoded to learn how fast the encoder is


@dataclass(frozen=True)
class SyncPlan:
    """What a sync would do; documents by id.

    `changes` are the settings that are others than those of the index, a sentence each; `refused` tells whether a
    sync would stop because of them. `texts` and `tokens` are what would be encoded, `seconds` how long that takes
    at the speed of a sample encoded just now.
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
        """The plan as plain data for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        counts = ((self.added, "new"), (self.changed, "changed"), (self.removed, "gone"), (self.unchanged, "unchanged"))
        documents = ", ".join(f"{len(names)} {word}" for names, word in counts if names) or "no documents"
        return (
            f"{documents}; {self.nodes} nodes to write, {self.texts} texts with {self.tokens} tokens to encode, "
            f"about {self.seconds:.0f} s"
        )


def plan_sync(assembly: Assembly) -> SyncPlan:
    """What a sync would do now; reads and cuts what changed, locks nothing and writes nothing.

    Raises:
        ComponentError: The reader's source as a whole is not there.
        DocumentError: A document failed and the config says `on_error: stop`.
    """
    from ..components.encoders.tokens import tokens_of

    store, encoder = sync_store(assembly), assembly.get("encoder")
    fingerprint = fingerprint_of(assembly)
    comparison = ChangeDetector(assembly, fingerprint)
    items = comparison.list_documents()
    generation = store.find_generation(fingerprint, same_vectors)
    known = {} if generation is None else store.synced(generation)
    live, old = store.live_generation(), store.live_fingerprint()
    if live not in (None, generation):
        comparison.before = store.synced(live or 0)
    removed = removed_documents(items, {**comparison.before, **known})
    by_hand = old is not None and not old and len(store) > 0
    changes = all_differences(old or {}, fingerprint) if old or by_hand else []
    _ = comparison.splitter  # that it cannot be built is no fault of a document
    counts = tokens_of(encoder).counts
    nodes = texts = tokens = 0
    sample: list[str] = []
    seen: set[bytes] = set()

    def nodes_to_write() -> Iterator[list[BaseNode]]:
        for batch in comparison.batches(items, known, assembly.config.sync.batch_size):
            yield batch.nodes
        # What cannot be read just now is carried over into the new encoder's version, as it was.
        done = {*known, *removed, *comparison.added, *comparison.changed, *comparison.unchanged}
        yield store.nodes_of(live or 0, [name for name in comparison.before if name not in done])

    for part in nodes_to_write():
        by_key = {text_key(text): text for text in encoded_texts(part).values()}
        keys = [key for key in by_key if key not in seen]
        if generation is None:
            there = store.removed_vectors(fingerprint, same_vectors, keys)
        else:
            there = store.known_vectors(generation, keys)
        new = [by_key[key] for key in keys if key not in there]
        seen.update(by_key)
        nodes += len(part)
        texts += len(new)
        tokens += int(counts(new).sum())
        sample = _spread([*sample, *new])
    return SyncPlan(
        comparison.added,
        comparison.changed,
        removed,
        comparison.unchanged,
        comparison.failed,
        changes,
        by_hand or bool(changes) and assembly.config.sync.on_change == "error",
        nodes,
        texts,
        tokens,
        _seconds(encoder, sample, tokens, int(counts(sample).sum())),
    )


def _spread(texts: Sequence[str]) -> list[str]:
    """Texts of all lengths."""
    ordered = sorted(texts, key=len)
    step = max(1.0, len(ordered) / _SAMPLE)
    return [ordered[int(number * step)] for number in range(min(_SAMPLE, len(ordered)))]


def _seconds(encoder: BaseEmbedding, sample: Sequence[str], tokens: int, in_sample: int) -> float:
    from ..components.encoders.matrix import encode_documents

    if not sample:
        return 0.0
    encode_documents(encoder, sample[:1])  # the first call of a model does more than encode
    started = time.perf_counter()
    encode_documents(encoder, sample)
    return (time.perf_counter() - started) * tokens / max(1, in_sample)

"""What one sync found and did."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class SyncReport:
    """What one sync found and did; documents by id.

    `failed` pairs a document's id with the reason; it is listed by every sync until the document is mended
    or gone, and the version that was synced before, if any, stays searchable. `nodes_cut` counts the nodes
    written by this sync that are longer than the encoder sees. `tokens_encoded` is 0 where the encoder does not count
    its tokens. `seconds` is wall-clock time.
    """

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    nodes_written: int = 0
    texts_encoded: int = 0
    tokens_encoded: int = 0
    nodes_cut: int = 0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        parts = [
            f"{len(names)} {what}"
            for what, names in (
                ("added", self.added),
                ("changed", self.changed),
                ("removed", self.removed),
                ("unchanged", self.unchanged),
                ("failed", self.failed),
            )
            if names
        ]
        documents = ", ".join(parts) or "no documents"
        return f"{documents}; {self.nodes_written} nodes written, {self.texts_encoded} encoded in {self.seconds:.1f} s"

"""The result of a sync."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


def documents(count: int) -> str:
    """A number of documents in words: `1 document`."""
    return f"{count:,} document{'' if count == 1 else 's'}"


class NotebookReport:
    """Shows a report in a notebook, with the documents that failed.

    Attributes:
        failed: Unreadable documents with the reason.
    """

    failed: list[tuple[str, str]]

    def _repr_markdown_(self) -> str:
        from ..components.notebook import markdown_table

        return f"{self}\n\n{markdown_table(('cannot be read', 'reason'), self.failed)}" if self.failed else str(self)


@dataclass(frozen=True)
class SyncReport(NotebookReport):
    """What one sync did; documents by id.

    Attributes:
        failed: Unreadable documents with the reason. Each sync lists them until they are readable or removed, and
            reads them again only if they may be readable; a version that was synced before stays searchable.
        tokens_encoded: 0 if the encoder does not count tokens.
        nodes_truncated: Nodes of this sync that are longer than the encoder's input.
        seconds: Wall-clock time.
    """

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    nodes_written: int = 0
    texts_encoded: int = 0
    tokens_encoded: int = 0
    nodes_truncated: int = 0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        counts = {name: len(getattr(self, name)) for name in ("added", "changed", "removed", "unchanged", "failed")}
        documents = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "no documents"
        return f"{documents}; {self.nodes_written} nodes written, {self.texts_encoded} encoded in {self.seconds:.1f} s"

"""A folder of documents and the index it is synced to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rag_plugin.components.assembly import Assembly
from rag_plugin.config import SyncSettings, load_config
from rag_plugin.engine import build_engine
from rag_plugin.faiss_store import FaissStore
from rag_plugin.sync import SyncReport, sync
from tests.fakes import Hashes

NAMES = ["harbour.txt", "oven.txt", "birds/heron.md", "birds/lapwing.md"]  # as the reader lists them


class Bench:
    """A folder of documents, a config over it, and syncs as separate processes would do them."""

    def __init__(self, folder: Path, index: Path, encoder: Any = None) -> None:
        self.folder, self.index = folder, index
        self.encoder = encoder or Hashes()
        self.config: dict[str, Any] = {
            "reader": {"type": "directory", "path": str(folder)},
            "store": {"type": "faiss", "path": str(index)},
            "sync": {"on_change": "resync"},
        }
        self.parts: dict[str, Any] = {}

    def sync(self, encoder: Any = None, **overrides: Any) -> SyncReport:
        """One sync with parts built anew; `chunker__type="none"` overrides chunker.type."""
        return sync(*self.assembly(encoder, **overrides))

    def assembly(self, encoder: Any = None, **overrides: Any) -> tuple[Assembly, SyncSettings]:
        """What a sync takes."""
        parts = {"encoder": encoder or self.encoder, **self.parts}
        dotted = {name.replace("__", "."): value for name, value in overrides.items()}
        config = load_config(self.config, overrides=dotted, provided=tuple(parts))
        return config.assemble(parts), config.sync

    def engine(self, encoder: Any = None, **overrides: Any) -> Any:
        """An engine over the index as it is."""
        dotted = {"retriever.top_k": 1, **{name.replace("__", "."): value for name, value in overrides.items()}}
        parts = {"encoder": encoder or self.encoder, **self.parts}
        return build_engine(self.config, sync="never", overrides=dotted, **parts)

    def contents(self) -> dict[str, tuple[str | None, str]]:
        store = FaissStore(self.index)
        try:
            return {node.node_id: (node.ref_doc_id, node.get_content()) for node in store.get_nodes()}
        finally:
            store.close()

    def documents(self) -> dict[str, str]:
        """The texts in the index by document."""
        found: dict[str, str] = {}
        for document, text in self.contents().values():
            found[str(document)] = found.get(str(document), "") + text
        return found

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path


def told(report: SyncReport) -> dict[str, Any]:
    """What a report says, empty fields and the time left out."""
    return {key: value for key, value in report.to_dict().items() if value and key != "seconds"}

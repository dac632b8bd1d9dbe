"""The sync record for a LlamaIndex store that keeps none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...protocols import DocumentRecord, FailureRecord, Fingerprint, SameEncoder

if TYPE_CHECKING:
    import numpy as np
    from llama_index.core import VectorStoreIndex
    from llama_index.core.schema import BaseNode
    from numpy.typing import NDArray


class MemoryRecord:
    """A `SyncStore` over any LlamaIndex store: one generation, whose record lives as long as the engine."""

    def __init__(self, index: VectorStoreIndex) -> None:
        self._index = index
        self._records: dict[str, DocumentRecord] = {}
        self._failures: dict[str, FailureRecord] = {}
        self._fingerprint: dict[str, Any] | None = None

    @property
    def location(self) -> str:
        return type(self._index.vector_store).__name__

    def live_generation(self) -> int | None:
        return None if self._fingerprint is None else 1

    def live_fingerprint(self) -> dict[str, Any] | None:
        return self._fingerprint

    def is_first_sync_unfinished(self) -> bool:
        return False

    def find_generation(self, fingerprint: Fingerprint, same: SameEncoder) -> int | None:
        return self.live_generation()

    def open_generation(self, fingerprint: Fingerprint, same: SameEncoder) -> int:
        return 1

    def document_records(self, generation: int) -> dict[str, DocumentRecord]:
        return dict(self._records)

    def failure_records(self, generation: int) -> dict[str, FailureRecord]:
        return self._failures

    def vectors_by_key(self, generation: int, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        return {}

    def removed_vectors(
        self, fingerprint: Fingerprint, same: SameEncoder, keys: Sequence[bytes]
    ) -> dict[bytes, NDArray[np.float32]]:
        return {}

    def nodes_of(self, generation: int, documents: Sequence[str]) -> list[BaseNode]:
        return []

    def commit(
        self,
        generation: int,
        changed: Sequence[tuple[DocumentRecord, Sequence[BaseNode]]] = (),
        untouched: Sequence[DocumentRecord] = (),
        removed: Sequence[str] = (),
        keys: Mapping[str, bytes] | None = None,
    ) -> None:
        for name in (*(record.id for record, _ in changed), *removed):
            self._delete(name)
            self._records.pop(name, None)
        nodes = [node for _, nodes in changed for node in nodes]
        if nodes:
            self._index.insert_nodes(nodes)
        self._records.update({record.id: record for record in (*(record for record, _ in changed), *untouched)})

    def _delete(self, document_id: str) -> None:
        store = self._index.vector_store
        try:
            # A server may hold the document from an earlier process, which has no record here.
            if store.stores_text or document_id not in self._records:
                store.delete(document_id)
            else:
                self._index.delete_ref_doc(document_id, delete_from_docstore=True)
        except NotImplementedError:
            if document_id in self._records:
                raise

    def finish(self, generation: int, fingerprint: Fingerprint, failures: Sequence[FailureRecord] = ()) -> None:
        self._fingerprint = dict(fingerprint)
        self._failures = {failure.id: failure for failure in failures}

    def update_derived_files(self) -> None:
        pass

    @contextmanager
    def writing(self) -> Iterator[None]:
        yield

    def __len__(self) -> int:
        return len(self._records)

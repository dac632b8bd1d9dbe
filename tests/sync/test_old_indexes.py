"""An index that an earlier version wrote stays valid: nothing is encoded again, and no setting counts as changed.

tests/data/indexes-format-2.tar.gz has two indexes over the documents of conftest, written before the modules of this
package moved and `overlap` became `chunk_overlap`: one by a config, one by an encoder and a chunker that were passed
to `build_engine`, whose classes it recorded with their modules.
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest

from rag_plugin import build_engine, load_config
from rag_plugin.sync import check_index, plan_sync
from tests.conftest import DOCUMENTS, ROOT

ARCHIVE = ROOT / "tests" / "data" / "indexes-format-2.tar.gz"
CHUNKER = {"type": "sentence", "chunk_size": 64, "chunk_overlap": 8}


@pytest.fixture
def old_index(tmp_path: Path, settings: dict[str, Any]) -> Any:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path / "old", filter="data")

    def config(name: str) -> dict[str, Any]:
        return {**settings, "store": {"type": "faiss", "path": str(tmp_path / "old" / name)}}

    return config


def test_an_index_by_a_config_is_up_to_date(old_index: Any, minilm: Any) -> None:
    config = load_config({**old_index("by_config"), "chunker": CHUNKER})
    check_index(config.assemble())
    plan = plan_sync(config.assemble(), config.sync)
    assert (sorted(plan.unchanged), plan.nodes, plan.changes) == (sorted(DOCUMENTS), 0, [])
    engine = build_engine(config)
    report = engine.sync()
    assert (sorted(report.unchanged), report.nodes_written, report.texts_encoded) == (sorted(DOCUMENTS), 0, 0)
    assert engine.retrieve("What does the heron eat?")[0].node.ref_doc_id == "birds/heron.md"


def test_a_document_that_fails_is_recorded_in_an_old_index(
    old_index: Any, documents: Path, minilm: Any, settled: None, loaded: list[str]
) -> None:
    config = load_config({**old_index("by_config"), "chunker": CHUNKER})
    (documents / "broken.pdf").write_bytes(b"no PDF")
    engine = build_engine(config)
    loaded.clear()
    report = engine.sync()
    assert ([name for name, _ in report.failed], loaded, len(engine.store)) == (["broken.pdf"], [], len(DOCUMENTS))


def test_a_changed_setting_is_named_as_it_is_called_now(old_index: Any) -> None:
    config = load_config({**old_index("by_config"), "chunker": {**CHUNKER, "chunk_overlap": 16}})
    assert plan_sync(config.assemble(), config.sync).changes == ["chunker.chunk_overlap: 8 then, 16 now"]


def test_an_index_by_passed_parts_is_valid_and_encodes_nothing_again(old_index: Any, minilm: Any) -> None:
    settings = old_index("injected")
    chunker = load_config(settings).build("chunker", encoder=minilm)
    parts = {"encoder": minilm, "chunker": chunker}
    build_engine(settings, sync="never", **parts)
    engine = build_engine(settings, **parts)
    assert len(engine.store) == len(DOCUMENTS)
    plan = plan_sync(engine._assembly, engine.config.sync)
    assert (plan.texts, plan.changes) == (0, [])
    assert engine.retrieve("What does the heron eat?")[0].node.ref_doc_id == "birds/heron.md"


def test_an_index_by_passed_parts_can_be_opened_by_a_config(old_index: Any) -> None:
    config = load_config(old_index("injected"))
    check_index(config.assemble())

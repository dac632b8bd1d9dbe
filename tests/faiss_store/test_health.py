"""What is in an index, and whether its parts agree: info, verify and repair, in Python and on the command line."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tantivy
from click.testing import CliRunner, Result

from rag_plugin.cli import cli
from rag_plugin.errors import StoreError
from rag_plugin.faiss_store import FaissStore
from rag_plugin.faiss_store.vectors.snapshots import SnapshotRecord
from rag_plugin.protocols import DocumentRecord
from tests.faiss_store.nodes import ask, found, make, vector
from tests.fakes import Hashes
from tests.sync.bench import NAMES, Bench, told


@pytest.fixture
def bench(documents: Path, tmp_path: Path) -> Bench:
    return Bench(documents, tmp_path / "index")


def run_sql(path: Path, statement: str, *values: Any) -> int:
    """Tamper with the truth; returns how many rows were changed."""
    connection = sqlite3.connect(path / "index.sqlite")
    connection.execute("PRAGMA foreign_keys = OFF")
    changed = connection.execute(statement, values).rowcount
    connection.commit()
    connection.close()
    return changed


def said(store: FaissStore, repair: bool = False) -> list[str]:
    return [str(finding) for finding in store.verify(repair=repair)]


# ---------------------------------------------------------------------------------- info


def test_info_of_an_index_that_is_not_there_touches_nothing(store: FaissStore, path: Path) -> None:
    assert store.info().to_dict() == {
        "path": str(path),
        "bytes": 0,
        "documents": 0,
        "nodes": 0,
        "dimension": None,
        "index": "Flat",
        "metric": "cosine",
        "precision": "float32",
        "faiss": "searched exactly",
        "recall": None,
        "not_in_snapshot": 0,
        "lexical": True,
        "language": "english",
        "cached_vectors": 0,
        "unfinished": 0,
        "writer": None,
        "fingerprint": {},
    }
    assert not path.exists()


def test_info_says_what_is_in_the_index(bench: Bench) -> None:
    bench.sync()
    store = FaissStore(bench.index, language="german", metric="l2")
    info = store.info()
    assert (info.documents, info.nodes, info.dimension) == (4, 4, len(bench.encoder.get_text_embedding("x")))
    assert (info.metric, info.language, info.recall, info.unfinished) == ("l2", "german", None, 0)
    assert info.fingerprint == store.live_fingerprint()
    assert info.fingerprint["encoder"]["salt"] == 0
    json.dumps(info.to_dict())
    store.close()
    size = sum(file.stat().st_size for file in bench.index.rglob("*") if file.is_file())
    assert FaissStore(bench.index).info().bytes == pytest.approx(size, rel=0.5)


def test_info_without_words_has_no_language(path: Path) -> None:
    info = FaissStore(path, lexical=False).info()
    assert (info.lexical, info.language) == (False, None)


def test_info_counts_what_opening_has_to_catch_up_with(store: FaissStore) -> None:
    store.add([make(f"n{number}", number) for number in range(50)])
    assert store.info().not_in_snapshot == 50
    store.snapshot()
    assert (store.info().not_in_snapshot, store.info().faiss) == (0, "IndexFlat")
    store.add([make("new", 1)])
    store.delete_nodes(["n1", "n2"])
    assert store.info().not_in_snapshot == 3
    store.snapshot()
    assert store.info().not_in_snapshot == 0


def test_after_clear_there_is_nothing_to_catch_up_with(store: FaissStore) -> None:
    store.add([make(f"n{number}", number) for number in range(50)])
    store.snapshot()
    store.clear()
    info = store.info()
    assert (info.nodes, info.dimension, info.faiss) == (0, None, "searched exactly")
    assert info.not_in_snapshot == 0
    store.add([make("a", 1)])
    assert store.info().not_in_snapshot == 1


def test_info_tells_of_kept_vectors(bench: Bench) -> None:
    bench.sync()
    (bench.folder / "oven.txt").unlink()
    bench.sync()
    store = FaissStore(bench.index)
    assert (store.info().cached_vectors, store.info().documents) == (1, 3)
    store.clear_cache()
    assert store.info().cached_vectors == 0


def test_info_during_a_sync_with_another_encoder_shows_the_old_and_counts_the_new(store: FaissStore) -> None:
    def same(old: Any, new: Any) -> bool:
        return bool(old == new)

    def put(generation: int, *names: str) -> None:
        store.commit(generation, [(DocumentRecord(n, "hash", None, "recipe"), [make(n, 1, n)]) for n in names])

    first = store.open_generation({"encoder": "one"}, same)
    put(first, "a", "b", "c")
    assert (store.info().documents, store.info().nodes, store.info().unfinished) == (0, 0, 3)
    store.finish(first, {"encoder": "one"})
    assert (store.info().documents, store.info().unfinished) == (3, 0)
    second = store.open_generation({"encoder": "two"}, same)
    put(second, "a", "b")
    info = store.info()
    assert (info.documents, info.nodes, info.unfinished, info.fingerprint) == (3, 3, 2, {"encoder": "one"})
    put(second, "c", "d")
    store.finish(second, {"encoder": "two"})
    info = store.info()
    assert (info.documents, info.nodes, info.unfinished, info.fingerprint) == (4, 4, 0, {"encoder": "two"})


def test_info_of_an_index_that_looks_at_a_part_tells_its_recall(path: Path) -> None:
    store = FaissStore(path, index="HNSW", lexical=False)
    store.add([make(f"n{number}", number) for number in range(999)])
    assert (store.info().faiss, store.info().recall) == ("searched exactly", None)
    assert store.info().not_in_snapshot == 999
    store.snapshot()
    info = store.info()
    assert info.faiss == "IndexHNSWFlat"
    assert 0.95 <= (info.recall or 0) <= 1
    store.close()
    again = FaissStore(path, index="HNSW", lexical=False).info()
    assert (again.recall, again.not_in_snapshot, again.faiss) == (info.recall, 0, "IndexHNSWFlat")


def test_reading_about_an_index_writes_nothing_to_it(store: FaissStore, path: Path) -> None:
    store.add([make(f"n{number}", number) for number in range(30)])
    found(store, "text")
    store.snapshot()
    store.close()
    before = (path / "index.sqlite").read_bytes()
    files = sorted(file.name for file in path.iterdir())
    other = FaissStore(path)
    other.info()
    assert said(other) == []
    other.close()
    assert (path / "index.sqlite").read_bytes() == before
    assert sorted(file.name for file in path.iterdir()) == files


# ---------------------------------------------------------------------------------- what verify finds


@pytest.fixture
def synced(bench: Bench) -> Bench:
    """Four documents, synced, settled, and closed."""
    bench.sync()
    store = FaissStore(bench.index)
    found(store, "bread")
    store.snapshot()
    store.close()
    assert said(store) == []
    store.close()
    return bench


ROW = "(SELECT row FROM node WHERE document = 'oven.txt')"
NODE = "node {id!r} of document 'oven.txt'"
Tamper = Callable[[Path], Any]

BROKEN_ROWS: dict[str, tuple[str, str]] = {
    "a vector cut short": (
        f"UPDATE vector SET vector = substr(vector, 1, 8) WHERE row = {ROW}",
        " has a vector of 8 bytes instead of {size}",
    ),
    "a vector of odd length": (
        f"UPDATE vector SET vector = substr(vector, 1, 7) WHERE row = {ROW}",
        " has a vector of 7 bytes instead of {size}",
    ),
    "an empty vector": (
        f"UPDATE vector SET vector = x'' WHERE row = {ROW}",
        " has a vector of 0 bytes instead of {size}",
    ),
    "NaN in a vector": (
        f"UPDATE vector SET vector = CAST(x'0000c07f' || substr(vector, 5) AS BLOB) WHERE row = {ROW}",
        " has a vector with NaN, infinity or too large numbers in it",
    ),
    "no vector": (f"DELETE FROM vector WHERE row = {ROW}", " has no vector"),
    "metadata that is no JSON": (
        f"UPDATE node SET metadata = '{{half' WHERE row = {ROW}",
        " cannot be read: JSONDecodeError(",
    ),
    "metadata that is a list": (f"UPDATE node SET metadata = '[]' WHERE row = {ROW}", " cannot be read: "),
    "rest that is no JSON": (f"UPDATE node SET rest = '' WHERE row = {ROW}", " cannot be read: JSONDecodeError("),
    "rest that is a list": (f"UPDATE node SET rest = '[]' WHERE row = {ROW}", " cannot be read: TypeError("),
    "rest without a node": (f"UPDATE node SET rest = '{{}}' WHERE row = {ROW}", " cannot be read: KeyError("),
    "rest of no node": (
        f'UPDATE node SET rest = \'{{"__data__": null, "__type__": "1"}}\' WHERE row = {ROW}',
        " cannot be read: ",
    ),
    "rest of an unknown kind": (
        f'UPDATE node SET rest = replace(rest, \'"__type__": "1"\', \'"__type__": "99"\') WHERE row = {ROW}',
        " cannot be read: ValueError(",
    ),
    "rest of another node": (
        f"UPDATE node SET rest = (SELECT rest FROM node WHERE document = 'harbour.txt') WHERE row = {ROW}",
        " contains another node's id",
    ),
}


@pytest.mark.parametrize("name", BROKEN_ROWS)
def test_a_node_that_is_broken_is_found_mended_and_brought_back(synced: Bench, name: str) -> None:
    statement, message = BROKEN_ROWS[name]
    store = FaissStore(synced.index)
    (node,) = (node for node in store.get_nodes() if node.ref_doc_id == "oven.txt")
    size = 4 * (store.info().dimension or 0)
    store.close()
    assert run_sql(synced.index, statement) == 1
    expected = (NODE + message).replace("{id!r}", repr(node.node_id)).replace("{size}", str(size))
    before = said(store)
    assert [each for each in before if each.startswith(expected)], before
    assert not [each for each in before if each.endswith("(repaired)")]
    assert said(store) == before  # looking changed nothing
    store.close()

    store = FaissStore(synced.index)
    repaired = said(store, repair=True)
    assert [each for each in repaired if each.startswith(expected)], repaired
    assert all(each.endswith(" (repaired)") for each in repaired)
    assert said(store) == []
    assert sorted(str(node.ref_doc_id) for node in store.get_nodes()) == sorted({*NAMES} - {"oven.txt"})
    assert found(store, "bread") == []
    store.close()

    report = synced.sync()
    assert (report.changed, report.unchanged) == (["oven.txt"], [name for name in NAMES if name != "oven.txt"])
    assert sorted(synced.documents()) == sorted(NAMES)
    assert synced.engine().retrieve("Bake the bread")[0] is not None
    store = FaissStore(synced.index)
    assert (found(store, "bread"), said(store)) == ([node.node_id], [])
    store.close()


def test_a_vector_without_a_node_is_found_and_removed(synced: Bench) -> None:
    store = FaissStore(synced.index)
    size = store.info().dimension or 0
    store.close()
    for row in (900, 901):
        blob = np.ones(size, dtype=np.float32).tobytes()
        assert run_sql(synced.index, "INSERT INTO vector VALUES (?, ?)", row, blob) == 1
    store = FaissStore(synced.index)
    assert "2 vectors belong to no node" in said(store)
    assert "2 vectors belong to no node (repaired)" in said(store, repair=True)
    assert (said(store), len(store)) == ([], 4)
    assert told(synced.sync()) == {"unchanged": NAMES}


def test_nodes_added_by_hand_are_no_finding(store: FaissStore) -> None:
    store.add([make("a", 1, "d"), make("free", 2)])
    assert said(store) == []
    assert said(store, repair=True) == []
    assert len(store) == 2


def test_nodes_added_by_hand_beside_synced_ones_are_kept(synced: Bench) -> None:
    store = FaissStore(synced.index)
    free = make("free", 1)
    free.embedding = vector(1, store.info().dimension or 0)
    store.add([free])
    assert said(store, repair=True) == []
    assert "free" in {node.node_id for node in store.get_nodes()}


def test_two_kinds_of_damage_are_both_found_and_mended(synced: Bench) -> None:
    run_sql(synced.index, "UPDATE node SET metadata = 'x' WHERE document = 'oven.txt'")
    run_sql(synced.index, "DELETE FROM vector WHERE row IN (SELECT row FROM node WHERE document = 'harbour.txt')")
    (snapshot,) = synced.index.glob("vectors-*.faiss")
    snapshot.write_bytes(b"torn")
    store = FaissStore(synced.index)
    before = said(store)
    assert len(before) >= 3
    assert all(each.endswith(" (repaired)") for each in said(store, repair=True))
    assert said(store) == []
    store.close()
    assert synced.sync().changed == ["harbour.txt", "oven.txt"]
    assert sorted(synced.documents()) == sorted(NAMES)


def test_the_finding_is_data_and_text(synced: Bench) -> None:
    run_sql(synced.index, "UPDATE node SET rest = '{' WHERE document = 'oven.txt'")
    store = FaissStore(synced.index)
    (finding,) = store.verify()
    assert (finding.repaired, str(finding)) == (False, finding.what)
    (finding,) = store.verify(repair=True)
    assert (finding.repaired, str(finding)) == (True, f"{finding.what} (repaired)")


# ---------------------------------------------------------------------------------- what is derived


def _stamp(path: Path) -> SnapshotRecord:
    connection = sqlite3.connect(path / "index.sqlite")
    (text,) = connection.execute("SELECT value FROM meta WHERE key = 'snapshot'").fetchone()
    connection.close()
    return SnapshotRecord(**json.loads(text))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.unlink(), "the FAISS snapshot {name} is missing"),
        (lambda file: file.write_bytes(b""), "the FAISS snapshot {name} is damaged"),
        (
            lambda file: file.write_bytes(file.read_bytes()[:-3]),
            "the FAISS snapshot {name} is damaged",
        ),
        (
            lambda file: file.write_bytes(file.read_bytes()[:-1] + b"\x7f"),
            "the FAISS snapshot {name} is damaged",
        ),
        (
            lambda file: shutil.copy(file, file.with_name("vectors-1-left.faiss")),
            "1 FAISS files are left over from unfinished writes: vectors-1-left.faiss",
        ),
    ],
    ids=["deleted", "empty", "torn", "changed", "left over"],
)
def test_a_snapshot_file_that_is_wrong_is_found_and_made_anew(synced: Bench, damage: Tamper, message: str) -> None:
    name = _stamp(synced.index).file
    damage(synced.index / name)
    store = FaissStore(synced.index)
    expected = message.format(name=name)
    assert said(store) == [expected]
    assert said(store, repair=True) == [f"{expected} (repaired)"]
    assert said(store) == []
    assert (synced.index / _stamp(synced.index).file).is_file()
    assert len(list(synced.index.glob("vectors-*.faiss"))) == 1
    store.close()
    assert told(synced.sync()) == {"unchanged": NAMES}


def test_a_faiss_index_that_lacks_a_node_is_found_and_made_anew(store: FaissStore) -> None:
    store.add([make(f"n{number}", number) for number in range(20)])
    store.snapshot()
    store.query(ask(1))
    index = store._directory.memory_index.index
    assert index is not None
    index.remove([3, 4])
    assert said(store) == ["FAISS lacks 2 nodes and has 0 that do not exist"]
    assert said(store, repair=True) == ["FAISS lacks 2 nodes and has 0 that do not exist (repaired)"]
    assert len(store.query(ask(1, 50)).ids or []) == 20


def test_a_faiss_index_with_another_vector_is_found_and_made_anew(store: FaissStore, path: Path) -> None:
    store.add([make(f"n{number}", number) for number in range(20)])
    store.snapshot()
    store.close()
    assert run_sql(path, "UPDATE vector SET vector = (SELECT vector FROM vector WHERE row = 1) WHERE row = 2") == 1
    assert said(store) == ["FAISS has a different vector than SQLite for 1 nodes"]
    assert said(store, repair=True) == ["FAISS has a different vector than SQLite for 1 nodes (repaired)"]
    result = store.query(ask(0, 2))
    assert result.similarities == [pytest.approx(1.0), pytest.approx(1.0)]


def _lexical(path: Path) -> Any:
    schema = tantivy.SchemaBuilder()
    schema.add_integer_field("row", stored=False, indexed=True, fast=True)
    schema.add_text_field("text", stored=False, tokenizer_name="words", index_option="freq")
    schema.add_text_field("stamp", stored=True, tokenizer_name="raw", index_option="basic")
    index = tantivy.Index(schema.build(), path=str(path / "lexical"), reuse=True)
    words = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple()).build()
    index.register_tokenizer("words", words)
    return index.writer(15_000_000, 1)


@pytest.mark.parametrize("what", ["lacks", "has"])
def test_a_lexical_leg_that_disagrees_is_found_and_made_anew(store: FaissStore, path: Path, what: str) -> None:
    store.add([make(f"n{number}", number, text="harbour") for number in range(5)])
    store.snapshot()
    store.close()
    writer = _lexical(path)
    if what == "lacks":
        writer.delete_documents_by_term("row", 3)
    else:
        writer.add_document(tantivy.Document(row=99, text="harbour"))
    writer.commit()
    writer.wait_merging_threads()
    message = "the lexical index lacks {} nodes and has {} that do not exist".format(*((1, 0), (0, 1))[what == "has"])
    assert said(store) == [message]
    assert said(store, repair=True) == [f"{message} (repaired)"]
    assert sorted(found(store, "harbour")) == [f"n{number}" for number in range(5)]
    assert said(store) == []


def test_what_is_behind_is_no_finding(store: FaissStore, path: Path) -> None:
    store.add([make(f"n{number}", number) for number in range(20)])
    store.snapshot()
    store.add([make("later", 99)])
    store.delete_nodes(["n3"])
    assert said(store) == []
    other = FaissStore(path)
    assert said(other) == []
    other.close()


@pytest.mark.parametrize("index", ["HNSW", "IVF", "SQ8"])
def test_an_index_that_looks_at_a_part_is_healthy_too(path: Path, index: str) -> None:
    store = FaissStore(path, index=index)
    store.add([make(f"n{number}", number) for number in range(1200)])
    store.snapshot()
    store.delete_nodes(["n7"])
    store.add([make("n8", 5)])
    assert said(store) == []
    assert said(store, repair=True) == []
    assert said(FaissStore(path, index=index)) == []
    store.close()


def test_verify_of_nothing_is_fine_and_touches_nothing(store: FaissStore, path: Path) -> None:
    assert (said(store), said(store, repair=True)) == ([], [])
    assert not path.exists()


def test_verify_of_an_empty_and_of_an_unfinished_index_is_fine(store: FaissStore) -> None:
    generation = store.open_generation({"encoder": "x"}, lambda old, new: old == new)
    store.commit(generation, [(DocumentRecord("d", "hash", None, "recipe"), [make("a", 1, "d")])])
    assert (said(store), said(store, repair=True)) == ([], [])
    store.finish(generation, {"encoder": "x"})
    assert (said(store), len(store)) == ([], 1)
    store.clear()
    assert (said(store), said(store, repair=True)) == ([], [])


# ---------------------------------------------------------------------------------- SQLite itself


def test_an_index_of_sqlite_that_lacks_an_entry_is_found_and_mended(store: FaissStore, path: Path) -> None:
    store.add([make(f"n{number}", number, f"d{number}") for number in range(10)])
    store.close()
    connection = sqlite3.connect(path / "index.sqlite")
    # Writes to the table behind the back of its index.
    connection.execute("PRAGMA writable_schema = ON")
    (sql,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'node_document'").fetchone()
    (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'node_document'").fetchone()
    connection.execute("DELETE FROM sqlite_master WHERE name = 'node_document'")
    connection.commit()
    connection.close()
    connection = sqlite3.connect(path / "index.sqlite")
    connection.execute("UPDATE node SET document = 'moved' WHERE id = 'n3'")
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("INSERT INTO sqlite_master VALUES ('index', 'node_document', 'node', ?, ?)", (root, sql))
    connection.commit()
    connection.close()
    before = said(store)
    assert before
    assert all(each.startswith("SQLite: ") for each in before)
    repaired = said(store, repair=True)
    assert repaired == [f"{each} (repaired)" for each in before]
    assert said(store) == []
    assert len(store) == 10
    store.delete("moved")
    assert len(store) == 9


def test_pages_that_are_destroyed_are_told_and_not_claimed_to_be_mended(store: FaissStore, path: Path) -> None:
    store.add([make(f"n{number}", number, text="long " * 500) for number in range(100)])
    store.close()
    raw = bytearray((path / "index.sqlite").read_bytes())
    raw[8192 * 12 : 8192 * 20] = b"\xee" * (8192 * 8)
    (path / "index.sqlite").write_bytes(bytes(raw))
    try:
        before = said(store)
        assert before
        after = store.verify(repair=True)
    except StoreError:
        return  # a clear error is as good
    assert any(not finding.repaired for finding in after)


# ---------------------------------------------------------------------------------- the commands


@pytest.fixture
def config(synced: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "config.yaml"
    file.write_text(
        "reader: {type: directory, path: ./docs}\n"
        "encoder: {type: huggingface, model: never-loaded}\n"
        "store: {type: faiss, path: ./index}\n"
    )
    return file


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def test_the_command_info_shows_the_index_and_loads_no_encoder(config: Path) -> None:
    done = run("info")
    assert (done.exit_code, done.stderr) == (0, "")
    lines = dict(line.split(":", 1) for line in done.stdout.splitlines())
    shown = {name: text.strip() for name, text in lines.items()}
    assert shown["documents"] == "4"
    assert shown["nodes"].startswith("4, vectors of ")
    assert shown["search"] == "Flat, cosine, float32; exact search"
    assert shown["lexical"] == "BM25, language english"
    assert shown["cached vectors"] == "0 of removed nodes"
    assert set(shown) == {
        *("directory", "size", "documents", "nodes", "search", "lexical", "cached vectors"),
        *("encoder", "chunker", "reader"),
    }


def test_the_command_info_says_where_changes_are_that_a_small_index_adds_at_opening(config: Path) -> None:
    store = FaissStore("index")
    for expected in ("1 change", "2 changes"):
        store.delete_nodes([store.get_nodes()[0].node_id])
        assert f"FAISS:          {expected} held in SQLite, added at opening\n" in run("info").stdout
    store.close()


def test_the_command_info_gives_json(config: Path, synced: Bench) -> None:
    done = run("info", "--json")
    shown = json.loads(done.stdout)
    assert (done.exit_code, shown["nodes"], shown["documents"]) == (0, 4, 4)
    store = FaissStore(synced.index)
    expected = store.info().to_dict()
    store.close()
    assert {**shown, "path": "", "bytes": 0} == {**expected, "path": "", "bytes": 0}


def test_the_command_info_of_nothing_says_so(config: Path) -> None:
    done = run("info", "--set", "store.path=./elsewhere")
    assert done.exit_code == 0
    assert done.stderr == "the index is empty; `rag-plugin sync` fills it\n"
    assert "documents:      0\n" in done.stdout
    assert not Path("elsewhere").exists()


@pytest.mark.parametrize("command", ["info", "verify"])
def test_the_commands_are_about_this_store_alone(config: Path, command: str) -> None:
    other = config.read_text().replace("{type: faiss, path: ./index}", "{type: llama_index.core.SimpleVectorStore}")
    config.write_text(other.replace("core.Simple", "core.vector_stores.Simple"))
    done = run(command)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: this command needs the store 'faiss'; "
        "the config has 'llama_index.core.vector_stores.SimpleVectorStore'\n"
    )


def test_the_command_verify_says_that_all_is_well(config: Path) -> None:
    done = run("verify")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr.endswith(": no problems, 4 nodes\n")
    assert json.loads(run("verify", "--json").stdout) == []


def test_the_command_verify_finds_and_repairs(config: Path, synced: Bench) -> None:
    run_sql(synced.index, "UPDATE node SET rest = '{' WHERE document = 'oven.txt'")
    done = run("verify")
    assert done.exit_code == 1
    (line,) = done.stdout.splitlines()
    assert line.startswith("! node ")
    assert " of document 'oven.txt' cannot be read: JSONDecodeError(" in line
    assert done.stderr == "1 problems\n`rag-plugin verify --repair` repairs what can be repaired\n"
    done = run("verify", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (1, [{"what": line[2:], "repaired": False}])
    assert "mends what" not in done.stderr
    done = run("verify", "--repair")
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"{line} (repaired)\n", "1 problems\n")
    assert run("verify").exit_code == 0
    assert synced.sync().changed == ["oven.txt"]


def test_the_command_verify_repair_gives_json(config: Path, synced: Bench) -> None:
    run_sql(synced.index, "UPDATE node SET rest = '{' WHERE document = 'oven.txt'")
    done = run("verify", "--repair", "--json")
    assert done.exit_code == 0
    ((finding),) = json.loads(done.stdout)
    assert finding["repaired"] is True


def test_what_was_mended_encodes_only_what_was_lost(synced: Bench) -> None:
    run_sql(synced.index, "UPDATE node SET rest = '' WHERE document = 'oven.txt'")
    store = FaissStore(synced.index)
    store.verify(repair=True)
    store.close()
    encoder = Hashes()
    report = synced.sync(encoder)
    assert (report.changed, report.texts_encoded, len(encoder.texts)) == (["oven.txt"], 1, 1)

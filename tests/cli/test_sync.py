"""What `sync` and the commands that sync first print about documents, and the exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from rag_plugin.cli import cli
from rag_plugin.cli.work import _by_folder
from tests.conftest import MINILM, config_with_hashes, config_with_ollama

BINARY = b"\x00\x01\x02\x03" * 100

pytestmark = pytest.mark.usefixtures("config")


@pytest.fixture
def config(documents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config.yaml in the current folder, with an encoder that needs no model; the LLM's server does not exist."""
    monkeypatch.chdir(tmp_path)
    return config_with_hashes(tmp_path, "llm: {type: ollama, model: some-llm, base_url: 'http://127.0.0.1:9'}\n")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--allow", "tests"])


def listed(done: Result) -> list[str]:
    """The lines of stdout without the last, which has counts and seconds."""
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()[:-1]


def broken(documents: Path, count: int) -> None:
    for number in range(count):
        (documents / f"broken{number}.txt").write_bytes(BINARY)


# ---------------------------------------------------------------------------------- documents that cannot be read


def test_sync_lists_every_failed_document_once_with_its_reason(documents: Path) -> None:
    broken(documents, 2)
    for _ in range(2):
        done = run("sync")
        failed = [line for line in listed(done) if line.startswith("!")]
        assert failed == [f"! broken{number}.txt: it is binary data, not text" for number in range(2)]
        assert done.stderr == ""


@pytest.mark.parametrize(
    ("count", "line"),
    [
        (0, ""),
        (1, "1 document cannot be read: `rag-plugin sync` lists them\n"),
        (6, "6 documents cannot be read: `rag-plugin sync` lists them\n"),
    ],
)
def test_search_prints_one_line_about_failed_documents(documents: Path, count: int, line: str) -> None:
    broken(documents, count)
    done = run("search", "herons")
    assert (done.exit_code, done.stderr) == (0, line)
    assert "cannot be read" not in done.stdout
    assert run("search", "herons", "--no-sync").stderr == ""


def test_the_hint_has_the_config_file_of_the_command(documents: Path, config: Path) -> None:
    broken(documents, 1)
    config.rename("my other.yaml")
    for arguments in (["-c", "my other.yaml", "search", "herons"], ["search", "herons", "--config", "my other.yaml"]):
        done = run(*arguments)
        assert done.stderr == "1 document cannot be read: `rag-plugin sync -c 'my other.yaml'` lists them\n"


@pytest.mark.parametrize("option", ["--json", "--dry-run", "--verbose"])
def test_strict_is_exit_code_3_after_the_report(documents: Path, option: str) -> None:
    assert run("sync", "--strict").exit_code == 0
    broken(documents, 1)
    assert run("sync", option).exit_code == 0
    done = run("sync", "--strict", option)
    assert done.exit_code == 3
    if option == "--json":
        assert json.loads(done.stdout)["failed"] == [["broken0.txt", "it is binary data, not text"]]
    else:
        assert "! broken0.txt: it is binary data, not text\n" in done.stdout


# ---------------------------------------------------------------------------------- the list of documents


@pytest.mark.parametrize("command", [["sync"], ["sync", "--dry-run"]], ids=" ".join)
def test_a_first_sync_lists_counts_by_folder_and_verbose_all_files(documents: Path, command: list[str]) -> None:
    for number in range(1200):
        (documents / "birds" / "small").mkdir(exist_ok=True)
        (documents / "birds" / "small" / f"{number}.txt").write_text("Small.")
    (documents / "one").mkdir()
    (documents / "one" / "alone.md").write_text("Alone.")
    done = run("sync", "--dry-run")
    assert listed(done) == ["+ harbour.txt", "+ oven.txt", "+ birds/  1,202 documents", "+ one/alone.md"]
    verbose = listed(run(*command, "-v"))
    assert (len(verbose), verbose[:3]) == (1205, ["+ harbour.txt", "+ oven.txt", "+ birds/heron.md"])


def test_a_small_sync_lists_each_file_and_a_large_one_counts(documents: Path) -> None:
    run("sync")
    for number in range(20):
        (documents / f"{number:02}.txt").write_text(f"Number {number}.")
    assert listed(run("sync", "--dry-run")) == [f"+ {number:02}.txt" for number in range(20)]
    (documents / "oven.txt").write_text("Changed.")
    assert len(listed(run("sync", "--dry-run"))) == 21  # above 20 in all, and few of each kind at the top level
    (documents / "20.txt").write_text("Number 20.")
    (documents / "birds" / "heron.md").unlink()
    (documents / "birds" / "lapwing.md").unlink()
    assert listed(run("sync")) == ["+ top level  21 documents", "~ oven.txt", "- birds/  2 documents"]


def test_sync_and_search_name_the_encoder_that_is_loaded_and_no_llm(
    tmp_path: Path, documents: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True, raising=False)
    config_with_ollama(tmp_path, documents, "http://127.0.0.1:9")
    for command in (["sync", "--dry-run"], ["sync"], ["search", "herons"]):
        assert click.unstyle(run(*command).stderr).splitlines()[0] == f"loading {MINILM} ..."


def test_ids_that_are_urls_are_grouped_by_server() -> None:
    names = ["https://a.org/x/1", "https://a.org/2", "https://b.org/3", "c/4", "c/5", "6"]
    assert list(_by_folder(names)) == ["https://a.org/  2 documents", "https://b.org/3", "c/  2 documents", "6"]


def test_search_shows_the_scores_that_a_hybrid_score_is_made_of(documents: Path) -> None:
    done = run("search", "herons", "--set", "retriever.type=hybrid")
    assert re.search(r"^1\. \d\.\d{3} \(vector 0?-?\d?\.\d{3}, BM25 \d+\.\d\d\)  ", done.stdout, re.MULTILINE)
    (first, *_) = json.loads(run("search", "herons", "--json", "--set", "retriever.type=hybrid").stdout)
    assert {"vector_score", "lexical_score"} <= first["metadata"].keys()
    assert "vector" not in run("search", "herons").stdout.partition("\n")[0]

"""`rag-plugin doctor`: each problem is reported with its hint, and nothing is changed."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from rag_plugin import build_engine, load_config
from rag_plugin.cli import cli
from rag_plugin.doctor import Finding, examine
from rag_plugin.testing import FakeOllama, faults
from tests.conftest import config_with_ollama


@pytest.fixture(scope="module")
def ollama() -> Iterator[FakeOllama]:
    with FakeOllama(answer="Yes.") as server:
        yield server


@pytest.fixture
def config(tmp_path: Path, documents: Path, ollama: FakeOllama) -> Path:
    return config_with_ollama(tmp_path, documents, ollama.url)


def run(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["doctor", "-c", str(config), *arguments])


def findings(config: Path, **overrides: Any) -> list[Finding]:
    return list(examine(lambda: load_config(config, overrides=overrides)))


def of(results: list[Finding], name: str, level: str) -> list[Finding]:
    return [finding for finding in results if finding.name == name and finding.level == level]


def modification_times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_a_healthy_system_is_green_and_nothing_is_changed(config: Path, ollama: FakeOllama) -> None:
    before, earlier = modification_times(config.parent), len(ollama.requests)
    done = run(config)
    assert done.exit_code == 0, done.output
    lines = [line for line in done.stdout.splitlines() if line[:1].strip()]
    assert all(line.startswith("ok ") for line in lines), done.stdout
    assert [line.split()[1] for line in lines] == [
        *("packages", "config", "reader", "encoder", "index", "sync"),
        *("llm", "llm", "llm"),
    ]
    assert "4 documents" in done.stdout
    assert "384 dimensions, input of up to 254 tokens" in done.stdout
    assert "Ollama 0.17.4 at" in done.stdout
    assert "it answers: loaded in" in done.stdout
    assert done.stderr.strip().endswith("no problems")
    assert modification_times(config.parent) == before
    paths = {request.path for request in ollama.requests[earlier:]}
    assert paths == {"/api/version", "/api/show", "/api/tags", "/api/ps", "/api/chat"}


def test_json_output(config: Path) -> None:
    done = run(config, "--json", "--no-answer")
    items = json.loads(done.stdout)
    assert done.exit_code == 0
    assert {key for item in items for key in item} == {"level", "name", "what", "hint"}
    assert not any("it answers" in item["what"] for item in items)


def test_an_index_is_checked_and_compared_with_the_settings(config: Path) -> None:
    build_engine(config)
    results = findings(config)
    assert any("4 documents, 4 nodes" in finding.what for finding in of(results, "index", "ok"))
    assert not [finding for finding in results if finding.level == "fail"]
    changed = of(findings(config, **{"chunker.type": "token"}), "index", "fail")
    assert [finding.what for finding in changed] == [
        "it was built with other settings: chunker.type: 'sentence' then, 'token' now"
    ]
    assert "rag-plugin sync --set sync.on_change=resync" in changed[0].hint
    resync = {"chunker.type": "token", "sync.on_change": "resync"}
    assert of(findings(config, **resync), "index", "warn")
    with closing(sqlite3.connect(config.parent / "index" / "index.sqlite")) as database, database:
        database.execute("UPDATE node SET rest = 'spoiled' WHERE row = (SELECT min(row) FROM node)")
    (broken,) = of(findings(config), "index", "fail")
    assert broken.hint == "rag-plugin verify --repair"
    assert of(findings(config), "index", "fail") == [broken]  # it was not repaired


def test_an_invalid_config_has_the_messages_of_check(config: Path) -> None:
    config.write_text(config.read_text().replace("path: ", "paht: ", 1))
    done = run(config)
    assert done.exit_code == 1
    assert "FAIL  config" in done.stdout
    assert "reader.paht: reader 'directory' has no such setting" in " ".join(done.stdout.split())
    assert "did you mean 'path'?" in done.stdout
    assert "--    all else" in done.stdout


def test_a_missing_config(tmp_path: Path) -> None:
    done = run(tmp_path / "absent.yaml")
    assert done.exit_code == 1
    assert done.stdout.startswith("ok    packages")
    assert "FAIL  config" in done.stdout


@pytest.mark.parametrize(
    ("overrides", "name", "level", "what", "hint"),
    [
        pytest.param(
            {"reader.path": "/nowhere/at/all"},
            "reader",
            "fail",
            "there is no such folder",
            "",
            id="no documents' folder",
        ),
        pytest.param(
            {"reader.include": ["*.pdf"]},
            "reader",
            "warn",
            "there are no documents",
            "put documents into",
            id="no document matches",
        ),
        pytest.param(
            {"encoder.model": "nobody/nothing"},
            "encoder",
            "fail",
            "the model 'nobody/nothing' is not in the cache",
            "get it with `rag-plugin fetch`",
            id="encoder not fetched",
        ),
        pytest.param(
            {"llm.model": "llama3.2"},
            "llm",
            "fail",
            "has no model 'llama3.2'",
            "ollama pull llama3.2`, or set llm.pull to missing; it has fake:latest",
            id="model absent",
        ),
        pytest.param(
            {"llm.model": "llama3.2", "llm.pull": "missing"},
            "llm",
            "warn",
            "has no model 'llama3.2'",
            "the first question downloads it",
            id="model to be pulled",
        ),
        pytest.param(
            {"llm.context_window": 100_000},
            "llm",
            "warn",
            "llm.context_window is 100,000; the maximum of fake is 8,192",
            "set llm.context_window to 8192 or less",
            id="context too large",
        ),
        pytest.param(
            {"llm.thinking": True},
            "llm",
            "fail",
            "llm.thinking is set, but fake does not support it; its capabilities: completion",
            "remove llm.thinking, or use another model",
            id="no thinking",
        ),
        pytest.param(
            {"llm.base_url": "http://127.0.0.1:9"},
            "llm",
            "fail",
            "no Ollama server can be reached at http://127.0.0.1:9 for 'fake'",
            "start it with `OLLAMA_HOST=127.0.0.1:9 ollama serve`, or set llm.base_url",
            id="no server",
        ),
        pytest.param({"llm": "none"}, "llm", "ok", "answers are quotations from the documents", "", id="no LLM"),
        pytest.param(
            {"synthesizer": "no_text"}, "llm", "skip", "the synthesizer 'no_text' needs no LLM", "", id="LLM not needed"
        ),
        pytest.param(
            {"store": {"type": "llama_index.core.vector_stores.SimpleVectorStore"}},
            "index",
            "skip",
            "only the store 'faiss' can be checked",
            "",
            id="another store",
        ),
    ],
)
def test_each_problem_has_its_hint(
    config: Path, overrides: dict[str, Any], name: str, level: str, what: str, hint: str
) -> None:
    matches = [finding for finding in of(findings(config, **overrides), name, level) if what in finding.what]
    assert len(matches) == 1
    assert hint in matches[0].hint


def test_a_failing_server_is_a_finding_without_a_traceback(config: Path, ollama: FakeOllama) -> None:
    ollama.fail(faults.status(500, "llama runner process has terminated"), times=None)
    try:
        done = run(config)
    finally:
        ollama.recover()
    assert done.exit_code == 1
    assert "FAIL  llm" in done.stdout
    assert "Traceback" not in done.output


def test_a_missing_model_is_not_downloaded(config: Path) -> None:
    with FakeOllama(pullable=["llama3.2"]) as server:
        overrides = {"llm.base_url": server.url, "llm.model": "llama3.2", "llm.pull": "missing"}
        results = findings(config, **overrides)
        assert server.bodies("/api/pull") == []
        assert server.bodies() == []
    assert [finding.what for finding in of(results, "llm", "warn")] == [
        f"the Ollama server at {server.url} has no model 'llama3.2'"
    ]


def test_a_shared_model_and_a_slow_one(config: Path) -> None:
    with FakeOllama(answer="Yes.") as server:
        settings = {"llm.base_url": server.url, "encoder": {"type": "ollama", "model": "fake", "base_url": server.url}}
        warnings = of(findings(config, **settings), "llm", "warn")
    assert [finding.what for finding in warnings] == [
        "fake is both encoder and LLM, with different settings: each use reloads it"
    ]
    with FakeOllama(answer="Yes, of course.", seconds_per_token=0.6) as server:
        warnings = of(findings(config, **{"llm.base_url": server.url}), "llm", "warn")
    assert [finding.what for finding in warnings] == ["an answer of 200 words takes about 3 min"]


def test_a_password_in_the_address_is_not_shown(config: Path, ollama: FakeOllama) -> None:
    done = run(config, "--set", f"llm.base_url={ollama.url.replace('//', '//me:hush@')}")
    assert f"Ollama 0.17.4 at {ollama.url}" in done.stdout
    assert "hush" not in done.output


def test_an_old_server(config: Path) -> None:
    with FakeOllama(answer="Yes.", version="0.12.5") as old:
        (failure,) = of(findings(config, **{"llm.base_url": old.url}), "llm", "fail")
    assert failure.what == f"Ollama 0.12.5 at {old.url} is too old: prompts would be cut without notice"
    assert failure.hint == "update it to 0.13 or later"


def test_a_model_without_text_generation(config: Path) -> None:
    with FakeOllama(capabilities=["embedding"]) as server:
        failures = of(findings(config, **{"llm.base_url": server.url}), "llm", "fail")
    assert failures[0].what == "fake cannot write answers; its capabilities: embedding"


def test_the_memory_of_a_model(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rag_plugin.doctor import llm

    monkeypatch.setattr(llm, "free_memory", lambda: 1_000_000)
    with FakeOllama(answer="Yes.") as server:  # no model is loaded
        results = findings(config, **{"llm.context_window": 2000, "llm.base_url": server.url})
    # The weights, and keys and values: 30 layers, 3 heads, 64 numbers of two bytes.
    needed = f"{(98_363_007 + 2000 * 30 * 3 * 64 * 2 * 2) / 1e6:.1f} MB"
    assert any(f"about {needed} of memory" in finding.what for finding in of(results, "llm", "ok"))
    passages, memory = of(results, "llm", "warn")
    assert passages.what == "the 5 passages of a question have up to 1,270 tokens; the prompt has room for 976"
    assert memory.what == f"fake needs about {needed} of memory; 1.0 MB are free"
    assert any(finding.what.endswith("MB of memory, not on a GPU") for finding in of(results, "llm", "ok"))


def test_the_writer_of_the_index(config: Path) -> None:
    engine = build_engine(config)
    with engine.store._directory.lock.held():  # type: ignore[attr-defined]
        results = findings(config)
        info = CliRunner().invoke(cli, ["info", "-c", str(config)]).stdout
    (warning,) = of(results, "index", "warn")
    writer = f"process {os.getpid()} on "
    assert f"is being written to by {writer}" in warning.what
    assert f"writing:        {writer}" in info
    assert not of(findings(config), "index", "warn")
    assert not [finding for finding in results if finding.level == "fail"]


@pytest.mark.parametrize(
    ("requires", "what"),
    [
        (["click>=99"], r"click [0-9.]+ is installed, >=99 is required"),
        (["no-such-package"], "no-such-package is not installed"),
        (["no-such-package; extra == 'files'", "click; python_version < '3'", "click>=1"], ""),
    ],
)
def test_requirements_that_are_not_met(
    config: Path, requires: list[str], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib import metadata

    monkeypatch.setattr(metadata, "requires", lambda name: requires)
    failures = of(findings(config), "packages", "fail")
    assert [bool(re.fullmatch(what, finding.what)) for finding in failures] == ([True] if what else [])


def test_a_failed_check_does_not_prevent_the_others(
    config: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "rag_plugin.doctor")
    import rag_plugin.sync as sync

    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr(sync, "plan_sync", broken)
    results = findings(config)
    assert of(results, "sync", "fail") == [
        Finding("fail", "sync", "ZeroDivisionError: of all things", "`rag-plugin doctor --debug` shows the traceback")
    ]
    assert of(results, "llm", "ok")
    done = CliRunner().invoke(cli, ["--debug", "doctor", "-c", str(config), "--no-answer"])
    assert "of all things" in done.stdout
    assert any(record.exc_info and record.name == "rag_plugin.doctor" for record in caplog.records)


def test_a_disk_that_is_too_small(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    usage = shutil.disk_usage(config.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    (failure,) = of(findings(config), "sync", "fail")
    assert failure.what.startswith("a sync needs about ")
    assert "0.0 MB are free" in failure.what
    assert failure.hint == "free disk space, or set store.path to another disk"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_document_that_may_not_be_read(config: Path, documents: Path) -> None:
    (documents / "oven.txt").chmod(0)
    assert any("oven.txt" in finding.what for finding in of(findings(config), "sync", "warn"))


def test_a_list_that_is_cut_says_how_many_more_there_are(config: Path, documents: Path) -> None:
    for number in range(7):
        (documents / f"broken{number}.txt").write_bytes(bytes(range(32)) * 10)
    warnings = of(findings(config), "sync", "warn")
    assert [finding.what.partition(":")[0] for finding in warnings[:5]] == [f"broken{n}.txt" for n in range(5)]
    assert [(finding.what, finding.hint) for finding in warnings[5:]] == [
        ("2 more cannot be read", "`rag-plugin sync --dry-run` lists them")
    ]

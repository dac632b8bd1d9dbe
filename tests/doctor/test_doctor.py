"""`rag-plugin doctor`: each thing that can be wrong is found and told with its hint, and nothing is changed."""

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
    with FakeOllama(says="Yes.") as server:
        yield server


@pytest.fixture
def config(tmp_path: Path, documents: Path, ollama: FakeOllama) -> Path:
    return config_with_ollama(tmp_path, documents, ollama.url)


def run(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["doctor", "-c", str(config), *arguments])


def findings(config: Path, **overrides: Any) -> list[Finding]:
    return list(examine(lambda: load_config(config, overrides=overrides)))


def of(found: list[Finding], name: str, level: str) -> list[Finding]:
    return [finding for finding in found if finding.name == name and finding.level == level]


def everything(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_a_healthy_system_is_green_and_nothing_is_changed(config: Path, ollama: FakeOllama) -> None:
    before, asked = everything(config.parent), len(ollama.requests)
    done = run(config)
    assert done.exit_code == 0, done.output
    lines = [line for line in done.stdout.splitlines() if line[:1].strip()]
    assert all(line.startswith("ok ") for line in lines), done.stdout
    assert [line.split()[1] for line in lines] == [
        *("packages", "config", "reader", "encoder", "index", "sync"),
        *("llm", "llm", "llm"),
    ]
    assert "4 documents" in done.stdout
    assert "384 numbers, reads 254 tokens" in done.stdout
    assert "Ollama 0.17.4 at" in done.stdout
    assert "it answers: loaded in" in done.stdout
    assert done.stderr.strip().endswith("no problems")
    assert everything(config.parent) == before
    paths = {request.path for request in ollama.requests[asked:]}
    assert paths == {"/api/version", "/api/show", "/api/tags", "/api/ps", "/api/chat"}


def test_json_is_for_a_program(config: Path) -> None:
    done = run(config, "--json", "--no-answer")
    found = json.loads(done.stdout)
    assert done.exit_code == 0
    assert {key for item in found for key in item} == {"level", "name", "what", "hint"}
    assert not any("it answers" in item["what"] for item in found)


def test_an_index_is_checked_and_compared_with_the_settings(config: Path) -> None:
    build_engine(config)
    found = findings(config)
    assert any("4 documents, 4 nodes" in finding.what for finding in of(found, "index", "ok"))
    assert not [finding for finding in found if finding.level == "fail"]
    changed = of(findings(config, **{"chunker.type": "token"}), "index", "fail")
    assert [finding.what for finding in changed] == [
        "it was built by other settings: chunker.type: 'sentence' then, 'token' now"
    ]
    assert "rag-plugin sync --set sync.on_change=resync" in changed[0].hint
    resync = {"chunker.type": "token", "sync.on_change": "resync"}
    assert of(findings(config, **resync), "index", "warn")
    with closing(sqlite3.connect(config.parent / "index" / "index.sqlite")) as database, database:
        database.execute("UPDATE node SET rest = 'spoiled' WHERE row = (SELECT min(row) FROM node)")
    (broken,) = of(findings(config), "index", "fail")
    assert broken.hint == "rag-plugin verify --repair"
    assert of(findings(config), "index", "fail") == [broken]  # it was not repaired


def test_a_config_that_is_wrong_is_told_as_check_tells_it(config: Path) -> None:
    config.write_text(config.read_text().replace("path: ", "paht: ", 1))
    done = run(config)
    assert done.exit_code == 1
    assert "FAIL  config" in done.stdout
    assert "reader.paht: reader 'directory' has no such setting" in " ".join(done.stdout.split())
    assert "did you mean 'path'?" in done.stdout
    assert "--    all else" in done.stdout


def test_no_config_at_all(tmp_path: Path) -> None:
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
            id="none fits",
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
            "llm.context_window is 100,000, and fake has at most 8,192",
            "set llm.context_window to 8192 or less",
            id="context too large",
        ),
        pytest.param(
            {"llm.thinking": True},
            "llm",
            "fail",
            "llm.thinking is set, and fake can do completion only",
            "leave llm.thinking out, or take another model",
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
        pytest.param({"llm": "none"}, "llm", "ok", "passages are found, answers are not written", "", id="no LLM"),
        pytest.param(
            {"synthesizer": "no_text"}, "llm", "skip", "the synthesizer 'no_text' asks none", "", id="LLM not asked"
        ),
        pytest.param(
            {"store": {"type": "llama_index.core.vector_stores.SimpleVectorStore"}},
            "index",
            "skip",
            "of another store than faiss nothing can be told",
            "",
            id="another store",
        ),
    ],
)
def test_what_is_wrong_is_found_with_its_cure(
    config: Path, overrides: dict[str, Any], name: str, level: str, what: str, hint: str
) -> None:
    found = [finding for finding in of(findings(config, **overrides), name, level) if what in finding.what]
    assert len(found) == 1
    assert hint in found[0].hint


def test_a_server_that_breaks_is_a_finding_and_no_traceback(config: Path, ollama: FakeOllama) -> None:
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
        found = findings(config, **overrides)
        assert server.bodies("/api/pull") == []
        assert server.bodies() == []
    assert [finding.what for finding in of(found, "llm", "warn")] == [
        f"the Ollama server at {server.url} has no model 'llama3.2'"
    ]


def test_one_model_for_two_parts_and_a_slow_one(config: Path) -> None:
    with FakeOllama(says="Yes.") as server:
        settings = {"llm.base_url": server.url, "encoder": {"type": "ollama", "model": "fake", "base_url": server.url}}
        found = of(findings(config, **settings), "llm", "warn")
    assert [finding.what for finding in found] == [
        "fake is encoder and LLM, with settings of their own: each loads it again"
    ]
    with FakeOllama(says="Yes, of course.", seconds_per_token=0.6) as server:
        found = of(findings(config, **{"llm.base_url": server.url}), "llm", "warn")
    assert [finding.what for finding in found] == ["an answer of 200 words takes some 3 min"]


def test_a_password_in_the_address_is_not_shown(config: Path, ollama: FakeOllama) -> None:
    done = run(config, "--set", f"llm.base_url={ollama.url.replace('//', '//me:hush@')}")
    assert f"Ollama 0.17.4 at {ollama.url}" in done.stdout
    assert "hush" not in done.output


def test_an_old_server_is_told(config: Path) -> None:
    with FakeOllama(says="Yes.", version="0.12.5") as old:
        (found,) = of(findings(config, **{"llm.base_url": old.url}), "llm", "fail")
    assert found.what == f"Ollama 0.12.5 at {old.url} is too old: prompts would be cut without notice"
    assert found.hint == "update it to 0.13 or later"


def test_a_model_that_writes_nothing(config: Path) -> None:
    with FakeOllama(capabilities=["embedding"]) as server:
        found = of(findings(config, **{"llm.base_url": server.url}), "llm", "fail")
    assert found[0].what == "fake can do embedding only, and answers no questions"


def test_the_memory_that_a_model_needs_and_takes(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rag_plugin.doctor import llm

    monkeypatch.setattr(llm, "free_memory", lambda: 1_000_000)
    with FakeOllama(says="Yes.") as server:  # in which nothing is loaded yet
        found = findings(config, **{"llm.context_window": 2000, "llm.base_url": server.url})
    # Weights, and keys and values of 30 layers of 3 heads of 64 numbers of two bytes.
    needed = f"{(98_363_007 + 2000 * 30 * 3 * 64 * 2 * 2) / 1e6:.1f} MB"
    assert any(f"it needs some {needed} of memory" in finding.what for finding in of(found, "llm", "ok"))
    rounds, short = of(found, "llm", "warn")
    assert rounds.what == "the 5 passages of a question have up to 1,270 tokens, and there is room for 976"
    assert short.what == f"fake needs some {needed}, and 1.0 MB of memory are free"
    assert any(finding.what.endswith("MB, in memory, not on a graphics card") for finding in of(found, "llm", "ok"))


def test_who_is_writing_to_the_index(config: Path) -> None:
    engine = build_engine(config)
    with engine.store._directory.lock.held():  # type: ignore[attr-defined]
        found = findings(config)
        told = CliRunner().invoke(cli, ["info", "-c", str(config)]).stdout
    (warned,) = of(found, "index", "warn")
    who = f"process {os.getpid()} on "
    assert f"is being written to by {who}" in warned.what
    assert f"writing:      {who}" in told
    assert not of(findings(config), "index", "warn")
    assert not [finding for finding in found if finding.level == "fail"]


@pytest.mark.parametrize(
    ("requires", "what"),
    [
        (["click>=99"], r"click [0-9.]+ is installed, and >=99 is needed"),
        (["no-such-package"], "no-such-package is not installed"),
        (["no-such-package; extra == 'files'", "click; python_version < '3'", "click>=1"], ""),
    ],
)
def test_packages_are_those_that_are_needed(
    config: Path, requires: list[str], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib import metadata

    monkeypatch.setattr(metadata, "requires", lambda name: requires)
    found = of(findings(config), "packages", "fail")
    assert [bool(re.fullmatch(what, finding.what)) for finding in found] == ([True] if what else [])


def test_a_look_that_goes_wrong_does_not_hide_the_others(
    config: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "rag_plugin.doctor")
    import rag_plugin.sync as sync

    def broken(assembly: object, settings: object) -> None:
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr(sync, "plan_sync", broken)
    found = findings(config)
    assert of(found, "sync", "fail") == [
        Finding("fail", "sync", "ZeroDivisionError: of all things", "rag-plugin doctor --debug shows where")
    ]
    assert of(found, "llm", "ok")
    shown = CliRunner().invoke(cli, ["--debug", "doctor", "-c", str(config), "--no-answer"])
    assert "of all things" in shown.stdout
    assert any(record.exc_info and record.name == "rag_plugin.doctor" for record in caplog.records)


def test_a_disk_that_is_too_small(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    usage = shutil.disk_usage(config.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    (found,) = of(findings(config), "sync", "fail")
    assert found.what.startswith("it needs some ")
    assert "0.0 MB are free" in found.what
    assert found.hint == "make room, or let store.path name another disk"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_document_that_may_not_be_read(config: Path, documents: Path) -> None:
    (documents / "oven.txt").chmod(0)
    assert any("oven.txt" in finding.what for finding in of(findings(config), "sync", "warn"))

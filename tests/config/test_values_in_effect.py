"""Dollar signs, files with secrets, and configs shown with the values in effect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from rag_plugin import ConfigError, load_config
from rag_plugin.cli import cli

BASE: dict[str, Any] = {
    "reader": {"type": "directory", "path": "docs"},
    "encoder": {"type": "ollama", "model": "m"},
    "store": {"type": "faiss", "path": "index"},
}


def with_prompt(text: str) -> dict[str, Any]:
    return {**BASE, "llm": {"type": "ollama", "model": "m", "system_prompt": text}}


@pytest.mark.parametrize(
    "text",
    [
        "pa$$word$", "$", "$$", "$$$", "a$b", "cost $5", r"\frac{$a$}{$$b$$}", "$(ls) $HOME $1 $$ $?", "$}", "{$x}",
        "$ {x}", "end$",
    ],
)  # fmt: skip
def test_dollars_survive_loading_and_dumping(tmp_path: Path, text: str) -> None:
    config = load_config(with_prompt(text))
    assert config.llm.settings["system_prompt"] == text
    (tmp_path / "dumped.yaml").write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(tmp_path / "dumped.yaml").llm.settings["system_prompt"] == text


@given(st.text("${}a:-_", max_size=12))
def test_any_text_can_be_written(text: str) -> None:
    config = load_config(with_prompt(text.replace("${", "$${") or "x"))
    assert config.llm.settings["system_prompt"] == (text or "x")
    again = load_config(YAML(typ="safe", pure=True).load(config.to_yaml()))
    assert again.llm.settings["system_prompt"] == (text or "x")


def test_a_file_holds_a_value(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cr$et\n", encoding="utf-8")
    (tmp_path / "number").write_text("7\n", encoding="utf-8")
    path = tmp_path / "config.yaml"
    path.write_text(
        "reader: {type: directory, path: docs}\nencoder: {type: ollama, model: m}\nstore: {type: faiss, path: index}\n"
        'llm: {type: ollama, model: m, headers: {Authorization: "Bearer ${file:./token}"}}\n'
        f"retriever:\n  top_k: ${{file:{tmp_path}/number}}\n",
        encoding="utf-8",
    )
    config = load_config(path)
    assert config.llm.settings["headers"] == {"Authorization": "Bearer s3cr$et"}
    assert config.retriever.settings["top_k"] == 7
    assert "s3cr" not in config.to_yaml()
    elsewhere = tmp_path / "elsewhere" / "config.yaml"
    elsewhere.parent.mkdir()
    elsewhere.write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(elsewhere) == config


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file or directory"), (b"\xff\xfe", "it is not UTF-8"), (b"x" * 70_000, "it has more than 65,536")],
)
def test_a_file_without_a_value_is_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(with_prompt(f"${{file:{file}}}"))
    (problem,) = caught.value.problems
    assert problem.path == "llm.system_prompt"
    assert str(file) in problem.message
    assert reason in problem.message


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("MODEL", "PORT", "MY_API_KEY", "DB_PASSWORD", "HF_TOKEN", "TOKENS"):
        monkeypatch.setenv(name, f"value-of-{name}")
    monkeypatch.setenv("PORT", "9")
    (tmp_path / "secret").write_text("value-of-file", encoding="utf-8")
    path = tmp_path / "other.yaml"
    path.write_text(
        """
reader: {type: directory, path: docs}
encoder: {type: ollama, model: "${MODEL}", base_url: "http://me:pass@h:1", headers: {X-Any: plain-header}}
store: {type: faiss, path: index}
retriever: {type: vector, top_k: 3}
llm:
  type: ollama
  model: "${MODEL}"
  system_prompt: "${MY_API_KEY} ${DB_PASSWORD}"
  stop: ["${HF_TOKEN}", "${TOKENS}", "${file:secret}"]
  base_url: "http://h:${PORT}"
""",
        encoding="utf-8",
    )
    return path


def test_values_are_shown_and_secrets_are_hidden(secrets: Path) -> None:
    for command in (["show", "--resolved"], ["show", "--resolved", "--json"], ["check", "--resolved"]):
        done = CliRunner().invoke(cli, [*command, "-c", "other.yaml"])
        assert done.exit_code == 0, done.output
        data = YAML(typ="safe", pure=True).load(done.stdout)
        assert data["llm"]["model"] == data["encoder"]["model"] == "value-of-MODEL"
        assert data["llm"]["base_url"] == "http://h:9"
        assert data["llm"]["system_prompt"] == "***"
        assert data["llm"]["stop"] == ["***", "value-of-TOKENS", "***"]
        assert data["llm"]["max_tokens"] == 1024
        assert data["encoder"]["base_url"] == "http://***@h:1"
        assert data["encoder"]["headers"] == {"X-Any": "***"}
        for secret in ("value-of-MY_API_KEY", "value-of-DB", "value-of-HF", "value-of-file", "pass@", "plain-header"):
            assert secret not in done.stdout
    plain = CliRunner().invoke(cli, ["show", "-c", "other.yaml"]).stdout
    assert '"${MODEL}"' in plain
    assert "value-of" not in plain


def test_the_environment_names_the_config_file(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_PLUGIN_CONFIG", "other.yaml")
    done = CliRunner().invoke(cli, ["show", "--json"])
    assert json.loads(done.stdout)["retriever"]["top_k"] == 3
    (secrets.parent / "third.yaml").write_text("x: 1\n", encoding="utf-8")
    assert "third.yaml" in str(CliRunner().invoke(cli, ["check", "-c", "third.yaml"]).exception)

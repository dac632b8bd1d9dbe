"""The commands similarity, analogy, nearest and map."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from rag_plugin import build_engine
from rag_plugin.cli import cli
from rag_plugin.explore.commands.table import fitted, similarity_table, width
from tests.conftest import DOCUMENTS, MINILM, ROOT
from tests.processes import imported_by

MODEL = ["--model", MINILM]
WORDS = ["king", "queen", "man", "woman", "prince", "princess", "apple", "boy", "girl"]
BANKS = ["She sat on the bank of the river.", "The bank lent me money.", "I opened an account at a bank."]
CONCEPTS = ["--concept", "fruit=apple,pear,plum", "--concept", "vehicle = car, bus"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAG_PLUGIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NO_COLOR", raising=False)
    (tmp_path / "words.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")


@pytest.fixture
def config(tmp_path: Path, documents: Path) -> Path:
    """A config with an LLM that cannot be reached."""
    path = tmp_path / "config.yaml"
    path.write_text(
        "reader: {type: directory, path: ./docs}\n"
        f"encoder: {{type: huggingface, model: '{MINILM}', device: cpu}}\n"
        "store: {type: faiss, path: ./index}\n"
        "llm: {type: ollama, model: nowhere, base_url: 'http://127.0.0.1:9'}\n"
    )
    return path


@pytest.fixture
def index(config: Path, minilm: Any) -> Path:
    """The same, with its documents synced."""
    build_engine(config, overrides={"llm": "none"})
    return config


def run(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(cli, list(arguments), **options)


def stdout(*arguments: str, **options: Any) -> str:
    done = run(*arguments, **options)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def error_of(*arguments: str, **options: Any) -> str:
    """The message, from click or from an exception that `main` prints."""
    done = run(*arguments, **options)
    assert done.exit_code != 0
    return done.stderr if isinstance(done.exception, SystemExit) else done.exception.shell_text


# ---------------------------------------------------------------------------------- similarity


def test_similarity_prints_a_table() -> None:
    lines = stdout("similarity", "Apple", "Fruit", "Car", *MODEL).splitlines()
    assert lines == [
        "       Apple  Fruit    Car",
        "Apple   1.00   0.54   0.41",
        "Fruit   0.54   1.00   0.43",
        "Car     0.41   0.43   1.00",
    ]


def test_texts_come_from_stdin_or_from_a_file(tmp_path: Path) -> None:
    expected = stdout("similarity", "Apple", "Fruit", "--json", *MODEL)
    assert stdout("similarity", "--json", *MODEL, input="Apple\n\nFruit\n") == expected
    (tmp_path / "texts.txt").write_text("Apple\nFruit\n")
    assert stdout("similarity", "--json", "--file", "texts.txt", *MODEL) == expected
    data = json.loads(expected)
    assert [piece["text"] for piece in data["pieces"]] == ["Apple", "Fruit"]
    assert data["similarity"][0][1] == pytest.approx(0.5367, abs=1e-3)


def test_one_word_is_compared_in_its_contexts() -> None:
    data = json.loads(stdout("similarity", "--word", "bank", *BANKS, "--json", *MODEL))
    river, lent, account = range(3)
    matrix = data["similarity"]
    assert matrix[lent][account] > matrix[river][lent] > matrix[river][account]
    assert data["pieces"][0] == {"text": "bank", "context": BANKS[0], "start": 15}
    assert "1 She sat on the [bank] of the river." in stdout("similarity", "--word", "bank", *BANKS, *MODEL)


@pytest.mark.parametrize(
    ("granularity", "pieces"),
    [
        ("text", ["The oven. Hot!", "Bread"]),
        ("sentence", ["The oven.", "Hot!", "Bread"]),
        ("word", ["The", "oven", "Hot", "Bread"]),
        ("token", ["The", "oven", ".", "Hot", "!", "Bread"]),
        ("character", [*"Theoven.Hot!Bread"]),
    ],
)
def test_pieces_of_texts_are_compared_at_each_granularity(granularity: str, pieces: list[str]) -> None:
    data = json.loads(stdout("similarity", "The oven. Hot!", "Bread", "--granularity", granularity, "--json", *MODEL))
    assert [piece["text"] for piece in data["pieces"]] == pieces
    assert all(data["similarity"][number][number] == pytest.approx(1, abs=1e-5) for number in range(len(pieces)))


def test_concepts_are_compared_with_texts() -> None:
    data = json.loads(stdout("similarity", "cherry", *CONCEPTS, "--json", *MODEL))
    assert [piece["text"] for piece in data["pieces"]] == ["cherry", "fruit", "vehicle"]
    assert data["pieces"][2]["examples"] == ["car", "bus"]
    assert data["similarity"][0][1] > data["similarity"][0][2]
    assert len(json.loads(stdout("similarity", *CONCEPTS, "--json", *MODEL))["pieces"]) == 2


def test_csv_output_parses_to_the_texts(tmp_path: Path) -> None:
    texts = ['a, "quoted" text', "two\nlines", "x"]
    rows = list(csv.reader(io.StringIO(stdout("similarity", *texts, "--csv", *MODEL))))
    assert rows[0] == ["", *texts]
    assert [row[0] for row in rows[1:]] == texts
    assert [float(rows[number][number]) for number in (1, 2, 3)] == pytest.approx([1, 1, 1], abs=1e-5)


def test_a_heat_map_is_written_beside_the_table(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = run("similarity", "Apple", "Fruit", "--heatmap", "heat.png", *MODEL)
    assert "wrote heat.png" in done.stderr
    assert "Apple" in done.stdout
    assert (tmp_path / "heat.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["one"], "there is nothing to compare: name at least two texts"),
        (["a", " "], "text 2 of 2 is empty"),
        (["a", "b", "--file", "words.txt"], "name texts or --file, not both"),
        (["--file", "none.txt"], "none.txt: No such file or directory"),
        (["a", "b", "--json", "--csv"], "--csv and --json exclude each other"),
        (["a", "b", "--word", "a"], "the word 'a' is not in 'b'"),
        (["a", "b", "--word", "a", "--granularity", "token"], "--word goes with --granularity word"),
        (["a", "--concept", "fruit"], "--concept fruit: write it as NAME=EXAMPLE,EXAMPLE, such as fruit=apple,pear"),
        (["a", *CONCEPTS, "--granularity", "word"], "concepts are compared with whole texts"),
        (
            ["word " * 61, "b", "--granularity", "word"],
            "62 rows are too many for a table; use --csv, --json or --heatmap",
        ),
        ([], "there is nothing to compare"),
    ],
)
def test_invalid_comparisons_are_errors(arguments: list[str], message: str) -> None:
    assert message in error_of("similarity", *arguments, *MODEL, input="")


def test_stdin_that_is_not_utf8_is_an_error() -> None:
    assert "stdin is not UTF-8 (byte 1)" in error_of("similarity", *MODEL, input=b"a\xff\nb\n")


# ---------------------------------------------------------------------------------- the table


def test_a_table_is_aligned_in_any_script() -> None:
    names = ["東京", "cafe\u0301", "a very long text that goes on and on and on, and then further on", "tab\there"]
    lines = similarity_table(names, [[1, 0.5, -0.25, 0]] * 4)
    from click import unstyle

    plain = [unstyle(line) for line in lines]
    assert len({width(line) for line in plain}) == 1
    assert plain[1].startswith("1 東京  ")
    assert plain[3].startswith("3 a very long text that goes on and on and …")
    assert plain[1].endswith("   1.00   0.50  -0.25   0.00")
    assert fitted("\x1b[31mred", 10) == " [31mred  "


def test_a_table_that_is_too_wide_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    names, matrix = ["a", "b", "c"], [[1, 0.25, 0.5], [0.25, 1, 0.75], [0.5, 0.75, 1]]
    assert similarity_table(names, matrix, 16) == [
        "       a      b",
        "a   1.00   0.25",
        "b   0.25   1.00",
        "c   0.50   0.75",
        "",
        "       c",
        "a   0.50",
        "b   0.75",
        "c   1.00",
    ]
    assert similarity_table(names, matrix, 5)[-1] == "c   1.00"
    assert len(similarity_table(names, matrix, 22)) == 4


def test_no_color_disables_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[48;2;253;231;37m" in similarity_table(["a"], [[1.0]])[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in similarity_table(["a"], [[1.0]])[1]


# ---------------------------------------------------------------------------------- analogy


def test_an_analogy_over_a_file() -> None:
    lines = stdout("analogy", "king - man + woman", "--vocabulary", "words.txt", "-k", "2", *MODEL).splitlines()
    assert lines == [" 0.579  queen", " 0.442  princess"]
    separate = stdout("analogy", "king", "-", "man", "+", "woman", "--vocabulary", "words.txt", "-k", "2", *MODEL)
    assert separate.splitlines() == lines
    data = json.loads(stdout("analogy", "man : king :: woman : ?", "--vocabulary", "words.txt", "--json", *MODEL))
    assert data["expression"] == "king - man + woman"
    assert data["terms"][1] == {"text": "man", "weight": -1.0}
    assert data["nearest"][0]["text"] == "queen"
    assert not {"king", "man", "woman"} & {item["text"] for item in data["nearest"]}


def test_an_analogy_over_the_words_of_the_index(index: Path) -> None:
    data = json.loads(stdout("analogy", "heron - fish + bread", "--json", "-k", "100"))
    words = {item["text"] for item in data["nearest"]}
    assert {"forty", "lapwing", "pump", "Bake"} <= words
    assert not words & {"heron", "Heron", "fish", "bread"}
    fewer = json.loads(stdout("analogy", "heron - fish + bread", "--json", "--most", "3"))
    assert fewer["vocabulary"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["king -", "--vocabulary", "words.txt"], "'king -', character 6: a term is missing after '-'"),
        (["king - king", "--vocabulary", "words.txt"], "cancel out"),
        (["king", "--vocabulary", "empty.txt"], "empty.txt is empty; write one text per line"),
        (["king"], "there is no config.yaml here: name a config with -c, or words with --vocabulary"),
    ],
)
def test_invalid_analogies_are_errors(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "empty.txt").write_text("")
    assert message in error_of("analogy", *arguments, *MODEL)


# ---------------------------------------------------------------------------------- nearest


def nearest(*arguments: str) -> Any:
    return json.loads(stdout("nearest", *arguments, "--json"))


def test_the_nearest_documents_of_the_index(index: Path) -> None:
    data = nearest("baking at home", "-k", "2")
    assert data["nearest"][0]["document"] == "oven.txt"
    assert [item["score"] for item in data["nearest"]] == sorted(item["score"] for item in data["nearest"])[::-1]
    assert stdout("nearest", "baking at home", "-k", "1").endswith("  oven.txt\n")


def test_the_nearest_sentences_words_and_tokens_of_the_index(index: Path) -> None:
    sentence = nearest("a wading bird that fishes", "--granularity", "sentence")["nearest"][0]
    assert sentence["text"] == "The heron stands in shallow water and eats fish, frogs and eels."
    assert sentence["document"] == "birds/heron.md"
    words = nearest("heron", "--granularity", "word")["nearest"]
    assert words[0]["text"].lower() == "heron"
    assert len({item["text"].lower() for item in words}) == len(words)
    every = nearest("heron", "--granularity", "word", "--occurrences")["nearest"]
    assert [item["text"].lower() for item in every[:2]] == ["heron", "heron"]
    token = nearest("lapwing", "--granularity", "token")["nearest"][0]
    assert token["context"][token["start"] :].startswith(token["text"])
    shown = stdout("nearest", "a wading heron", "--word", "heron", "--granularity", "word", "-k", "1")
    assert "[heron]" in shown.lower()
    assert "birds/heron.md" in shown


def test_a_word_has_the_meaning_of_its_context(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(BANKS))
    options = [
        "--granularity",
        "word",
        "--occurrences",
        "--vocabulary",
        "texts.txt",
        "--word",
        "bank",
        "-k",
        "1",
        *MODEL,
    ]
    assert nearest("He fished from the bank of a lake.", *options)["nearest"][0]["context"] == BANKS[0]
    assert nearest("Put your savings into the bank.", *options)["nearest"][0]["context"] in BANKS[1:]


def test_only_the_nearest_nodes_are_split_and_encoded(index: Path) -> None:
    done = run("nearest", "baking bread", "--granularity", "word", "--among", "1", "--json")
    assert "encoding the pieces of the 1 nearest of 4 nodes (--among)" in done.stderr
    assert {item["document"] for item in json.loads(done.stdout)["nearest"]} == {"oven.txt"}


def test_the_nearest_concepts_to_a_text_and_the_nearest_words_to_concepts(tmp_path: Path) -> None:
    data = nearest("cherry", *CONCEPTS, *MODEL)
    assert [item["text"] for item in data["nearest"]] == ["fruit", "vehicle"]
    (tmp_path / "kinds.yaml").write_text("royal: [king, queen]\nchild: [boy, girl]\n")
    results = nearest("--concepts", "kinds.yaml", "--vocabulary", "words.txt", *MODEL)
    assert [part["of"] for part in results] == ["royal", "child"]
    first, second = ([item["text"] for item in part["nearest"]] for part in results)
    assert first[:2] == ["prince", "princess"]
    assert not {"king", "queen"} & set(first)
    assert {"king", "queen"} <= set(second)
    assert (
        stdout("nearest", "cherry", *CONCEPTS, *MODEL)
        .splitlines()[0]
        .endswith("fruit                 apple, pear, plum")
    )


def test_the_nearest_to_a_concept_in_the_index(index: Path) -> None:
    (result,) = nearest("--concept", "bird=eagle,stork,owl", "--granularity", "word", "-k", "4")
    assert {item["text"].lower() for item in result["nearest"]} & {"heron", "lapwing", "peewit"}
    (result,) = nearest("--concept", "bird=eagle,stork,owl", "-k", "2")
    assert {item["document"] for item in result["nearest"]} == {"birds/heron.md", "birds/lapwing.md"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a TEXT, or a concept: --concept fruit=apple,pear,plum"),
        (["x", *CONCEPTS, "--granularity", "word"], "name a TEXT or concepts, not both"),
        (["x", "--granularity", "concept"], "--granularity concept needs a TEXT and concepts"),
        ([*CONCEPTS, "--granularity", "concept"], "--granularity concept needs a TEXT and concepts"),
        (["x", *CONCEPTS, "--vocabulary", "words.txt"], "--granularity concept excludes --vocabulary"),
        (["x", "--word", "x"], "--word and --occurrences go with --granularity word or token"),
        ([*CONCEPTS, "--word", "x", "--granularity", "word"], "--word needs a TEXT that contains it"),
        (["  ", "--vocabulary", "words.txt"], "the text is empty"),
        (["x"], "there is no config.yaml here: name a config with -c, or words with --vocabulary"),
    ],
)
def test_invalid_searches_are_errors(arguments: list[str], message: str) -> None:
    assert message in error_of("nearest", *arguments, *MODEL)


# ---------------------------------------------------------------------------------- map


def test_a_map_of_nodes_with_a_question_and_its_hits(index: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = run("map", "map.html", "map.png", "--question", "When does the pump run?", "-k", "2", "--json")
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    assert len(data["points"]) == len(DOCUMENTS)
    assert data["colour_by"] == "document"
    hits = data["question"]["hits"]
    assert len(hits) == 2
    assert data["points"][hits[0]["point"]]["document"] == "harbour.txt"
    assert "OSPREY-31" in (tmp_path / "map.html").read_text(encoding="utf-8")
    assert (tmp_path / "map.png").read_bytes()[:4] == b"\x89PNG"
    assert "4 nodes; PCA: " in done.stderr


def test_a_map_of_documents_and_one_of_words(index: Path, tmp_path: Path) -> None:
    data = json.loads(stdout("map", "--of", "documents", "--json", "--question", "pump", "-k", "1"))
    assert {point["text"] for point in data["points"]} == set(DOCUMENTS)
    assert data["points"][data["question"]["hits"][0]["point"]]["text"] == "harbour.txt"
    words = json.loads(stdout("map", "--of", "words", "--most", "9", "--json"))
    assert len(words["points"]) == 9
    assert stdout("map", "words.html", "--vocabulary", "words.txt", "--question", "royalty", *MODEL) == "words.html\n"
    assert '"princess"' in (tmp_path / "words.html").read_text()


def test_a_map_without_a_question_loads_no_model(index: Path) -> None:
    modules = imported_by(
        "from rag_plugin.cli import cli\ncli(['map', 'map.html'], standalone_mode=False)\n", index.parent
    )
    assert modules.isdisjoint({"torch", "transformers", "sentence_transformers", "matplotlib"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a file to write: rag-plugin map map.html"),
        (["map.pdf"], "map.pdf: a map is an HTML page, .html, or a picture, .png"),
        (["map.html", "--colour-by", "year"], "no piece has metadata 'year'"),
        (["map.html", "--of", "nodes", "--vocabulary", "words.txt"], "--vocabulary goes with --of words"),
        (["none/map.html"], "none/map.html: No such file or directory"),
        (["map.html", "--question", " "], "the text is empty"),
        (["map.html", "--method", "umap", "--of", "documents"], "UMAP needs at least 5 points"),
    ],
)
def test_invalid_maps_are_errors(index: Path, arguments: list[str], message: str) -> None:
    assert message in error_of("map", *arguments)


# ---------------------------------------------------------------------------------- config and index


def test_nothing_is_synced_without_the_option(config: Path, tmp_path: Path) -> None:
    assert "it was never synced; run `rag-plugin sync`" in error_of("nearest", "x")
    assert "the index is empty; run `rag-plugin sync`" in error_of("map", "map.html")
    assert "the index is empty; run `rag-plugin sync`" in error_of("analogy", "x")
    assert not (tmp_path / "index").exists()
    assert nearest("fish", "--sync", "-k", "1")["nearest"][0]["document"] == "birds/heron.md"
    (tmp_path / "docs" / "new.txt").write_text("A fish is a fish, and fish are fish.")
    assert nearest("fish", "-k", "1")["nearest"][0]["document"] == "birds/heron.md"
    assert nearest("fish", "--sync", "-k", "1")["nearest"][0]["document"] == "new.txt"
    (tmp_path / "docs" / "broken.txt").write_bytes(bytes(range(32)) * 10)
    stderr = run("nearest", "fish", "--sync").stderr
    assert stderr == "1 document cannot be read: `rag-plugin sync` lists them\n"


def test_an_index_of_another_encoder_is_not_searched(index: Path) -> None:
    message = error_of("nearest", "fish", "--set", "encoder.max_length=9")
    assert "was built with other settings" in message
    assert "encoder.max_length" in message


def test_with_a_vocabulary_a_config_needs_only_an_encoder(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"encoder: {{type: huggingface, model: '{MINILM}'}}\n")
    assert "queen" in stdout("analogy", "king - man + woman", "--vocabulary", "words.txt", "-k", "1")
    assert "store: this section is missing" in error_of("nearest", "x")


def test_the_option_model_needs_no_config_and_takes_precedence(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("encoder: {type: huggingface, model: ./nowhere}\nbroken")
    assert stdout("similarity", "a", "b", *MODEL).splitlines()[1] == "a   1.00   0.64"
    assert "there is no model at" in error_of("similarity", "a", "b", "--model", "./nowhere")


def test_without_config_and_model_the_error_has_a_hint() -> None:
    expected = "there is no config.yaml here: name a config with -c, or an encoder with --model, such as BAAI/bge-small"
    assert expected in error_of("similarity", "a", "b")


def test_help_loads_nothing_heavy() -> None:
    for command in ("similarity", "analogy", "nearest", "map"):
        modules = imported_by(
            f"sys.argv = ['rag-plugin', '{command}', '--help']\n"
            "from rag_plugin.cli import main\n"
            "try:\n    main()\nexcept SystemExit as exit:\n    assert not exit.code\n"
        )
        assert modules.isdisjoint({"numpy", "pydantic", "llama_index", "torch", "faiss", "regex"})


def test_the_installed_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rag_plugin.cli"]
    done = subprocess.run(
        [*command, "analogy", "king - man + woman", "--vocabulary", "words.txt", "-k", "1", *MODEL],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, " 0.579  queen\n", "")
    done = subprocess.run(
        [*command, "analogy", "king - ", "--vocabulary", "words.txt", *MODEL],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: 'king - ', character 6: a term is missing after '-'\n"


# ---------------------------------------------------------------------------------- documentation


def shown_commands() -> list[tuple[str, str]]:
    """(command, output) of each `$` line of docs/meaning.md."""
    text = (ROOT / "docs" / "meaning.md").read_text(encoding="utf-8")
    commands = []
    for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            commands.append((command, output))
    return commands


def test_the_output_in_the_documentation_is_current(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"encoder: {{type: huggingface, model: '{MINILM}'}}\n")
    commands = shown_commands()
    assert len(commands) >= 12
    for command, output in commands:
        words = shlex.split(command)
        if words[0] == "cat":
            (tmp_path / words[1]).write_text(output)
            continue
        lines, documented = stdout(*words[1:]).splitlines(), output.splitlines()
        number = re.compile(r"-?\d\.\d\d+")
        assert [number.sub("#", line) for line in lines] == [number.sub("#", line) for line in documented], command
        for line, other in zip(lines, documented):  # the last digit depends on the processor
            assert [float(value) for value in number.findall(line)] == pytest.approx(
                [float(value) for value in number.findall(other)], abs=0.011
            )

"""YAML text, mappings and overrides become one tree in which every value knows its place."""

from __future__ import annotations

import enum
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_plugin import ConfigError, Problem, load_config
from rag_plugin.source import MappingNode, ScalarNode, Source, SourceLocation, read_source, redact, to_python

BASE = """\
reader: {type: directory, path: ./docs}
encoder: {type: huggingface, model: m}
store: {type: faiss, path: ./index}
"""
MAPPING: dict[str, Any] = {
    "reader": {"type": "directory", "path": "./docs"},
    "encoder": {"type": "huggingface", "model": "m"},
    "store": {"type": "faiss", "path": "./index"},
}
SECTIONS = "reader, chunker, encoder, store, llm, retriever, rerankers, synthesizer, sync"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("NOPE", "NAME", "SECRET"):
        monkeypatch.delenv(name, raising=False)


def problems_of(config: Any = "config.yaml", **options: Any) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        load_config(config, **options)
    return caught.value.problems


def text_of(config: Any = "config.yaml", **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(config, **options)
    return str(caught.value)


def only(config: Any = "config.yaml", **options: Any) -> Problem:
    found = problems_of(config, **options)
    assert len(found) == 1, found
    return found[0]


# ---------------------------------------------------------------------------------- the file itself


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"", "the file is empty\n      `rag-plugin init` writes one to start from", id="empty"),
        pytest.param(b"# hi\n", "the file is empty\n      `rag-plugin init` writes one to start from", id="comments"),
        pytest.param(b"---\n", "the file is empty\n      `rag-plugin init` writes one to start from", id="marker"),
        pytest.param(b"null\n", "the file is empty\n      `rag-plugin init` writes one to start from", id="null"),
        pytest.param(b"\x7fELF\x00\x01", "this is a binary file, not YAML text", id="binary"),
        pytest.param("a: b".encode("utf-16"), "the file is UTF-16, not UTF-8\n      save it as UTF-8", id="utf-16"),
        pytest.param(b"a: b\n" * 200_001, "the file has 1,000,005 bytes; a config has at most 1,000,000", id="large"),
        pytest.param(
            b"- a\n",
            "line 1: the file holds a list, not sections\n"
            "      write sections such as `reader: {type: directory, path: ./docs}`",
            id="list",
        ),
        pytest.param(
            b"\nhello\n",
            "line 2: the file holds a single value, not sections\n"
            "      write sections such as `reader: {type: directory, path: ./docs}`",
            id="one value",
        ),
    ],
)
def test_a_file_that_is_no_config_says_what_it_is(write: Any, content: bytes, expected: str) -> None:
    write(content)
    assert text_of() == f"config.yaml: 1 problem\n  {expected}"


def test_a_byte_that_is_not_utf8_is_found_by_line_and_column(write: Any) -> None:
    write(BASE.encode() + "llm: {type: ollama, model: caf\xe9}\n".encode("latin-1"))
    assert problems_of() == [
        Problem("config.yaml", 4, 31, "", "the file is not UTF-8: invalid byte 0xe9", "save it as UTF-8")
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_key(write: Any) -> None:
    write(b"\xef\xbb\xbf" + BASE.encode())
    assert load_config("config.yaml").reader is not None


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"], ids=["unix", "windows", "old mac"])
def test_lines_count_the_same_whatever_ends_them(write: Any, ending: str) -> None:
    write((BASE + "chunkr: none\n").replace("\n", ending).encode())
    assert only().line == 4


def test_an_absent_file_says_how_to_get_one() -> None:
    assert text_of("nope.yaml") == (
        "nope.yaml: 1 problem\n  there is no such file\n      `rag-plugin init` writes one to start from"
    )


def test_a_directory_is_not_a_file_and_its_config_is_proposed(write: Any) -> None:
    (Path("empty")).mkdir()
    assert text_of("empty") == "empty: 1 problem\n  this is a directory, not a file"
    write(BASE, "full/config.yaml")
    assert text_of("full") == (
        "full: 1 problem\n  this is a directory, not a file\n      did you mean 'full/config.yaml'?"
    )


@pytest.mark.parametrize("name", ["/dev/null", "/dev/zero", "pipe"])
def test_what_is_no_regular_file_is_refused_without_reading_it(name: str) -> None:
    if name == "pipe":
        os.mkfifo(name)
    assert text_of(name) == f"{name}: 1 problem\n  this is not a regular file"


def test_a_file_that_may_not_be_read_says_why(write: Any) -> None:
    write(BASE).chmod(0)
    if os.access("config.yaml", os.R_OK):
        pytest.skip("root may read everything")
    assert only().message == "the file cannot be read: Permission denied"


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000], ids=["null character", "too long"])
def test_an_impossible_file_name_is_a_problem_not_a_traceback(name: str) -> None:
    assert only(name).message.startswith("the file cannot be read: ")


def test_a_link_in_a_circle_is_a_problem() -> None:
    os.symlink("one", "two")
    os.symlink("two", "one")
    assert only("one").message == "the file cannot be read: Too many levels of symbolic links"


# ---------------------------------------------------------------------------------- YAML


SYNTAX = [
    ("tab", "llm:\n\ttype: none\n", (5, "a tab cannot indent YAML", "use spaces")),
    ("tab behind spaces", "llm:\n  type: none\n \tx: 1\n", (6, "a tab cannot indent YAML", "use spaces")),
    (
        "double quote",
        'llm: {type: ollama, model: "llama}\nchunker: none\n',
        (4, "a quote is opened here and never closed", "close it, or remove it"),
    ),
    (
        "single quote",
        "llm: 'none\nchunker: none\n",
        (4, "a quote is opened here and never closed", "close it, or remove it"),
    ),
    (
        "quote before a document",
        "llm: 'none\n---\n",
        (4, "a quote is opened here and never closed", "close it, or remove it"),
    ),
    ("bracket", "rerankers: [{type: x}\nllm: none\n", (4, "a comma or the closing ] is missing", "")),
    ("brace", "llm: {type: none\nchunker: none\n", (4, "a comma or the closing } is missing", "")),
    ("brace at the end", "llm: {type: none\n", (4, "a comma or the closing } is missing", "")),
    ("comma", "llm: {type: 'a' model: b}\n", (4, "a comma or the closing } is missing", "")),
    (
        "bracket at the end",
        "rerankers: [",
        (4, "a bracket is never closed", "close it with ] or }"),
    ),
    (
        "closing bracket alone",
        "rerankers: ]\n",
        (4, "a value is expected here, not ]", "is a bracket or quote missing before it?"),
    ),
    (
        "second document",
        "---\nllm: none\n",
        (4, "a second document starts here", "a config is one document: remove the line ---"),
    ),
    (
        "text behind the end",
        "...\nllm: none\n",
        (5, "a second document starts here", "a config is one document: remove the line ---"),
    ),
    (
        "unknown alias",
        "llm: *mine\n",
        (
            4,
            "alias *mine is not defined",
            "text that starts with * needs quotes",
        ),
    ),
    (
        "pattern without quotes",
        "reranker: [**/*.md]\n",
        (
            4,
            "alias **/*.md is not defined",
            "text that starts with * needs quotes",
        ),
    ),
    (
        "star alone",
        "llm: *\n",
        (
            4,
            "this is not YAML: expected alphabetic or numeric character, but found '\\n'",
            "text that starts with * or & needs quotes",
        ),
    ),
    ("at sign", "llm: @none\n", (4, "text cannot start with @", "put it in quotes")),
    ("backtick", "llm: `none`\n", (4, "text cannot start with `", "put it in quotes")),
    ("percent", "llm: %none\n", (4, "text cannot start with %", "put it in quotes")),
    (
        "two colons",
        "llm: type: none\n",
        (4, "unexpected colon", "text that contains ': ' needs quotes; otherwise check the indentation"),
    ),
    (
        "indented too far",
        "llm:\n  type: ollama\n   model: x\n",
        (6, "unexpected colon", "text that contains ': ' needs quotes; otherwise check the indentation"),
    ),
    (
        "indented too little",
        "llm:\n  type: ollama\n model: x\n",
        (
            6,
            "this does not fit the lines above",
            "check the indentation, and the quotes and brackets before it",
        ),
    ),
    (
        "text behind a quote",
        "llm: 'a' b\n",
        (
            4,
            "this does not fit the lines above",
            "check the indentation, and the quotes and brackets before it",
        ),
    ),
    ("no colon", "llm\n", (4, "a key without a colon", "write a colon and a space after the key")),
    ("no space", "llm:none\nsync: {}\n", (4, "a key without a colon", "write a colon and a space after the key")),
    (
        "unknown escape",
        'llm: "\\q"\n',
        (
            4,
            "a backslash in double quotes starts an escape, and this escape is not part of YAML",
            "use single quotes, or write the backslash twice",
        ),
    ),
    (
        "Windows path",
        'reader2: {path: "C:\\xyz"}\n',
        (
            4,
            "a backslash in double quotes starts an escape, and this escape is not part of YAML",
            "use single quotes, or write the backslash twice",
        ),
    ),
    (
        "beyond Unicode",
        'llm: "\\UFFFFFFFF"\n',
        (4, "the escape \\UFFFFFFFF is above the last character of Unicode", ""),
    ),
    (
        "just beyond Unicode",
        'llm: "\\U00110000"\n',
        (4, "the escape \\U00110000 is above the last character of Unicode", ""),
    ),
    ("control character", "llm: \x07\n", (4, "the character U+0007 is not allowed in YAML", "remove it")),
    (
        "bare variable in braces",
        "retriever: {top_k: ${NAME}}\n",
        (
            4,
            "${...} needs quotes between { and }",
            'put text in quotes, "${NAME}"; for a number write each setting on its own line',
        ),
    ),
    (
        "bare variable in brackets",
        "rerankers: [${NAME}]\n",
        (
            4,
            "${...} needs quotes between [ and ]",
            'put text in quotes, "${NAME}"; for a number write each setting on its own line',
        ),
    ),
]


@pytest.mark.parametrize(("text", "expected"), [pytest.param(text, expected, id=id) for id, text, expected in SYNTAX])
def test_bad_yaml_is_told_in_plain_words_at_the_line_to_change(
    write: Any, text: str, expected: tuple[int, str, str]
) -> None:
    write(BASE + text)
    problem = only()
    assert (problem.line, problem.message, problem.hint) == expected
    assert (problem.file, problem.path) == ("config.yaml", "")
    assert problem.column


@pytest.mark.parametrize(
    "head", ["%YAML 1.1\n---\n", "# a comment\r\n\r\n%YAML 1.1\r\n---\r\n", "%YAML 1.3\n---\n", "%YAML 1.20\n---\n"]
)
def test_another_version_of_yaml_is_refused(write: Any, head: str) -> None:
    write(head + BASE)
    version = head.partition("%YAML ")[2].split()[0]
    problem = only()
    assert problem.message == f"the text declares YAML {version}; a config is YAML 1.2"
    assert problem.hint == "remove the %YAML line"
    assert problem.line == (3 if head.startswith("#") else 1)


def test_yaml_1_2_by_name_is_what_it_is_anyway(write: Any) -> None:
    write("%YAML 1.2\n---\n" + BASE)
    assert load_config("config.yaml").reader is not None


def test_a_repeated_key_names_its_first_line(write: Any) -> None:
    write(BASE + "\nstore:\n  type: faiss\n  path: a\n  path: b\n")
    assert text_of() == (
        "config.yaml: 1 problem\n  line 5, store: key appears twice (first on line 3)\n      keep one of them"
    )
    write(BASE.replace("store: {type: faiss, path: ./index}", "store:\n  type: faiss\n  path: a\n  path: b\n"))
    assert text_of() == (
        "config.yaml: 1 problem\n  line 6, store.path: key appears twice (first on line 5)\n      keep one of them"
    )


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        pytest.param("3: x", "keys are text, not 3", "put it in quotes", id="number"),
        pytest.param("true: x", "keys are text, not true", "put it in quotes", id="bool"),
        pytest.param("~: x", "keys are text, not ~", "put it in quotes", id="null"),
        pytest.param("? \n: x", "keys are text, not nothing", "", id="nothing"),
        pytest.param("? [a, b]\n: x", "keys are text, not a list or mapping", "", id="list"),
        pytest.param("'it''s': x", 'no section is called "it\'s"', f"possible: {SECTIONS}", id="text"),
        pytest.param('"\\uD800": x', "this key contains a lone surrogate, so it is not UTF-8", "", id="surrogate"),
    ],
)
def test_a_key_that_is_not_text_is_refused(write: Any, line: str, message: str, hint: str) -> None:
    write(BASE + line + "\n")
    problem = only()
    assert (problem.line, problem.message, problem.hint) == (4, message, hint)


def test_a_merge_key_is_refused_and_quoted_it_is_a_key_like_any_other(write: Any) -> None:
    write(BASE + "llm:\n  type: none\n  <<: {a: b}\n")
    assert text_of() == (
        "config.yaml: 1 problem\n"
        "  line 6, llm.<<: the merge key << is not part of YAML 1.2\n"
        "      use `extends: base.yaml`, or write the keys out"
    )
    write(BASE + 'llm:\n  type: ollama\n  model: m\n  headers: {"<<": b}\n')
    config = load_config("config.yaml")
    assert config.llm.settings["headers"] == {"<<": "b"}
    write(config.to_yaml(), "again.yaml")
    assert load_config("again.yaml") == config


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param("!!python/object/apply:os.system [x]", "the tag !!python/object/apply:os.system", id="call"),
        pytest.param("!!python/name:os.system x", "the tag !!python/name:os.system", id="name"),
        pytest.param("!mine none", "the tag !mine", id="local"),
        pytest.param("!<tag:example.com,2000:x> none", "the tag tag:example.com,2000:x", id="verbatim"),
        pytest.param("!!binary aGVsbG8=", "the tag !!binary", id="binary"),
        pytest.param("!!set {a}", "the tag !!set", id="set"),
        pytest.param("!!omap [a: b]", "the tag !!omap", id="omap"),
    ],
)
def test_a_tag_never_makes_anything_but_plain_data(write: Any, value: str, message: str) -> None:
    write(BASE + f"llm: {value}\n")
    problem = only()
    assert problem.message == f"{message} is not allowed"
    assert problem.hint == "a config is plain data: remove it"
    assert (problem.line, problem.path) == (4, "llm")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param("!!map none", "the tag !!map does not fit: this is one value", id="scalar as map"),
        pytest.param("!!str {type: none}", "the tag !!str does not fit: this is a mapping", id="map as text"),
        pytest.param("!!map [none]", "the tag !!map does not fit: this is a list", id="list as map"),
        pytest.param("!!null none", "this is not null: none", id="text as null"),
        pytest.param("!!bool none", "this is not true or false: none", id="text as bool"),
        pytest.param("!!int none", "this is not a number in range: none", id="text as int"),
        pytest.param("!!int ''", "this is not a number in range: ", id="nothing as int"),
        pytest.param("!!float none", "this is not a number in range: none", id="text as float"),
    ],
)
def test_a_tag_that_does_not_fit_is_not_ignored(write: Any, value: str, message: str) -> None:
    write(BASE + f"llm: {value}\n")
    problem = only()
    assert (problem.line, problem.path, problem.message) == (4, "llm", message)


def test_tags_of_plain_data_that_fit_are_allowed(write: Any) -> None:
    write(
        BASE + "llm: !!map {type: !!str ollama, model: !!str 3}\nretriever: {top_k: !!int '4'}\nrerankers: !!seq []\n"
    )
    config = load_config("config.yaml")
    assert config.llm.settings["model"] == "3"
    assert config.retriever.settings["top_k"] == 4


def test_an_alias_repeats_what_its_anchor_holds(write: Any) -> None:
    write(BASE + "llm: {type: ollama, model: &name qwen, system_prompt: *name}\n")
    assert load_config("config.yaml").llm.settings["system_prompt"] == "qwen"


def test_an_alias_inside_its_own_anchor_is_refused(write: Any) -> None:
    write(BASE + "rerankers: &a [*a]\n")
    assert text_of() == "config.yaml: 1 problem\n  line 4, rerankers[0]: an alias is inside its own anchor"


@pytest.mark.timeout(60)  # 10^12 values would take for ever
def test_aliases_of_aliases_cannot_fill_the_memory(write: Any) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    write("\n".join(rows))
    problem = only()
    assert problem.message == "the file expands to more than 20,000 values"


@pytest.mark.parametrize("brackets", ["[]", "{}"], ids=["lists", "mappings"])
@pytest.mark.parametrize("depth", [60, 5000])
def test_what_is_nested_too_deeply_is_refused(write: Any, brackets: str, depth: int) -> None:
    opening, closing = brackets
    write(BASE + "llm: " + (opening + "a: " if opening == "{" else opening) * depth + "1" + closing * depth + "\n")
    assert only().message == "lists and mappings are nested too deeply"


def test_lone_surrogates_are_no_text(write: Any) -> None:
    write(BASE + 'llm: {type: ollama, model: "\\uD800"}\n')
    problem = only()
    assert (problem.line, problem.column, problem.path) == (4, 28, "llm.model")
    assert problem.message == "this text contains a lone surrogate, so it is not UTF-8"


def test_a_character_that_json_escapes_as_a_pair_is_one(write: Any) -> None:
    write(json.dumps({**MAPPING, "llm": {"type": "ollama", "model": "a😀", "headers": {"😀": "x"}}}))
    settings = load_config("config.yaml").llm.settings
    assert (settings["model"], settings["headers"]) == ("a😀", {"😀": "x"})


def test_a_null_character_is_in_no_text(write: Any) -> None:
    write(BASE.replace("./index", '"a\\0b"'))
    assert text_of() == "config.yaml: 1 problem\n  line 3, store.path: this text contains a null character"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param(".nan", "NaN and infinity are not allowed: nan", id="nan"),
        pytest.param("-.inf", "NaN and infinity are not allowed: -inf", id="infinity"),
        pytest.param("1e999", "NaN and infinity are not allowed: inf", id="overflow"),
        pytest.param("9" * 300, "this whole number is too large to be used", id="300 digits"),
        pytest.param("-" + "9" * 300, "this whole number is too large to be used", id="minus 300 digits"),
        pytest.param("0x" + "f" * 5000, "this whole number is too large to be used", id="5000 hex digits"),
        pytest.param("9" * 5000, f"this is not a number in range: {'9' * 37}...", id="beyond what Python converts"),
    ],
)
def test_a_number_that_nothing_could_use_is_refused(write: Any, value: str, message: str) -> None:
    write(BASE + f"rerankers: [{{type: similarity_cutoff, cutoff: {value}}}]\n")
    assert text_of() == f"config.yaml: 1 problem\n  line 4, rerankers[0].cutoff: {message}"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("no", "no", id="no"),
        pytest.param("off", "off", id="off"),
        pytest.param("2024-01-31", "2024-01-31", id="date"),
        pytest.param("12:30:00", "12:30:00", id="base 60"),
        pytest.param("llama3.2:1b", "llama3.2:1b", id="colon"),
        pytest.param("'3'", "3", id="quoted number"),
        pytest.param("'null'", "null", id="quoted null"),
        pytest.param('"a\\tb"', "a\tb", id="escape"),
        pytest.param("=", "=", id="equals sign"),
    ],
)
def test_text_is_what_yaml_1_2_calls_text(write: Any, text: str, value: str) -> None:
    write(BASE + f"llm: {{type: ollama, model: {text}}}\n")
    config = load_config("config.yaml")
    assert config.llm.settings["model"] == value
    write(config.to_yaml(), "again.yaml")
    assert load_config("again.yaml") == config


# ---------------------------------------------------------------------------------- places


def test_a_value_knows_its_line_and_column(write: Any) -> None:
    write("reader:\n  type: directory\n  path:   ./docs\n  include:\n    - '*.md'\n    - 3\n  hidden: x\n" + BASE[40:])
    found = problems_of()
    assert [(p.line, p.column, p.path) for p in found] == [(6, 7, "reader.include[1]"), (7, 11, "reader.hidden")]


def test_an_unknown_key_is_placed_at_the_key_and_a_wrong_value_at_the_value(write: Any) -> None:
    write(BASE + "llm: {type: ollama, model: m, temperatur: 1, max_tokens: x}\n")
    assert [(p.column, p.path) for p in problems_of()] == [(31, "llm.temperatur"), (58, "llm.max_tokens")]


def test_a_missing_setting_is_placed_at_its_section(write: Any) -> None:
    write(BASE + "\nllm:\n  type: ollama\nrerankers:\n  - type: similarity_cutoff\n")
    assert [(p.line, p.path) for p in problems_of()] == [(5, "llm.model"), (8, "rerankers[0].cutoff")]


def test_a_missing_section_is_placed_at_the_start_of_the_sections(write: Any) -> None:
    write("# comment\n\nreader: {type: directory, path: x}\nstore: {type: faiss, path: x}\n")
    assert text_of() == (
        "config.yaml: 1 problem\n"
        "  line 3, encoder: this section is missing\n"
        "      for example  encoder: {type: huggingface, model: BAAI/bge-small-en-v1.5}"
    )


def test_a_broken_item_does_not_move_the_places_behind_it(write: Any) -> None:
    write(
        BASE + "rerankers:\n  - ${NOPE}\n  - {type: similarity_cutoff, cutoff: x}\n"
        "  - {type: similarity_cutoff, cutoff: .nan}\n"
    )
    assert [(p.line, p.path) for p in problems_of()] == [
        (5, "rerankers[0]"),
        (6, "rerankers[1].cutoff"),
        (7, "rerankers[2].cutoff"),
    ]
    write(BASE.replace("./docs}", "./docs, include: ['${NOPE}', 3]}"))
    assert [(p.path, p.message) for p in problems_of()] == [
        ("reader.include[0]", "the environment variable NOPE is not set"),
        ("reader.include[1]", "text is expected, not 3"),
    ]


def test_a_value_with_a_problem_is_not_called_missing_or_of_a_wrong_type_as_well(write: Any) -> None:
    write(BASE + "llm: {type: ollama, model: '${NOPE}'}\nretriever: {top_k: .nan}\nsync: {on_error: !x y}\n")
    assert [p.path for p in problems_of()] == ["llm.model", "retriever.top_k", "sync.on_error"]
    mapping = {**MAPPING, "llm": {"type": "ollama", "model": "${NOPE}"}, "retriever": {"top_k": float("nan")}}
    assert [p.path for p in problems_of(mapping)] == ["llm.model", "retriever.top_k"]
    assert [p.path for p in problems_of(MAPPING, overrides={"llm": "ollama", "llm.model": "${NOPE}"})] == ["llm.model"]


# ---------------------------------------------------------------------------------- extends


def test_a_file_changes_single_settings_of_the_one_it_extends(write: Any) -> None:
    write(BASE + "llm: {type: ollama, model: llama, max_tokens: 7}\n", "base.yaml")
    write("extends: base.yaml\nllm: {model: qwen}\nretriever: {top_k: 9}\n")
    config = load_config("config.yaml")
    assert (config.llm.settings["model"], config.llm.settings["max_tokens"]) == ("qwen", 7)
    assert config.retriever.settings["top_k"] == 9


@pytest.mark.parametrize(
    ("line", "type", "settings"),
    [
        pytest.param(
            "llm: {type: huggingface, model: x}", "huggingface", {"model": "x", "max_tokens": 256}, id="other"
        ),
        pytest.param("llm: {type: ollama, model: x}", "ollama", {"model": "x", "max_tokens": 7}, id="same"),
        pytest.param("llm: ollama", "ollama", {"model": "llama", "max_tokens": 7}, id="same, bare"),
        pytest.param("llm: none", "none", {}, id="other, bare"),
        pytest.param("llm: {max_tokens: 8}", "ollama", {"model": "llama", "max_tokens": 8}, id="no type"),
        pytest.param("llm: {headers: {b: y}}", "ollama", {"headers": {"a": "x", "type": "z", "b": "y"}}, id="deeper"),
        pytest.param("llm: {headers: {type: y}}", "ollama", {"headers": {"a": "x", "type": "y"}}, id="a key 'type'"),
        pytest.param("llm: {headers: null}", "ollama", {"headers": None}, id="null"),
    ],
)
def test_a_section_of_another_type_replaces_the_old_one_whole(
    write: Any, line: str, type: str, settings: dict[str, Any]
) -> None:
    write(
        BASE + "llm: {type: ollama, model: llama, max_tokens: 7, headers: {a: x, type: z}}\n",
        "base.yaml",
    )
    write(f"extends: base.yaml\n{line}\n")
    llm = load_config("config.yaml").llm
    assert llm.type == type
    assert {key: llm.settings[key] for key in settings} == settings


def test_a_bare_type_in_the_base_can_be_given_settings(write: Any) -> None:
    write(BASE + "chunker: token\n", "base.yaml")
    write("extends: base.yaml\nchunker: {chunk_size: 9}\n")
    chunker = load_config("config.yaml").chunker
    assert (chunker.type, chunker.settings["chunk_size"]) == ("token", 9)


@pytest.mark.parametrize(
    ("line", "type", "settings"),
    [
        pytest.param("chunker: none", "none", {}, id="other, bare"),
        pytest.param("chunker: {type: none}", "none", {}, id="other"),
        pytest.param("chunker: sentence", "sentence", {"chunk_size": 9, "chunk_overlap": None}, id="same, bare"),
        pytest.param("chunker: {type: sentence}", "sentence", {"chunk_size": 9, "chunk_overlap": None}, id="same"),
        pytest.param("chunker: {chunk_overlap: 3}", "sentence", {"chunk_size": 9, "chunk_overlap": 3}, id="no type"),
    ],
)
def test_a_section_of_a_default_type_is_of_that_type(
    write: Any, line: str, type: str, settings: dict[str, Any]
) -> None:
    write(BASE + "chunker: {chunk_size: 9}\n", "base.yaml")
    write(f"extends: base.yaml\n{line}\n")
    chunker = load_config("config.yaml").chunker
    own = {name: value for name, value in chunker.settings.items() if name not in chunker.component.common}
    assert (chunker.type, own) == (type, settings)


def test_an_override_of_a_default_type_drops_its_settings(write: Any) -> None:
    write(BASE + "chunker: {chunk_size: 9}\n")
    for overrides in ({"chunker.type": "none"}, {"chunker": "none"}):
        chunker = load_config("config.yaml", overrides=overrides).chunker
        assert set(chunker.settings) == chunker.component.common


def test_a_list_is_replaced_whole(write: Any) -> None:
    write(
        BASE + "rerankers: [{type: similarity_cutoff, cutoff: 0.1}, {type: similarity_cutoff, cutoff: 1}]\n", "b.yaml"
    )
    write("extends: b.yaml\nrerankers: [{type: similarity_cutoff, cutoff: 0.5}]\n")
    assert [part.settings["cutoff"] for part in load_config("config.yaml").rerankers] == [0.5]
    write("extends: b.yaml\nrerankers: []\n")
    assert load_config("config.yaml").rerankers == ()


def test_three_files_in_a_row_keep_their_places_and_their_paths(write: Any, tmp_path: Path) -> None:
    write(BASE + "chunker: {chunk_overlap: x}\nretriever: {top_k: y}\n", "deep/er/c.yaml")
    write("extends: er/c.yaml\nstore: {path: ./elsewhere}\nsync: {batch_size: 0}\n", "deep/b.yaml")
    write("extends: deep/b.yaml\nretriever: {top_k: 3}\nllm: nona\n")
    assert text_of() == (
        "config.yaml: 1 problem\n"
        "  line 3, llm.type: no llm is called 'nona'\n"
        "      did you mean 'none'?  (also: ollama, huggingface)\n"
        "deep/b.yaml: 1 problem\n"
        "  line 3, sync.batch_size: must be more than 0, not 0\n"
        "deep/er/c.yaml: 1 problem\n"
        "  line 4, chunker.chunk_overlap: a whole number or null is expected, not the text 'x'"
    )
    write(BASE, "deep/er/c.yaml")
    write("extends: er/c.yaml\nstore: {path: ./elsewhere}\n", "deep/b.yaml")
    write("extends: deep/b.yaml\n")
    config = load_config("config.yaml")
    assert config.reader is not None
    assert config.store is not None
    assert config.reader.settings["path"] == tmp_path / "deep/er/docs"
    assert config.store.settings["path"] == tmp_path / "deep/elsewhere"


def test_a_missing_base_is_told_at_the_extends_that_names_it_and_nothing_is_called_missing(write: Any) -> None:
    write("retriever: {top_k: 3}\nllm: {max_tokens: 3}\nchunker: {size: 3}\nextends: sub/nope.yaml\n")
    assert text_of() == (
        "config.yaml: 1 problem\n"
        "  line 4, extends: 'sub/nope.yaml': there is no such file\n"
        "      a relative path is relative to the file that names it"
    )


def test_a_broken_base_is_told_by_its_own_name_and_line_beside_the_problems_of_the_file(write: Any) -> None:
    write("reader: {\n", "sub/base.yaml")
    write("extends: sub/base.yaml\nllm: nona\nretriever: {type: vector, top_k: x}\n")
    assert [(p.file, p.line, p.path) for p in problems_of()] == [
        ("config.yaml", 2, "llm.type"),
        ("config.yaml", 3, "retriever.top_k"),
        ("sub/base.yaml", 2, ""),
    ]


@pytest.mark.parametrize(
    ("value", "message", "hint"),
    [
        pytest.param(
            "config.yaml",
            "the files extend each other in a cycle: config.yaml → config.yaml",
            "remove one of these `extends`",
            id="itself",
        ),
        pytest.param(
            "link.yaml",
            "the files extend each other in a cycle: config.yaml → config.yaml",
            "remove one of these `extends`",
            id="itself by a link",
        ),
        pytest.param("folder", "'folder': this is a directory, not a file", "", id="a directory"),
        pytest.param("[base.yaml]", "the path of a file is expected, not a list", "", id="a list"),
        pytest.param("3", "the path of a file is expected, not 3", "", id="a number"),
        pytest.param("''", "the path of a file is expected, not the text ''", "", id="empty"),
        pytest.param('"a\\0b"', "this text contains a null character", "", id="null character"),
        pytest.param(
            "${NOPE}", "the environment variable NOPE is not set", "set it, or give a default: ${NOPE:-...}", id="unset"
        ),
    ],
)
def test_an_extends_that_leads_nowhere_is_one_problem(write: Any, value: str, message: str, hint: str) -> None:
    Path("folder").mkdir()
    os.symlink("config.yaml", "link.yaml")
    write(f"llm: none\nextends: {value}\n")
    assert problems_of() == [Problem("config.yaml", 2, 10, "extends", message, hint)]


def test_a_circle_of_files_is_shown(write: Any) -> None:
    write("extends: sub/b.yaml\n")
    write("extends: ../c.yaml\n", "sub/b.yaml")
    write("extends: sub/b.yaml\n", "c.yaml")
    assert text_of() == (
        "c.yaml: 1 problem\n"
        "  line 1, extends: the files extend each other in a cycle: sub/b.yaml → c.yaml → sub/b.yaml\n"
        "      remove one of these `extends`"
    )


def test_a_file_may_be_extended_by_two_others_in_one_chain_of_different_folders(write: Any, tmp_path: Path) -> None:
    write(BASE, "a/base.yaml")
    write("extends: ../a/base.yaml\n", "b/base.yaml")
    write(f"extends: {tmp_path}/b/base.yaml\n")
    reader = load_config("config.yaml").reader
    assert reader is not None
    assert reader.settings["path"] == tmp_path / "a/docs"


def test_the_value_of_a_variable_in_extends_is_not_shown(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAME", "s3cret.yaml")
    write("extends: ${NAME}\n")
    assert only().message == "'${NAME}': there is no such file"
    write("extends: ${NAME}\n", "s3cret.yaml")
    assert "s3cret" not in text_of()
    write(BASE + "llm: nona\n", "s3cret.yaml")
    assert "s3cret" not in text_of()


# ---------------------------------------------------------------------------------- ${NAME}


def model_of(text: str, **options: Any) -> Any:
    Path("config.yaml").write_text(BASE + "llm:\n  type: ollama\n  model: " + text + "\n", encoding="utf-8")
    return load_config("config.yaml", **options).llm.settings["model"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("${NAME}", "qwen", id="alone"),
        pytest.param("a-${NAME}-b", "a-qwen-b", id="inside"),
        pytest.param("${NAME}${NAME}", "qwenqwen", id="twice"),
        pytest.param("${NOPE:-llama}", "llama", id="default"),
        pytest.param("${NAME:-llama}", "qwen", id="default not needed"),
        pytest.param("${EMPTY:-llama}", "llama", id="empty counts as unset where there is a default"),
        pytest.param("x${NOPE:-}", "x", id="empty default"),
        pytest.param("x${EMPTY}", "x", id="empty"),
        pytest.param("${NOPE:-a:-b}", "a:-b", id="default with the separator"),
        pytest.param("a$$b", "a$$b", id="two dollars"),
        pytest.param("a$b $ c", "a$b $ c", id="one dollar"),
        pytest.param("$${NAME}", "${NAME}", id="not a variable"),
        pytest.param("$$${NAME}", "$${NAME}", id="dollar before a plain brace"),
        pytest.param("$NAME", "$NAME", id="no braces"),
        pytest.param("'${NUMBER}'", "3", id="quoted number is text"),
        pytest.param('"${NUMBER}"', "3", id="double quoted number is text"),
        pytest.param("|\n    ${NUMBER}", "3\n", id="block is text"),
        pytest.param("${NESTED}", "${NAME}", id="never expanded again"),
        pytest.param("${STRUCTURE}", "{type: none}", id="never structure"),
        pytest.param("${LINES}", "a\nb: c", id="never lines"),
        pytest.param("${COMMENT}", "a #b", id="never a comment"),
        pytest.param("${TAG}", "!!python/name:os.system", id="never a tag"),
        pytest.param("${ALIAS}", "*a", id="never an alias"),
    ],
)
def test_a_variable_is_replaced_and_nothing_more(monkeypatch: pytest.MonkeyPatch, text: str, value: str) -> None:
    for name, content in {
        "NAME": "qwen",
        "EMPTY": "",
        "NUMBER": "3",
        "NESTED": "${NAME}",
        "STRUCTURE": "{type: none}",
        "LINES": "a\nb: c",
        "COMMENT": "a #b",
        "TAG": "!!python/name:os.system",
        "ALIAS": "*a",
    }.items():
        monkeypatch.setenv(name, content)
    assert model_of(text) == value
    config = load_config("config.yaml")
    Path("again.yaml").write_text(config.to_yaml(), encoding="utf-8")
    assert load_config("again.yaml") == config


@pytest.mark.parametrize(
    ("content", "value"),
    [("3", 3), ("0x10", 16), ("${NOPE}", None)],
    ids=["number", "hexadecimal", "text"],
)
def test_a_bare_variable_is_typed_like_any_scalar(
    write: Any, monkeypatch: pytest.MonkeyPatch, content: str, value: int | None
) -> None:
    monkeypatch.setenv("NAME", content)
    write(BASE + "retriever:\n  top_k: ${NAME}\n")
    if value is not None:
        assert load_config("config.yaml").retriever.settings["top_k"] == value
    else:
        assert text_of() == (
            "config.yaml: 1 problem\n  line 5, retriever.top_k: a whole number is expected, not the value of ${NAME}"
        )


@pytest.mark.parametrize(
    ("content", "value"), [("true", True), ("null", None), ("", None)], ids=["true", "null", "empty"]
)
def test_a_bare_variable_can_be_true_or_null(
    write: Any, monkeypatch: pytest.MonkeyPatch, content: str, value: bool | None
) -> None:
    monkeypatch.setenv("NAME", content)
    write(BASE + "llm:\n  type: ollama\n  model: m\n  thinking: ${NAME}\n")
    assert load_config("config.yaml").llm.settings["thinking"] is value


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        pytest.param(
            "${NOPE}", "the environment variable NOPE is not set", "set it, or give a default: ${NOPE:-...}", id="unset"
        ),
        pytest.param(
            "a ${NAME b", "${NAME b is never closed", "write ${NAME}; a plain ${ is written $${", id="unclosed"
        ),
        pytest.param(
            "${NAME:-x", "${NAME:-x is never closed", "write ${NAME}; a plain ${ is written $${", id="in default"
        ),
        pytest.param(
            "|\n    ${NAME\n    " + "x" * 99,
            "${NAME is never closed",
            "write ${NAME}; a plain ${ is written $${",
            id="over lines",
        ),
        pytest.param(
            "${}",
            "${} is not the name of an environment variable",
            "write ${NAME} or ${NAME:-default}; a plain ${ is $${",
            id="no name",
        ),
        pytest.param(
            "${A B}",
            "${A B} is not the name of an environment variable",
            "write ${NAME} or ${NAME:-default}; a plain ${ is $${",
            id="space",
        ),
        pytest.param(
            "${1A}",
            "${1A} is not the name of an environment variable",
            "write ${NAME} or ${NAME:-default}; a plain ${ is $${",
            id="digit",
        ),
        pytest.param(
            "${NAME-x}",
            "${NAME-x} is not the name of an environment variable",
            "write ${NAME} or ${NAME:-default}; a plain ${ is $${",
            id="another shell's default",
        ),
        pytest.param("${A:-${B}}", "a default cannot contain another ${...}", "write the default out", id="nested"),
    ],
)
def test_a_variable_that_cannot_be_replaced_is_a_problem_at_its_place(text: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        model_of(text)
    assert caught.value.problems == [Problem("config.yaml", 6, 10, "llm.model", message, hint)]


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        pytest.param("inf", None, "", id="a word"),
        pytest.param(".inf", "NaN and infinity are not allowed: the value of ${NAME}", "", id="infinity"),
        pytest.param(
            "9" * 50,
            "this number is out of range: the value of ${NAME}",
            "if it is text, put it in quotes: '${NAME}'",
            id="many digits",
        ),
        pytest.param(
            "9" * 5000,
            "this number is out of range: the value of ${NAME}",
            "if it is text, put it in quotes: '${NAME}'",
            id="too many digits",
        ),
        pytest.param(
            "12345",
            "text is expected, not the value of ${NAME}",
            'put it in quotes, so that it stays text: "${NAME}"',
            id="a number for text",
        ),
        pytest.param("", "text is expected, not the value of ${NAME}, which is empty", "", id="empty"),
        pytest.param(
            "\udcff",
            "the value of ${NAME} contains a lone surrogate, so it is not UTF-8",
            "",
            id="not UTF-8",
        ),
    ],
)
def test_a_value_from_the_environment_that_does_not_fit_is_told_without_showing_it(
    monkeypatch: pytest.MonkeyPatch, content: str, message: str | None, hint: str
) -> None:
    monkeypatch.setenv("NAME", content)
    if message is None:
        assert model_of("${NAME}") == content
        return
    with pytest.raises(ConfigError) as caught:
        model_of("${NAME}")
    assert caught.value.problems == [Problem("config.yaml", 6, 10, "llm.model", message, hint)]


def test_a_quoted_variable_where_a_number_belongs_says_to_drop_the_quotes(
    write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAME", "3")
    write(BASE + "retriever: {top_k: '${NAME}'}\n")
    assert text_of() == (
        "config.yaml: 1 problem\n"
        "  line 4, retriever.top_k: a whole number is expected, not the value of ${NAME}\n"
        "      write ${NAME} without quotes: a quoted value is text"
    )


def test_keys_are_never_expanded(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAME", "llm")
    write(BASE + '"${NAME}": none\n')
    assert only().message == "no section is called '${NAME}'"


def test_what_came_from_the_environment_is_concealed_in_any_text() -> None:
    node = ScalarNode("sk-1'x", SourceLocation("f"), Path(), "k=${KEY}", True, (("${KEY}", "sk-1'x"),))
    number = ScalarNode(3, SourceLocation("f"), Path(), "${N}", False, (("${N}", "03"),))
    table = MappingNode({}, SourceLocation("f"), Path())
    assert redact("bad url http://sk-1'x@host", node) == "bad url http://${KEY}@host"
    assert redact(f"bad {node.value!r}", node) == 'bad "${KEY}"'
    assert redact("3 of 13, 03", number) == "${N} of 13, ${N}"
    assert redact("unchanged", table) == "unchanged"
    assert "sk-1" not in repr(node)


# ---------------------------------------------------------------------------------- overrides


FULL = BASE + "llm: {type: ollama, model: llama, max_tokens: 7}\nrerankers: [{type: similarity_cutoff, cutoff: 0.1}]\n"


@pytest.mark.parametrize(
    ("overrides", "type", "settings"),
    [
        pytest.param({"llm.model": "qwen"}, "ollama", {"model": "qwen", "max_tokens": 7}, id="one setting"),
        pytest.param({"llm.type": "none"}, "none", {}, id="type drops the old settings"),
        pytest.param({"llm.type": "ollama"}, "ollama", {"model": "llama", "max_tokens": 7}, id="same type keeps them"),
        pytest.param(
            {"llm.model": "x", "llm.type": "huggingface"}, "huggingface", {"model": "x", "max_tokens": 256}, id="first"
        ),
        pytest.param(
            {"llm.type": "huggingface", "llm.model": "x"}, "huggingface", {"model": "x", "max_tokens": 256}, id="last"
        ),
        pytest.param({"llm": "none"}, "none", {}, id="section by its bare type"),
        pytest.param(
            {"llm.model": "x", "llm": {"type": "huggingface", "model": "y", "max_tokens": 9}},
            "huggingface",
            {"model": "x", "max_tokens": 9},
            id="section, then a setting in it",
        ),
        pytest.param({"llm.headers.a.b": "x"}, "ollama", {}, id="deeper than it goes"),
        pytest.param({"llm.headers": {"type": "x"}, "llm.headers.b": "y"}, "ollama", {}, id="a key 'type' below"),
    ],
)
def test_an_override_follows_the_rules_of_extends_in_any_order(
    write: Any, overrides: dict[str, Any], type: str, settings: dict[str, Any]
) -> None:
    write(FULL)
    if "llm.headers.a.b" in overrides:
        problem = only(overrides=overrides)
        assert str(problem) == "llm.headers.a: text is expected, not a mapping"
        return
    llm = load_config("config.yaml", overrides=overrides).llm
    assert llm.type == type
    assert {key: llm.settings[key] for key in settings} == settings
    if "llm.headers" in overrides:
        assert llm.settings["headers"] == {"type": "x", "b": "y"}


def test_an_override_makes_what_is_not_there_yet(write: Any) -> None:
    write(BASE + "chunker: token\n")
    config = load_config("config.yaml", overrides={"chunker.chunk_size": 9, "retriever.top_k": 2})
    assert (config.chunker.type, config.chunker.settings["chunk_size"]) == ("token", 9)
    assert config.retriever.settings["top_k"] == 2


@pytest.mark.parametrize("path", ["rerankers.0.cutoff", "rerankers[0].cutoff"])
def test_an_override_reaches_into_a_list(write: Any, path: str) -> None:
    write(FULL)
    assert load_config("config.yaml", overrides={path: 0.7}).rerankers[0].settings["cutoff"] == 0.7


def test_an_override_replaces_an_item_by_one_of_another_type(write: Any) -> None:
    write(FULL)
    reorder = "llama_index.core.postprocessor.LongContextReorder"
    config = load_config("config.yaml", overrides={"rerankers.0.type": reorder})
    assert [part.type for part in config.rerankers] == [reorder]


def test_an_override_of_one_of_two_broken_items_leaves_the_other_broken(write: Any) -> None:
    write(BASE + "rerankers:\n  - ${NOPE}\n  - ${NOPE}\n")
    override = {"rerankers.0": {"type": "similarity_cutoff", "cutoff": 1}}
    assert [p.path for p in problems_of(overrides=override)] == ["rerankers[0]", "rerankers[1]"]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        pytest.param(
            {"rerankers.1.cutoff": 1},
            "rerankers.1.cutoff: there is no item '1': the list has 1 item\n    items count from 0",
            id="beyond the list",
        ),
        pytest.param(
            {"rerankers.-1.cutoff": 1},
            "rerankers.-1.cutoff: there is no item '-1': the list has 1 item\n    items count from 0",
            id="minus",
        ),
        pytest.param(
            {"rerankers.²": 1}, "rerankers.²: there is no item '²': the list has 1 item\n    items count from 0", id="²"
        ),
        pytest.param(
            {"rerankers." + "9" * 5000: 1},
            f"rerankers.{'9' * 5000}: there is no item '{'9' * 5000}': the list has 1 item\n    items count from 0",
            id="5000 digits",
        ),
        pytest.param(
            {"rerankers[0].cutoff": "x"}, "rerankers[0].cutoff: a number is expected, not the text 'x'", id="x"
        ),
        pytest.param(
            {"llm.modl": "x"}, "llm.modl: llm 'ollama' has no such setting\n    did you mean 'model'?", id="typo"
        ),
        pytest.param({"lm.model": "x"}, "lm: no section is called 'lm'\n    did you mean 'llm'?", id="section"),
        pytest.param(
            {"": 1},
            "'' is not the path of a setting\n    write it as section.setting, such as llm.model",
            id="empty",
        ),
        pytest.param(
            {"llm..model": 1},
            "llm..model: 'llm..model' is not the path of a setting\n    write it as section.setting, such as llm.model",
            id="two dots",
        ),
        pytest.param({"extends": "x"}, "extends: extends cannot be overridden", id="extends"),
        pytest.param({3: "x"}, "3: no section is called '3'", id="no text"),
        pytest.param({"llm.model": None}, "llm.model: text is expected, not nothing", id="null"),
        pytest.param({"llm.model.x": "y"}, "llm.model: text is expected, not a mapping", id="through text"),
        pytest.param(
            {"llm.model": "${NOPE}"},
            "llm.model: the environment variable NOPE is not set\n    set it, or give a default: ${NOPE:-...}",
            id="unset",
        ),
        pytest.param(
            {"llm": object()},
            "llm: an object of type object cannot be part of a config\n"
            "    pass ready objects to build_engine by slot name: build_engine(config, llm=my_llm)",
            id="object",
        ),
    ],
)
def test_a_wrong_override_is_told_at_the_override(write: Any, overrides: Any, expected: str) -> None:
    write(FULL)
    problem = only(overrides=overrides)
    assert (problem.file, problem.line, problem.column) == ("overrides", None, None)
    assert str(problem).startswith(expected)


def test_an_override_can_mend_a_file(write: Any) -> None:
    write(FULL.replace("max_tokens: 7", "max_tokens: x"))
    assert load_config("config.yaml", overrides={"llm.max_tokens": 9}).llm.settings["max_tokens"] == 9


def test_a_relative_path_in_an_override_is_relative_to_the_working_directory(write: Any, tmp_path: Path) -> None:
    write(BASE, "sub/config.yaml")
    config = load_config("sub/config.yaml", overrides={"store.path": "./here"})
    assert config.store is not None
    assert config.store.settings["path"] == tmp_path / "here"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("3", 3, id="number"),
        pytest.param("'3'", "3", id="quoted"),
        pytest.param("[a, b]", ["a", "b"], id="list"),
        pytest.param("{a: {b: 1}}", {"a": {"b": 1}}, id="mapping"),
        pytest.param("true", True, id="true"),
        pytest.param("", None, id="nothing"),
        pytest.param("http://localhost:1", "http://localhost:1", id="url"),
        pytest.param("${NOPE:-4}", 4, id="default"),
    ],
)
def test_the_text_of_a_command_line_override_is_yaml(text: str, value: Any) -> None:
    source = read_source({}, {"a.b": text}, default_types={}, override_name="--set", parse_overrides=True)
    assert source.problems == []
    assert to_python(source.root) == {"a": {"b": value}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("[a", "a comma or the closing ] is missing", id="bracket"),
        pytest.param("'a", "a quote is opened here and never closed", id="quote"),
        pytest.param("!!python/name:os.system x", "the tag !!python/name:os.system is not allowed", id="tag"),
        pytest.param(".nan", "NaN and infinity are not allowed: nan", id="nan"),
        pytest.param("a\n---\nb", "a second document starts here", id="documents"),
    ],
)
def test_bad_yaml_in_an_override_is_told_without_a_line(text: str, message: str) -> None:
    source = read_source({}, {"a.b": text}, default_types={}, override_name="--set", parse_overrides=True)
    assert [(p.file, p.line, p.path, p.message) for p in source.problems] == [("--set", None, "a.b", message)]


def test_what_was_read_can_be_overridden_again_and_keeps_its_places(write: Any) -> None:
    write(BASE)
    first = read_source("config.yaml", default_types={})
    second = read_source(first, {"llm": "none"}, default_types={})
    assert isinstance(second, Source)
    assert second.name == "config.yaml"
    assert second.root.entries["store"].key_location == SourceLocation("config.yaml", 3, 1)
    assert second.root.entries["llm"].key_location == SourceLocation("overrides")


# ---------------------------------------------------------------------------------- mappings


class Kind(str, enum.Enum):
    NONE = "none"


class Count(enum.IntEnum):
    FOUR = 4


@pytest.mark.parametrize(
    ("changes", "value"),
    [
        pytest.param({"llm": Kind.NONE, "retriever": {"top_k": Count.FOUR}}, 4, id="enums"),
        pytest.param({"retriever": {"top_k": np.int64(4)}}, 4, id="numpy"),
        pytest.param({"rerankers": ({"type": "similarity_cutoff", "cutoff": np.float32(0.5)},)}, 5, id="tuple"),
        pytest.param({"store": {"type": "faiss", "path": Path("x")}}, 5, id="path"),
    ],
)
def test_a_mapping_may_hold_what_python_calls_text_number_list_and_path(changes: Any, value: int) -> None:
    config = load_config({**MAPPING, **changes})
    assert config.retriever.settings["top_k"] == value
    Path("again.yaml").write_text(config.to_yaml(), encoding="utf-8")
    assert load_config("again.yaml") == config


def test_a_mapping_is_relative_to_the_working_directory_and_may_extend_a_file(write: Any, tmp_path: Path) -> None:
    write(BASE, "sub/base.yaml")
    config = load_config({"extends": "sub/base.yaml", "store": {"path": "./here"}})
    assert config.reader is not None
    assert config.store is not None
    assert config.reader.settings["path"] == tmp_path / "sub/docs"
    assert config.store.settings["path"] == tmp_path / "here"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({3: 4}, "keys are text, not 3", id="key"),
        pytest.param({"llm": {"type": "none", None: 1}}, "llm: keys are text, not None", id="deeper key"),
        pytest.param({"retriever": {"top_k": 10**5000}}, "retriever.top_k: this whole number is too large", id="large"),
        pytest.param({"llm": {"type": "\ud800"}}, "llm.type: this text contains a lone surrogate", id="surrogate"),
        pytest.param({"rerankers": {1}}, "rerankers: an object of type set cannot be part of a config", id="set"),
        pytest.param({"llm": b"none"}, "llm: an object of type bytes cannot be part of a config", id="bytes"),
        pytest.param({"extends": "nope.yaml"}, "extends: 'nope.yaml': there is no such file", id="extends"),
    ],
)
def test_a_wrong_mapping_is_told_by_path(changes: Any, expected: str) -> None:
    problem = only({**MAPPING, **changes})
    assert (problem.file, problem.line) == ("the mapping", None)
    assert str(problem).startswith(expected)


def test_a_mapping_that_holds_itself_or_is_too_deep_is_refused() -> None:
    circle: dict[str, Any] = dict(MAPPING)
    circle["llm"] = circle
    assert str(only(circle)) == "llm: the data contains itself"
    deep: Any = 1
    for _ in range(2000):
        deep = [deep]
    headers = {"type": "ollama", "model": "m", "headers": {"a": deep}}
    assert only({**MAPPING, "llm": headers}).message == "lists and mappings are nested too deeply"


def test_an_empty_mapping_lacks_its_sections() -> None:
    assert [p.path for p in problems_of({})] == ["reader", "encoder", "store"]


# ---------------------------------------------------------------------------------- time


@pytest.mark.slow
@pytest.mark.timeout(240)  # quadratic time would be hours
def test_no_text_of_any_kind_takes_quadratic_time(write: Any) -> None:
    generator = random.Random(5)
    noise = "".join(generator.choice("ab:{}[],'\"#&*!|>-? \n$") for _ in range(60_000))
    for text in (noise, "${" * 60_000, "# x\n" * 60_000, "%YAML" * 20_000, "a: &a\n" * 9_000, " " * 500_000):
        write(text)
        problems_of()

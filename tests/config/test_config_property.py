"""Whatever is done to a valid config: the outcome is a config in which nothing is ignored, or located problems.

Hypothesis breaks the shipped configs and generated ones at the level of bytes, lines and values. YAML is parsed a
second time by ruamel alone, which knows nothing of this project, to see what the file really says.
"""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
import types
import typing
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.error import ReusedAnchorWarning, YAMLError
from ruamel.yaml.nodes import MappingNode

from rag_plugin import Config, ConfigError, load_config
from rag_plugin.components.registry.find import find
from rag_plugin.components.registry.slots import SLOTS
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

few = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck), max_examples=60)
many = settings(few, max_examples=200)


def _without_comments(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return "".join(line + "\n" for line in lines if line.strip() and not line.lstrip().startswith("#"))


TEXTS = [_without_comments(path) for path in sorted((ROOT / "configs").glob("*.yaml"))]
TEXTS.append(
    """\
reader: {type: directory, path: ./docs, include: ["**/*.md", '!x'], hidden: false}
chunker: {chunk_size: 200, chunk_overlap: 20}
encoder: {type: huggingface, model: ./model, batch_size: 8, pooling: null}
store: &store
  type: faiss
  path: ${RAG_PATH:-./index}
llm:
  type: ollama
  model: "llama$$3"
  temperature: 0.5
  headers: {Authorization: 'Bearer ${RAG_PATH:-none}', X-Number: "3"}
rerankers:
  - {type: similarity_cutoff, cutoff: 1e-2}
  - type: similarity_cutoff
    cutoff: -1
synthesizer: {type: tree_summarize, summary_template: "{context_str}\\n{query_str} {{x}}"}
sync: {on_error: stop, batch_size: 0x10}
"""
)
_folder = tempfile.TemporaryDirectory(prefix="rag-plugin-property-")
FOLDER = Path(os.path.realpath(_folder.name))


@pytest.fixture(autouse=True, scope="module")
def _clean() -> Iterator[None]:
    yield
    _folder.cleanup()


# ---------------------------------------------------------------------------------- what may come out


class _Plain(YAML):
    """YAML 1.2 as ruamel reads it, dates left as text."""

    def __init__(self) -> None:
        super().__init__(typ="safe", pure=True)
        self.constructor.add_constructor(
            "tag:yaml.org,2002:timestamp", lambda constructor, node: constructor.construct_scalar(node)
        )


@contextmanager
def anchors_may_repeat() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReusedAnchorWarning)
        yield


def outcome(content: bytes) -> Config | ConfigError:
    """What loading `content` gives; any exception but `ConfigError` fails the test."""
    path = FOLDER / "config.yaml"
    path.write_bytes(content)
    try:
        config = load_config(path)
    except ConfigError as error:
        check_problems(error, content)
        return error
    with anchors_may_repeat():
        data = _Plain().load(content.decode("utf-8-sig"))
    check_nothing_is_ignored(config, data)
    check_round_trip(config)
    return config


def check_problems(error: ConfigError, content: bytes) -> None:
    assert error.problems
    assert str(error)
    parsed = is_sections(content)
    lines = len(content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"))
    for problem in error.problems:
        assert problem.file
        assert problem.message.strip()
        assert "object at 0x" not in str(problem)
        if parsed:
            assert problem.line is not None, problem
        if problem.line is not None:
            assert 1 <= problem.line <= lines, problem
            assert problem.column is not None
            assert problem.column >= 1
    assert len(set(error.problems)) == len(error.problems)


def is_sections(content: bytes) -> bool:
    """Whether ruamel alone can read this as one mapping."""
    yaml = YAML(typ="safe", pure=True)
    try:
        with anchors_may_repeat():
            return isinstance(yaml.compose(content.decode("utf-8-sig")), MappingNode)
    except (YAMLError, ValueError, OverflowError, RecursionError, IndexError, AttributeError):
        return False


def scalars(data: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield from scalars(value, (*path, key))
    elif isinstance(data, list):
        for i, value in enumerate(data):
            yield from scalars(value, (*path, i))
    else:
        yield path, data


def check_nothing_is_ignored(config: Config, written: Any) -> None:
    """Every scalar of the file is found again in the dump, at its own path."""
    dumped = dict(scalars(_Plain().load(config.to_yaml())))
    for path, value in scalars(written):
        section_alone = len(path) == 1 or (path[0] == "rerankers" and len(path) == 2)
        found = dumped[(*path, "type")] if section_alone else dumped[path]
        assert same(value, found), (path, value, found)


def same(written: Any, dumped: Any) -> bool:
    if not isinstance(written, str) or not isinstance(dumped, str):
        # 1 is a number where 1.0 is expected, and true is never 1.
        return written == dumped and isinstance(written, bool) == isinstance(dumped, bool)
    plain, shown = written.replace("$${", "${"), dumped.replace("$${", "${")
    located = os.path.abspath(os.path.join(FOLDER, os.path.expanduser(plain)))
    return shown in (plain, located, f"{FOLDER}/{plain}")


def check_round_trip(config: Config) -> None:
    again = FOLDER / "elsewhere" / "again.yaml"
    again.parent.mkdir(exist_ok=True)
    again.write_text(config.to_yaml(), encoding="utf-8")
    reloaded = load_config(again)
    assert reloaded == config
    assert reloaded.to_yaml() == config.to_yaml()


# ---------------------------------------------------------------------------------- bytes and lines


CHARACTERS = st.one_of(
    st.sampled_from(list(":{}[],'\"#&*!|>-?%@`~$\\\n\t \r\x00\x07\x85\u2028\ufeff=<3.0é𝄞")),
    st.characters(codec="utf-8"),
)


@many
@given(st.data())
def test_a_text_broken_in_its_characters_is_a_config_or_located_problems(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(TEXTS))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        span = data.draw(st.sampled_from([0, 0, 1, 1, 2, 7, 40]))
        new = data.draw(st.one_of(st.just(""), CHARACTERS, st.just(text[at : at + span] * 2)))
        text = text[:at] + new + text[at + span :]
        assume(text)
    outcome(text.encode())


@few
@given(st.sampled_from(TEXTS), st.data())
def test_bytes_that_are_no_text_are_located_problems(text: str, data: st.DataObject) -> None:
    content = bytearray(text.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    outcome(bytes(content))


@few
@given(st.sampled_from(TEXTS), st.data())
def test_a_truncated_file_is_a_config_or_located_problems(text: str, data: st.DataObject) -> None:
    outcome(text.encode()[: data.draw(st.integers(0, len(text)))])


@many
@given(st.data())
def test_lines_deleted_doubled_swapped_and_moved_give_a_config_or_located_problems(data: st.DataObject) -> None:
    lines = data.draw(st.sampled_from(TEXTS)).splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        i, j = (data.draw(st.integers(0, len(lines) - 1)) for _ in range(2))
        match data.draw(st.integers(0, 6)):
            case 0:
                lines = lines[:i] + lines[i + 1 :]
            case 1:
                lines.insert(j, lines[i])
            case 2:
                lines[i], lines[j] = lines[j], lines[i]
            case 3:
                lines[i] = data.draw(st.sampled_from(["  ", " ", "- ", "\t", "? ", "# ", "x: "])) + lines[i]
            case 4:
                lines[i] = lines[i][data.draw(st.integers(1, 4)) :]
            case 5:
                lines[i] = lines[i].partition(":")[0] + ": " + data.draw(st.sampled_from(VALUES))
            case _:
                lines.insert(i, data.draw(st.sampled_from(VALUES)))
        assume(lines)
    outcome("".join(line + "\n" for line in lines).encode())


VALUES = [
    "",
    "~",
    "3",
    "-1",
    "0.5",
    ".nan",
    "1e999",
    "9" * 30,
    "true",
    "yes",
    "'3'",
    "''",
    "[]",
    "{}",
    "[1, a]",
    "{type: none}",
    "none",
    "${NOPE_HERE}",
    "${NOPE_HERE:-3}",
    "${HOME}",
    "${",
    "$$x",
    "&a b",
    "*store",
    "!!str 3",
    "!!python/name:os.system",
    "2024-01-31",
    "|\n    some\n    text",
    "../..",
    "~/x",
    "---",
    "...",
    "%YAML 1.1",
]


@few
@given(st.binary(max_size=60))
def test_noise_is_located_problems(content: bytes) -> None:
    assert isinstance(outcome(content), ConfigError)


@few
@given(st.text(alphabet=CHARACTERS, max_size=40))
def test_noise_behind_a_valid_config_is_never_another_exception(noise: str) -> None:
    outcome((TEXTS[-1] + noise).encode())


# ---------------------------------------------------------------------------------- values


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(alphabet=CHARACTERS, max_size=12),
    st.sampled_from(
        ["none", "compact", "faiss", "3", "true", "null", "", "~", "${HOME}", "${NOPE_HERE:-x}", "$${a}", "."]
    ),
)
DATA = st.recursive(
    SCALARS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3),
    max_leaves=5,
)


def containers(data: Any) -> Iterator[Any]:
    if isinstance(data, (dict, list)):
        yield data
        for value in list(data.values()) if isinstance(data, dict) else list(data):
            yield from containers(value)


def broken(tree: Any, data: st.DataObject) -> Any:
    """`tree` with one change somewhere in it."""
    places = [place for place in containers(tree) if place]
    assume(places)
    place = data.draw(st.sampled_from(places))
    keys = list(place) if isinstance(place, dict) else list(range(len(place)))
    key = data.draw(st.sampled_from(keys))
    match data.draw(st.integers(0, 6)):
        case 0:
            del place[key]
        case 1:
            place[key] = data.draw(DATA)
        case 2:
            place[key] = {data.draw(st.sampled_from(["type", "x", str(key)])): place[key]}
        case 3:
            place[key] = [place[key]]
        case 4 if isinstance(place, dict):
            place[data.draw(st.text(alphabet=CHARACTERS, max_size=6) | st.just(str(key)[:-1]))] = place.pop(key)
        case 5:
            other = data.draw(st.sampled_from(places))
            values = list(other.values()) if isinstance(other, dict) else list(other)
            place[key] = json.loads(json.dumps(data.draw(st.sampled_from(values))))
        case _:
            value: Any = place[key]
            for _ in range(data.draw(st.sampled_from([2, 60, 400]))):
                value = [value]
            place[key] = value
    return tree


def written(tree: Any) -> str:
    """`tree` as JSON, which is YAML too; NaN and infinity as YAML writes them."""
    text = json.dumps(tree, indent=1)
    for name, yaml in (("NaN", ".nan"), ("-Infinity", "-.inf"), ("Infinity", ".inf")):
        text = re.sub(rf"(?m)^( *(?:\".*\": )?){name}", rf"\1{yaml}", text)
    return text


@many
@given(st.sampled_from(TEXTS), st.data())
def test_values_changed_renamed_nested_and_dropped_give_a_config_or_located_problems(
    text: str, data: st.DataObject
) -> None:
    tree = _Plain().load(text)
    for _ in range(data.draw(st.integers(1, 3))):
        tree = broken(tree, data)
    # ruamel alone takes the two escapes that JSON makes of 😀 for two characters.
    assume(all(ord(character) < 0x10000 for character in json.dumps(tree, ensure_ascii=False)))
    outcome(written(tree).encode())


@many
@given(st.sampled_from(TEXTS), st.data())
def test_a_broken_mapping_gives_a_config_or_problems_by_path(text: str, data: st.DataObject) -> None:
    tree = _Plain().load(text)
    for _ in range(data.draw(st.integers(1, 3))):
        tree = broken(tree, data)
    try:
        config = load_config(tree)
    except ConfigError as error:
        for problem in error.problems:
            assert problem.file
            assert problem.message
            assert problem.line is None or problem.file != "the mapping"
        return
    check_round_trip(config)


OVERRIDE_KEYS = st.lists(
    st.sampled_from(
        ["llm", "type", "model", "rerankers", "0", "1", "[0]", "cutoff", "headers", "sync", "", "x", "store"]
    )
    | st.text(alphabet=CHARACTERS, max_size=4),
    max_size=4,
).map(".".join)


def check_overridden(error: ConfigError, path: Path) -> None:
    assert {problem.file for problem in error.problems} <= {"overrides", str(path)}
    assert all(problem.message for problem in error.problems)


@many
@given(st.sampled_from(TEXTS), st.dictionaries(OVERRIDE_KEYS, DATA, min_size=1, max_size=3))
def test_any_override_gives_a_config_or_problems(text: str, overrides: dict[str, Any]) -> None:
    path = FOLDER / "overridden.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        config = load_config(path, overrides=overrides)
    except ConfigError as error:
        check_overridden(error, path)
        return
    check_round_trip(config)
    assert load_config(load_config(path), overrides=overrides) == config


# ---------------------------------------------------------------------------------- valid configs


WORDS = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


def values_of(annotation: Any, metadata: list[Any]) -> st.SearchStrategy[Any]:
    """Values that a setting of this type takes."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        inner = [part for item in arguments[1:] for part in getattr(item, "metadata", [item])]
        return values_of(arguments[0], [*metadata, *inner])
    if origin in (Union, types.UnionType):
        return st.one_of(*(values_of(argument, metadata) for argument in arguments))
    if origin is Literal:
        return st.sampled_from(arguments)
    if annotation is type(None):
        return st.none()
    if annotation is bool:
        return st.booleans()
    bounds = [
        getattr(item, name) for item in metadata for name in ("gt", "ge") if getattr(item, name, None) is not None
    ]
    above = [getattr(item, name) for item in metadata for name in ("lt", "le") if getattr(item, name, None) is not None]
    if annotation is int:
        return st.integers(max(bounds, default=-(2**40)) + 1, min(above, default=2**63))
    if annotation is float:
        return st.floats(max(bounds, default=-1e9) + 1e-3, min(above, default=1e9))
    if origin in (list, tuple):
        return st.lists(values_of(arguments[0], []), min_size=1, max_size=3)
    if origin is dict:
        return st.dictionaries(WORDS, WORDS, max_size=3)
    if annotation is Path:
        return WORDS
    if any(getattr(item, "pattern", None) for item in metadata):
        return WORDS.map("http://{}".format)
    return WORDS


@st.composite
def sections(draw: st.DrawFn, slot: str) -> dict[str, Any]:
    """A valid section of a built-in type, some settings left at their defaults."""
    name = draw(st.sampled_from(sorted(SLOTS[slot].types)))
    section: dict[str, Any] = {"type": name}
    for key, info in find(slot, name).schema.model_fields.items():
        if key.endswith("_template"):
            continue  # has placeholders of its own
        if info.is_required() or draw(st.booleans()):
            section[key] = draw(values_of(info.annotation, info.metadata))
    if slot == "chunker" and section.get("chunk_overlap") is not None and section.get("chunk_size") is not None:
        section["chunk_overlap"] = min(section["chunk_overlap"], section["chunk_size"] - 1)
    if "parent_sizes" in section:
        section["parent_sizes"] = sorted({*section["parent_sizes"]}, reverse=True)
    if slot == "llm" and name == "ollama":
        section.pop("options", None)  # have names of their own
        if section.get("context_window") is not None:
            section["context_window"] += section.get("max_tokens", 1024)
    if slot == "llm" and name == "huggingface" and not section.get("temperature"):
        section.pop("top_p", None)  # have no effect at temperature 0
        section.pop("top_k", None)
    if "keep_alive" in section:
        section["keep_alive"] = draw(st.sampled_from(["10m", "1h30m", "-1s", -1.0, 300.0, None]))
    if isinstance(section.get("path"), list):
        section["path"] = draw(st.sampled_from([["one"], ["one", "two/$x"]]))
    if "accumulate" in name:
        section.pop("streaming", None)
    if "base_url" in section:
        section["base_url"] = draw(st.sampled_from(["http://gpu:11434", "gpu", "0.0.0.0:1234", "https://a.b/ollama"]))
    return section


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    tree = {slot: draw(sections(slot)) for slot in SLOTS if slot != "reranker"}
    for optional in ("chunker", "llm", "retriever", "synthesizer"):
        if draw(st.booleans()):
            del tree[optional]
    if tree.get("retriever", {}).get("type") in ("hybrid", "lexical"):
        tree["store"].pop("lexical", None)  # without that leg they are a contradiction
    rerankers = draw(st.lists(sections("reranker"), max_size=2))
    if tree.get("retriever", {}).get("type") == "lexical":
        for reranker in rerankers:
            reranker.pop("on", None)  # there is no vector
    return {**tree, "rerankers": rerankers} if rerankers else tree


def escaped(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: escaped(value) for key, value in data.items()}
    if isinstance(data, list):
        return [escaped(value) for value in data]
    return data.replace("${", "$${") if isinstance(data, str) else data


@many
@given(configs())
def test_every_valid_config_loads_says_what_was_written_and_survives_the_round_trip(tree: dict[str, Any]) -> None:
    path = FOLDER / "valid.yaml"
    path.write_text(written(escaped(tree)), encoding="utf-8")
    config = load_config(path)
    for name, section in tree.items():
        for given_section, part in (
            zip(section, config.rerankers) if name == "rerankers" else [(section, config.sections[name])]
        ):
            for key, value in given_section.items():
                found = part.type if key == "type" else part.settings[key]
                if isinstance(found, float):
                    assert math.isclose(found, value, rel_tol=1e-12)
                elif isinstance(value, list) and key == "path":
                    assert found == [FOLDER / item for item in value]
                elif isinstance(found, Path) or (key == "model" and str(found) != value):
                    assert str(found) == os.path.abspath(os.path.join(FOLDER, os.path.expanduser(value)))
                else:
                    assert (list(found) if isinstance(found, tuple) else found) == value
    check_round_trip(config)
    assert load_config(escaped(tree)).llm == config.llm or "model" in tree.get("llm", {})

"""The JSON Schema that lets an editor complete and check a config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from rag_plugin import load_config
from rag_plugin.components.registry.find import find, names
from rag_plugin.components.registry.slots import SECTIONS, SLOTS
from rag_plugin.config.json_schema import json_schema
from rag_plugin.config.reference import components, reference
from tests.config.examples import BASE, ROUND_TRIPS
from tests.conftest import ROOT

SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)


def errors_of(text: str) -> list[str]:
    data = YAML(typ="safe", pure=True).load(text)
    return [error.message for error in VALIDATOR.iter_errors(data)]


def test_the_schema_is_itself_valid() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)


def test_the_schema_in_configs_is_the_one_of_the_code() -> None:
    written = json.loads((ROOT / "configs/schema.json").read_text(encoding="utf-8"))
    assert written == SCHEMA, "renew it:  rag-plugin schema > configs/schema.json"


@pytest.mark.parametrize(
    "path", [*sorted(ROOT.glob("configs/*.yaml")), ROOT / "rag_plugin/templates/config.yaml"], ids=str
)
def test_every_shipped_config_is_valid(path: Path) -> None:
    assert errors_of(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/*.yaml")), ids=lambda path: path.name)
def test_every_shipped_config_names_the_schema_in_its_first_line(path: Path) -> None:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    assert first == "# yaml-language-server: $schema=./schema.json"


@pytest.mark.parametrize("text", ROUND_TRIPS.values(), ids=ROUND_TRIPS)
def test_what_loads_is_valid(text: str) -> None:
    assert errors_of(BASE + text) == []


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("llm: {max_tokens: 3}", id="a part of what the base says"),
        pytest.param("llm: {type: ollama}", id="what a base requires"),
        pytest.param("store: {type: faiss, metric: '${METRIC}'}", id="a choice from the environment"),
        pytest.param("llm: {type: ollama, model: m, base_url: '${URL}'}", id="an address from the environment"),
        pytest.param("retriever:\n  top_k: ${COUNT:-3}", id="a number from the environment"),
        pytest.param("llm: ${KIND}", id="a type from the environment"),
        pytest.param("chunker: llama_index.core.node_parser.SentenceSplitter", id="a class"),
        pytest.param("chunker: {type: 'a.b:C', anything: [1]}", id="a class with settings"),
        pytest.param("rerankers: [{type: similarity_cutoff, cutoff: 1}]", id="a whole number for a number"),
        pytest.param("extends: base.yaml", id="extends"),
        pytest.param("reader: {type: directory, path: x, include: null}", id="null"),
    ],
)
def test_what_may_stand_in_a_config_is_valid(text: str) -> None:
    assert errors_of(text) == []


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("embedding: {type: huggingface}", id="unknown section"),
        pytest.param("chunker: sentense", id="unknown type"),
        pytest.param("chunker: {type: sentense}", id="unknown type in a mapping"),
        pytest.param("reader: directory", id="a bare type that needs settings"),
        pytest.param("retriever: {type: vector, top_k: '3'}", id="number in quotes"),
        pytest.param("retriever: {type: vector, top_k: true}", id="bool"),
        pytest.param("retriever: {type: vector, top_k: 0}", id="range"),
        pytest.param("retriever: {type: vector, topk: 3}", id="unknown setting"),
        pytest.param("store: {type: faiss, path: x, metric: cosin}", id="choice"),
        pytest.param("llm: {type: ollama, model: ''}", id="empty text"),
        pytest.param("llm: {type: ollama, model: 3}", id="number for text"),
        pytest.param("llm: {type: ollama, model: m, headers: {a: 3}}", id="inside a mapping"),
        pytest.param("reader: {type: directory, path: x, include: '*.md'}", id="text for a list"),
        pytest.param("reader: {type: directory, path: x, include: []}", id="empty list"),
        pytest.param("rerankers: {type: similarity_cutoff, cutoff: 1}", id="rerankers is no list"),
        pytest.param("rerankers: [{type: similarity_cutof, cutoff: 1}]", id="unknown reranker"),
        pytest.param("sync: {on_eror: skip}", id="unknown setting of sync"),
        pytest.param("sync: skip", id="sync is text"),
        pytest.param("sync: {batch_size: 0}", id="range of sync"),
        pytest.param("llm: null", id="nothing"),
        pytest.param("llm: []", id="list"),
        pytest.param("extends: [a]", id="extends is a list"),
    ],
)
def test_what_may_not_stand_in_a_config_is_invalid(text: str) -> None:
    assert errors_of(text)


def test_the_schema_offers_every_section_with_words_and_default() -> None:
    properties = SCHEMA["properties"]
    assert set(properties) == {*SECTIONS, "sync", "extends"}
    assert all(item["description"] for item in properties.values())
    config = load_config(MINIMAL)
    for name in ("chunker", "llm", "retriever"):
        assert properties[name]["default"] == config.sections[name].type
    assert "default" not in properties["synthesizer"]  # it follows the LLM


MINIMAL: dict[str, Any] = {
    "reader": {"type": "directory", "path": "x"},
    "encoder": {"type": "huggingface", "model": "m"},
    "store": {"type": "faiss", "path": "x"},
}


def _sections(slot: str) -> list[dict[str, Any]]:
    name = "rerankers" if slot == "reranker" else slot
    schema = SCHEMA["properties"][name]
    return [item for item in schema.get("items", schema)["anyOf"] if "title" in item]


@pytest.mark.parametrize("slot", SLOTS)
def test_every_type_and_setting_is_offered_with_description_and_default(slot: str) -> None:
    offered = {item["title"]: item for item in _sections(slot)}
    assert list(offered) == names(slot)
    for name, schema in offered.items():
        fields = find(slot, name).schema.model_fields
        assert schema["description"]
        assert set(schema["properties"]) == {"type", *fields}
        for key, info in fields.items():
            assert schema["properties"][key]["description"] == info.description
            if not info.is_required() and info.default is not None:
                default = list(info.default) if isinstance(info.default, tuple) else info.default
                assert schema["properties"][key]["default"] == default


def test_the_reference_shows_every_component_and_setting() -> None:
    text = reference()
    for slot in SLOTS:
        for component in components(slot):
            if component.origin == "built in":
                assert f"### `{component.name}`\n\n{component.summary}\n" in text
                assert all(f"| `{key}` | " in text for key in component.schema.model_fields)
    assert all(line.count("|") - line.count("\\|") == 5 for line in text.splitlines() if line.startswith("| `"))

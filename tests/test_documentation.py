"""What the README and docs/ show works: their Python and YAML blocks are run, their tables are fresh."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from rag_plugin import load_config
from rag_plugin.config.reference import reference
from tests.conftest import DOCUMENTS, MINILM, ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BASE = {
    "reader": {"type": "directory", "path": "./docs"},
    "encoder": {"type": "huggingface", "model": MINILM},
    "store": {"type": "faiss", "path": "./index"},
}


def blocks(language: str) -> list[Any]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, match.start()) + 1
            found.append(pytest.param(match[1], id=f"{page.name}:{line}"))
    return found


@pytest.fixture
def as_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with documents and a config.yaml, and the present directory in it."""
    for name, text in DOCUMENTS.items():
        path = tmp_path / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "config.yaml").write_text(
        "reader: {type: directory, path: ./docs}\n"
        f"encoder: {{type: huggingface, model: '{MINILM}'}}\n"
        "store: {type: faiss, path: ./index}\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_run(
    code: str, as_a_user: Path, minilm: Any, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    import rag_plugin
    from tests.fakes import EchoLLM

    # What a reader of the page would have at hand: an LLM, an encoder, an index that was built.
    plain = rag_plugin.build_engine

    def with_parts(config: Any, **parts: Any) -> Any:
        return plain(config, **{"llm": EchoLLM(), "encoder": minilm, **parts})

    if "sync=" in code:
        with_parts("config.yaml")
    monkeypatch.setattr(rag_plugin, "build_engine", with_parts)
    exec(compile(code, request.node.name, "exec"), {"my_llm": EchoLLM(), "my_encoder": minilm})


@pytest.mark.parametrize("text", blocks("yaml"))
def test_yaml_blocks_are_right(text: str, tmp_path: Path) -> None:
    from ruamel.yaml import YAML

    data = YAML(typ="safe", pure=True).load(text)
    (tmp_path / "block.yaml").write_text(text)
    if {"reader", "encoder", "store"} <= set(data):
        load_config(tmp_path / "block.yaml")
        return
    base = dict(BASE, llm={"type": "ollama", "model": "llama3.2"})
    if "extends" in data:
        YAML(typ="safe", pure=True).dump(base, tmp_path / data["extends"])
        load_config(tmp_path / "block.yaml")
        return
    load_config({**base, **data})


def test_the_reference_is_fresh() -> None:
    assert (ROOT / "docs" / "reference.md").read_text(encoding="utf-8") == reference(), (
        "docs/reference.md is old; CONTRIBUTING in the README says how to make it"
    )


def test_the_example_of_extending_works(as_a_user: Path, minilm: Any) -> None:
    code = next(block.values[0] for block in blocks("python") if "def keep_folder(" in str(block.values[0]))
    namespace: dict[str, Any] = {}
    exec(str(code), namespace)
    from rag_plugin import build_engine

    engine = build_engine("config.yaml", encoder=minilm, rerankers=[namespace["keep_folder"](folder="birds")])
    assert {item.node.ref_doc_id.split("/")[0] for item in engine.retrieve("heron")} == {"birds"}


EXTENSIONS = {
    "paragraphs": {"chunker": lambda make, encoder: make(encoder, size=64)},
    "letters": {"encoder": lambda make, encoder: make()},
    "in_memory": {"store": lambda make, encoder: make()},
}


@pytest.mark.parametrize("name", EXTENSIONS)
def test_the_example_components_of_extending_work(name: str, as_a_user: Path, minilm: Any) -> None:
    from rag_plugin import build_engine
    from rag_plugin.components.registry.component import component_of

    code = next(block.values[0] for block in blocks("python") if f"def {name}(" in str(block.values[0]))
    namespace: dict[str, Any] = {"__name__": "my_package"}
    exec(str(code), namespace)
    ((slot, build),) = EXTENSIONS[name].items()
    assert component_of(slot, name, "my-package", namespace[name]).summary
    engine = build_engine("config.yaml", **{"encoder": minilm, slot: build(namespace[name], minilm)})
    assert engine.sync().failed == []
    assert "heron" in engine.retrieve("heron eats fish frogs eels shallow water")[0].node.get_content()


def test_links_between_the_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("name", ["config.yaml", "demo.yaml", "demo_llm.yaml", "seed_example.yaml"])
def test_the_shipped_configs_are_right(name: str) -> None:
    load_config(ROOT / "configs" / name)


def test_init_writes_what_configs_has() -> None:
    from rag_plugin.cli.files import config_text

    shipped = (ROOT / "configs" / "config.yaml").read_text(encoding="utf-8")
    assert shipped == "# yaml-language-server: $schema=./schema.json\n#\n" + config_text(
        offline=False, ollama="llama3.2"
    )


def test_the_shipped_configs_agree_with_the_defaults() -> None:
    config = load_config(ROOT / "configs" / "config.yaml")
    least = load_config({**BASE, "encoder": {"type": "huggingface", "model": "BAAI/bge-small-en-v1.5"}, "llm": "none"})
    for section in ("chunker", "sync"):
        assert getattr(config, section) == getattr(least, section), section
    # Not the default, which any store can do: `hybrid` asks for one that searches words.
    hybrid = load_config({**BASE, "retriever": "hybrid"})
    assert config.retriever == hybrid.retriever

"""What is imported when, and which module may know which."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rag_plugin

from .conftest import ROOT

PACKAGE = ROOT / "rag_plugin"
HEAVY = ("llama_index", "torch", "transformers", "sentence_transformers", "faiss")
CONFIGS = sorted(path.name for path in (ROOT / "configs").glob("*.yaml"))


def imported_by(code: str, folder: Path | None = None) -> set[str]:
    """The top-level packages that a fresh interpreter has imported after running `code`."""
    script = (
        "import sys, json, atexit\n"
        "atexit.register(lambda: print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})),"
        f" file=sys.__stderr__))\n{code}"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=folder or ROOT, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


# ---------------------------------------------------------------------------------- nothing heavy


def test_importing_the_package_imports_nothing_but_the_standard_library() -> None:
    found = imported_by("import rag_plugin")
    assert found.isdisjoint({*HEAVY, "pydantic", "numpy", "ruamel", "click", "yaml", "sqlite3"})


def test_catching_the_errors_imports_nothing_heavy() -> None:
    found = imported_by("from rag_plugin import ConfigError, Problem, RagPluginError, IndexMismatch")
    assert found.isdisjoint({*HEAVY, "pydantic", "numpy", "ruamel"})


@pytest.mark.parametrize("name", CONFIGS)
def test_checking_a_config_imports_nothing_heavy(name: str) -> None:
    found = imported_by(f"import rag_plugin; rag_plugin.load_config('configs/{name}').to_yaml()")
    assert found.isdisjoint(HEAVY)
    assert "pydantic" in found


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["check", "-c", "configs/demo.yaml"],
        ["check", "--json", "-c", "configs/demo.yaml"],
        ["show", "-c", "configs/config.yaml"],
        ["components"],
        ["components", "llm", "ollama"],
        ["schema"],
        ["sync", "--help"],
    ],
    ids=" ".join,
)
def test_a_command_that_does_no_work_imports_nothing_heavy(arguments: list[str]) -> None:
    found = imported_by(
        f"sys.argv = ['rag-plugin', *{arguments!r}]\n"
        "from rag_plugin.cli import main\n"
        "try:\n    main()\nexcept SystemExit as exit:\n    assert not exit.code, exit.code\n"
    )
    assert found.isdisjoint(HEAVY)
    if arguments in (["--help"], ["--version"], ["sync", "--help"]):
        assert found.isdisjoint({"pydantic", "ruamel", "numpy"})


def test_every_component_module_can_be_imported_without_anything_heavy() -> None:
    modules = [f"rag_plugin.components.{path.stem}" for path in (PACKAGE / "components").glob("[a-z]*.py")]
    found = imported_by("import importlib\n" + "\n".join(f"importlib.import_module({name!r})" for name in modules))
    assert len(modules) == 9
    assert found.isdisjoint({*HEAVY, "numpy"})


# ---------------------------------------------------------------------------------- public names


def test_the_public_names_are_those_that_are_promised() -> None:
    assert sorted(rag_plugin.__all__) == [
        "ComponentError",
        "Config",
        "ConfigError",
        "DocumentError",
        "EncoderError",
        "FaissStore",
        "IndexLocked",
        "IndexMismatch",
        "IndexNotBuilt",
        "LLMError",
        "MissingLLM",
        "MissingPackage",
        "Problem",
        "QuestionError",
        "RagEngine",
        "RagPluginError",
        "StoreError",
        "SyncReport",
        "UnsupportedQuery",
        "build_engine",
        "load_config",
        "rule",
    ]
    assert set(rag_plugin.__all__) == set(rag_plugin._HOME)
    assert set(rag_plugin.__all__) <= set(dir(rag_plugin))


@pytest.mark.parametrize("name", rag_plugin.__all__)
def test_each_public_name_is_documented_and_where_it_says_it_is(name: str) -> None:
    found = getattr(rag_plugin, name)
    assert found is getattr(importlib.import_module(f"rag_plugin.{rag_plugin._HOME[name]}"), name)
    assert found.__doc__


def test_star_import_gives_the_public_names() -> None:
    namespace: dict[str, object] = {}
    exec("from rag_plugin import *", namespace)
    assert set(rag_plugin.__all__) <= set(namespace)


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'rag_plugin' has no attribute 'buid_engine'"):
        rag_plugin.buid_engine  # noqa: B018


def test_every_error_of_the_package_is_a_rag_plugin_error_in_the_drawn_tree() -> None:
    from rag_plugin import errors

    drawn = (errors.__doc__ or "").split("\n\n")[1]
    classes = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, Exception)]
    for error in classes:
        assert issubclass(error, errors.RagPluginError)
        (line,) = [
            line for line in drawn.splitlines() if line.replace("│", " ").strip(" ├└─").split()[0] == error.__name__
        ]
        if error is not errors.RagPluginError:
            parent = error.__mro__[1]
            assert drawn.index(parent.__name__) < drawn.index(error.__name__)
        for base in error.__bases__[1:]:
            assert base.__name__ in line


# ---------------------------------------------------------------------------------- who knows whom

# From the bottom to the top; a module imports only what stands on its own line or above it. What the parts are
# made of knows nothing of configs, so it stands below the registry.
LAYERS = [
    ["errors"],
    ["source"],
    [
        "documents",
        "file_formats",
        "models",
        "tokens",
        "encoding",
        "prompting",
        "chunking",
        "readers",
        "weights",
        "hub",
        "model_families",
        "batching",
        "encoder_processes",
        "ollama_encoder",
        "sentence_model",
        "sentence_encoder",
        "transformers_llm",
        "no_llm",
        "bridge",
        "finishing",
        "ollama",
        "faiss_store",
        "word_retriever",
        "merging",
    ],
    ["registry", "class_paths"],
    ["config"],
    ["components"],
    ["sync"],
    ["engine"],
    ["vectors", "doctor"],
    ["cli", "testing"],
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def imports() -> Iterator[tuple[str, str, int]]:
    """(importing module, imported module, line) for each import within the package, wherever it stands."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        package = parts[:-1]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                above = package[: len(package) - node.level + 1] if node.level else ()
                module = ".".join([*above, *([node.module] if node.module else [])])
                # `from . import x` may name a module.
                found = [module, *(f"{module}.{alias.name}" for alias in node.names)]
            else:
                continue
            for name in found:
                if name.startswith("rag_plugin."):
                    yield ".".join(parts), name, node.lineno


def top(module: str) -> str:
    return module.split(".")[1]


def test_every_module_has_its_layer() -> None:
    modules = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/*.py")}
    assert modules - {"__init__", "templates"} == set(LEVEL)


def test_imports_run_downwards_only() -> None:
    wrong = [
        f"{module} line {line} imports {name}"
        for module, name, line in imports()
        if top(module) != "__init__" and top(name) in LEVEL and LEVEL[top(name)] > LEVEL[top(module)]
    ]
    assert wrong == []


def test_components_are_reached_through_the_registry_alone() -> None:
    wrong = [
        f"{module} line {line}"
        for module, name, line in imports()
        if top(name) == "components" and top(module) != "components"
    ]
    assert wrong == []


def test_the_leaf_modules_do_not_import_each_other_in_a_circle() -> None:
    edges: dict[str, set[str]] = {}
    for module, name, _ in imports():
        if top(name) in LEVEL and top(module) in LEVEL and top(name) != top(module):
            edges.setdefault(top(module), set()).add(top(name))
    edges["registry"].discard("class_paths")  # lazily, by a class's path; the two know each other

    def reaches(start: str, goal: str, seen: set[str]) -> bool:
        return any(
            item == goal or (item not in seen and reaches(item, goal, seen | {item})) for item in edges.get(start, ())
        )

    assert [name for name in edges if reaches(name, name, set())] == []


def test_the_package_has_no_file_that_tells_a_type_checker_otherwise() -> None:
    assert (PACKAGE / "py.typed").is_file()
    assert os.path.getsize(PACKAGE / "py.typed") == 0

"""What is imported when, and which module may know which."""

from __future__ import annotations

import ast
import importlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import rag_plugin
from rag_plugin.components.registry.slots import SLOTS
from tests.conftest import ROOT
from tests.processes import imported_by

PACKAGE = ROOT / "rag_plugin"
HEAVY = ("llama_index", "torch", "transformers", "sentence_transformers", "faiss")
CONFIGS = sorted(path.name for path in (ROOT / "configs").glob("*.yaml"))


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
    names = sorted(f"rag_plugin.{name}" for name in MODULES if name.endswith(".components"))
    imported = imported_by("import importlib\n" + "\n".join(f"importlib.import_module({name!r})" for name in names))
    assert len(names) == len(SLOTS)
    assert imported.isdisjoint({*HEAVY, "numpy"})


def test_the_init_files_of_the_slots_are_empty() -> None:
    for path in (PACKAGE / "components").rglob("__init__.py"):
        assert path.read_text(encoding="utf-8") == "", path


# ---------------------------------------------------------------------------------- public names


def test_the_public_names_are_those_that_are_promised() -> None:
    assert sorted(rag_plugin.__all__) == [
        "ComponentError",
        "Config",
        "ConfigError",
        "DocumentError",
        "DocumentSource",
        "EncoderError",
        "FaissStore",
        "IndexLocked",
        "IndexMismatch",
        "IndexNotBuilt",
        "LLMError",
        "Listed",
        "MatrixEncoder",
        "MissingLLM",
        "MissingPackage",
        "Problem",
        "QuestionError",
        "RagEngine",
        "RagPluginError",
        "StoreError",
        "SyncReport",
        "Unlisted",
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


# ---------------------------------------------------------------------------------- the order of the folders

# From the bottom to the top, as docs/how-it-works.md draws it. A module imports from its own line and the lines above.
LAYERS = [
    ["errors"],
    ["protocols"],
    ["source"],
    ["components.encoders.matrix", "components.encoders.identity"],
    ["faiss_store", "ollama"],
    ["components.registry", "components.ollama_settings", "components.forked", "components.tables"],
    ["components.model_files", "components.places", "components.notebook"],
    ["components.encoders"],
    ["components.chunkers", "components.readers", "components.llms"],
    ["components.stores", "components.retrievers", "components.rerankers", "components.synthesizers"],
    ["components.chat_engines", "components.engine_index"],
    ["components.assembly"],
    ["config"],
    ["sync"],
    ["engine"],
    ["cli"],
    ["explore", "doctor", "testing"],
    ["vectors"],
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
LEAVES = ("explore", "doctor", "testing", "templates")


def modules() -> dict[str, Path]:
    """The modules of the package by name, without `rag_plugin.`; a package's `__init__` has the package's name."""
    names = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


MODULES = modules()


def imports() -> Iterator[tuple[str, str, int]]:
    """(importing module, imported module, line) for each import of the package, also those for type checkers."""
    for module, path in MODULES.items():
        package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                above = ["rag_plugin", *package][: len(package) + 2 - node.level] if node.level else []
                source = ".".join([*above, *([node.module] if node.module else [])])
                names = [f"{source}.{alias.name}" for alias in node.names]
            else:
                continue
            for name in names:
                if name.partition(".")[0] == "rag_plugin":
                    target = name.partition(".")[2]
                    while target not in MODULES:  # a name of a module
                        target = target.rpartition(".")[0]
                    yield module, target, node.lineno


def layer(module: str) -> str:
    return next((name for name in LEVEL if f"{module}.".startswith(f"{name}.")), "")


def test_every_module_has_its_layer() -> None:
    assert [name for name in MODULES if name not in ("", "components", "templates") and not layer(name)] == []
    loose = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert loose == {"engine", "errors", "protocols", "vectors"}


def test_imports_run_downwards_only() -> None:
    wrong = [
        f"{module} line {line} imports {name}"
        for module, name, line in imports()
        if module and name and LEVEL[layer(name)] > LEVEL[layer(module)]
    ]
    assert wrong == []


def test_libraries_of_their_own_know_nothing_above_them() -> None:
    # What an index records of an encoder is below both, and needs nothing but the protocols.
    shared = {"components.encoders.matrix", "components.encoders.identity"}
    for library in ("faiss_store", "ollama"):
        allowed = {"", "errors", "protocols", library, *(shared if library == "faiss_store" else ())}
        wrong = [f"{m} line {n}" for m, name, n in imports() if layer(m) == library and layer(name) not in allowed]
        assert wrong == []


def test_the_core_knows_no_product() -> None:
    core = ("config", "sync", "engine", "components.assembly")
    wrong = [
        f"{module} line {line} imports {name}"
        for module, name, line in imports()
        if layer(module) in core and layer(name) in ("faiss_store", "ollama")
    ]
    assert wrong == []


def test_nobody_imports_the_leaves() -> None:
    wrong = [
        f"{module} line {line} imports {name}"
        for module, name, line in imports()
        if name.partition(".")[0] in LEAVES
        and module.partition(".")[0] != name.partition(".")[0]
        and module != "vectors"  # the former name of `explore`
    ]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    edges: dict[str, set[str]] = {}
    for module, name, _ in imports():
        if module != name:
            edges.setdefault(module, set()).add(name)

    def reachable(start: str) -> set[str]:
        reached: set[str] = set()
        pending = [start]
        while pending:
            new = edges.get(pending.pop(), set()) - reached
            reached |= new
            pending += new
        return reached

    assert [name for name in sorted(edges) if name and name in reachable(name)] == []


def test_the_package_has_no_file_that_tells_a_type_checker_otherwise() -> None:
    assert (PACKAGE / "py.typed").is_file()
    assert os.path.getsize(PACKAGE / "py.typed") == 0

"""A slot and a name become a component: built in, or out of another package's entry point."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from rag_plugin import ConfigError, MissingPackage, load_config, rule
from rag_plugin.cli import cli
from rag_plugin.components.registry import component as component_module
from rag_plugin.components.registry import find as find_module
from rag_plugin.components.registry.component import ComponentDefinitionError, ComponentNotFound, load_target
from rag_plugin.components.registry.find import find, names
from rag_plugin.components.registry.slots import SECTIONS, SLOTS
from rag_plugin.config.json_schema import json_schema
from rag_plugin.config.reference import settings_of

CONFIG: dict[str, Any] = {
    "reader": {"type": "directory", "path": "docs"},
    "encoder": {"type": "huggingface", "model": "m"},
    "store": {"type": "faiss", "path": "index"},
}

Install = Callable[..., None]
CHUNKERS = ["sentence", "token", "markdown", "code", "semantic", "sentence_window", "hierarchical", "none"]


def _forget() -> None:
    find_module._plugins.cache_clear()
    component_module.component_of.cache_clear()
    importlib.invalidate_caches()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put a distribution on `sys.path`: `install("name", code, {"slot": {"type": "function"}})`."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    modules: list[str] = []

    def install_one(dist: str, code: str, points: dict[str, dict[str, str]]) -> None:
        module = dist.replace("-", "_")
        modules.append(module)
        (site / f"{module}.py").write_text(code, encoding="utf-8")
        info = site / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.0\n", encoding="utf-8")
        lines = []
        for slot, functions in points.items():
            lines.append(f"[rag_plugin.{slot}]")
            lines += [f"{name} = {module}:{function}" for name, function in functions.items()]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        _forget()

    yield install_one
    for module in modules:
        sys.modules.pop(module, None)
    monkeypatch.undo()
    _forget()


UPPER = '''
from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field

from rag_plugin import rule

if TYPE_CHECKING:
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.node_parser import NodeParser


class Style(Enum):
    LOUD = "loud"
    QUIET = "quiet"


class Range(BaseModel):
    low: int
    high: int = 9


def _order(settings: dict[str, Any]) -> Iterable[tuple[str, str, str]]:
    if settings["least"] > settings["most"]:
        yield "least", f"{settings['least']} is more than most", "swap them"


@rule(_order)
def upper(
    callback_manager: CallbackManager,
    *,
    least: Annotated[int, Field(ge=1, le=10, description="The fewest | of them.")] = 1,
    most: Annotated[int, Field(multiple_of=5, description="The most.")] = 5,
    style: Style = Style.LOUD,
    where: Path | None = None,
    spread: Range | None = None,
    tables: dict[str, Path] | None = None,
    pair: tuple[int, int] | None = None,
    kind: Literal["a", "b"] = "a",
) -> NodeParser:
    """Cuts in capitals.

    More about it.
    """
    from llama_index.core.node_parser import SentenceSplitter

    return SentenceSplitter(chunk_size=most * 20, chunk_overlap=0, callback_manager=callback_manager)
'''
POINTS = {"chunker": {"upper": "upper"}}


def problems_of(chunker: Any) -> list[tuple[str, str, str]]:
    with pytest.raises(ConfigError) as caught:
        load_config({**CONFIG, "chunker": chunker})
    return [(p.path, p.message, p.hint) for p in caught.value.problems]


# ---------------------------------------------------------------------------------- built in


@pytest.mark.parametrize(("slot", "name"), [(slot, name) for slot in SLOTS for name in names(slot)])
def test_every_built_in_component_is_a_documented_function(slot: str, name: str) -> None:
    component = find(slot, name)
    assert component.origin == "built in"
    assert component.summary.endswith(".")
    assert "\n" not in component.summary
    for setting in settings_of(component):
        assert setting.description, setting
        assert setting.description.endswith("."), setting
        assert "object" not in setting.type, setting


def test_each_slot_is_one_complete_row() -> None:
    assert [slot.section for slot in SLOTS.values()] == list(SECTIONS)
    for slot in SLOTS.values():
        assert slot.summary
        assert isinstance(load_target(slot.base_class), type)
        assert slot.default is None or slot.default in slot.types
        deciding, types = slot.default_by
        assert set(types) <= set(SECTIONS[deciding].types if deciding else ())
        assert set(types.values()) <= set(slot.types)
        assert find(slot.name, slot.class_path).slot == slot.name


def test_an_unknown_name_carries_what_would_be_possible() -> None:
    with pytest.raises(ComponentNotFound) as caught:
        find("llm", "olama")
    assert caught.value.message == "no llm is called 'olama'"
    assert caught.value.candidates == ["ollama", "huggingface", "none"]


# ---------------------------------------------------------------------------------- plugins


def test_a_plugin_is_found_by_its_entry_point_and_checked_by_its_signature(install: Install) -> None:
    install("rag-upper", UPPER, POINTS)
    component = find("chunker", "upper")
    assert (component.origin, component.wiring) == ("rag-upper", ("callback_manager",))
    assert component.summary == "Cuts in capitals."
    config = load_config({**CONFIG, "chunker": {"type": "upper", "least": 2, "style": "loud"}})
    assert config.chunker.settings["least"] == 2


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({"least": 0}, ("chunker.least", "must be at least 1, not 0", ""), id="ge"),
        pytest.param({"least": 11}, ("chunker.least", "must be at most 10, not 11", ""), id="le"),
        pytest.param({"most": 7}, ("chunker.most", "must be a multiple of 5, not 7", ""), id="multiple"),
        pytest.param(
            {"least": "1"},
            ("chunker.least", "a whole number is expected, not the text '1'", ""),
            id="strict",
        ),
        pytest.param(
            {"kind": "c"}, ("chunker.kind", "must be one of a, b, not the text 'c'", "possible: a, b"), id="literal"
        ),
        pytest.param(
            {"lest": 1},
            (
                "chunker.lest",
                "chunker 'upper' has no such setting",
                "did you mean 'least'?  (also: type, most, style, where, spread, tables, pair, kind, 2 more)",
            ),
            id="unknown",
        ),
        pytest.param({"least": 9, "most": 5}, ("chunker.least", "9 is more than most", "swap them"), id="rule"),
        pytest.param(
            {"spread": {"high": 3}},
            ("chunker.spread.low", "this is missing", "a whole number"),
            id="missing in a model",
        ),
        pytest.param(
            {"spread": {"low": 1, "hihg": 2}},
            (
                "chunker.spread.hihg",
                "there is no such setting",
                "did you mean 'high'?  (also: low)",
            ),
            id="unknown in a model",
        ),
        pytest.param({"pair": [1]}, ("chunker.pair[1]", "this is missing", "a whole number"), id="short tuple"),
        pytest.param(
            {"spread": {"low": "x"}},
            ("chunker.spread.low", "a whole number is expected, not the text 'x'", ""),
            id="wrong in a model",
        ),
        pytest.param(
            {"pair": 1},
            ("chunker.pair", "a list of 2 items or null is expected, not 1", "write it as a list: [...]"),
            id="no tuple",
        ),
        pytest.param(
            {"pair": [1, "2"]},
            ("chunker.pair[1]", "a whole number is expected, not the text '2'", ""),
            id="strict in a tuple",
        ),
        pytest.param({"spread": 1}, ("chunker.spread", "a mapping or null is expected, not 1", ""), id="no model"),
        pytest.param(
            {"style": "lod"},
            ("chunker.style", "must be one of loud, quiet, not the text 'lod'", "did you mean 'loud'?  (also: quiet)"),
            id="enum",
        ),
    ],
)
def test_the_constraints_of_a_plugin_hold(install: Install, settings: Any, expected: tuple[str, str, str]) -> None:
    install("rag-upper", UPPER, POINTS)
    assert problems_of({"type": "upper", **settings}) == [expected]


def test_a_plugin_is_offered_in_suggestions_listings_and_the_schema(install: Install) -> None:
    install("rag-upper", UPPER, POINTS)
    assert names("chunker") == [*CHUNKERS, "upper"]
    assert problems_of("uper") == [
        (
            "chunker.type",
            "no chunker is called 'uper'",
            f"did you mean 'upper'?  (also: {', '.join(CHUNKERS)})",
        )
    ]
    listing = CliRunner().invoke(cli, ["components", "chunker"])
    assert "  upper               Cuts in capitals.  (rag-upper)\n" in listing.stdout
    shown = CliRunner().invoke(cli, ["components", "chunker", "upper"])
    assert shown.stdout.startswith("chunker upper  (rag-upper)\nCuts in capitals.\n")
    assert "  style: one of loud, quiet  [loud]\n" in shown.stdout
    assert CliRunner().invoke(cli, ["components", "chunker", "upper", "--json"]).exit_code == 0
    validator = jsonschema.Draft7Validator(json_schema())
    validator.check_schema(json_schema())
    right = {"type": "upper", "least": 2, "style": "quiet", "spread": {"low": 1}, "where": "x", "kind": "${KIND}"}
    assert not list(validator.iter_errors({**CONFIG, "chunker": right}))
    for wrong in ({"least": 0}, {"style": "lod"}, {"spread": {"high": 1}}, {"lest": 1}, {"kind": "c"}):
        assert list(validator.iter_errors({**CONFIG, "chunker": {"type": "upper", **wrong}})), wrong
    json.dumps(json_schema())


def test_the_dump_of_a_plugin_with_enum_path_and_model_loads_again(
    install: Install, write: Any, tmp_path: Path
) -> None:
    install("rag-upper", UPPER, POINTS)
    settings = {"type": "upper", "style": "quiet", "where": "./x", "spread": {"low": 1}, "tables": {"a": "./y"}}
    config = load_config({**CONFIG, "chunker": {**settings, "pair": [1, 2]}}, overrides={"chunker.most": 10})
    assert config.chunker.settings["tables"] == {"a": Path.cwd() / "y"}
    assert config.chunker.settings["pair"] == (1, 2)
    assert load_config(write(config.to_yaml())) == config
    assert str(Path.cwd() / "x") in config.to_yaml()


def test_a_plugin_is_built_with_its_wiring_and_used(install: Install) -> None:
    from llama_index.core import Document

    install("rag-upper", UPPER, POINTS)
    config = load_config({**CONFIG, "chunker": {"type": "upper", "most": 10}})
    chunker = config.build("chunker")
    assert (chunker.chunk_size, chunker.callback_manager.handlers) == (200, [])
    assert [node.text for node in chunker([Document(text="One. Two.")])] == ["One. Two."]


def test_a_name_claimed_twice_names_both_claimants(install: Install) -> None:
    install("rag-upper", UPPER, POINTS)
    install("other-upper", UPPER, POINTS)
    assert problems_of("upper") == [
        (
            "chunker.type",
            "two packages register the name 'upper': other-upper (other_upper:upper) and rag-upper (rag_upper:upper)",
            "uninstall one of them, or ask its author to rename",
        )
    ]


def test_a_plugin_cannot_take_the_name_of_a_built_in_component_in_silence(install: Install) -> None:
    install("rag-upper", UPPER, {"chunker": {"sentence": "upper"}})
    assert problems_of("sentence") == [
        (
            "chunker.type",
            "the name 'sentence' is a built-in chunker, and the installed package rag-upper registers it too",
            "uninstall rag-upper, or ask its author to rename its chunker",
        )
    ]


def test_a_plugin_with_a_built_in_name_breaks_only_configs_that_use_the_name(install: Install) -> None:
    install("rag-upper", UPPER, {"chunker": {"sentence": "upper", "upper": "upper"}})
    assert load_config({**CONFIG, "chunker": "token"}).chunker.component.origin == "built in"
    assert load_config({**CONFIG, "chunker": "upper"}).chunker.component.origin == "rag-upper"
    assert "sentence" in names("chunker")
    json_schema()


def test_a_default_that_does_not_fit_its_annotation_is_told_to_the_author(install: Install) -> None:
    install("rag-wrong", 'def wrong(*, n: int = "one"):\n    """Wrong."""', {"chunker": {"wrong": "wrong"}})
    ((path, message, hint),) = problems_of("wrong")
    assert path == "chunker.type"
    assert message == (
        "chunker 'wrong' of rag-wrong (rag_wrong:wrong): the default of 'n': Input should be a valid integer"
    )
    assert hint == "the component's author has to fix this"


def test_the_same_name_in_another_slot_is_no_conflict(install: Install) -> None:
    install("rag-upper", UPPER, {"chunker": {"ollama": "upper"}})
    assert load_config({**CONFIG, "chunker": "ollama", "llm": "none"}).chunker.type == "ollama"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        pytest.param(
            "def upper(*, size: int = 1, **rest): ...",
            "chunker 'upper' of rag-bad (rag_bad:upper): *rest would accept misspelt settings; name them all",
            id="keywords",
        ),
        pytest.param(
            "def upper(*rest): ...",
            "chunker 'upper' of rag-bad (rag_bad:upper): *rest would accept misspelt settings; name them all",
            id="arguments",
        ),
        pytest.param(
            "def upper(*, size=1): ...",
            "chunker 'upper' of rag-bad (rag_bad:upper): the setting 'size' has no annotation",
            id="no annotation",
        ),
        pytest.param(
            "def upper(tokenizer, *, size: int = 1): ...",
            "chunker 'upper' of rag-bad (rag_bad:upper): 'tokenizer' is before the *, so it is wiring, and wiring "
            "is one of callback_manager, chat_prompt_helper, encoder, index, llm, prompt_helper, store",
            id="unknown wiring",
        ),
        pytest.param(
            "def upper(size: int = 1): ...",
            "chunker 'upper' of rag-bad (rag_bad:upper): 'size' is before the *, so it is wiring, and wiring "
            "is one of callback_manager, chat_prompt_helper, encoder, index, llm, prompt_helper, store",
            id="forgot the star",
        ),
        pytest.param(
            "from __future__ import annotations\ndef upper(*, size: Missing = 1): ...",
            "chunker 'upper' of rag-bad (rag_bad:upper): the annotation of 'size': name 'Missing' is not defined",
            id="annotation that does not exist",
        ),
    ],
)
def test_a_function_that_is_no_component_is_refused_in_words_for_its_author(
    install: Install, code: str, message: str
) -> None:
    install("rag-bad", code, POINTS)
    with pytest.raises(ComponentDefinitionError) as caught:
        find("chunker", "upper")
    assert str(caught.value) == message
    assert problems_of("upper") == [("chunker.type", message, "the component's author has to fix this")]
    result = CliRunner().invoke(cli, ["components", "chunker", "upper"])
    assert message in result.stderr
    # It must not hide the others.
    assert "sentence" in CliRunner().invoke(cli, ["components", "chunker"]).stdout
    assert json_schema()["properties"]["chunker"]


@pytest.mark.parametrize(
    ("code", "function", "reason"),
    [
        pytest.param("raise RuntimeError('boom')", "upper", "RuntimeError: boom", id="raises"),
        pytest.param("import no_such_package_here", "upper", "ModuleNotFoundError", id="misses a package"),
        pytest.param("x = (", "upper", "SyntaxError", id="syntax"),
        pytest.param("", "upper", "AttributeError: module 'rag_bad' has no attribute 'upper'", id="no function"),
        pytest.param(
            "upper = 3", "upper", "ComponentDefinitionError: rag_bad:upper is not a function", id="not callable"
        ),
    ],
)
def test_a_plugin_that_cannot_be_loaded_says_who_and_why(
    install: Install, code: str, function: str, reason: str
) -> None:
    install("rag-bad", code, {"chunker": {"upper": function}})
    ((path, message, hint),) = problems_of("upper")
    assert path == "chunker.type"
    assert message.startswith(f"chunker 'upper' of rag-bad cannot be loaded: {reason}")
    assert hint == "it is registered as rag_bad:upper"
    assert load_config(CONFIG).chunker.type == "sentence"


def test_a_plugin_whose_module_is_gone_says_so(install: Install, tmp_path: Path) -> None:
    install("rag-bad", "", POINTS)
    (tmp_path / "site/rag_bad.py").unlink()
    _forget()
    ((_, message, _),) = problems_of("upper")
    assert message == "chunker 'upper' of rag-bad cannot be loaded: ModuleNotFoundError: No module named 'rag_bad'"


def test_a_package_that_is_missing_when_the_part_is_built_is_named(install: Install) -> None:
    install("rag-late", 'def upper():\n    """Late."""\n    import no_such_package_here.inner', POINTS)
    with pytest.raises(MissingPackage) as caught:
        load_config({**CONFIG, "chunker": "upper"}).build("chunker")
    assert str(caught.value) == (
        "chunker 'upper' needs the package 'no_such_package_here': pip install no-such-package-here"
    )


def test_a_part_that_is_not_of_its_slot_is_refused(install: Install) -> None:
    install("rag-wrong", 'def upper():\n    """Wrong."""\n    return 3', POINTS)
    with pytest.raises(
        Exception, match="the slot 'chunker' takes a llama_index.core.node_parser.NodeParser, not a int"
    ):
        load_config({**CONFIG, "chunker": "upper"}).build("chunker")


def test_a_plugin_in_every_slot_has_its_place_in_the_config(install: Install) -> None:
    install("rag-all", 'def one():\n    """One."""', {slot: {"one": "one"} for slot in SLOTS})
    config = load_config(
        {slot: "one" for slot in SLOTS if slot != "reranker"} | {"rerankers": ["one", {"type": "one"}]}
    )
    assert all(part.type == "one" for name, part in config.sections.items() if name != "rerankers")
    assert [part.type for part in config.rerankers] == ["one", "one"]


def test_other_entry_point_groups_are_left_alone(install: Install) -> None:
    install("rag-else", "raise RuntimeError", {"elsewhere": {"one": "one"}, "chunker.more": {"one": "one"}})
    assert names("chunker") == CHUNKERS


def test_several_rules_on_one_function_all_hold() -> None:
    @rule(lambda settings: [("a", "first", "")])
    @rule(lambda settings: [("a", "second", "")])
    def function(*, a: int = 1) -> None:
        """Something."""

    component = component_module.component_of("encoder", "several", "here", function)
    assert [finding for check in component.rules for finding in check({})] == [("a", "second", ""), ("a", "first", "")]

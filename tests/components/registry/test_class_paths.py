"""Any LlamaIndex class by its path, its settings checked; other packages only where the caller allows them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import Document, MockEmbedding
from llama_index.core.llms import MockLLM
from llama_index.core.schema import NodeWithScore, TextNode

from rag_plugin import ComponentError, ConfigError, load_config
from rag_plugin.components.registry.find import find

CONFIG: dict[str, Any] = {
    "reader": {"type": "directory", "path": "docs"},
    "encoder": {"type": "huggingface", "model": "m"},
    "store": {"type": "faiss", "path": "index"},
}
PARSER = "llama_index.core.node_parser"
POST = "llama_index.core.postprocessor"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def with_part(slot: str, part: Any, **options: Any) -> Any:
    key, value = ("rerankers", [part]) if slot == "reranker" else (slot, part)
    return load_config({**CONFIG, key: value}, **options)


def problems_of(slot: str, part: Any, **options: Any) -> list[tuple[str, str, str]]:
    with pytest.raises(ConfigError) as caught:
        with_part(slot, part, **options)
    return [(p.path, p.message, p.hint) for p in caught.value.problems]


# ---------------------------------------------------------------------------------- what is allowed


@pytest.mark.parametrize(
    ("path", "package"),
    [
        ("os.path.Thing", "os"),
        ("subprocess:Popen", "subprocess"),
        ("llama_index_evil.Thing", "llama_index_evil"),
        ("my_company.parts.Thing", "my_company"),
    ],
)
def test_the_classes_of_other_packages_need_permission_and_are_not_imported(path: str, package: str) -> None:
    before = set(sys.modules)
    assert problems_of("llm", path) == [
        (
            "llm.type",
            f"classes of the package {package!r} may not be used from a config",
            f"if you trust it: build_engine(..., allow=[{package!r}]), or --allow {package} on the command line",
        )
    ]
    assert not [name for name in set(sys.modules) - before if name.startswith(("my_company", "llama_index_evil"))]


@pytest.mark.parametrize(
    "path", [".a.B", "llama_index..core.B", "llama_index.", "a:b:C", "a. B", "a.b.3", ":B", "a\nb.C"]
)
def test_what_is_no_path_of_a_class_says_how_one_looks(path: str) -> None:
    assert problems_of("llm", path) == [
        ("llm.type", f"{path!r} is not the path of a class", "write package.module.Class")
    ]


MODULE = '''
from typing import Any
from llama_index.core.postprocessor.types import BaseNodePostprocessor

(open("imported", "w")).close()


class Reverse(BaseNodePostprocessor):
    """Turns the order around."""

    most: int = 3

    def _postprocess_nodes(self, nodes: Any, query_bundle: Any = None) -> Any:
        return nodes[::-1][: self.most]


class Failing(Reverse):
    def __init__(self, **kwargs: Any) -> None:
        raise RuntimeError("no luck")
'''


@pytest.fixture
def company(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "site" / "my_company"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("", encoding="utf-8")
    (folder / "parts.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_company"]:
        del sys.modules[name]


@pytest.mark.parametrize("path", ["my_company.parts.Reverse", "my_company.parts:Reverse"])
@pytest.mark.parametrize("allow", ["my_company", "my_company.parts"])
def test_an_allowed_package_works_in_both_spellings(company: Path, path: str, allow: str) -> None:
    config = with_part("reranker", {"type": path, "most": 1}, allow=[allow])
    (reranker,) = config.build("rerankers")
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in "ab"]
    assert [item.node.text for item in reranker.postprocess_nodes(nodes)] == ["b"]
    changed = load_config(config, overrides={"rerankers.0.most": 2})
    assert len(changed.build("rerankers")[0].postprocess_nodes(nodes)) == 2


def test_the_dump_of_an_allowed_class_needs_the_same_permission_again(company: Path, write: Any) -> None:
    config = with_part("reranker", "my_company.parts.Reverse", allow=["my_company"])
    path = write(config.to_yaml())
    assert load_config(path, allow=["my_company"]) == config
    with pytest.raises(ConfigError, match="may not be used from a config"):
        load_config(path)


@pytest.mark.parametrize("allow", ["my", "my_company.part", "my_company.parts.Reverse", "other"])
def test_permission_is_for_whole_packages_and_modules(company: Path, allow: str) -> None:
    assert problems_of("reranker", "my_company.parts.Reverse", allow=[allow])[0][1] == (
        "classes of the package 'my_company' may not be used from a config"
    )
    assert not Path("imported").exists()


def test_a_module_that_raises_on_import_is_told(company: Path) -> None:
    (company / "bad.py").write_text("raise RuntimeError('boom')", encoding="utf-8")
    assert problems_of("llm", "my_company.bad.Thing", allow=["my_company"]) == [
        ("llm.type", "my_company.bad cannot be imported: RuntimeError: boom", "")
    ]


def test_a_module_that_misses_a_package_names_it(company: Path) -> None:
    (company / "needy.py").write_text("import no_such_package_here.inner", encoding="utf-8")
    assert problems_of("llm", "my_company.needy.Thing", allow=["my_company"]) == [
        (
            "llm.type",
            "my_company.needy needs the package 'no_such_package_here'",
            "pip install no-such-package-here",
        )
    ]


def test_a_class_that_cannot_be_built_names_its_section(company: Path) -> None:
    config = with_part("reranker", "my_company.parts.Failing", allow=["my_company"])
    with pytest.raises(ComponentError) as caught:
        config.build("rerankers")
    assert str(caught.value) == "rerankers[0] (my_company.parts.Failing) cannot be built: RuntimeError: no luck"


# ---------------------------------------------------------------------------------- what is found


@pytest.mark.parametrize(
    ("slot", "path", "message", "hint"),
    [
        pytest.param(
            "chunker",
            "llama_index.core.node_parserr.SentenceSplitter",
            "there is no module 'llama_index.core.node_parserr'",
            "is the name right?",
            id="no module",
        ),
        pytest.param(
            "store",
            "llama_index.vector_stores.nowhere.NowhereVectorStore",
            "there is no module 'llama_index.vector_stores.nowhere'",
            "if the name is right: pip install llama-index-vector-stores-nowhere",
            id="no integration",
        ),
        pytest.param(
            "store",
            "llama_index.stores.x.X",
            "there is no module 'llama_index.stores'",
            "is the name right?",
            id="kind",
        ),
        pytest.param(
            "chunker",
            f"{POST}.SimilarityPostprocessor",
            f"{POST}.SimilarityPostprocessor does not fit the slot 'chunker'",
            "name a subclass of llama_index.core.node_parser.interface.NodeParser",
            id="another slot",
        ),
        pytest.param(
            "chunker",
            f"{PARSER}.NodeParser",
            f"{PARSER}.NodeParser is abstract",
            "name one of its subclasses",
            id="base",
        ),
        pytest.param(
            "llm",
            "llama_index.core.llms.LLM",
            "llama_index.core.llms.LLM is abstract",
            "name one of its subclasses",
            id="llm",
        ),
    ],
)
def test_a_class_that_cannot_be_used_says_why(slot: str, path: str, message: str, hint: str) -> None:
    assert problems_of(slot, path) == [(f"{slot}.type", message, hint)]


@pytest.mark.parametrize(
    "path", [f"{PARSER}.sentencesplitter", f"{PARSER}.SentenceSpliter", f"{PARSER}:SentenceSpliter"]
)
def test_a_misspelt_class_leads_to_the_right_one(path: str) -> None:
    ((where, message, hint),) = problems_of("chunker", path)
    assert (where, message) == ("chunker.type", f"{PARSER} has no class {path[len(PARSER) + 1 :]!r}")
    assert hint.startswith("did you mean 'SentenceSplitter'?")


def test_a_function_is_no_class() -> None:
    ((_, message, _),) = problems_of("chunker", f"{PARSER}.get_leaf_nodes")
    assert message == f"{PARSER} has no class 'get_leaf_nodes'"


@pytest.mark.parametrize(
    ("slot", "part", "settings"),
    [
        pytest.param(
            "chunker", {"type": f"{PARSER}.SentenceWindowNodeParser", "window_size": 2}, {"window_size": 2}, id="window"
        ),
        pytest.param(
            "chunker", {"type": f"{PARSER}:SentenceSplitter", "chunk_size": 99}, {"chunk_size": 99}, id="splitter"
        ),
        pytest.param(
            "llm",
            {"type": "llama_index.llms.ollama.Ollama", "model": "m", "temperature": 0},
            {"model": "m", "temperature": 0.0},
            id="ollama",
        ),
        pytest.param(
            "retriever",
            {"type": "llama_index.core.retrievers.VectorIndexRetriever", "similarity_top_k": 3},
            {"similarity_top_k": 3},
            id="retriever",
        ),
        pytest.param(
            "synthesizer",
            {"type": "llama_index.core.response_synthesizers.TreeSummarize", "streaming": True},
            {"streaming": True},
            id="synthesizer",
        ),
        pytest.param("reranker", f"{POST}.LongContextReorder", {}, id="reorder"),
        pytest.param(
            "reranker",
            {"type": f"{POST}.SimilarityPostprocessor", "similarity_cutoff": 1},
            {"similarity_cutoff": 1},
            id="cutoff",
        ),
        pytest.param("store", "llama_index.core.vector_stores.SimpleVectorStore", {}, id="store"),
        pytest.param(
            "encoder", {"type": "llama_index.core.MockEmbedding", "embed_dim": 8}, {"embed_dim": 8}, id="encoder"
        ),
        pytest.param(
            "reader",
            {"type": "llama_index.core.SimpleDirectoryReader", "input_dir": "./x", "required_exts": [".md"]},
            {"required_exts": [".md"]},
            id="reader",
        ),
    ],
)
def test_a_class_of_every_slot_keeps_to_what_the_file_says_and_leaves_the_rest_to_the_class(
    slot: str, part: Any, settings: dict[str, Any], write: Any
) -> None:
    config = with_part(slot, part)
    section = config.rerankers[0] if slot == "reranker" else config.sections[slot]
    found = {name: value for name, value in section.settings.items() if name not in section.component.common}
    if slot == "reader":
        assert found.pop("input_dir") == Path.cwd() / "x"
    assert found == settings
    assert load_config(write(config.to_yaml())) == config


@pytest.mark.parametrize(
    ("slot", "part", "expected"),
    [
        pytest.param(
            "chunker",
            {"type": f"{PARSER}.SentenceWindowNodeParser", "windowsize": 9},
            (
                "chunker.windowsize",
                f"chunker '{PARSER}.SentenceWindowNodeParser' has no such setting",
                "did you mean 'window_size'?  (also: type, include_metadata, include_prev_next_rel, id_func, "
                "window_metadata_key, original_text_metadata_key, embed_metadata, too_long)",
            ),
            id="swallowed by SentenceWindowNodeParser",
        ),
        pytest.param(
            "reranker",
            {"type": f"{POST}.SimilarityPostprocessor", "cutoff": 0.9},
            (
                "rerankers[0].cutoff",
                f"reranker '{POST}.SimilarityPostprocessor' has no such setting",
                "did you mean 'similarity_cutoff'?  (also: type)",
            ),
            id="swallowed by SimilarityPostprocessor",
        ),
        pytest.param(
            "reranker",
            {"type": f"{POST}.LongContextReorder", "foo": 1},
            ("rerankers[0].foo", f"reranker '{POST}.LongContextReorder' has no such setting", "it has no settings"),
            id="swallowed by LongContextReorder",
        ),
        pytest.param(
            "chunker",
            {"type": f"{PARSER}.SentenceWindowNodeParser", "window_size": 0},
            ("chunker.window_size", "must be more than 0, not 0", ""),
            id="range of a field",
        ),
        pytest.param(
            "chunker",
            {"type": f"{PARSER}.SentenceSplitter", "chunk_size": -1},
            ("chunker.chunk_size", "must be more than 0, not -1", ""),
            id="range of a parameter",
        ),
        pytest.param(
            "chunker",
            {"type": f"{PARSER}.SentenceSplitter", "chunk_size": "512"},
            ("chunker.chunk_size", "a whole number is expected, not the text '512'", ""),
            id="strict",
        ),
        pytest.param(
            "chunker",
            {"type": f"{PARSER}.SentenceSplitter", "chunk_size": True},
            ("chunker.chunk_size", "a whole number is expected, not true", ""),
            id="strict bool",
        ),
        pytest.param(
            "chunker",
            {"type": f"{PARSER}.SentenceSplitter", "tokenizer": "mine"},
            (
                "chunker.tokenizer",
                "an object that only Python code can create or null is expected, not the text 'mine'",
                "",
            ),
            id="a function",
        ),
        pytest.param(
            "synthesizer",
            {"type": "llama_index.core.response_synthesizers.TreeSummarize", "summary_template": "x"},
            (
                "synthesizer.summary_template",
                "an object of type BasePromptTemplate or null is expected, not the text 'x'",
                "",
            ),
            id="an object",
        ),
        pytest.param(
            "synthesizer",
            {"type": "llama_index.core.response_synthesizers.TreeSummarize", "summary_template": {"metadata": {}}},
            (
                "synthesizer.summary_template",
                "an object of type BasePromptTemplate or null is expected, not a mapping",
                "",
            ),
            id="an object whose constructor does not run",
        ),
        pytest.param(
            "llm",
            {"type": "llama_index.llms.ollama.Ollama"},
            ("llm.model", "llm 'llama_index.llms.ollama.Ollama' needs this setting", "The Ollama model to use"),
            id="missing",
        ),
        pytest.param(
            "encoder",
            "llama_index.core.MockEmbedding",
            ("encoder.embed_dim", "encoder 'llama_index.core.MockEmbedding' needs this setting", "a whole number"),
            id="missing, no description",
        ),
        pytest.param(
            "store",
            "llama_index.vector_stores.faiss.FaissVectorStore",
            (
                "store.faiss_index",
                "store 'llama_index.vector_stores.faiss.FaissVectorStore' needs this setting",
                "an object that only Python code can create: pass a ready part, build_engine(..., store=...), or use  "
                "store: {type: faiss, path: ...}",
            ),
            id="what only code can give",
        ),
        pytest.param(
            "retriever",
            {"type": "llama_index.core.retrievers.VectorIndexRetriever", "vector_store_query_mode": "hybird"},
            (
                "retriever.vector_store_query_mode",
                "the text 'hybird' is not possible",
                "did you mean 'hybrid'?  (also: default, sparse, text_search, semantic_hybrid, svm, "
                "logistic_regression, linear_regression, mmr)",
            ),
            id="enum",
        ),
        pytest.param(
            "retriever",
            {"type": "llama_index.core.retrievers.VectorIndexRetriever", "vector_store_query_mode": 3},
            (
                "retriever.vector_store_query_mode",
                "3 is not possible",
                "possible: default, sparse, hybrid, text_search, semantic_hybrid, svm, logistic_regression, "
                "linear_regression, mmr",
            ),
            id="enum, number",
        ),
        pytest.param(
            "reader",
            {"type": "llama_index.core.SimpleDirectoryReader", "recursive": 1},
            ("reader.recursive", "true or false is expected, not 1", ""),
            id="reader",
        ),
    ],
)
def test_the_settings_of_a_class_are_checked_against_signature_and_fields(
    slot: str, part: Any, expected: tuple[str, str, str]
) -> None:
    assert problems_of(slot, part) == [expected]


def test_a_mapping_stands_for_plain_data_such_as_filters(write: Any) -> None:
    path = "llama_index.core.retrievers.VectorIndexRetriever"
    part = {"type": path, "filters": {"filters": [{"key": "year", "value": 2020}], "condition": "or"}}
    config = with_part("retriever", part)
    filters = config.retriever.settings["filters"]
    assert [(item.key, item.value) for item in filters.filters] == [("year", 2020)]
    assert filters.condition.value == "or"
    assert load_config(write(config.to_yaml())) == config
    part["filters"] = {"filter": []}
    assert [(where, message) for where, message, _ in problems_of("retriever", part)] == [
        ("retriever.filters.filters", "this is missing"),
        ("retriever.filters.filter", "there is no such setting"),
    ]


def test_a_typo_is_refused_where_the_class_itself_would_take_it() -> None:
    from llama_index.llms.ollama import Ollama

    Ollama(model="m", temprature=0.3)  # what the check is for
    ((path, _, hint),) = problems_of("llm", {"type": "llama_index.llms.ollama.Ollama", "model": "m", "temprature": 0.3})
    assert path == "llm.temprature"
    assert hint.startswith("did you mean 'temperature'?")


# ---------------------------------------------------------------------------------- what is built


def test_a_chunker_by_its_path_works_and_gets_no_global_callback_manager() -> None:
    chunker = with_part("chunker", {"type": f"{PARSER}.SentenceWindowNodeParser", "window_size": 1}).build("chunker")
    nodes = chunker.get_nodes_from_documents([Document(text="One. Two. Three.")])
    assert [node.metadata["window"].split() for node in nodes][0] == ["One.", "Two."]
    assert chunker.callback_manager.handlers == []


def test_an_llm_by_its_path_keeps_the_defaults_of_its_class() -> None:
    from llama_index.llms.ollama import Ollama

    llm = with_part("llm", {"type": "llama_index.llms.ollama.Ollama", "model": "m"}).build("llm")
    plain = Ollama(model="m")
    assert (llm.temperature, llm.request_timeout, llm.base_url) == (
        plain.temperature,
        plain.request_timeout,
        plain.base_url,
    )


def test_an_enum_given_as_text_arrives_as_its_member() -> None:
    from llama_index.core.vector_stores.types import VectorStoreQueryMode

    part = {"type": "llama_index.core.retrievers.VectorIndexRetriever", "vector_store_query_mode": "mmr"}
    config = load_config({**CONFIG, "store": "llama_index.core.vector_stores.SimpleVectorStore", "retriever": part})
    assert config.retriever.settings["vector_store_query_mode"] is VectorStoreQueryMode.MMR
    retriever = config.build("retriever", encoder=MockEmbedding(embed_dim=3))
    assert retriever._vector_store_query_mode is VectorStoreQueryMode.MMR


def test_a_synthesizer_by_its_path_gets_the_llm_and_helpers_of_the_config() -> None:
    llm = MockLLM()
    part = {"type": "llama_index.core.response_synthesizers.TreeSummarize", "streaming": True}
    synthesizer = with_part("synthesizer", part).build("synthesizer", llm=llm)
    assert synthesizer._llm is llm
    assert synthesizer._streaming is True


def test_a_reranker_that_asks_an_llm_gets_the_one_of_the_config() -> None:
    llm = MockLLM()
    (reranker,) = with_part("reranker", {"type": f"{POST}.LLMRerank", "top_n": 2}).build("rerankers", llm=llm)
    assert (reranker.llm, reranker.top_n) == (llm, 2)


def test_simple_directory_reader_reads_the_folder_relative_to_the_file(write: Any) -> None:
    write("Herons eat fish.", "conf/docs/a.md")
    write("left out", "conf/docs/b.txt")
    part = "{type: llama_index.core.SimpleDirectoryReader, input_dir: ./docs, required_exts: ['.md']}"
    path = write(
        f"reader: {part}\nencoder: {{type: huggingface, model: m}}\nstore: {{type: faiss, path: i}}\n", "conf/c.yaml"
    )
    assert [document.text for document in load_config(path).build("reader").load_data()] == ["Herons eat fish."]


def test_a_reader_whose_load_data_takes_arguments_has_them_as_settings() -> None:
    part = {"type": "llama_index.core.readers.StringIterableReader", "texts": ["a", "b"]}
    reader = with_part("reader", part).build("reader")
    assert [document.text for document in reader.load_data()] == ["a", "b"]
    assert problems_of("reader", {**part, "texts": "a"}) == [
        ("reader.texts", "a list of texts is expected, not the text 'a'", "write it as a list: [...]")
    ]
    assert problems_of("reader", "llama_index.core.readers.StringIterableReader") == [
        (
            "reader.texts",
            "reader 'llama_index.core.readers.StringIterableReader' needs this setting",
            "a list of texts",
        )
    ]


def test_the_parts_that_the_engine_hands_in_are_no_settings() -> None:
    component = find("retriever", "llama_index.core.retrievers.VectorIndexRetriever")
    assert {"index", "callback_manager", "embed_model"}.isdisjoint(component.schema.model_fields)
    assert set(component.wiring) >= {"index", "callback_manager"}
    ((_, message, _),) = problems_of(
        "retriever", {"type": "llama_index.core.retrievers.VectorIndexRetriever", "index": 3}
    )
    assert message.endswith("has no such setting")

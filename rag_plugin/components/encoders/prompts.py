"""Prompts of an encoder: those of the config, the model's own, or those its model family was trained with.

A family is recognized by the last part of a hub id, folder or package name, or by an Ollama tag. `_name_or_path` and
`base_model` of a model's config are not used: they often name the model that this one was trained from, which has other
prompts, such as e5-small-unsupervised for snowflake-arctic-embed-s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """Models with the same prompts.

    Attributes:
        pattern: Regular expression, searched in a model's name in lower case with `-` between words.
        source: The page where the authors document the prompts.
        pools_prompt: Whether the prompt's tokens are part of the pooled vector.
    """

    name: str
    pattern: str
    query_prompt: str
    document_prompt: str
    source: str
    pools_prompt: bool = True


_SEARCH = "Represent this sentence for searching relevant passages: "
_QUESTION = "Represent the question for retrieving supporting documents: "
_WEB_SEARCH = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
_HUB = "https://huggingface.co/"

# The first match wins. Families without prompts are listed so that no other row matches them.
FAMILIES = (
    Family("e5 instruct", r"\be5-(mistral-7b|large|base|small)-instruct\b", _WEB_SEARCH, "",
           _HUB + "intfloat/multilingual-e5-large-instruct"),
    Family("e5", r"\be5-(small|base|large)\b", "query: ", "passage: ", _HUB + "intfloat/e5-base-v2"),
    Family("bge m3", r"\bbge-m3\b", "", "", _HUB + "BAAI/bge-m3"),
    Family("bge zh", r"\bbge-(small|base|large)-zh\b", "为这个句子生成表示以用于检索相关文章：", "",
           _HUB + "BAAI/bge-large-zh-v1.5"),
    Family("bge en", r"\bbge-((small|base|large)(-en)?(-v1\.5)?|(small|base|large)-en-v1-5)$", _SEARCH, "",
           _HUB + "BAAI/bge-small-en-v1.5"),
    Family("nomic", r"\b(nomic-embed-text|modernbert-embed)\b", "search_query: ", "search_document: ",
           _HUB + "nomic-ai/nomic-embed-text-v1.5"),
    Family("gte qwen", r"\bgte-qwen", _WEB_SEARCH, "", _HUB + "Alibaba-NLP/gte-Qwen2-1.5B-instruct"),
    Family("gte", r"\bgte-", "", "", _HUB + "thenlper/gte-base"),
    Family("arctic 2", r"\barctic-embed-?(2|\w+-v2(\.0|-0)?)\b", "query: ", "",
           _HUB + "Snowflake/snowflake-arctic-embed-l-v2.0"),
    Family("arctic", r"\barctic-embed\b", _SEARCH, "", _HUB + "Snowflake/snowflake-arctic-embed-m"),
    Family("mxbai", r"\bmxbai-embed-(2d-)?large\b", _SEARCH, "", _HUB + "mixedbread-ai/mxbai-embed-large-v1"),
    Family("uae", r"\buae-large\b", _SEARCH, "", _HUB + "WhereIsAI/UAE-Large-V1"),
    Family("instructor", r"\binstructor-(base|large|xl)\b", _QUESTION, "Represent the document for retrieval: ",
           _HUB + "hkunlp/instructor-large", pools_prompt=False),
    Family("jina 2", r"\bjina-embeddings-v2\b", "", "", _HUB + "jinaai/jina-embeddings-v2-base-en"),
    Family("qwen3", r"\bqwen3-(embedding|vl-embedding)\b", _WEB_SEARCH.rstrip(" "), "",
           _HUB + "Qwen/Qwen3-Embedding-0.6B"),
    Family("embeddinggemma", r"\bembeddinggemma\b", "task: search result | query: ", "title: none | text: ",
           _HUB + "google/embeddinggemma-300m"),
    Family("granite", r"\bgranite-embedding\b", "", "", _HUB + "ibm-granite/granite-embedding-english-r2"),
    Family("minilm", r"\ball-minilm\b", "", "", _HUB + "sentence-transformers/all-MiniLM-L6-v2"),
)  # fmt: skip


def family_of(*names: str) -> Family | None:
    """The family of the first name that matches one, or None.

    Args:
        names: Hub ids, folders, package names or Ollama tags, in any case.
    """
    for name in names:
        last = re.split(r"[/\\]", name.strip().rstrip("/\\"))[-1].lower()
        plain = re.sub(r"[_\s]+", "-", re.sub(r":.*$|[-.]gguf$|-v1\.0$", "", last))
        for family in FAMILIES:
            if re.search(family.pattern, plain):
                return family
    return None


def effective_prompts(
    family: Family | None, configured: Mapping[str, str | None], own: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The prompts in effect and their sources, as fields of `RoleEmbedding`.

    Args:
        configured: The prompts of the config by role; None where unset.
        own: The model's own prompts by role; used where at least one is not empty.
    """
    fields: dict[str, str] = {}
    for role, prompt in configured.items():
        if prompt is not None:
            source = "config"
        elif own and any(own.values()):
            prompt, source = own[role], "model"
        elif family is not None:
            prompt, source = getattr(family, f"{role}_prompt"), f"family {family.name}"
        else:
            prompt, source = "", "none"
        fields |= {f"{role}_prompt": prompt, f"{role}_prompt_from": source}
    return fields

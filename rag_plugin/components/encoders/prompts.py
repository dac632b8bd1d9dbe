"""The prompts that well-known families of encoders were trained with, for models whose own files do not say them.

A family is told by the model's own name: the last part of a hub id, of a folder, of a package, or an Ollama tag. What a
config calls `_name_or_path` or `base_model` does not count: it is often the model that this one was made from, such as
e5-small-unsupervised for snowflake-arctic-embed-s, whose prompts are others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """Models that take the same prompts.

    `pattern` is searched in a name of lower case letters with `-` between its words. `source` is where the makers say
    it. `pools_prompt` is false where the prompt's own tokens are left out of the vector.
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

# The first that fits counts. Families without prompts stand here too, so that no other row takes them for its own.
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
    """The family that one of a model's names tells, or None.

    Args:
        names: Hub ids, folders, package names or Ollama tags, in any case; the last part of each is looked at.
    """
    for name in names:
        last = re.split(r"[/\\]", name.strip().rstrip("/\\"))[-1].lower()
        plain = re.sub(r"[_\s]+", "-", re.sub(r":.*$|[-.]gguf$|-v1\.0$", "", last))
        for family in FAMILIES:
            if re.search(family.pattern, plain):
                return family
    return None

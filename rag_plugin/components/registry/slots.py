"""The slots: one row for each part of an engine, with everything that the package states about the slot itself.

A new built-in type is an edit of this file and the function that it names. A new slot is a row here and, where other
parts use it, a property of `Assembly`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_COMPONENTS = "rag_plugin.components"


@dataclass(frozen=True)
class Slot:
    """A part of an engine and its section of the config.

    Attributes:
        name: The slot's name, as entry point groups use it.
        summary: One phrase for listings.
        base_class: The LlamaIndex class that a part has to be an instance of, as `module:Class`.
        types: Built-in types and the functions that build them, as `module:function`.
        class_path: A LlamaIndex class of this slot, as an example.
        section: The key of the YAML; by default the slot's name.
        synonyms: Names of this section in other projects.
        default: The type of a missing section; None leaves the slot empty.
        type_is_optional: Whether a section may change settings of the default type without naming it.
        example: A section to start from. Set for sections that have to be there.
        common: The function whose settings every component of the slot has, third-party ones too.
        default_by: A section and, by its type, the type that replaces `default`.
    """

    name: str
    summary: str
    base_class: str
    types: Mapping[str, str]
    class_path: str
    section: str = ""
    synonyms: tuple[str, ...] = ()
    default: str | None = None
    type_is_optional: bool = False
    example: str = ""
    common: str | None = None
    default_by: tuple[str, Mapping[str, str]] = ("", {})

    def __post_init__(self) -> None:
        object.__setattr__(self, "section", self.section or self.name)

    @property
    def is_required(self) -> bool:
        """Whether a config without this section is incomplete."""
        return bool(self.example)


def _types(folder: str, *names: str) -> dict[str, str]:
    return {name: f"{_COMPONENTS}.{folder}.components:{name}" for name in names}


_ROWS = (
    Slot(
        "reader",
        "where the documents come from",
        "llama_index.core.readers.base:BaseReader",
        _types("readers", "directory", "jsonl"),
        "llama_index.core.SimpleDirectoryReader",
        synonyms=("loader", "documents", "data"),
        example="reader: {type: directory, path: ./docs}",
    ),
    Slot(
        "chunker",
        "how a document is split into nodes",
        "llama_index.core.node_parser:NodeParser",
        _types(
            *("chunkers", "sentence", "token", "markdown", "code"),
            *("semantic", "sentence_window", "hierarchical", "none"),
        ),
        "llama_index.core.node_parser.SentenceWindowNodeParser",
        synonyms=("splitter", "text_splitter", "node_parser", "transformations", "chunking"),
        default="sentence",
        type_is_optional=True,
        common=f"{_COMPONENTS}.chunkers.components:common",
    ),
    Slot(
        "encoder",
        "what turns text into vectors",
        "llama_index.core.base.embeddings.base:BaseEmbedding",
        _types("encoders", "huggingface", "ollama"),
        "llama_index.embeddings.huggingface.HuggingFaceEmbedding",
        synonyms=("embedding", "embeddings", "embedder", "embed_model"),
        example="encoder: {type: huggingface, model: BAAI/bge-small-en-v1.5}",
    ),
    Slot(
        "store",
        "where nodes and vectors are kept and searched",
        "llama_index.core.vector_stores.types:BasePydanticVectorStore",
        _types("stores", "faiss"),
        "llama_index.core.vector_stores.SimpleVectorStore",
        synonyms=("vector_store", "vectorstore", "index", "database"),
        example="store: {type: faiss, path: ./.rag/index}",
    ),
    Slot(
        "llm",
        "what writes the answer",
        "llama_index.core.llms:LLM",
        _types("llms", "ollama", "huggingface", "none"),
        "llama_index.llms.ollama.Ollama",
        synonyms=("model", "generator"),
        default="none",
    ),
    Slot(
        "retriever",
        "how a question finds nodes",
        "llama_index.core.base.base_retriever:BaseRetriever",
        _types("retrievers", "vector", "lexical", "hybrid"),
        "llama_index.core.retrievers.VectorIndexRetriever",
        synonyms=("retrieval",),
        default="vector",
        type_is_optional=True,
    ),
    Slot(
        "reranker",
        "what reorders and filters the retrieved nodes (a list: `rerankers`)",
        "llama_index.core.postprocessor.types:BaseNodePostprocessor",
        _types("rerankers", "similarity_cutoff", "window", "auto_merging"),
        "llama_index.core.postprocessor.LongContextReorder",
        section="rerankers",
        synonyms=("reranker", "postprocessors", "node_postprocessors"),
        default_by=("chunker", {"sentence_window": "window", "hierarchical": "auto_merging"}),
    ),
    Slot(
        "synthesizer",
        "how an answer is made from the nodes",
        "llama_index.core.response_synthesizers:BaseSynthesizer",
        _types(
            *("synthesizers", "compact", "refine", "tree_summarize", "simple_summarize", "accumulate"),
            *("compact_accumulate", "generation", "quote", "context_only", "no_text"),
        ),
        "llama_index.core.response_synthesizers.TreeSummarize",
        synonyms=("response_synthesizer",),
        default="compact",
        default_by=("llm", {"none": "quote"}),
        type_is_optional=True,
    ),
)

SLOTS: dict[str, Slot] = {slot.name: slot for slot in _ROWS}
"""The slots by name, in the order in which they are documented."""

SECTIONS: dict[str, Slot] = {slot.section: slot for slot in _ROWS}
"""The slots by the key of their section."""

WIRING: dict[str, str] = {
    "encoder": "embed_model",
    "llm": "llm",
    "index": "index",
    "store": "vector_store",
    "callback_manager": "callback_manager",
    "prompt_helper": "prompt_helper",
    "chat_prompt_helper": "chat_prompt_helper",
}
"""What a component may take before its `*`, and the parameter of LlamaIndex's classes that takes the same."""

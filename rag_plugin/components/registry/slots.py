"""The slots of a config: what each is for, its LlamaIndex base class, and its built-in types."""

from __future__ import annotations

SLOTS: dict[str, str] = {
    "reader": "where the documents come from",
    "chunker": "how a document is cut into nodes",
    "encoder": "what turns text into vectors",
    "store": "where nodes and vectors are kept and searched",
    "llm": "what writes the answer",
    "retriever": "how a question finds nodes",
    "reranker": "what sorts and thins out the nodes that were found (a list: `rerankers`)",
    "synthesizer": "how an answer is made from the nodes",
}

BASE_CLASSES: dict[str, str] = {
    "reader": "llama_index.core.readers.base:BaseReader",
    "chunker": "llama_index.core.node_parser:NodeParser",
    "encoder": "llama_index.core.base.embeddings.base:BaseEmbedding",
    "store": "llama_index.core.vector_stores.types:BasePydanticVectorStore",
    "llm": "llama_index.core.llms:LLM",
    "retriever": "llama_index.core.base.base_retriever:BaseRetriever",
    "reranker": "llama_index.core.postprocessor.types:BaseNodePostprocessor",
    "synthesizer": "llama_index.core.response_synthesizers:BaseSynthesizer",
}

WIRING = frozenset({"encoder", "store", "llm", "index", "callback_manager"})
"""What a component may ask for before its `*`."""

_BUILT_IN: dict[str, dict[str, str]] = {
    "reader": {
        "directory": "rag_plugin.components.readers.components:directory",
        "jsonl": "rag_plugin.components.readers.components:jsonl",
    },
    "chunker": {
        "sentence": "rag_plugin.components.chunkers.components:sentence",
        "token": "rag_plugin.components.chunkers.components:token",
        "markdown": "rag_plugin.components.chunkers.components:markdown",
        "code": "rag_plugin.components.chunkers.components:code",
        "semantic": "rag_plugin.components.chunkers.components:semantic",
        "sentence_window": "rag_plugin.components.chunkers.components:sentence_window",
        "hierarchical": "rag_plugin.components.chunkers.components:hierarchical",
        "none": "rag_plugin.components.chunkers.components:none",
    },
    "encoder": {
        "huggingface": "rag_plugin.components.encoders.components:huggingface",
        "ollama": "rag_plugin.components.encoders.components:ollama",
    },
    "store": {"faiss": "rag_plugin.components.stores.components:faiss"},
    "llm": {
        "ollama": "rag_plugin.components.llms.components:ollama",
        "huggingface": "rag_plugin.components.llms.components:huggingface",
        "none": "rag_plugin.components.llms.components:none",
    },
    "retriever": {
        "vector": "rag_plugin.components.retrievers.components:vector",
        "lexical": "rag_plugin.components.retrievers.components:lexical",
        "hybrid": "rag_plugin.components.retrievers.components:hybrid",
    },
    "reranker": {
        "similarity_cutoff": "rag_plugin.components.rerankers.components:similarity_cutoff",
        "window": "rag_plugin.components.rerankers.components:window",
        "auto_merging": "rag_plugin.components.rerankers.components:auto_merging",
    },
    "synthesizer": {
        mode: f"rag_plugin.components.synthesizers.components:{mode}"
        for mode in (
            "compact",
            "refine",
            "tree_summarize",
            "simple_summarize",
            "accumulate",
            "compact_accumulate",
            "generation",
            "context_only",
            "no_text",
        )
    },
}

_EVERY = {"chunker": "rag_plugin.components.chunkers.components:every"}
"""The function whose settings all components of a slot have, whoever wrote them; the engine acts on these."""

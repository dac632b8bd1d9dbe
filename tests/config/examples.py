"""Configs that tests start from."""

from __future__ import annotations

BASE = """\
reader: {type: directory, path: ./docs}
encoder: {type: huggingface, model: m}
store: {type: faiss, path: ./index}
"""


ROUND_TRIPS = {
    "smallest": "",
    "bare types": "chunker: token\nllm: none\nsynthesizer: refine\n",
    "rerankers": "rerankers: [{type: similarity_cutoff, cutoff: 0.1}, {type: similarity_cutoff, cutoff: 1}]\n",
    "no rerankers": "rerankers: []\n",
    "dollars": "llm: {type: ollama, model: 'a$b$$c$${d}', headers: {'$x': '$$y'}}\n",
    "bare variable": "retriever:\n  top_k: ${COUNT}\n",
    "quoted variable": "llm: {type: ollama, model: '${COUNT}'}\n",
    "default": "llm: {type: ollama, model: '${UNSET_HERE:-a: #b}'}\n",
    "bare default": "llm:\n  type: ollama\n  model: ${UNSET_HERE:-qwen}\n  max_tokens: ${UNSET_HERE:-99}\n",
    "variable and dollar": "llm: {type: ollama, model: 'a$$${COUNT}$b'}\n",
    "variable type": "llm: {type: '${KIND}', model: m}\n",
    "many lines": 'llm: {type: ollama, model: "a\\nb: c\\n  - d\\t#e\\n"}\n',
    "block": "synthesizer:\n  text_qa_template: |\n    ${COUNT}\n\n      {context_str}\n    {query_str}\n\n",
    "odd characters": 'llm: {type: ollama, model: "\\u2028\\x85\\x07é𝄞\\uFEFF\\u00a0 "}\n',
    "line breaks of YAML 1.1": 'llm: {type: ollama, model: "\\x85", headers: {"a\\x85b": "\\u2028"}}\n',
    "looks like something else": "llm: {type: ollama, model: '0x10', system_prompt: 'null', keep_alive: '10m'}\n",
    "floats": "rerankers: [{type: similarity_cutoff, cutoff: 1e-300}, {type: similarity_cutoff, cutoff: -0.1}]\n",
    "largest whole number": "retriever: {top_k: 18446744073709551616}\n",
    "odd keys": "llm: {type: ollama, model: m, headers: {'3': a, 'null': b, '': c, 'd e: f': g, \"h\\ni\": j}}\n",
    "template path": "llm: {type: huggingface, model: '${UNSET_HERE:-./m.gguf}'}\n",
    "template of a name": "llm: {type: huggingface, model: '${UNSET_HERE:-a}/b'}\n",
    "absolute template": "llm: {type: huggingface, model: '${FOLDER}/b'}\n",
    "home": "llm: {type: huggingface, model: ~/m.gguf}\n",
    "home and template": "llm: {type: huggingface, model: '~/${KIND}.gguf'}\n",
    "class path": "chunker: {type: llama_index.core.node_parser.SentenceWindowNodeParser, window_size: 2}\n",
    "class path without settings": "rerankers: [llama_index.core.postprocessor.LongContextReorder]\n",
    "class path with an enum": "retriever:\n  type: llama_index.core.retrievers.VectorIndexRetriever\n"
    "  vector_store_query_mode: default\n",
    "sync": "sync:\n  on_error: stop\n  batch_size: ${COUNT}\n",
    "union": "llm: {type: ollama, model: m, thinking: low, keep_alive: 3}\n",
}

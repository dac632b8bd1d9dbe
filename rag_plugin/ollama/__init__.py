"""What LlamaIndex lacks about Ollama: a context of its own, patience, and errors that say what to type."""

"""Files that `rag-plugin init` writes."""

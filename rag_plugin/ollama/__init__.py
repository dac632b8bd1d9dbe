"""A client for Ollama servers: typed errors, time limits, retries; imports no LlamaIndex."""

"""The built-in components: settings in, LlamaIndex objects out. Each module imports nothing heavy at its top."""

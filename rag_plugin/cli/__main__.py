"""`python -m rag_plugin.cli` is `rag-plugin`."""

from . import main

main()

"""Where a node, or a part of it, stands in its document: for citations and listings."""

from __future__ import annotations

from llama_index.core.schema import BaseNode


def document_of(node: BaseNode) -> str:
    """The id of a node's document; "" where it is unknown."""
    return str(node.ref_doc_id or "")


def place_of(node: BaseNode, offset: int = 0) -> str:
    """The page or line of the character at `offset` of a node's text, such as `line 12`; "" where it is unknown."""
    before = node.get_content()[:offset]
    for key, separator in (("page", "\f"), ("line", "\n")):
        number = node.metadata.get(key)
        if number is not None:
            return f"{key} {number + before.count(separator) if isinstance(number, int) else number}"
    return ""


def source(document: str, place: str) -> str:
    """A document and a place in it, such as `guide.md, line 12`."""
    return ", ".join(filter(None, (document, place)))


def source_of_node(node: BaseNode) -> str:
    """The document of a node and the place where it starts."""
    return source(document_of(node), place_of(node))

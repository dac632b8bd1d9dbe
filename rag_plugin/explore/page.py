"""A map as one self-contained HTML page: no server, no network, no other file."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from importlib.resources import files
from typing import Any

import numpy as np

from .map import OTHERS, Map
from .space import shortened

_MAX_CHARACTERS = 400  # of each text
_LARGE_MAP = 10_000  # points; with more, texts are cut to half of that, so that browsers can open the page
_UNSAFE = {character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def map_page(drawn: Map) -> str:
    """The HTML of the page.

    The texts are embedded as JSON without characters that could end the script element. The content security policy
    contains the hash of the page's own script, so a browser runs no other.
    """
    template = (files("rag_plugin") / "templates" / "map.html").read_text(encoding="utf-8")
    script, style = (_hash_of_element(template, tag) for tag in ("script", "style"))
    policy = f"default-src 'none'; script-src '{script}'; style-src '{style}'"
    values = {"POLICY": policy, "TITLE": html.escape(drawn.title), "DATA": json_for_html(_data(drawn))}
    # In one pass, so that a text that looks like a placeholder is not replaced.
    return re.sub(r"@@(POLICY|TITLE|DATA)@@", lambda match: values[match[1]], template)


def json_for_html(data: dict[str, Any]) -> str:
    """JSON that cannot end the script element that contains it."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return re.sub("[<>&\u2028\u2029]", lambda match: _UNSAFE[match[0]], text)


def _hash_of_element(template: str, tag: str) -> str:
    match = re.search(rf"<{tag}>(.*?)</{tag}>", template, re.DOTALL)
    assert match is not None
    return "sha256-" + base64.b64encode(hashlib.sha256(match[1].encode()).digest()).decode()


def _data(drawn: Map) -> dict[str, Any]:
    points, query = drawn.points, drawn.query
    everything = points if query is None else np.vstack([points, query.point])
    low, high = everything.min(axis=0), everything.max(axis=0)
    size = float((high - low).max()) or 1.0
    scaled = np.round((everything - (low + high) / 2) / size, 5) + 0.0  # to -0.5 to 0.5; + 0.0 removes negative zeros
    max_characters = _MAX_CHARACTERS if len(points) <= _LARGE_MAP else _MAX_CHARACTERS // 2
    documents = list(dict.fromkeys(piece.document for piece in drawn.pieces))
    index_of = {name: index for index, name in enumerate(documents)}
    are_documents = {piece.text for piece in drawn.pieces} <= set(documents)  # a document's text is its name
    question = None
    if query is not None:
        x, y = scaled[-1].tolist()
        hits = [[hit.number, None if hit.score is None else round(hit.score, 3)] for hit in query.hits]
        question = {"text": query.text, "x": x, "y": y, "hits": hits}
    return {
        "title": drawn.title,
        "of": drawn.of,
        "method": drawn.method,
        "colourBy": drawn.colour_by,
        "labelled": drawn.labelled,
        "plain": OTHERS,
        "groups": [
            {"name": shortened(group.name, 80), "count": group.count, "colour": group.colour, "shape": group.shape}
            for group in drawn.groups
        ],
        "x": scaled[: len(points), 0].tolist(),
        "y": scaled[: len(points), 1].tolist(),
        "group": list(drawn.group_of),
        "text": [_cut(piece.text.strip(), max_characters) for piece in drawn.pieces],
        "documents": [] if are_documents else documents,
        "document": [] if are_documents else [index_of[piece.document] for piece in drawn.pieces],
        "question": question,
    }


def _cut(text: str, max_characters: int) -> str:
    return text if len(text) <= max_characters else text[: max_characters - 1].rstrip() + "…"

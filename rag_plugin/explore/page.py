"""A map as one HTML page that needs nothing else: no server, no network, no other file."""

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

_CHARACTERS = 400  # of a text that the page shows
_MANY = 10_000  # points, from which on a text is cut shorter, so that the page stays small enough to be opened
_UNSAFE = {character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def map_page(drawn: Map) -> str:
    """The page.

    Texts go into it as JSON in which no character can end the element that holds it, and the page shows them as
    text only. Its own script is the only one that a browser runs: the page says so by the hash of the script.
    """
    template = (files("rag_plugin") / "templates" / "map.html").read_text(encoding="utf-8")
    script = re.search(r"<script>(.*?)</script>", template, re.DOTALL)
    style = re.search(r"<style>(.*?)</style>", template, re.DOTALL)
    assert script is not None
    assert style is not None
    policy = f"default-src 'none'; script-src '{_hash(script[1])}'; style-src '{_hash(style[1])}'"
    values = {"POLICY": policy, "TITLE": html.escape(drawn.title), "DATA": json_for_html(_data(drawn))}
    # In one pass, so that a text which looks like a place holder stays a text.
    return re.sub(r"@@(POLICY|TITLE|DATA)@@", lambda found: values[found[1]], template)


def json_for_html(data: Any) -> str:
    """JSON that can stand in a script element: whatever a text says, it does not end it."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return re.sub("[<>&\u2028\u2029]", lambda found: _UNSAFE[found[0]], text)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _data(drawn: Map) -> dict[str, Any]:
    points = drawn.points
    asked = drawn.asked
    every = points if asked is None else np.vstack([points, asked.point])
    low, high = every.min(axis=0), every.max(axis=0)
    size = float((high - low).max()) or 1.0
    scaled = np.round((points - (low + high) / 2) / size, 5) + 0.0  # into -0.5 to 0.5
    most = _CHARACTERS if len(points) <= _MANY else _CHARACTERS // 2
    documents = list(dict.fromkeys(piece.document for piece in drawn.pieces))
    number = {name: place for place, name in enumerate(documents)}
    named = {piece.text for piece in drawn.pieces} <= set(documents)  # a document's text is its name
    groups = [{"name": shortened(g.name, 80), "count": g.count, "colour": g.colour, "shape": g.shape}
              for g in drawn.groups]  # fmt: skip
    question = None
    if asked is not None:
        x, y = np.round((np.array(asked.point) - (low + high) / 2) / size, 5) + 0.0
        hits = [[hit.number, None if hit.score is None else round(hit.score, 3)] for hit in asked.hits]
        question = {"text": asked.text, "x": float(x), "y": float(y), "hits": hits}
    return {
        "title": drawn.title,
        "of": drawn.of,
        "method": drawn.method,
        "colourBy": drawn.colour_by,
        "labelled": drawn.labelled,
        "plain": OTHERS,
        "groups": groups,
        "x": scaled[:, 0].tolist(),
        "y": scaled[:, 1].tolist(),
        "group": list(drawn.group_of),
        "text": [_cut(piece.text, most) for piece in drawn.pieces],
        "documents": [] if named else documents,
        "document": [] if named else [number[piece.document] for piece in drawn.pieces],
        "question": question,
    }


def _cut(text: str, most: int) -> str:
    text = text.strip()
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"

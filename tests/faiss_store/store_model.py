"""A plain-Python model of the FAISS store, and what the tests beside it share.

In: the same calls as the store gets. Out: what the store has to answer, by comparing everything with everything.
Nothing here knows how the store works; where it says what a filter means, it is written from the text of
llama_index's `build_metadata_filter_fn`, not from the store's.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_index.core.schema import BaseNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)

from rag_plugin.errors import StoreError
from rag_plugin.faiss_store import FaissStore
from tests.faiss_store.nodes import DIMENSION
from tests.processes import PROCESSES

NEAR = 1e-5
"""How far a score may be from the one in double precision."""

RARE_WORDS = ("quokka", "zephyr", "osprey", "walnut", "größe", "東京")
"""No stop words, and no two with a stem in common."""

Vector = tuple[float, ...]


# ---------------------------------------------------------------------------------- nodes


@dataclass(frozen=True)
class Known:
    """A node as the model keeps it."""

    id: str
    vector: Vector
    document: str | None = None
    text: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def node(self) -> TextNode:
        """The node to give to the store."""
        node = TextNode(id_=self.id, text=self.text, metadata=dict(self.metadata))
        node.embedding = list(self.vector)
        if self.document is not None:
            node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=self.document)
        return node

    def shown(self) -> tuple[str | None, str, str]:
        """All that can be seen of it from outside, but for the vector."""
        return self.document, self.text, json.dumps(self.metadata, sort_keys=True)


def shown(node: BaseNode) -> tuple[str | None, str, str]:
    """What `Known.shown` is for a node that the store gave; hybrid hits also have the scores that were fused."""
    metadata = {key: value for key, value in node.metadata.items() if key not in ("vector_score", "lexical_score")}
    return node.ref_doc_id, node.get_content(), json.dumps(metadata, sort_keys=True)


def vector(seed: int, dimension: int = DIMENSION) -> Vector:
    """A vector that depends on the seed alone."""
    return tuple(np.random.default_rng(seed).normal(size=dimension).astype(np.float32).tolist())


def ask(
    question: Sequence[float] | int | None,
    top_k: int = 3,
    mode: VectorStoreQueryMode = VectorStoreQueryMode.DEFAULT,
    **others: Any,
) -> VectorStoreQuery:
    """A query, with the vector itself or the seed of one."""
    embedding = vector(question) if isinstance(question, int) else question
    return VectorStoreQuery(
        query_embedding=None if embedding is None else list(embedding), similarity_top_k=top_k, mode=mode, **others
    )


def ask_words(words: str, top_k: int, **others: Any) -> VectorStoreQuery:
    """A query of the text alone."""
    return ask(None, top_k, VectorStoreQueryMode.TEXT_SEARCH, query_str=words, sparse_top_k=top_k, **others)


def where(key: str, value: Any, operator: FilterOperator = FilterOperator.EQ) -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=operator)])


# ---------------------------------------------------------------------------------- filters


def _text_match(held: Any, value: Any) -> bool:
    if not (isinstance(held, str) and isinstance(value, str)):
        raise TypeError
    return value in held


_COMPARISONS: dict[FilterOperator, Callable[[Any, Any], bool]] = {
    FilterOperator.EQ: lambda held, value: held == value,
    FilterOperator.NE: lambda held, value: held != value,
    FilterOperator.GT: lambda held, value: held > value,
    FilterOperator.GTE: lambda held, value: held >= value,
    FilterOperator.LT: lambda held, value: held < value,
    FilterOperator.LTE: lambda held, value: held <= value,
    FilterOperator.IN: lambda held, value: held in value,
    FilterOperator.NIN: lambda held, value: held not in value,
    FilterOperator.CONTAINS: lambda held, value: value in held,
    FilterOperator.TEXT_MATCH: _text_match,
    FilterOperator.TEXT_MATCH_INSENSITIVE: lambda held, value: _text_match(_lower(held), _lower(value)),
    FilterOperator.ALL: lambda held, value: all(each in held for each in value),
    FilterOperator.ANY: lambda held, value: any(each in held for each in value),
}


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _leaf(leaf: MetadataFilter, metadata: Mapping[str, Any]) -> bool | None:
    held = metadata.get(leaf.key)
    if leaf.operator == FilterOperator.IS_EMPTY:
        return held is None or held == "" or held == []
    if held is None:
        return leaf.operator in (FilterOperator.NE, FilterOperator.NIN)
    try:
        return _COMPARISONS[leaf.operator](held, leaf.value)
    except TypeError:
        return None


def passes(filters: MetadataFilters | None, metadata: Mapping[str, Any]) -> bool | None:
    """Whether metadata passes; None where that hangs on a comparison of what cannot be compared."""
    if filters is None or not filters.filters:
        return True
    found = [
        passes(each, metadata) if isinstance(each, MetadataFilters) else _leaf(each, metadata)
        for each in filters.filters
    ]
    condition = filters.condition or FilterCondition.AND
    if condition == FilterCondition.AND:
        return False if False in found else None if None in found else True
    some = True if True in found else None if None in found else False
    return some if condition == FilterCondition.OR or some is None else not some


def misfits(filters: MetadataFilters | None, metadata: Mapping[str, Any]) -> bool:
    """Whether any comparison in the filters is one that cannot be made."""
    return filters is not None and any(
        misfits(each, metadata) if isinstance(each, MetadataFilters) else _leaf(each, metadata) is None
        for each in filters.filters
    )


# ---------------------------------------------------------------------------------- the model


class Misfit(Exception):
    """The filters compare what cannot be compared, so the store has to refuse them."""


@dataclass
class Model:
    """What the store should hold."""

    nodes: dict[str, Known] = field(default_factory=dict)

    def copy(self) -> Model:
        return Model(dict(self.nodes))

    def add(self, given: Iterable[Known]) -> None:
        self.nodes.update((known.id, known) for known in given)

    def delete(self, document: str) -> None:
        self.nodes = {name: known for name, known in self.nodes.items() if known.document != document}

    def delete_nodes(self, ids: Sequence[str] | None, filters: MetadataFilters | None) -> None:
        gone = self.chosen(ids, None, filters, empty_restricts=True)
        self.nodes = {name: known for name, known in self.nodes.items() if name not in gone}

    def clear(self) -> None:
        self.nodes = {}

    def chosen(
        self,
        ids: Sequence[str] | None,
        documents: Sequence[str] | None,
        filters: MetadataFilters | None,
        *,
        empty_restricts: bool = False,
    ) -> dict[str, Known]:
        """The nodes that a call is about.

        Raises:
            Misfit: Which ones cannot be said.
        """
        named = self._named(ids, documents, empty_restricts)
        found = {name: passes(filters, known.metadata) for name, known in named.items()}
        if None in found.values():
            raise Misfit
        return {name: known for name, known in named.items() if found[name]}

    def may_refuse(self, filters: MetadataFilters | None) -> bool:
        """Whether llama_index itself would refuse the filters on some node; a store may, or see that it needs not."""
        return any(misfits(filters, known.metadata) for known in self.nodes.values())

    def _named(
        self, ids: Sequence[str] | None, documents: Sequence[str] | None, empty_restricts: bool
    ) -> dict[str, Known]:
        # LlamaIndex's retrievers send empty lists for "no restriction"; get_nodes and delete_nodes mean them.
        by_id = ids is not None and (empty_restricts or len(ids) > 0)
        return {
            name: known
            for name, known in self.nodes.items()
            if (not by_id or name in (ids or ())) and (documents is None or known.document in documents)
        }

    def shown(self) -> dict[str, tuple[str | None, str, str]]:
        return {name: known.shown() for name, known in self.nodes.items()}


def contents(store: FaissStore) -> dict[str, tuple[str | None, str, str]]:
    """Everything that a store holds, by id, to compare with `Model.shown()`."""
    nodes = store.get_nodes()
    found = {node.node_id: shown(node) for node in nodes}
    assert len(found) == len(nodes), "a node is there twice"
    return found


# ---------------------------------------------------------------------------------- answers


def scores(metric: str, nodes: Mapping[str, Known], question: Sequence[float]) -> dict[str, float]:
    """The similarity of each node to the question in double precision, higher is better."""
    if not nodes:
        return {}
    rows = np.array([known.vector for known in nodes.values()], dtype=np.float32).astype(np.float64)
    asked = np.array(question, dtype=np.float32).astype(np.float64)
    if metric == "l2":
        found = 1 / (1 + ((rows - asked) ** 2).sum(axis=1))
    else:
        found = rows @ asked
        if metric == "cosine":
            norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(asked)
            found = np.divide(found, norms, out=np.zeros_like(found), where=norms > 0)
    return dict(zip(nodes, found.tolist()))


def close_to(values: Iterable[float]) -> Any:
    return pytest.approx(list(values), rel=NEAR, abs=NEAR)


def check_nodes(result: VectorStoreQueryResult, nodes: Mapping[str, Known]) -> list[str]:
    """Assert that what came back is of these nodes, each once and as it is, the best first; the ids."""
    ids, found, similarities = result.ids, result.nodes, result.similarities
    assert ids is not None
    assert found is not None
    assert similarities is not None
    assert len(ids) == len(found) == len(similarities)
    assert len(set(ids)) == len(ids), f"twice in one answer: {ids}"
    assert set(ids) <= set(nodes), f"not among what was asked for: {set(ids) - set(nodes)}"
    assert [node.node_id for node in found] == ids
    assert {node.node_id: shown(node) for node in found} == {name: nodes[name].shown() for name in ids}
    assert all(type(score) is float and math.isfinite(score) for score in similarities)
    assert similarities == sorted(similarities, reverse=True)
    return ids


def check_nearest(
    result: VectorStoreQueryResult, nodes: Mapping[str, Known], question: Sequence[float], top_k: int, metric: str
) -> None:
    """Assert that the answer is what comparing the question with every node gives; equals in any order."""
    ids, expected = check_nodes(result, nodes), scores(metric, nodes, question)
    assert result.similarities == close_to(sorted(expected.values(), reverse=True)[:top_k])
    assert result.similarities == close_to(expected[name] for name in ids)


def having(words: str, nodes: Mapping[str, Known]) -> set[str]:
    """The nodes that have at least one of these words."""
    wanted = set(words.split())
    return {name for name, known in nodes.items() if wanted & set(known.text.split())}


def check_words(result: VectorStoreQueryResult, nodes: Mapping[str, Known], words: str, top_k: int) -> None:
    """Assert that the answer is the nodes that have the words, or as many of them as were asked for."""
    ids, expected = check_nodes(result, nodes), having(words, nodes)
    assert set(ids) <= expected, f"without any of {words!r}: {set(ids) - expected}"
    assert len(ids) == min(top_k, len(expected)), f"missing for {words!r}: {expected - set(ids)}"
    assert all(score > 0 for score in result.similarities or [])


def check_hybrid(
    result: VectorStoreQueryResult,
    nodes: Mapping[str, Known],
    question: Sequence[float],
    words: str,
    top_k: int,
    metric: str,
    alpha: float,
) -> None:
    """Assert what holds for every sound fusion of the two legs, whatever its formula."""
    ids, near, texts = check_nodes(result, nodes), scores(metric, nodes, question), having(words, nodes)
    # Where vectors have no weight, what only they would find may be left out.
    assert min(top_k, len(nodes if alpha > 0 else texts)) <= len(ids) <= min(top_k, len(nodes))
    assert all(0 <= score <= 1 + NEAR for score in result.similarities or [])
    if not ids:
        return
    ordered = sorted(near.values(), reverse=True)
    if alpha > 0:
        least = ordered[:top_k][-1] - 2 * NEAR * (1 + abs(ordered[:top_k][-1]))
        assert all(name in texts or near[name] >= least for name in ids), "in the answer and in neither leg"
    if alpha == 1:
        assert near[ids[0]] == pytest.approx(ordered[0], rel=2 * NEAR, abs=2 * NEAR)
    if alpha == 0 and texts:
        assert ids[0] in texts


def check_diverse(
    result: VectorStoreQueryResult,
    nodes: Mapping[str, Known],
    question: Sequence[float],
    top_k: int,
    metric: str,
    threshold: float,
) -> None:
    """Assert that MMR begins with the best and, where only nearness counts, is the plain search."""
    if threshold == 1:
        check_nearest(result, nodes, question, top_k, metric)
        return
    # Its scores are of nearness and newness together, so they say nothing about the order here.
    ids, near = list(result.ids or []), scores(metric, nodes, question)
    assert len(ids) == len(set(ids)) == min(top_k, len(nodes))
    assert set(ids) <= set(nodes)
    assert [shown(node) for node in result.nodes or []] == [nodes[name].shown() for name in ids]
    if ids:
        assert near[ids[0]] == pytest.approx(max(near.values()), rel=2 * NEAR, abs=2 * NEAR)


def check_store(store: FaissStore, model: Model, metric: str = "cosine", dimension: int = DIMENSION) -> None:
    """Assert that SQLite, FAISS and the text index of a store all hold what the model holds."""
    nodes, everything = model.nodes, len(model.nodes) + 5
    assert contents(store) == model.shown()
    assert len(store) == len(nodes)
    for seed in (1, 2):
        question = vector(seed, dimension)
        check_nearest(store.query(ask(question, everything)), nodes, question, everything, metric)
        check_nearest(store.query(ask(question, 3)), nodes, question, 3, metric)
    for word in (*RARE_WORDS, "nowhere"):
        check_words(store.query(ask_words(word, everything)), nodes, word, everything)
    both = ask(1, everything, VectorStoreQueryMode.HYBRID, query_str=RARE_WORDS[0])
    both.query_embedding = list(vector(1, dimension))
    both.sparse_top_k = both.hybrid_top_k = everything
    check_hybrid(store.query(both), nodes, vector(1, dimension), RARE_WORDS[0], everything, metric, 0.5)


# ---------------------------------------------------------------------------------- files


def derived(path: Path) -> list[Path]:
    """The files and folders of an index that can be made anew from index.sqlite."""
    return sorted([*path.glob("vectors*"), *path.glob("lexical")])


def remove(path: Path) -> None:
    """Delete a file or a folder; none is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def copy_index(source: Path, target: Path) -> Path:
    """Copy an index as it lies there, as a backup of the disk would, also while its store is open."""
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        try:
            if path.is_dir():
                copy.mkdir(parents=True, exist_ok=True)
            else:
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, copy)
        except FileNotFoundError:  # a file of the text index that was merged away meanwhile
            continue
    return target


def bytes_of(path: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(each.relative_to(path)): each.read_bytes() for each in sorted(path.rglob("*")) if each.is_file()}


# ---------------------------------------------------------------------------------- turns of a writer

WRITES = ("add", "replace", "delete", "delete nodes", "delete by filter", "clear")
OTHERS = ("snapshot", "verify", "open", "rebuild")
KINDS = WRITES + OTHERS
_USUAL = ("add",) * 6 + ("replace",) * 3 + ("delete", "delete nodes", "delete by filter", "snapshot", "open")


@dataclass(frozen=True)
class Turn:
    """One thing that a writer does; it follows from the number, in this process and in any other."""

    number: int
    kind: str
    document: str
    given: tuple[Known, ...]
    ids: tuple[str, ...]
    filters: MetadataFilters

    def on_model(self, model: Model) -> None:
        if self.kind in ("add", "replace"):
            model.add(self.given)
        elif self.kind == "delete":
            model.delete(self.document)
        elif self.kind == "delete nodes":
            model.delete_nodes(self.ids, None)
        elif self.kind == "delete by filter":
            model.delete_nodes(None, self.filters)
        elif self.kind == "clear":
            model.clear()

    def on_store(self, store: FaissStore) -> FaissStore:
        """Do it; the store to go on with, which is a new one where the turn is to open one."""
        if self.kind in ("add", "replace"):
            store.add([known.node() for known in self.given])
        elif self.kind == "delete":
            store.delete(self.document)
        elif self.kind == "delete nodes":
            store.delete_nodes(list(self.ids))
        elif self.kind == "delete by filter":
            store.delete_nodes(filters=self.filters)
        elif self.kind == "clear":
            store.clear()
        elif self.kind == "snapshot":
            store.snapshot()
        elif self.kind == "verify":
            for path in derived(store.path)[:1]:  # something to repair
                remove(path)
            store.verify(repair=True)
        else:
            store.close()
            if self.kind == "rebuild":
                for path in derived(store.path):
                    remove(path)
            store = FaissStore(store.path, metric=store.metric)
            store.query(ask(self.number, 3))
            store.query(ask_words(RARE_WORDS[0], 3))
        return store


def turn(number: int, kind: str | None = None, size: int = 60) -> Turn:
    """What a writer does in a turn, of this kind or of any."""
    chance = random.Random(number)
    kind = kind or chance.choice(_USUAL)
    document = f"d{chance.randrange(6)}"
    span = 2 * size if kind == "add" else size // 2
    names = {f"{document}/{chance.randrange(span)}": None for _ in range(chance.randrange(1, size))}
    given = tuple(
        Known(
            name,
            vector(chance.randrange(10**9)),
            document,
            f"note {number} {chance.choice(RARE_WORDS)} {chance.choice(RARE_WORDS)} end",
            {"turn": number, "part": chance.randrange(7)},
        )
        for name in names
    )
    return Turn(number, kind, document, given, tuple(names), where("part", chance.randrange(7)))


# ---------------------------------------------------------------------------------- other processes


class Heard:
    """The reading end of a pipe that remembers what came."""

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe
        self.items: list[Any] = []

    def wait(self, until: Callable[[Any], bool], seconds: float = 60) -> Any:
        """Read until something comes that is waited for; it."""
        deadline = time.monotonic() + seconds
        while self.pipe.poll(max(0, deadline - time.monotonic())):
            self.items.append(self.pipe.recv())
            if until(self.items[-1]):
                return self.items[-1]
        raise AssertionError(f"the other process said nothing for {seconds} s; before that {self.items[-3:]}")

    def rest(self) -> list[Any]:
        """All that was sent, when the other process is gone."""
        try:
            while self.pipe.poll(0):
                self.items.append(self.pipe.recv())
        except EOFError:
            pass
        return self.items


def start(target: Callable[..., None], *args: Any) -> tuple[Any, Heard]:
    """Run `target(*args, pipe)` in another process."""
    here, there = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=target, args=(*args, there), daemon=True)
    process.start()
    there.close()
    return process, Heard(here)


def outcome(target: Callable[..., Any], *args: Any, seconds: float = 120) -> Any:
    """What `target(*args)` returns in another process; its exception is raised here."""
    process, heard = start(_report, target, args)
    try:
        what, value = heard.wait(lambda _: True, seconds)
    except EOFError:
        process.join()
        raise AssertionError(f"the other process died of {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
    if what == "raised":
        raise AssertionError(f"in the other process: {value}")
    return value


def _report(target: Callable[..., Any], args: tuple[Any, ...], pipe: Any) -> None:
    try:
        pipe.send(("returned", target(*args)))
    except BaseException as error:
        pipe.send(("raised", f"{type(error).__name__}: {error}\n{traceback.format_exc()}"))
    time.sleep(60)  # what it sent has to be read before the pipe goes; the reader ends this


def refused(run: Callable[[], Any]) -> str | None:
    """The message of the StoreError that a call raises; None if it raises nothing."""
    try:
        run()
    except StoreError as error:
        return str(error)
    return None

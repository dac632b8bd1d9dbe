"""Hypothesis drives the store and a plain-Python model side by side, through every call, restart and crash."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQueryMode,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from rag_plugin.errors import StoreError
from rag_plugin.faiss_store import FaissStore
from tests.faiss_store.nodes import METRICS
from tests.faiss_store.store_model import (
    RARE_WORDS,
    Known,
    Misfit,
    Model,
    ask,
    ask_words,
    check_diverse,
    check_hybrid,
    check_nearest,
    check_nodes,
    check_store,
    check_words,
    contents,
    copy_index,
    misfits,
    passes,
    refused,
    shown,
    where,
)

EXAMPLES = int(os.environ.get("RAG_PLUGIN_EXAMPLES", "50"))
"""How many histories are tried; scripts/faults tries many more."""

# Where a commit's fsync costs nothing, so that many histories fit into seconds; what it is for, kill -9 cannot tell.
FAST_DISK = "/dev/shm" if os.path.isdir("/dev/shm") else None

MISFIT = r"filters? .*do(es)? not fit the metadata"

# ---------------------------------------------------------------------------------- what is drawn

NAMES = st.sampled_from(["n0", "n1", "n2", "n3", "N0", "ü 😀", "it's", 'x"y', "a\nb", "%_", "0", "n0 "])
DOCUMENTS = st.sampled_from(["d0", "d1", "D0", "d%", "d'0", "größe 東京"])
NUMBERS = st.sampled_from([-1, 0, 1, 2, 3, 0.5, 1.0, -2.5, 2**53, 2**53 + 1, 2**70, 1e300])
STRINGS = st.sampled_from(["", "a", "A", "Ärger", "ärgerlich", "İ", "straße", "STRASSE", "1", "a%b", "a_b", "😀"])
SHORT_LISTS = st.one_of(
    st.lists(st.sampled_from(["red", "Red", "big", "1", "a"]), max_size=3),
    st.lists(st.sampled_from([1, 2, 3]), max_size=3),
    st.lists(st.sampled_from([0.5, 1.0, 2.0]), max_size=3),
)
ANYTHING: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), NUMBERS, STRINGS, SHORT_LISTS, st.sampled_from([[None], [True, "a"], {"a": 1}, {}, [[1]]])
)
# Each key has mostly values that can be compared with each other, so that not every filter is refused.
HELD: dict[str, st.SearchStrategy[Any]] = {
    "number": st.one_of(NUMBERS, NUMBERS, st.booleans(), st.none()),
    "word": st.one_of(STRINGS, STRINGS, st.none()),
    "tags": st.one_of(SHORT_LISTS, st.none()),
    "mixed": ANYTHING,
    "a.b": NUMBERS,  # a path in JSON, were it not a key
    'quo"te': STRINGS,
    "größe $[0]": NUMBERS,
}
METADATA = st.fixed_dictionaries({}, optional=HELD)  # type: ignore[arg-type]
TEXTS = st.lists(st.sampled_from([*RARE_WORDS, "common"]), max_size=3).map(" ".join)
WORDS = st.lists(st.sampled_from([*RARE_WORDS, "nowhere"]), min_size=1, max_size=2, unique=True).map(" ".join)
TOP_K = st.sampled_from([1, 2, 3, 5, 100])


def _sided(key: str, operator: FilterOperator) -> st.SearchStrategy[Any]:
    """Values that fit the key and the operator, most of the time."""
    if operator in (FilterOperator.IN, FilterOperator.NIN, FilterOperator.ANY, FilterOperator.ALL):
        fitting: st.SearchStrategy[Any] = SHORT_LISTS if key != "word" else st.one_of(SHORT_LISTS, STRINGS)
    elif operator in (FilterOperator.TEXT_MATCH, FilterOperator.TEXT_MATCH_INSENSITIVE) or key in ("word", 'quo"te'):
        fitting = STRINGS
    elif key == "tags":
        fitting = st.one_of(st.sampled_from(["red", "a", 1, 2, 0.5]), SHORT_LISTS)
    else:
        fitting = NUMBERS
    return st.one_of(fitting, fitting, fitting, st.one_of(st.none(), NUMBERS, STRINGS, SHORT_LISTS))


@st.composite
def leaves(draw: st.DrawFn) -> MetadataFilter:
    key = draw(st.sampled_from([*HELD, "never there"]))
    operator = draw(st.sampled_from(list(FilterOperator)))
    return MetadataFilter(key=key, value=draw(_sided(key, operator)), operator=operator)


CONDITIONS = st.sampled_from([*FilterCondition, None])
FLAT = st.builds(MetadataFilters, filters=st.lists(leaves(), max_size=3), condition=CONDITIONS)
FILTERS = st.recursive(
    FLAT,
    lambda inner: st.builds(
        MetadataFilters, filters=st.lists(st.one_of(leaves(), inner), min_size=1, max_size=2), condition=CONDITIONS
    ),
    max_leaves=3,
)
SOME_FILTERS = st.one_of(st.none(), st.none(), FILTERS)


# ---------------------------------------------------------------------------------- the model itself


@settings(max_examples=300, deadline=None)
@given(filters=FLAT, metadata=METADATA)
def test_the_model_reads_flat_filters_as_llama_index_does(filters: MetadataFilters, metadata: dict[str, Any]) -> None:
    try:
        expected: bool | None = build_metadata_filter_fn(lambda _: metadata, filters)("any")
    except TypeError:
        assert misfits(filters, metadata)
    else:
        assert not misfits(filters, metadata)
        assert passes(filters, metadata) is expected


# ---------------------------------------------------------------------------------- every filter on every value

GRID: dict[str, list[Any]] = {
    "number": [-1, 0, 1, 1.0, 2, 0.5, 2**53, 2**53 + 1, 2**70, True, False, None],
    "word": ["", "a", "A", "Ärger", "ärgerlich", "İ", "straße", "1", "a%b", "a_b", "😀", None],
    "tags": [[], ["red"], ["red", "big"], ["Red"], [1, 2], [1.0], [0.5], ["1"], ["a"], [2], [3, 3], None],
    "mixed": [True, False, 1, 0, "1", "", [], [None], {}, {"a": 1}, [True, "a"], [[1]]],
    "a.b": [0, 1, 2, 3, 0.5, 1.0, -1, 2**53, -2.5, 1e300, 2**70, 2**53 + 1],
    'quo"te': ["a", "A", "", "1", "İ", "😀", "a%b", "a_b", "Ärger", "STRASSE", "straße", "ärgerlich"],
}


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FaissStore, Model]]:
    """A store with each of those values in a node of its own, and some nodes that have none."""
    store, model = FaissStore(tmp_path_factory.mktemp("grid") / "index"), Model()
    model.add(
        Known(f"{key} {place}", (1.0, float(place)), metadata={key: value})
        for key, values in GRID.items()
        for place, value in enumerate(values)
    )
    model.add(
        Known(f"all {place}", (2.0, 1.0), metadata={key: GRID[key][place] for key in GRID}) for place in range(12)
    )
    model.add([Known("none", (0.0, 0.0))])
    store.add([known.node() for known in model.nodes.values()])
    yield store, model
    store.close()


@settings(max_examples=400, deadline=None)
@given(filters=FILTERS, top_k=TOP_K)
def test_a_filter_lets_through_what_the_model_says(
    grid: tuple[FaissStore, Model], filters: MetadataFilters, top_k: int
) -> None:
    store, model = grid
    question = (1.0, 1.0)
    try:
        expected = model.chosen(None, None, filters)
    except Misfit:
        assert re.search(MISFIT, refused(lambda: store.get_nodes(filters=filters)) or "not refused")
        assert re.search(MISFIT, refused(lambda: store.query(ask(question, top_k, filters=filters))) or "not refused")
        return
    if model.may_refuse(filters):
        message = refused(lambda: store.get_nodes(filters=filters))
        if message is not None:
            assert re.search(MISFIT, message)
            return
    assert {node.node_id for node in store.get_nodes(filters=filters)} == set(expected)
    check_nearest(store.query(ask(question, top_k, filters=filters)), expected, question, top_k, "cosine")


HELD_VALUES = list({repr(value): value for values in GRID.values() for value in values}.values())
ASKED = [None, 0, 1, 2, 0.5, 2**53 + 1, 2**70, "", "a", "1", "ä", "İ", "SS", [], ["red"], ["1", "a"], [1, 2], [0.5]]


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaissStore]:
    """A store with each value under a key of its own: no node is the reason that a filter on another is refused."""
    store = FaissStore(tmp_path_factory.mktemp("apart") / "index")
    store.add([Known(f"{n}", (1.0, 1.0), metadata={f"k{n}": value}).node() for n, value in enumerate(HELD_VALUES)])
    yield store
    store.close()


@pytest.mark.parametrize("operator", list(FilterOperator), ids=lambda operator: operator.name)
def test_an_operator_compares_each_value_with_each(apart: FaissStore, operator: FilterOperator) -> None:
    wrong, refusals = [], 0
    for number, held in enumerate(HELD_VALUES):
        for value in ASKED:
            filters, found = where(f"k{number}", value, operator), []
            message = refused(lambda filters=filters, found=found: found.extend(apart.get_nodes(filters=filters)))
            expected = passes(filters, {f"k{number}": held})
            refusals += message is not None
            if message is not None and not re.search(MISFIT, message):
                wrong.append(f"{held!r} {operator.value} {value!r}: {message}")
            seen = None if message is not None else str(number) in [node.node_id for node in found]
            if seen is not expected:
                wrong.append(f"{held!r} {operator.value} {value!r}: {expected} expected, {seen} found; {message}")
    assert wrong == []
    assert refusals < len(HELD_VALUES) * len(ASKED)


# ---------------------------------------------------------------------------------- the machine


class StoreBesideModel(RuleBasedStateMachine):
    """The store that writes, a second one that stays open and only reads, and the model of both."""

    @initialize(
        data=st.data(),
        metric=st.sampled_from(METRICS),
        dimension=st.integers(4, 8),
        memory_map=st.booleans(),
        count=st.sampled_from([0, 4, 8, 16]),
    )
    def make(self, data: st.DataObject, metric: str, dimension: int, memory_map: bool, count: int) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=FAST_DISK))
        self.path = self.folder / "index"
        self.settings: dict[str, Any] = {"metric": metric, "index": "Flat", "memory_map": memory_map}
        self.metric, self.dimension = metric, dimension
        self.store, self.reader = FaissStore(self.path, **self.settings), FaissStore(self.path, **self.settings)
        self.model, self.turn = Model(), 0
        if count:
            self._add(data, count)

    def _vector(self, data: st.DataObject) -> tuple[float, ...]:
        small = st.integers(-3, 3).map(float)  # many equal scores, and vectors of zeros
        numbers = st.lists(small, min_size=self.dimension, max_size=self.dimension)
        return tuple(data.draw(numbers))

    def _refused_or(self, filters: MetadataFilters | None, run: Callable[[], Any]) -> Any:
        """What the call gives; None where it may refuse the filters, and does."""
        if not self.model.may_refuse(filters):
            return run()
        answers: list[Any] = []
        message = refused(lambda: answers.append(run()))
        assert message is None or re.search(MISFIT, message)
        return answers[0] if answers else None

    # ------------------------------------------------------------------ writing

    def _add(self, data: st.DataObject, count: int) -> None:
        self.turn += 1
        given = [
            Known(
                data.draw(NAMES),
                self._vector(data),
                data.draw(st.one_of(st.none(), DOCUMENTS)),
                f"turn {self.turn} {data.draw(TEXTS)}",
                data.draw(METADATA),
            )
            for _ in range(count)
        ]
        assert self.store.add([known.node() for known in given]) == [known.id for known in given]
        self.model.add(given)

    @rule(data=st.data(), count=st.sampled_from([1, 1, 2, 3, 6]))
    def add(self, data: st.DataObject, count: int) -> None:
        self._add(data, count)

    @rule(document=DOCUMENTS)
    def delete(self, document: str) -> None:
        self.store.delete(document)
        self.model.delete(document)

    @rule(ids=st.lists(NAMES, max_size=3))
    def delete_nodes(self, ids: list[str]) -> None:
        self.store.delete_nodes(ids)
        self.model.delete_nodes(ids, None)

    @rule(ids=st.one_of(st.none(), st.lists(NAMES, max_size=3)), filters=FILTERS)
    def delete_by_filter(self, ids: list[str] | None, filters: MetadataFilters) -> None:
        if ids is None and not filters.filters:
            return  # refused by name, which test_store.py looks at
        try:
            after = self.model.copy()
            after.delete_nodes(ids, filters)
        except Misfit:
            with pytest.raises(StoreError, match=MISFIT):
                self.store.delete_nodes(ids, filters)
            return
        if self._refused_or(filters, lambda: self.store.delete_nodes(ids, filters) or "done"):
            self.model = after

    @precondition(lambda self: self.turn > 2)
    @rule(dimension=st.integers(4, 8))
    def clear(self, dimension: int) -> None:
        self.store.clear()
        self.model.clear()
        self.dimension = dimension

    # ------------------------------------------------------------------ files

    @rule()
    def snapshot(self) -> None:
        self.store.snapshot()

    @rule()
    def verify(self) -> None:
        assert self.store.verify() == []

    @rule()
    def open_again(self) -> None:
        self.store.close()
        self.store = FaissStore(self.path, **self.settings)

    @rule(keep_reader=st.booleans())
    def crash(self, keep_reader: bool) -> None:
        """What is on the disk at this moment is all there is."""
        if not self.path.exists():
            return
        copy = copy_index(self.path, self.folder / f"copy {self.turn} {len(list(self.folder.iterdir()))}")
        if not keep_reader:
            self.reader.close()
            self.reader = FaissStore(copy, **self.settings)
        self.store.close()
        self.store, self.path = FaissStore(copy, **self.settings), copy
        check_store(self.store, self.model, self.metric, self.dimension)
        if keep_reader:
            self.reader.close()
            self.reader = FaissStore(copy, **self.settings)

    # ------------------------------------------------------------------ reading

    @rule(ids=st.one_of(st.none(), st.lists(NAMES, max_size=4)), filters=SOME_FILTERS, by_reader=st.booleans())
    def get_nodes(self, ids: list[str] | None, filters: MetadataFilters | None, by_reader: bool) -> None:
        store = self.reader if by_reader else self.store
        try:
            expected = self.model.chosen(ids, None, filters, empty_restricts=True)
        except Misfit:
            with pytest.raises(StoreError, match=MISFIT):
                store.get_nodes(ids, filters)
            return
        found = self._refused_or(filters, lambda: store.get_nodes(ids, filters))
        if found is None:
            return
        if ids is not None:
            assert [node.node_id for node in found] == [name for name in dict.fromkeys(ids) if name in expected]
        assert {node.node_id: shown(node) for node in found} == {
            name: known.shown() for name, known in expected.items()
        }
        assert len(found) == len(expected)

    @rule(
        data=st.data(),
        mode=st.sampled_from(["near", "near", "near", "text", "sparse", "hybrid", "diverse"]),
        ids=st.lists(NAMES, max_size=4),
        documents=st.lists(DOCUMENTS, max_size=2),
        filters=SOME_FILTERS,
        top_k=TOP_K,
        by_reader=st.booleans(),
    )
    def query(
        self,
        data: st.DataObject,
        mode: str,
        ids: list[str],
        documents: list[str],
        filters: MetadataFilters | None,
        top_k: int,
        by_reader: bool,
    ) -> None:
        store = self.reader if by_reader else self.store
        # Most of the time not restricted by all three at once, or nothing would ever be found.
        which = data.draw(st.sampled_from(["ids", "documents", "filters", "filters", "none", "all"]))
        restrictions: dict[str, Any] = {
            "node_ids": ids if which in ("ids", "all") else None,
            "doc_ids": documents if which in ("documents", "all") else None,
            "filters": filters if which in ("filters", "all") else None,
        }
        filters = restrictions["filters"]
        question, words = self._vector(data), data.draw(WORDS)
        alpha, threshold = data.draw(st.sampled_from([0.0, 0.3, 0.5, 1.0])), data.draw(st.sampled_from([0.5, 1.0]))
        fusion = data.draw(st.sampled_from(["relative_score", "reciprocal_rank"]))
        kwargs: dict[str, Any] = {}
        if mode in ("text", "sparse"):
            asked = ask_words(words, top_k, **restrictions)
            if mode == "sparse":
                asked.mode = VectorStoreQueryMode.SPARSE
        elif mode == "hybrid":
            asked = ask(question, top_k, VectorStoreQueryMode.HYBRID, query_str=words, alpha=alpha, **restrictions)
            asked.sparse_top_k = asked.hybrid_top_k = top_k
            kwargs["fusion"] = fusion
        elif mode == "diverse":
            asked = ask(question, top_k, VectorStoreQueryMode.MMR, mmr_threshold=threshold, **restrictions)
        else:
            asked = ask(question, top_k, **restrictions)
        try:
            nodes = self.model.chosen(restrictions["node_ids"], restrictions["doc_ids"], filters)
        except Misfit:
            with pytest.raises(StoreError, match=MISFIT):
                store.query(asked, **kwargs)
            return
        result = self._refused_or(filters, lambda: store.query(asked, **kwargs))
        if result is None:
            return
        check_nodes(result, nodes) if mode != "diverse" else None
        if mode in ("text", "sparse"):
            check_words(result, nodes, words, top_k)
        elif mode == "hybrid":
            check_hybrid(result, nodes, question, words, top_k, self.metric, alpha)
        elif mode == "diverse":
            check_diverse(result, nodes, question, top_k, self.metric, threshold)
        else:
            check_nearest(result, nodes, question, top_k, self.metric)

    # ------------------------------------------------------------------ always

    @invariant()
    def both_hold_what_the_model_holds(self) -> None:
        if not hasattr(self, "model"):
            return
        question = tuple(float(number) for number in range(1, self.dimension + 1))
        for store in (self.store, self.reader):
            assert contents(store) == self.model.shown()
            assert len(store) == len(self.model.nodes)
            check_nearest(store.query(ask(question, 100)), self.model.nodes, question, 100, self.metric)

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            try:
                check_store(self.store, self.model, self.metric, self.dimension)
                check_store(self.reader, self.model, self.metric, self.dimension)
            finally:
                self.store.close()
                self.reader.close()
                shutil.rmtree(self.folder)


def settings_for(examples: int, steps: int = 20) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        print_blob=True,
    )


StoreBesideModel.TestCase.settings = settings_for(EXAMPLES)
# Where it fails, making the history short may take Hypothesis its whole five minutes.
TestStoreBesideModel = pytest.mark.timeout(900)(pytest.mark.slow(StoreBesideModel.TestCase))

"""The workloads of the store benchmark. Each runs in a process of one system, and checks the answers."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from common import timed
from store_corpus import QUERIES, Corpus, Hits, Query, metadata, recall
from store_systems import Job, LlamaIndex, Ours, Raw, System

Report = dict[str, Any]  # of one round: `figures` and `notes` by label, `answers` to compare with raw FAISS
Rounds = Iterator[Report]
Run = Callable[..., Rounds]
TOLERANCE = 1e-5
ALL = ("raw", "LlamaIndex", "Map", "ours")
OWN = ("raw", "ours")


class WrongAnswer(Exception):
    """A system did not do what it was measured at."""


def check(condition: bool, message: str) -> None:
    if not condition:
        raise WrongAnswer(message)


@dataclass(frozen=True)
class Measure:
    """A line of the table; `limit` is the maximum for ours: absolute, or above raw FAISS; or the minimum."""

    label: str
    unit: str = "s"
    limit: float | None = None
    above_raw: bool = False
    is_minimum: bool = False

    def show(self, value: float) -> str:
        return f"{value:,.{ {'ms': 2, 'MB': 0}.get(self.unit, 3) }f} {self.unit}".strip()

    def show_limit(self) -> str:
        if self.limit is None:
            return "-"
        return ("≥ " if self.is_minimum else "≤ ") + "raw + " * self.above_raw + f"{self.limit:g} {self.unit}".strip()

    def is_missed(self, ours: float, raw: float) -> bool:
        if self.limit is None:
            return False
        return ours < self.limit if self.is_minimum else ours > self.limit + raw * self.above_raw


@dataclass(frozen=True)
class Workload:
    """A generator function: what precedes its first `yield` is preparation, every later `yield` ends a round."""

    name: str
    run: Run
    measures: list[Measure]
    rounds: int = 1  # in one process
    processes: int = 1
    systems: tuple[str, ...] = ("raw", "LlamaIndex", "ours")
    peers_once: bool = False  # one round for LlamaIndex, which takes long
    lexical: bool | None = None  # None: as on the command line
    options: dict[str, Any] = field(default_factory=dict)


WORKLOADS: list[Workload] = []


def workload(
    name: str, *measures: Measure, **settings: Any
) -> Callable[[Callable[..., Rounds]], Callable[..., Rounds]]:
    def register(run: Callable[..., Rounds]) -> Callable[..., Rounds]:
        WORKLOADS.append(Workload(name, run, list(measures), **settings))
        return run

    return register


# ---------------------------------------------------------------------- measuring and checking


def untimed(batches: Iterator[Any], seconds: list[float]) -> Iterator[Any]:
    """The same batches; the seconds to make them are appended to `seconds`."""
    while True:
        started = time.perf_counter()
        batch = next(batches, None)
        seconds.append(time.perf_counter() - started)
        if batch is None:
            return
        yield batch


def memory(*keys: str) -> list[float]:
    """MB of this process, by the keys of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    values = {line.split(":")[0]: line.split()[1] for line in lines if line.endswith("kB")}
    return [int(values[key]) * 1024 / 1e6 for key in keys]


def memory_before(*keys: str) -> list[float]:
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, the peak
    return memory("VmRSS", *keys)


def check_answer(corpus: Corpus, query: Query, hits: Hits) -> None:
    """Complete, sorted, each score that of the node's vector, and each node allowed by the filter."""
    check(len(dict(hits)) == query.top_k, f"{len(dict(hits))} different nodes instead of {query.top_k}")
    check(hits == sorted(hits, key=lambda hit: -hit[1]), "the scores are not sorted")
    for id_, score in hits:
        number = int(id_[1:])
        expected = float((corpus.vectors(number, number + 1) @ query.vector)[0])
        check(abs(expected - score) < TOLERANCE, f"{id_} scores {score}, its vector {expected}")
        if query.where:
            check(metadata(number)[query.where[0]] == query.where[1], f"{id_} is not {query.where}")


def check_node(corpus: Corpus, node: Any) -> None:
    number = int(node.node_id[1:])
    check(node.get_content() == corpus.texts(number, number + 1)[0], f"{node.node_id} has another text")
    check(node.metadata == metadata(number), f"{node.node_id} has other metadata")


def timed_queries(label: str, queries: list[Query], search: Callable[[Query], Hits]) -> Report:
    milliseconds, answers = [], []
    for query in queries:
        milliseconds.append(1000 * timed(lambda query=query: answers.append(search(query))))
    return {"figures": {label: milliseconds}, "answers": answers}


def query_rounds(
    system: System, job: Job, corpus: Corpus, label: str, queries: list[Query], search: Callable[[Query], Hits]
) -> Rounds:
    size = len(queries) // job.rounds
    for start in range(0, job.rounds * size, size):
        part = queries[start : start + size]
        report = timed_queries(label, part, search)
        # Texts and vectors are read for the checks after the clock has stopped.
        for query, hits in zip(part, report["answers"]):
            check_answer(corpus, query, hits)
        if isinstance(system, (Ours, LlamaIndex)):
            check_node(corpus, system.best)
        yield report


def open_and_warm_up(system: System, corpus: Corpus) -> None:
    system.open()
    for query in corpus.queries(QUERIES - 5, QUERIES):
        system.search(query)


def copies(system: System, job: Job, corpus: Corpus) -> Iterator[None]:
    """A new copy of the index for each round, opened, warm and on the disk."""
    base, scratch = system.folder, system.folder.with_name("scratch")
    for _ in range(job.rounds):
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(base, scratch)
        os.sync()
        system.use(scratch, system.lexical)
        open_and_warm_up(system, corpus)
        yield
        system.close()


def check_durable(system: System, count: int, newest: Any = None) -> None:
    """The number of nodes, with the newest one among them, now and after reopening."""
    if newest:
        check_newest(system, newest)
    check(system.count() == count, f"{system.count()} nodes instead of {count}")
    system.close()
    system.open()
    check(system.count() == count, f"{system.count()} nodes instead of {count} after reopening")


def check_newest(system: System, node: Any) -> None:
    hits = system.search(Query(np.array(node.embedding, np.float32)))
    check(hits[0][0] == node.node_id, f"the nearest to the vector of {node.node_id} is {hits[0][0]}")


# ---------------------------------------------------------------------- the workloads


@workload(
    "build",
    Measure("build, durable", "s", 2),
    Measure("build with BM25, durable", "s", 6),
    rounds=3,
    systems=ALL,
    peers_once=True,
)
def build(system: System, job: Job, corpus: Corpus) -> Rounds:
    batches = list(corpus.batches(job.nodes, 2000))
    yield {}
    for lexical, label in [(False, job.labels[0]), (True, job.labels[1])] * job.rounds:
        if lexical and system.no_lexical:
            yield {"notes": {label: system.no_lexical}}
            continue
        system.use(system.base(lexical), lexical)
        shutil.rmtree(system.folder, ignore_errors=True)
        os.sync()
        seconds = timed(lambda: system.build(batches))
        system.open()
        check(system.count() == job.nodes, f"{system.count()} nodes after a build of {job.nodes}")
        system.close()
        yield {"figures": {label: [seconds]}}


@workload("open", Measure("open to first answer", "s", 0.1), processes=5)
def open_(system: System, job: Job, corpus: Corpus) -> Rounds:
    query = corpus.queries(job.process, job.process + 1)[0]
    answers: list[Hits] = []
    yield {}
    seconds = timed(lambda: (system.open(), answers.append(system.search(query))))
    check_answer(corpus, query, answers[0])
    yield {"figures": {job.labels[0]: [seconds]}, "answers": answers}


@workload("add", Measure("add 1 %, durable", "s", 0.1), rounds=5, peers_once=True)
def add(system: System, job: Job, corpus: Corpus) -> Rounds:
    nodes = corpus.nodes(job.nodes, job.nodes + job.nodes // 100)
    yield {}
    for _ in copies(system, job, corpus):
        seconds = timed(lambda: system.add(nodes))
        check_durable(system, job.nodes + len(nodes), nodes[-1])
        yield {"figures": {job.labels[0]: [seconds]}}


@workload("query", Measure("query → nodes by LlamaIndex's retriever", "ms"), rounds=10, options={"retriever": True})
@workload("query", Measure("query → nodes", "ms", 0.5, above_raw=True), rounds=10)
def query_(system: System, job: Job, corpus: Corpus, retriever: bool = False) -> Rounds:
    search = system.retrieve if retriever else system.search
    open_and_warm_up(system, corpus)
    search(corpus.queries(200, 201)[0])
    yield {}
    yield from query_rounds(system, job, corpus, job.labels[0], corpus.queries(0, 200), search)


@workload(
    "filter",
    Measure("filter that keeps 1 %", "ms", 2),
    Measure("filter that keeps 1 %, first use of the key", "ms"),
    rounds=10,
    processes=3,
    options={"key": "group", "values": [f"group {value}" for value in range(100)]},
)
@workload(
    "filter",
    Measure("filter that keeps 50 %", "ms", 2, above_raw=True),
    Measure("filter that keeps 50 %, first use of the key", "ms"),
    rounds=10,
    processes=3,
    options={"key": "half", "values": ["odd", "even"]},
)
def filtered(system: System, job: Job, corpus: Corpus, key: str, values: list[str]) -> Rounds:
    open_and_warm_up(system, corpus)
    if isinstance(system, Raw):
        system.prepare_filters((key, value) for value in values)
    vectors = corpus.queries(300 * job.process, 300 * job.process + 101)  # different ones in every process
    queries = [replace(query, where=(key, value)) for query, value in zip(vectors, itertools.cycle(values))]
    yield {}
    yield timed_queries(job.labels[1], queries[:1], system.search)
    yield from query_rounds(system, job, corpus, job.labels[0], queries[1:], system.search)


@workload("hybrid", Measure("hybrid", "ms", 11), rounds=10, lexical=True)
def hybrid(system: System, job: Job, corpus: Corpus) -> Rounds:
    random = np.random.default_rng(3)
    texts = [corpus.texts(number, number + 1)[0].split() for number in random.integers(0, job.nodes, 205).tolist()]
    drawn = [" ".join(random.choice(text, random.integers(3, 7), replace=False)) for text in texts]
    queries = [replace(query, text=text) for query, text in zip(corpus.queries(0, 205), drawn)]
    open_and_warm_up(system, corpus)
    for query in queries[200:]:
        system.search(query)
    yield {}
    for start in range(0, 200, 200 // job.rounds):
        part = queries[start : start + 200 // job.rounds]
        report = timed_queries(job.labels[0], part, system.search)
        answers = report.pop("answers")  # fused scores: raw FAISS has none
        if not isinstance(system, Raw):
            check_hybrid(system, corpus, part, answers)
        yield report


def check_hybrid(system: System, corpus: Corpus, queries: list[Query], answers: list[Hits]) -> None:
    dense = [system.search(replace(query, text="")) for query in queries]
    check([[*dict(a)] for a in dense] != [[*dict(b)] for b in answers], "hybrid returns the vector search alone")
    for hits in answers:
        check(len(dict(hits)) == 10, f"{len(dict(hits))} different nodes instead of 10")
        check(hits == sorted(hits, key=lambda hit: -hit[1]), "the scores are not sorted")
    if isinstance(system, Ours):
        lexical = system.search_text(queries[0].text)
        best = int(lexical[0][1:])
        words = {*queries[0].text.split()} & {*corpus.texts(best, best + 1)[0].split()}
        check(bool(words), f"n{best} contains no word of the query")
        near = dict(system.search(replace(queries[0], text="", top_k=1000)))
        check({*dict(answers[0])} <= {*near, *lexical}, "a hit is in neither ranking")


@workload(
    "document",
    Measure("document of 8,000 nodes, add", "s", 1),
    Measure("document of 8,000 nodes, replace", "s", 1),
    rounds=3,
    systems=ALL,
    peers_once=True,
)
def document(system: System, job: Job, corpus: Corpus) -> Rounds:
    size, (added, replaced) = system.long_document, job.labels
    old = corpus.nodes(job.nodes, job.nodes + size, "long")
    new = corpus.nodes(job.nodes + size, job.nodes + 2 * size, "long")
    note = "" if size == System.long_document else f"{size:,} nodes"
    yield {}
    for _ in copies(system, job, corpus):
        yield {"figures": {added: [timed(lambda: system.add(old))]}, "notes": {added: note}}
        seconds = timed(lambda: (system.delete_documents({"long": [node.node_id for node in old]}), system.add(new)))
        check_durable(system, job.nodes + size, new[-1])
        yield {"figures": {replaced: [seconds]}, "notes": {replaced: note}}


@workload("inserts", Measure("4,000 inserts, each durable, and a query", "s", 4), rounds=3, peers_once=True)
def inserts(system: System, job: Job, corpus: Corpus) -> Rounds:
    size = system.single_inserts
    nodes = corpus.nodes(job.nodes, job.nodes + size)
    note = "" if size == System.single_inserts else f"{size} inserts"
    yield {}
    for _ in copies(system, job, corpus):
        seconds = timed(lambda: ([system.add([node]) for node in nodes], check_newest(system, nodes[-1])))
        check_durable(system, job.nodes + size)
        yield {"figures": {job.labels[0]: [seconds]}, "notes": {job.labels[0]: note}}


@workload(
    "delete",
    Measure("delete 1 % of the documents, one call each", "s", 0.1),
    Measure("the first query after that", "ms"),
    rounds=5,
    systems=ALL,
    peers_once=True,
)
@workload(
    "delete",
    Measure("delete 1 % of the documents, all their nodes in one call", "s", 0.1),
    Measure("the first query after that", "ms"),
    rounds=5,
    systems=ALL,
    peers_once=True,
    options={"one_call": True},
)
def delete(system: System, job: Job, corpus: Corpus, one_call: bool = False) -> Rounds:
    numbers = range(0, job.nodes // 10, 100)
    documents = {f"d{number}": [f"n{10 * number + part}" for part in range(10)] for number in numbers}
    ids = [id_ for part in documents.values() for id_ in part]
    query = Query(corpus.vectors(0, 1)[0])  # whose nearest node is deleted
    yield {}
    for _ in copies(system, job, corpus):
        seconds = timed(lambda: system.delete_nodes(ids) if one_call else system.delete_documents(documents))
        report = timed_queries(job.labels[1], [query], system.search)
        check(not {*dict(report["answers"][0])} & {*ids}, "a deleted node is found")
        check_durable(system, job.nodes - len(ids))
        report["figures"][job.labels[0]] = [seconds]
        yield report


@workload("memory", Measure("memory over imports, building from batches of 1,000", "MB", 300))
def memory_build(system: System, job: Job, corpus: Corpus) -> Rounds:
    corpus.nodes(0, 1)  # imports what makes nodes
    system.use(system.folder.with_name("scratch"), system.lexical)
    shutil.rmtree(system.folder, ignore_errors=True)
    yield {}
    before = memory_before()[0]
    system.build(corpus.batches(job.nodes, 1000))
    peak = memory("VmHWM")[0]
    system.open()
    check(system.count() == job.nodes, f"{system.count()} nodes after a build of {job.nodes}")
    yield {"figures": {job.labels[0]: [peak - before]}}


@workload(
    "memory",
    Measure("memory over imports, open and 100 queries", "MB", 300),
    Measure("the same, RssAnon at its end", "MB"),
    Measure("the same, RssFile at its end", "MB"),
)
def memory_open(system: System, job: Job, corpus: Corpus) -> Rounds:
    queries = corpus.queries(0, 100)
    yield {}
    before = memory_before("RssAnon", "RssFile")
    system.open()
    answers = [system.search(query) for query in queries]
    after = memory("VmHWM", "RssAnon", "RssFile")
    yield {"figures": {label: [b - a] for label, a, b in zip(job.labels, before, after)}, "answers": answers}


@workload(
    "million",
    Measure("million: build"),
    Measure("million: build, memory over imports", "MB", 2500),
    systems=OWN,
    lexical=False,
)
def million_build(system: System, job: Job, corpus: Corpus) -> Rounds:
    corpus.nodes(0, 1)  # imports what makes nodes
    yield {}
    before = memory_before()[0]
    making: list[float] = []
    seconds = timed(lambda: system.build(untimed(corpus.batches(job.nodes, 10_000), making)))
    peak = memory("VmHWM")[0]
    system.open()
    if isinstance(system, Raw):
        system.tune(corpus.queries(200, 400), corpus.exact()[200:400])
    check(system.count() == job.nodes, f"{system.count()} nodes after a build of {job.nodes}")
    yield {"figures": {job.labels[0]: [seconds - sum(making)], job.labels[1]: [peak - before]}}


@workload(
    "million",
    Measure("million: open to first answer", "s", 3),
    Measure("million: query → nodes", "ms", 5),
    Measure("million: recall@10", "", 0.95, is_minimum=True),
    Measure("million: open and 200 queries, memory over imports", "MB", 2500),
    rounds=10,
    systems=OWN,
    lexical=False,
)
def million_open(system: System, job: Job, corpus: Corpus) -> Rounds:
    opened, searched, recalled, used = job.labels
    yield {}
    before = memory_before()[0]
    yield {"figures": {opened: [timed(lambda: (system.open(), system.search(corpus.queries(400, 401)[0])))]}}
    answers: list[Hits] = []
    for report in query_rounds(system, job, corpus, searched, corpus.queries(0, 200), system.search):
        answers += report.pop("answers")  # approximate: not compared with raw FAISS
        yield report
    peak = memory("VmHWM")[0]
    yield {"figures": {recalled: [recall(answers, corpus.exact()[:200])], used: [peak - before]}}

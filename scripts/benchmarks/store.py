"""Compares FaissStore with raw FAISS (and SQLite where durability matters) and plain LlamaIndex.

    .venv/bin/python scripts/benchmarks/store.py                         all workloads but `million`
    .venv/bin/python scripts/benchmarks/store.py query filter            these workloads
    .venv/bin/python scripts/benchmarks/store.py million --index HNSW    a million vectors in an approximate index

Every system runs in a process and a folder of its own, and the processes alternate, so that a machine that slows down
slows all of them down. Prints a Markdown table of medians; the last column is the median of the ratios round by round.
Exits 1 if an answer is wrong, and with --strict if a limit is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from common import print_machine
from store_corpus import SPARE_NODES, Corpus, Hits
from store_systems import SYSTEMS, Job
from store_workloads import (
    OWN,
    TOLERANCE,
    WORKLOADS,
    Measure,
    Report,
    Workload,
    WrongAnswer,
    build,
    million_build,
)


def child(job: Job) -> None:
    """The process of one system: writes a report per round, and waits for a line before the next round."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keeps what packages print out of the reports

    def write(report: Report) -> None:
        print(json.dumps(report), file=out, flush=True)

    try:
        system = SYSTEMS[job.system](job)
        workload = WORKLOADS[job.workload]
        for report in workload.run(system, job, Corpus(Path(job.root, "corpus"), job.dimension), **workload.options):
            write(report)
            sys.stdin.readline()
        system.close()
        write({"done": True})
    except WrongAnswer as error:
        write({"failed": f"wrong: {error}"})
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        write({"failed": f"impossible ({reason[:110]})", "trace": traceback.format_exc()})


class Child:
    """A process of one system, after its preparation."""

    def __init__(self, job: Job) -> None:
        command = [sys.executable, __file__, "--child", json.dumps(asdict(job))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.failure = self._read()  # empty unless the preparation failed

    def _read(self) -> Report:
        assert self.process.stdout
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"failed": f"its process died: {self.process.wait()}"}

    def next_round(self) -> Report:
        if self.failure:
            return self.failure
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._read()


@dataclass
class Cell:
    """The figures of one system in one line of the table: all values, the median of each round, and a note."""

    values: list[float] = field(default_factory=list)
    medians: list[float] = field(default_factory=list)
    note: str = ""

    def show(self, measure: Measure) -> str:
        if not self.values:
            return self.note or "-"
        return measure.show(statistics.median(self.values)) + f" ({self.note})" * bool(self.note)


Cells = dict[str, dict[str, Cell]]  # by label and system


def read_files(folder: Path) -> None:
    """Load the files into the page cache, so that the first process has no disadvantage."""
    for path in (path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            while file.read(1 << 24):
                pass


def start(workload: Workload, systems: list[str], template: Job, process: int) -> dict[str, Child]:
    labels = [measure.label for measure in workload.measures]
    children = {}
    for system in (name for name in workload.systems if name in systems):
        rounds = 1 if workload.peers_once and system not in OWN else workload.rounds
        lexical = system in OWN and template.lexical if workload.lexical is None else workload.lexical
        read_files(Path(template.root, system))
        job = replace(template, workload=WORKLOADS.index(workload), system=system, lexical=lexical, rounds=rounds)
        children[system] = Child(replace(job, process=process, labels=labels))
    return children


def run(workload: Workload, systems: list[str], template: Job) -> Cells:
    """Run a workload with all systems alternately."""
    cells: Cells = {measure.label: {system: Cell() for system in workload.systems} for measure in workload.measures}
    for number in range(workload.processes):
        children = start(workload, systems, template, number)
        try:
            alternate(workload, dict(children), cells)
        finally:
            for process in children.values():
                process.process.kill()
    return cells


def alternate(workload: Workload, children: dict[str, Child], cells: Cells) -> None:
    while children:
        exact: list[Hits] = []
        for system, process in list(children.items()):
            report = process.next_round()
            exact = exact or report.get("answers", [])  # raw FAISS comes first
            failed = report.get("failed") or difference(report.get("answers", []), exact)
            if failed and system in OWN:
                sys.exit(f"{workload.run.__name__}, {system}: {failed}\n{report.get('trace', '')}")
            collect(cells, system, {} if failed else report, failed)
            if failed or "done" in report:
                children.pop(system).process.communicate()


def collect(cells: Cells, system: str, report: Report, failed: str) -> None:
    for label, values in report.get("figures", {}).items():
        cells[label][system].values += values
        cells[label][system].medians.append(statistics.median(values))
    for label, note in report.get("notes", {}).items():
        cells[label][system].note = note
    if failed:
        row = [columns[system] for columns in cells.values()]
        for cell in [cell for cell in row if not cell.values] or row:
            cell.note = failed


def difference(answers: list[Hits], exact: list[Hits]) -> str:
    """How answers differ from those of raw FAISS; empty if they do not."""
    for hits, exact_hits in zip(answers, exact):
        if len(hits) != len(exact_hits):
            return f"wrong: {len(hits)} nodes where raw FAISS has {len(exact_hits)}"
        for rank, ((id_, score), (exact_id, exact_score)) in enumerate(zip(hits, exact_hits), 1):
            if abs(score - exact_score) > TOLERANCE:
                return f"wrong: rank {rank} is {id_} with {score:.6f}, in raw FAISS {exact_id} with {exact_score:.6f}"
    return ""


def line(measure: Measure, cells: dict[str, Cell]) -> tuple[str, bool]:
    """A line of the table, and whether its limit was missed."""
    raw, ours, llama_index = cells["raw"], cells["ours"], cells.get("LlamaIndex", Cell()).show(measure)
    if "Map" in cells:
        llama_index += f"; Map: {cells['Map'].show(measure)}"
    peers = {len(cells[system].medians) for system in cells if system not in OWN} - {0, len(ours.medians)}
    rounds = f"{len(ours.medians)} rounds" + "".join(f", LlamaIndex {count}" for count in peers)
    ratios = [a / b for a, b in zip(ours.medians, raw.medians) if b > 0]
    missed = measure.is_missed(statistics.median(ours.values), statistics.median(raw.values or [0]))
    columns = [
        f"{measure.label} ({rounds})",
        raw.show(measure),
        llama_index,
        ours.show(measure),
        measure.show_limit() + " **MISSED**" * missed,
        f"{statistics.median(ratios):.2f}" if ratios else "-",
    ]
    return "| " + " | ".join(column.replace("|", "/") for column in columns) + " |", missed


def log(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr)


def measure_all(arguments: argparse.Namespace, root: Path, workloads: list[Workload], systems: list[str]) -> int:
    """Print the table line by line; returns the number of missed limits."""
    job = Job(-1, "", str(root), arguments.nodes, arguments.dimension, lexical=not arguments.no_lexical)
    missed = 0
    if workloads[0].name != "million":
        log(f"making {job.nodes:,} nodes")
        Corpus.make(root / "corpus", job.nodes + SPARE_NODES, job.dimension, words=140)
    if workloads[0].name not in ("build", "million"):
        workloads = [WORKLOADS[0], *workloads]  # builds the indexes that the other workloads need
    print("| workload | raw FAISS | LlamaIndex | ours | limit | ours ÷ raw |\n|---|---|---|---|---|---|")
    for workload in workloads:
        log(f"{workload.name}: {', '.join(measure.label for measure in workload.measures)}")
        if workload.run is million_build:
            root = root / "million"
            job = replace(
                job, root=str(root), nodes=arguments.million, index=arguments.index, precision=arguments.precision
            )
            Corpus.make(root / "corpus", job.nodes, job.dimension, words=6).write_exact(job.nodes)
        cells = run(workload, systems, job)
        for measure in workload.measures:
            text, is_missed = line(measure, cells[measure.label])
            missed += is_missed
            print(text, flush=True)
        if workload.run is build:
            built = cells[workload.measures[0].label]
            systems = [system for system in systems if built[system].values]
    return missed


def main() -> None:
    names = list(dict.fromkeys(workload.name for workload in WORKLOADS))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "workloads", nargs="*", metavar="WORKLOAD", help=f"{', '.join(names)}; by default all but million"
    )
    parser.add_argument("--nodes", type=int, default=50_000)
    parser.add_argument("--million", type=int, default=1_000_000, help="number of vectors of `million`")
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--index", choices=["IVF", "HNSW"], default="IVF", help="of the workload `million`")
    parser.add_argument(
        "--precision", choices=["float32", "float16", "int8"], default="float32", help="of ours in `million`"
    )
    parser.add_argument("--no-peers", action="store_true", help="without LlamaIndex")
    parser.add_argument("--no-lexical", action="store_true", help="without BM25, except for hybrid")
    parser.add_argument("--strict", action="store_true", help="exit 1 if a limit is missed")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; by default that of temporary files")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return child(Job(**json.loads(arguments.child)))
    if unknown := {*arguments.workloads} - {*names}:
        parser.error(f"no workload {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    selected = arguments.workloads or [name for name in names if name != "million"]
    systems = [system for system in SYSTEMS if system in OWN or not arguments.no_peers]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print(f"{arguments.nodes:,} nodes of {arguments.dimension} dimensions")
        print_machine("faiss-cpu", "llama-index-core", "tantivy")
        print()
        missed = measure_all(arguments, Path(folder), [item for item in WORKLOADS if item.name in selected], systems)
    print(f"\nload at the end {os.getloadavg()[0]:.1f}; {missed or 'no'} limit{'s' * (missed != 1)} missed")
    print("LlamaIndex's persist() counts as durable here, though it does not wait for the disk.")
    sys.exit(1 if missed and arguments.strict else 0)


if __name__ == "__main__":
    main()

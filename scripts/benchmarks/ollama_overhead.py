"""Measures the overhead of the `ollama` LLM over a raw HTTP request to the same server; exits 1 beyond its limits.

    .venv/bin/python scripts/benchmarks/ollama_overhead.py                 a fake server, and a real one where
                                                                           `ollama` is on the PATH
    .venv/bin/python scripts/benchmarks/ollama_overhead.py --rounds 100    rounds for each server

All variants run alternately, from one process, with the same body and a new connection for each request; the fake
server is a process of its own. Medians of all rounds. Limits: 3 ms before the first token, 2 % of tokens per second.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import logging
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common import ROOT, print_machine

sys.path.insert(0, str(ROOT))

from llama_index.core.llms import ChatMessage

from rag_plugin.components.llms.ollama_llm import OllamaLLM
from rag_plugin.testing import FakeOllama
from tests.ollama_server import MODEL, RealOllama

FIRST_TOKEN_LIMIT_MS = 3.0
SPEED_LIMIT_PERCENT = 2.0
QUESTION = [ChatMessage(role="user", content="Write a very long story about a heron. " * 4)]
FAKE_SERVER = """
import sys
sys.path.insert(0, sys.argv[1])
from rag_plugin.testing import FakeOllama
answer = "The heron stands in the water. " * 1000
with FakeOllama(answer, models=[sys.argv[2]], seconds_per_token=float(sys.argv[3])) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""

Times = tuple[float, float]
"""Seconds before the first token, and tokens per second after it."""


def timed_stream(tokens: Iterator[object]) -> Times:
    started = time.perf_counter()
    next(tokens)
    first = time.perf_counter()
    count = sum(1 for _ in tokens)
    return first - started, count / (time.perf_counter() - first)


def raw_stream(url: str, body: bytes) -> Iterator[object]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    connection.request("POST", "/api/chat", body, {"Content-Type": "application/json"})
    for line in connection.getresponse():
        yield json.loads(line)
    connection.close()


async def timed_async_stream(llm: OllamaLLM) -> Times:
    started = time.perf_counter()
    tokens = await llm.astream_chat(QUESTION)
    await tokens.__anext__()
    first = time.perf_counter()
    count = 0
    async for _ in tokens:
        count += 1
    return first - started, count / (time.perf_counter() - first)


def compare(name: str, url: str, rounds: int, tokens: int, fields: dict[str, Any]) -> bool:
    """Whether both overheads are within their limits; prints a line of the table for each variant."""

    def llm_at(address: str) -> OllamaLLM:
        return OllamaLLM(MODEL, base_url=address, context_window=2048, max_tokens=tokens, temperature=0, **fields)

    llm = llm_at(url)
    with FakeOllama("x", models=[MODEL]) as recorder:
        llm_at(recorder.url).chat(QUESTION)
        body = json.dumps(recorder.bodies()[0]).encode()
    variants: dict[str, Callable[[], Times]] = {
        "raw": lambda: timed_stream(raw_stream(url, body)),
        "stream_chat": lambda: timed_stream(llm.stream_chat(QUESTION)),
        "astream_chat": lambda: asyncio.run(timed_async_stream(llm)),
    }
    times: dict[str, list[Times]] = {variant: [] for variant in variants}
    for number in range(rounds + 1):
        # Alternately, and each one first as often as last.
        for variant in sorted(variants, key=lambda item: (list(variants).index(item) + number) % len(variants)):
            measured = variants[variant]()
            if number:  # the first round loads the model
                times[variant].append(measured)
    all_within = True
    raw_first = statistics.median(first for first, _ in times["raw"])
    for variant, values in times.items():
        first, speed = (statistics.median(column) for column in zip(*values))
        more = (first - raw_first) * 1000
        # Round by round, since the load of the machine changes between rounds.
        slower = statistics.median(100 * (1 - ours[1] / raw[1]) for ours, raw in zip(values, times["raw"]))
        within = more <= FIRST_TOKEN_LIMIT_MS and slower <= SPEED_LIMIT_PERCENT
        all_within &= within
        print(
            f"{name:12} {variant:13} {first * 1000:9.2f} ms {more:+8.2f} ms {speed:10.1f} /s {slower:+8.2f} %"
            f"   {'' if variant == 'raw' else 'within' if within else 'OVER'}"
        )
    return all_within


@contextmanager
def fake_server(seconds_per_token: float) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", FAKE_SERVER, str(ROOT), MODEL, str(seconds_per_token)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--only", choices=("fake", "real"), help="one of the servers")
    parser.add_argument("--threads", type=int, default=1, help="threads of the real server")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)  # every answer is cut by max_tokens
    print_machine()
    print(f"{'server':12} {'variant':13} {'first token':>12} {'more':>11} {'tokens':>13} {'slower':>10}")
    all_within = True
    # 1,000 tokens per second is more than large accelerators generate for one question.
    for name, pause in (("fake 1000/s", 0.001), ("fake 200/s", 0.005)) if arguments.only != "real" else ():
        with fake_server(pause) as url:
            all_within &= compare(name, url, arguments.rounds, arguments.tokens, {})
    if arguments.only == "fake":
        return 0 if all_within else 1
    if shutil.which("ollama") is None:
        print("real: no `ollama` on the PATH")
        return 0 if all_within else 1
    with tempfile.TemporaryDirectory() as folder:
        server = RealOllama(Path(folder))
        server.start()
        try:
            server.create()
            threads = {"additional_kwargs": {"num_thread": arguments.threads}}
            rounds, tokens = max(1, arguments.rounds // 2), min(100, arguments.tokens)
            all_within &= compare("real", server.url, rounds, tokens, threads)
        finally:
            server.stop()
    return 0 if all_within else 1


if __name__ == "__main__":
    raise SystemExit(main())

"""Several processes: the same vectors, started once, and an error where one dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_plugin import EncoderError
from rag_plugin.components.encoders.processes import EncoderProcesses
from tests.components.encoders.minilm import encoder_of, texts_of_all_lengths
from tests.conftest import ROOT

pytestmark = pytest.mark.slow  # a process takes seconds to start

# ---------------------------------------------------------------------------------- what a process does, without torch


class Lengths:
    """Encodes a text as its length and the id of the process that did it."""

    def encode_documents(self, texts: list[str], progress: Any = None) -> Any:
        if "die" in texts:
            os.kill(os.getpid(), signal.SIGKILL)
        if "fail" in texts:
            raise EncoderError("this text fails")
        if "slow" in texts:
            time.sleep(0.5)
        progress(len(texts), sum(map(len, texts)))
        return np.array([[len(text), os.getpid()] for text in texts], dtype=np.float64)

    encode_queries = encode_documents


def make_lengths(device: str, broken: bool = False) -> Lengths:
    if broken:
        raise ValueError(f"no weights on {device}")
    return Lengths()


@pytest.fixture
def two() -> Iterator[EncoderProcesses]:
    processes = EncoderProcesses(make_lengths, ["cpu", "cpu"])
    yield processes
    processes.close()


def everything(processes: EncoderProcesses, texts: list[str], size: int = 2) -> Any:
    parts = [range(start, min(start + size, len(texts))) for start in range(0, len(texts), size)]
    found = np.zeros((len(texts), 2))
    tokens = 0
    for numbers, rows, count in processes.encode(texts, parts, "document"):
        found[numbers] = rows
        tokens += count
    assert tokens == sum(map(len, texts))
    return found


def test_both_processes_work_and_are_kept(two: EncoderProcesses) -> None:
    texts = ["slow", *("x" * number for number in range(40))]
    first = everything(two, texts)
    assert first[:, 0].tolist() == [len(text) for text in texts]
    assert len(set(first[:, 1])) == 2
    assert set(everything(two, texts)[:, 1]) <= set(first[:, 1])
    two.close()
    assert set(everything(two, texts)[:, 1]).isdisjoint(first[:, 1])


def test_a_process_that_dies_is_an_error_and_the_next_call_starts_new_ones(two: EncoderProcesses) -> None:
    with pytest.raises(EncoderError, match=r"^an encoding process for cpu, cpu ended: it may have run out of"):
        everything(two, ["a", "b", "die", "c", *"defghijklmn"])
    assert everything(two, ["a", "bb"])[:, 0].tolist() == [1, 2]


def test_a_text_that_fails_is_that_error_and_the_processes_go_on(two: EncoderProcesses) -> None:
    with pytest.raises(EncoderError, match="^this text fails$"):
        everything(two, ["a", "b", "c", "fail", "d"])
    assert everything(two, ["a", "bb"])[:, 0].tolist() == [1, 2]


def test_a_process_that_cannot_load_the_model_says_why() -> None:
    processes = EncoderProcesses(partial(make_lengths, broken=True), ["cpu"])
    with pytest.raises(EncoderError, match="^the process for cpu could not load the model: no weights on cpu$"):
        everything(processes, ["a"])
    processes.close()


# ---------------------------------------------------------------------------------- the encoder with processes


def test_vectors_of_several_processes_are_those_of_one(minilm: Any) -> None:
    encoder = encoder_of(device="cpu", devices=["cpu", "cpu"], query_prompt="ask ")
    texts = [text[:80] for text in texts_of_all_lengths(300)]
    told: list[tuple[int, int]] = []
    assert np.abs(encoder.encode_documents(texts[:3]) - minilm.encode_documents(texts[:3])).max() < 1e-6
    assert encoder._processes._pool is None  # three texts are not worth a process
    found = encoder.encode_documents(texts, lambda *counts: told.append(counts))
    assert encoder._processes._pool is not None
    assert np.abs(found - minilm.encode_documents(texts)).max() < 1e-6
    assert sum(count for count, _ in told) == 300
    asked = encoder.encode_queries(texts)
    assert np.abs(asked - minilm.encode_documents([f"ask {text}" for text in texts])).max() < 1e-6
    encoder.close()
    assert encoder._processes._pool is None


def test_a_script_that_leaves_the_processes_alone_ends_by_itself(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from tests.components.encoders.test_processes import EncoderProcesses, make_lengths\n"
        "if __name__ == '__main__':\n"
        "    processes = EncoderProcesses(make_lengths, ['cpu', 'cpu'])\n"
        "    print(sum(len(rows) for _, rows, _ in processes.encode(['a', 'b'], [[0], [1]], 'query')))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr

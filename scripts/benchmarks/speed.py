"""Measures startup, building, encoding and indexing, each against a baseline or another library in the same run.

    .venv/bin/python scripts/benchmarks/speed.py startup       whole processes against the bare interpreter
    .venv/bin/python scripts/benchmarks/speed.py build         build_engine against loading the encoder alone
    .venv/bin/python scripts/benchmarks/speed.py search        `rag-plugin search` against importing what it needs
    .venv/bin/python scripts/benchmarks/speed.py encode        5,000 texts of 5 to 250 words, and 64 questions at once
    .venv/bin/python scripts/benchmarks/speed.py index DATA    encoding and indexing against one sorted encode

DATA is a folder with BEIR's corpus.jsonl. Times are medians of several alternating runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from common import (
    MODEL,
    ROOT,
    build_encoder,
    command_line,
    in_turn,
    model_folder,
    print_machine,
    print_ratios,
    read_jsonl,
)


def _process(*command: str) -> Callable[[], Any]:
    return lambda: subprocess.run(command, check=True, capture_output=True)


def startup(arguments: argparse.Namespace) -> None:
    rag_plugin = str(Path(sys.executable).with_name("rag-plugin"))
    seconds = in_turn(
        {
            "bare interpreter": _process(sys.executable, "-c", "pass"),
            "import rag_plugin": _process(sys.executable, "-c", "import rag_plugin"),
            "rag-plugin --help": _process(rag_plugin, "--help"),
            "rag-plugin check": _process(rag_plugin, "check", "-c", str(ROOT / "configs" / "config.yaml")),
        },
        arguments.runs,
    )
    for name, values in seconds.items():
        above = statistics.median(value - base for value, base in zip(values, seconds["bare interpreter"]))
        print(f"{name:<24} {statistics.median(values):6.3f} s   above the interpreter {above:6.3f} s")


def build(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "docs").mkdir()
        for number in range(20):
            Path(folder, "docs", f"{number}.txt").write_text(f"Document {number} is about the number {number}.")
        settings = {
            "reader": {"type": "directory", "path": f"{folder}/docs"},
            "encoder": {"type": "huggingface", "model": MODEL},
            "store": {"type": "faiss", "path": f"{folder}/index"},
            "llm": {"type": "ollama", "model": "any"},
        }
        Path(folder, "config.json").write_text(json.dumps(settings))
        load = (
            "from llama_index.embeddings.huggingface import HuggingFaceEmbedding\n"
            f"HuggingFaceEmbedding({str(model_folder())!r})"
        )
        ours = f"from rag_plugin import build_engine; build_engine({folder + '/config.json'!r}, sync='never')"
        subprocess.run([sys.executable, "-c", ours.replace("'never'", "'auto'")], check=True)
        seconds = in_turn(
            {
                "load the encoder": _process(sys.executable, "-c", load),
                "build_engine": _process(sys.executable, "-c", ours),
            },
            arguments.runs,
        )
    print_ratios(seconds, "load the encoder")
    more = statistics.median(b - a for a, b in zip(seconds["load the encoder"], seconds["build_engine"]))
    print(f"build_engine takes {more:+.2f} s more than loading the encoder with LlamaIndex")


# ---------------------------------------------------------------------- search


def search(arguments: argparse.Namespace) -> None:
    """Whole processes: a question to an index in line with its documents."""
    with tempfile.TemporaryDirectory() as folder:
        for path in ROOT.glob("docs/*.md"):
            Path(folder, path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
        config = Path(folder, "config.json")
        settings = {
            "reader": {"type": "directory", "path": folder, "include": ["*.md"]},
            "encoder": {"type": "huggingface", "model": MODEL},
            "store": {"type": "faiss", "path": f"{folder}/index"},
        }
        config.write_text(json.dumps(settings))
        imports = "import os, torch, llama_index.core"
        question = (
            sys.executable,
            "-m",
            "rag_plugin.cli",
            "search",
            "-c",
            str(config),
            "how is an index kept in line?",
        )
        commands = {
            "import torch and LlamaIndex": (sys.executable, "-c", imports),
            # As `rag-plugin` ends, without finalizing the interpreter.
            "the same, then os._exit": (sys.executable, "-c", f"{imports}; os._exit(0)"),
            "rag-plugin search": question,
            # Code of the model's own is always left to the library; this model has none.
            "with sentence-transformers": (*question, "--set", "encoder.trust_remote_code=true"),
        }
        cpu: dict[str, list[float]] = {name: [] for name in commands}

        def run(name: str) -> None:
            before = os.times()
            _process(*commands[name])()
            after = os.times()
            cpu[name].append(sum(after[2:4]) - sum(before[2:4]))  # user and system time of child processes

        seconds = in_turn({name: partial(run, name) for name in commands}, arguments.runs)
    print("wall clock")
    print_ratios(seconds, "import torch and LlamaIndex")
    print("CPU")
    print_ratios({name: values[1:] for name, values in cpu.items()}, "import torch and LlamaIndex")


# ---------------------------------------------------------------------- encode


def mixed_texts(count: int) -> list[str]:
    """Texts of 5 to 250 words of the project's documentation in random order, the same in every run."""
    words = " ".join(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("docs/*.md"))).split()
    chance = random.Random(7)
    return [" ".join(chance.choices(words, k=chance.randint(5, 250))) for _ in range(count)]


# Code, so that a process of its own for each library can measure its peak of memory.
_LIBRARIES = {
    "one sorted encode": (
        "from sentence_transformers import SentenceTransformer\n"
        "model = SentenceTransformer(FOLDER, local_files_only=True)\n"
        "def run(texts): return model.encode(texts, batch_size=32, normalize_embeddings=True)\n"
    ),
    "rag_plugin": (
        "from llama_index.core.callbacks import CallbackManager\n"
        "from rag_plugin.components.encoders.components import huggingface\n"
        "encoder = huggingface(CallbackManager(), model=FOLDER)\n"
        "def run(texts): return encoder.encode_documents(texts)\n"
    ),
    "LlamaIndex": (
        "from llama_index.embeddings.huggingface import HuggingFaceEmbedding\n"
        "encoder = HuggingFaceEmbedding(model_name=FOLDER)\n"
        "def run(texts): return encoder.get_text_embedding_batch(texts)\n"
    ),
}


def encode(arguments: argparse.Namespace) -> None:
    import numpy as np

    texts = mixed_texts(arguments.texts)
    encoders: dict[str, Callable[[list[str]], Any]] = {}
    for name, code in _LIBRARIES.items():
        namespace: dict[str, Any] = {"FOLDER": str(model_folder())}
        exec(code, namespace)
        encoders[name] = namespace["run"]
    vectors = {name: np.asarray(run(texts[:200])) for name, run in encoders.items()}  # also the warm-up
    difference = np.abs(vectors["rag_plugin"] - vectors["one sorted encode"]).max()
    print(f"maximum difference to sentence-transformers: {difference:.1e}")
    runs = {name: lambda run=run: run(texts) for name, run in encoders.items()}
    print(f"{len(texts)} texts of 5 to 250 words")
    print_ratios(in_turn(runs, arguments.runs, warm_up=False), "one sorted encode")
    for name, code in _LIBRARIES.items():
        print(f"{name:<28} peak of memory above the loaded model {_peak(code, arguments.texts):6.0f} MB")
    _questions(arguments)


def _peak(code: str, count: int) -> float:
    """Megabytes that encoding takes in a process of its own, besides the model and the texts; Linux only."""
    measure = (
        f"import re, sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom speed import mixed_texts\n"
        f"FOLDER = {str(model_folder())!r}\n{code}texts = mixed_texts({count})\n"
        "status = lambda: open('/proc/self/status').read()\n"
        "megabytes = lambda name: int(re.search(name + r':\\s+(\\d+)', status())[1]) / 1024\n"
        "run(texts[:1])\n"
        "open('/proc/self/clear_refs', 'w').write('5')\n"  # resets the peak
        "before = megabytes('VmRSS')\n"
        "run(texts)\n"
        "print(megabytes('VmHWM') - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", measure], check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def _questions(arguments: argparse.Namespace) -> None:
    """64 questions one after another, and by 64 concurrent tasks."""
    from llama_index.core.callbacks import CallbackManager
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding

    from rag_plugin.components.encoders.components import huggingface

    ours, stock = (
        huggingface(CallbackManager(), model=str(model_folder())),
        HuggingFaceEmbedding(model_name=str(model_folder())),
    )
    questions = [f"what does the documentation say about setting number {number}?" for number in range(64)]

    def single(encoder: Any) -> Callable[[], Any]:
        return lambda: [encoder.get_query_embedding(question) for question in questions]

    def tasks(encoder: Any) -> Callable[[], Any]:
        async def run() -> Any:
            return await asyncio.gather(*(encoder.aget_query_embedding(question) for question in questions))

        return lambda: asyncio.run(run())

    seconds = in_turn(
        {
            "64 single questions": single(ours),
            "64 tasks": tasks(ours),
            "LlamaIndex, 64 single": single(stock),
            "LlamaIndex, 64 tasks": tasks(stock),
        },
        arguments.runs + 2,
    )
    print_ratios(seconds, "64 single questions")


# ---------------------------------------------------------------------- index


def index(arguments: argparse.Namespace) -> None:
    from llama_index.core import VectorStoreIndex
    from llama_index.core.schema import TextNode
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding
    from quality import settings_for
    from sentence_transformers import SentenceTransformer

    from rag_plugin import build_engine

    records = read_jsonl(arguments.data / "corpus.jsonl", arguments.documents)
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_for(Path(folder), records)
        encoder = build_encoder()
        texts = [node.get_content() for node in build_engine(settings, encoder=encoder).store.get_nodes()]
        stock = HuggingFaceEmbedding(model_name=str(model_folder()))
        library = SentenceTransformer(str(model_folder()), local_files_only=True)
        count = 0

        def ours() -> None:
            nonlocal count
            count += 1
            settings["store"]["path"] = f"{folder}/index-{count}"
            assert len(build_engine(settings, encoder=encoder).store) == len(texts)

        seconds = in_turn(
            {
                "one sorted encode": lambda: library.encode(texts, batch_size=32, normalize_embeddings=True),
                "rag_plugin": ours,
                # The same chunks, into LlamaIndex's own store in memory.
                "LlamaIndex": lambda: VectorStoreIndex([TextNode(text=text) for text in texts], embed_model=stock),
            },
            arguments.runs,
        )
    print(f"{len(records)} documents, {len(texts)} nodes")
    print_ratios(seconds, "one sorted encode")


def main() -> None:
    parser, commands = command_line(__doc__, (startup, build, search, encode, index))
    for name, runs in (("startup", 11), ("build", 5), ("search", 5), ("encode", 3), ("index", 3)):
        commands[name].add_argument("--runs", type=int, default=runs)
    commands["encode"].add_argument("--texts", type=int, default=5000)
    commands["index"].add_argument("data", type=Path)
    commands["index"].add_argument("--documents", type=int, default=600, help="number of documents to index")
    arguments = parser.parse_args()
    print_machine()
    arguments.run(arguments)


if __name__ == "__main__":
    main()

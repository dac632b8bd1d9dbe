"""A forked process answers as its parent does: torch, FAISS, locks and threads of the parent do not block it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MINILM

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

PROGRAM = """
    import os, sys, threading, time
    from rag_plugin import build_engine
    from tests.fakes import EchoLLM

    folder, encoder, busy = sys.argv[1:]
    config = {
        "reader": {"type": "directory", "path": f"{folder}/docs"},
        "encoder": {"type": "huggingface", "model": encoder, "device": "cpu"},
        "store": {"type": "faiss", "path": f"{folder}/index"},
    }
    engine = build_engine(config, llm=EchoLLM())

    def work(what):
        if what == "sync":
            with open(f"{folder}/docs/new.md", "w") as file:
                file.write(f"Written by {os.getpid()}. " * 400)
            return engine.sync().changed or engine.sync().unchanged
        if what == "aretrieve":
            import asyncio
            return [item.score for item in asyncio.run(engine.aretrieve("heron"))]
        if what == "retrieve":
            return [item.score for item in engine.retrieve("heron")]
        return str(engine.query("heron") if what == "query" else engine.as_chat_engine().chat("heron"))

    kinds = ("retrieve", "aretrieve", "query", "chat", "sync")
    expected = {what: work(what) for what in kinds}
    if busy == "busy":
        def ask():
            while True:
                engine.retrieve("a question that the parent asks at the moment of the fork")
        for _ in range(4):
            threading.Thread(target=ask, daemon=True).start()
        time.sleep(0.2)
    for what in kinds * (3 if busy == "busy" else 1):
        child = os.fork()
        if child == 0:
            got = work(what)
            if what != "sync" and got != expected[what]:
                print(what, got, expected[what], file=sys.stderr, flush=True)
                os._exit(3)
            os._exit(0 if got else 4)
        _, status = os.waitpid(child, 0)
        if status:
            os._exit(os.waitstatus_to_exitcode(status))
    os._exit(0)
"""


@pytest.mark.parametrize("busy", ["idle", "busy"])
def test_a_forked_process_answers_the_same(documents: Path, busy: str) -> None:
    for number in range(30):
        (documents / f"{number}.md").write_text(f"Document {number} about herons and harbours. " * 30, encoding="utf-8")
    environment: dict[str, Any] = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(PROGRAM), str(documents.parent), MINILM, busy],
        env=environment,
        timeout=240,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    assert done.returncode == 0, done.stderr[-2000:]

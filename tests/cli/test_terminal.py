"""What a user sees in a terminal of 100 columns."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.conftest import MINILM

COLUMNS = 100

pytestmark = pytest.mark.slow


def in_terminal(folder: Path, *arguments: str, typed: str = "") -> list[str]:
    """The lines on the screen of a command that runs in a terminal, without colours."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "TQDM_DISABLE")}
    process = subprocess.Popen(
        [sys.executable, "-m", "rag_plugin.cli", *arguments],
        cwd=folder,
        stdin=child,
        stdout=child,
        stderr=child,
        env={**environment, "TERM": "xterm-256color"},
        start_new_session=True,
    )
    os.close(child)
    os.write(parent, typed.encode())
    seen = b""
    while True:
        try:
            piece = os.read(parent, 65536)
        except OSError:  # the terminal of a process that has ended
            break
        if not piece:
            break
        seen += piece
    assert process.wait(timeout=120) == 0, seen.decode()
    os.close(parent)
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", seen.decode()).replace("\r\n", "\n")
    # Of a progress bar, what was written last over the same line.
    return [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in text.rstrip("\n").split("\n")]


@pytest.fixture
def folder(tmp_path: Path, documents: Path) -> Path:
    (tmp_path / "config.yaml").write_text(
        "reader: {type: directory, path: ./docs}\n"
        f'encoder: {{type: huggingface, model: "{MINILM}"}}\n'
        "store: {type: faiss, path: ./index}\n"
    )
    sentence = "The lighthouse keeper winds the clockwork of the lamp " + "and writes down the hour of it " * 6
    (documents / "lighthouse.txt").write_text(f"{sentence.strip()}.\n", encoding="utf-8")
    return tmp_path


def test_a_long_answer_is_wrapped_at_words(folder: Path) -> None:
    lines = in_terminal(folder, "ask", "What does the lighthouse keeper wind?")
    assert lines[0] == f"loading {MINILM} ..."
    answer = lines[1 : lines.index("  (lighthouse.txt, line 1)")]
    assert len(answer) == 3
    assert max(map(len, answer)) <= COLUMNS
    assert min(map(len, answer[:-1])) > COLUMNS - 15
    assert " ".join(answer) + "\n" == (folder / "docs" / "lighthouse.txt").read_text()


def test_passages_are_wrapped_and_indented(folder: Path) -> None:
    lines = in_terminal(folder, "search", "lighthouse", "-k", "1")
    assert re.fullmatch(r"1\. 0\.\d{3}  lighthouse\.txt, line 1", lines[1])
    passage = [line for line in lines[2:] if line]
    assert all(line.startswith("   ") and len(line) <= COLUMNS for line in passage)
    assert " ".join(map(str.strip, passage)) + "\n" == (folder / "docs" / "lighthouse.txt").read_text()


@pytest.mark.parametrize("command", ["ask", "search"])
def test_without_a_question_one_process_answers_many(folder: Path, command: str) -> None:
    lines = in_terminal(folder, command, typed="heron\n\nwhat is the code of the harbour pump?\n\x04")
    text = "\n".join(lines)
    assert text.count("loading ") == 1
    assert "Each line is one question; Ctrl-D ends." in lines
    assert text.index("The heron stands") < text.index("Its code is OSPREY-31.")


def test_no_library_writes_between_our_lines(folder: Path) -> None:
    (folder / "docs" / "broken.pdf").write_bytes(b"%PDF-1.7\n" + b"1 0 obj\n<< /Type /Catalog >>\n" * 50)
    lines = in_terminal(folder, "sync")
    reason = "it is broken: PdfStreamError: Stream has ended unexpectedly"
    assert lines[0] == f"loading {MINILM} ..."
    assert sorted(lines[1:-1]) == [
        f"! broken.pdf: {reason}",
        "+ birds/  2 documents",
        "+ harbour.txt",
        "+ lighthouse.txt",
        "+ oven.txt",
    ]
    assert lines[-1].startswith("5 added, 1 failed; 5 nodes written, 5 encoded in ")
    again = in_terminal(folder, "ask", "What is the code of the harbour pump?")
    assert again[1] == "1 document cannot be read: `rag-plugin sync` lists them"


def test_help_lists_the_commands_in_order_of_use(folder: Path) -> None:
    lines = in_terminal(folder, "--help")
    titles = [line[:-1] for line in lines if re.fullmatch(r"[A-Z].*:", line)]
    assert titles == ["Options", "Start", "Questions", "The index", "The config", "Seeing meaning"]
    commands = [line.split()[0] for line in lines[lines.index("Start:") :] if line.startswith("  ")]
    assert commands[:6] == ["init", "fetch", "doctor", "ask", "search", "sync"]
    assert not any(line.endswith("...") for line in lines[1:])

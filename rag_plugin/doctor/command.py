"""The command `doctor`."""

from __future__ import annotations

import json
import shutil
import sys

import click

from ..cli.common import WORK_FAILED, Settings, cli, common, note, quiet_libraries

_SHOWN = {"ok": ("ok", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red"), "skip": ("--", None)}


@cli.command()
@click.option("--answer/--no-answer", default=True, help="Load the LLM and request a short answer.")
@click.option("--json", "as_json", is_flag=True, help="The findings as JSON.")
@common
def doctor(settings: Settings, answer: bool, as_json: bool) -> None:
    """Check everything that an engine needs, and say what to do.

    Config, packages, documents, encoder, index and LLM are checked. Nothing is synced, downloaded or repaired. The exit
    code is 1 if a check failed.
    """
    from . import examine

    findings = []
    with quiet_libraries():
        for finding in examine(settings.load, ask_llm=answer):
            findings.append(finding)
            if not as_json:
                _show(finding.level, finding.name, finding.what, settings.in_shell(finding.hint))
    if as_json:
        click.echo(json.dumps([finding.to_dict() for finding in findings], indent=2, ensure_ascii=False))
    failed, warned = (sum(finding.level == level for finding in findings) for level in ("fail", "warn"))
    if not as_json:
        note(f"{failed} failed, {warned} warnings" if failed or warned else "no problems")
    if failed:
        raise click.exceptions.Exit(WORK_FAILED)


def _show(level: str, name: str, what: str, hint: str) -> None:
    word, colour = _SHOWN[level]
    width = max(60, shutil.get_terminal_size().columns) if sys.stdout.isatty() else 100
    head = f"{word:<5} {name:<9} "
    text = click.wrap_text(what, width, head, " " * 16)
    click.echo(click.style(text[:4], fg=colour, bold=level == "fail") + text[4:])
    for number, line in enumerate(hint.splitlines()):
        # A line that is indented is to be pasted, so it stays whole.
        first, rest = " " * 16 + ("  " if number else "→ "), " " * 18
        click.echo(first + line if line.startswith(" ") else click.wrap_text(line, width, first, rest))

"""The command `rag-plugin`. Results go to stdout, everything else to stderr; no traceback without --debug."""

from __future__ import annotations

import os
import sys
import traceback

import click

from ..errors import ConfigError, RagPluginError
from . import fetch, files, index, meaning, work
from .common import WORK_FAILED, WRONG_USE, ReaderLeft, cli, note

__all__ = ["cli", "fetch", "files", "index", "main", "meaning", "work"]


def main() -> None:
    """Run the command and leave with its exit code: 0 done, 1 the work failed, 2 wrong usage or config."""
    debug = "--debug" in sys.argv
    try:
        code = cli.main(prog_name="rag-plugin", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)  # of --help, or of a command that left early
    except ReaderLeft:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except click.ClickException as error:
        error.show()
        sys.exit(WRONG_USE)
    except (click.Abort, KeyboardInterrupt):
        note("\nstopped; what was committed stays")
        sys.exit(130)
    except Exception as error:  # the last seam before the terminal
        if debug:
            traceback.print_exc()
        if isinstance(error, ConfigError):
            note(str(error))
            sys.exit(WRONG_USE)
        if isinstance(error, RagPluginError):
            note(f"error: {error}")
        else:
            reason = " ".join(str(error).split()) or "no reason given"
            note(f"error: {type(error).__name__}: {reason}" + ("" if debug else "\n(--debug shows where)"))
        sys.exit(WORK_FAILED)

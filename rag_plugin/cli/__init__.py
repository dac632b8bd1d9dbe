"""The command `rag-plugin`. Results go to stdout, everything else to stderr; no traceback without --debug."""

from __future__ import annotations

import atexit
import os
import sys
import traceback
from contextlib import suppress

import click

from ..errors import ConfigError, RagPluginError
from .common import WORK_FAILED, WRONG_USE, ReaderLeft, cli, note

__all__ = ["cli", "main"]


def main() -> None:
    """Run the command and leave with its exit code: 0 done, 1 the work failed, 2 wrong usage or config."""
    code = _run()
    if "torch" not in sys.modules:
        sys.exit(code)
    # The interpreter takes more than a second to take apart what torch and transformers have loaded. All that has to
    # be done at an end is done first: connections and processes are closed by exit handlers.
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # what could not be written was told by whoever wrote it
            stream.flush()
    os._exit(code)


def _run() -> int:
    debug = "--debug" in sys.argv
    try:
        code = cli.main(prog_name="rag-plugin", standalone_mode=False)
        return code if isinstance(code, int) else 0  # of --help, or of a command that left early
    except ReaderLeft:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except click.ClickException as error:
        error.show()
        return WRONG_USE
    except (click.Abort, KeyboardInterrupt):
        note("\nstopped; what was committed stays")
        return 130
    except Exception as error:  # the last seam before the terminal
        if debug:
            traceback.print_exc()
        if isinstance(error, ConfigError):
            note(str(error))
            return WRONG_USE
        if isinstance(error, RagPluginError):
            note(f"error: {error}")
        else:
            reason = " ".join(str(error).split()) or "no reason given"
            note(f"error: {type(error).__name__}: {reason}" + ("" if debug else "\n(--debug shows where)"))
        return WORK_FAILED

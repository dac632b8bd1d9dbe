"""The command `rag-plugin`. Results go to stdout, everything else to stderr; no traceback without --debug."""

from __future__ import annotations

import atexit
import os
import sys
import traceback
from contextlib import suppress

import click

from ..errors import ConfigError, RagPluginError, describe_error
from .common import WORK_FAILED, WRONG_USE, OutputClosed, Settings, cli, note

__all__ = ["cli", "main"]


def main() -> None:
    """Run the command and leave with its exit code.

    0: done, 1: the work failed, 2: wrong usage or config, 3: a document failed in `sync --strict`.
    """
    # Threads of torch sleep while they wait for each other, instead of keeping a core busy: on a machine with other
    # work a question is encoded in .02 s and not in .5 s. OpenMP reads it when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    code = _run()
    if "torch" not in sys.modules:
        sys.exit(code)
    # The interpreter needs more than a second to finalize torch and transformers. Exit handlers run first: they close
    # connections and processes.
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # the writer has reported the error
            stream.flush()
    os._exit(code)


def _run() -> int:
    debug = "--debug" in sys.argv
    settings = Settings()
    try:
        code = cli.main(prog_name="rag-plugin", standalone_mode=False, obj=settings)
        return code if isinstance(code, int) else 0
    except OutputClosed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except click.ClickException as error:
        error.show()
        return WRONG_USE
    except (click.Abort, KeyboardInterrupt):
        note("\nstopped; committed changes are kept")
        return 130
    except Exception as error:  # without a traceback, unless --debug
        if debug:
            traceback.print_exc()
        if isinstance(error, ConfigError):
            note(str(error))
            return WRONG_USE
        if isinstance(error, RagPluginError):
            note(f"error: {settings.in_shell(error.shell_text)}")
        else:
            hint = "" if debug else "\n(--debug shows the traceback)"
            note(f"error: {describe_error(error)}{hint}")
        return WORK_FAILED

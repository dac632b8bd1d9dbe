"""The common options of all commands, the loading of the config, and messages on stderr."""

from __future__ import annotations

import functools
import importlib
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from .. import __version__

if TYPE_CHECKING:
    import logging

    from ..components.registry.section import Section
    from ..config import Config
    from ..engine import RagEngine

WORK_FAILED, WRONG_USE, DOCUMENTS_FAILED = 1, 2, 3


class OutputClosed(Exception):
    """The reader of stdout closed it, as `| head` does; click would report a BrokenPipeError as a failure."""


def note(text: str) -> None:
    click.echo(text, err=True)


class Settings:
    """The values of the common options."""

    def __init__(self) -> None:
        self.config: str | None = None
        self.overrides: dict[str, str] = {}
        self.allow: list[str] = []

    @property
    def path(self) -> str:
        return self.config or "config.yaml"

    def in_shell(self, text: str) -> str:
        """A text whose `rag-plugin` commands name the config file, unless it is the default one."""
        if self.config is None:
            return text
        option = f" -c {shlex.quote(self.config)}"
        return re.sub(rf"\brag-plugin (?:{'|'.join(_MODULES)})\b(?! -c)", lambda match: match.group() + option, text)

    def load(self) -> Config:
        from ..config.load import load_command_line_config

        return load_command_line_config(self.path, self.overrides, self.allow)

    def engine(self, *, sync: bool, **overrides: Any) -> RagEngine:
        """The engine, with a message while it is loaded."""
        from ..config import load_config

        config = self.load()
        if overrides:
            config = load_config(config, overrides=overrides, allow=self.allow)
        with quiet_libraries():
            while_loading(config.encoder, config.llm)
            from ..engine import open_engine

            engine, report = open_engine(config, sync=sync)
            if report is not None:
                self.note_failed(report.failed)
            return engine

    def note_failed(self, failed: Sequence[tuple[str, str]]) -> None:
        """Print how many documents a sync could not read, and the command that lists them."""
        from ..sync import documents

        if failed:
            note(self.in_shell(f"{documents(len(failed))} cannot be read: `rag-plugin sync` lists them"))


def common(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds -c, --set, --allow and --debug, before or after the command's name."""

    @click.option(
        "-c",
        "--config",
        metavar="FILE",
        envvar="RAG_PLUGIN_CONFIG",
        help="The config file.  [default: $RAG_PLUGIN_CONFIG or config.yaml]",
    )
    @click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Change one setting: llm.model=qwen3.")
    @click.option("--allow", metavar="PACKAGE", multiple=True, help="A package whose classes the config may name.")
    @click.option("--debug", is_flag=True, help="Log everything, and show tracebacks.")
    @click.pass_context
    @functools.wraps(function)
    def with_options(
        context: click.Context,
        /,
        *args: Any,
        config: str | None,
        overrides: tuple[str, ...],
        allow: tuple[str, ...],
        debug: bool,
        **options: Any,
    ) -> Any:
        settings = context.ensure_object(Settings)
        settings.config = config or settings.config
        settings.allow += allow
        for text in overrides:
            key, equals, value = text.partition("=")
            if not equals or not key:
                raise click.UsageError(f"--set {text}: write it as KEY=VALUE, such as llm.model=qwen3")
            settings.overrides[key.strip()] = value
        if debug:
            import logging

            logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
        try:
            return function(settings, *args, **options)
        except BrokenPipeError as error:
            raise OutputClosed from error

    return with_options


def while_loading(*parts: Section | None) -> None:
    """Print which models of these sections are being loaded, on a terminal."""
    if sys.stderr.isatty():
        entries = [part.raw.entries.get("model") for part in parts if part is not None]
        models = [
            getattr(entry.node, "template", None) or str(getattr(entry.node, "value", "")) for entry in entries if entry
        ]
        note(click.style(f"loading {' and '.join(models) or 'the parts'} ...", dim=True))


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Show this package's warnings on stderr, and hide the messages and progress bars of other libraries."""
    import logging
    import warnings

    if not logging.getLogger().handlers:  # without --debug
        logging.lastResort = logging.NullHandler()  # else it prints the warnings of libraries that set no handler
        warnings.simplefilter("ignore")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")  # this package's own bars set `disable` themselves
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    log = logging.getLogger("rag_plugin")
    if not log.handlers and not logging.getLogger().handlers:
        log.addHandler(_warnings_on_stderr())
    yield


def _warnings_on_stderr() -> logging.Handler:
    import logging

    class StderrHandler(logging.Handler):
        """Unlike a StreamHandler, looks up stderr for each message: a test or an application may replace it."""

        def emit(self, record: logging.LogRecord) -> None:
            note(self.format(record))

    handler = StderrHandler(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(message)s"))
    return handler


@contextmanager
def warnings_afterwards() -> Iterator[None]:
    """Delay warnings until after an answer, so that they do not interrupt it."""
    import logging
    from logging.handlers import MemoryHandler

    log = logging.getLogger("rag_plugin")
    handlers = list(log.handlers)
    buffers = [MemoryHandler(1000, logging.CRITICAL + 1, handler) for handler in handlers]
    for handler, buffer in zip(handlers, buffers):
        buffer.setLevel(handler.level)
        log.removeHandler(handler)
        log.addHandler(buffer)
    try:
        yield
    finally:
        for handler, buffer in zip(handlers, buffers):
            log.removeHandler(buffer)
            buffer.close()  # emits the delayed records
            log.addHandler(handler)


_GROUPS = {
    "Start": ("init", "fetch", "doctor"),
    "Questions": ("ask", "search"),
    "The index": ("sync", "info", "verify"),
    "The config": ("check", "show", "components", "schema"),
    "Seeing meaning": ("similarity", "analogy", "nearest", "map"),
}
"""The commands in order of use."""

_MODULES = {
    **dict.fromkeys(("init", *_GROUPS["The config"]), "rag_plugin.cli.files"),
    **dict.fromkeys(("sync", *_GROUPS["Questions"]), "rag_plugin.cli.work"),
    **dict.fromkeys(("info", "verify"), "rag_plugin.cli.index"),
    "fetch": "rag_plugin.cli.fetch",
    "doctor": "rag_plugin.doctor.command",
    **{name: f"rag_plugin.explore.commands.{name}" for name in _GROUPS["Seeing meaning"]},
}


class _LazyGroup(click.Group):
    """Imports the module of a command when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for names in _GROUPS.values() for name in names]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, _MODULES))
        for title, names in _GROUPS.items():
            with formatter.section(title):
                rows = [(f"{name:<{width}}", self.get_command(ctx, name)) for name in names]
                limit = formatter.width - width - 6
                formatter.write_dl([(name, command.get_short_help_str(limit)) for name, command in rows if command])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        # For an unknown name all of them, so that click can suggest a similar one.
        for module in {_MODULES[cmd_name]} if cmd_name in _MODULES else set(_MODULES.values()):
            importlib.import_module(module)
        return super().get_command(ctx, cmd_name)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="rag-plugin")
@common
def cli(settings: Settings) -> None:
    """One YAML file becomes a LlamaIndex query engine.

    Start with `rag-plugin init`, put documents into ./docs, then `rag-plugin ask "a question"`.
    """

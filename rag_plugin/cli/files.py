"""The commands `init`, `check`, `show`, `schema` and `components`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from ..errors import ConfigError
from .common import WRONG_USE, Settings, cli, common, note


@cli.command()
@click.argument("directory", default=".", type=click.Path(file_okay=False, path_type=Path))
@common
def init(settings: Settings, directory: Path) -> None:
    """Write a config.yaml with comments, ready to use."""
    from importlib.resources import files

    target, documents = directory / "config.yaml", directory / "docs"
    text = (files("rag_plugin") / "templates" / "config.yaml").read_text(encoding="utf-8")
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
    note(
        f"Put documents into {documents}, then:\n"
        f"  rag-plugin -c {target} fetch                  downloads the encoder, once\n"
        f"  ollama pull llama3.2                            gets the LLM, once\n"
        f'  rag-plugin -c {target} ask "your question"'
    )


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Problems, or an empty list, as JSON.")
@common
def check(settings: Settings, as_json: bool) -> None:
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
    for name, part in config.sections.items():
        for item in part if isinstance(part, tuple) else (part,):
            if name != "sync":
                click.echo(f"{name + ':':<13}{_shown_section(item)}")
    click.echo(f"{settings.path} is fine", err=True)


def _shown_section(section: Any) -> str:
    from ..source import describe

    settings = []
    for key, entry in section.raw.entries.items():
        node = entry.node
        value = getattr(node, "template", None) or getattr(node, "value", None)
        shown = describe(node) if value is None else str(value)
        first = shown.strip().partition("\n")[0][:60]
        settings.append(f"{key}={first}" + ("" if first == shown else "..."))
    kind = section.type_node.template or section.type
    return f"{kind}" + (f"  ({', '.join(settings)})" if settings else "")


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON, without the origins.")
@common
def show(settings: Settings, as_json: bool) -> None:
    """Show the config with all defaults and the origin of each value."""
    config = settings.load()
    if as_json:
        from ..config.dump import to_data

        click.echo(json.dumps(to_data({**config.sections, "sync": config.sync}), indent=2, ensure_ascii=False))
    else:
        click.echo(config.to_yaml(origins=True), nl=False)


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

"""The command `fetch`, the only one that downloads."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from .common import Settings, cli, common, note

if TYPE_CHECKING:
    from ..components.model_files.hub import HubModel
    from ..config import Config


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="The downloaded models as JSON.")
@common
def fetch(settings: Settings, as_json: bool) -> None:
    """Download the hub models of the config.

    The necessary files are downloaded into the cache of huggingface_hub, unless they are there already. HF_ENDPOINT,
    HF_HOME and HF_TOKEN are honoured. All other commands load models from the cache, without network access.
    """
    config = settings.load()
    models = list(dict.fromkeys(hub_models(config)))
    if not models:
        note("the config has no hub model")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from ..components.model_files.hub import fetch as download

    done = []
    for model in models:
        note(f"fetching {model.name} ...")
        fetched = download(model)
        done.append(fetched)
        if not as_json:
            state = "" if fetched.is_new else "  (in the cache)"
            click.echo(f"{fetched.model}  {fetched.bytes / 1e6:.1f} MB  {fetched.folder}{state}")
    if as_json:
        click.echo(json.dumps([asdict(fetched) for fetched in done], indent=2))


def hub_models(config: Config) -> Iterator[HubModel]:
    """The hub models of a config: every setting that is marked with `ModelFiles`."""
    from ..components.model_files.hub import HubModel
    from ..components.model_files.locate import is_hub_id
    from ..components.registry.path_settings import has_model_files

    for part in config.sections.values():
        sections = part if isinstance(part, tuple) else () if part is None else (part,)
        for section in sections:
            for name, field in section.component.schema.model_fields.items():
                value = section.settings.get(name)
                if has_model_files(field.metadata) and isinstance(value, str) and is_hub_id(value):
                    yield HubModel(
                        value,
                        section.settings.get("revision"),
                        section.settings.get("backend") or "torch",
                        has_modules=section.slot == "encoder",
                        trust_remote_code=bool(section.settings.get("trust_remote_code")),
                    )

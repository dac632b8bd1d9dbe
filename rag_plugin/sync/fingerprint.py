"""What made the vectors of an index: the settings, and the encoder's own vector of a fixed sentence."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import IndexMismatch, IndexNotBuilt
from ..protocols import SyncStore
from ..source import ListNode, MappingNode, Node

if TYPE_CHECKING:
    from ..components.assembly import Assembly

_log = logging.getLogger(__package__)

HINT = (
    "Put the settings back, or set sync.on_change to resync, which builds anew what changed: "
    "rag-plugin sync --set sync.on_change=resync"
)

# Settings that change where and how fast vectors are made, not which.
_NEUTRAL = frozenset(
    "device devices batch_size embed_batch_size show_progress show_progress_bar num_workers parallel_process timeout "
    "request_timeout keep_alive headers api_key token cache_folder trust_remote_code".split()
)

# Recorded, but an index has no vector of a question.
_OF_QUESTIONS = frozenset({"query_prompt"})

# What an encoder says that answers for itself, besides its settings.
_IDENTITY = frozenset({"weights", "document_prompt"})


def fingerprint_of(assembly: Assembly) -> dict[str, Any]:
    """What makes the vectors of this engine: encoder, chunker and reader, as plain data.

    The encoder also answers for itself: `probe` is its vector of a fixed sentence, so that other weights
    under the same name are noticed.
    """
    from ..components.encoders.matrix import pack, probe

    encoder = assembly.get("encoder")
    vector = probe(encoder)
    described = _described(assembly, "encoder")
    identity = getattr(encoder, "identity", None)
    if callable(identity):
        # What is in effect says more than what is set: a model's own prompt is the same prompt when it is written out.
        described = {"type": described["type"], **identity()}
    else:
        described["model"] = str(getattr(encoder, "model_name", described.get("model", "")))
    return {
        "encoder": described,
        "dimension": int(vector.size),
        "probe": pack(vector),
        # What the engine does with any chunker's nodes, an injected one's too.
        "chunker": {
            **{name: _plain(value) for name, value in assembly.config.common("chunker").items()},
            **_described(assembly, "chunker"),
        },
        "reader": _described(assembly, "reader"),
    }


def _described(assembly: Assembly, slot: str) -> dict[str, Any]:
    if slot in assembly.injected:
        part = assembly.injected[slot]
        simple = {
            name: value
            for name, value in (getattr(part, "__dict__", None) or {}).items()
            if isinstance(value, (str, int, float, bool)) and not name.startswith("_") and name not in _NEUTRAL
        }
        return {"type": f"{type(part).__module__}.{type(part).__qualname__}", **simple}
    section = getattr(assembly.config, slot)
    if section is None:
        return {}
    described: dict[str, Any] = {"type": section.type}
    for name, value in section.settings.items():
        if name in _NEUTRAL or (slot == "reader" and name == "path"):
            continue
        entry = section.given.entries.get(name)
        # What came from the environment may be a secret, and the index is a file.
        if entry is not None and isinstance(entry.node, (ListNode, MappingNode)):
            described[name] = _as_written(entry.node)
        elif entry is not None and entry.node.template is not None:
            described[name] = entry.node.template
        else:
            described[name] = _plain(value)
    return described


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


def same_vectors(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether two fingerprints are of one and the same encoder."""
    return not encoder_differences(old, new)


def encoder_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What tells two encoders apart, a sentence each."""
    import numpy as np

    from ..components.encoders.matrix import unpack

    if "probe" not in old:
        return ["its vectors were added by hand, by an encoder that is not recorded"]
    one, other = (
        {key: value for key, value in part["encoder"].items() if key not in _OF_QUESTIONS} for part in (old, new)
    )
    if _IDENTITY <= one.keys() & other.keys():
        # Both have answered for themselves, so that it does not matter who built them.
        one, other = {**one, "type": ""}, {**other, "type": ""}
    found = differences("encoder", one, other)
    if old["dimension"] != new["dimension"]:
        return [*found, f"encoder: vectors of {old['dimension']} numbers then, of {new['dimension']} now"]
    first, second = unpack(old["probe"]), unpack(new["probe"])
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    likeness = float(first @ second) / norms if norms else 1.0
    if likeness >= 0.999 and one["type"] != other["type"]:
        # A ready object has no section to compare with: there the vector speaks, and the model's name.
        return differences("encoder", {"model": one["model"]}, {"model": other["model"]})
    if likeness < 0.999 and not found:
        found.append(f"encoder: other weights under the same name (the same sentence gives cosine {likeness:.3f})")
    return found


def differences(slot: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two descriptions of a slot, a sentence each."""
    return [
        f"{slot}.{key}: {_shown(old.get(key))} then, {_shown(new.get(key))} now"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]


def all_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between what made an index and the settings as they are now, a sentence each."""
    found = encoder_differences(old, new)
    if old:
        for slot in ("chunker", "reader"):
            found += differences(slot, old[slot], new[slot])
    return found


def _shown(value: Any) -> str:
    return "unset" if value is None else repr(value)


def check_index(assembly: Assembly) -> None:
    """See to it that the index can be searched with this engine's encoder; for engines that do not sync.

    Raises:
        IndexNotBuilt: Nothing was ever synced into it.
        IndexMismatch: Another encoder made its vectors.
    """
    store = assembly.get("store")
    if not isinstance(store, SyncStore):
        return
    path = getattr(store, "path", "the store")
    old = store.live_fingerprint()
    if old is None:
        begun = "a first sync was begun and never finished" if store.is_begun() else "nothing was ever synced into it"
        raise IndexNotBuilt(f"{path}: {begun}; run `rag-plugin sync`, or build_engine(..., sync='auto')")
    if not old:
        return  # filled by hand: what made the vectors is the caller's to know
    new = fingerprint_of(assembly)
    found = encoder_differences(old, new)
    if found:
        raise IndexMismatch(str(path), found, HINT)
    for slot in ("chunker", "reader"):
        for difference in differences(slot, old[slot], new[slot]):
            _log.warning("%s: %s; the index has the old version until it is synced", path, difference)


def digest(data: Mapping[str, Any]) -> str:
    """A short name for a description."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]

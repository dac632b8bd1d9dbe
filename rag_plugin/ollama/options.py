"""The options of Ollama's models, by name: the server accepts any other name and does nothing with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# https://docs.ollama.com/modelfile#valid-parameters-and-values, and the `Options` of the Python client 0.6.
OPTIONS = frozenset(
    "num_ctx num_predict num_keep num_batch num_gpu main_gpu num_thread use_mmap numa seed temperature top_k top_p "
    "min_p typical_p tfs_z repeat_last_n repeat_penalty presence_penalty frequency_penalty mirostat mirostat_tau "
    "mirostat_eta penalize_newline stop low_vram f16_kv logits_all vocab_only use_mlock embedding_only".split()
)


SAID_OTHERWISE = ("max_tokens", "think", "format", "keep_alive")
"""What a call or a config says by names that are no option's."""


def unknown_option(names: Iterable[str]) -> tuple[str, str] | None:
    """The first name that is no option, and what to do about it."""
    for name in names:
        if name not in OPTIONS:
            near = difflib.get_close_matches(name, [*OPTIONS, *SAID_OTHERWISE], 1, 0.6)
            return name, f"did you mean {near[0]!r}?" if near else "it would be ignored by the server"
    return None


SETTINGS = {"num_ctx": "context_window", "num_predict": "max_tokens"}
"""Options that an engine sets itself, and the settings that say how."""


def check_options(names: Iterable[str]) -> None:
    """Refuse a name that is no option.

    Raises:
        TypeError: With the name that was probably meant.
    """
    found = unknown_option(names)
    if found is not None:
        raise TypeError(f"Ollama has no option {found[0]!r}: {found[1]}")


def check_own_options(names: Iterable[str]) -> None:
    """Refuse for all questions a name that is no option, or one that is a setting.

    Raises:
        TypeError: With what to write.
    """
    names = list(names)
    check_options(names)
    for name in names:
        if name in SETTINGS:
            raise TypeError(f"{name!r} is a setting here: write it as {SETTINGS[name]}")

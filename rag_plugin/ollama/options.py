"""Names of Ollama's model options. A server accepts any other name and ignores it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# https://docs.ollama.com/modelfile#valid-parameters-and-values, and `Options` of the Python client 0.6.
OPTIONS = frozenset(
    "num_ctx num_predict num_keep num_batch num_gpu main_gpu num_thread use_mmap numa seed temperature top_k top_p "
    "min_p typical_p tfs_z repeat_last_n repeat_penalty presence_penalty frequency_penalty mirostat mirostat_tau "
    "mirostat_eta penalize_newline stop low_vram f16_kv logits_all vocab_only use_mlock embedding_only".split()
)

CALL_ARGUMENTS = ("max_tokens", "think", "format", "keep_alive")
"""Arguments of a call that are not model options."""

SETTING_OF_OPTION = {"num_ctx": "context_window", "num_predict": "max_tokens"}
"""Options that the engine sets itself, with the setting for each."""


def unknown_option(names: Iterable[str]) -> tuple[str, str] | None:
    """The first name that is not an option, with a hint."""
    for name in names:
        if name not in OPTIONS:
            close = difflib.get_close_matches(name, [*OPTIONS, *CALL_ARGUMENTS], 1, 0.6)
            return name, f"did you mean {close[0]!r}?" if close else "the server would ignore it"
    return None


def check_options(names: Iterable[str], *, for_all_calls: bool = False) -> None:
    """Check the names of options.

    Args:
        for_all_calls: The options apply to every call, so those with a setting of their own are errors too.

    Raises:
        TypeError: A name is not an option, with the closest one; or it has a setting.
    """
    names = list(names)
    unknown = unknown_option(names)
    if unknown is not None:
        raise TypeError(f"Ollama has no option {unknown[0]!r}: {unknown[1]}")
    for name in names if for_all_calls else ():
        if name in SETTING_OF_OPTION:
            raise TypeError(f"{name!r} is a setting here: write it as {SETTING_OF_OPTION[name]}")

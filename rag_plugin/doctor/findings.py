"""Results of the checks, and measures of the machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import psutil  # type: ignore[import-untyped]

Level = Literal["ok", "warn", "fail", "skip"]


@dataclass(frozen=True)
class Finding:
    """One result of a check: `name` of the part, `what` was found, and a `hint` for problems."""

    level: Level
    name: str
    what: str
    hint: str = ""

    def to_dict(self) -> dict[str, str]:
        """Plain data for JSON."""
        return asdict(self)


def free_memory() -> int:
    """Available memory in bytes, without swap."""
    return int(psutil.virtual_memory().available)


def as_size(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"

"""`Config`: what a file says, checked, with every default filled in."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import Field

from ..components.registry.component import Component, component_of
from ..components.registry.section import Section
from ..source import MappingNode


def sync(
    *,
    on_error: Annotated[
        Literal["skip", "stop"],
        Field(description="What to do when one document cannot be read: report it and go on, or stop."),
    ] = "skip",
    on_change: Annotated[
        Literal["error", "resync"],
        Field(
            description="What to do when the index was built by another encoder, chunker or reader: stop with an error "
            "that names the differences, or build what changed anew while the old version stays readable."
        ),
    ] = "error",
    batch_size: Annotated[
        int, Field(gt=0, description="How many nodes are encoded and committed together; bounds the memory.")
    ] = 2048,
) -> dict[str, Any]:
    """How the store is brought in line with the documents."""
    return {"on_error": on_error, "on_change": on_change, "batch_size": batch_size}


@lru_cache(maxsize=1)
def sync_component() -> Component:
    """The `sync` section, read from its signature like any other."""
    return component_of("sync", "sync", "built in", sync)


class SyncSettings:
    """The `sync` section."""

    def __init__(self, values: Mapping[str, Any] | None = None, given: MappingNode | None = None) -> None:
        filled = sync(**(values or {}))
        self.on_error: str = filled["on_error"]
        self.on_change: str = filled["on_change"]
        self.batch_size: int = filled["batch_size"]
        self.given = given

    @property
    def settings(self) -> dict[str, Any]:
        return {"on_error": self.on_error, "on_change": self.on_change, "batch_size": self.batch_size}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SyncSettings) and self.settings == other.settings

    def __hash__(self) -> int:
        return hash(tuple(self.settings.items()))

    def __repr__(self) -> str:
        given = self.given.entries if self.given is not None else {}
        # As written, where it came from the environment.
        shown = {key: getattr(given[key].node, "template", None) if key in given else None for key in self.settings}
        return f"SyncSettings({ {key: shown[key] or value for key, value in self.settings.items()} })"


class Config:
    """A checked config. Make one with `load_config`.

    Each section is an attribute: `reader`, `chunker`, `encoder`, `store`, `llm`, `retriever` and
    `synthesizer` are a `Section` (None where the caller provides the part), `rerankers` is a tuple of
    them, `sync` is a `SyncSettings`. Two configs are equal if they name the same components with the
    same settings.
    """

    reader: Section | None
    chunker: Section
    encoder: Section | None
    store: Section | None
    llm: Section
    retriever: Section
    rerankers: tuple[Section, ...]
    synthesizer: Section
    sync: SyncSettings

    def __init__(
        self, name: str, sections: Mapping[str, Any], allow: tuple[str, ...] = (), provided: tuple[str, ...] = ()
    ) -> None:
        self.name = name
        self.sections = dict(sections)
        self.allow = allow
        self.provided = provided

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["sections"][name]
        except KeyError:
            raise AttributeError(f"a Config has no section {name!r}") from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Config) and self.sections == other.sections

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Config {self.name!r}>"

    @property
    def asks_llm(self) -> bool:
        """Whether the synthesizer puts the question to an LLM, and does not just hand on what was found."""
        return self.synthesizer.type not in ("context_only", "no_text")

    def common(self, slot: str) -> dict[str, Any]:
        """The settings of a section that are the slot's: they hold for an injected part too."""
        section = self.sections[slot]
        return {name: section.settings[name] for name in sorted(section.component.common)}

    def to_yaml(self, *, origins: bool = False) -> str:
        """The whole config as YAML, defaults filled in and paths absolute.

        What came from `${NAME}` is written as `${NAME}`, so no secret shows; loading the text gives an
        equal Config as long as the environment is the same.

        Args:
            origins: Whether a comment behind each line says where the value came from.
        """
        from .dump import to_yaml

        return to_yaml(self, origins=origins)

    def build(self, slot: str, **parts: Any) -> Any:
        """Build one part alone, and only what it needs.

        Args:
            slot: A section's name, such as `llm` or `rerankers` (a list).
            parts: Ready objects for other slots that the part may need.
        """
        from ..components.assembly import Assembly

        return Assembly(self, parts).get(slot)

"""`Config`: a checked config with every default filled in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..components.registry.section import Section, Sections
from ..errors import ComponentError
from .sync_settings import SyncSettings

if TYPE_CHECKING:
    from llama_index.core.callbacks import CallbackManager

    from ..components.assembly import Assembly


class Config:
    """A checked config, returned by `load_config`.

    Two configs are equal if they name the same components with the same settings.

    Attributes:
        name: The file's name, for messages.
        sections: The sections of the slots by their keys, also attributes: `config.encoder` is a `Section`, None where
            the caller provides the part, and `config.rerankers` a tuple of sections.
        sync: How the store is brought in line with the documents.
        allow: Packages besides llama_index whose classes the config may name.
        provided: Sections that may be missing.
    """

    reader: Section | None
    chunker: Section
    encoder: Section | None
    store: Section | None
    llm: Section
    retriever: Section
    rerankers: tuple[Section, ...]
    synthesizer: Section

    def __init__(
        self,
        name: str,
        sections: Sections,
        sync: SyncSettings,
        allow: tuple[str, ...] = (),
        provided: tuple[str, ...] = (),
    ) -> None:
        self.name, self.sections, self.sync = name, dict(sections), sync
        self.allow, self.provided = allow, provided

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["sections"][name]
        except KeyError:
            raise AttributeError(f"a Config has no section {name!r}") from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Config) and (self.sections, self.sync) == (other.sections, other.sync)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Config {self.name!r}>"

    @property
    def uses_llm(self) -> bool:
        """Whether the synthesizer calls an LLM."""
        return "llm" in self.synthesizer.component.wiring

    def to_yaml(self, *, origins: bool = False, resolved: bool = False) -> str:
        """The whole config as YAML, defaults filled in and paths absolute.

        A value from the environment is written as its `${NAME}`, so no secret is shown. Loading the text gives an equal
        Config as long as the environment is the same.

        Args:
            origins: Append a comment to each line with the origin of its value.
            resolved: Show the values of variables in place of `${NAME}`, and secrets as `***`; for reading only.
        """
        from .dump import to_yaml

        return to_yaml({**self.sections, "sync": self.sync}, origins=origins, values=resolved)

    def assemble(
        self, parts: Mapping[str, Any] | None = None, callback_manager: CallbackManager | None = None
    ) -> Assembly:
        """The parts of this config, built on first use; `parts` are ready objects by slot name."""
        from ..components.assembly import Assembly

        return Assembly(self, parts, callback_manager)

    def build(self, slot: str, **parts: Any) -> Any:
        """Build one part, and only what it needs.

        Args:
            slot: A section's name, such as `llm` or `rerankers` (a list).
            parts: Ready objects for other slots that the part may need.
        """
        if slot not in self.sections:
            raise ComponentError(f"there is no part {slot!r}; the parts are {', '.join(self.sections)}")
        return getattr(self.assemble(parts), slot)

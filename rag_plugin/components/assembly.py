"""Builds the LlamaIndex objects of a config, each once and on first use.

Every part is passed explicitly: LlamaIndex's constructors replace a missing argument by one from the global `Settings`,
and that by a remote default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..errors import ComponentError, RagPluginError
from ..source import redact
from . import forked  # noqa: F401 - for any part that uses torch
from .model_files.locate import PACKAGE, find_model
from .model_files.offline import offline
from .registry.component import load_target
from .registry.path_settings import is_model
from .registry.section import Section, Sections
from .registry.slots import SECTIONS, SLOTS

if TYPE_CHECKING:
    from llama_index.core import VectorStoreIndex
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.indices.prompt_helper import ChatPromptHelper, PromptHelper
    from llama_index.core.llms import LLM
    from llama_index.core.node_parser import NodeParser
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.readers.base import BaseReader
    from llama_index.core.response_synthesizers import BaseSynthesizer
    from llama_index.core.vector_stores.types import BasePydanticVectorStore

    from ..protocols import SyncStore
    from .chunkers.document_splitter import DocumentSplitter

T = TypeVar("T")


class CheckedConfig(Protocol):
    """What an assembly needs of a `Config`."""

    @property
    def sections(self) -> Sections: ...


class Assembly:
    """The parts of one engine.

    Args:
        config: The checked config.
        parts: Ready LlamaIndex objects by section name (`rerankers` is a list); they replace the config's.
        callback_manager: Of all parts; None: that of a ready LLM or encoder, else a new one.

    Raises:
        TypeError: There is no such slot.
        ComponentError: A ready object is not of its slot's base class.
    """

    def __init__(
        self,
        config: CheckedConfig,
        parts: Mapping[str, Any] | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        self.config, self.sections = config, config.sections
        self._callback_manager = callback_manager
        self.injected = dict(parts or {})
        check_slots(self.injected)
        for name, part in self.injected.items():
            for item in part if name == "rerankers" else [part]:
                _check_base_class(SECTIONS[name].name, item)
        self._in_progress: list[str] = []

    def __reduce__(self) -> tuple[Any, ...]:
        # Parts are built again where they are used; the config holds ${NAME} in place of secrets.
        return type(self), (self.config, self.injected, self._callback_manager)

    def has(self, name: str) -> bool:
        """Whether a section or a ready object exists for this slot."""
        return name in self.injected or self.sections[name] is not None

    # ------------------------------------------------------------------ slots

    @cached_property
    def reader(self) -> BaseReader:
        return self.new_reader()

    @cached_property
    def chunker(self) -> NodeParser:
        return self._injected_or("chunker", lambda: self._from_section("chunker"))

    @cached_property
    def encoder(self) -> BaseEmbedding:
        return self._injected_or("encoder", lambda: self._from_section("encoder"))

    @cached_property
    def store(self) -> BasePydanticVectorStore:
        return self._injected_or("store", lambda: self._from_section("store"))

    @cached_property
    def llm(self) -> LLM:
        return self._injected_or("llm", lambda: self._from_section("llm"))

    @cached_property
    def retriever(self) -> BaseRetriever:
        return self._injected_or("retriever", lambda: self._from_section("retriever"))

    @cached_property
    def rerankers(self) -> list[BaseNodePostprocessor]:
        sections = self.sections["rerankers"]
        assert isinstance(sections, tuple)
        return self._injected_or("rerankers", lambda: [self._build(section) for section in sections])

    @cached_property
    def synthesizer(self) -> BaseSynthesizer:
        return self._injected_or("synthesizer", lambda: self._from_section("synthesizer"))

    def new_reader(self) -> BaseReader:
        """A new reader: LlamaIndex's `SimpleDirectoryReader` lists its files in its constructor."""
        return self._injected_or("reader", lambda: self._from_section("reader"))

    # ------------------------------------------------------------------ derived from the slots

    @cached_property
    def callback_manager(self) -> CallbackManager:
        """The given manager, else that of a ready LLM or encoder, else a new one."""
        if self._callback_manager is not None:
            return self._callback_manager
        from llama_index.core.callbacks import CallbackManager, TokenCountingHandler

        from .encoders.tokens import estimated_tokens

        # LlamaIndex overwrites the manager of an LLM or encoder with the one it receives. Passing the object's own
        # manager back keeps the handlers of the application.
        for name in ("llm", "encoder"):
            part = self.injected.get(name)
            if part is not None and part.callback_manager is not None:
                manager: CallbackManager = part.callback_manager
                return manager
        # Without a handler the constructor looks for handlers in the global Settings.
        manager = CallbackManager([TokenCountingHandler(tokenizer=estimated_tokens)])
        manager.handlers = []
        return manager

    @property
    def encoder_callback_manager(self) -> CallbackManager:
        """The given manager, else the encoder's own if it is a ready object, else `callback_manager`."""
        if self._callback_manager is None and "encoder" in self.injected:
            return self.encoder.callback_manager
        return self.callback_manager

    @cached_property
    def prompt_helpers(self) -> tuple[PromptHelper, ChatPromptHelper]:
        from .llms.prompt_helpers import prompt_helpers

        return prompt_helpers(self.llm)

    @property
    def prompt_helper(self) -> PromptHelper:
        """Packs nodes into prompts, counted in the LLM's tokens."""
        return self.prompt_helpers[0]

    @property
    def chat_prompt_helper(self) -> ChatPromptHelper:
        """As `prompt_helper`, for chat messages."""
        return self.prompt_helpers[1]

    @cached_property
    def index(self) -> VectorStoreIndex:
        """The LlamaIndex index over the store."""
        from .engine_index import EngineIndex

        return EngineIndex(self)

    @cached_property
    def sync_store(self) -> SyncStore:
        """The store with its sync record, or a record in memory for a store that keeps none."""
        from ..protocols import SyncStore
        from .stores.memory_record import MemoryRecord

        return self.store if isinstance(self.store, SyncStore) else MemoryRecord(self.index)

    def new_splitter(self) -> DocumentSplitter:
        """A new splitter: it counts the nodes that it truncates."""
        from .chunkers.document_splitter import DocumentSplitter, GivenNodeSplitter
        from .encoders.tokens import max_input_tokens, tokens_of
        from .readers.given import GivenNodes

        tokens, limit = tokens_of(self.encoder), max_input_tokens(self.encoder)
        given = self.injected.get("reader")
        if isinstance(given, GivenNodes):
            return GivenNodeSplitter(given.nodes, tokens, limit)
        section = self.sections["chunker"]
        assert isinstance(section, Section)
        return DocumentSplitter(self.chunker, tokens, limit, **section.common)

    # ------------------------------------------------------------------ building

    def _injected_or(self, name: str, build: Callable[[], T]) -> T:
        if name in self.injected:
            part: T = self.injected[name]
            return part
        if name in self._in_progress:
            cycle = " → ".join([*self._in_progress, name])
            raise ComponentError(f"{cycle}: these parts need each other")
        self._in_progress.append(name)
        try:
            return build()
        finally:
            self._in_progress.pop()

    def _from_section(self, name: str) -> Any:
        section = self.sections[name]
        if section is None:
            raise ComponentError(f"the config has no section {name!r}, and no ready object was passed for it")
        assert isinstance(section, Section)
        return self._build(section)

    def _build(self, section: Section) -> Any:
        wiring = {name: getattr(self, name) for name in section.component.wiring}
        is_class_path = "." in section.component.name
        try:
            settings = _with_found_models(section) if is_class_path else section.settings
            with offline() if is_class_path else nullcontext():
                part = section.component.build(wiring, settings)
        except RagPluginError:
            raise
        except Exception as error:  # a constructor may raise anything; the section is added
            reason = redact(str(error), section.raw)
            if "huggingface.co" in reason:
                reason += (
                    "\nbuilding a part uses no network: get the model with `hf download MODEL`, or name its folder"
                )
            raise ComponentError(
                f"{section.path} ({section.type_node.template or section.type}) cannot be built: "
                f"{type(error).__name__}: {reason}"
            ) from error
        _check_base_class(section.slot, part)
        return part


def _with_found_models(section: Section) -> dict[str, Any]:
    """The settings of a class, with the folder of each model in a package."""
    fields = section.component.schema.model_fields
    return {
        name: find_model(value, section.path).name
        if isinstance(value, str) and value.startswith(PACKAGE) and is_model(fields[name].metadata)
        else value
        for name, value in section.settings.items()
    }


def check_slots(names: Iterable[str]) -> None:
    """Check the names of ready objects.

    Raises:
        TypeError: There is no such slot.
    """
    for name in names:
        if name not in SECTIONS:
            meant = next((f"did you mean {key!r}? " for key, slot in SECTIONS.items() if name in slot.synonyms), "")
            raise TypeError(f"there is no slot {name!r}; {meant}ready objects go into: {', '.join(SECTIONS)}")


def _check_base_class(slot: str, part: Any) -> None:
    base = SLOTS[slot].base_class
    if not isinstance(part, load_target(base)):
        raise ComponentError(f"the slot {slot!r} takes a {base.replace(':', '.')}, not a {type(part).__name__}")

"""A `Config` in, LlamaIndex objects out: each part is built once, when it is first asked for.

Everything is handed over explicitly. LlamaIndex's constructors fall back to the global `Settings`, and
from there to a remote default, for whatever they are not given; nothing here leaves them a gap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..config.model import Config
from ..errors import ComponentError, RagPluginError
from ..source import redact
from .registry.component import load_target
from .registry.section import Section
from .registry.slots import BASE_CLASSES, SLOTS

if TYPE_CHECKING:
    from llama_index.core import VectorStoreIndex
    from llama_index.core.callbacks import CallbackManager

    from .chunkers.document_splitter import DocumentSplitter

PARTS = (*(slot for slot in SLOTS if slot != "reranker"), "rerankers")


class Assembly:
    """The parts of one engine, built on demand and kept.

    Args:
        config: What to build.
        parts: Ready LlamaIndex objects by slot name (`rerankers` is a list); they win over the config.
    """

    def __init__(self, config: Config, parts: Mapping[str, Any] | None = None) -> None:
        self.config = config
        self.injected = dict(parts or {})
        unknown = sorted(set(self.injected) - set(PARTS))
        if unknown:
            raise TypeError(f"there is no slot {unknown[0]!r}; ready objects go into: {', '.join(PARTS)}")
        for slot, part in self.injected.items():
            for item in part if slot == "rerankers" else [part]:
                _check_kind("reranker" if slot == "rerankers" else slot, item)
        self._built: dict[str, Any] = dict(self.injected)
        self._under_way: list[str] = []

    def get(self, name: str) -> Any:
        """The part of that name: a slot, `index`, `callback_manager` or `splitter`."""
        if name in self._built:
            return self._built[name]
        if name in self._under_way:
            raise ComponentError(f"{' → '.join([*self._under_way, name])}: these parts need each other in a circle")
        self._under_way.append(name)
        try:
            part = self.make(name)
        finally:
            self._under_way.pop()
        self._built[name] = part
        return part

    def has(self, name: str) -> bool:
        """Whether there is anything to make this part of."""
        return name in self.injected or getattr(self.config, name) is not None

    def keep(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` returns, made once for this engine."""
        if name not in self._built:
            self._built[name] = make()
        return self._built[name]

    def make(self, name: str) -> Any:
        """A new part of that name, whether there is one already or not."""
        if name == "callback_manager":
            return self._callback_manager()
        if name == "index":
            return self._index()
        if name == "splitter":
            return self._splitter()
        if name == "rerankers":
            return [self._component(section) for section in self.config.rerankers]
        if name not in PARTS:
            raise ComponentError(f"there is no part {name!r}; the parts are {', '.join(PARTS)}")
        section = getattr(self.config, name)
        if section is None:
            raise ComponentError(f"the config has no section {name!r}, and no ready object was handed in for it")
        return self._component(section)

    def _component(self, section: Section) -> Any:
        wiring = {name: self.get(name) for name in section.component.wiring}
        try:
            part = section.component.build(wiring, dict(section.settings))
        except RagPluginError:
            raise
        except Exception as error:  # the seam to every constructor below: the section is added, the cause kept
            shown = section.type_node.template or section.type
            reason = redact(str(error), section.given)
            raise ComponentError(
                f"{section.path} ({shown}) cannot be built: {type(error).__name__}: {reason}"
            ) from error
        _check_kind(section.slot, part)
        return part

    def _callback_manager(self) -> CallbackManager:
        from llama_index.core.callbacks import CallbackManager, TokenCountingHandler

        from .encoders.tokens import estimated_tokens

        # LlamaIndex overwrites the manager of an LLM or encoder that it is given; handing the object's
        # own one back to it keeps what an application has set there.
        for slot in ("llm", "encoder"):
            part = self.injected.get(slot)
            if part is not None and part.callback_manager is not None:
                return part.callback_manager  # type: ignore[no-any-return]
        # With no handler at all the constructor would look for some in the global Settings.
        manager = CallbackManager([TokenCountingHandler(tokenizer=estimated_tokens)])
        manager.handlers = []
        return manager

    def _index(self) -> VectorStoreIndex:
        from llama_index.core import StorageContext, VectorStoreIndex

        from .chunkers.document_splitter import LazyDocumentSplitter

        encoder = self.get("encoder")
        manager = encoder.callback_manager if "encoder" in self.injected else self.get("callback_manager")
        store = self.get("store")
        return VectorStoreIndex(
            nodes=[],
            embed_model=encoder,
            storage_context=StorageContext.from_defaults(vector_store=store),
            callback_manager=manager,
            transformations=[LazyDocumentSplitter(lambda: self.get("splitter"))],
        )

    def _splitter(self) -> DocumentSplitter:
        from .chunkers.document_splitter import DocumentSplitter
        from .encoders.tokens import max_input_tokens, tokens_of

        chunker, encoder = self.get("chunker"), self.get("encoder")
        return DocumentSplitter(chunker, tokens_of(encoder), max_input_tokens(encoder), **self.config.common("chunker"))


def _check_kind(slot: str, part: Any) -> None:
    base = load_target(BASE_CLASSES[slot])
    if not isinstance(part, base):  # type: ignore[arg-type]
        module, _, name = BASE_CLASSES[slot].partition(":")
        raise ComponentError(f"the slot {slot!r} takes a {module}.{name}, not a {type(part).__name__}")

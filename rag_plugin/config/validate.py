"""A source tree in, a `Config` out, or every problem at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import Any

from ..components.registry.class_paths import UNSET
from ..components.registry.component import Component, ComponentDefinitionError, ComponentNotFound
from ..components.registry.find import find, names
from ..components.registry.path_settings import is_model, locate
from ..components.registry.section import Section
from ..components.registry.slots import SLOTS
from ..errors import ConfigError, Problem
from ..source import (
    BROKEN,
    UNNAMED_TYPES,
    Entry,
    ListNode,
    MappingNode,
    Node,
    ScalarNode,
    Source,
    SourceLocation,
    describe,
    join,
    redact,
    section,
    to_python,
    walk,
)
from .cross_section import contradictions
from .messages import annotation_at, did_you_mean, error_words, keys_at, shortened, type_words
from .model import Config, SyncSettings, sync_component

DEFAULT_TYPES = {**UNNAMED_TYPES, "llm": "none"}
FOLLOWING_RERANKERS = {"sentence_window": "window", "hierarchical": "auto_merging"}
"""The reranker that a chunker was made for, used where the config names no rerankers."""
REQUIRED = ("reader", "encoder", "store")
SECTIONS = ("reader", "chunker", "encoder", "store", "llm", "retriever", "rerankers", "synthesizer", "sync")

# What the same thing is called elsewhere.
_SYNONYMS = {
    "embedding": "encoder",
    "embeddings": "encoder",
    "embedder": "encoder",
    "embed_model": "encoder",
    "splitter": "chunker",
    "text_splitter": "chunker",
    "node_parser": "chunker",
    "chunking": "chunker",
    "vector_store": "store",
    "vectorstore": "store",
    "index": "store",
    "database": "store",
    "loader": "reader",
    "documents": "reader",
    "data": "reader",
    "model": "llm",
    "generator": "llm",
    "reranker": "rerankers",
    "postprocessors": "rerankers",
    "node_postprocessors": "rerankers",
    "response_synthesizer": "synthesizer",
    "retrieval": "retriever",
}
_SETTING_SYNONYMS = {
    "chunk_overlap": "overlap",
    "similarity_top_k": "top_k",
    "k": "top_k",
    "model_name": "model",
    "num_ctx": "context_window",
    "num_predict": "max_tokens",
    "max_new_tokens": "max_tokens",
    "persist_dir": "path",
    "input_dir": "path",
    "directory": "path",
    "folder": "path",
    "request_timeout": "timeout",
    "timeout": "first_token_timeout",
    "similarity_cutoff": "cutoff",
    "threshold": "cutoff",
    "host": "base_url",
    "url": "base_url",
}


def validate_config(source: Source, allow: Collection[str] = (), provided: Collection[str] = ()) -> Config:
    """Check every section against the signature of the component it names.

    Args:
        source: What `read_source` read.
        allow: Packages, besides llama_index, whose classes may be named by path.
        provided: Slots for which the caller has a ready object; their sections may be missing.

    Raises:
        ConfigError: With all problems, those of reading included.
    """
    checker = _Checker(source, allow)
    sections: dict[str, Any] = {}
    for key, entry in source.root.entries.items():
        if key not in SECTIONS:
            hint = did_you_mean(key, SECTIONS, _SYNONYMS)
            checker.problem(entry.key_location, key, f"no section is called {key!r}", hint)
    for name in SECTIONS:
        entry_or_none = source.root.entries.get(name)
        if entry_or_none is None:
            if name in REQUIRED and name not in provided and source.whole:
                example = {
                    "reader": "reader: {type: directory, path: ./docs}",
                    "encoder": "encoder: {type: huggingface, model: BAAI/bge-small-en-v1.5}",
                    "store": "store: {type: faiss, path: ./.rag/index}",
                }[name]
                checker.problem(source.root.location, name, "this section is missing", f"for example  {example}")
            sections[name] = checker.default(name, sections.get("chunker"))
        elif name == "rerankers":
            sections[name] = checker.rerankers(entry_or_none)
        elif name == "sync":
            sections[name] = checker.sync(entry_or_none)
        else:
            sections[name] = checker.section(name, name, entry_or_none)
    if not checker.problems:
        for node, path, message, hint in contradictions(sections):
            checker.problem(node.location, path, message, hint)
    if checker.problems:
        raise ConfigError(_in_order(checker.problems, source.files))
    return Config(source.name, sections, tuple(allow), tuple(provided))


def _in_order(problems: list[Problem], read: Iterable[str]) -> list[Problem]:
    files = list(dict.fromkeys([*read, *(problem.file for problem in problems)]))
    unique = list(dict.fromkeys(problems))
    return sorted(unique, key=lambda p: (files.index(p.file), p.line or 0, p.column or 0))


class _Checker:
    def __init__(self, source: Source, allow: Collection[str]) -> None:
        self.source, self.allow = source, allow
        self.problems: list[Problem] = list(source.problems)

    def problem(self, location: SourceLocation, path: str, message: str, hint: str = "") -> None:
        if location is not BROKEN.location:
            self.problems.append(Problem(location.file, location.line, location.column, path, message, hint))

    def default(self, name: str, chunker: Section | None = None) -> Any:
        if name == "rerankers":
            follows = FOLLOWING_RERANKERS.get(chunker.type if chunker is not None else "")
            if follows is None:
                return ()
            location = SourceLocation("default")
            node = ScalarNode(follows, location, self.source.root.base)
            return (self.section("reranker", join("rerankers", 0), Entry(location, node)),)
        if name == "sync":
            return SyncSettings()
        if name not in DEFAULT_TYPES:
            return None
        location = SourceLocation("default")
        node = ScalarNode(DEFAULT_TYPES[name], location, self.source.root.base)
        return self.section(name, name, Entry(location, node))

    def rerankers(self, entry: Entry) -> Any:
        node = entry.node
        if node is BROKEN:
            return ()
        if not isinstance(node, ListNode):
            hint = "write it as a list: rerankers: [{type: similarity_cutoff, cutoff: 0.3}]"
            self.problem(node.location, "rerankers", f"a list is expected, not {describe(node)}", hint)
            return ()
        built = [
            self.section("reranker", join("rerankers", i), Entry(item.location, item))
            for i, item in enumerate(node.items)
        ]
        return tuple(part for part in built if part is not None)

    def sync(self, entry: Entry) -> Any:
        if entry.node is BROKEN:
            return SyncSettings()
        if not isinstance(entry.node, MappingNode):
            hint = "for example  sync: {on_error: skip}"
            self.problem(entry.node.location, "sync", f"a mapping is expected, not {describe(entry.node)}", hint)
            return SyncSettings()
        component = sync_component()
        values = self.settings(component, "sync", entry, entry.node, "sync")
        return SyncSettings(values, entry.node) if values is not None else SyncSettings()

    def section(self, slot: str, path: str, entry: Entry) -> Section | None:
        if entry.node is BROKEN:
            return None
        node = section(entry.node)
        if not isinstance(node, MappingNode):
            hint = f"possible: {shortened(names(slot), 12)}"
            self.problem(
                entry.node.location, path, f"a type or a mapping with a type is expected, not {describe(node)}", hint
            )
            return None
        type_entry = node.entries.get("type")
        if type_entry is None and not self.source.whole:
            return None  # a file that could not be read may name it
        if type_entry is None and path in UNNAMED_TYPES:
            type_entry = Entry(node.location, ScalarNode(DEFAULT_TYPES[path], SourceLocation("default"), node.base))
        if type_entry is None:
            location = entry.key_location if entry.key_location.line or not node.location.line else node.location
            self.problem(location, join(path, "type"), "the type is missing", f"possible: {shortened(names(slot), 12)}")
            return None
        type_node = type_entry.node
        if type_node is BROKEN:
            return None
        if not isinstance(type_node, ScalarNode) or not isinstance(type_node.value, str) or not type_node.value:
            hint = f"possible: {shortened(names(slot), 12)}"
            self.problem(type_node.location, join(path, "type"), f"a type is text, not {describe(type_node)}", hint)
            return None
        component = self.component(slot, path, type_node)
        if component is None:
            return None
        rest = MappingNode({k: v for k, v in node.entries.items() if k != "type"}, node.location, node.base)
        label = f"{slot} {type_node.template or repr(component.name)}"
        # Where an override gave the type, what that type needs is missing there.
        at = entry if type_node.location.line else replace(entry, key_location=type_node.location)
        values = self.settings(component, path, at, rest, label)
        if values is None:
            return None
        return Section(slot, path, type_node.value, values, component, type_node, rest)

    def component(self, slot: str, path: str, node: ScalarNode) -> Component | None:
        type_path = join(path, "type")
        name = str(node.value)
        secret = node.template is not None
        try:
            return find(slot, name, self.allow)
        except ComponentNotFound as error:
            if secret:
                message, hint = f"no {slot} is called by the value of {node.template}", did_you_mean(None, names(slot))
            else:
                hint = " ".join(filter(None, (did_you_mean(self._last(name), error.candidates), error.hint)))
                message = error.message
            self.problem(node.location, type_path, message, hint)
        except ComponentDefinitionError as error:
            self.problem(node.location, type_path, str(error), "this is for the author of the component to mend")
        return None

    @staticmethod
    def _last(name: str) -> str:
        return name.replace(":", ".").rpartition(".")[2]

    # ------------------------------------------------------------------ settings

    def settings(
        self, component: Component, path: str, entry: Entry, table: MappingNode, label: str
    ) -> dict[str, Any] | None:
        """The validated settings, defaults filled in, or None if there is a problem; `label` is for messages."""
        from pydantic import ValidationError

        before = len(self.problems)
        fields = component.schema.model_fields
        located = {}
        for key, item in table.entries.items():
            info = fields.get(key)
            located[key] = item.node if info is None else locate(item.node, info.annotation, info.metadata)
        broken = any(_has_broken(node) for node in located.values())
        data = {key: to_python(node) for key, node in located.items()}
        values: dict[str, Any] = {}
        try:
            model = component.schema.model_validate(data)
            values = {key: getattr(model, key) for key in fields if getattr(model, key) is not UNSET}
        except ValidationError as error:
            self._translate(component, path, entry, table, located, label, error.errors(include_url=False))
        if len(self.problems) == before and not broken:
            for name, message, hint in self._rules(component, values):
                node = table.entries[name].node if name in table.entries else table
                self.problem(node.location, join(path, name), redact(message, table), redact(hint, table))
        return values if len(self.problems) == before and not broken else None

    @staticmethod
    def _rules(component: Component, values: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
        for check in component.rules:
            yield from check(values)

    def _translate(
        self,
        component: Component,
        path: str,
        entry: Entry,
        table: MappingNode,
        located: dict[str, Node],
        label: str,
        errors: Iterable[Any],
    ) -> None:
        fields = component.schema.model_fields
        grouped: dict[tuple[str | int, ...], list[Any]] = {}
        for error in errors:
            key = error["loc"][0]
            if error["type"] == "missing" and len(error["loc"]) == 1:
                if self.source.whole:
                    location = (
                        entry.key_location if entry.key_location.line or not table.location.line else table.location
                    )
                    words = (fields[key].description or type_words(fields[key].annotation)).rstrip(".")
                    self.problem(location, join(path, key), f"{label} needs this setting", words)
                continue
            if error["type"] == "extra_forbidden" and len(error["loc"]) == 1:
                message = f"{label} has no such setting"
                hint = did_you_mean(key, ["type", *fields], _SETTING_SYNONYMS) if fields else "it has no settings"
                self.problem(table.entries[key].key_location, join(path, key), message, hint)
                continue
            # A union fails once for each of its members, under names that are not in the data.
            node, followed = walk(table, error["loc"])
            if error["type"] == "missing" and len(followed) == len(error["loc"]) - 1:
                missing = _dotted(path, error["loc"])
                words = type_words(annotation_at(fields[key].annotation, error["loc"][1:]))
                self.problem(node.location, missing, "this is missing", words)
            elif not _has_broken(node):
                grouped.setdefault(tuple(followed), []).append(error)
        for followed_path, group in grouped.items():
            node, _ = walk(table, followed_path)
            dotted = _dotted(path, followed_path)
            first = group[0]
            top = fields[str(followed_path[0])]
            annotation = annotation_at(top.annotation, followed_path[1:])
            if first["type"] == "extra_forbidden":
                above = annotation_at(top.annotation, followed_path[1:-1])
                hint = did_you_mean(followed_path[-1], keys_at(above))
                self.problem(node.location, dotted, "there is no such setting", hint)
                continue
            same = len(group) == 1 or all(item["type"] == first["type"] for item in group)
            kind = first["type"] if same else "several"
            if is_model(top.metadata) and kind == "value_error":
                node = located[str(followed_path[0])]
            message, hint = error_words(kind, first.get("ctx", {}), annotation, node, first["msg"])
            self.problem(node.location, dotted, redact(message, node), hint)


def _dotted(path: str, inside: Iterable[str | int]) -> str:
    for part in inside:
        path = join(path, part)
    return path


def _has_broken(node: Node) -> bool:
    if node is BROKEN:
        return True
    if isinstance(node, MappingNode):
        return any(_has_broken(entry.node) for entry in node.entries.values())
    return isinstance(node, ListNode) and any(_has_broken(item) for item in node.items)


def every_slot() -> Iterator[tuple[str, str]]:
    """(section name, slot) for each section that names components."""
    for slot in SLOTS:
        yield ("rerankers" if slot == "reranker" else slot), slot

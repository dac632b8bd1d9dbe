"""Validates a source tree: the result is a `Config`, or an error with every problem."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

from ..components.registry.class_paths import UNSET
from ..components.registry.component import Component, ComponentDefinitionError, ComponentNotFound
from ..components.registry.find import find, names
from ..components.registry.path_settings import is_model, locate
from ..components.registry.section import Section
from ..components.registry.slots import SECTIONS, Slot
from ..errors import ConfigError, Problem
from ..source import (
    BROKEN,
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
from .messages import annotation_at, did_you_mean, keys_at, needs_object, possible, type_words, value_error
from .model import Config
from .sync_settings import SyncSettings, sync, sync_component

DEFAULT = SourceLocation("default")
"""The location of values that the config does not contain."""

_SECTION_SYNONYMS = {synonym: slot.section for slot in SECTIONS.values() for synonym in slot.synonyms}

# Names of settings in other projects.
_SETTING_SYNONYMS = {
    "overlap": "chunk_overlap",
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
    """Validate every section against the signature of the component that it names.

    Args:
        source: The result of `read_source`.
        allow: Packages besides llama_index whose classes may be named by path.
        provided: Sections that may be missing, since the caller has ready objects for them.

    Raises:
        ConfigError: With all problems, including those of reading.
    """
    validator = _Validator(source, allow, provided)
    section_names = (*SECTIONS, "sync")
    for key, entry in source.root.entries.items():
        if key not in section_names:
            hint = did_you_mean(key, section_names, _SECTION_SYNONYMS)
            validator.problem(entry.key_location, key, f"no section is called {key!r}", hint)
    sections = validator.sections
    for name, slot in SECTIONS.items():
        entry_or_none = source.root.entries.get(name)
        if entry_or_none is None:
            if slot.is_required and name not in provided and source.complete:
                hint = f"for example  {slot.example}"
                validator.problem(source.root.location, name, "this section is missing", hint)
            sections[name] = validator.default(name)
        elif name == "rerankers":
            sections[name] = validator.rerankers(entry_or_none)
        else:
            sections[name] = validator.section(name, name, entry_or_none)
    sync_settings = validator.sync(source.root.entries.get("sync"))
    if not validator.problems:
        for node, path, message, hint in contradictions(sections):
            validator.problem(node.location, path, message, hint)
    if validator.problems:
        raise ConfigError(_in_order(validator.problems, source.files))
    return Config(source.name, sections, sync_settings, tuple(allow), tuple(provided))


def _in_order(problems: list[Problem], files_read: Iterable[str]) -> list[Problem]:
    files = list(dict.fromkeys([*files_read, *(problem.file for problem in problems)]))
    unique = list(dict.fromkeys(problems))
    return sorted(unique, key=lambda p: (files.index(p.file), p.line or 0, p.column or 0))


class _Validator:
    """Collects the problems of one source."""

    def __init__(self, source: Source, allow: Collection[str], provided: Collection[str]) -> None:
        self.source, self.allow, self.provided = source, allow, provided
        self.sections: dict[str, Any] = {}
        self.problems: list[Problem] = list(source.problems)

    def problem(self, location: SourceLocation, path: str, message: str, hint: str = "") -> None:
        if location is not BROKEN.location:
            self.problems.append(Problem(location.file, location.line, location.column, path, message, hint))

    # ------------------------------------------------------------------ sections

    def default_type(self, slot: Slot, keys: Collection[str] = ()) -> str | None:
        """The type of a missing section, or of one without a type that has these keys."""
        name, types = slot.default_by
        deciding = None if name in self.provided else self.sections.get(name)
        type_ = None if deciding is None else types.get(deciding.type)
        if type_ is None or slot.default is None:
            return type_ or slot.default
        ours, theirs = (find(slot.name, name).schema.model_fields.keys() >= set(keys) for name in (type_, slot.default))
        return slot.default if theirs and not ours else type_

    def default(self, name: str) -> Any:
        """A missing section."""
        slot, is_list = SECTIONS[name], name == "rerankers"
        type_ = self.default_type(slot)
        if type_ is None:
            return () if is_list else None
        entry = Entry(DEFAULT, ScalarNode(type_, DEFAULT, self.source.root.base))
        section = self.section(slot.name, join(name, 0) if is_list else name, entry)
        return (section,) if is_list else section

    def rerankers(self, entry: Entry) -> tuple[Section, ...]:
        node = entry.node
        if node is BROKEN:
            return ()
        if not isinstance(node, ListNode):
            hint = "write it as a list: rerankers: [{type: similarity_cutoff, cutoff: 0.3}]"
            self.problem(node.location, "rerankers", f"a list is expected, not {describe(node)}", hint)
            return ()
        sections = [
            self.section("reranker", join("rerankers", number), Entry(item.location, item))
            for number, item in enumerate(node.items)
        ]
        return tuple(item for item in sections if item is not None)

    def sync(self, entry: Entry | None) -> SyncSettings:
        if entry is None or entry.node is BROKEN:
            return sync()
        if not isinstance(entry.node, MappingNode):
            hint = "for example  sync: {on_error: skip}"
            self.problem(entry.node.location, "sync", f"a mapping is expected, not {describe(entry.node)}", hint)
            return sync()
        values = self.settings(sync_component(), "sync", entry, entry.node, "sync")
        return sync() if values is None else replace(sync(**values), raw=entry.node)

    def section(self, slot: str, path: str, entry: Entry) -> Section | None:
        if entry.node is BROKEN:
            return None
        node = section(entry.node)
        if not isinstance(node, MappingNode):
            message = f"a type or a mapping with a type is expected, not {describe(node)}"
            self.problem(entry.node.location, path, message, possible(names(slot)))
            return None
        type_entry = node.entries.get("type")
        if type_entry is None and not self.source.complete:
            return None  # a file that could not be parsed may contain it
        default = None
        if path in SECTIONS and SECTIONS[path].type_is_optional:
            default = self.default_type(SECTIONS[path], node.entries)
        if type_entry is None and default is not None:
            type_entry = Entry(node.location, ScalarNode(default, DEFAULT, node.base))
        if type_entry is None:
            location = entry.key_location if entry.key_location.line or not node.location.line else node.location
            self.problem(location, join(path, "type"), "the type is missing", possible(names(slot)))
            return None
        type_node = type_entry.node
        if type_node is BROKEN:
            return None
        if not isinstance(type_node, ScalarNode) or not isinstance(type_node.value, str) or not type_node.value:
            message = f"a type is text, not {describe(type_node)}"
            self.problem(type_node.location, join(path, "type"), message, possible(names(slot)))
            return None
        component = self.component(slot, path, type_node)
        if component is None:
            return None
        raw = MappingNode({k: v for k, v in node.entries.items() if k != "type"}, node.location, node.base)
        label = f"{slot} {type_node.template or repr(component.name)}"
        # If an override sets the type, a missing setting is reported at the override.
        type_origin = entry if type_node.location.line else replace(entry, key_location=type_node.location)
        values = self.settings(component, path, type_origin, raw, label)
        if values is None:
            return None
        return Section(slot, path, type_node.value, values, component, type_node, raw)

    def component(self, slot: str, path: str, node: ScalarNode) -> Component | None:
        type_path, name = join(path, "type"), str(node.value)
        try:
            return find(slot, name, self.allow)
        except ComponentNotFound as error:
            if node.template is not None:  # the value may be a secret
                message, hint = f"unknown {slot} type (value of {node.template})", did_you_mean(None, names(slot))
            else:
                last = name.replace(":", ".").rpartition(".")[2]
                message, hint = (
                    error.message,
                    " ".join(filter(None, (did_you_mean(last, error.candidates), error.hint))),
                )
            self.problem(node.location, type_path, message, hint)
        except ComponentDefinitionError as error:
            self.problem(node.location, type_path, str(error), "the component's author has to fix this")
        return None

    # ------------------------------------------------------------------ settings

    def settings(
        self, component: Component, path: str, entry: Entry, raw: MappingNode, label: str
    ) -> dict[str, Any] | None:
        """The validated settings with defaults, or None if there is a problem; `label` names the part in messages."""
        from pydantic import ValidationError

        problems_before = len(self.problems)
        fields = component.schema.model_fields
        located: dict[str, Node] = {}
        for key, item in raw.entries.items():
            info = fields.get(key)
            located[key] = item.node if info is None else locate(item.node, info.annotation, info.metadata)
        broken = any(_contains_broken(node) for node in located.values())
        data = {key: to_python(node) for key, node in located.items()}
        values: dict[str, Any] = {}
        try:
            model = component.schema.model_validate(data)
            values = {key: value for key in fields if (value := getattr(model, key)) is not UNSET}
        except ValidationError as error:
            self._report(component, path, entry, raw, located, label, error.errors(include_url=False))
        if len(self.problems) == problems_before and not broken:
            for name, message, hint in (violation for rule in component.rules for violation in rule(values)):
                node = raw.entries[name].node if name in raw.entries else raw
                self.problem(node.location, join(path, name), redact(message, raw), redact(hint, raw))
        return values if len(self.problems) == problems_before and not broken else None

    def _report(
        self,
        component: Component,
        path: str,
        entry: Entry,
        raw: MappingNode,
        located: dict[str, Node],
        label: str,
        errors: Iterable[Any],
    ) -> None:
        """Turn pydantic's errors into problems."""
        fields = component.schema.model_fields
        by_value: dict[tuple[str | int, ...], list[Any]] = {}
        for error in errors:
            key = error["loc"][0]
            if error["type"] == "missing" and len(error["loc"]) == 1:
                if self.source.complete:
                    use_key = entry.key_location.line or not raw.location.line
                    words = (fields[key].description or type_words(fields[key].annotation)).rstrip(".")
                    if needs_object(fields[key].annotation):
                        words = f"an object that only Python code can create: {_ready_part(component, path)}"
                    location = entry.key_location if use_key else raw.location
                    self.problem(location, join(path, key), f"{label} needs this setting", words)
            elif error["type"] == "extra_forbidden" and len(error["loc"]) == 1:
                hint = did_you_mean(key, ["type", *fields], _SETTING_SYNONYMS) if fields else "it has no settings"
                self.problem(raw.entries[key].key_location, join(path, key), f"{label} has no such setting", hint)
            else:
                # A union has an error for each of its members, at paths that are not in the data.
                node, followed = walk(raw, error["loc"])
                if error["type"] == "missing" and len(followed) == len(error["loc"]) - 1:
                    words = type_words(annotation_at(fields[key].annotation, error["loc"][1:]))
                    self.problem(node.location, _dotted(path, error["loc"]), "this is missing", words)
                elif not _contains_broken(node):
                    by_value.setdefault(tuple(followed), []).append(error)
        for value_path, group in by_value.items():
            node, _ = walk(raw, value_path)
            first, info = group[0], fields[str(value_path[0])]
            if first["type"] == "extra_forbidden":
                hint = did_you_mean(value_path[-1], keys_at(annotation_at(info.annotation, value_path[1:-1])))
                self.problem(node.location, _dotted(path, value_path), "there is no such setting", hint)
                continue
            kind = first["type"] if len({item["type"] for item in group}) == 1 else "several"
            if is_model(info.metadata) and kind == "value_error":
                node = located[str(value_path[0])]
            annotation = annotation_at(info.annotation, value_path[1:])
            message, hint = value_error(kind, first.get("ctx", {}), annotation, node, first["msg"])
            self.problem(node.location, _dotted(path, value_path), redact(message, node), hint)


def _ready_part(component: Component, path: str) -> str:
    section_name = path.partition("[")[0]
    hint = f"pass a ready part, build_engine(..., {section_name}=...)"
    # The class that most people name here wants a FAISS index.
    return f"{hint}, or use  {section_name}: {{type: faiss, path: ...}}" if "Faiss" in component.name else hint


def _dotted(path: str, keys: Iterable[str | int]) -> str:
    for key in keys:
        path = join(path, key)
    return path


def _contains_broken(node: Node) -> bool:
    if node is BROKEN:
        return True
    if isinstance(node, MappingNode):
        return any(_contains_broken(entry.node) for entry in node.entries.values())
    return isinstance(node, ListNode) and any(_contains_broken(item) for item in node.items)

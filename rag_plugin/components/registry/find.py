"""A slot and a name in, a component out: built in, from another package's entry point, or a class by its path."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata

from .component import Component, ComponentNotFound, component_of, load_target
from .slots import _BUILT_IN, SLOTS


def names(slot: str) -> list[str]:
    """The names that can be had in a slot: the built-in ones, then those of other packages."""
    return [*_BUILT_IN[slot], *sorted(set(_entry_points().get(slot, {})) - set(_BUILT_IN[slot]))]


def find(slot: str, name: str, allow: Iterable[str] = ()) -> Component:
    """The component of a slot by its name, or by the path of a LlamaIndex class.

    Args:
        slot: One of `SLOTS`.
        name: A name, or `package.module.Class` (also `package.module:Class`).
        allow: Packages besides `llama_index` whose classes may be imported by path.

    Raises:
        ComponentNotFound: No such name, a name claimed twice, or a class that may not or cannot be used.
        ComponentDefinitionError: The function that was found is no component.
    """
    plugins = _entry_points().get(slot, {}).get(name, [])
    built_in = _BUILT_IN[slot].get(name)
    claims = ([("rag_plugin itself", built_in)] if built_in else []) + sorted((p.dist, p.value) for p in plugins)
    if len(claims) > 1:
        claimants = " and ".join(f"{dist} ({value})" for dist, value in claims)
        raise ComponentNotFound(
            f"the name {name!r} is claimed twice: by {claimants}", "uninstall one of them, or ask its author to rename"
        )
    if built_in:
        return component_of(slot, name, "built in", load_target(built_in))
    if plugins:
        plugin = plugins[0]
        try:
            function = load_target(plugin.value)
        except Exception as error:  # whatever a third party's module raises while it is imported
            raise ComponentNotFound(
                f"{slot} {name!r} of {plugin.dist} cannot be loaded: {type(error).__name__}: {error}",
                f"it is registered as {plugin.value}",
            ) from error
        return component_of(slot, name, plugin.dist, function)
    if "." in name or ":" in name:
        from .class_paths import from_class_path

        return from_class_path(slot, name, allow)
    raise ComponentNotFound(f"no {slot} is called {name!r}", candidates=names(slot))


@dataclass(frozen=True)
class _Plugin:
    dist: str
    value: str


@lru_cache(maxsize=1)
def _entry_points() -> dict[str, dict[str, list[_Plugin]]]:
    found: dict[str, dict[str, list[_Plugin]]] = {}
    for point in _all_entry_points():
        slot = point.group.removeprefix("rag_plugin.")
        if slot in SLOTS and slot != point.group:
            plugin = _Plugin(point.dist.name if point.dist else "an unknown package", point.value)
            claims = found.setdefault(slot, {}).setdefault(point.name, [])
            if plugin not in claims:  # the same distribution can be found twice on sys.path
                claims.append(plugin)
    return found


def _all_entry_points() -> Iterator[metadata.EntryPoint]:
    points = metadata.entry_points()  # one pass over the installed packages for all slots
    for slot in SLOTS:
        yield from points.select(group=f"rag_plugin.{slot}")

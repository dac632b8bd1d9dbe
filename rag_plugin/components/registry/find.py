"""Looks up components by slot and name: built-in types, entry points of other packages, classes by their path."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib import metadata
from typing import NamedTuple

from .class_paths import component_of_class
from .component import Component, ComponentDefinitionError, ComponentNotFound, component_of, load_target
from .slots import SLOTS


class _Plugin(NamedTuple):
    """An entry point: the distribution that declares it, and `module:function`."""

    distribution: str
    target: str


def names(slot: str) -> list[str]:
    """The available names of a slot: the built-in ones, then those of other packages."""
    built_in = SLOTS[slot].types
    return [*built_in, *sorted(_plugins().get(slot, {}).keys() - built_in.keys())]


def find(slot: str, name: str, allow: Iterable[str] = ()) -> Component:
    """The component of a slot by its name, or by the path of a LlamaIndex class.

    Args:
        slot: A name in `SLOTS`.
        name: A type, or `package.module.Class` (also `package.module:Class`).
        allow: Packages besides `llama_index` whose classes may be imported by path.

    Raises:
        ComponentNotFound: There is no such name, two packages claim it, or a class may not or cannot be used.
        ComponentDefinitionError: The function is not a component.
    """
    plugins = sorted(_plugins().get(slot, {}).get(name, []))
    built_in = SLOTS[slot].types.get(name)
    if built_in and plugins:
        claimants = ", ".join(dict.fromkeys(plugin.distribution for plugin in plugins))
        raise ComponentNotFound(
            f"the name {name!r} is a built-in {slot}, and the installed package {claimants} registers it too",
            f"uninstall {claimants}, or ask its author to rename its {slot}",
        )
    if len(plugins) > 1:
        claimants = " and ".join(f"{plugin.distribution} ({plugin.target})" for plugin in plugins)
        raise ComponentNotFound(
            f"two packages register the name {name!r}: {claimants}",
            "uninstall one of them, or ask its author to rename",
        )
    if built_in:
        return component_of(slot, name, "built in", load_target(built_in))
    if plugins:
        return _load(slot, name, plugins[0])
    if "." in name or ":" in name:
        return component_of_class(slot, name, allow)
    raise ComponentNotFound(f"no {slot} is called {name!r}", candidates=names(slot))


def _load(slot: str, name: str, plugin: _Plugin) -> Component:
    try:
        function = load_target(plugin.target)
        if not callable(function):
            raise ComponentDefinitionError(f"{plugin.target} is not a function")
    except Exception as error:  # a third party's module may raise anything
        raise ComponentNotFound(
            f"{slot} {name!r} of {plugin.distribution} cannot be loaded: {type(error).__name__}: {error}",
            f"it is registered as {plugin.target}",
        ) from error
    return component_of(slot, name, plugin.distribution, function)


@lru_cache(maxsize=1)
def _plugins() -> dict[str, dict[str, list[_Plugin]]]:
    """Entry points of other packages by slot and name."""
    plugins: dict[str, dict[str, list[_Plugin]]] = {}
    for slot, point in _entry_points():
        plugin = _Plugin(point.dist.name if point.dist else "an unknown package", point.value)
        claims = plugins.setdefault(slot, {}).setdefault(point.name, [])
        if plugin not in claims:  # one distribution may be on sys.path twice
            claims.append(plugin)
    return plugins


def _entry_points() -> Iterator[tuple[str, metadata.EntryPoint]]:
    points = metadata.entry_points()  # one pass over the installed packages for all slots
    for slot in SLOTS:
        yield from ((slot, point) for point in points.select(group=f"rag_plugin.{slot}"))

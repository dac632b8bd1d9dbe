"""A slot and a name in, a component out: built in, from another package's entry point, or a class by its path.

A component is one typed function: what stands before its `*` is wiring (what the engine hands it),
what stands after it is settings (what the YAML may say). Violation a component imports only the module
that holds the function; those modules import nothing heavy before they are called.
"""

from __future__ import annotations

import importlib
import inspect
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any

from ...errors import MissingPackage, RagPluginError
from .slots import _EVERY, WIRING

if TYPE_CHECKING:
    from pydantic import BaseModel


class ComponentNotFound(RagPluginError):
    """No component of that name can be had; `hint` says what could be done."""

    def __init__(self, message: str, hint: str = "", candidates: Iterable[str] = ()) -> None:
        self.message, self.hint, self.candidates = message, hint, list(candidates)
        super().__init__(f"{message} {hint}".strip())


class ComponentDefinitionError(RagPluginError):
    """A component's function cannot be read as one; its author has to mend it."""


Violation = tuple[str, str, str]
"""What a rule found: the setting's name, what is wrong, what to do."""


def rule(check: Callable[[dict[str, Any]], Iterable[Violation]]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Attach a check over several settings to a component, for settings that contradict each other.

    `check` gets the validated settings, and yields a setting's name, a message and a hint for each problem.
    """

    def attach(function: Callable[..., Any]) -> Callable[..., Any]:
        function.rules = (*getattr(function, "rules", ()), check)  # type: ignore[attr-defined]
        return function

    return attach


def settings_of(model: type[BaseModel]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare the fields of a pydantic model as the settings that a component takes by `**settings`."""

    from pydantic import Field

    def attach(function: Callable[..., Any]) -> Callable[..., Any]:
        *parameters, _ = inspect.signature(function).parameters.values()
        for name, field in model.model_fields.items():
            parts: Any = (field.annotation, *field.metadata, Field(description=field.description))
            annotation = typing.Annotated[parts]  # type: ignore[misc]
            parameters.append(
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=annotation)
            )
            function.__annotations__[name] = annotation
        function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return function

    return attach


@dataclass(frozen=True)
class Component:
    """One entry of a slot, its function loaded and its signature read.

    `common` are the settings that are the slot's, not the function's.
    """

    slot: str
    name: str
    origin: str
    function: Callable[..., Any]
    wiring: tuple[str, ...]
    schema: type[BaseModel]
    rules: tuple[Callable[[dict[str, Any]], Iterable[Violation]], ...]
    summary: str
    common: frozenset[str] = frozenset()

    def build(self, wiring: dict[str, Any], settings: dict[str, Any]) -> Any:
        """Call the component; a package that it misses becomes `MissingPackage` with its hint."""
        try:
            own = {name: value for name, value in settings.items() if name not in self.common}
            return self.function(*(wiring[name] for name in self.wiring), **own)
        except MissingPackage:
            raise
        except ModuleNotFoundError as error:
            part = f"{self.slot} {self.name!r}"
            missing = (error.name or "").partition(".")[0]
            raise MissingPackage(part, error.name or str(error), missing.replace("_", "-")) from error


def load_target(target: str) -> Callable[..., Any]:
    module, _, attribute = target.partition(":")
    function = getattr(importlib.import_module(module), attribute)
    if not callable(function):
        raise ComponentDefinitionError(f"{target} is not a function")
    return typing.cast(Callable[..., Any], function)


@cache
def component_of(slot: str, name: str, origin: str, function: Callable[..., Any]) -> Component:
    from pydantic import ConfigDict, create_model

    label = f"{slot} {name!r} of {origin} ({function.__module__}:{getattr(function, '__qualname__', function)})"
    wiring, fields = [], {}
    parameters = list(inspect.signature(function).parameters.values())
    hints = settings_hints(function, [p.name for p in parameters if p.kind is p.KEYWORD_ONLY], label)
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            raise ComponentDefinitionError(f"{label}: *{parameter.name} would swallow misspelt settings; name them all")
        if parameter.kind is not parameter.KEYWORD_ONLY:
            if parameter.name not in WIRING:
                known = ", ".join(sorted(WIRING))
                raise ComponentDefinitionError(
                    f"{label}: {parameter.name!r} stands before the *, so it is wiring, and wiring is one of {known}"
                )
            wiring.append(parameter.name)
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    common, rules = common_settings(slot, fields)
    fields |= common
    config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True, protected_namespaces=()
    )
    try:
        schema = create_model(f"{slot}_{name}", __config__=config, **fields)  # type: ignore[call-overload]
    except Exception as error:  # the seam to pydantic's reading of foreign annotations
        raise ComponentDefinitionError(f"{label}: {type(error).__name__}: {error}") from error
    summary = (inspect.getdoc(function) or "").strip().partition("\n\n")[0].replace("\n", " ")
    rules = (*getattr(function, "rules", ()), *rules)
    return Component(slot, name, origin, function, tuple(wiring), schema, rules, summary, frozenset(common))


def common_settings(slot: str, own: Iterable[str]) -> tuple[dict[str, tuple[Any, Any]], tuple[Any, ...]]:
    """The settings that every component of a slot has, and their rules; a component's own of that name wins."""
    if slot not in _EVERY:
        return {}, ()
    function = load_target(_EVERY[slot])
    parameters = inspect.signature(function).parameters
    hints = settings_hints(function, list(parameters), _EVERY[slot])
    fields = {name: (hints[name], parameter.default) for name, parameter in parameters.items() if name not in own}
    return fields, getattr(function, "rules", ()) if len(fields) == len(parameters) else ()


def settings_hints(function: Callable[..., Any], wanted: list[str], label: str) -> dict[str, Any]:
    """The resolved annotations of settings alone: wiring may name types that only a type checker sees."""
    annotations = getattr(function, "__annotations__", {})
    namespace = getattr(inspect.unwrap(function), "__globals__", {})
    resolved = {}
    for name in wanted:
        if name not in annotations:
            raise ComponentDefinitionError(f"{label}: the setting {name!r} has no annotation")
        annotation = annotations[name]
        if isinstance(annotation, str):
            try:
                annotation = eval(annotation, namespace)  # the function's own annotation, as typing does it
            except Exception as error:  # names under TYPE_CHECKING, or syntax newer than this Python
                raise ComponentDefinitionError(f"{label}: the annotation of {name!r}: {error}") from error
        resolved[name] = softened(annotation)
    return resolved


def softened(annotation: Any) -> Any:
    """The annotation with YAML's text, lists and mappings standing for the types that only Python has.

    A path needs nothing: the checker makes paths of texts. A mapping stands only for a pydantic model that is mere
    data, and may hold only its fields: checking a config runs no constructor.
    """
    from pydantic import BaseModel, InstanceOf, Strict

    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return typing.Union[tuple(softened(argument) for argument in arguments)]
    if origin is typing.Annotated:
        parts: Any = (softened(arguments[0]), *arguments[1:])
        return typing.Annotated[parts]  # type: ignore[misc]
    if origin in (list, dict) and arguments:
        return origin[tuple(softened(argument) for argument in arguments)]
    is_class = isinstance(annotation, type) and origin is None
    if is_class and issubclass(annotation, BaseModel):
        if is_data(annotation):
            return typing.Annotated[_closed(annotation), Strict(False)]
        return InstanceOf.__class_getitem__(annotation)  # type: ignore[type-arg]
    soft = (Enum, tuple, set, frozenset)
    if origin in soft or (is_class and issubclass(annotation, soft)):
        return typing.Annotated[annotation, Strict(False)]
    return annotation


def is_data(annotation: type[Any]) -> bool:
    """Whether a class is a pydantic model that does nothing when it is made of a mapping."""
    from pydantic import BaseModel

    return (
        issubclass(annotation, BaseModel)
        and annotation.__init__ is BaseModel.__init__
        and not inspect.isabstract(annotation)
    )


@cache
def _closed(model: type[BaseModel]) -> type[BaseModel]:
    if model.model_config.get("extra") == "forbid":
        return model
    # Most models pass over what they do not know, which would be a setting that is ignored.
    namespace = {"model_config": {"extra": "forbid"}, "__module__": model.__module__, "__doc__": model.__doc__}
    return types.new_class(model.__name__, (model,), {}, lambda body: body.update(namespace))

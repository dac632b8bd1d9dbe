"""A component: one typed function whose signature is its schema, its defaults and its documentation.

Parameters before the `*` are wiring, objects that the engine passes. Parameters after the `*` are settings of the
YAML. Modules with component functions import nothing heavy at module level.
"""

from __future__ import annotations

import importlib
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import MissingPackage, RagPluginError
from .slots import SLOTS, WIRING

if TYPE_CHECKING:
    from pydantic import BaseModel

Fields = dict[str, tuple[Any, Any]]
"""Settings by name: annotation and default, `...` for a required setting."""

Violation = tuple[str, str, str]
"""One violated rule: the setting's name, what is wrong, what to do."""

Rule = Callable[[dict[str, Any]], Iterable[Violation]]
"""A check over several validated settings."""

F = TypeVar("F", bound=Callable[..., Any])


class ComponentNotFound(RagPluginError):
    """No component of that name is available; `hint` is what to do, `candidates` are the available names."""

    def __init__(self, message: str, hint: str = "", candidates: Iterable[str] = ()) -> None:
        self.message, self.hint, self.candidates = message, hint, list(candidates)
        super().__init__(f"{message} {hint}".strip())


class ComponentDefinitionError(RagPluginError):
    """A function does not follow the rules for components; its author has to change it."""


def rule(check: Rule) -> Callable[[F], F]:
    """Attach a check over several settings to a component, for settings that contradict each other.

    Args:
        check: Gets the validated settings, and yields (setting, message, hint) for each problem.
    """

    def attach(function: F) -> F:
        function.rules = (*_rules(function), check)  # type: ignore[attr-defined]
        return function

    return attach


def _rules(function: Callable[..., Any]) -> tuple[Rule, ...]:
    return getattr(function, "rules", ())


@dataclass(frozen=True)
class Component:
    """One type of a slot: its function, loaded, with the schema that its signature describes.

    Attributes:
        origin: `built in`, or the distribution or module that the component comes from.
        wiring: Names of the parameters before the `*`.
        common: Names of the settings that belong to the slot and are not passed to the function.
    """

    slot: str
    name: str
    origin: str
    function: Callable[..., Any]
    wiring: tuple[str, ...]
    schema: type[BaseModel]
    rules: tuple[Rule, ...]
    summary: str
    common: frozenset[str] = frozenset()

    def build(self, wiring: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
        """Call the function.

        Raises:
            MissingPackage: The function imports a package that is not installed.
        """
        own = {name: value for name, value in settings.items() if name not in self.common}
        try:
            return self.function(*(wiring[name] for name in self.wiring), **own)
        except MissingPackage:
            raise
        except ModuleNotFoundError as error:
            distribution = (error.name or "").partition(".")[0].replace("_", "-")
            raise MissingPackage(f"{self.slot} {self.name!r}", error.name or str(error), distribution) from error


def load_target(target: str) -> Any:
    """The object that `module:attribute` names."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


@cache
def component_of(slot: str, name: str, origin: str, function: Callable[..., Any]) -> Component:
    """Read a function's signature.

    Raises:
        ComponentDefinitionError: The function is not a component, or a default does not fit its own annotation.
    """
    label = f"{slot} {name!r} of {origin} ({function.__module__}:{getattr(function, '__qualname__', function)})"
    parameters = list(inspect.signature(function).parameters.values())
    hints = settings_hints(function, [p.name for p in parameters if p.kind is p.KEYWORD_ONLY], label)
    wiring: list[str] = []
    fields: Fields = {}
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            raise ComponentDefinitionError(f"{label}: *{parameter.name} would accept misspelt settings; name them all")
        if parameter.kind is parameter.KEYWORD_ONLY:
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[parameter.name] = (hints[parameter.name], default)
        elif parameter.name in WIRING:
            wiring.append(parameter.name)
        else:
            raise ComponentDefinitionError(
                f"{label}: {parameter.name!r} is before the *, so it is wiring, and wiring is one of "
                f"{', '.join(sorted(WIRING))}"
            )
    common, rules = common_settings(slot, fields)
    try:
        schema = settings_model(f"{slot}_{name}", {**fields, **common}, validate_default=True)
    except Exception as error:  # of pydantic or of a foreign annotation
        raise ComponentDefinitionError(f"{label}: {type(error).__name__}: {error}") from error
    _check_defaults(schema, label)
    rules = (*_rules(function), *rules)
    return Component(
        slot, name, origin, function, tuple(wiring), schema, rules, summary_of(function), frozenset(common)
    )


def settings_model(name: str, fields: Fields, *, validate_default: bool = False) -> type[BaseModel]:
    """A strict pydantic model that rejects unknown names."""
    from pydantic import ConfigDict, create_model

    config = ConfigDict(
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        arbitrary_types_allowed=True,
        protected_namespaces=(),
        validate_default=validate_default,
    )
    return create_model(name, __config__=config, **fields)  # type: ignore[call-overload,no-any-return]


def _check_defaults(schema: type[BaseModel], label: str) -> None:
    from pydantic import ValidationError

    try:
        schema.model_validate({})
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            if problem["type"] != "missing":
                name = ".".join(map(str, problem["loc"]))
                raise ComponentDefinitionError(f"{label}: the default of {name!r}: {problem['msg']}") from error


def summary_of(documented: Any) -> str:
    """The first paragraph of a docstring, on one line."""
    return (inspect.getdoc(documented) or "").strip().partition("\n\n")[0].replace("\n", " ")


def common_settings(slot: str, own: Iterable[str]) -> tuple[Fields, tuple[Rule, ...]]:
    """The settings that every component of a slot has, and their rules; a component's own setting takes precedence."""
    target = SLOTS[slot].common if slot in SLOTS else None
    if target is None:
        return {}, ()
    function = load_target(target)
    parameters = inspect.signature(function).parameters
    hints = settings_hints(function, list(parameters), target)
    fields = {name: (hints[name], parameter.default) for name, parameter in parameters.items() if name not in own}
    return fields, _rules(function) if len(fields) == len(parameters) else ()


def settings_hints(function: Callable[..., Any], names: list[str], label: str) -> dict[str, Any]:
    """The resolved annotations of the settings. Those of wiring may exist for type checkers only."""
    annotations = getattr(function, "__annotations__", {})
    namespace = getattr(inspect.unwrap(function), "__globals__", {})
    resolved = {}
    for name in names:
        if name not in annotations:
            raise ComponentDefinitionError(f"{label}: the setting {name!r} has no annotation")
        annotation = annotations[name]
        if isinstance(annotation, str):
            try:
                annotation = eval(annotation, namespace)  # the function's own annotation, as typing does it
            except Exception as error:  # names under TYPE_CHECKING, or syntax newer than this Python
                raise ComponentDefinitionError(f"{label}: the annotation of {name!r}: {error}") from error
        resolved[name] = yaml_annotation(annotation)
    return resolved


def yaml_annotation(annotation: Any) -> Any:
    """The annotation for values of a YAML file: text, lists and mappings are accepted for enums, tuples and sets.

    A path needs no change: validation turns text into a path. A mapping is accepted for a pydantic model only if the
    model is plain data, and only with the model's fields: checking a config runs no constructor.
    """
    from pydantic import BaseModel, InstanceOf, Strict

    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return typing.Union[tuple(yaml_annotation(argument) for argument in arguments)]
    if origin is typing.Annotated:
        parts: Any = (yaml_annotation(arguments[0]), *arguments[1:])
        return typing.Annotated[parts]  # type: ignore[misc]
    if origin in (list, dict) and arguments:
        return origin[tuple(yaml_annotation(argument) for argument in arguments)]
    is_class = isinstance(annotation, type) and origin is None
    if is_class and issubclass(annotation, BaseModel):
        if is_data(annotation):
            return typing.Annotated[_without_extra(annotation), Strict(False)]
        return InstanceOf.__class_getitem__(annotation)  # type: ignore[type-arg]
    lenient = (Enum, tuple, set, frozenset)
    if origin in lenient or (is_class and issubclass(annotation, lenient)):
        return typing.Annotated[annotation, Strict(False)]
    return annotation


def is_data(annotation: type[Any]) -> bool:
    """Whether a class is a pydantic model without a constructor of its own."""
    from pydantic import BaseModel

    return (
        issubclass(annotation, BaseModel)
        and annotation.__init__ is BaseModel.__init__
        and not inspect.isabstract(annotation)
    )


@cache
def _without_extra(model: type[BaseModel]) -> type[BaseModel]:
    """The model, with unknown fields rejected: most models ignore them, so a misspelt setting would have no effect."""
    if model.model_config.get("extra") == "forbid":
        return model
    namespace = {"model_config": {"extra": "forbid"}, "__module__": model.__module__, "__doc__": model.__doc__}
    return types.new_class(model.__name__, (model,), {}, lambda body: body.update(namespace))

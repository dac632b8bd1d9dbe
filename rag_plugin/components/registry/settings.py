"""Decorators for components whose settings are those of another class or function, so that they are written once."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from pydantic import BaseModel

P = ParamSpec("P")
T = TypeVar("T")


def settings_from(model: type[BaseModel]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
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


def relay_settings(component: Callable[P, Callable[..., T]]) -> Callable[P, T]:
    """Decorator for a component that returns its implementation.

    The implementation is called with all arguments of the component by name, defaults included, so that names and
    defaults of settings are written in the component's signature only.
    """
    signature = inspect.signature(component)

    @wraps(component)
    def build(*args: P.args, **kwargs: P.kwargs) -> T:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments: dict[str, Any] = bound.arguments
        return component(*args, **kwargs)(**arguments)

    return build

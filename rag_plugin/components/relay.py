"""Hands the settings of a component to the function that implements it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def relay_settings(component: Callable[P, Callable[..., T]]) -> Callable[P, T]:
    """Decorator for a component that returns its implementation.

    The implementation is called with all arguments of the component by name, defaults included, so that names and
    defaults of settings stand in the component's signature only.
    """
    signature = inspect.signature(component)

    @wraps(component)
    def build(*args: P.args, **kwargs: P.kwargs) -> T:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments: dict[str, Any] = bound.arguments
        return component(*args, **kwargs)(**arguments)

    return build

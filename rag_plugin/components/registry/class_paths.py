"""Components from LlamaIndex classes that a config names by their path.

A class's settings are the parameters of its `__init__` together with its pydantic fields. The two differ: some
parameters are not fields, and fields hold constraints and descriptions that the signature lacks. Many of these classes
ignore misspelt keywords, so a name that is in neither is rejected here.
"""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Union

from .component import (
    Component,
    ComponentNotFound,
    Fields,
    common_settings,
    settings_model,
    summary_of,
    yaml_annotation,
)
from .path_settings import ModelName
from .slots import SLOTS, WIRING

_ALWAYS_ALLOWED = "llama_index"

# The parts of LlamaIndex's namespace whose distributions are called llama-index-KIND-NAME.
_INTEGRATIONS = (
    *("embeddings", "indices", "llms", "node_parser", "postprocessor", "readers"),
    *("response_synthesizers", "retrievers", "vector_stores"),
)


# Parameters of LlamaIndex's classes that name a model.
_MODEL_SETTINGS = {"model", "model_name", "model_name_or_path", "model_id_or_path", "tokenizer_name"}


class _Unset:
    def __repr__(self) -> str:
        return "the class's own default"


UNSET = _Unset()
"""The default of a class's setting: no argument is passed, so the class's own default applies."""


def component_of_class(slot: str, path: str, allow: Iterable[str]) -> Component:
    """The component that builds the class at `path`. Imports the class's module.

    Raises:
        ComponentNotFound: The package is not allowed, there is no such class, or it does not fit the slot.
    """
    module_name, separator, class_name = path.rpartition(":") if ":" in path else path.rpartition(".")
    if not separator or not all(part.isidentifier() for part in [*module_name.split("."), class_name]):
        raise ComponentNotFound(f"{path!r} is not the path of a class", "write package.module.Class")
    allowed = [_ALWAYS_ALLOWED, *allow]
    if not any(module_name == package or module_name.startswith(package + ".") for package in allowed):
        package = module_name.partition(".")[0]
        raise ComponentNotFound(
            f"classes of the package {package!r} may not be used from a config",
            f"if you trust it: build_engine(..., allow=[{package!r}]), or --allow {package} on the command line",
        )
    cls = _import_class(module_name, class_name)
    base = _import_class(*SLOTS[slot].base_class.split(":"))
    if not issubclass(cls, base):
        hint = f"name a subclass of {base.__module__}.{base.__name__}"
        raise ComponentNotFound(f"{path} does not fit the slot {slot!r}", hint)
    if inspect.isabstract(cls):
        raise ComponentNotFound(f"{path} is abstract", "name one of its subclasses")
    return _component(slot, path, cls)


def _import_class(module_name: str, class_name: str) -> type[Any]:
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name == missing or module_name.startswith(missing + "."):
            hint = "is the name right?"
            parts = module_name.split(".")
            if parts[0] == _ALWAYS_ALLOWED and len(parts) > 2 and parts[1] in _INTEGRATIONS:
                hint = "if the name is right: pip install llama-index-" + "-".join(parts[1:3]).replace("_", "-")
            raise ComponentNotFound(f"there is no module {missing!r}", hint) from error
        raise ComponentNotFound(
            f"{module_name} needs the package {missing!r}", f"pip install {missing.partition('.')[0].replace('_', '-')}"
        ) from error
    except Exception as error:  # a foreign module may raise anything
        raise ComponentNotFound(f"{module_name} cannot be imported: {type(error).__name__}: {error}") from error
    cls = getattr(module, class_name, None)
    if not isinstance(cls, type):
        classes = [name for name in dir(module) if isinstance(getattr(module, name), type)]
        raise ComponentNotFound(f"{module_name} has no class {class_name!r}", candidates=classes)
    return cls


def _component(slot: str, path: str, cls: type[Any]) -> Component:
    fields = _settings(cls)
    load_settings: Fields = {}
    if slot == "reader":
        # A reader's `load_data` often takes what `__init__` would elsewhere (`urls`, `query`): both are settings.
        load_settings = {name: field for name, field in _parameters(cls.load_data, {}).items() if name not in fields}
        fields |= load_settings
    for name in _MODEL_SETTINGS & fields.keys():
        annotation, default = fields[name]
        fields[name] = (Annotated[annotation, ModelName], default)
    wiring = {name: parameter for name, parameter in WIRING.items() if parameter in fields}
    for parameter in wiring.values():
        del fields[parameter]
    common, rules = common_settings(slot, fields)
    try:
        schema = settings_model(cls.__name__, {**fields, **common})
    except Exception as error:  # of pydantic or of a foreign annotation
        raise ComponentNotFound(f"the settings of {path} cannot be read: {type(error).__name__}: {error}") from error
    build = _builder(cls, list(wiring.values()), list(load_settings))
    return Component(
        slot, path, cls.__module__, build, tuple(wiring), schema, rules, summary_of(cls), frozenset(common)
    )


def _builder(cls: type[Any], wiring_parameters: list[str], load_settings: list[str]) -> Callable[..., Any]:
    def build(*wiring: Any, **settings: Any) -> Any:
        # Only settings of the file are passed: a class's own default can differ from its field's.
        arguments = {name: value for name, value in settings.items() if value is not UNSET}
        arguments.update(zip(wiring_parameters, wiring))
        load_arguments = {name: arguments.pop(name) for name in load_settings if name in arguments}
        part = cls(**arguments)
        if not load_arguments:
            return part
        from .bound_reader import BoundReader

        return BoundReader(part, load_arguments)

    return build


def _settings(cls: type[Any]) -> Fields:
    model_fields = dict(getattr(cls, "model_fields", {}))
    init = inspect.getattr_static(cls, "__init__")
    is_generated = "pydantic" in getattr(init, "__module__", "") or init is object.__init__
    fields = {} if is_generated else _parameters(init, model_fields)
    accepts_any = is_generated or any(
        parameter.kind is parameter.VAR_KEYWORD for parameter in inspect.signature(init).parameters.values()
    )
    if accepts_any:
        for name, info in model_fields.items():
            if name not in fields and info.init is not False and not info.exclude:
                default = ... if info.is_required() else UNSET
                fields[name] = (_annotated(info.annotation, info), default)
        if "callback_manager" in model_fields:
            fields.setdefault("callback_manager", (Any, UNSET))
    return fields


def _parameters(function: Any, model_fields: dict[str, Any]) -> Fields:
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception:  # a name under TYPE_CHECKING: use the annotations that are objects already
        hints = {name: value for name, value in function.__annotations__.items() if not isinstance(value, str)}
    fields: Fields = {}
    for name, parameter in inspect.signature(function).parameters.items():
        skipped = (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY)
        if name == "self" or parameter.kind in skipped:
            continue
        annotation = hints.get(name, Any)
        if parameter.default is None:
            annotation = Union[annotation, None]
        default = ... if parameter.default is parameter.empty else UNSET
        fields[name] = (_annotated(annotation, model_fields.get(name)), default)
    return fields


def _annotated(annotation: Any, info: Any) -> Any:
    """The annotation for YAML values, with the constraints and the description of a pydantic field."""
    annotation = yaml_annotation(annotation)
    if info is None:
        return annotation
    from pydantic import Field

    constraints = [item for item in info.metadata if type(item).__module__.startswith(("annotated_types", "pydantic"))]
    parts: Any = (annotation, *constraints, Field(description=info.description))
    return Annotated[parts]  # type: ignore[misc]

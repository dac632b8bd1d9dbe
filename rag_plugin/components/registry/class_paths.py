"""A LlamaIndex class named by its path in, a component out.

Its settings are the parameters of its `__init__` together with its pydantic fields, which differ: some
parameters are no fields, and fields hold constraints and descriptions that the signature lacks. Many of
these classes swallow misspelt keywords, so what is not in either is refused here.
"""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, Union

from .component import Component, ComponentNotFound, common_settings, softened
from .slots import BASE_CLASSES

if TYPE_CHECKING:
    from pydantic import BaseModel

ALWAYS_ALLOWED = "llama_index"

# The parts of LlamaIndex's namespace whose packages are called llama-index-KIND-NAME.
_INTEGRATIONS = (
    "embeddings",
    "indices",
    "llms",
    "node_parser",
    "postprocessor",
    "readers",
    "response_synthesizers",
    "retrievers",
    "vector_stores",
)
# What the engine hands to a class by the names that LlamaIndex uses for its parameters.
_HANDED_IN = {
    "embed_model": "encoder",
    "llm": "llm",
    "index": "index",
    "vector_store": "store",
    "callback_manager": "callback_manager",
}
# Parameters that LlamaIndex would fill from its global settings if nobody did.
_MADE_HERE = ("prompt_helper", "chat_prompt_helper")


def from_class_path(slot: str, path: str, allow: Iterable[str]) -> Component:
    """The component that builds the class at `path`; imports the class's module.

    Raises:
        ComponentNotFound: The package is not allowed, there is no such class, or it is not of this slot.
    """
    module_name, separator, class_name = path.rpartition(":") if ":" in path else path.rpartition(".")
    if not separator or not all(part.isidentifier() for part in [*module_name.split("."), class_name]):
        raise ComponentNotFound(f"{path!r} is not the path of a class", "write package.module.Class")
    allowed = [ALWAYS_ALLOWED, *allow]
    if not any(module_name == package or module_name.startswith(package + ".") for package in allowed):
        package = module_name.partition(".")[0]
        raise ComponentNotFound(
            f"classes of the package {package!r} may not be used from a config",
            f"if you trust it: build_engine(..., allow=[{package!r}]), or --allow {package} on the command line",
        )
    found = _import_class(path, module_name, class_name)
    base = _import_class(BASE_CLASSES[slot], *BASE_CLASSES[slot].split(":"))
    if not issubclass(found, base):
        wanted = f"{base.__module__}.{base.__name__}"
        raise ComponentNotFound(f"{path} is no {slot}", f"a {slot} is a subclass of {wanted}")
    if inspect.isabstract(found):
        raise ComponentNotFound(f"{path} is abstract", "name one of its subclasses")
    return _component(slot, path, found)


def _import_class(path: str, module_name: str, class_name: str) -> type[Any]:
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name == missing or module_name.startswith(missing + "."):
            hint = "is the name right?"
            parts = module_name.split(".")
            if parts[0] == ALWAYS_ALLOWED and len(parts) > 2 and parts[1] in _INTEGRATIONS:
                hint = "if the name is right: pip install llama-index-" + "-".join(parts[1:3]).replace("_", "-")
            raise ComponentNotFound(f"there is no module {missing!r}", hint) from error
        raise ComponentNotFound(
            f"{module_name} needs the package {missing!r}", f"pip install {missing.partition('.')[0].replace('_', '-')}"
        ) from error
    except Exception as error:  # whatever a foreign module raises while it is imported
        raise ComponentNotFound(f"{module_name} cannot be imported: {type(error).__name__}: {error}") from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        classes = [name for name in dir(module) if isinstance(getattr(module, name), type)]
        raise ComponentNotFound(f"{module_name} has no class {class_name!r}", candidates=classes)
    return found


def _component(slot: str, path: str, found: type[Any]) -> Component:
    from pydantic import ConfigDict, create_model

    fields = _settings(found)
    methods: list[str] = []
    if slot == "reader":
        # A reader's `load_data` often takes what `__init__` would elsewhere (`urls`, `query`): both are settings.
        extra = {name: field for name, field in _signature(found.load_data, {}).items() if name not in fields}
        methods = list(extra)
        fields |= extra
    needed = {name: role for name, role in _HANDED_IN.items() if name in fields}
    made = [name for name in _MADE_HERE if name in fields]
    for name in (*needed, *made):
        del fields[name]
    build = _builder(found, list(needed), made, methods, set(fields))
    common, rules = common_settings(slot, fields)
    fields |= common
    config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True, protected_namespaces=()
    )
    try:
        schema: type[BaseModel] = create_model(found.__name__, __config__=config, **fields)  # type: ignore[call-overload]
    except Exception as error:  # the seam to pydantic's reading of foreign annotations
        raise ComponentNotFound(f"the settings of {path} cannot be read: {type(error).__name__}: {error}") from error
    summary = (inspect.getdoc(found) or "").strip().partition("\n\n")[0].replace("\n", " ")
    wiring = tuple(needed.values())
    return Component(slot, path, found.__module__, build, wiring, schema, rules, summary, frozenset(common))


def _builder(
    found: type[Any], handed: list[str], made: list[str], methods: list[str], known: set[str]
) -> Callable[..., Any]:
    def build(*wiring: Any, **settings: Any) -> Any:
        # Only what the file says goes in: a class's own default can differ from its field's.
        arguments = {name: value for name, value in settings.items() if value is not UNSET}
        arguments.update(zip(handed, wiring))
        if made:
            from ..llms.prompt_helpers import prompt_helpers

            helpers = dict(zip(_MADE_HERE, prompt_helpers(arguments["llm"])))
            arguments.update({name: helpers[name] for name in made})
        later = {name: arguments.pop(name) for name in methods if name in arguments}
        part = found(**arguments)
        if later:
            from .bound_reader import BoundReader

            return BoundReader(part, later)
        return part

    return build


class _Unset:
    def __repr__(self) -> str:
        return "the class's own default"


UNSET = _Unset()
"""The default of a class's setting: not handed over, so that the class decides."""


def _settings(found: type[Any]) -> dict[str, tuple[Any, Any]]:
    model_fields = dict(getattr(found, "model_fields", {}))
    own_init = found.__init__  # type: ignore[misc]
    generated = "pydantic" in getattr(own_init, "__module__", "") or own_init is object.__init__
    fields = {} if generated else _signature(own_init, model_fields)
    takes_any = generated or any(
        parameter.kind is parameter.VAR_KEYWORD for parameter in inspect.signature(own_init).parameters.values()
    )
    if takes_any:
        for name, info in model_fields.items():
            if name not in fields and info.init is not False and not info.exclude:
                default = ... if info.is_required() else UNSET
                fields[name] = (_described(info.annotation, info), default)
        for name in ("callback_manager",):
            if name in model_fields:
                fields.setdefault(name, (Any, UNSET))
    return fields


def _signature(function: Any, model_fields: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception:  # a name that exists only under TYPE_CHECKING: fall back to what stands there
        hints = {name: value for name, value in function.__annotations__.items() if not isinstance(value, str)}
    fields: dict[str, tuple[Any, Any]] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name == "self" or parameter.kind in (
            parameter.VAR_KEYWORD,
            parameter.VAR_POSITIONAL,
            parameter.POSITIONAL_ONLY,
        ):
            continue
        annotation = hints.get(name, Any)
        if parameter.default is None:
            annotation = Union[annotation, None]
        default = ... if parameter.default is parameter.empty else UNSET
        fields[name] = (_described(annotation, model_fields.get(name)), default)
    return fields


def _described(annotation: Any, info: Any) -> Any:
    annotation = softened(annotation)
    if info is None:
        return annotation
    from pydantic import Field

    constraints = [item for item in info.metadata if type(item).__module__.startswith(("annotated_types", "pydantic"))]
    parts: Any = (annotation, *constraints, Field(description=info.description))
    return Annotated[parts]  # type: ignore[misc]

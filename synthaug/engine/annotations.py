"""Plain values against type annotations: what a constructor says it takes is what it gets."""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, cast

from synthaug.errors import ConfigError, nearest

Nested = Callable[[Mapping[str, Any], str], tuple[type, object]]
"""Class and object of a nested mapping with a `_target_`; its second argument is the dotted place."""


def hints(cls: type) -> dict[str, Any]:
    """Evaluated annotations of a constructor's parameters.

    Raises:
        ConfigError: An annotation names something that its module does not hold at run time.
    """
    try:
        return typing.get_type_hints(cls.__init__)
    except NameError as error:
        raise ConfigError(
            f"an annotation of {cls.__qualname__}.__init__ cannot be evaluated: {error}; import the name outside"
            " of TYPE_CHECKING"
        ) from error


def parameters(cls: type) -> dict[str, inspect.Parameter]:
    """The constructor's parameters by name, without `self`."""
    return dict(inspect.signature(cls).parameters)


def convert(value: Any, annotation: Any, where: str, nested: Nested) -> Any:
    """The value as the annotation asks for it: lists become tuples, ints become floats; nothing else changes.

    Raises:
        ConfigError: It cannot be that, naming the place, the value and the type.
    """
    mapping = cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else None
    if mapping is not None and "_target_" in mapping:
        cls, built = nested(mapping, where)
        return _checked_object(cls, built, annotation, where)
    if annotation in (Any, object, inspect.Parameter.empty):
        return cast("Any", value)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return convert(value, arguments[0], where, nested)
    if origin in (Union, types.UnionType):
        return _union(value, arguments, where, nested)
    if origin is Literal:
        return _choice(cast("Any", value), arguments, where)
    kind: Any = origin or annotation
    if isinstance(kind, type) and not issubclass(kind, (str, bytes)):
        if mapping is not None and issubclass(kind, Mapping):
            return _mapping(mapping, arguments, where, nested)
        if isinstance(value, (list, tuple)) and issubclass(kind, Sequence):
            return _sequence(cast("Sequence[Any]", value), cast("type", kind), arguments, where, nested)
    return _scalar(value, annotation, where)


def _choice(value: object, choices: tuple[Any, ...], where: str) -> object:
    if any(value == choice and type(value) is type(choice) for choice in choices):
        return value
    raise ConfigError(f"{where}: {value!r} is not known.{nearest(str(value), map(str, choices))}")


def _scalar(value: Any, annotation: Any, where: str) -> Any:
    if annotation is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if math.isnan(value):
            raise ConfigError(f"{where}: NaN is no value, expected float")
        return float(value)
    if annotation in (int, str, bool) and type(value) is annotation:
        return value
    if annotation is None or annotation is type(None):
        if value is None:
            return None
    elif annotation is Path and isinstance(value, str):
        return Path(value)
    advice = ""
    if annotation is str and isinstance(value, (int, float)):
        advice = f"; quote it: {where}=\"'{value}'\""
    if annotation is bool:
        advice = " (true or false)"
    raise ConfigError(f"{where}: {value!r} is a {type(value).__name__}, expected {name_of(annotation)}{advice}")


def _union(value: Any, arguments: tuple[Any, ...], where: str, nested: Nested) -> Any:
    reasons: list[ConfigError] = []
    # An exact type first: 1 stays an int under `float | int`.
    for annotation in sorted(arguments, key=lambda a: type(value) is not (type(None) if a is None else a)):
        try:
            return convert(value, annotation, where, nested)
        except ConfigError as error:
            reasons.append(error)
    real = [annotation for annotation in arguments if annotation is not type(None)]
    if len(real) == 1:
        raise reasons[0] if arguments[0] is real[0] else reasons[-1]
    expected = " or ".join(name_of(annotation) for annotation in arguments)
    raise ConfigError(f"{where}: {value!r} is a {type(value).__name__}, expected {expected}")


def _mapping(value: Mapping[Any, Any], arguments: tuple[Any, ...], where: str, nested: Nested) -> dict[Any, Any]:
    key_type, value_type = arguments if len(arguments) == 2 else (Any, Any)
    return {
        convert(key, key_type, f"{where}.{key} (the key)", nested): convert(item, value_type, f"{where}.{key}", nested)
        for key, item in value.items()
    }


def _sequence(value: Sequence[Any], kind: type, arguments: tuple[Any, ...], where: str, nested: Nested) -> Any:
    if kind is tuple and arguments and Ellipsis not in arguments:
        if len(value) != len(arguments):
            raise ConfigError(f"{where}: {len(value)} values {list(value)!r}, expected {len(arguments)}")
        wanted = arguments
    else:
        wanted = (arguments[0] if arguments else Any,) * len(value)
    items = [convert(v, a, f"{where}[{i}]", nested) for i, (v, a) in enumerate(zip(value, wanted, strict=True))]
    return items if kind is list else tuple(items)


def _checked_object(cls: type, built: object, annotation: Any, where: str) -> object:
    wanted = [a for a in (annotation, *typing.get_args(annotation)) if isinstance(a, type) and a is not type(None)]
    if annotation in (Any, inspect.Parameter.empty) or any(issubclass(cls, kind) for kind in wanted):
        return built
    raise ConfigError(f"{where}: a {cls.__name__}, expected {name_of(annotation)}")


def name_of(annotation: Any) -> str:
    """An annotation as a reader would write it: `float`, `str | null`, `tuple[int, int]`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is type(None):
        return "null"
    if annotation is Ellipsis:
        return "..."
    if origin is typing.Annotated:
        return name_of(arguments[0])
    if origin in (Union, types.UnionType):
        return " | ".join(map(name_of, arguments))
    if origin is Literal:
        return " | ".join(str(choice) for choice in arguments)
    if isinstance(origin, type):
        return f"{origin.__name__}[{', '.join(map(name_of, arguments))}]"
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).removeprefix("typing.")

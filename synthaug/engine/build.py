"""From a checked configuration to objects. Ours instead of Hydra's: it checks names, then types, then calls."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Collection, Mapping
from typing import Any

from synthaug.engine import targets, vet
from synthaug.engine.annotations import Nested, convert, hints, parameters
from synthaug.errors import ConfigError, Refusal, nearest

OUTSIDE = {"write": frozenset({"root"})}
"""Fields of a slot that belong to the engine: a writer makes bytes, and the engine alone knows where they go."""


def build(node: Mapping[str, Any], slot: str, plugins: Collection[str] = ()) -> Any:
    """Builds the object that a configuration node describes, nested nodes first.

    Args:
        node: Plain data with `_target_` and the constructor's arguments.
        slot: Name of the slot; it leads every message.
        plugins: Plug-in modules that the user named; their classes are allowed beside the package's own.

    Raises:
        SecurityError: A `_target_` outside the list. Nothing was imported.
        ConfigError: An unknown or missing argument, a wrong type, a value out of range.
        Refusal: What else the constructor refuses, with the slot put in front.
    """
    vet.check_targets(node, targets.own() | targets.of(plugins), slot)
    return _construct(node, slot)[1]


def verify(node: Mapping[str, Any], slot: str, plugins: Collection[str] = ()) -> None:
    """Checks names and types as `build` does, nested nodes too; imports the classes and calls none."""
    vet.check_targets(node, targets.own() | targets.of(plugins), slot)
    _only_check(node, slot)


def _only_check(node: Mapping[str, Any], where: str) -> tuple[type, object]:
    cls = find_class(node["_target_"], where)
    _arguments(cls, node, where, _only_check)
    return cls, None


def _construct(node: Mapping[str, Any], where: str) -> tuple[type, object]:
    cls = find_class(node["_target_"], where)
    arguments = _arguments(cls, node, where, _construct)
    try:
        return cls, cls(**arguments)
    except Refusal as error:
        raise type(error)(f"{where}: {error}") from error
    except Exception as error:
        raise ConfigError(f"{where}: {cls.__name__} cannot be built: {type(error).__name__}: {error}") from error


def find_class(target: str, where: str) -> type:
    """Imports a class by its exact name, which the caller has checked against the list.

    Raises:
        ConfigError: The module cannot be imported (a missing extra), or holds no such class.
    """
    module, _, name = target.rpartition(".")
    try:
        found: object = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise ConfigError(f"{where}: {target} cannot be imported: {error}") from error
    if not isinstance(found, type):
        raise ConfigError(f"{where}: {target} is no class")
    return found


def _arguments(cls: type, node: Mapping[str, Any], where: str, nested: Nested) -> dict[str, Any]:
    known = parameters(cls)
    anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values())
    named = {n: p for n, p in known.items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    outside = OUTSIDE.get(where, frozenset()) - set(named)
    given = {name: value for name, value in node.items() if name != "_target_" and name not in outside}
    for name, value in given.items():
        if name not in named and not anything:
            raise ConfigError(f"{where}: {cls.__name__} has no field '{name}'.{nearest(name, named)}")
        if value == "???":
            raise ConfigError(mandatory(f"{where}.{name}"))
    missing = [name for name, p in named.items() if p.default is p.empty and name not in given]
    if missing:
        raise ConfigError(mandatory(f"{where}.{missing[0]}"))
    types = hints(cls)
    return {name: convert(value, types.get(name, Any), f"{where}.{name}", nested) for name, value in given.items()}


def mandatory(field: str) -> str:
    """The message for a field that has no default and got no value."""
    return f"{field} is mandatory and has no value; give {field}=VALUE"

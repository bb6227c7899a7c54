"""What a configuration may say, checked before anything reads it as one.

Three doors are closed here. The text: YAML as plain data, within limits (fault G2). The values:
interpolations reach other values of the configuration and nothing else, no environment (G3). The
classes: `_target_` is compared with a list of exact names before any import (G1).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import yaml

from synthaug.errors import ConfigError, SecurityError, nearest

MAX_BYTES = 1 << 20
MAX_DEPTH = 24
MAX_NODES = 5000
MAX_ALIASES = 100
MAX_REFERENCES = 64

_REFERENCE = re.compile(
    r"\$\{\s*(?:(?P<path>[\w.\[\]]+)|oc\.(?:select|dict\.keys|dict\.values)\s*:\s*(?P<argument>[\w.\[\]]+)"
    r"\s*(?:,[^${}\\'\"]*)?)\s*\}"
)
_FORBIDDEN = frozenset(
    {"_partial_", "_recursive_", "_convert_", "_args_", "_target_whitelist_", "_execution_whitelist_"}
)
_HYDRA = re.compile(r"(?:^|[\s/@.])hydra(?:$|[/@.:])")
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):
    """Plain data as OmegaConf reads it: floats like `1e-3` are numbers, and dates stay text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, bool) or not isinstance(key, (str, int)):
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is not text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key '{key}'", key_node.start_mark)
            seen.add(key)
        base: Any = super()
        return base.construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag != "tag:yaml.org,2002:timestamp"]
    for first, rules in _Base.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(?:\.\d*)?[eE][-+]?\d+\Z"), list("-+0123456789")
)


def read_yaml(path: Path) -> tuple[dict[str, Any], str]:
    """Reads one file of a user as plain data, once: what is checked is what is used.

    Returns:
        The mapping, and the text of the file (Hydra's package header is a comment in it).

    Raises:
        ConfigError: Not a regular file, over a limit, or not plain YAML.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be opened: {error.strerror}") from error
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ConfigError(f"{path}: not a regular file; a recipe is a YAML file")
        data = file.read(MAX_BYTES + 1)
    return parse(data, str(path))


def parse(data: bytes, name: str) -> tuple[dict[str, Any], str]:
    """Plain data from bytes, within the limits of this module. `name` leads the messages."""
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{name}: over {MAX_BYTES >> 20} MiB; a configuration is a page, put data into files")
    try:
        text = data.decode("utf-8-sig")
        _measure(text, name)
        loaded: object = yaml.load(text, Loader=_Loader)  # a safe loader, stricter
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{name}: not plain YAML: {error}") from error
    if loaded is None:
        return {}, text
    if not isinstance(loaded, dict):
        raise ConfigError(f"{name}: a {type(loaded).__name__}, expected a mapping of names to values")
    plain = cast("dict[str, Any]", loaded)
    check_references(plain, name, composed=False)
    _check_hydra(plain, text, name)
    return plain, text


def _measure(text: str, name: str) -> None:
    """Walks the parser's events and stops at the first limit, so that a bomb costs no more than its fuse."""
    depth = nodes = aliases = 0
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    events: Iterator[Any] = cast("Any", yaml).parse(text, Loader=_Base)
    for event in events:
        if getattr(event, "tag", None) is not None:
            raise SecurityError(f"{name}: YAML tag '{event.tag}' at {_at(event)}; tags are refused, write plain values")
        if isinstance(event, yaml.AliasEvent):
            aliases += 1
            if event.anchor not in sizes:
                raise ConfigError(f"{name}: alias '*{event.anchor}' at {_at(event)} has no finished anchor")
            nodes += sizes[event.anchor]
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            open_nodes.append((event.anchor, nodes))
            nodes += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
            anchor, before = open_nodes.pop()
            if anchor is not None:
                sizes[anchor] = nodes - before
        elif isinstance(event, yaml.ScalarEvent):
            nodes += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        for value, limit, what in ((depth, MAX_DEPTH, "levels"), (nodes, MAX_NODES, "values, aliases expanded")):
            if value > limit:
                raise ConfigError(f"{name}: over {limit} {what}, at {_at(event)}")
        if aliases > MAX_ALIASES:
            raise ConfigError(f"{name}: over {MAX_ALIASES} aliases, at {_at(event)}")


def _at(event: Any) -> str:
    return f"line {event.start_mark.line + 1}"


def _check_hydra(data: Mapping[str, Any], text: str, name: str) -> None:
    """A recipe composes the run, not Hydra: launchers, logging and search paths can name code."""
    entries = data.get("defaults")
    words = [str(key) for key in data if key == "hydra"] + [package_header(text)]
    for entry in cast("list[Any]", entries) if isinstance(entries, list) else []:
        words += [f"{k}" for k in cast("dict[Any, Any]", entry)] if isinstance(entry, dict) else [str(entry)]
    for word in words:
        if _HYDRA.search(word):
            raise SecurityError(f"{name}: '{word}' configures Hydra itself; give hydra settings on the command line")


def package_header(text: str) -> str:
    """The package that a `# @package NAME` comment at the top of a file names, or nothing."""
    for line in text.splitlines():
        bare = line.strip()
        if bare and not bare.startswith("#"):
            break
        match = re.match(r"#\s*@package\s+(\S+)", bare)
        if match:
            return match.group(1)
    return ""


def strings(node: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Every text in plain data, keys included, with its dotted place."""
    if isinstance(node, str):
        yield where, node
    elif isinstance(node, Mapping):
        for key, value in cast("Mapping[Any, Any]", node).items():
            inner = f"{where}.{key}" if where else str(key)
            yield inner, str(key)
            yield from strings(value, inner)
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(cast("list[Any]", node)):
            yield from strings(value, f"{where}[{index}]")


def check_references(data: Any, name: str, *, composed: bool = True) -> None:
    """Refuses every interpolation that is not a plain `${path}` or one of three pure functions.

    Args:
        composed: Whether `data` is the whole configuration; the paths in a part of it lead elsewhere.

    Raises:
        SecurityError: `${oc.env:...}`, another resolver, or a nested or escaped interpolation.
        ConfigError: More than `MAX_REFERENCES`, or a reference to a value that is itself a reference
            (such chains can double at every step).
    """
    count = 0
    for where, text in strings(data):
        if "${" not in text:
            continue
        if "${" in _REFERENCE.sub("", text):
            raise SecurityError(
                f"{_place(name, where)} is '{text}'; only ${{path.to.value}}, oc.select, oc.dict.keys and"
                " oc.dict.values may be referred to. Environment variables and other resolvers are refused: write the"
                " value itself"
            )
        for match in _REFERENCE.finditer(text):
            count += 1
            path = match.group("path") or match.group("argument")
            if composed and any("${" in inner for _, inner in strings(_follow(data, where, path))):
                raise ConfigError(f"{_place(name, where)} refers to a reference; point it at the value itself")
    if count > MAX_REFERENCES:
        raise ConfigError(f"{name}: {count} interpolations, at most {MAX_REFERENCES}")


def _place(name: str, where: str) -> str:
    return f"{name}: '{where}'" if where else name


def _follow(data: Any, where: str, path: str) -> Any:
    """What a reference points at in unresolved data; None where that is not known yet."""
    steps = re.findall(r"[^.\[\]]+", path)
    dots = len(path) - len(path.lstrip("."))
    if dots:
        steps = re.findall(r"[^.\[\]]+", where)[:-dots] + steps
    node = data
    for step in steps:
        if isinstance(node, Mapping):
            node = cast("Mapping[Any, Any]", node).get(step)
        elif isinstance(node, list) and step.isdigit() and int(step) < len(cast("list[Any]", node)):
            node = cast("list[Any]", node)[int(step)]
        else:
            return node if isinstance(node, str) else None
    return node


def check_targets(node: Any, allowed: Collection[str], where: str = "") -> list[str]:
    """Walks a composed configuration and compares every `_target_` with exact names; imports nothing.

    Returns:
        The targets found, in order.

    Raises:
        SecurityError: A class outside the list, or a key that changes how classes are called.
    """
    found: list[str] = []
    if isinstance(node, Mapping):
        mapping = cast("Mapping[Any, Any]", node)
        forbidden = sorted(_FORBIDDEN & {str(key) for key in mapping})
        if forbidden:
            raise SecurityError(f"{where or 'configuration'}: key '{forbidden[0]}' is refused; plain arguments only")
        if "_target_" in mapping:
            found.append(_allowed(mapping["_target_"], allowed, where))
        for key, value in mapping.items():
            found += check_targets(value, allowed, f"{where}.{key}" if where else str(key))
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(cast("list[Any]", node)):
            found += check_targets(value, allowed, f"{where}[{index}]")
    return found


def _allowed(target: object, allowed: Collection[str], where: str) -> str:
    if isinstance(target, str) and target in allowed:
        return target
    hint = nearest(str(target), allowed)
    raise SecurityError(
        f"{where or 'configuration'}: _target_ '{target}' is none of the classes that the package's configurations"
        f" name.{hint if 'Did you mean' in hint else ''} A class of your own needs --plugin MODULE"
    )


_SWEEPING = ("hydra/sweeper", "hydra/launcher", "hydra.sweeper.", "hydra.launcher.")


def key_of(override: str) -> str:
    """What an override is about: `a.b` of `+a.b=1`."""
    return override.partition("=")[0].strip().lstrip("+~")


def check_override(override: str) -> None:
    """Refuses an override that reaches the environment, or changes more of Hydra than sweeping needs.

    Raises:
        ConfigError: No override at all, such as a stray word.
        SecurityError: As above: logging, callbacks and search paths of Hydra can name code.
    """
    if "=" not in override and not override.startswith("~"):
        raise ConfigError(f"'{override}' is no override; expected key=value, group=option, +new=value or ~slot")
    check_references(override, "override", composed=False)
    key = key_of(override)
    if _HYDRA.search(key) and not key.startswith(_SWEEPING):
        raise SecurityError(
            f"override '{override}' configures Hydra itself; only hydra/sweeper, hydra/launcher and their fields may be"
            " set"
        )

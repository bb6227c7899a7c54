"""Hydra's errors in our words: what arrived, what was expected, the way out."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, cast

from synthaug.engine import vet
from synthaug.errors import ConfigError, SynthaugError, nearest

Attempt = Callable[[Sequence[str]], Any]


@contextlib.contextmanager
def translated(attempt: Attempt, overrides: Sequence[str]) -> Generator[None]:
    """Turns what Hydra and OmegaConf raise into a `ConfigError`.

    Args:
        attempt: Composes with other overrides, to learn which keys there are.
        overrides: Those that failed.
    """
    from hydra.errors import HydraException, MissingConfigException, OverrideParseException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except SynthaugError:
        raise
    except OverrideParseException as error:
        raise ConfigError(
            f"override '{error.override}' cannot be read: {_first_line(error)}. A value with spaces, commas or"
            " brackets needs two quotes: \"key='a, b'\""
        ) from error
    except MissingConfigException as error:
        raise ConfigError(_missing(error.missing_cfg_file or "", error.options, str(error))) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_composition(str(error), attempt, overrides)) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _missing(wanted: str, options: Sequence[str] | None, message: str) -> str:
    group, _, option = wanted.rpartition("/")
    if group and options:
        return f"{group} has no option '{option}'.{nearest(option, options)}"
    return message.strip().splitlines()[0]


def _composition(message: str, attempt: Attempt, overrides: Sequence[str]) -> str:
    unset = re.search(r"You must specify '([^']+)'", message)
    if unset:
        options = re.findall(r"^\t(\S+)$", message, re.MULTILINE)
        return f"{unset.group(1)} is mandatory; give {unset.group(1)}=OPTION.{nearest('', options)}"
    if "requires --multirun" in message:
        return f"{message.strip().splitlines()[0]}: several values need -m, or quotes around one: \"key='a,b'\""
    bad = re.search(r"Could not (?:override|delete[^']*|find)[^']*'([^']+)'", message)
    if not bad:
        bad = re.search(r"Key '([^']+)' is not in struct", message)
    if not bad:
        return message.strip()
    return _unknown(bad.group(1), attempt, overrides)


def _unknown(key: str, attempt: Attempt, overrides: Sequence[str]) -> str:
    """Names the nearest key of the configuration as it is without the override that failed."""
    from hydra.errors import HydraException
    from omegaconf import OmegaConf

    plain: Any = {}
    chosen = [o for o in overrides if "." not in vet.key_of(o)]  # options alone: further fields may be unknown as well
    for rest in ([o for o in overrides if vet.key_of(o) != key], chosen, []):
        with contextlib.suppress(HydraException):
            plain = OmegaConf.to_container(attempt(rest), resolve=False)
            break
    plain.pop("hydra", None)
    if key in plain:
        return (
            f"the recipe spells '{key}' out, so no option can take its place; name an option in the recipe's defaults "
            f"list (- /{key}: OPTION), or override its fields ({key}.FIELD=VALUE)"
        )
    empty = _empty_above(key, plain)
    if empty:
        return f"{empty} is empty, and takes fields of your own: add one with a plus, '+{key}=VALUE'"
    return f"there is no '{key}' to override.{nearest_key(key, plain)}"


def _empty_above(key: str, plain: Mapping[str, Any]) -> str:
    """The empty mapping above a key, such as `refine.speed`; nothing where there is none."""
    node: Any = plain
    steps = key.split(".")
    for depth, step in enumerate(steps):
        if not isinstance(node, Mapping):
            return ""
        if not node and depth:
            return ".".join(steps[:depth])
        node = cast("Mapping[str, Any]", node).get(step)
    return ""


def nearest_key(key: str, plain: Mapping[str, Any]) -> str:
    """The nearest dotted key: among the siblings where the parent exists, else among all."""
    parent, _, last = key.rpartition(".")
    node: Any = plain
    for step in parent.split(".") if parent else []:
        node = cast("Mapping[str, Any]", node).get(step) if isinstance(node, Mapping) else None
    if isinstance(node, Mapping) and parent:
        siblings = [str(k) for k in cast("Mapping[str, Any]", node) if not str(k).startswith("_")]
        return _with_parent(nearest(last, siblings), parent)
    if not parent:
        return nearest(key, plain)
    return nearest(key, _dotted(plain))


def _with_parent(hint: str, parent: str) -> str:
    return hint.replace("Did you mean '", f"Did you mean '{parent}.") if "Did you mean" in hint else hint


def _dotted(node: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in node.items():
        if not str(key).startswith("_"):
            keys.append(f"{prefix}{key}")
            keys += _dotted(cast("Mapping[str, Any]", value), f"{prefix}{key}.") if isinstance(value, Mapping) else []
    return keys

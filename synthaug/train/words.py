"""Settings of a training, from its configuration file and the words of a command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml

from synthaug.engine.targets import find_conf
from synthaug.errors import ConfigError, nearest, printable

T = TypeVar("T")
_FOLDERS = ("data", "out", "base", "captions", "distil")


def values(kind: str, words: Sequence[str]) -> dict[str, Any]:
    """What `conf/train/<kind>.yaml` holds, with `key=value` words in its place; values are YAML.

    Raises:
        ConfigError: A word without `=`, an unknown key, a key twice, or a value that is not YAML.
    """
    found = cast("dict[str, Any]", yaml.safe_load((find_conf() / "train" / f"{kind}.yaml").read_text("utf-8")))
    seen: set[str] = set()
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(f"'{printable(word)}' is no setting; expected KEY=VALUE")
        if key not in found:
            raise ConfigError(f"train {kind} has no setting '{printable(key)}'.{nearest(key, found)}")
        if key in seen:
            raise ConfigError(f"{key} is given twice; give it once")
        seen.add(key)
        try:
            found[key] = _number(yaml.safe_load(text), found[key])
        except yaml.YAMLError as error:
            raise ConfigError(f"{key}={printable(text)}: not a value: {error}") from error
    for key, value in found.items():
        if value == "???":
            raise ConfigError(f"train {kind} needs {key}=...: {_folders(key)}")
    return {key: _expanded(key, value) for key, value in found.items()}


def built(cls: type[T], kind: str, values: Mapping[str, Any]) -> T:
    """A dataclass of settings from plain values, as a configuration file or a command line has them.

    Lists may be given for tuples, one value for a list of one; a field of type `Any` takes what comes.

    Raises:
        ConfigError: An unknown key, a missing one (no default, or empty), or a value of another type.
    """
    known = {f.name: f for f in fields(cast(Any, cls))}
    for name in values:
        if name not in known:
            raise ConfigError(f"train {kind} has no setting '{name}'.{nearest(name, known)}")
    for name, each in known.items():
        if each.default is MISSING and not values.get(name):
            raise ConfigError(f"train {kind} needs {name}=FOLDER")
    return cls(**{name: _typed(name, str(known[name].type), value) for name, value in values.items()})


def check_ranges(settings: object, ranges: Sequence[tuple[str, float, float]]) -> None:
    """Raises `ConfigError` for the first setting that is not within its (name, lowest, highest)."""
    for name, low, high in ranges:
        value = getattr(settings, name)
        if not low <= value <= high:
            raise ConfigError(f"{name}={value}: expected {low:g} to {high:g}")


def _typed(name: str, kind: str, value: Any) -> Any:
    if kind == "Any":
        return value
    if kind.startswith("tuple"):
        several = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        return tuple(_typed(name, "int" if "int" in kind else "str", item) for item in several)
    types: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}
    if not isinstance(value, types[kind]) or (isinstance(value, bool) and kind != "bool"):
        raise ConfigError(f"{name}={value!r}: expected {kind}")
    return float(value) if kind == "float" else value


def _number(value: Any, default: Any) -> Any:
    """`1e-3` is text to YAML 1.1 and a number to everybody else."""
    if isinstance(value, str) and isinstance(default, float):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _folders(key: str) -> str:
    known = {
        "data": "a folder of photos, or a list of folders",
        "out": "a folder for the model",
        "base": "the folder of a diffusers pipeline",
        "family": "vae, aae, ddpm, latent_diffusion, pixelcnn, stylegan or vq_transformer",
    }
    return known.get(key, "a value")


def _expanded(key: str, value: Any) -> Any:
    """`~/` in folders, as a shell would have read it outside of `key=`."""
    if key not in _FOLDERS:
        return value
    rows = cast("list[Any]", value) if isinstance(value, list) else [value]
    paths = [str(Path(row).expanduser()) if isinstance(row, str) and row else row for row in rows]
    return paths if isinstance(value, list) else paths[0]

"""Settings of a training, from its configuration file and the words of a command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import yaml

from synthaug.engine.targets import find_conf
from synthaug.errors import ConfigError, nearest, printable


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


def _number(value: Any, default: Any) -> Any:
    """`1e-3` is text to YAML 1.1 and a number to everybody else."""
    if isinstance(value, str) and isinstance(default, float):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _folders(key: str) -> str:
    return {"data": "a folder of photos, or a list of folders", "out": "a folder for the model"}.get(key, "a value")


def _expanded(key: str, value: Any) -> Any:
    """`~/` in folders, as a shell would have read it outside of `key=`."""
    if key not in ("data", "out"):
        return value
    rows = cast("list[Any]", value) if isinstance(value, list) else [value]
    paths = [str(Path(row).expanduser()) if isinstance(row, str) else row for row in rows]
    return paths if isinstance(value, list) else paths[0]

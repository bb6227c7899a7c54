"""Single safetensors files of users: found, checked, hashed and read as plain tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthaug.errors import ConfigError, InputError, printable
from synthaug.models.hashes import sha256_of
from synthaug.models.plain import check_safetensors
from synthaug.models.snapshot import contents

if TYPE_CHECKING:
    from torch import Tensor


def locate(path: str, what: str) -> Path:
    """The weights that a path means: a safetensors file, or a folder with exactly one in it.

    Args:
        what: Whose path it is, for messages: `LoRA 'grain'`.

    Raises:
        ConfigError: Nothing there, several files, or a file of another kind.
        InputError, SecurityError: A folder that holds code or pickles, or differs from its lock.
    """
    given, shown = Path(path), printable(path)
    if given.is_dir():
        names = [name for name in contents(given) if name.endswith(".safetensors")]
        if len(names) != 1:
            found = ", ".join(map(printable, names)) or "none"
            raise ConfigError(f"{what}: {shown} holds {len(names)} safetensors files ({found}); name one of them")
        return given / names[0]
    if not given.is_file():
        raise ConfigError(f"{what}: no such file or folder: {shown}")
    if given.suffix.lower() != ".safetensors":
        raise ConfigError(f"{what}: {shown} is no .safetensors file, and weights load from nothing else; convert it")
    return given


def digest(path: str, what: str) -> str:
    """SHA-256 of the weights that a path means, checked first. Raises as `locate`; the first call reads them whole."""
    file = locate(path, what)
    check_safetensors(file, f"{what}: {printable(file.name)}")
    return sha256_of(file)


def read(path: str, what: str) -> dict[str, Tensor]:
    """All tensors by name, on the CPU.

    Raises:
        ConfigError, InputError, SecurityError: As `locate`, and for a file that is no whole safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = locate(path, what)
    check_safetensors(file, f"{what}: {printable(file.name)}")
    try:
        return load_file(file)
    except SafetensorError as error:
        raise InputError(f"{what}: {printable(file.name)} does not load: {error}") from error


def notes(path: str, what: str, field: str) -> Mapping[str, Any]:
    """JSON in one field of a file's metadata, as plain data; empty where there is none.

    Raises:
        InputError: It is there, and no JSON object.
        ConfigError, SecurityError: As `locate`.
    """
    from safetensors import safe_open

    with safe_open(locate(path, what), framework="pt") as file:
        text = (file.metadata() or {}).get(field)
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what}: {printable(path)}: its metadata field {field} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{what}: {printable(path)}: its metadata field {field} is no JSON object")
    return found  # pyright: ignore[reportUnknownVariableType]

"""A trained texture model as one safetensors file, its configuration in the header; opened without running its code."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from synthaug.errors import ConfigError, InputError, printable
from synthaug.models.texture.family import TextureModel
from synthaug.models.texture.table import FAMILIES, family_of

NAME = "model.safetensors"
SHIPPED = Path(__file__).resolve().parents[1] / "weights" / "texture"
"""A small model that comes with synthaug: surfaces to try things with, without any download."""
_FORMAT = 1
_KEY = "synthaug.texture"
_LONGEST_HEADER = 16 << 20


@dataclass(frozen=True, slots=True)
class Opened:
    """A model from its file.

    Attributes:
        model: In eval mode, without gradients.
        classes: Names of its classes, number 0 first.
        facts: What the training noted: steps, licence, how many tiles, ...
    """

    model: TextureModel
    classes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def number(self, name: str) -> int:
        """Of a class. Raises `InputError` for a name it does not have."""
        if name not in self.classes:
            raise InputError(f"class '{printable(name)}': this model has {', '.join(self.classes) or 'no classes'}")
        return self.classes.index(name)


def pack(
    model: TextureModel,
    classes: Sequence[str] = (),
    facts: Mapping[str, Any] | None = None,
    mean: Mapping[str, torch.Tensor] | None = None,
) -> bytes:
    """The file's bytes.

    Args:
        model: Its state is saved, without what serves training alone.
        classes: Names, number 0 first.
        facts: JSON.
        mean: Running means that take the place of parameters of the same names.
    """
    from safetensors.torch import save

    tensors = {**model.saved(), **(mean or {})}
    told = {
        "format": _FORMAT,
        "family": model.family,
        "config": model.config,
        "classes": list(classes),
        "facts": dict(facts or {}),
    }
    plain = {name: value.detach().to("cpu").contiguous().clone() for name, value in sorted(tensors.items())}
    return save(plain, metadata={_KEY: json.dumps(told, sort_keys=True)})


def open_texture_model(path: str | Path, device: str = "cpu") -> Opened:
    """The model in a file, or in the folder that `synthaug train texture` wrote (`DIR` or `DIR/model`).

    Raises:
        ConfigError: No such file, or a folder without one.
        InputError: Not a file of `pack`: another format or family, a configuration its class does not know, tensors
            of other names or shapes, numbers that are none.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    file = _file_of(Path(path).expanduser())
    data = file.read_bytes()
    told = _told(data, file)
    model = _built(told, file)
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise InputError(f"{file}: not a safetensors file ({error}); copy it again") from error
    _fill(model, tensors, file)
    model = model.to(device).eval().requires_grad_(False)
    return Opened(model, tuple(str(name) for name in told["classes"]), dict(told["facts"]))


def _file_of(path: Path) -> Path:
    for file in (path, path / NAME, path / "model" / NAME):
        if file.is_file():
            return file
    raise ConfigError(f"{path}: no {NAME} there; expected the out= folder of `synthaug train texture`, or the file")


def _told(data: bytes, file: Path) -> dict[str, Any]:
    """The header's JSON, checked as far as it is the same for all families."""
    try:
        length = int.from_bytes(data[:8], "little")
        if length > min(len(data), _LONGEST_HEADER):
            raise ValueError("no header")
        told: Any = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_KEY])
        fits = (
            isinstance(told["config"], dict) and isinstance(told["classes"], list) and isinstance(told["facts"], dict)
        )
        if told["format"] != _FORMAT or not fits or told["family"] not in FAMILIES:
            raise ValueError(f"format {told['format']}, family {told['family']}")
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file}: not what `synthaug train texture` of this version writes ({error}); families are"
            f" {', '.join(FAMILIES)}"
        ) from error
    return cast("dict[str, Any]", told)


def _built(told: Mapping[str, Any], file: Path) -> TextureModel:
    made, config = family_of(told["family"]), cast("dict[str, Any]", told["config"])
    unknown = set(config) - set(inspect.signature(made).parameters)
    if unknown:
        raise InputError(f"{file}: {told['family']} has no {', '.join(sorted(map(printable, unknown)))}")
    try:
        # Numbers come from the file; the caller's random state stays as it is.
        with torch.random.fork_rng():
            model = made(**config)
    except (ConfigError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{file}: no {told['family']} can be built from its configuration: {error}") from error
    if len(told["classes"]) not in (0, model.classes):
        raise InputError(f"{file}: {len(told['classes'])} names for {model.classes} classes")
    return model


def _fill(model: TextureModel, tensors: Mapping[str, torch.Tensor], file: Path) -> None:
    """Copies values in place; all of the saved names, no others."""
    wanted = model.saved()
    for name in sorted({*wanted, *tensors}):
        found, own = tensors.get(name), wanted.get(name)
        if found is None or own is None or found.shape != own.shape or found.dtype != own.dtype:
            raise InputError(
                f"{file}: tensor {printable(name)} does not fit {model.family}; it is another model's file"
            )
        if not bool(torch.isfinite(found).all()):
            raise InputError(f"{file}: {printable(name)} holds numbers that are not finite; train it again")
        with torch.no_grad():
            own.copy_(found)

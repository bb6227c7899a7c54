"""`synthaug train refiner`: a refiner from folders of unlabelled photos.

out/model/            what the stage `restore` loads: a diffusers folder with its card
out/checkpoint.safetensors   everything needed to go on after a kill
out/samples/          simplified | refined | photo, every `show_every` steps
out/loss.png
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from synthaug.errors import ConfigError, first_of, nearest
from synthaug.train.photos import Crops, Folder, Photos, find

PRECISIONS = ("auto", "float32", "bfloat16")
OPERATIONAL = frozenset(
    {"out", "steps", "device", "precision", "checkpointing", "threads", "save_every", "show_every", "licence", "data"}
)
"""Settings that may change between a run and its resumption; photos are compared by name."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a training is made of. Built from `key=value` words by `Settings.of`.

    Args:
        data: Folders of photos.
        out: Where model, checkpoint, samples and plot go; the same again resumes.
        hold_out: Per folder, every so many photos by sorted name are kept out of training; 0 for none. One
            number counts for every folder.
        steps: Of the optimiser.
        batch: Crops per step, over all processes.
        crop: Side of a crop, a multiple of 32.
        smallest: Photos are drawn at sizes from this many pixels (longer side) up to their own.
        channels: Of the network, per level.
        layers: Residual blocks per level.
        lr: Highest learning rate; it rises over 100 steps and falls over the last quarter of all.
        ema: Decay of the running mean of the weights, which is what is saved.
        seed: Of everything drawn.
        device: `auto`, `cpu`, `cuda`, ...
        precision: `float32`, `bfloat16` (autocast), or `auto`: bfloat16 on a GPU that has it.
        checkpointing: Recompute activations in the backward pass: a third slower, half the memory.
        threads: CPU threads; 0 leaves it to torch.
        save_every: Steps between checkpoints.
        show_every: Steps between sample grids.
        licence: Of the photos, for the model card.
    """

    data: tuple[str, ...]
    out: str
    hold_out: tuple[int, ...] = (0,)
    steps: int = 20_000
    batch: int = 8
    crop: int = 96
    smallest: int = 224
    channels: tuple[int, ...] = (48, 80, 128)
    layers: int = 1
    lr: float = 8e-4
    ema: float = 0.999
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    checkpointing: bool = False
    threads: int = 0
    save_every: int = 250
    show_every: int = 500
    licence: str = "unknown"

    def __post_init__(self) -> None:
        """Raises `ConfigError` naming the setting, its value and its range."""
        if not self.data:
            raise ConfigError("data is empty, expected one or more folders of photos")
        if len(self.hold_out) not in (1, len(self.data)) or any(n < 0 or n == 1 for n in self.hold_out):
            raise ConfigError(f"hold_out={list(self.hold_out)}: expected 0 or 2 and more, once or for each of data")
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"{name}={value}: expected {low:g} to {high:g}")
        if self.crop % 32:
            raise ConfigError(f"crop={self.crop}: expected a multiple of 32")
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision={self.precision}: unknown.{nearest(self.precision, PRECISIONS)}")

    @classmethod
    def of(cls, values: dict[str, Any]) -> Settings:
        """Settings from plain values, as a configuration file or a command line has them.

        Lists may be given for tuples, one value for a list of one. Raises `ConfigError` for an unknown key, a
        missing one, or a value of another type.
        """
        known = {f.name: f for f in fields(cls)}
        for name in values:
            if name not in known:
                raise ConfigError(f"train refiner has no setting '{name}'.{nearest(name, known)}")
        for name in ("data", "out"):
            if not values.get(name):
                raise ConfigError(f"train refiner needs {name}=FOLDER")
        return cls(**{name: _typed(name, str(known[name].type), value) for name, value in values.items()})

    def folders(self) -> list[Folder]:
        """Where the photos are, and which are held out."""
        each = self.hold_out * len(self.data) if len(self.hold_out) == 1 else self.hold_out
        return [Folder(path, n) for path, n in zip(self.data, each, strict=True)]

    def kept(self) -> dict[str, Any]:
        """What must not change between a run and its resumption."""
        return {name: value for name, value in asdict(self).items() if name not in OPERATIONAL}


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("steps", 1, 10**8), ("batch", 1, 4096), ("crop", 32, 1024), ("smallest", 32, 8192), ("layers", 1, 8),
    ("lr", 1e-8, 1), ("ema", 0, 0.999999), ("seed", 0, 2**63 - 1), ("threads", 0, 1024), ("save_every", 1, 10**8),
    ("show_every", 1, 10**8),
)  # fmt: skip


def _typed(name: str, kind: str, value: Any) -> Any:
    if kind.startswith("tuple"):
        several = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        return tuple(_typed(name, "int" if "int" in kind else "str", item) for item in several)
    types: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}
    if not isinstance(value, types[kind]) or (isinstance(value, bool) and kind != "bool"):
        raise ConfigError(f"{name}={value!r}: expected {kind}")
    return float(value) if kind == "float" else value


def train(settings: Settings) -> int:
    """Trains, or goes on where a killed run stopped; the same command does both.

    On a CPU at the defaults about 2 steps a second per core; results of an interrupted and a straight run agree
    as far as the device's arithmetic repeats itself.

    Returns:
        0 when all steps are done.

    Raises:
        ConfigError: Settings, photos or output that cannot be used; the device's memory is too small.
        Interrupted: Stopped by a signal, after a checkpoint.
        SynthaugError: The loss is no longer finite.
    """
    photos = find(settings.folders(), settings.crop)
    _tell(photos)
    from synthaug.train.loop import Loop

    crops = Crops(photos, settings.crop, settings.smallest, settings.seed)
    loop = Loop(settings, crops)
    loop.run()
    if photos.broken:
        names = (f"{name}: {fault}" for name, fault in sorted(photos.broken.items()))
        print(f"{len(photos.broken)} pictures were not used:{first_of(names)}", file=sys.stderr)
    if loop.main:
        print(f"{Path(settings.out) / 'model'}: {settings.steps} steps on {photos.count} photos")
    return 0


def _tell(photos: Photos) -> None:
    held = sum(map(len, photos.held_out))
    print(f"{photos.count} photos, {held} held out, {len(photos.broken)} unusable", file=sys.stderr)

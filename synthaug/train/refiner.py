"""`synthaug train refiner`: a refiner from folders of unlabelled photos.

out/model/            what the stage `restore` loads: a diffusers folder with its card
out/checkpoint.safetensors   everything needed to go on after a kill
out/samples/          simplified | refined | photo, every `show_every` steps; with maps: refined without them, and with
out/loss.png

With `distil` it is fitted to another refiner instead of to the photos, and does in few steps what that one does in
many.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from synthaug.errors import ConfigError, first_of, nearest, printable
from synthaug.models.maps import KINDS, MapSpec
from synthaug.train.maps import Maps, find_maps
from synthaug.train.photos import Crops, Folder, Photos, find
from synthaug.train.words import built, check_ranges

PRECISIONS = ("auto", "float32", "bfloat16")
OPERATIONAL = frozenset(
    {"out", "steps", "device", "precision", "checkpointing", "threads", "save_every", "show_every", "licence", "data",
     "maps", "distil"}
)  # fmt: skip
"""Settings that may change before a training goes on; photos and maps are compared by name, a teacher by hash."""


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
        maps: Folders of maps that come with the photos, by kind: `{depth: DIR, normals: DIR, classes: DIR}`; with
            several folders of photos a list, one for each, '' where there are none. See `train.maps`.
        classes: Names of the classes in class maps, id 1 first.
        map_dropout: 0 to 1; how often each kind of map is withheld, so that the refiner does without as well.
        depth_unit: Metres per step of depth in 16-bit PNG.
        distil: Folder of a trained refiner that is taught to a faster one; empty to learn from the photos.
        distil_steps: Calls of the network that the faster one is made for.
        teacher_steps: Calls that the teacher makes, a multiple of `distil_steps`.
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
    maps: Any = None
    classes: tuple[str, ...] = ()
    map_dropout: float = 0.5
    depth_unit: float = 0.001
    distil: str = ""
    distil_steps: int = 2
    teacher_steps: int = 8

    def __post_init__(self) -> None:
        """Raises `ConfigError` naming the setting, its value and its range."""
        if not self.data:
            raise ConfigError("data is empty, expected one or more folders of photos")
        if len(self.hold_out) not in (1, len(self.data)) or any(n < 0 or n == 1 for n in self.hold_out):
            raise ConfigError(f"hold_out={list(self.hold_out)}: expected 0 or 2 and more, once or for each of data")
        check_ranges(self, _RANGES)
        if self.crop % 32:
            raise ConfigError(f"crop={self.crop}: expected a multiple of 32")
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision={self.precision}: unknown.{nearest(self.precision, PRECISIONS)}")
        if self.teacher_steps % self.distil_steps:
            raise ConfigError(
                f"teacher_steps={self.teacher_steps}: expected a multiple of distil_steps={self.distil_steps}"
            )
        object.__setattr__(self, "maps", _map_folders(self.maps, len(self.data)))
        _ = self.spec  # refuses classes that do not go with the maps

    @classmethod
    def of(cls, values: dict[str, Any]) -> Settings:
        """Settings from plain values, as a configuration file or a command line has them.

        Lists may be given for tuples, one value for a list of one. Raises `ConfigError` for an unknown key, a
        missing one, or a value of another type.
        """
        return built(cls, "refiner", values)

    def folders(self) -> list[Folder]:
        """Where the photos are, and which are held out."""
        each = self.hold_out * len(self.data) if len(self.hold_out) == 1 else self.hold_out
        return [Folder(path, n) for path, n in zip(self.data, each, strict=True)]

    @property
    def spec(self) -> MapSpec:
        """Which maps the refiner is to take."""
        return MapSpec(tuple(kind for kind in KINDS if kind in self.maps), self.classes)

    def kept(self) -> dict[str, Any]:
        """What must not change between a run and its resumption."""
        return {name: value for name, value in asdict(self).items() if name not in OPERATIONAL}


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("steps", 1, 10**8), ("batch", 1, 4096), ("crop", 32, 1024), ("smallest", 32, 8192), ("layers", 1, 8),
    ("lr", 1e-8, 1), ("ema", 0, 0.999999), ("seed", 0, 2**63 - 1), ("threads", 0, 1024), ("save_every", 1, 10**8),
    ("show_every", 1, 10**8), ("map_dropout", 0, 1), ("depth_unit", 1e-9, 1e6), ("distil_steps", 1, 1000),
    ("teacher_steps", 1, 1000),
)  # fmt: skip


def _map_folders(asked: Any, count: int) -> dict[str, tuple[str, ...]]:
    """Folders by kind, one for each of `count` folders of photos."""
    if asked is not None and not isinstance(asked, Mapping):
        raise ConfigError(f"maps={asked!r}: expected folders by kind, such as {{depth: DIR, normals: DIR}}")
    out: dict[str, tuple[str, ...]] = {}
    for kind, told in cast("Mapping[str, Any]", asked or {}).items():
        if kind not in KINDS:
            raise ConfigError(f"maps: '{printable(str(kind))}' is no kind of map.{nearest(str(kind), KINDS)}")
        folders = cast("list[Any]", list(told) if isinstance(told, list | tuple) else [told])
        if len(folders) != count or not all(isinstance(one, str) for one in folders) or not any(folders):
            raise ConfigError(f"maps.{kind}={told!r}: expected a folder for each of the {count} in data, '' for none")
        out[kind] = tuple(str(Path(one).expanduser()) if one else "" for one in folders)
    return out


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
    maps = find_maps(settings.maps, settings.spec, photos, settings.depth_unit) if settings.maps else None
    _tell(photos, maps)
    from synthaug.train.fitting import Fit
    from synthaug.train.refiner_work import RefinerWork, teacher_digest

    crops = Crops(photos, settings.crop, settings.smallest, settings.seed, maps, settings.map_dropout)
    kept = {**settings.kept(), "photos": photos.names, "maps": maps.files if maps else {}}
    if settings.distil:
        kept["teacher"] = teacher_digest(settings)
    loop = Fit(settings, kept, lambda machine: RefinerWork(settings, crops, machine))
    loop.run()
    if photos.broken:
        names = (f"{name}: {fault}" for name, fault in sorted(photos.broken.items()))
        print(f"{len(photos.broken)} pictures were not used:{first_of(names)}", file=sys.stderr)
    if loop.main:
        print(f"{Path(settings.out) / 'model'}: {settings.steps} steps on {photos.count} photos")
    return 0


def _tell(photos: Photos, maps: Maps | None) -> None:
    held = sum(map(len, photos.held_out))
    told = "".join(f", {maps.count(kind)} with {kind}" for kind in maps.spec.kinds) if maps else ""
    print(f"{photos.count} photos{told}, {held} held out, {len(photos.broken)} unusable", file=sys.stderr)

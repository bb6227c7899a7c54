"""`synthaug train texture`: a generator of tiles from a folder of textures.

out/model/            one safetensors file with its configuration inside, and its card
out/checkpoint.safetensors   everything needed to go on after a kill
out/samples/          tiles of the running mean, one class a row where there are classes, every `show_every` steps
out/loss.png
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from synthaug.errors import ConfigError, first_of, nearest, printable
from synthaug.train.photos import Folder
from synthaug.train.refiner import OPERATIONAL, PRECISIONS
from synthaug.train.tiles import Tiles, find_tiles
from synthaug.train.words import built, check_ranges

if TYPE_CHECKING:
    from synthaug.models.texture.family import TextureModel
    from synthaug.train.machine import Machine
    from synthaug.train.works import Stepping


@dataclass(frozen=True, slots=True)
class Settings:
    """What a training is made of. Built from `key=value` words by `Settings.of`.

    Args:
        family: One of `models.texture.table.FAMILIES`.
        data: Folders of textures; sub-folders are classes where every picture lies in one.
        out: Where model, checkpoint, samples and plot go; the same again resumes.
        hold_out: Per folder, every so many pictures by sorted name are kept out of training; 0 for none. One number
            counts for every folder.
        side: Of a tile in pixels.
        zoom: Pictures are reduced until their shorter side is `side * zoom`, and tiles are cut from that; 1 keeps
            whole pictures. At least 1.
        by_class: False makes one class of all.
        mirror: Mirror half of the tiles; false where there is writing.
        model: The family's own settings, by name.
        steps: Calls of the family's `fit`; 0 for what the family recommends.
        batch: Tiles per step; 0 likewise.
        lr: Highest learning rate; it rises over 100 steps and falls over the last quarter of all. 0 likewise.
        ema: Decay of the running mean of the weights, which is what is saved; -1 likewise.
        seed: Of everything drawn.
        device: `auto`, `cpu`, `cuda`, ...
        precision: `float32`, `bfloat16` (autocast), or `auto`: bfloat16 on a GPU that has it.
        threads: CPU threads; 0 leaves it to torch.
        save_every: Steps between checkpoints.
        show_every: Steps between sample grids.
        licence: Of the textures, for the model card.
    """

    family: str
    data: tuple[str, ...]
    out: str
    hold_out: tuple[int, ...] = (0,)
    side: int = 64
    zoom: float = 1.0
    by_class: bool = True
    mirror: bool = True
    model: Any = None
    steps: int = 0
    batch: int = 0
    lr: float = 0.0
    ema: float = -1.0
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    threads: int = 0
    save_every: int = 250
    show_every: int = 500
    licence: str = "unknown"

    def __post_init__(self) -> None:
        """Raises `ConfigError` naming the setting, its value and its range."""
        if len(self.hold_out) not in (1, len(self.data)) or any(n < 0 or n == 1 for n in self.hold_out):
            raise ConfigError(f"hold_out={list(self.hold_out)}: expected 0 or 2 and more, once or for each of data")
        check_ranges(self, _RANGES)
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision={self.precision}: unknown.{nearest(self.precision, PRECISIONS)}")
        if self.model is not None and not isinstance(self.model, Mapping):
            raise ConfigError(f"model={self.model!r}: expected the family's settings by name, such as {{width: 32}}")

    @classmethod
    def of(cls, values: dict[str, Any]) -> Settings:
        """Settings from plain values, as `words.built` makes them."""
        return built(cls, "texture", values)

    @property
    def crop(self) -> int:
        """What other trainings call the side of what they learn from."""
        return self.side

    def folders(self) -> list[Folder]:
        """Where the textures are, and which are held out."""
        each = self.hold_out * len(self.data) if len(self.hold_out) == 1 else self.hold_out
        return [Folder(path, n) for path, n in zip(self.data, each, strict=True)]

    def completed(self, family: type[TextureModel]) -> Settings:
        """With the family's recipe where nothing else was said."""
        recipe = family.recipe
        return replace(
            self,
            steps=self.steps or recipe.steps,
            batch=self.batch or recipe.batch,
            lr=self.lr or recipe.lr,
            ema=recipe.ema if self.ema < 0 else self.ema,
            model=dict(sorted(cast("Mapping[str, Any]", self.model or {}).items())) or None,
        )

    def kept(self, tiles: Tiles, family: type[TextureModel]) -> dict[str, Any]:
        """What must not change between a run and its resumption, JSON."""
        found = {name: value for name, value in asdict(self).items() if name not in OPERATIONAL}
        # Stages go by the share of the steps that is done: with another number it is another training.
        stages = {"steps": self.steps} if family.staged else {}
        return {**found, **stages, "textures": tiles.photos.names}


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("side", 8, 1024), ("zoom", 1, 64), ("steps", 0, 10**8), ("batch", 0, 4096), ("lr", 0, 1), ("ema", -1, 0.999999),
    ("seed", 0, 2**63 - 1), ("threads", 0, 1024), ("save_every", 1, 10**8), ("show_every", 1, 10**8),
)  # fmt: skip


def train(settings: Settings) -> int:
    """Trains, or goes on where a killed run stopped; the same command does both, and ends with the same bytes.

    Settings, family and pictures are checked before anything is written.

    Returns:
        0 when all steps are done.

    Raises:
        ConfigError: Settings, textures or output that cannot be used; the device's memory is too small.
        InputError: No such folder, or a checkpoint that cannot be read.
        Interrupted: Stopped by a signal, after a checkpoint.
        SynthaugError: The loss is no longer finite.
    """
    from synthaug.models.texture.table import family_of

    family = family_of(settings.family)
    settings = settings.completed(family)
    _check_model(settings, family)
    tiles = find_tiles(
        settings.folders(),
        settings.side,
        zoom=settings.zoom,
        by_class=settings.by_class,
        seed=settings.seed,
        mirror=settings.mirror,
    )
    _tell(tiles)
    from synthaug.train.fitting import Fit
    from synthaug.train.texture_work import TextureWork

    def build(machine: Machine) -> Stepping:
        return TextureWork(settings, family, tiles, machine)

    fit = Fit(settings, settings.kept(tiles, family), build)
    fit.run()
    if fit.main:
        print(f"{Path(settings.out) / 'model'}: {settings.steps} steps on {tiles.photos.count} textures")
    return 0


def _check_model(settings: Settings, family: type[TextureModel]) -> None:
    """Raises `ConfigError` for settings that the family does not have, or of another type."""
    if settings.side % family.multiple:
        raise ConfigError(f"side={settings.side}: {settings.family} needs a multiple of {family.multiple}")
    known = {n: p.default for n, p in inspect.signature(family).parameters.items() if n not in ("side", "classes")}
    for name, value in (settings.model or {}).items():
        if name not in known:
            raise ConfigError(
                f"model: {settings.family} has no setting '{printable(str(name))}'.{nearest(name, known)}"
            )
        default = known[name]
        rows = list(cast("list[Any]", value)) if isinstance(value, list | tuple) else [value]
        wanted = type(default[0]) if isinstance(default, list | tuple) else type(default)
        numbers = all(isinstance(row, (wanted, int) if wanted is float else wanted) for row in rows)
        if isinstance(default, list | tuple) != isinstance(value, list | tuple) or not numbers:
            raise ConfigError(f"model.{name}={value!r}: expected something like {default}")


def _tell(tiles: Tiles) -> None:
    """What there is to learn from, and what is not used or was changed; on stderr."""
    photos, classes = tiles.photos, tiles.classes
    apart = sum(not all(texture.wraps) for texture in tiles.textures)
    held, kinds = sum(map(len, photos.held_out)), f" in {len(classes)} classes" if classes else ""
    told = f"{photos.count} textures{kinds}, {held} held out, {len(photos.broken)} unusable"
    print(f"{told}, {apart} do not repeat" if apart else told, file=sys.stderr)
    lost = (f"{printable(name)}: {fault}" for name, fault in sorted(photos.broken.items()))
    changed = (f"{printable(name)}: {note}" for name, note in sorted(tiles.notes.items()))
    for title, rows in (("not used", list(lost)), ("changed on the way", list(changed))):
        if rows:
            print(f"{title}: {len(rows)}{first_of(rows)}", file=sys.stderr)

"""`synthaug train lora`: adapters for a Stable Diffusion base, from folders of photos.

out/model/            what `load_lora_weights` of diffusers and the stage `img2img` load, with its card
out/checkpoint.safetensors   everything needed to go on after a kill
out/samples/          simplified photo | redrawn by the base | with the adapters | photo, every `show_every` steps
out/loss.png
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthaug.errors import ConfigError, first_of, nearest, printable
from synthaug.train.lora_crops import SaidCrops
from synthaug.train.lora_words import Words, words_for
from synthaug.train.photos import Folder, Photos, find
from synthaug.train.refiner import OPERATIONAL, PRECISIONS
from synthaug.train.words import built, check_ranges

if TYPE_CHECKING:
    from synthaug.models.snapshot import Snapshot
    from synthaug.train.fitting import Work
    from synthaug.train.machine import Machine

_MAY_CHANGE = OPERATIONAL | {"base", "captions", "prompt"}
"""What these hold is compared instead: the base by its hash, words as they were read."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a training is made of. Built from `key=value` words by `Settings.of`.

    Args:
        data: Folders of photos.
        base: Folder of a diffusers pipeline: Stable Diffusion 1, 2 or XL.
        out: Where adapters, checkpoint, samples and plot go; the same again resumes.
        hold_out: Per folder, every so many photos by sorted name are kept out of training; 0 for none. One
            number counts for every folder.
        prompt: A text, a list of which one is drawn for each crop, a mapping from text to weight, or `@FILE`;
            `{caption}` stands for the photo's own. Empty for the caption, or without captions for "a photo".
        captions: Empty for none, `beside` for NAME.txt beside each photo, or a file of name, tab, caption; once or
            for each folder.
        steps: Of the optimiser.
        batch: Crops per step, over all processes.
        crop: Side of a crop in pixels: what the base was made for, 512 or 1024.
        share: A crop takes this share of a photo's shorter side or more, in (0, 1].
        flip: Mirror half of the crops; false where there is writing.
        rank: Of the adapters.
        alpha: What adapters add is multiplied by `alpha / rank`.
        targets: Ends of names of the denoiser's layers that get one.
        min_snr: Weight steps by min(snr, this) (Hang et al., 2023; 5 there); 0 does not.
        lr: Highest learning rate; it rises over 100 steps and falls over the last quarter of all.
        ema: Decay of the running mean of the adapters, which is what is saved.
        seed: Of everything drawn.
        device: `auto`, `cpu`, `cuda`, ...
        precision: `float32`, `bfloat16` (base in it, adapters in float32), or `auto`: bfloat16 on a GPU that has it.
        checkpointing: Recompute activations in the backward pass: a third slower, half the memory.
        threads: CPU threads; 0 leaves it to torch.
        save_every: Steps between checkpoints.
        show_every: Steps between sample grids.
        licence: Of the photos, for the model card.
    """

    data: tuple[str, ...]
    base: str
    out: str
    hold_out: tuple[int, ...] = (0,)
    prompt: Any = ""
    captions: tuple[str, ...] = ("",)
    steps: int = 2000
    batch: int = 4
    crop: int = 512
    share: float = 0.7
    flip: bool = True
    rank: int = 16
    alpha: float = 16.0
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")
    min_snr: float = 0.0
    lr: float = 1e-4
    ema: float = 0.99
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    checkpointing: bool = False
    threads: int = 0
    save_every: int = 100
    show_every: int = 250
    licence: str = "unknown"

    def __post_init__(self) -> None:
        """Raises `ConfigError` naming the setting, its value and its range."""
        for name in ("hold_out", "captions"):
            if len(getattr(self, name)) not in (1, len(self.data)):
                raise ConfigError(f"{name}={list(getattr(self, name))}: expected one, or one for each of data")
        if any(n < 0 or n == 1 for n in self.hold_out):
            raise ConfigError(f"hold_out={list(self.hold_out)}: expected 0, or 2 and more")
        if not self.targets or not all(self.targets):
            raise ConfigError(f"targets={list(self.targets)}: expected one or more names of layers")
        check_ranges(self, _RANGES)
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision={self.precision}: unknown.{nearest(self.precision, PRECISIONS)}")

    @classmethod
    def of(cls, values: dict[str, Any]) -> Settings:
        """Settings from plain values, as `words.built` makes them."""
        return built(cls, "lora", values)

    def folders(self) -> list[Folder]:
        """Where the photos are, and which are held out."""
        each = self.hold_out * len(self.data) if len(self.hold_out) == 1 else self.hold_out
        return [Folder(path, n) for path, n in zip(self.data, each, strict=True)]

    def kept(self, base: Snapshot, photos: Photos, words: Words) -> dict[str, Any]:
        """What must not change between a run and its resumption, JSON."""
        said = [[list(words.templates.texts), list(words.templates.weights)], *map(dict, words.captions)]
        found = {name: value for name, value in asdict(self).items() if name not in _MAY_CHANGE}
        found["base (SHA-256)"] = base.digest
        found["prompt and captions (SHA-256)"] = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
        found["photos"] = photos.names
        return found


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("steps", 1, 10**8), ("batch", 1, 4096), ("crop", 8, 4096), ("share", 0.01, 1), ("rank", 1, 1024),
    ("alpha", 1e-3, 1e4), ("min_snr", 0, 1e4), ("lr", 1e-8, 1), ("ema", 0, 0.999999), ("seed", 0, 2**63 - 1),
    ("threads", 0, 1024), ("save_every", 1, 10**8), ("show_every", 1, 10**8),
)  # fmt: skip


def train(settings: Settings) -> int:
    """Trains, or goes on where a killed run stopped; the same command does both.

    Photos, words and base are checked before anything is loaded. Text encoders stay as they are.

    Returns:
        0 when all steps are done.

    Raises:
        ConfigError: Settings, photos, words, base or output that cannot be used; the device's memory is too small.
        InputError, SecurityError: A base that is incomplete, or that is not plain data.
        Interrupted: Stopped by a signal, after a checkpoint.
        SynthaugError: The loss is no longer finite.
    """
    photos = find(settings.folders(), settings.crop)
    words = words_for(photos, settings.prompt, settings.captions)
    print(f"{photos.count} photos, {len(photos.broken)} unusable", file=sys.stderr)
    from synthaug.models.trainable import check_base
    from synthaug.train.fitting import Fit
    from synthaug.train.lora_work import LoraWork

    base = check_base(settings.base)
    crops = SaidCrops(photos, words, settings.crop, settings.share, settings.flip, settings.seed)

    def build(machine: Machine) -> Work:
        return LoraWork(settings, crops, machine)

    fit = Fit(settings, settings.kept(base, photos, words), build)
    fit.run()
    if photos.broken:
        names = (f"{printable(name)}: {fault}" for name, fault in sorted(photos.broken.items()))
        print(f"{len(photos.broken)} pictures were not used:{first_of(names)}", file=sys.stderr)
    if fit.main:
        print(f"{Path(settings.out) / 'model'}: {settings.steps} steps on {photos.count} photos")
    return 0

"""What a refiner's training fits: a rectified flow to photos, or a pupil to a teacher in fewer steps."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from synthaug import seeds
from synthaug.errors import ConfigError
from synthaug.models import distil, rectified
from synthaug.models.refiner import FACTS, WEIGHTS, Facts, Refiner, Wish, open_refiner, read_facts, to_files
from synthaug.train import checkpoint, show
from synthaug.train.card import card
from synthaug.train.machine import Machine
from synthaug.train.measure import measure
from synthaug.train.photos import Crops

if TYPE_CHECKING:
    from synthaug.train.refiner import Settings

_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Drawn:
    """One step's share of one process.

    Attributes:
        photos, conditions: [B, 3, crop, crop] in [0, 1].
        maps: [B, channels, crop, crop] of `MapSpec.encode`; None for a refiner that takes none.
        noise: [B, 12, crop/2, crop/2] standard normal.
        normals: [B] standard normal, behind the times.
    """

    photos: torch.Tensor
    conditions: torch.Tensor
    maps: torch.Tensor | None
    noise: torch.Tensor
    normals: torch.Tensor

    def on(self, device: torch.device) -> Drawn:
        """The same on a device."""
        maps = None if self.maps is None else self.maps.to(device)
        rest = (one.to(device) for one in (self.noise, self.normals))
        return Drawn(self.photos.to(device), self.conditions.to(device), maps, *rest)


class RefinerWork:
    """The refiner, as `fitting.Fit` wants its work.

    Args:
        settings: What to train.
        crops: Where pairs come from.
        machine: Where it runs.

    Attributes:
        network: What is trained.

    Raises:
        ConfigError: A teacher of another size, or with other maps, than the settings say.
    """

    def __init__(self, settings: Settings, crops: Crops, machine: Machine) -> None:
        self._settings, self._crops, self._device = settings, crops, machine.device
        teacher = open_refiner(settings.distil, device=str(self._device), dtype="float32") if settings.distil else None
        self._facts = _facts(settings, crops) if teacher is None else _pupil(settings, teacher.facts)
        self.network = rectified.network(self._facts.shape)
        self._teacher: distil.Teacher | None = None
        if teacher is not None:
            self.network.load_state_dict(teacher.network.state_dict())
            self._teacher = distil.Teacher(teacher.network, settings.teacher_steps, settings.distil_steps)
        self.network = self.network.to(self._device).to(memory_format=torch.channels_last)
        if settings.checkpointing:
            self.network.enable_gradient_checkpointing()

    @property
    def parameters(self) -> Mapping[str, torch.nn.Parameter]:
        """All of the network's."""
        return dict(self.network.named_parameters())

    def draw(self, step: int, places: Sequence[int]) -> Drawn:
        """The places of one step's batch: a function of its arguments and of the photos."""
        photos, conditions, maps = self._crops.batch_with_maps(step, places)
        each = [_noise(self._settings.seed, step, place, self._settings.crop) for place in places]
        return Drawn(
            torch.from_numpy(photos),
            torch.from_numpy(conditions),
            None if maps is None else torch.from_numpy(maps),
            torch.from_numpy(np.stack([noise for noise, _ in each])),
            torch.tensor([normal for _, normal in each]),
        )

    def loss(self, network: Any, drawn: Drawn) -> torch.Tensor:
        """Mean squared error of the velocity, towards the photos or towards the teacher."""
        # Curves are the CPU's, so that no device draws other times.
        times = distil.strengths(drawn.normals) if self._teacher else rectified.logit_normal(drawn.normals)
        here, times = drawn.on(self._device), times.to(self._device)
        if self._teacher:
            return self._teacher.loss(network, here.conditions, here.noise, times, here.maps)
        # In full precision whatever the network computes in: the smallest differences are what smooth surfaces have.
        with torch.autocast(self._device.type, enabled=False):
            target = rectified.difference(here.photos, here.conditions) / self._facts.spread.at(here.conditions)
        return rectified.flow_loss(network, target, here.conditions, here.noise, times, here.maps)

    def files(self, mean: Mapping[str, torch.Tensor], state: checkpoint.State) -> dict[str, bytes]:
        """A grid of samples, the model's folder, its card."""
        average = copy.deepcopy(self.network).eval().requires_grad_(False)
        average.load_state_dict(mean)
        files = to_files(average, self._facts)
        text = card(self._settings, self._crops.photos, state, len(files[WEIGHTS]), self._crops.maps)
        # Numbers and weights name each other by hash; a kill between two files is noticed when loading.
        model = {f"model/{name}": data for name, data in {**files, "README.md": text}.items()}
        return {f"samples/{state.step:07d}.png": self._grid(average), **model}

    def _grid(self, average: Any) -> bytes:
        """Simplified, refined (for a refiner that takes maps: without them, and with them), photo."""
        photos, conditions, maps = self._crops.batch_with_maps(-1, range(_SHOWN))
        refiner = Refiner(average, self._facts)
        streams = (seeds.generator(self._settings.seed, "show", i, "noise") for i in range(_SHOWN))
        wishes = [Wish(seeds.fork(stream), 1.0, 0.5) for stream in streams]
        images = torch.from_numpy(conditions).to(self._device)
        told = [None] if maps is None else [None, torch.from_numpy(maps).to(self._device)]
        refined = [refiner(images, wishes, steps=0, maps=one).images.cpu().numpy() for one in told]
        return show.grid([conditions, *refined, photos])


def _facts(settings: Settings, crops: Crops) -> Facts:
    numbers = measure(crops)
    return Facts(
        channels=settings.channels,
        layers=settings.layers,
        spread=rectified.Spread(tuple(numbers["knots"]), tuple(tuple(row) for row in numbers["levels"])),
        grain=tuple(numbers["grain"]),
        weights="",
        maps=settings.spec,
    )


def teacher_digest(settings: Settings) -> str:
    """SHA-256 of the teacher's weights and numbers. Raises as `read_facts`, and `ConfigError` where there is none."""
    if not (Path(settings.distil) / FACTS).is_file():
        raise ConfigError(
            f"distil={settings.distil}: no {FACTS} in it; expected the folder of a trained refiner, DIR/model of"
            " `synthaug train refiner out=DIR`"
        )
    return read_facts(settings.distil).digest


def _pupil(settings: Settings, teacher: Facts) -> Facts:
    """The teacher's facts, once the settings are known to describe it."""
    said = {
        "channels": (list(settings.channels), list(teacher.channels)),
        "layers": (settings.layers, teacher.layers),
        "maps": (list(settings.spec.kinds), list(teacher.maps.kinds)),
        "classes": (list(settings.spec.classes), list(teacher.maps.classes)),
    }
    for name, (own, wanted) in said.items():
        if own != wanted:
            raise ConfigError(f"{name}={own}: the teacher in distil={settings.distil} has {wanted}; set the same")
    if settings.teacher_steps <= settings.distil_steps:
        raise ConfigError(f"teacher_steps={settings.teacher_steps}: expected more than distil_steps")
    return replace(teacher, weights="", steps=settings.distil_steps)


def _noise(seed: int, step: int, place: int, crop: int) -> tuple[Any, float]:
    rng = seeds.generator(seed, f"train/{step}", place, "noise")
    side = crop // rectified.FOLD
    return rng.standard_normal((3 * rectified.FOLD**2, side, side), dtype=np.float32), float(rng.standard_normal())

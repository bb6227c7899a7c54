"""Adapters of a base as the work of a training: batches, loss, what is shown and published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from synthaug import seeds
from synthaug.errors import ConfigError
from synthaug.models.finetune import WEIGHTS, Lesson, open_adapted
from synthaug.models.trainable import Rank
from synthaug.train import show
from synthaug.train.checkpoint import State
from synthaug.train.lora_card import card
from synthaug.train.lora_crops import SaidCrops
from synthaug.train.machine import Machine
from synthaug.train.photos import planes
from synthaug.train.simplify import simplify

if TYPE_CHECKING:
    from synthaug.train.lora import Settings

_SHOWN = 4
_STRENGTH = 0.6
"""At which samples are redrawn: enough for the adapters to show, with shapes still those of the photo."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A part of one batch in host memory; fields as `Lesson` has them."""

    photos: np.ndarray
    prompts: tuple[str, ...]
    sizes: np.ndarray
    posterior: np.ndarray
    noise: np.ndarray
    times: np.ndarray


class LoraWork:
    """What `train lora` fits.

    Args:
        settings: Of the training.
        crops: Where they come from.
        machine: Where to load the base.

    Attributes:
        base: With its adapters.

    Raises:
        ConfigError: A base or targets that cannot be trained, or crops that do not fit the denoiser.
    """

    def __init__(self, settings: Settings, crops: SaidCrops, machine: Machine) -> None:
        self._settings, self._crops, self._device = settings, crops, machine.device
        self.base = open_adapted(
            settings.base,
            Rank(settings.rank, settings.alpha, settings.targets),
            device=str(machine.device),
            dtype="float32" if machine.autocast is None else "bfloat16",
        )
        if settings.crop % self.base.multiple:
            raise ConfigError(f"crop={settings.crop}: this base needs a multiple of {self.base.multiple}")
        if settings.checkpointing:
            self.base.unet.enable_gradient_checkpointing()
        self.base.unet.train()

    @property
    def network(self) -> Any:
        """The base's denoiser, adapters in it."""
        return self.base.unet

    @property
    def parameters(self) -> Mapping[str, torch.nn.Parameter]:
        """The adapters."""
        return self.base.parameters

    def draw(self, step: int, places: Sequence[int]) -> Drawn:
        """Crops, words, noise and times of some places of a batch."""
        said = [self._crops.draw(step, place) for place in places]
        side = self._settings.crop // self.base.model.factor
        noise, times = [], []
        for place in places:
            rng = seeds.generator(self._settings.seed, f"train/{step}", place, "noise")
            noise.append(rng.standard_normal((2, self.base.channels, side, side), dtype=np.float32))
            times.append(rng.random())
        both = np.stack(noise)
        return Drawn(
            planes([each.pixels for each in said]),
            tuple(each.prompt for each in said),
            np.array([each.sizes for each in said], np.float32),
            both[:, 0],
            both[:, 1],
            np.array(times, np.float32),
        )

    def loss(self, network: Any, drawn: Drawn) -> torch.Tensor:
        """Of the base's own objective."""
        arrays = (drawn.photos, drawn.sizes, drawn.posterior, drawn.noise, drawn.times)
        photos, sizes, posterior, noise, times = (torch.from_numpy(array).to(self._device) for array in arrays)
        lesson = Lesson(photos, drawn.prompts, sizes, posterior, noise, times)
        return self.base.loss(network, lesson, self._settings.min_snr)

    def files(self, mean: Mapping[str, torch.Tensor], state: State) -> dict[str, bytes]:
        """A grid of samples, the adapters and their card."""
        weights = self.base.weights(mean, {"steps": state.step, "prompt": self._crops.words.templates.texts})
        text = card(self._settings, self._crops, state, self.base.model.snapshot, len(weights))
        sheet = show.grid(self._samples(mean))
        return {f"samples/{state.step:07d}.png": sheet, f"model/{WEIGHTS}": weights, "model/README.md": text}

    def _samples(self, mean: Mapping[str, torch.Tensor]) -> list[np.ndarray]:
        """Columns: simplified photos, redrawn by the base alone, redrawn with the mean adapters, the photos."""
        seed = self._settings.seed
        said = [self._crops.draw(-1, place) for place in range(_SHOWN)]
        plain = planes([simplify(s.pixels, seeds.generator(seed, "show", i, "plain")) for i, s in enumerate(said)])
        given = torch.from_numpy(plain).to(self._device)
        prompts = [each.prompt for each in said]
        noises = [seeds.fork(seeds.generator(seed, "show", i, "noise")) for i in range(_SHOWN)]
        with self.base.wearing(mean):
            adapted = self.base.redraw(given, prompts, noises, _STRENGTH)
            with self.base.without():
                bare = self.base.redraw(given, prompts, noises, _STRENGTH)
        return [plain, bare.cpu().numpy(), adapted.cpu().numpy(), planes([each.pixels for each in said])]

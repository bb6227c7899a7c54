"""Diffusion on pixels: noise becomes a tile in a few dozen calls of a U-Net that wraps.

Ho, Jain and Abbeel, "Denoising diffusion probabilistic models" (NeurIPS 2020), with velocities and a schedule that
ends in noise (`diffusing`). Colours and contrast are those of a look, drawn first (`looks`), of which the network is
told. Pixels are turned two by two into bands (`bands`), which makes a call four times
cheaper than one on pixels. Rolled noise gives a rolled tile, to the multiple of pixels that the network halves. Slow to
sample; fails at long straight lines when trained briefly.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from synthaug.models.texture.bands import Bands
from synthaug.models.texture.diffusing import Diffusion
from synthaug.models.texture.family import Recipe, TextureModel, descend, moved, normals, scalars
from synthaug.models.texture.looks import Looks, alike, levelled, look_of

_BLOCK = 2
_COUNTS = (1.0, 0.3, 0.15)
"""Weights of the errors of lightness and two colours: as these differ within usual surfaces."""


class DDPM(TextureModel):
    """Pixel diffusion.

    Args:
        side: Of the tiles, pixels.
        classes: 0 for none.
        widths: Channels per level of the network, from half of the side on; multiples of 8.
        layers: Residual blocks per level.
        calls: Of the network, for a sample.
    """

    family = "ddpm"
    recipe = Recipe(steps=6000, batch=8, lr=2e-3)
    staged = False

    def __init__(
        self,
        *,
        side: int = 64,
        classes: int = 0,
        widths: Sequence[int] = (32, 64, 96),
        layers: int = 1,
        calls: int = 30,
    ) -> None:
        super().__init__(side=side, classes=classes, widths=list(widths), layers=layers, calls=calls)
        self.needs(_BLOCK * 2 ** (len(widths) - 1))
        self.calls = calls
        self.bands = Bands(_BLOCK)
        self.diffusion = Diffusion(self.bands.channels, list(widths), layers)
        self.looks = Looks(self.diffusion.told, classes)

    def optimisers(self, lr: float) -> list[torch.optim.Optimizer]:
        return [torch.optim.AdamW(self.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01)]

    def fit(
        self,
        images: Tensor,
        labels: Tensor | None,
        optimisers: Sequence[torch.optim.Optimizer],
        progress: float,
        rng: torch.Generator,
    ) -> dict[str, Tensor]:
        """The error of the predicted velocity."""
        structure = levelled(images, look_of(images))
        self.bands.learn(structure)
        told = self.looks(self.looks.learn(images, labels, rng), labels)
        weights = images.new_tensor(_COUNTS).repeat_interleave(_BLOCK**2)[:, None, None]
        loss = self.diffusion.loss(self.bands(structure), told, rng, weights / weights.mean())
        descend(loss, optimisers[0])
        return scalars({"loss": loss})

    @torch.no_grad()
    def sample(self, labels: Tensor | None, seeds: Sequence[int], side: int) -> Tensor:
        labels = self.wanted(labels, seeds, side)
        noise = normals(seeds, (self.bands.channels, side // _BLOCK, side // _BLOCK), self.device)
        look = self.looks.draw(seeds, labels)

        def brought(maps: Tensor) -> Tensor:
            # Ranks are left to the end: in turns with the network they make much of rounding.
            return self.bands(levelled(alike(self.bands.back(maps), look, ranks=False), look))

        found = self.diffusion.sample(noise, self.looks(look, labels), self.calls, brought)
        return moved(alike(self.bands.back(found), look), seeds).clamp(-1, 1)

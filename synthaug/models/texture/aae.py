"""An adversarial autoencoder: a critic of codes makes the codes of real tiles look like noise, so noise is a code.

Makhzani et al., "Adversarial autoencoders" (2015). The code says which texture, one vector for the whole tile; where
things stand is noise that enters the decoder on three scales and is never encoded. So what is decoded is compared with
the tile by its statistics (`statistics`), not place by place, which would teach the mean of all places: mud. Colours,
contrast and spectrum are those of a look, drawn first (`looks`). One call makes a tile, the fastest family. All
convolutions wrap: rolled noise gives a rolled tile. Fails at what a few dozen pixels cannot tell: straight lines, right
angles, one figure in the middle.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from synthaug.models.texture.blocks import Out, Pyramid, convolution, doubled, residual
from synthaug.models.texture.critic import hinge
from synthaug.models.texture.family import Recipe, TextureModel, descend, drawn, moved, normals, scalars
from synthaug.models.texture.looks import SIZE, Looks, alike, levelled, look_of
from synthaug.models.texture.statistics import Statistics

_OF_CODES = 0.05
"""Weight of what the critic of codes says, against a relative difference of statistics of 1."""
_BETAS = (0.5, 0.99)
_RANGE = 4.0
"""Largest value of a structure, whose spread is 1: looks do not care for scale, so that nothing else holds it."""
_NOISE = (8, 4, 4)
"""Channels of the noise, from coarse to fine."""


class Decoder(nn.Module):
    """From a code, what is told, and noise to the structure of a tile.

    Args:
        channels: At a half, a quarter and an eighth of the side.
        code: Numbers in the code, and of what is told.
    """

    def __init__(self, channels: list[int], code: int) -> None:
        super().__init__()
        fine, middle, coarse = channels
        inner = 2 * code
        self.read = nn.Sequential(nn.Linear(2 * code, inner), nn.SiLU(), nn.Linear(inner, inner), nn.SiLU())
        self.ground = nn.Linear(inner, coarse)
        order = ((coarse, coarse), (coarse, middle), (middle, fine))
        self.take = nn.ModuleList(convolution(n, a, 1) for n, (a, _) in zip(_NOISE, order, strict=True))
        self.blocks = nn.ModuleList(residual(a, b, inner) for a, b in order)
        self.last = residual(fine, fine, inner)
        self.out = Out(fine, inner)

    def forward(self, code: Tensor, told: Tensor, noises: Sequence[Tensor]) -> Tensor:
        """[B, 3, S, S] from [B, code] twice, and noise at an eighth, a quarter and half of the side."""
        style = self.read(torch.cat([code, told], 1))
        maps = self.ground(style)[:, :, None, None]
        for number, (take, block, noise) in enumerate(zip(self.take, self.blocks, noises, strict=True)):
            maps = block((doubled(maps) if number else maps) + take(noise), style)
        return _RANGE * torch.tanh(self.out(self.last(maps, style), style) / _RANGE)


class AAE(TextureModel):
    """Encoder, decoder, and the critic of codes.

    Args:
        side: Of the tiles, pixels.
        classes: 0 for none.
        width: Channels at half the side; one and a half times as many at a quarter, twice at an eighth.
        code: Numbers in the code.
    """

    family = "aae"
    recipe = Recipe(steps=5000, batch=6, lr=3e-3)
    training_only = ("encoder", "to_code", "critic", "statistics")
    staged = False

    def __init__(self, *, side: int = 64, classes: int = 0, width: int = 24, code: int = 24) -> None:
        super().__init__(side=side, classes=classes, width=width, code=code)
        channels = [width, width * 3 // 2, 2 * width]
        self.code = code
        self.encoder = Pyramid(channels)
        self.to_code = nn.Linear(2 * sum(channels) + SIZE, code)
        self.looks = Looks(code, classes)
        self.decoder = Decoder(channels, code)
        self.statistics = Statistics()
        self.critic = nn.Sequential(
            nn.Linear(code + SIZE, 4 * code), nn.LeakyReLU(0.2), nn.Linear(4 * code, 4 * code), nn.LeakyReLU(0.2),
            nn.Linear(4 * code, 1),
        )  # fmt: skip

    def optimisers(self, lr: float) -> list[torch.optim.Optimizer]:
        theirs = set(map(id, self.critic.parameters()))
        own = [value for value in self.parameters() if id(value) not in theirs]
        return [torch.optim.Adam(own, lr=lr, betas=(0.9, 0.99)), torch.optim.Adam(self.critic.parameters(), lr, _BETAS)]

    def fit(
        self,
        images: Tensor,
        labels: Tensor | None,
        optimisers: Sequence[torch.optim.Optimizer],
        progress: float,
        rng: torch.Generator,
    ) -> dict[str, Tensor]:
        """One step of the autoencoder (`loss`, the difference of statistics) and one of the critic."""
        look = look_of(images)
        structure = levelled(images, look)
        levels = self.encoder(structure)
        seen = [part for maps in levels for part in (maps.mean((2, 3)), maps.std((2, 3), correction=0))]
        code = self.to_code(torch.cat([*seen, look], 1))
        noises = [drawn(rng, (len(images), *shape), images) for shape in self._shapes(images.shape[-1])]
        told = self.looks(self.looks.learn(images, labels, rng), labels)
        made = alike(self.decoder(code, told, noises), look, ranks=False)
        loss = self.statistics.distance(levelled(made, look), structure).mean()
        # Beside the look, so that codes say nothing of it: in sampling both are drawn each by itself.
        descend(loss - _OF_CODES * self.critic(torch.cat([code, look], 1)).mean(), optimisers[0])
        noise, found = (torch.cat([one, look], 1) for one in (drawn(rng, code.shape, code), code.detach()))
        judgement = hinge(self.critic(noise), self.critic(found))
        descend(judgement, optimisers[1])
        return scalars({"loss": loss, "critic": judgement})

    @torch.no_grad()
    def sample(self, labels: Tensor | None, seeds: Sequence[int], side: int) -> Tensor:
        labels = self.wanted(labels, seeds, side)
        shapes = [(self.code,), *self._shapes(side)]
        flat = normals(seeds, [sum(map(_size, shapes))], self.device).split([*map(_size, shapes)], 1)
        code, *noises = (part.reshape(-1, *shape) for part, shape in zip(flat, shapes, strict=True))
        look = self.looks.draw(seeds, labels)
        return moved(alike(self.decoder(code, self.looks(look, labels), noises), look), seeds).clamp(-1, 1)

    def _shapes(self, side: int) -> list[tuple[int, ...]]:
        """Of the noise, from coarse to fine."""
        return [(channels, side // n, side // n) for channels, n in zip(_NOISE, (8, 4, 2), strict=True)]


def _size(shape: Sequence[int]) -> int:
    return torch.Size(shape).numel()

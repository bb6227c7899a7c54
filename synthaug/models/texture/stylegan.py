"""A generator against a discriminator, both on a torus: styles from a mapping network, resolutions one after another.

Karras, Laine and Aila, "A style-based generator architecture" (CVPR 2019): mapping network, noise inputs, style
mixing, resolutions that grow (Karras et al., ICLR 2018); with the weight demodulation and the skip connections of
Karras et al., "Analyzing and improving the image quality of StyleGAN" (CVPR 2020), the lazy gradient penalty (R1) of
Mescheder et al. (ICML 2018) and augmentation of what both networks show (Zhao et al., "Differentiable augmentation",
NeurIPS 2020), for sets of few hundred tiles.

Every convolution wraps and the discriminator ends in a mean over positions: it cannot tell where a tile was cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.errors import ConfigError, InputError
from synthaug.models.texture.family import Recipe, TextureModel, descend, drawn, moved, normals, scalars
from synthaug.models.texture.looks import SIZE, Looks, alike, look_of
from synthaug.models.texture.styles import SLOPE, Generator, Mapping, around, doubled

_SMALLEST = 4
_BETAS = (0.5, 0.99)
_FADE = 0.4
_MIXED = 0.5
_ALIKE = 5.0
"""Weight of likeness in what the critic sees (Salimans et al., "Improved techniques for training GANs", NeurIPS 2016,
section 3.1), against the game."""


class StyleGAN(TextureModel):
    """Small tiles first, then larger ones: each resolution takes as many steps as all before it together.

    Colours and contrast of a tile are those of a look, drawn first (`looks`): the game is about structure alone, and
    few colours are forgotten. Good at speed (one pass), at tiles of any size, and at mixing the structure of one tile
    with the surface of another. Fails at straight lines and regular grids, which take it much longer than grain.

    Args:
        side: Of the tiles that it learns from, pixels: 4 to 7 times a power of two.
        classes: How many; 0 for none.
        widths: Channels at each resolution, the smallest first; the last counts for all that follow.
        style: Numbers of a style.
        mapping: Layers of the mapping network.
        penalty: Weight of R1, for tiles of any side.
        lazy: It is reckoned once in so many steps, and weighs as much more then.
        jitter: Strength of the augmentation of colours: brightness, saturation, contrast; 0 for none.
    """

    family: ClassVar[str] = "stylegan"
    recipe: ClassVar[Recipe] = Recipe(steps=4000, batch=8, lr=4e-3)
    training_only: ClassVar[tuple[str, ...]] = ("discriminator",)

    def __init__(
        self,
        *,
        side: int = 64,
        classes: int = 0,
        widths: Sequence[int] = (96, 96, 64, 32, 16),
        style: int = 64,
        mapping: int = 2,
        penalty: float = 0.1,
        lazy: int = 8,
        jitter: float = 0.1,
    ) -> None:
        super().__init__(
            side=side,
            classes=classes,
            widths=list(widths),
            style=style,
            mapping=mapping,
            penalty=penalty,
            lazy=lazy,
            jitter=jitter,
        )
        doublings = int(math.log2(side // _SMALLEST))
        if side % (1 << doublings):
            raise ConfigError(f"side={side}: stylegan needs 4 to 7 times a power of two, as 32, 48, 64, 96 or 128")
        channels = [widths[min(i, len(widths) - 1)] for i in range(doublings + 1)]
        self.doublings, self.style = doublings, style
        self.penalty, self.lazy, self.jitter = penalty, lazy, jitter
        self.looks = Looks(style, classes)
        self.mapping = Mapping(style, mapping)
        self.generator = Generator(channels, style, side >> doublings)
        self.discriminator = _Discriminator(channels, classes)

    def optimisers(self, lr: float) -> list[torch.optim.Optimizer]:
        """One of the mapping network (a tenth of the rate: all layers hang on it) and generator, one of the other."""
        made = [
            {"params": list(self.generator.parameters())},
            {"params": [*self.looks.parameters(), *self.mapping.parameters()], "lr": lr / 10},
        ]
        return [
            torch.optim.Adam(made, lr=lr, betas=_BETAS),
            torch.optim.Adam(self.discriminator.parameters(), lr=lr / 4, betas=_BETAS),
        ]

    def stage(self, progress: float) -> tuple[int, float]:
        """Doublings of the smallest side that are trained, and how much of the last one shows, in [0, 1].

        The first stage has one doubling; the last takes the second half of all steps, the one before it a quarter, ...
        """
        if not self.doublings:
            return 0, 1.0
        starts = [0.0, *(2.0**-left for left in range(self.doublings - 1, 0, -1)), 1.0]
        last = sum(start <= progress for start in starts[1:-1])
        share = (progress - starts[last]) / (starts[last + 1] - starts[last])
        return last + 1, min(1.0, share / _FADE) if last else 1.0

    def fit(
        self,
        images: Tensor,
        labels: Tensor | None,
        optimisers: Sequence[torch.optim.Optimizer],
        progress: float,
        rng: torch.Generator,
    ) -> dict[str, Tensor]:
        """A step of the generator, then one of the discriminator; non-saturating losses of logits.

        Reports `generator`, `discriminator`, and the mean logits of `real` and `fake` tiles.
        """
        doublings, shown = self.stage(progress)
        real = _at(images, self.doublings - doublings, shown)
        look = self.looks.learn(images, labels, rng)
        told = self.looks(look, labels)
        fake = alike(self._made(told, doublings, shown, rng), look_of(real), ranks=False)
        self.discriminator.requires_grad_(False)

        def judged(tiles: Tensor) -> tuple[Tensor, list[Tensor]]:
            return self.discriminator(_jittered(tiles, self.jitter, rng), look, labels, doublings, shown)

        opinion, seen = judged(fake)
        with torch.no_grad():
            _, wanted = judged(real)
        fooled = F.softplus(-opinion).mean()
        # Each fake goes with a real tile, by its look: what the critic sees of both must be alike in the mean, or few
        # hundred tiles, which it soon knows by heart, leave the generator without a direction.
        apart = torch.stack([(a - b).abs().mean() for a, b in zip(seen, wanted, strict=True)]).mean()
        descend(fooled + _ALIKE * apart, optimisers[0])
        self.discriminator.requires_grad_(True)

        lazily = bool(torch.rand((), generator=rng) < 1 / self.lazy)
        real.requires_grad_(lazily)
        on_fake, on_real = judged(fake.detach())[0], judged(real)[0]
        loss = told_apart = F.softplus(on_fake).mean() + F.softplus(-on_real).mean()
        if lazily:
            (slope,) = torch.autograd.grad(on_real.sum(), real, create_graph=True)
            loss = loss + self.lazy * self.penalty / 2 * slope.square().sum((1, 2, 3)).mean()
        descend(loss, optimisers[1], most=10.0)
        losses = {"generator": fooled, "discriminator": told_apart, "real": on_real.mean(), "fake": on_fake.mean()}
        return scalars(losses)

    def _made(self, told: Tensor, doublings: int, shown: float, rng: torch.Generator) -> Tensor:
        """Tiles of this stage; half of the batches have two styles each, crossed at some resolution."""
        coarse, fine = (self.mapping(drawn(rng, (len(told), self.style), told), told) for _ in range(2))
        crossed = int(torch.randint(1, doublings + 1, (), generator=rng)) if doublings else 0
        if not doublings or float(torch.rand((), generator=rng)) > _MIXED:
            crossed = doublings + 1
        styles = [coarse if level < crossed else fine for level in range(doublings + 1)]
        noise = [drawn(rng, (len(told), *shape), told) for shape in self.generator.shapes(doublings, 1)]
        return self.generator(styles, noise, shown)[-1]

    @torch.no_grad()
    def sample(
        self,
        labels: Tensor | None,
        seeds: Sequence[int],
        side: int,
        *,
        fine: Sequence[int] | None = None,
        crossover: int = 16,
    ) -> Tensor:
        """As the contract says, in one pass; a knob more.

        Args:
            labels, seeds, side: As the contract says.
            fine: Style mixing: seeds whose styles are used at `crossover` pixels and above, and whose colours; noise
                stays that of `seeds`.
            crossover: First resolution of the styles of `fine`, for tiles of the side that it learnt from.
        """
        labels = self.wanted(labels, seeds, side)
        surface = seeds if fine is None else fine
        if len(surface) != len(seeds):
            raise InputError(f"{len(surface)} fine seeds for {len(seeds)} tiles: expected one each")
        picture = self.pyramid(labels, seeds, side, surface, crossover)[-1]
        return moved(alike(picture, self.looks.draw(surface, labels)), seeds).clamp(-1, 1)

    def pyramid(
        self, labels: Tensor | None, seeds: Sequence[int], side: int, fine: Sequence[int], crossover: int
    ) -> list[Tensor]:
        """The tile at every resolution on its way, the smallest first, in no colours yet; arguments of `sample`."""
        if side % (1 << self.doublings):
            raise InputError(f"side={side}: this stylegan makes tiles with a multiple of {1 << self.doublings} pixels")
        cells = side >> self.doublings
        shapes = [(self.style,), *self.generator.shapes(self.doublings, cells / self.generator.cells)]
        sizes = [math.prod(shape) for shape in shapes]
        parts = normals(seeds, (sum(sizes),), self.device).split(sizes, 1)
        latent, *noise = (part.view(-1, *shape) for part, shape in zip(parts, shapes, strict=True))
        coarse = self._style(latent, seeds, labels)
        surface = self._style(normals(fine, (self.style,), self.device), fine, labels)
        sides = [self.generator.cells << level for level in range(self.doublings + 1)]
        return self.generator([coarse if own < crossover else surface for own in sides], noise, 1.0)

    def _style(self, latent: Tensor, seeds: Sequence[int], labels: Tensor | None) -> Tensor:
        return self.mapping(latent, self.looks(self.looks.draw(seeds, labels), labels))


class _Discriminator(nn.Module):
    """Logits of a batch of tiles; the spread of the batch is one of its features, so that variety shows.

    It is told of the look, and of the class, by projection (Miyato and Koyama, "cGANs with projection discriminator",
    ICLR 2018): the question is whether this structure goes with this look.
    """

    def __init__(self, channels: Sequence[int], classes: int) -> None:
        super().__init__()
        self.colours = nn.ModuleList(_Circular(3, b, 1) for b in channels)
        self.blocks = nn.ModuleList(
            nn.Sequential(_Circular(b, b, 3), nn.AvgPool2d(2), _Circular(b, a, 3)) for a, b in pairwise(channels)
        )
        self.last = _Circular(channels[0] + 1, channels[0], 3)
        self.logit = nn.Parameter(torch.randn(channels[0]))
        self.look = nn.Linear(SIZE, channels[0])
        self.embed = nn.Embedding(classes, channels[0]) if classes else None

    def forward(
        self, tiles: Tensor, look: Tensor, labels: Tensor | None, doublings: int, shown: float
    ) -> tuple[Tensor, list[Tensor]]:
        """Logits [B], and the means [B, C] of the maps of each level."""
        maps, means = self.colours[doublings](tiles), list[Tensor]()
        for level in range(doublings - 1, -1, -1):
            maps = self.blocks[level](maps)
            if level == doublings - 1 and shown < 1:
                maps = torch.lerp(self.colours[level](F.avg_pool2d(tiles, 2)), maps, shown)
            means.append(maps.mean((2, 3)))
        spread = maps.var(0, unbiased=False).add(1e-8).sqrt().mean().expand_as(maps[:, :1])
        found = self.last(torch.cat([maps, spread], 1)).mean((2, 3))
        direction = self.logit + self.look(look)
        if self.embed is not None:
            direction = direction + self.embed(labels)
        return (direction * found).sum(1) / math.sqrt(found.shape[1]), [*means, found]


class _Circular(nn.Module):
    """A circular convolution in equalised learning rate, and a bend."""

    def __init__(self, given: int, made: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(made, given, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(made))
        self.scale, self.reach = 1 / math.sqrt(given * kernel**2), kernel // 2

    def forward(self, maps: Tensor) -> Tensor:
        found = F.conv2d(around(maps, self.reach), self.weight * self.scale, self.bias)
        return F.leaky_relu(found, SLOPE) * math.sqrt(2)


def _jittered(tiles: Tensor, strength: float, rng: torch.Generator) -> Tensor:
    """Brightness, saturation and contrast of each tile changed at random, differentiably."""
    if not strength:
        return tiles
    light, colour, contrast = (
        (torch.rand((len(tiles), 1, 1, 1), generator=rng).to(tiles) * 2 - 1) * strength for _ in range(3)
    )
    grey = tiles.mean(1, keepdim=True)
    tiles = grey + (tiles - grey) * (1 + colour)
    centre = tiles.mean((1, 2, 3), keepdim=True)
    return centre + (tiles - centre) * (1 + contrast) + light


def _at(images: Tensor, halvings: int, shown: float) -> Tensor:
    """Real tiles at a stage's resolution, with as much of its detail as the stage shows."""
    for _ in range(halvings):
        images = F.avg_pool2d(images, 2)
    return images if shown >= 1 else torch.lerp(doubled(F.avg_pool2d(images, 2)), images, shown)

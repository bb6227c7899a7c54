"""A variational autoencoder whose latents stand on every scale, so that samples have grain and not the mean of it.

Kingma and Welling, "Auto-encoding variational Bayes" (ICLR 2014); the ladder of latents, each with a prior that the
coarser ones predict, after Sonderby et al., "Ladder variational autoencoders" (NeurIPS 2016), and Child, "Very deep
VAEs" (ICLR 2021). One style vector for the whole tile, then maps of noise at an eighth, a quarter and half of its
side. Style vectors are drawn from a Gaussian fitted to those of the tiles (Ghosh et al., "From variational to
deterministic autoencoders", ICLR 2020): few tiles pull theirs to the prior late. Colours and contrast are those of a
look, drawn first (`looks`); what the decoder leaves to chance is drawn from the law of its errors. All convolutions
wrap: rolled maps give a rolled tile. Fails at what must meet exactly over long ways: bricks come out as brickish
relief.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from synthaug.models.texture.blocks import Out, Pyramid, convolution, doubled, halved, residual, start_at_zero
from synthaug.models.texture.family import Recipe, TextureModel, descend, drawn, moved, normals, scalars
from synthaug.models.texture.looks import SIZE, Looks, alike, levelled, look_of, toned

_MEMORY = 0.01
"""Weight of a new batch in the running figures of style vectors."""
_WARM = 0.15
"""Share of the training over which divergences come to count in full."""


class Rung(nn.Module):
    """One map of latents: its prior from the maps above, its posterior from those and the encoder's.

    What the encoder adds has no mean over the places that a coarser rung answers for: fine latents would otherwise
    carry the colours of whole tiles before the style vector learns to, and samples would all have the same.

    Args:
        channels: Of the maps of decoder and encoder.
        latents: Of the noise.
        style: Of the style vector.
        coarsest: Whether means are the style vector's, of whole tiles; else those of 2 x 2 places, the rung's above.
    """

    def __init__(self, channels: int, latents: int, style: int, *, coarsest: bool) -> None:
        super().__init__()
        self.coarsest = coarsest
        self.prior = nn.Sequential(nn.SiLU(), start_at_zero(convolution(channels, 2 * latents)))
        self.posterior = nn.Sequential(
            convolution(2 * channels, channels), nn.SiLU(), start_at_zero(convolution(channels, 2 * latents))
        )
        self.take = convolution(latents, channels, 1)
        self.block = residual(channels, channels, style)

    def forward(self, maps: Tensor, style: Tensor, noise: Tensor, seen: Tensor | None) -> tuple[Tensor, Tensor]:
        """Maps with these latents in them, and the divergence [B] of posterior and prior (0 without `seen`)."""
        mean, spread = _gaussian(self.prior(maps))
        lost = maps.new_zeros(len(maps))
        if seen is not None:
            own, width = _gaussian(self.posterior(torch.cat([maps, seen], 1)))
            own = own - (own.mean((2, 3), keepdim=True) if self.coarsest else doubled(halved(own)))
            lost = divergence(mean + own, width, mean, spread)
            mean, spread = mean + own, width
        return self.block(maps + self.take(mean + spread * noise), style), lost


class VAE(TextureModel):
    """The ladder.

    Args:
        side: Of the tiles, pixels.
        classes: 0 for none.
        width: Channels at half the side; one and a half times as many at a quarter, twice at an eighth.
        latents: Channels of each map of noise.
        style: Numbers in the style vector.
        scale: Of the Laplace law of errors: smaller keeps more of the grain in the latents.
    """

    family = "vae"
    recipe = Recipe(steps=8000, batch=6, lr=3e-3)
    staged = False
    training_only = ("encoder", "to_style")
    mean: Tensor
    covariance: Tensor

    def __init__(
        self,
        *,
        side: int = 64,
        classes: int = 0,
        width: int = 24,
        latents: int = 6,
        style: int = 32,
        scale: float = 0.06,
    ) -> None:
        super().__init__(side=side, classes=classes, width=width, latents=latents, style=style, scale=scale)
        channels = [width, width * 3 // 2, 2 * width]
        self.style, self.scale = style, scale
        self.latents = latents
        self.encoder = Pyramid(channels)
        self.to_style = start_at_zero(nn.Linear(channels[-1] + SIZE, 2 * style))
        inner = 2 * style
        self.looks = Looks(style, classes)
        self.read = nn.Sequential(nn.Linear(2 * style, inner), nn.SiLU(), nn.Linear(inner, inner), nn.SiLU())
        self.ground = nn.Linear(inner, channels[-1])
        order = [channels[2], channels[2], channels[1], channels[0]]
        self.rungs = nn.ModuleList(Rung(c, latents, inner, coarsest=n < 2) for n, c in enumerate(order))
        self.turns = nn.ModuleList(convolution(a, b, 1) for a, b in ((order[1], order[2]), (order[2], order[3])))
        self.out = Out(channels[0], inner)
        self.register_buffer("mean", torch.zeros(style))
        self.register_buffer("covariance", torch.eye(style))

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
        """The negative evidence bound, in nats per number; errors follow a Laplace law."""
        look = look_of(images)
        seen = self.encoder(levelled(images, look))
        noises = [drawn(rng, shape, images) for shape in self._shapes(len(images), images.shape[-1])]
        mean, spread = self.to_style(torch.cat([seen[-1].mean((2, 3)), look], 1)).chunk(2, 1)
        spread = _positive(spread)
        lost = divergence(mean, spread, torch.zeros_like(mean), torch.ones_like(mean))
        vectors = mean + spread * noises[0]
        self._note(vectors.detach())
        told = self.looks(self.looks.learn(images, labels, rng), labels)
        structure, more = self._decode(vectors, told, noises[1:], seen)
        made = toned(structure, look)
        numbers = images[0].numel()
        error = (images - made).abs().mean() / self.scale + math.log(2 * self.scale)
        kl = (lost + more).mean() / numbers
        loss = error + min(progress / _WARM, 1.0) * kl
        descend(loss, optimisers[0])
        return scalars({"loss": error + kl, "error": (images - made).abs().mean(), "divergence": kl})

    @torch.no_grad()
    def sample(self, labels: Tensor | None, seeds: Sequence[int], side: int) -> Tensor:
        labels = self.wanted(labels, seeds, side)
        shapes = [*(shape[1:] for shape in self._shapes(1, side)), (3, side, side)]
        sizes = [torch.Size(shape).numel() for shape in shapes]
        flat = normals(seeds, [sum(sizes)], self.device).split(sizes, 1)
        noises = [part.reshape(len(seeds), *shape) for part, shape in zip(flat, shapes, strict=True)]
        shape = torch.linalg.cholesky(self.covariance + 1e-4 * torch.eye(self.style, device=self.device))
        look = self.looks.draw(seeds, labels)
        told = self.looks(look, labels)
        structure, _ = self._decode(self.mean + noises[0] @ shape.T, told, noises[1:-1], None)
        drawn_again = toned(structure, look) + self.scale * _laplace(noises[-1])
        return moved(alike(levelled(drawn_again, look), look), seeds).clamp(-1, 1)

    def _note(self, vectors: Tensor) -> None:
        """Takes style vectors of a batch into their running mean and covariance."""
        with torch.no_grad():
            vectors = vectors.to(self.mean)
            self.mean.lerp_(vectors.mean(0), _MEMORY)
            apart = vectors - self.mean
            self.covariance.lerp_((apart.T @ apart).to(self.covariance) / len(vectors), _MEMORY)

    def _shapes(self, count: int, side: int) -> list[tuple[int, ...]]:
        """Of the noise: style, then rungs from coarse to fine."""
        return [(count, self.style), *((count, self.latents, side // n, side // n) for n in (8, 8, 4, 2))]

    def _decode(
        self, style: Tensor, told: Tensor, noises: Sequence[Tensor], seen: Sequence[Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """Structure, and the divergence [B] of all rungs."""
        style = self.read(torch.cat([style, told], 1))
        maps = self.ground(style)[:, :, None, None].expand(-1, -1, *noises[0].shape[2:])
        lost = style.new_zeros(len(style))
        for number, (rung, noise) in enumerate(zip(self.rungs, noises, strict=True)):
            if number >= 2:
                maps = self.turns[number - 2](doubled(maps))
            shown = None if seen is None else seen[(2, 2, 1, 0)[number]]
            maps, more = rung(maps, style, noise, shown)
            lost = lost + more
        return self.out(maps, style), lost


def divergence(mean: Tensor, spread: Tensor, prior: Tensor, width: Tensor) -> Tensor:
    """[B] Kullback-Leibler divergence of diagonal Gaussians, in nats."""
    parts = (width / spread).log() + (spread**2 + (mean - prior) ** 2) / (2 * width**2) - 0.5
    return parts.flatten(1).sum(1)


def _laplace(normal: Tensor) -> Tensor:
    """Of scale 1, from normal numbers."""
    return -normal.sign() * torch.log1p(-torch.erf(normal.abs() / math.sqrt(2)).clamp(max=1 - 1e-6))


def _gaussian(numbers: Tensor) -> tuple[Tensor, Tensor]:
    mean, spread = numbers.chunk(2, 1)
    return mean, _positive(spread)


def _positive(numbers: Tensor) -> Tensor:
    """1 at 0, never below 0.01: no likelihood grows without bound."""
    return nn.functional.softplus(numbers + 0.5413) + 0.01

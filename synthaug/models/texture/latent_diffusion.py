"""Diffusion on the latents of an autoencoder: sixteen times fewer places than pixels.

Rombach et al., "High-resolution image synthesis with latent diffusion models" (CVPR 2022). In the first part of the
training diffusers' `AutoencoderTiny`, made to wrap, learns the tiles, at first by absolute errors alone, then with a
critic of patches as well. In the rest it stays as it is, and a U-Net learns its latents (`diffusing`). Colours and
contrast are those of a look, drawn first (`looks`); latents hold the structure alone. Latents rolled
by a place roll the tile by four pixels. Faster to sample than pixels; what the autoencoder blurs stays blurred.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from synthaug.models.texture.critic import Critic, hinge
from synthaug.models.texture.diffusing import Diffusion
from synthaug.models.texture.family import Recipe, TextureModel, descend, drawn, moved, normals, scalars, wrapping
from synthaug.models.texture.looks import Looks, alike, levelled, look_of, toned

_FIRST = 0.3
"""Share of the training that is the autoencoder's."""
_ALONE = 0.15
"""Share before its critic speaks."""
_JITTER = 0.1
"""Noise on latents, which lie within 3: what is decoded from a U-Net's latents is a little off as well."""
_OF_PICTURES = 0.05
_MEMORY = 0.01
"""Weight of a new batch in the running figures of the latents."""


class LatentDiffusion(TextureModel):
    """Autoencoder, critic, and diffusion of latents, which are brought to mean 0 and power 1.

    Args:
        side: Of the tiles, pixels.
        classes: 0 for none.
        latents: Channels of the latents.
        width: Channels of the autoencoder.
        halvings: How often it halves half the side: 1 gives latents at a quarter.
        denoiser: Channels of the U-Net per level, from where the autoencoder ends; multiples of 8.
        layers: Residual blocks per level of the U-Net.
        calls: Of the U-Net, for a sample.
    """

    family = "latent_diffusion"
    recipe = Recipe(steps=8000, batch=6, lr=2e-3)
    training_only = ("critic",)
    mean: Tensor
    power: Tensor

    def __init__(
        self,
        *,
        side: int = 64,
        classes: int = 0,
        latents: int = 6,
        width: int = 40,
        halvings: int = 1,
        denoiser: Sequence[int] = (48, 80),
        layers: int = 1,
        calls: int = 30,
    ) -> None:
        super().__init__(
            side=side,
            classes=classes,
            latents=latents,
            width=width,
            halvings=halvings,
            denoiser=list(denoiser),
            layers=layers,
            calls=calls,
        )
        from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

        self.latents, self.calls, self.fewer = latents, calls, 2 ** (halvings + 1)
        self.needs(self.fewer * 2 ** (len(denoiser) - 1))
        self.fold, self.unfold = nn.PixelUnshuffle(2), nn.PixelShuffle(2)
        levels, ones = (width,) * (halvings + 1), (1,) * (halvings + 1)
        self.autoencoder: Any = wrapping(
            AutoencoderTiny(
                in_channels=12,
                out_channels=12,
                encoder_block_out_channels=levels,
                decoder_block_out_channels=levels,
                num_encoder_blocks=ones,
                num_decoder_blocks=ones,
                latent_channels=latents,
            )
        )
        self.diffusion = Diffusion(latents, list(denoiser), layers)
        self.looks = Looks(self.diffusion.told, classes)
        self.critic = Critic(width)
        self.register_buffer("mean", torch.zeros(1, latents, 1, 1))
        self.register_buffer("power", torch.ones(1, latents, 1, 1))

    def optimisers(self, lr: float) -> list[torch.optim.Optimizer]:
        theirs = [*self.diffusion.parameters(), *self.looks.parameters()]
        return [
            torch.optim.AdamW(self.autoencoder.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01),
            torch.optim.Adam(self.critic.parameters(), lr=lr, betas=(0.5, 0.99)),
            torch.optim.AdamW(theirs, lr=lr, betas=(0.9, 0.99), weight_decay=0.01),
        ]

    def fit(
        self,
        images: Tensor,
        labels: Tensor | None,
        optimisers: Sequence[torch.optim.Optimizer],
        progress: float,
        rng: torch.Generator,
    ) -> dict[str, Tensor]:
        """A step of the autoencoder (`loss` is its absolute error), or of the diffusion (the error of velocities)."""
        if progress < _FIRST:
            return self._fit_autoencoder(images, optimisers, progress >= _ALONE, rng)
        with torch.no_grad():
            structure = levelled(images, look_of(images))
            clean = (self.autoencoder.encode(self.fold(structure)).latents - self.mean) / self.power.sqrt()
        told = self.looks(self.looks.learn(images, labels, rng), labels)
        loss = self.diffusion.loss(clean, told, rng)
        descend(loss, optimisers[2])
        return scalars({"loss": loss, "critic": torch.zeros_like(loss)})

    def _fit_autoencoder(
        self, images: Tensor, optimisers: Sequence[torch.optim.Optimizer], judged: bool, rng: torch.Generator
    ) -> dict[str, Tensor]:
        look = look_of(images)
        latents = self.autoencoder.encode(self.fold(levelled(images, look))).latents
        noisy = latents + _JITTER * drawn(rng, latents.shape, images)
        again = toned(self.unfold(self.autoencoder.decode(noisy).sample), look)
        error = (images - again).abs().mean()
        loss = judgement = error
        if judged:
            loss = error - _OF_PICTURES * self.critic(again).mean()
        descend(loss, optimisers[0])
        if judged:
            judgement = hinge(self.critic(images), self.critic(again.detach()))
            descend(judgement, optimisers[1])
        with torch.no_grad():
            latents = latents.to(self.mean)
            mean = latents.mean((0, 2, 3), keepdim=True)
            self.mean.lerp_(mean, _MEMORY)
            self.power.lerp_((latents - self.mean).square().mean((0, 2, 3), keepdim=True), _MEMORY)
        return scalars({"loss": error, "critic": judgement if judged else torch.zeros_like(error)})

    @torch.no_grad()
    def sample(self, labels: Tensor | None, seeds: Sequence[int], side: int) -> Tensor:
        labels = self.wanted(labels, seeds, side)
        noise = normals(seeds, (self.latents, side // self.fewer, side // self.fewer), self.device)
        look = self.looks.draw(seeds, labels)
        found = self.diffusion.sample(noise, self.looks(look, labels), self.calls) * self.power.sqrt() + self.mean
        return moved(alike(self.unfold(self.autoencoder.decode(found).sample), look), seeds).clamp(-1, 1)

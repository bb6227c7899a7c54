"""What pixel and latent diffusion share: a U-Net that wraps, a schedule that ends in noise, few calls to sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from synthaug.models.texture.family import drawn, wrapping

_STEPS = 1000


class Diffusion(nn.Module):
    """A denoiser of maps, diffusers' `UNet2DModel`, and its schedule.

    It predicts velocities (Salimans and Ho, "Progressive distillation", ICLR 2022) under a cosine schedule whose last
    step is pure noise (Lin et al., "Common diffusion noise schedules and sample steps are flawed", WACV 2024): the
    mean colour of a tile is made from noise as well. Norms on the way take mean and spread out of the maps, so a short
    path puts both back: a little network sees those of the noisy maps, and what is told, and says those of the answer,
    and which share of the noisy maps themselves is in it, as Wiener's filter does: a tile's grain is found at once, and
    the rest is left to the U-Net. Attention knows no places, so that it commutes with rolling as convolutions do.

    Args:
        channels: Of the maps.
        widths: Of the network, per level.
        layers: Residual blocks per level.

    Attributes:
        told: Numbers that a family tells it of a tile: its look, its class.
    """

    def __init__(self, channels: int, widths: list[int], layers: int) -> None:
        super().__init__()
        from diffusers.models.unets.unet_2d import UNet2DModel
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler

        levels, self.told = len(widths), 4 * widths[0]
        self.network: Any = wrapping(
            UNet2DModel(
                in_channels=channels,
                out_channels=channels,
                block_out_channels=tuple(widths),
                layers_per_block=layers,
                down_block_types=("DownBlock2D",) * levels,
                up_block_types=("UpBlock2D",) * levels,
                attention_head_dim=widths[-1] // 2,
                norm_num_groups=8,
                resnet_time_scale_shift="scale_shift",
                class_embed_type="identity",
            )
        )
        self.schedule: Any = DDIMScheduler(
            num_train_timesteps=_STEPS,
            beta_schedule="squaredcos_cap_v2",
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
            clip_sample=False,
        )

        self.look = nn.Sequential(
            nn.Linear(2 * channels + 2 + self.told, 64),
            nn.SiLU(),
            nn.Linear(64, 64),
            nn.SiLU(),
            nn.Linear(64, 3 * channels),
        )

    def forward(self, noisy: Tensor, times: Tensor, told: Tensor) -> Tensor:
        """The velocities of [B, C, H, W] at [B] times, of tiles of which [B, told] is told."""
        found: Tensor = self.network(noisy, times, class_labels=told).sample
        known = self.schedule.alphas_cumprod.to(noisy.device)[times].reshape(-1, 1).to(noisy)
        seen = [noisy.mean((2, 3)), noisy.std((2, 3)), known.sqrt(), (1 - known).sqrt(), told]
        mean, spread, gate = self.look(torch.cat(seen, 1))[:, :, None, None].chunk(3, 1)
        return found * spread.exp() + gate * noisy + mean

    def loss(self, clean: Tensor, told: Tensor, rng: torch.Generator, weights: Tensor | None = None) -> Tensor:
        """Mean squared error of the velocity; times are spread evenly over the batch, each at random in its share.

        Args:
            clean: [B, C, H, W] of mean 0 and power 1.
            told: [B, told].
            rng: Of times and noise.
            weights: [C, 1, 1] of the channels, 1 in the mean.
        """
        count = len(clean)
        shares = (torch.arange(count) + torch.rand(count, generator=rng)) / count
        times = (shares * _STEPS).long().clamp(max=_STEPS - 1).to(clean.device)
        noise = drawn(rng, clean.shape, clean)
        noisy = self.schedule.add_noise(clean, noise, times)
        target = self.schedule.get_velocity(clean, noise, times)
        error = (self(noisy, times, told) - target).square()
        return (error if weights is None else error * weights).mean()

    @torch.no_grad()
    def sample(
        self, noise: Tensor, told: Tensor, calls: int, brought: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """Maps from noise, by DDIM without further noise (Song et al., ICLR 2021) in `calls` calls of the network.

        Args:
            noise: [B, C, H, W].
            told: [B, told].
            calls: Of the network.
            brought: What clean maps are known to satisfy is restored in those that each call foresees, as by Lugmayr et
                al. ("RePaint", CVPR 2022) for known pixels: what the network has forgotten does not add up.
        """
        self.schedule.set_timesteps(calls, device=noise.device)
        known = self.schedule.alphas_cumprod.to(noise)
        maps = noise
        for time in self.schedule.timesteps:
            found = self(maps, time.expand(len(maps)), told)
            if brought is not None:
                share, rest = known[time].sqrt(), (1 - known[time]).sqrt()
                found = (share * maps - brought(share * maps - rest * found)) / rest
            maps = self.schedule.step(found, time, maps, eta=0.0).prev_sample
        return maps

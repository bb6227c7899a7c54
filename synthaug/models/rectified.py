"""Conditional rectified flow: what a photo has and its simplified picture lacks, drawn from noise.

Rectified flow (Liu, Gong & Liu, ICLR 2023; Lipman et al., ICLR 2023) on the difference between a photo and the
condition: x_t = (1 - t) x_0 + t noise, and the network gives the velocity noise - x_0. The difference is taken
without its coarse colours (`guards.keep_colour`) and divided by the size it is expected to have at that place
(`Spread`): on a smooth wall a photo differs from its simplified picture ten times less than on grass, so there the
flow starts from ten times less noise, and what a small network leaves of it is as much less. Pixels are folded 2x2
into channels (space to depth), so the network runs at half the size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch.nn.functional import mse_loss, pixel_shuffle, pixel_unshuffle

from synthaug import seeds
from synthaug.errors import ConfigError
from synthaug.models import guards
from synthaug.models.pipelines import pad_reflect

FOLD = 2
TRAIN_STEPS = 1000
"""Times are handed to the network times this, as diffusers' FlowMatchEulerDiscreteScheduler counts them."""
_VECTOR = 32
_FARTHEST = 6.0
"""Differences beyond so many times the expected are clipped: a glint must not steer a batch."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The network's size.

    Attributes:
        channels: Per level, from full to coarsest; each level halves the sides.
        layers: Residual blocks per level.
        extra: Channels of the maps that come with the picture (`maps.MapSpec.channels`).
    """

    channels: tuple[int, ...] = (64, 96, 128)
    layers: int = 1
    extra: int = 0

    @property
    def multiple(self) -> int:
        """Sides of a picture are padded to a multiple of this."""
        return math.lcm(FOLD * 2 ** (len(self.channels) - 1), _VECTOR)


def network(shape: Shape) -> Any:
    """A diffusers UNet2DModel without attention: texture is local, and any size fits.

    Raises:
        ConfigError: A width that does not divide into 8 groups.
    """
    from diffusers.models.unets.unet_2d import UNet2DModel

    levels = len(shape.channels)
    if not 1 <= levels <= 5 or any(c < 8 or c % 8 for c in shape.channels):
        raise ConfigError(f"channels={list(shape.channels)}: expected 1 to 5 multiples of 8")
    return UNet2DModel(
        in_channels=(2 * 3 + shape.extra) * FOLD**2,
        out_channels=3 * FOLD**2,
        layers_per_block=shape.layers,
        block_out_channels=shape.channels,
        down_block_types=("DownBlock2D",) * levels,
        up_block_types=("UpBlock2D",) * levels,
        norm_num_groups=8,
        add_attention=False,
    )


def velocity(
    unet: Any, noisy: torch.Tensor, condition: torch.Tensor, times: torch.Tensor, maps: torch.Tensor | None = None
) -> torch.Tensor:
    """The network's answer, folded: [B, 12, H/2, W/2].

    Args:
        unet: From `network`.
        noisy: [B, 12, H/2, W/2], differences over `Spread.at`.
        condition: [B, 3, H, W] sRGB in [0, 1].
        times: [B] in [0, 1]; 1 is noise.
        maps: [B, extra, H, W] of `MapSpec.encode`, for a network that takes them.
    """
    planes = [noisy, pixel_unshuffle(condition * 2 - 1, FOLD).to(noisy.dtype)]
    if maps is not None:
        planes.append(pixel_unshuffle(maps, FOLD).to(noisy.dtype))
    inputs = torch.cat(planes, dim=1).contiguous(memory_format=torch.channels_last)
    return unet(inputs, times * TRAIN_STEPS).sample


@dataclass(frozen=True, slots=True)
class Spread:
    """How far photos are from their simplified pictures, by how rough the simplified picture is there.

    Attributes:
        knots: `guards.texture` of the condition, in [0, 1] units, ascending.
        levels: [3][knots] root mean square of the difference in luma, red minus luma, blue minus luma.
    """

    knots: tuple[float, ...]
    levels: tuple[tuple[float, ...], ...]

    def at(self, condition: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] expected size of the difference, opponent channels; linear between knots' logarithms."""
        detail = guards.texture(condition).clamp(self.knots[0], self.knots[-1]).log()
        knots = torch.tensor(self.knots, device=detail.device).log()
        after = torch.bucketize(detail, knots).clamp(1, len(self.knots) - 1)
        share = (detail - knots[after - 1]) / (knots[after] - knots[after - 1])
        planes: list[torch.Tensor] = []
        for row in self.levels:
            level = torch.tensor(row, device=detail.device)
            planes.append(level[after - 1] + share * (level[after] - level[after - 1]))
        return torch.cat(planes, dim=1)


def opponent(rgb: torch.Tensor) -> torch.Tensor:
    """Luma, red minus luma and blue minus luma of [B, 3, H, W]; linear, so differences may be handed in."""
    luma = guards.luma_of(rgb)
    return torch.cat([luma, rgb[:, :1] - luma, rgb[:, 2:] - luma], dim=1)


def from_opponent(planes: torch.Tensor) -> torch.Tensor:
    """What `opponent` took apart."""
    luma, red, blue = planes[:, :1], planes[:, 1:2] + planes[:, :1], planes[:, 2:] + planes[:, :1]
    return torch.cat([red, (luma - 0.299 * red - 0.114 * blue) / 0.587, blue], dim=1)


def difference(photos: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
    """What is learnt: opponent channels of photo minus condition, without coarse colours."""
    return opponent(guards.keep_colour(photos, condition, 1.0) - condition)


def fold(target: torch.Tensor) -> torch.Tensor:
    """[B, 12, H/2, W/2] of `difference` over `Spread.at`, the farthest values clipped."""
    return pixel_unshuffle(target.clamp(-_FARTHEST, _FARTHEST), FOLD)


def flow_loss(
    unet: Any,
    target: torch.Tensor,
    condition: torch.Tensor,
    noise: torch.Tensor,
    times: torch.Tensor,
    maps: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean squared error of the velocity.

    Args:
        target: [B, 3, H, W] `difference` over `Spread.at`.
        condition: [B, 3, H, W], the photos simplified.
        noise: [B, 12, H/2, W/2] standard normal.
        times: [B] in [0, 1].
        maps: As in `velocity`.
    """
    folded = fold(target)
    t = times[:, None, None, None]
    answer = velocity(unet, (1 - t) * folded + t * noise, condition, times, maps)
    return mse_loss(answer.float(), noise - folded)


def logit_normal(normals: torch.Tensor, shift: float = 0.0) -> torch.Tensor:
    """Times by the logistic function of normal numbers (Esser et al., ICML 2024): most of them between the ends."""
    return torch.sigmoid(normals + shift)


def schedule(strength: float, steps: int) -> list[float]:
    """Times of the steps, `steps + 1` of them, evenly from `strength` down to 0: the flow is nearly straight."""
    return [strength * (1 - i / steps) for i in range(steps)] + [0.0]


@torch.inference_mode()
def sample(
    unet: Any,
    condition: torch.Tensor,
    noise_seeds: Sequence[int],
    *,
    spread: Spread,
    strength: float,
    steps: int,
    maps: torch.Tensor | None = None,
    noise: torch.Tensor | None = None,
) -> torch.Tensor:
    """Differences to add to the pictures, [B, 3, H, W] float32.

    Starts from the condition itself, noised to `strength`, and follows the flow in Euler steps. The last step
    goes straight to the network's estimate of the noise-free difference, so none of the starting noise stays.

    Args:
        condition: [B, 3, H, W]; any size.
        noise_seeds: One 63-bit seed per picture; the noise is drawn on the CPU from it alone.
        spread: As in training.
        strength: In (0, 1]; share of the way to noise that the flow starts from.
        steps: Calls of the network, from 1.
        maps: [B, extra, H, W] of `MapSpec.encode`, for a network that takes them.
        noise: [B, 3, H', W'] standard normal, of the padded size; None draws it from the seeds.
    """
    height, width = condition.shape[-2:]
    padded = pad_reflect(condition, _multiple(unet))
    told = None if maps is None else pad_reflect(maps, _multiple(unet)).to(padded.device)
    dtype = next(unet.parameters()).dtype
    size = (3 * FOLD**2, padded.shape[-2] // FOLD, padded.shape[-1] // FOLD)
    if noise is None:
        folded = torch.stack([torch.from_numpy(seeds.normal(seed, size)) for seed in noise_seeds])
    else:
        folded = pixel_unshuffle(noise, FOLD)
    x = strength * folded.to(padded.device)
    times = schedule(strength, steps)
    for now, after in pairwise(times):
        t = torch.full((len(x),), now, device=x.device)
        answer = velocity(unet, x.to(dtype), padded.to(dtype), t, told).float()
        x = x + (after - now) * answer
    return from_opponent(pixel_shuffle(x, FOLD)[..., :height, :width] * spread.at(condition))


def _multiple(unet: Any) -> int:
    return Shape(tuple(unet.config.block_out_channels)).multiple

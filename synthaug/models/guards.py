"""What holds a refined picture to its input: its colours, and how smooth smooth surfaces are.

Both guards work on differences and never move anything: blurs are symmetric, gains are positive.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch.nn.functional import conv2d, max_pool2d, pad

LUMA_RADIUS = 10.0
"""Pixels; luma may change in details finer than this."""
CHROMA_RADIUS = 2.5
"""Pixels; colour mottling is coarser than grain, and eyes and networks see it at once."""
DETAIL_RADIUS = 2.0
"""Pixels; detail is what is finer."""
FLAT, ROUGH = 1.0 / 255, 3.0 / 255
"""Roughness up to which a surface counts as flat, and from which on it does not."""
_PATCH = 5
_NEAR = 1.5
_LEAST = 0.1 / 255
_WINDOW = 6.0
_GRAIN_RADIUS = 0.6
_GAINS = 1.2**2 - 1
_SMOOTHEST = 1.74
"""Variance of detail over `roughness` squared, on white noise: the smoothest patch has less than its share."""
_QUANTISED = 1.0 / (12 * 255**2)
"""Variance that rounding to 8 bits adds."""
_LUMA = (0.299, 0.587, 0.114)


def keep_colour(refined: torch.Tensor, source: torch.Tensor, share: float) -> torch.Tensor:
    """Puts the source's coarse colours back under the refined details.

    Args:
        refined: [B, 3, H, W].
        source: Likewise.
        share: 0 leaves the refined colours, 1 takes the source's.
    """
    change = refined - source
    luma = luma_of(change)
    drift = blur(luma, LUMA_RADIUS) + blur(change - luma, CHROMA_RADIUS)
    return refined - share * drift


def match_grain(
    refined: torch.Tensor, source: torch.Tensor, levels: Sequence[float], share: float, noise: torch.Tensor
) -> torch.Tensor:
    """Gives flat surfaces the grain of photos: no more where the network left some over, no less.

    Where the source is flat, what was added is scaled so that the local standard deviation of fine luma detail
    becomes the wanted one. A surface whose own texture is stronger keeps it, and gains a fifth at most.

    Args:
        refined: [B, 3, H, W].
        source: Likewise; says which surfaces are flat.
        levels: Wanted standard deviation of luma detail per picture, in [0, 1] units as 8-bit photos have it.
        share: 0 changes nothing, 1 matches.
        noise: [B, 3, H, W] standard normal, for surfaces on which there is nothing to scale up.
    """
    rough = roughness(source)
    flat = ((ROUGH - rough) / (ROUGH - FLAT)).clamp(0, 1)
    wanted = torch.tensor(levels, device=refined.device, dtype=refined.dtype)[:, None, None, None] ** 2
    # Rounding to 8 bits comes last and adds its own; a render has been through it once already.
    own = (_mean(_SMOOTHEST * rough * rough, flat) - _QUANTISED).clamp_min(0)
    room = torch.maximum(wanted - _QUANTISED - own, _GAINS * own).clamp_min(0)
    # A little grain under everything, so that no gain has to lift a surface out of nothing.
    grain = blur(noise, _GRAIN_RADIUS) / _grain_deviation()
    added = refined - source + 0.3 * room.sqrt() * grain
    gain = (room / _variance(luma_of(added), flat).clamp_min(1e-10)).sqrt().clamp(0, 3)
    return refined + share * flat * (source + gain * added - refined)


def flatness(source: torch.Tensor) -> torch.Tensor:
    """[B, 1, H, W] in [0, 1]: 1 on flat surfaces right up to their edges, 0 on edges and texture."""
    return ((ROUGH - roughness(source)) / (ROUGH - FLAT)).clamp(0, 1)


def roughness(source: torch.Tensor) -> torch.Tensor:
    """[B, 1, H, W] deviation of luma from its linear shading in the smoothest 5x5 patch that holds the pixel.

    The smoothest of several patches, as in Kuwahara's filter (1976), so that a wall does not count as rough
    beside its corner.
    """
    reach = _PATCH // 2
    luma = luma_of(source)
    luma = luma - luma.mean((2, 3), keepdim=True)
    padded = pad(luma, (2 * reach,) * 4, mode="replicate")
    line = torch.arange(-reach, reach + 1, device=luma.device, dtype=luma.dtype)
    ones = torch.ones_like(line)
    kernels = torch.stack([torch.outer(ones, ones), torch.outer(ones, line), torch.outer(line, ones)]) / _PATCH**2
    mean, across, down = conv2d(padded, kernels[:, None]).split(1, dim=1)
    slope = float((line * line).mean())
    square = conv2d(padded * padded, kernels[:1, None])
    rest = (square - mean * mean - (across * across + down * down) / slope).clamp_min(0)
    return (-max_pool2d(-rest, _PATCH, stride=1)).clamp_min(0).sqrt()


def texture(source: torch.Tensor) -> torch.Tensor:
    """[B, 1, H, W] geometric mean of `roughness` and of the deviation of fine detail around the pixel.

    Far from edges both say the same; beside an edge the second alone is large.
    """
    luma = luma_of(source)
    fine = luma - blur(luma, DETAIL_RADIUS)
    around = blur(fine * fine, _NEAR).sqrt()
    return (roughness(source).clamp_min(_LEAST) * around.clamp_min(_LEAST)).sqrt()


def luma_of(images: torch.Tensor) -> torch.Tensor:
    """[B, 1, H, W] of [B, 3, H, W]."""
    return sum(weight * images[:, c : c + 1] for c, weight in enumerate(_LUMA))  # type: ignore[return-value]


def blur(images: torch.Tensor, radius: float) -> torch.Tensor:
    """Gaussian of standard deviation `radius` pixels; edges are continued, so any size goes in."""
    kernel = torch.tensor(_gaussian(radius), device=images.device, dtype=images.dtype)
    reach = len(kernel) // 2
    planes = images.flatten(0, 1)[:, None]
    across = conv2d(pad(planes, (reach, reach, 0, 0), mode="replicate"), kernel[None, None, None])
    both = conv2d(pad(across, (0, 0, reach, reach), mode="replicate"), kernel[None, None, :, None])
    return both[:, 0].unflatten(0, images.shape[:2])


@lru_cache(maxsize=32)
def _gaussian(radius: float) -> tuple[float, ...]:
    reach = math.ceil(3 * radius)
    weights = [math.exp(-0.5 * (i / radius) ** 2) for i in range(-reach, reach + 1)]
    return tuple(weight / sum(weights) for weight in weights)


def grain_levels(photos: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """[N] standard deviations of luma detail of the photos where the source is flat, every 4th pixel each way."""
    flat = (roughness(source) <= FLAT / 2).to(photos.dtype)
    return _variance(luma_of(photos), flat)[..., ::4, ::4][flat[..., ::4, ::4] > 0].sqrt()


def _variance(luma: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Local variance of detail finer than 2 pixels, by normalised convolution: only what is in `where` counts."""
    weight = blur(where, DETAIL_RADIUS).clamp_min(1e-4)
    fine = (luma - blur(luma * where, DETAIL_RADIUS) / weight) * where
    return _mean(fine * fine, where)


def _mean(planes: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Local mean over what is in `where`."""
    return blur(planes * where, _WINDOW) / blur(where, _WINDOW).clamp_min(1e-4)


@lru_cache(maxsize=1)
def _grain_deviation() -> float:
    """Standard deviation of luma of blurred unit noise, from the kernel's own energy."""
    energy = sum(weight * weight for weight in _gaussian(_GRAIN_RADIUS))
    return energy * math.sqrt(sum(weight * weight for weight in _LUMA))

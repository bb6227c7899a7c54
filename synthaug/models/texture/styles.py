"""A generator that is told at every resolution in which style to go on, and starts from noise; all of it wraps.

Karras, Laine and Aila, "A style-based generator architecture" (CVPR 2019), with the weight demodulation and the skip
connections of Karras et al., "Analyzing and improving the image quality of StyleGAN" (CVPR 2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

START = 16
"""Channels of the noise from which a tile starts, so that its structure has no place of its own."""
SLOPE = 0.2
_GAIN = math.sqrt(2)
"""Keeps the size of what the bent lines of `leaky_relu` let through."""


class Mapping(nn.Module):
    """Styles from normal noise, and from what else is told."""

    def __init__(self, style: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(style if i else 2 * style, style) for i in range(layers))

    def forward(self, latent: Tensor, told: Tensor) -> Tensor:
        """[B, style] of [B, style] each."""
        found = torch.cat([_normed(latent), _normed(told)], 1)
        for layer in self.layers:
            found = F.leaky_relu(layer(found), SLOPE) * _GAIN
        return found


class Modulated(nn.Module):
    """A circular convolution whose input channels a style weighs; demodulated, the output keeps its size."""

    def __init__(self, given: int, made: int, style: int, kernel: int, *, demodulate: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(made, given, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(made))
        self.style = nn.Linear(style, given)
        nn.init.normal_(self.style.weight, std=1 / math.sqrt(style))
        nn.init.ones_(self.style.bias)
        self.scale, self.demodulate, self.reach = 1 / math.sqrt(given * kernel**2), demodulate, kernel // 2

    def forward(self, maps: Tensor, style: Tensor) -> Tensor:
        weight, weighed = self.weight * self.scale, self.style(style)
        # Scaling inputs and outputs is the same as weights of each tile's own, and one convolution for all of them.
        found = F.conv2d(around(maps * weighed[:, :, None, None], self.reach), weight)
        if self.demodulate:
            energy = weighed.square() @ weight.square().sum((2, 3)).T
            found = found * energy.add(1e-8).rsqrt()[:, :, None, None]
        return found + self.bias[:, None, None]


class _Noisy(nn.Module):
    """A modulated convolution, noise in strengths that are learnt, and a bend."""

    def __init__(self, given: int, made: int, style: int) -> None:
        super().__init__()
        self.convolution = Modulated(given, made, style, 3)
        self.strength = nn.Parameter(torch.zeros(made, 1, 1))

    def forward(self, maps: Tensor, style: Tensor, noise: Tensor, *, larger: bool = False) -> Tensor:
        found = self.convolution(maps, style)
        found = doubled(found) if larger else found
        return F.leaky_relu(found + self.strength * noise, SLOPE) * _GAIN


class Generator(nn.Module):
    """From a learnt tile of few cells to pictures at all resolutions; each adds detail to the one before it."""

    def __init__(self, channels: Sequence[int], style: int, cells: int) -> None:
        super().__init__()
        self.cells = cells
        before = (START, *channels)
        self.first = nn.ModuleList(_Noisy(a, b, style) for a, b in zip(before, channels, strict=False))
        self.second = nn.ModuleList(_Noisy(b, b, style) for b in channels)
        self.colours = nn.ModuleList(Modulated(b, 3, style, 1, demodulate=False) for b in channels)

    def shapes(self, doublings: int, times: float) -> list[tuple[int, int, int]]:
        """Of the noise inputs of a tile: where it starts, then two for each resolution."""
        sides = [int(self.cells * times) << level for level in range(doublings + 1)]
        return [(START, sides[0], sides[0]), *((1, side, side) for side in sides for _ in range(2))]

    def forward(self, styles: Sequence[Tensor], noise: Sequence[Tensor], shown: float) -> list[Tensor]:
        """Pictures, the smallest first; `shown` of the detail of the last."""
        maps, pictures = noise[0], list[Tensor]()
        for level, style in enumerate(styles):
            maps = self.first[level](maps, style, noise[2 * level + 1], larger=level > 0)
            maps = self.second[level](maps, style, noise[2 * level + 2])
            colours = self.colours[level](maps, style)
            share = shown if level == len(styles) - 1 else 1.0
            pictures.append(doubled(pictures[-1]) + share * colours if pictures else colours)
        return pictures


def doubled(maps: Tensor) -> Tensor:
    """Twice the side, bilinear, around the torus."""
    larger = F.interpolate(around(maps, 1), scale_factor=2, mode="bilinear", align_corners=False)
    return larger[:, :, 2:-2, 2:-2]


def around(maps: Tensor, reach: int) -> Tensor:
    """Wrapped to all sides."""
    return F.pad(maps, (reach,) * 4, mode="circular") if reach else maps


def _normed(latent: Tensor) -> Tensor:
    return latent * latent.square().mean(1, keepdim=True).add(1e-8).rsqrt()

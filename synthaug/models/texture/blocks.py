"""Layers that several families share: diffusers' residual block made to wrap, and pyramids of it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from synthaug.models.texture.family import wrapping

_GROUP = 8
"""Channels per group of the norms."""


def residual(into: int, out: int, embedding: int | None = None) -> Any:
    """A residual block of diffusers that wraps; called with maps and, where `embedding` is given, [B, embedding]."""
    from diffusers.models.resnet import ResnetBlock2D

    sizes: dict[str, Any] = {
        "in_channels": into,
        "out_channels": out,
        "temb_channels": embedding,
        "groups": max(into // _GROUP, 1),
        "groups_out": max(out // _GROUP, 1),
        "time_embedding_norm": "scale_shift" if embedding else "default",
    }
    return wrapping(ResnetBlock2D(**sizes))


def convolution(into: int, out: int, size: int = 3) -> nn.Conv2d:
    """A convolution that wraps and keeps the size."""
    return nn.Conv2d(into, out, size, padding=size // 2, padding_mode="circular" if size > 1 else "zeros")


def halved(maps: Tensor) -> Tensor:
    """Means of 2 x 2."""
    return nn.functional.avg_pool2d(maps, 2)


def doubled(maps: Tensor) -> Tensor:
    """Every place four times: convolutions after it do the rest, and nothing looks over the border."""
    return nn.functional.interpolate(maps, scale_factor=2.0, mode="nearest")


class Pyramid(nn.Module):
    """Maps of pictures at a half, a quarter, an eighth ... of their size, finest first.

    Args:
        channels: Of each level; there are as many levels as numbers.
        into: Channels of the pictures.
    """

    def __init__(self, channels: list[int], into: int = 3) -> None:
        super().__init__()
        self.fold = nn.PixelUnshuffle(2)
        self.first = convolution(4 * into, channels[0])
        before = [channels[0], *channels[:-1]]
        self.levels = nn.ModuleList(residual(a, b) for a, b in zip(before, channels, strict=True))

    def forward(self, images: Tensor) -> list[Tensor]:
        """[B, into, S, S] to as many maps as there are levels."""
        maps = self.first(self.fold(images))
        found: list[Tensor] = []
        for number, level in enumerate(self.levels):
            maps = level(halved(maps) if number else maps, None)
            found.append(maps)
        return found


class Out(nn.Module):
    """From maps at half the size to pictures, whose colour and contrast a style says.

    Norms on the way take both out of the maps; without this short path a network is long in putting them back.

    Args:
        channels: Of the maps.
        style: Numbers in the style vector.
    """

    def __init__(self, channels: int, style: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(max(channels // _GROUP, 1), channels)
        self.conv = convolution(channels, 12)
        self.unfold = nn.PixelShuffle(2)
        self.look = nn.Linear(style, 6)

    def forward(self, maps: Tensor, style: Tensor) -> Tensor:
        """[B, 3, 2 H, 2 W]."""
        pictures = self.unfold(self.conv(nn.functional.silu(self.norm(maps))))
        colour, contrast = self.look(style)[:, :, None, None].chunk(2, 1)
        return pictures * (contrast - 1).exp() + colour


def start_at_zero(layer: nn.Conv2d | nn.Linear) -> Any:
    """The layer, with weights and biases of zero: what it is added to is at first left alone."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer

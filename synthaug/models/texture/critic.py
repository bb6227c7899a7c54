"""A critic of patches: is this a real surface? It sees a few dozen pixels at a time and wraps."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from synthaug.models.texture.blocks import convolution

_SLOPE = 0.2


class Critic(nn.Module):
    """Convolutions with spectral norms (Miyato et al., ICLR 2018), after the PatchGAN of Isola et al. (CVPR 2017).

    Args:
        width: Channels at half the side; twice as many at a quarter, and at an eighth.
        into: Channels of the pictures.
        classes: 0 for none; otherwise a projection of the class is added (Miyato and Koyama, ICLR 2018).
    """

    def __init__(self, width: int, into: int = 3, classes: int = 0) -> None:
        super().__init__()
        widths = (4 * into, width, 2 * width, 2 * width)
        self.fold = nn.PixelUnshuffle(2)
        self.layers = nn.ModuleList(spectral_norm(convolution(a, b)) for a, b in pairwise(widths))
        self.last = spectral_norm(convolution(widths[-1], 1))
        self.embed = nn.Embedding(classes, widths[-1]) if classes else None

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """[B, 1, S/8, S/8] opinions of [B, into, S, S]: positive is real."""
        maps = self.fold(images)
        for number, layer in enumerate(self.layers):
            maps = nn.functional.avg_pool2d(maps, 2) if number else maps
            maps = nn.functional.leaky_relu(layer(maps), _SLOPE)
        found = self.last(maps)
        if self.embed is not None and labels is not None:
            found = found + (self.embed(labels)[:, :, None, None] * maps).mean(1, keepdim=True)
        return found


def hinge(real: Tensor, made: Tensor) -> Tensor:
    """What a critic goes down (Lim and Ye, "Geometric GAN", 2017); a generator goes down the mean of `-made`."""
    return nn.functional.relu(1 - real).mean() + nn.functional.relu(1 + made).mean()

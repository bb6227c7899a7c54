"""Pictures as maps of a cosine basis over small blocks, each band in units of its own spread."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_MEMORY = 0.02
"""Weight of a new batch in the running figures of the bands."""


class Bands(nn.Module):
    """Blocks of pixels in an orthonormal basis: cosines down and across.

    Fine detail of a picture is a tenth of its coarse forms. Diffusion drowns both in the same noise, and finds detail
    again in its very last steps only; where every band has spread 1, all of them are found together (Guth et al.,
    "Wavelet score-based generative modeling", NeurIPS 2022, for wavelets).

    Args:
        side: Of a block.
    """

    mean: Tensor
    power: Tensor
    basis: Tensor

    def __init__(self, side: int) -> None:
        super().__init__()
        self.channels = 3 * side**2
        self.fold, self.unfold = nn.PixelUnshuffle(side), nn.PixelShuffle(side)
        block = _cosines(side)
        basis = torch.kron(torch.eye(3), torch.kron(block, block))
        self.register_buffer("basis", basis[:, :, None, None], persistent=False)
        self.register_buffer("mean", torch.zeros(1, self.channels, 1, 1))
        self.register_buffer("power", torch.ones(1, self.channels, 1, 1))

    def learn(self, images: Tensor) -> None:
        """Takes a batch into the running means and powers."""
        with torch.no_grad():
            maps = self._turned(images)
            self.mean.lerp_(maps.mean((0, 2, 3), keepdim=True), _MEMORY)
            self.power.lerp_((maps - self.mean).square().mean((0, 2, 3), keepdim=True), _MEMORY)

    def forward(self, images: Tensor) -> Tensor:
        """[B, channels, S/side, S/side] of [B, 3, S, S]."""
        return (self._turned(images) - self.mean) / self._spread()

    def back(self, maps: Tensor) -> Tensor:
        """The pictures again."""
        plain = maps * self._spread() + self.mean
        return self.unfold(nn.functional.conv2d(plain, self.basis.transpose(0, 1)))

    def _turned(self, images: Tensor) -> Tensor:
        # In full precision: what is exact here is exact in every sample.
        with torch.autocast(images.device.type, enabled=False):
            return nn.functional.conv2d(self.fold(images.float()), self.basis)

    def _spread(self) -> Tensor:
        return (self.power + 1e-6).sqrt()


def _cosines(count: int) -> Tensor:
    """[count, count] orthonormal rows: the discrete cosine transform."""
    at = torch.arange(count)
    rows = torch.cos(torch.pi / count * at[:, None] * (at[None, :] + 0.5))
    return rows / rows.norm(dim=1, keepdim=True)

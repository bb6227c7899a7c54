"""What makes two tiles the same texture: products of random filters' answers, on every scale, wherever they stand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_SIZE = 7


class Statistics(nn.Module):
    """Gram matrices of rectified random filters.

    Gatys, Ecker and Bethge, "Texture synthesis using convolutional neural networks" (NeurIPS 2015), without a trained
    network: Ustyuzhaninov et al., "What does it take to generate natural textures?" (ICLR 2017) show that random
    filters of one layer do, on several scales. The filters are always the same and are not saved.

    Args:
        filters: Of 7 x 7 pixels, per scale; each counts with both signs.
        scales: Pictures at the full size, at a half, ... as long as a filter fits in.
    """

    def __init__(self, filters: int = 16, scales: int = 4) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        bank = torch.randn(filters, 3, _SIZE, _SIZE, generator=rng)
        # Half of them see brightness alone: that is where most of the structure is.
        bank[::2] = bank[::2].mean(1, keepdim=True)
        bank = bank - bank.mean((1, 2, 3), keepdim=True)
        self.register_buffer("bank", bank / bank.flatten(1).norm(dim=1)[:, None, None, None], persistent=False)
        self.scales = scales

    bank: Tensor

    def forward(self, images: Tensor) -> list[Tensor]:
        """[B, C, C] for each scale, of pictures [B, 3, S, S] that wrap."""
        found: list[Tensor] = []
        for scale in range(self.scales):
            images = nn.functional.avg_pool2d(images, 2) if scale else images
            if images.shape[-1] < _SIZE:
                break
            margin = _SIZE // 2
            wide = nn.functional.pad(images, (margin,) * 4, mode="circular")
            answers = nn.functional.conv2d(wide, self.bank)
            maps = torch.cat([answers.relu(), (-answers).relu(), images + 1, torch.ones_like(images[:, :1])], 1)
            flat = maps.flatten(2)
            found.append(flat @ flat.transpose(1, 2) / flat.shape[2])
        return found

    def distance(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """[B] mean relative difference of statistics: 0 for a tile and itself, rolled by a multiple of 8 or not."""
        pairs = zip(self(ours), self(theirs), strict=True)
        parts = [(a - b).abs().mean((1, 2)) / (b.abs().mean((1, 2)) + 0.02) for a, b in pairs]
        return torch.stack(parts).mean(0)

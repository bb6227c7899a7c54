"""Models that look at squares and paint squares of one side: whole pictures are squeezed in, and results stretched.

Squeezed rather than cropped or mirrored out, so that all of the picture is seen and all of the result is kept; what is
lost are proportions (a wide picture is painted narrow, then widened) and whatever is finer than the model's side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def squeezed(images: Tensor, extractor: Any) -> Tensor:
    """Whole pictures [B, 3, H, W] as [B, 3, S, S], of the side that a CLIP processor would crop to."""
    sides = dict(extractor.size)
    side = int(sides.get("shortest_edge") or sides["height"])
    return resized(images, side, side)


def resized(images: Tensor, height: int, width: int) -> Tensor:
    """[B, 3, H, W] in [0, 1] as [B, 3, height, width], bicubic, low-passed where it shrinks; itself where it fits."""
    from torch.nn.functional import interpolate

    if images.shape[-2:] == (height, width):
        return images
    return interpolate(images, (height, width), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)

"""What must not change is pasted back: the input's own values, and a measure of the seam that this leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.refine.arrays import where

Bools = NDArray[np.bool_]
Float32 = NDArray[np.float32]

LEVELS = 255.0


def coverage(never: Bools, feather: float) -> Float32:
    """How much of the input shows at each pixel: 1 in the region, and only there; a raised cosine outside of it.

    Args:
        never: [H, W], true where the output has to be the input.
        feather: Pixels over which the input fades out, outside of the region alone; less than half of one is none.

    Returns:
        [H, W] float32 in [0, 1]; less than 1 everywhere outside.
    """
    if feather < 0.5 or not never.any() or never.all():
        return never.astype(np.float32)
    distance = cv2.distanceTransform((~never).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # Half a pixel lies between a centre and the region's border.
    ramp = 0.5 + 0.5 * np.cos(np.pi * np.clip((distance - 0.5) / feather, 0, 1))
    return np.where(never, 1, np.minimum(ramp, 1 - 1e-4)).astype(np.float32)


def paste(painted: Any, source: Any, shares: Any) -> Any:
    """The input over what was painted. Bits of the input where the share is 1, whatever was painted there.

    Args:
        painted: [B, 3, H, W]; NaN outside of the regions stays, so that the picture is still rejected.
        source: [B, 3, H, W], the input of the stage.
        shares: [B, 1, H, W] from `coverage`, of the same type and device as the pictures.
    """
    blended = where(shares > 0, painted + (source - painted) * shares, painted)
    return where(shares >= 1, source, blended)


def weakened(painted: Any, source: Any, strength: Any) -> Any:
    """The input and a share of what was changed. Bits of what was painted where that is all of it.

    Args:
        painted: [B, 3, H, W].
        source: [B, 3, H, W], the input of the stage.
        strength: [B, 1, H, W] in [0, 1], of the same type and device as the pictures.
    """
    return where(strength >= 1, painted, source + (painted - source) * strength)


def seam(images: Any, shares: Any) -> Any:
    """Mean colour difference across the border of the regions, in 8-bit levels.

    Over all pairs of neighbours of which one is in the region (share 1) and one is not. Compare it with the seam
    of the input itself: a region is mostly an object, and has an edge there already.

    Args:
        images: [B, 3, H, W] in [0, 1].
        shares: [B, 1, H, W] from `coverage`.

    Returns:
        [B], of the same type; 0 where a picture has no such border. No wait for the device.
    """
    inside = shares >= 1
    total, pairs = 0, 0
    for one, other in (
        ((..., slice(1, None), slice(None)), (..., slice(None, -1), slice(None))),
        ((..., slice(None), slice(1, None)), (..., slice(None), slice(None, -1))),
    ):
        crossed = inside[one] ^ inside[other]
        difference = abs(images[one] - images[other])
        total = total + where(crossed, difference, difference * 0).sum((1, 2, 3))
        pairs = pairs + crossed.sum((1, 2, 3))
    return LEVELS * total / (3 * (pairs + (pairs == 0)))


def ring(painted: Any, source: Any, shares: Any) -> Any:
    """Mean |change| of pixels right outside the regions, in 8-bit levels: the jump that feathering has to hide.

    Args:
        painted: [B, 3, H, W], before the input is pasted back.
        source: [B, 3, H, W], the input.
        shares: [B, 1, H, W] from `coverage` with a feather above 0; the ring is where they lie between 0 and 1.

    Returns:
        [B], of the same type; 0 where there is no ring. No wait for the device.
    """
    around = (shares > 0) & (shares < 1)
    change = abs(painted - source)
    pixels = around.sum((1, 2, 3))
    return LEVELS * where(around, change, change * 0).sum((1, 2, 3)) / (3 * (pixels + (pixels == 0)))


def facts(after: Sequence[float], before: Sequence[float], rings: Sequence[float]) -> list[dict[str, float]]:
    """For the trail, one per picture: the seam in the output and in the input, and what was painted around it."""
    rows = zip(after, before, rings, strict=True)
    names = ("seam", "seam_before", "ring_change")
    return [{name: round(float(value), 4) for name, value in zip(names, row, strict=True)} for row in rows]

"""Whether two textures look the same: a small picture of their colours and the signs of its gradients.

The colours are those of an 8x8 grid in OKLab, averaged in linear light. The gradients are taken on a 16x16
grid, along rows and columns and across the wrap (dHash, after Krawetz, 2013, on a finer grid). Re-encoding,
resizing and small changes of tone keep both; another crop, turn or roll of the same surface does not, and
counts as another texture.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.texture.oklab import oklab_from_linear
from synthaug.transfer import linear_from_srgb

NEAR_COLOUR = 0.01
"""Mean difference in OKLab over the 8x8 grid, at most."""
NEAR_GRADIENTS = 0.1
"""Share of the rises of either that are no rises of the other, at most. Unrelated textures have about two thirds."""
_GRID, _COLOURS = 16, 8
_SCALES = np.array([127.0, 300.0, 300.0])
_COLOUR_BYTES = 3 * _COLOURS**2
LENGTH = _COLOUR_BYTES + 2 * _GRID**2 // 8
_FLAT = 2e-4
"""Steps of lightness below this carry no sign: rounding would decide it."""
_LINEAR = linear_from_srgb(np.arange(256, dtype=np.float32) / 255)
_LARGEST = 1024


def means(pixels: NDArray[np.uint8], opacity: NDArray[np.uint8] | None = None) -> NDArray[np.float64]:
    """Means of a 16x16 grid in linear light, [16, 16, 3].

    Args:
        pixels: sRGB [H, W, 3], sides of at least 16 pixels.
        opacity: [H, W], 0 to 255; what is see-through counts as the mean of the rest.
    """
    if max(pixels.shape[:2]) > _LARGEST:
        scale = _LARGEST / max(pixels.shape[:2])
        size = (max(_GRID, round(pixels.shape[1] * scale)), max(_GRID, round(pixels.shape[0] * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
        opacity = None if opacity is None else cv2.resize(opacity, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    linear = _LINEAR[pixels]
    if opacity is None:
        return cv2.resize(linear, (_GRID, _GRID), interpolation=cv2.INTER_AREA).astype(np.float64)
    weight = (opacity.astype(np.float32) / 255)[:, :, None]
    mean = (linear * weight).sum((0, 1), dtype=np.float64) / max(float(weight.sum(dtype=np.float64)), 1e-9)
    over = linear * weight + mean.astype(np.float32) * (1 - weight)
    return cv2.resize(over, (_GRID, _GRID), interpolation=cv2.INTER_AREA).astype(np.float64)


def mean_colour(grid: NDArray[np.float64]) -> tuple[float, float, float]:
    """OKLab of the mean of `means`, rounded to 1e-4."""
    lab = oklab_from_linear(grid.mean((0, 1)))
    return round(float(lab[0]), 4), round(float(lab[1]), 4), round(float(lab[2]), 4)


def fingerprint(grid: NDArray[np.float64]) -> bytes:
    """`LENGTH` bytes to compare a texture by, from its `means`."""
    side = _GRID // _COLOURS
    coarse = oklab_from_linear(grid.reshape(_COLOURS, side, _COLOURS, side, 3).mean((1, 3)))
    colours = np.clip(np.rint(coarse * _SCALES), -127, 127).astype(np.int8)
    lightness = oklab_from_linear(grid)[:, :, 0]
    rises = [np.roll(lightness, -1, axis) - lightness > _FLAT for axis in (0, 1)]
    return colours.tobytes() + np.packbits(np.stack(rises)).tobytes()


def differences(one: bytes, others: Sequence[bytes]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Difference of colours (OKLab) and of gradients (share) from one fingerprint to each of the others.

    Gradients are compared as sets of rises (Jaccard's distance): large plain regions, which have none, say nothing.

    About 1 microsecond for each of the others.
    """
    table = np.frombuffer(b"".join(others), np.uint8).reshape(-1, LENGTH)
    mine = np.frombuffer(one, np.uint8)
    colours = table[:, :_COLOUR_BYTES].view(np.int8).reshape(-1, _COLOURS**2, 3) / _SCALES
    steps = colours - mine[:_COLOUR_BYTES].view(np.int8).reshape(1, _COLOURS**2, 3) / _SCALES
    rises = table[:, _COLOUR_BYTES:]
    flips = np.bitwise_count(rises ^ mine[_COLOUR_BYTES:]).sum(1)
    either = np.bitwise_count(rises | mine[_COLOUR_BYTES:]).sum(1)
    return np.linalg.norm(steps, axis=2).mean(1), flips / np.maximum(either, 1)


def nearest(one: bytes, others: Sequence[bytes]) -> int | None:
    """Index of the most similar of the others that counts as the same picture; None where none does."""
    if not others:
        return None
    colours, gradients = differences(one, others)
    score = np.maximum(colours / NEAR_COLOUR, gradients / NEAR_GRADIENTS)
    best = int(np.argmin(score))
    return best if score[best] <= 1 else None

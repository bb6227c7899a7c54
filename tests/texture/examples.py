"""Crops whose answer is known, made here: grain, bricks, stripes."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


def grain(side: int = 96, seed: int = 0, spread: float = 1.5) -> Float32:
    """[side, side, 3] of smooth noise whose channels depend on each other."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.standard_normal((side, side, 3)).astype(np.float32), (0, 0), spread)
    mixed = noise / noise.std() @ np.array([[1, 0.8, 0.5], [0, 0.4, 0.2], [0, 0, 0.3]], np.float32)
    return np.clip(0.5 + 0.12 * mixed, 0, 1).astype(np.float32)


def bricks(
    side: int = 96, period: tuple[int, int] = (16, 24), seed: int = 0, offset: tuple[int, int] = (0, 0)
) -> Float32:
    """[side, side, 3]: a running bond whose period is two courses by one brick, with mortar and a little grain."""
    y, x = np.mgrid[:side, :side]
    y, x = y + offset[0], x + offset[1]
    course = period[0] // 2
    mortar = (y % course < 2) | ((x + (y // course % 2) * (period[1] // 2)) % period[1] < 2)
    colour = np.where(mortar[..., None], np.array([0.8, 0.8, 0.75]), np.array([0.6, 0.25, 0.2]))
    noise = np.random.default_rng(seed).normal(0, 0.02, (side, side, 1))
    return np.clip(colour + noise, 0, 1).astype(np.float32)

"""What every synthesis of a tile shares: the sizes it makes, and the roll to a calm wrap at its end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthaug.errors import ConfigError
from synthaug.labels import Size
from synthaug.metrics.texture import SMALLEST

Float32 = NDArray[np.float32]
LARGEST = 16384


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """What a model has made.

    Attributes:
        seed: Of this tile.
        pixels: [H, W, 3] sRGB in [0, 1]; None where there is a reason.
        reason: Why it was not taken: `safety`, `nonfinite`; empty where it was.
    """

    seed: int
    pixels: Float32 | None
    reason: str = ""


def check_size(size: Size) -> None:
    """Raises `ConfigError` for a tile that has a side under 16 pixels or over 16,384."""
    if len(size) != 2 or not all(SMALLEST <= side <= LARGEST for side in size):
        raise ConfigError(f"size={size}: expected (height, width), each {SMALLEST} to {LARGEST} pixels")


def settled(tile: Float32) -> Float32:
    """The tile rolled so that it wraps between the two rows, and the two columns, that differ least.

    A tile on a torus has no first row, so the choice is free. Taken at random, the wrap can fall on a mortar line:
    no seam, but a reader that clamps instead of wrapping would smear it, and any measure of seams would wonder.
    """
    for axis in (0, 1):
        other = tuple(a for a in range(tile.ndim) if a != axis)
        steps = np.abs(np.roll(tile, 1, axis) - tile).mean(other)
        tile = np.roll(tile, -int(steps.argmin()), axis)
    return tile

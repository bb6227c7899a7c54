"""Whether a picture can be repeated without a seam."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SEAMLESS = 1.05
"""Seam energy up to which nothing is seen."""
_USUAL = 0.02
"""Share of the steps inside that must be as large as the one across the wrap: tiles with grout, planks with gaps."""
_TINY = 1e-6


def seam(pixels: NDArray[np.uint8]) -> tuple[float, bool]:
    """Seam energy of a picture [H, W] or [H, W, C], and whether it repeats.

    Seam energy is the mean absolute step across the wrap over the mean step between neighbours inside, the worse
    of both directions; rounded to 1e-3, at most 1000. A picture repeats where that is at most `SEAMLESS`, or where
    lines with as large a step are usual inside (joints of tiles and boards that end at the border). A picture with
    a plain border repeats as well: atlases do, though nobody should repeat them.
    """
    results = [_along(pixels, axis) for axis in (0, 1)]
    return min(round(max(r[0] for r in results), 3), 1000.0), all(r[1] for r in results)


def _along(pixels: NDArray[np.uint8], axis: int) -> tuple[float, bool]:
    lines = np.moveaxis(pixels, axis, 0)
    steps = np.array([_step(a, b) for a, b in zip(lines[1:], lines[:-1], strict=True)])
    across = _step(lines[0], lines[-1])
    energy = across / max(float(steps.mean()), _TINY)
    return energy, energy <= SEAMLESS or float((steps >= across).mean()) >= _USUAL


def _step(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(np.abs(one.astype(np.int16) - other).mean())

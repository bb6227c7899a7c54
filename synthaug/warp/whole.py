"""Motions by whole pixels: crops, flips, quarter turns. They copy bytes and compute nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.warp.motion import Warp

Pixels = NDArray[Any]

_WHOLE = 1e-6


@dataclass(frozen=True, slots=True)
class Turn:
    """A motion by whole pixels: transpose, then flips, then a shift. Moves bytes, computes nothing.

    Attributes:
        transposed: Rows become columns, first of all.
        flip_y: Then top and bottom change places.
        flip_x: Likewise left and right.
        left: Column of the target where the first column of the result lands; may be negative.
        top: Likewise the row.
    """

    transposed: bool
    flip_y: bool
    flip_x: bool
    left: int
    top: int

    def move(self, values: Pixels, size: tuple[int, int], outside: float | None = 0) -> Pixels | None:
        """[H, W, ...] values on the target canvas, as a fresh array.

        Args:
            values: On the source canvas.
            size: (height, width) of the target.
            outside: What uncovered pixels hold; None to get None back where there are any.
        """
        turned = values.swapaxes(0, 1) if self.transposed else values
        turned = turned[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]
        y0, x0 = max(self.top, 0), max(self.left, 0)
        y1, x1 = min(self.top + turned.shape[0], size[0]), min(self.left + turned.shape[1], size[1])
        whole = (y0, x0, y1, x1) == (0, 0, *size)
        if not whole and outside is None:
            return None
        out = np.empty((*size, *values.shape[2:]), values.dtype)
        if not whole:
            out[...] = outside
        if y1 > y0 and x1 > x0:
            part = turned[y0 - self.top : y1 - self.top, x0 - self.left : x1 - self.left]
            out[y0:y1, x0:x1] = part
        return out


def whole_pixels(warp: Warp) -> Turn | None:
    """The warp as a motion by whole pixels (crops, flips, quarter turns), or None."""
    if not warp.is_homography:
        return None
    matrix = warp.matrix
    rounded = np.rint(matrix)
    if np.abs(matrix - rounded).max() > _WHOLE or np.abs(matrix[:, :2] - rounded[:, :2]).max() > _WHOLE / 1e4:
        return None
    (a, b, x), (c, d, y), bottom = rounded.astype(int).tolist()
    height, width = warp.source
    if bottom != [0, 0, 1]:
        return None
    if abs(a) == 1 and abs(d) == 1 and b == c == 0:
        return Turn(False, d < 0, a < 0, x if a > 0 else x - width, y if d > 0 else y - height)
    if abs(b) == 1 and abs(c) == 1 and a == d == 0:
        return Turn(True, c < 0, b < 0, x if b > 0 else x - height, y if c > 0 else y - width)
    return None

"""Where the pixels of a canvas look, as OpenCV wants to be told: by a matrix, or by two maps.

OpenCV counts from pixel centres at whole numbers, so half a pixel is taken off at this door. A homography
goes in as a matrix wherever its horizon leaves the canvas alone: no maps to compute, to store and to read
again for every pass. Both ways agree to 2e-4 px at 512 px. The linear kernels of OpenCV 5 do not quantise
coordinates, and take four channels in half the time of three.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.errors import Rejected
from synthaug.labels import Size
from synthaug.warp.dense import LARGEST_SIDE
from synthaug.warp.motion import Warp
from synthaug.warp.steps import Border, Homography, homography_grid

Pixels = NDArray[Any]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_FAR = 30000.0
_HALF = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])


@dataclass(frozen=True, slots=True, eq=False)
class Sampling:
    """Source places of every pixel of a canvas.

    Attributes:
        size: (height, width) of the canvas.
        matrix: Canvas to source, both as OpenCV counts; or
        maps: [2, H, W] source x and y, finite: holes lie far outside.
    """

    size: Size
    matrix: Float64 | None
    maps: Float32 | None

    def sample(self, values: Pixels, how: int, border: Border = "constant") -> Pixels:
        """[H, W(, C)] values of the source on the canvas; `how` is an interpolation flag of OpenCV."""
        side = max(*values.shape[:2], *self.size)
        if side > LARGEST_SIDE:
            raise Rejected("warp", f"a side of {side} px; up to {LARGEST_SIDE} can be resampled, crop or tile first")
        mode = cv2.BORDER_CONSTANT if border == "constant" else cv2.BORDER_REFLECT
        values = np.ascontiguousarray(values)
        if self.maps is not None:
            return cv2.remap(values, self.maps[0], self.maps[1], how, borderMode=mode, borderValue=0)
        assert self.matrix is not None
        flags, size = how | cv2.WARP_INVERSE_MAP, (self.size[1], self.size[0])
        return cv2.warpPerspective(values, self.matrix, size, flags=flags, borderMode=mode, borderValue=0)

    def spots(self, pixels: NDArray[np.intp]) -> tuple[Float32, Float32]:
        """Source x and y, as OpenCV counts, of canvas pixels given by their place in the flattened canvas."""
        if self.maps is not None:
            return self.maps[0].reshape(-1)[pixels], self.maps[1].reshape(-1)[pixels]
        assert self.matrix is not None
        row, column = np.divmod(pixels, self.size[1])
        x, y, w = (a * column + (b * row + c) for a, b, c in self.matrix.tolist())
        return (x / w).astype(np.float32), (y / w).astype(np.float32)


def plain(warp: Warp) -> Sampling:
    """One sample per target pixel, at its centre."""
    return fine(warp, (1, 1), 0, warp.target[0])


def fine(warp: Warp, density: tuple[int, int], top: int, bottom: int) -> Sampling:
    """A grid of samples (down, across) inside every target pixel of the rows from `top` to `bottom`."""
    size = (bottom - top) * density[0], warp.target[1] * density[1]
    step = warp.steps[0]
    if not (warp.is_homography and isinstance(step, Homography)):
        planes = warp.planes if density == (1, 1) else _refined(warp, density, top, bottom)
        return Sampling(size, None, _finite(planes - np.float32(0.5)))
    shrink = np.array([[1 / density[1], 0, 0], [0, 1 / density[0], top], [0, 0, 1.0]])
    back = _HALF @ step.inverse @ shrink
    if np.abs(corners(warp)).max() < _FAR:
        return Sampling(size, back @ np.linalg.inv(_HALF), None)
    return Sampling(size, None, _finite(homography_grid(back, size)))


def corners(warp: Warp) -> Float64:
    """Source points [4, 2] seen at the corners of the target canvas; infinite where they are not visible.

    A homography whose horizon stays off the canvas is boldest there: no need to look inside.
    """
    height, width = warp.target
    points = warp.backward([(0, 0), (width, 0), (0, height), (width, height)])
    return np.where(np.isnan(points), np.inf, points)


def widened(values: Pixels) -> Pixels:
    """Two or three channels as four, which OpenCV blends in half the time and to the same bits."""
    if values.ndim == 2 or values.shape[2] not in (2, 3):
        return values
    if values.shape[2] == 3:
        return cv2.cvtColor(values, cv2.COLOR_RGB2RGBA)
    wide = np.zeros((*values.shape[:2], 4), values.dtype)
    wide[..., :2] = values
    return wide


def narrowed(values: Pixels, shape: Sequence[int]) -> Pixels:
    """The channels that an array of `shape` had before `widened`."""
    if len(shape) == 2 or shape[2] == values.shape[2]:
        return values
    return cv2.cvtColor(values, cv2.COLOR_RGBA2RGB) if shape[2] == 3 else np.ascontiguousarray(values[..., : shape[2]])


def _finite(planes: Float32) -> Float32:
    """Holes, and points near the horizon, go where no picture is; a reflection there means nothing anyway."""
    np.nan_to_num(planes, copy=False, nan=-_FAR)
    return np.clip(planes, -_FAR, 2 * _FAR, out=planes)


def _refined(warp: Warp, density: tuple[int, int], top: int, bottom: int) -> Float32:
    """A dense map refined between its centres; a row more on both sides keeps bands seamless."""
    first, last = max(top - 1, 0), min(bottom + 1, warp.target[0])
    size = (warp.target[1] * density[1], (last - first) * density[0])
    start = (top - first) * density[0]
    stop = start + (bottom - top) * density[0]
    planes = np.empty((2, stop - start, size[0]), np.float32)
    for plane, out in zip(warp.planes, planes, strict=True):
        out[...] = cv2.resize(plane[first:last], size, interpolation=cv2.INTER_LINEAR)[start:stop]
    return planes

"""Arrays through a warp: pictures anti-aliased, ids from the nearest pixel, whole-pixel motions exact."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.warp import sampling
from synthaug.warp.dense import LARGEST_SIDE
from synthaug.warp.motion import Warp
from synthaug.warp.sampling import Sampling
from synthaug.warp.steps import Border
from synthaug.warp.whole import whole_pixels

Pixels = NDArray[Any]
Float32 = NDArray[np.float32]

FINEST = 8
"""Samples per pixel along one axis, at most; a stronger minification aliases beyond them."""

_TOLERATED = 1.15
_NET = 10
_DOWN, _ACROSS = np.array([0.0, 0.5]), np.array([0.5, 0.0])
_BAND = 1 << 20


class Resampler:
    """One warp, ready to move arrays of its source canvas.

    Every method raises `Rejected` under `warp` when it would have to resample a side over
    `dense.LARGEST_SIDE`; motions by whole pixels have no such limit.

    Args:
        warp: The motion.
    """

    def __init__(self, warp: Warp) -> None:
        self.warp = warp
        self.turn = whole_pixels(warp)

    @cached_property
    def sampling(self) -> Sampling:
        """Where every target pixel looks."""
        return sampling.plain(self.warp)

    @cached_property
    def covered(self) -> NDArray[np.bool_] | None:
        """[H, W], whether the nearest source pixel exists; None where it does for the whole target."""
        if self.turn is not None:
            full = self.turn.move(np.empty((*self.warp.source, 0)), self.warp.target, None)
            if full is not None:
                return None
        elif _covers(self.warp):
            return None
        found = self.nearest(np.ones(self.warp.source, np.bool_))
        return None if found.all() else found

    def marked(self, where: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """`nearest` of a mask [H, W]; what is covered falls off it, where that is still unknown."""
        if self.turn is not None or "covered" in self.__dict__ or _covers(self.warp):
            return self.nearest(where)
        both = self.nearest(where.view(np.uint8) + np.uint8(1))
        self.__dict__["covered"] = None if both.all() else both.astype(np.bool_)
        return both > 1

    def nearest(self, values: Pixels) -> Pixels:
        """[H, W] values of 1 or 4 bytes from the nearest pixel, 0 outside. One rule for all id passes."""
        if self.turn is not None:
            moved = self.turn.move(values, self.warp.target)
            assert moved is not None
            return moved
        values = np.ascontiguousarray(values)
        plain = values.view(np.uint8 if values.dtype.itemsize == 1 else np.float32)
        return self.sampling.sample(plain, cv2.INTER_NEAREST).view(values.dtype)

    def linear(self, values: Float32) -> Float32:
        """[H, W(, C)] float32 between the four nearest pixels, blended with 0 at the outside. No prefilter."""
        wide = sampling.widened(values)
        return sampling.narrowed(self.sampling.sample(wide, cv2.INTER_LINEAR), values.shape)

    def picture(self, pixels: Pixels, border: Border = "constant") -> Pixels:
        """Pixels through the warp in one resampling, anti-aliased.

        Whole-pixel motions copy. Where the warp minifies, each target pixel averages a grid of samples (box
        filter over its footprint, up to `FINEST` by `FINEST`); a plain scaling down averages areas. Otherwise
        bilinear, with unquantised coordinates (OpenCV 5). Values are averaged as they are, without
        linearising sRGB.

        Args:
            pixels: [H, W, C] or [H, W], uint8 or float32.
            border: `constant`: black outside; `reflect`: the picture mirrored at its edges.

        Returns:
            Same dtype and channels on the target canvas.
        """
        if self.turn is not None:
            moved = self.turn.move(pixels, self.warp.target, 0 if border == "constant" else None)
            if moved is not None:
                return moved
        if self.density != (1, 1):
            window = shrunk_window(self.warp)
            if window is not None:
                x0, y0, x1, y1 = window
                return cv2.resize(pixels[y0:y1, x0:x1], self.warp.target[::-1], interpolation=cv2.INTER_AREA)
        wide = sampling.widened(pixels)
        if self.density == (1, 1):
            return sampling.narrowed(self.sampling.sample(wide, cv2.INTER_LINEAR, border), pixels.shape)
        return sampling.narrowed(self._supersampled(wide, border), pixels.shape)

    @cached_property
    def density(self) -> tuple[int, int]:
        """Samples per target pixel down and across that the minification calls for."""
        down, across = _steps(self.warp)
        return _samples(down), min(_samples(across), max(LARGEST_SIDE // self.warp.target[1], 1))

    def _supersampled(self, pixels: Pixels, border: Border) -> Pixels:
        """Bands of the target, sampled finely and averaged: memory stays that of a few rows."""
        height, width = self.warp.target
        out = np.empty((height, width, *pixels.shape[2:]), pixels.dtype)
        rows = max(1, _BAND // (width * self.density[0] * self.density[1]))
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            band = sampling.fine(self.warp, self.density, top, bottom)
            samples = band.sample(pixels, cv2.INTER_LINEAR, border)
            out[top:bottom] = cv2.resize(samples, (width, bottom - top), interpolation=cv2.INTER_AREA)
        return out


def picture(pixels: Pixels, warp: Warp, border: Border = "constant") -> Pixels:
    """One array of pixels through one warp; see `Resampler.picture`. Several share a `Resampler`."""
    return Resampler(warp).picture(pixels, border)


def _covers(warp: Warp) -> bool:
    """Whether a homography fills the whole target; False means only that nobody knows yet."""
    if not warp.is_homography:
        return False
    rows, columns = warp.source
    corners = sampling.corners(warp)
    return bool(((corners > 1e-3) & (corners < (columns - 1e-3, rows - 1e-3))).all())


def _samples(step: float) -> int:
    return 1 if step <= _TOLERATED else min(int(np.ceil(step)), FINEST)


def _steps(warp: Warp) -> tuple[float, float]:
    """Source pixels per target pixel down and across: the 95th percentile over a net of the canvas."""
    height, width = warp.target
    x, y = np.meshgrid(
        np.linspace(0.5, max(width - 1.5, 0.5), _NET).round() + 0.5,
        np.linspace(0.5, max(height - 1.5, 0.5), _NET).round() + 0.5,
    )
    net = np.column_stack([x.ravel(), y.ravel()])
    net = np.minimum(net, (width - 0.5, height - 0.5))
    here, below, right = warp.backward(np.vstack([net, net + _DOWN, net + _ACROSS])).reshape(3, -1, 2)
    with np.errstate(invalid="ignore"):
        seen = ((here >= 0) & (here <= warp.source[::-1])).all(axis=1)
        down, across = (2 * np.hypot(*(there - here)[seen].T) for there in (below, right))
    return _most(down), _most(across)


def _most(values: NDArray[np.float64]) -> float:
    """What 95% of the finite values stay below; 1 where there are none."""
    found = np.sort(values[np.isfinite(values)])
    return float(found[int(0.95 * (len(found) - 1))]) if len(found) else 1.0


def shrunk_window(warp: Warp) -> tuple[int, int, int, int] | None:
    """x0, y0, x1, y1 of the whole source pixels that a plain scaling down averages; None for other warps."""
    if not warp.is_homography:
        return None
    matrix = warp.matrix
    across, down = 1 / matrix[0, 0] if matrix[0, 0] else 0.0, 1 / matrix[1, 1] if matrix[1, 1] else 0.0
    if matrix[0, 1] or matrix[1, 0] or matrix[2, :2].any() or across < 1 or down < 1:
        return None
    height, width = warp.target
    window = np.array([0, 0, width, height]) * (across, down, across, down)
    window -= np.tile(matrix[:2, 2] * (across, down), 2)
    x0, y0, x1, y1 = (int(v) for v in np.rint(window))
    if np.abs(window - np.rint(window)).max() > 1e-4 or x0 < 0 or y0 < 0:
        return None
    if x1 > warp.source[1] or y1 > warp.source[0] or x1 - x0 < width or y1 - y0 < height:
        return None
    return x0, y0, x1, y1

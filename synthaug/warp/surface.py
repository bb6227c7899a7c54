"""Maps of geometry between pixels: bilinear inside one surface, never across an edge.

A value may be blended with its neighbours only where they show the same surface as the nearest pixel:
the same instance (where there is an `instance` pass), no depth jump (where there is a `depth` pass), no
texture seam, finite. Nearly all pixels lie in cells of four that agree, which OpenCV blends at speed; the
others are done one by one with the weights of the neighbours that agree, down to the nearest pixel alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.labels import Size
from synthaug.warp.resample import Resampler

Bools = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Indices = NDArray[np.intp]

JUMP = 0.05
"""Neighbouring depths within this share of each other are one surface. A plane seen through 512 px over
60 degrees reaches it at an obliquity of 87 degrees; beyond, the nearest value is taken."""

SEAM = 0.25
"""Neighbouring texture coordinates further apart than this belong to different charts."""


_BLOCK = 1 << 15
_RIGHT, _BELOW = np.array([[0], [1], [0], [1]]), np.array([[0], [0], [1], [1]])


class Surfaces:
    """The surfaces of one source picture under one warp.

    Args:
        resampler: The warp.
        passes: All label passes of the source; `instance`, `depth` and `uv` decide where surfaces end.
    """

    def __init__(self, resampler: Resampler, passes: Mapping[str, NDArray[Any]]) -> None:
        self.resampler = resampler
        self.instance = passes.get("instance")
        self.depth = passes.get("depth")
        self.uv = passes.get("uv")

    @cached_property
    def ids(self) -> NDArray[np.int32] | None:
        """The `instance` pass on the target canvas, None where there is none."""
        return None if self.instance is None else self.resampler.nearest(self.instance)

    def move(self, values: Float32) -> Float32:
        """[H, W(, C)] float32 through the warp; NaN where there is nothing, where it was NaN, and outside."""
        resampler = self.resampler
        if resampler.turn is not None:
            moved = resampler.turn.move(values, resampler.warp.target, np.nan)
            assert moved is not None
            return moved
        finite = _finite(values)
        filled = values if finite is None else np.where(finite if values.ndim == 2 else finite[..., None], values, 0)
        out = resampler.linear(np.asarray(filled, np.float32))
        edge, spots = self._edge(finite)
        if len(edge):
            out.reshape(-1, *values.shape[2:])[edge] = spots.blend(values, values is self.uv)
        seen = resampler.covered if finite is None else resampler.nearest(finite)
        if seen is not None:
            out[~seen] = np.nan
        return out

    def _edge(self, finite: Bools | None) -> tuple[Indices, _Spots]:
        """Target pixels that need care, as flat indices, and where they look."""
        if finite is None:
            return self._shared
        broken = self._broken | _cells(finite, _differ)
        return self._shared if np.array_equal(broken, self._broken) else self._look(broken)

    @cached_property
    def _shared(self) -> tuple[Indices, _Spots]:
        return self._look(self._broken)

    def _look(self, broken: Bools) -> tuple[Indices, _Spots]:
        """Pixels that lie in broken cells; see `_broken` for the layout of cells."""
        height, width = self.resampler.warp.source
        wide = broken.copy()
        wide[1:] |= broken[:-1]
        wide[width:] |= wide[:-width].copy()
        beside = wide.reshape(height, width)
        beside[0] = beside[:, 0] = True
        near = np.flatnonzero(self.resampler.marked(beside))
        # So far: next to a broken cell. What counts is the very cell that the point lies in.
        spots = _Spots(*self.resampler.sampling.spots(near), (height, width))
        inside = spots.rim | broken[np.where(spots.rim, 0, spots.corner)]
        near = near[inside]
        return near, spots.restrict(inside, near, self)

    @cached_property
    def _broken(self) -> Bools:
        """[H * W], whether the cell of four pixels that begins at each pixel shows more than one surface.

        True in the last row and column, whose cells have pixels on one side only.
        """
        out = np.zeros(self.resampler.warp.source[0] * self.resampler.warp.source[1], np.bool_)
        if self.instance is not None:
            out |= _cells(self.instance, _differ)
        if self.depth is not None:
            out |= _cells(self.depth, _jump)
            finite = _finite(self.depth)
            if finite is not None:
                out |= _cells(finite, _differ)
        if self.uv is not None:
            out |= _cells(self.uv, _seam)
        edge = out.reshape(self.resampler.warp.source)
        edge[-1] = edge[:, -1] = True
        return out


class _Spots:
    """Places between four pixels of the source, with the weights of those on the nearest one's surface.

    Args:
        x: [N] columns as OpenCV counts them.
        y: [N] rows, likewise.
        size: (height, width) of the source.
    """

    def __init__(self, x: Float32, y: Float32, size: Size) -> None:
        self.x, self.y, self.size = x, y, size
        height, width = size
        self.left, self.top = np.floor(x), np.floor(y)
        self.rim: Bools = (self.left < 0) | (self.top < 0) | (self.left >= width - 1) | (self.top >= height - 1)
        self.corner: Indices = self.top.astype(np.intp) * width + self.left.astype(np.intp)

    def restrict(self, chosen: Bools, pixels: Indices, surfaces: Surfaces) -> _Spots:
        """The chosen places, seen from these target `pixels`, ready to blend."""
        spots = _Spots(self.x[chosen], self.y[chosen], self.size)
        spots._weigh(pixels, surfaces)
        return spots

    def _weigh(self, pixels: Indices, surfaces: Surfaces) -> None:
        height, width = self.size
        self.around: Indices = self.corner + np.array([[0], [1], [width], [width + 1]])
        fx, fy = self.x - self.left, self.y - self.top
        gx, gy = 1 - fx, 1 - fy
        weights: Float32 = np.stack([gx * gy, fx * gy, gx * fy, fx * fy])
        rim = np.flatnonzero(self.rim)
        if len(rim):
            columns, rows = self.left[rim] + _RIGHT, self.top[rim] + _BELOW
            off = (columns < 0) | (rows < 0) | (columns >= width) | (rows >= height)
            weights[:, rim] = np.where(off, 0, weights[:, rim])
            np.clip(self.around, 0, height * width - 1, out=self.around)
        column = np.clip(np.rint(self.x), 0, width - 1).astype(np.intp)
        self.nearest: Indices = np.clip(np.rint(self.y), 0, height - 1).astype(np.intp) * width + column
        if surfaces.instance is not None and surfaces.ids is not None:
            ids, shown = surfaces.instance.reshape(-1), surfaces.ids.reshape(-1)[pixels]
            weights *= ids[self.around] == shown
            # The id pass has the last word, also where a point between two pixels was rounded differently.
            wrong = np.flatnonzero(ids[self.nearest] != shown)
            best = weights[:, wrong].argmax(axis=0)
            self.nearest[wrong] = self.around[best, wrong]
        if surfaces.depth is not None:
            depths = surfaces.depth.reshape(-1)
            here, near = depths[self.around], depths[self.nearest]
            weights *= ~(_jump(here, near) | (np.isnan(here) != np.isnan(near)))
        self.weights: Float32 = weights

    def blend(self, values: Float32, seams: bool) -> Float32:
        """Values at the spots [N(, C)]: the nearest one, and what the others on its surface add to it."""
        flat = values.reshape(values.shape[0] * values.shape[1], -1)
        near, around = flat[self.nearest], flat[self.around]
        with np.errstate(invalid="ignore"):
            offset = around - near
        usable = np.isfinite(offset).all(axis=2)
        if seams:
            usable &= ~_seam(around, near)
        weights = np.where(usable, self.weights, 0)
        total = weights.sum(axis=0)
        offset[~usable] = 0
        added = (weights[..., None] * offset).sum(axis=0)
        out = near + added / np.where(total > 1e-6, total, np.inf)[:, None].astype(np.float32)
        return out.reshape(-1, *values.shape[2:])


def _finite(values: Float32) -> Bools | None:
    """[H, W] where all channels are finite; None where that is everywhere."""
    finite: Bools = np.isfinite(values)
    if finite.all():
        return None
    return finite if values.ndim == 2 else np.logical_and.reduce(finite, axis=2)


def _cells(values: NDArray[Any], apart: Callable[[NDArray[Any], NDArray[Any]], Bools]) -> Bools:
    """[H * W], whether any two neighbours in the cell that begins at each pixel are apart.

    Works along the flattened rows, where a cell is four places at fixed distances; what it says of the last
    row and column means nothing. A piece at a time, so that what is computed between stays in the cache.
    """
    width, count = values.shape[1], values.shape[0] * values.shape[1]
    flat = values.reshape(count, *values.shape[2:])
    out = np.zeros(count, np.bool_)
    end = count - width - 1
    for start in range(0, end, _BLOCK):
        stop = min(start + _BLOCK, end)
        piece = flat[start : stop + width + 1]
        across = apart(piece[1:], piece[:-1])
        down = apart(piece[width:], piece[:-width])
        span = stop - start
        found = across[:span] | across[width : width + span]
        found |= down[:span]
        found |= down[1 : 1 + span]
        out[start:stop] = found
    return out


def _differ(a: NDArray[Any], b: NDArray[Any]) -> Bools:
    return np.not_equal(a, b)


def _jump(a: Float32, b: Float32) -> Bools:
    """Whether two depths differ by more than `JUMP`; never for NaN."""
    share = np.float32(1 + JUMP)
    far: Bools = np.less(a * share, b)
    far |= np.less(b * share, a)
    return far


def _seam(a: Float32, b: Float32) -> Bools:
    gap: Bools = np.abs(a - b) > np.float32(SEAM)
    return np.logical_or.reduce(gap, axis=-1)

"""Dense backward maps: reading them between pixel centres, and turning them round.

A map holds for every target pixel centre the continuous source coordinates that are seen there, NaN
where there is nothing. Between centres it is bilinear; the half pixel from the outermost centres to the
edge of the canvas is the outermost cell carried on; beyond the canvas there is nothing.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.errors import Rejected
from synthaug.labels import Size

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

TOLERANCE = 0.01
"""Pixels to which a map is inverted; a point that cannot be is reported as NaN."""

LARGEST_SIDE = 32766
"""Pixels; OpenCV holds coordinates in 16 bits when it resamples."""

_ITERATIONS = 24
_LONGEST_STEP = 16.0
_SETTLED = 1e-5
_EDGE = 1e-4


def cells(backward: Float32, points: Float64) -> tuple[Float64, Float64, Float64]:
    """Values and derivatives of the bilinear map at continuous points of the target canvas.

    Args:
        backward: [H, W, 2], both sides at least 1.
        points: [N, 2] continuous target pixels; outside the canvas the outermost cell is carried on.

    Returns:
        values [N, 2], derivative along x [N, 2], derivative along y [N, 2]; NaN next to a hole.
    """
    height, width = backward.shape[:2]
    spot = np.nan_to_num(points, nan=0.0, posinf=0.0, neginf=0.0) - 0.5
    column = np.clip(np.floor(spot[:, 0]), 0, max(width - 2, 0)).astype(np.intp)
    row = np.clip(np.floor(spot[:, 1]), 0, max(height - 2, 0)).astype(np.intp)
    right, below = np.minimum(column + 1, width - 1), np.minimum(row + 1, height - 1)
    fx, fy = (spot[:, 0] - column)[:, None], (spot[:, 1] - row)[:, None]
    a, b = backward[row, column].astype(np.float64), backward[row, right].astype(np.float64)
    c, d = backward[below, column].astype(np.float64), backward[below, right].astype(np.float64)
    top, bottom = a + fx * (b - a), c + fx * (d - c)
    along_x = (b - a) + fy * ((d - c) - (b - a))
    values = top + fy * (bottom - top)
    values[~np.isfinite(points).all(axis=1)] = np.nan
    return values, along_x, bottom - top


def look_up(backward: Float32, points: Float64) -> Float64:
    """Source coordinates [N, 2] at continuous target points [N, 2]; NaN outside the canvas and at holes."""
    values, _, _ = cells(backward, points)
    values[~inside(points, backward.shape[:2])] = np.nan
    return values


def compose(backward: Float32, planes: Float32) -> Float32:
    """What `look_up` says for a whole canvas at once: [2, h, w] target places to source coordinates, as planes.

    Costs about 3 ms for 512x512.

    Raises:
        Rejected: Under `warp`, when a side is over what OpenCV can resample.
    """
    height, width = backward.shape[:2]
    if max(height, width, *planes.shape[1:]) > LARGEST_SIDE:
        raise Rejected("warp", f"a dense map of {height}x{width}; sides up to {LARGEST_SIDE} px can be composed")
    # One row and column more on each side carry the outermost cells on to the edge of the canvas.
    wide = np.empty((2, height + 2, width + 2), np.float32)
    wide[:, 1:-1, 1:-1] = backward.transpose(2, 0, 1)
    rows = wide[:, :, 1:-1]
    rows[:, 0] = 2 * rows[:, 1] - rows[:, min(2, height)]
    rows[:, -1] = 2 * rows[:, -2] - rows[:, max(-3, -height - 1)]
    wide[:, :, 0] = 2 * wide[:, :, 1] - wide[:, :, min(2, width)]
    wide[:, :, -1] = 2 * wide[:, :, -2] - wide[:, :, max(-3, -width - 1)]
    x, y = planes[0] + np.float32(0.5), planes[1] + np.float32(0.5)
    with np.errstate(invalid="ignore"):
        seen = (planes[0] >= -_EDGE) & (planes[1] >= -_EDGE) & (planes[0] <= width + _EDGE)
        seen &= planes[1] <= height + _EDGE
    x[~seen] = y[~seen] = 0
    out = np.empty((2, *planes.shape[1:]), np.float32)
    for axis in range(2):
        out[axis] = cv2.remap(wide[axis], x, y, cv2.INTER_LINEAR)
    out[:, ~seen] = np.nan
    return out


def inside(points: Float64, size: Size, slack: float = _EDGE) -> NDArray[np.bool_]:
    """Which points [N, 2] lie on a canvas (height, width), its edge included; NaN does not."""
    height, width = size
    x, y = points[:, 0], points[:, 1]
    return (x >= -slack) & (y >= -slack) & (x <= width + slack) & (y <= height + slack)


def seeds(backward: Float32, source: Size) -> Float32:
    """Target points close to where source pixels go: the start of the inversion.

    Some target centres are dropped into the block of source pixels that they see, and blocks between take
    the nearest one (distance transform, OpenCV). Costs about 2 ms for 512x512.

    Returns:
        [ceil(h / b), ceil(w / b), 2] with b as `block` says; NaN throughout where the map is empty.
    """
    size = block(backward.shape[:2])
    height, width = (-(-side // size) for side in source)
    coarse = backward[size // 2 :: size, size // 2 :: size] / size
    with np.errstate(invalid="ignore"):
        x, y = coarse[..., 0], coarse[..., 1]
        seen = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    start = np.full((height, width, 2), np.nan, np.float32)
    if not seen.any():
        return start
    at_row, at_column = np.nonzero(seen)
    into = (y[seen].astype(np.intp), x[seen].astype(np.intp))
    start[into] = np.column_stack([at_column, at_row]) * size + (size // 2 + 0.5)
    empty = np.isnan(start[..., 0]).astype(np.uint8)
    if not empty.any():
        return start
    found = cv2.distanceTransformWithLabels(empty, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)[1]
    label = np.asarray(found, dtype=np.intp)
    table = np.zeros((int(label.max()) + 1, 2), np.float32)
    table[label[empty == 0]] = start[empty == 0]
    return table[label]


def block(target: Size) -> int:
    """Side of the blocks of `seeds`, pixels: up to 4, less on a small canvas."""
    return max(1, min(4, min(target) // 32))


def invert(backward: Float32, points: Float64, start: Float64) -> Float64:
    """Target points that see given source points: Newton's method on the bilinear map.

    Args:
        backward: [H, W, 2] map.
        points: [N, 2] continuous source pixels.
        start: [N, 2] first guesses on the target canvas, such as `seeds` gives.

    Returns:
        [N, 2], good to `TOLERANCE` pixels; NaN where no target point sees the source point.
    """
    height, width = backward.shape[:2]
    spot = start.astype(np.float64)
    step = np.full(len(spot), np.inf)
    active = np.flatnonzero(np.isfinite(spot).all(axis=1) & np.isfinite(points).all(axis=1))
    for _ in range(_ITERATIONS):
        if not len(active):
            break
        values, along_x, along_y = cells(backward, spot[active])
        move = _solve(along_x, along_y, points[active] - values)
        length = np.hypot(move[:, 0], move[:, 1])
        move *= np.minimum(1.0, _LONGEST_STEP / np.maximum(length, 1e-12))[:, None]
        spot[active] = np.clip(spot[active] + move, (-2.0, -2.0), (width + 2.0, height + 2.0))
        step[active] = length
        active = active[length > _SETTLED]
    # A last step within the tolerance counts only while it still shrinks onto a true solution.
    spot[~(step < TOLERANCE) | ~inside(spot, (height, width))] = np.nan
    return np.clip(spot, (0.0, 0.0), (float(width), float(height)))


def _solve(along_x: Float64, along_y: Float64, rest: Float64) -> Float64:
    """The Newton step of each point; NaN where the map has no inverse or no value."""
    determinant = along_x[:, 0] * along_y[:, 1] - along_x[:, 1] * along_y[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        dx = (rest[:, 0] * along_y[:, 1] - rest[:, 1] * along_y[:, 0]) / determinant
        dy = (along_x[:, 0] * rest[:, 1] - along_x[:, 1] * rest[:, 0]) / determinant
    return np.column_stack([dx, dy])


def reverses(backward: Float32) -> bool:
    """Whether the map turns the picture over: the sign of its Jacobian in most of the cells looked at."""
    size = block(backward.shape[:2])
    here = backward[:-1:size, :-1:size].astype(np.float64)
    across, down = backward[:-1:size, 1::size] - here, backward[1::size, :-1:size] - here
    determinant = across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]
    return int((determinant < 0).sum()) > int((determinant > 0).sum())


def centres(size: Size) -> Float64:
    """All pixel centres of a canvas, row by row: [H * W, 2]."""
    height, width = size
    x, y = np.meshgrid(np.arange(width, dtype=np.float64) + 0.5, np.arange(height, dtype=np.float64) + 0.5)
    return np.column_stack([x.ravel(), y.ravel()])

"""Polygons to masks as COCO draws them: the boundary at five times the resolution, sampled per column.

The rule, whatever its merits, decides which pixels a polygon of a COCO file means; masks equal those of
pycocotools bit by bit, on the polygons that pass the checks here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.errors import Rejected

Int64 = NDArray[np.int64]

_SCALE = 5
_MAX_COORDINATE = 2.0**20
_MAX_BOUNDARY = 2**22
"""Steps along one boundary, a fifth of a pixel each."""


def union(polygons: Sequence[Sequence[float]], height: int, width: int) -> Int64:
    """Places of the column-major canvas, ascending, where the union of the polygons begins or ends.

    Args:
        polygons: Each x0, y0, x1, y1, ... in continuous pixels; may leave the canvas.
        height: Pixels.
        width: Pixels.

    Raises:
        Rejected: Under `label`: no polygon, fewer than three points, an odd count, a coordinate that is
            not finite or beyond a million, a boundary too long to trace.
    """
    if not polygons:
        raise Rejected("label", "a list of no polygons; an instance has at least one")
    toggles = [_toggles(p, height, width) for p in polygons]
    if len(toggles) == 1:
        return toggles[0]
    at = np.concatenate(toggles)
    signs = np.concatenate([np.where(np.arange(t.size) % 2, -1, 1) for t in toggles])
    # A polygon that reaches the end of the canvas has an odd number of toggles: its last run stays open.
    order = np.argsort(at, kind="stable")
    places, first = np.unique(at[order], return_index=True)
    if not places.size:
        return places
    inside = np.cumsum(np.add.reduceat(signs[order], first)) > 0
    return places[np.diff(inside, prepend=False)]


def odd(places: Int64) -> Int64:
    """The values that occur an odd number of times, ascending: an even number of toggles is none."""
    values, times = np.unique(places, return_counts=True)
    return values[times % 2 == 1]


def _toggles(polygon: Sequence[float], height: int, width: int) -> Int64:
    """Places in the column-major canvas where the polygon's mask changes, ascending."""
    corners = _corners(polygon)
    begin, end = corners, np.roll(corners, -1, axis=0)
    delta = end - begin
    steps = np.abs(delta).max(axis=1)
    if int(steps.sum()) > _MAX_BOUNDARY:
        raise Rejected("label", f"polygon with a boundary of {int(steps.sum()) // _SCALE} pixels")
    sizes = steps + 1
    edge = np.repeat(np.arange(len(begin)), sizes)
    walked = np.arange(edge.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    # An edge is traced from its lower end along its longer axis, whichever way it runs, so that two
    # polygons that share it agree on its pixels.
    flat = np.abs(delta[:, 0]) >= np.abs(delta[:, 1])
    backward = np.where(flat, delta[:, 0] < 0, delta[:, 1] < 0)
    low = np.where(backward[:, None], end, begin)
    rise = np.where(flat, delta[:, 1], delta[:, 0]) * np.where(backward, -1, 1)
    slope = rise / np.maximum(steps, 1)
    t = np.where(backward[edge], steps[edge] - walked, walked)
    along = np.where(flat, low[:, 0], low[:, 1])[edge] + t
    across = np.trunc(np.where(flat, low[:, 1], low[:, 0])[edge] + slope[edge] * t + 0.5).astype(np.int64)
    x = np.where(flat[edge], along, across)
    y = np.where(flat[edge], across, along)
    return _crossings(x, y, height, width)


def _corners(polygon: Sequence[Any]) -> Int64:
    """Validated corners [N, 2] on the fine grid."""
    if len(polygon) % 2 or len(polygon) < 6:
        raise Rejected("label", f"polygon of {len(polygon)} numbers, expected x, y pairs of at least 3 points")
    values = [float(v) for v in polygon if _is_number(v) and abs(v) <= _MAX_COORDINATE]
    if len(values) != len(polygon):
        raise Rejected("label", f"polygon with a coordinate that is no finite number within {_MAX_COORDINATE:g}")
    points = np.array(values, dtype=np.float64).reshape(-1, 2)
    return np.trunc(points * _SCALE + 0.5).astype(np.int64)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _crossings(x: Int64, y: Int64, height: int, width: int) -> Int64:
    """Where the traced boundary crosses the centre of a pixel column."""
    left = np.minimum(x[1:], x[:-1])
    column, phase = np.divmod(left, _SCALE)
    hit = (x[1:] != x[:-1]) & (phase == _SCALE // 2) & (column >= 0) & (column < width)
    upper = np.minimum(y[1:], y[:-1])[hit]
    row = np.ceil(np.clip((upper + 0.5) / _SCALE - 0.5, 0, height)).astype(np.int64)
    places = odd(column[hit] * height + row)
    return places[places < height * width]

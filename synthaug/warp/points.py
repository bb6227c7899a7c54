"""Points, boxes and shares of masks, sent forward through a warp."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from synthaug.labels import Box, Category, Instance, Keypoint
from synthaug.warp import dense
from synthaug.warp.motion import Warp

Float64 = NDArray[np.float64]

MOST_SAMPLES = 1024
"""Pixels of a cut mask that are sent forward to estimate its share on the canvas (to about 2%)."""

_AREA_NET = 12
_SIDE_NET = 24


def keypoints(instances: Sequence[Instance], categories: Sequence[Category], warp: Warp) -> list[tuple[Keypoint, ...]]:
    """The keypoints of each instance after a warp, in the order of its class.

    States stay; a point off the canvas, behind the camera or without an image becomes (0, 0, 0). A mirror
    swaps left and right as `Category.mirror` says.
    """
    rows = [(x, y) for instance in instances for x, y, _ in instance.keypoints]
    if not rows:
        return [() for _ in instances]
    places = warp.forward(rows)
    seen = dense.inside(places, warp.target, slack=1e-9)
    moved: list[tuple[Keypoint, ...]] = []
    start = 0
    for instance in instances:
        points: list[Keypoint] = []
        for k, (_, _, state) in enumerate(instance.keypoints, start):
            there = state > 0 and bool(seen[k])
            points.append((float(places[k, 0]), float(places[k, 1]), state) if there else (0.0, 0.0, 0))
        start += len(points)
        partner = categories[instance.class_id - 1].mirror
        if points and partner and warp.mirrored:
            points = [points[k] for k in partner]
        moved.append(tuple(points))
    return moved


def box_images(boxes: Sequence[Box], warp: Warp) -> list[tuple[Box | None, float]]:
    """For each box the tight box of its image on the canvas, and the share of its area that is there.

    The image of a box is what a homography makes of the whole rectangle, cut at the canvas and at the
    horizon before its bounds are taken: never larger than the bounds cut afterwards. A dense map is
    sampled. (None, 0.0) where nothing is left.
    """
    if not boxes:
        return []
    if not warp.is_homography:
        return _sampled(boxes, warp)
    array = np.array(boxes, dtype=np.float64)
    corners = array[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
    images = warp.forward(corners.reshape(-1, 2))
    whole = np.logical_and.reduce(dense.inside(images, warp.target, slack=1e-6).reshape(-1, 4), axis=1)
    bounds = _bounded(images.reshape(-1, 4, 2), warp)
    cuts = _half_planes(warp)
    return [
        (tuple(bounds[i]), 1.0) if whole[i] else _cut(corners[i], cuts, warp)  # pyright: ignore[reportReturnType]
        for i in range(len(boxes))
    ]


def mask_share(mask: NDArray[np.bool_], left: int, top: int, warp: Warp) -> float:
    """Share of a mask's pixels whose centres land on the canvas.

    Args:
        mask: [h, w], a window of the source canvas.
        left: Column of the window.
        top: Row of the window.
        warp: The motion.
    """
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return 0.0
    step = max(1, len(rows) // MOST_SAMPLES)
    centres = np.column_stack([columns[::step] + (left + 0.5), rows[::step] + (top + 0.5)])
    return float(dense.inside(warp.forward(centres), warp.target).mean())


def _bounded(points: Float64, warp: Warp) -> list[list[float]]:
    """Bounds of point sets [N, M, 2] on the canvas, as plain numbers."""
    height, width = warp.target
    low, high = points.min(axis=1), points.max(axis=1)
    return np.clip(np.hstack([low, high]), 0.0, (width, height, width, height)).tolist()


def _half_planes(warp: Warp) -> list[list[float]]:
    """Rows c with c . (x, y, 1) >= 0 for source points that are visible and land on the canvas: 5 of them."""
    height, width = warp.target
    x, y, w = warp.matrix
    return np.array([w - (0, 0, 1e-9), x, y, width * w - x, height * w - y]).tolist()


def _cut(corners: Float64, cuts: list[list[float]], warp: Warp) -> tuple[Box | None, float]:
    """A source polygon cut by half-planes (Sutherland & Hodgman, 1974), then sent forward.

    In plain numbers: polygons of four to nine corners are too small for numpy.
    """
    polygon: list[tuple[float, float]] = [(x, y) for x, y in corners.tolist()]
    whole = _area(polygon)
    for a, b, c in cuts:
        sides = [a * x + b * y + c for x, y in polygon]
        if min(sides) >= 0:
            continue
        kept: list[tuple[float, float]] = []
        for i, (here, side) in enumerate(zip(polygon, sides, strict=True)):
            there, other = polygon[i - 1], sides[i - 1]
            if (side >= 0) != (other >= 0):
                t = other / (other - side)
                kept.append((there[0] + t * (here[0] - there[0]), there[1] + t * (here[1] - there[1])))
            if side >= 0:
                kept.append(here)
        polygon = kept
        if len(polygon) < 3:
            return None, 0.0
    share = _area(polygon) / whole if whole > 0 else 0.0
    x0, y0, x1, y1 = _bounded(warp.forward(polygon)[None], warp)[0]
    return ((x0, y0, x1, y1), min(share, 1.0)) if x1 > x0 and y1 > y0 else (None, 0.0)


def _area(polygon: list[tuple[float, float]]) -> float:
    return abs(sum(polygon[i - 1][0] * y - x * polygon[i - 1][1] for i, (x, y) in enumerate(polygon))) / 2


def _sampled(boxes: Sequence[Box], warp: Warp) -> list[tuple[Box | None, float]]:
    """Box images under a motion that bends lines: a net inside, points along the sides, and the rim of the
    canvas, which bounds the boxes that reach beyond it."""
    net = (np.arange(_AREA_NET) + 0.5) / _AREA_NET
    inner = np.stack(np.meshgrid(net, net), axis=-1).reshape(-1, 2)
    side = np.linspace(0.0, 1.0, _SIDE_NET, endpoint=False)
    zero, one = np.zeros_like(side), np.ones_like(side)
    outline = np.vstack([np.c_[side, zero], np.c_[one, side], np.c_[1 - side, one], np.c_[zero, 1 - side]])
    array = np.array(boxes, dtype=np.float64)
    spots = array[:, None, :2] + np.vstack([inner, outline]) * (array[:, None, 2:] - array[:, None, :2])
    images = warp.forward(spots.reshape(-1, 2))
    seen = dense.inside(images, warp.target).reshape(len(boxes), -1)
    images = images.reshape(len(boxes), -1, 2)
    rim = outline * (warp.target[1], warp.target[0])
    behind = warp.backward(rim)
    results: list[tuple[Box | None, float]] = []
    for box, points, there in zip(boxes, images, seen, strict=True):
        with np.errstate(invalid="ignore"):
            within = ((behind >= box[:2]) & (behind <= box[2:])).all(axis=1)
        found = np.vstack([points[there], rim[within] if not there.all() else rim[:0]])
        share = float(there[: len(inner)].mean()) if not there.all() else 1.0
        x0, y0, x1, y1 = _bounded(found[None], warp)[0] if len(found) else (0.0,) * 4
        results.append(((x0, y0, x1, y1), share) if x1 > x0 and y1 > y0 else (None, 0.0))
    return results

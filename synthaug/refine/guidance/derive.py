"""Passes that a sample lacks, from those it has: exact where geometry says so, refused where it does not.

Every function returns the array and, in words, where it came from.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.camera import Camera
from synthaug.errors import Rejected
from synthaug.labels import Labels
from synthaug.refine.guidance.guide import Float32, Route

Ids = NDArray[np.int32]

_FLAT = 8.0
"""How many times less than its neighbour a flat side bends."""

MASKS = "masks"
"""Stands among the passes of a plan for instances that bring masks of their own."""

DEPTH = (Route(("depth",)), Route(("position",), how="its z"))
NORMALS = (
    Route(("normals",)),
    Route(("position",), how="from neighbouring points"),
    Route(("depth",), camera=True, how="from neighbouring points"),
)
CLASSES = (
    Route(("semantic",)),
    Route(("instance",), how="classes of the instances"),
    Route((MASKS,), how="classes of the instances"),
)
IDS = (
    Route(("instance",)),
    Route(("semantic",), how="outlines of classes, touching objects of one class merge"),
    Route((MASKS,)),
)


def depth(labels: Labels) -> tuple[Float32, str]:
    """[H, W] planar z in metres; NaN where invalid, infinite or not in front of the camera."""
    if "depth" in labels.passes:
        z, source = labels.passes["depth"], "depth"
    elif "position" in labels.passes:
        z, source = labels.passes["position"][..., 2], "position"
    else:
        raise Rejected("guidance", f"no depth: neither pass 'depth' nor 'position' among {sorted(labels.passes)}")
    with np.errstate(invalid="ignore"):
        return np.where((z > 0) & np.isfinite(z), z, np.float32(np.nan)), source


def normals(labels: Labels) -> tuple[Float32, str]:
    """[H, W, 3] unit vectors in camera axes, NaN where invalid.

    From points, each axis takes the difference on the side that runs on most smoothly, so that planes are exact up
    to their edges and occlusions leave no wrong rim. About 60 ms at 512x512; a given pass costs nothing.
    """
    if "normals" in labels.passes:
        return labels.passes["normals"], "normals"
    if "position" in labels.passes:
        return normals_of_points(labels.passes["position"]), "position"
    if "depth" in labels.passes and labels.camera is not None:
        z, _ = depth(labels)
        return normals_of_points(points(z, labels.camera)), "depth and camera"
    lacks = (
        "a camera" if "depth" in labels.passes else f"a pass 'normals', 'position' or 'depth'; has {[*labels.passes]}"
    )
    raise Rejected("guidance", f"no normals: the sample lacks {lacks}")


def points(z: Float32, camera: Camera) -> Float32:
    """[H, W, 3] camera-axes points in metres of a depth map, lens distortion undone."""
    height, width = z.shape
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    if camera.distortion:
        pixels = np.stack([columns, rows], axis=-1).reshape(-1, 1, 2)
        rays = cv2.undistortPoints(pixels, camera.K, np.array(camera.distortion)).reshape(height, width, 2)
        x, y = rays[..., 0], rays[..., 1]
    else:
        (a, b, c), (d, e, f), _ = np.linalg.inv(camera.K)
        x, y = a * columns + b * rows + c, d * columns + e * rows + f
    return np.stack([x * z, y * z, z], axis=-1).astype(np.float32)


def normals_of_points(p: Float32) -> Float32:
    """[H, W, 3] unit normals of a grid of points, toward the camera; NaN where a point has no neighbour."""
    with np.errstate(invalid="ignore", divide="ignore"):
        w = np.where(p[..., 2] > 0, 1 / p[..., 2], np.float32(np.nan))
        across = _tangent(p, w)
        down = _tangent(p.transpose(1, 0, 2), w.T).transpose(1, 0, 2)
        n = np.cross(down, across)
        n /= np.linalg.norm(n, axis=-1, keepdims=True)
        away = np.einsum("hwc,hwc->hw", n, p) > 0
    n[away] *= -1
    return n


def _tangent(p: Float32, w: Float32) -> Float32:
    """Change of the points from column to column, from the side whose 1/z bends least (a plane's does not bend)."""
    step = np.full((p.shape[0], p.shape[1] + 1, 3), np.nan, np.float32)
    step[:, 1:-1] = p[:, 1:] - p[:, :-1]
    before, after = step[:, :-1], step[:, 1:]
    bend = np.full(w.shape, np.inf, np.float32)
    # Rounding bends planes too: what is below it counts as equal, and then the middle is the better estimate.
    bend[:, 1:-1] = np.maximum(np.abs(w[:, 2:] - 2 * w[:, 1:-1] + w[:, :-2]), 1e-6 * w[:, 1:-1])
    bend[np.isnan(bend)] = np.inf
    left, right = np.full_like(bend, np.inf), np.full_like(bend, np.inf)
    left[:, 1:], right[:, :-1] = bend[:, :-1], bend[:, 1:]
    side = np.where((left <= right)[..., None], before, after)
    # Points with one neighbour only, or none that runs on: whichever difference there is.
    side = np.where(np.isnan(side), np.where(np.isnan(before), after, before), side)
    # On what curves, the middle is the better estimate; a side much flatter than the bend is where something ends.
    middle = np.isfinite(bend) & (bend <= _FLAT * np.minimum(left, right))
    return np.where(middle[..., None], (before + after) / 2, side)


def ids(labels: Labels) -> tuple[Ids, str]:
    """[H, W] ids whose borders are outlines of objects, or of classes where objects are not told apart."""
    if "instance" in labels.passes:
        return labels.passes["instance"], "instance"
    if "semantic" in labels.passes:
        return labels.passes["semantic"], "semantic"
    drawn = _from_masks(labels, {i.id: i.id for i in labels.instances})
    if drawn is None:
        raise Rejected("guidance", f"no outlines: no pass 'instance' or 'semantic', no masks; has {[*labels.passes]}")
    return drawn, "masks"


def classes(labels: Labels) -> tuple[Ids, str]:
    """[H, W] class ids, 0 where nothing is said."""
    if "semantic" in labels.passes:
        return labels.passes["semantic"], "semantic"
    if "instance" in labels.passes:
        known = np.array([0, *(i.id for i in labels.instances)])
        of = np.array([0, *(i.class_id for i in labels.instances)], np.int32)
        return of[np.searchsorted(known, labels.passes["instance"]).clip(max=len(of) - 1)], "instance"
    drawn = _from_masks(labels, {i.id: i.class_id for i in labels.instances})
    if drawn is None:
        raise Rejected("guidance", f"no class map: no pass 'semantic' or 'instance', no masks; has {[*labels.passes]}")
    return drawn, "masks"


def _from_masks(labels: Labels, values: dict[int, int]) -> Ids | None:
    """The instances' own masks painted in order, largest first, so that none is buried; None where there are none."""
    masks = [(i.id, labels.mask(i)) for i in labels.instances]
    found = [(number, mask) for number, mask in masks if mask is not None]
    if not found and labels.instances:
        return None
    out = np.zeros(labels.size, np.int32)
    for number, mask in sorted(found, key=lambda row: -np.count_nonzero(row[1])):
        out[mask] = values[number]
    return out

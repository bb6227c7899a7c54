"""Thin parts of an id map: what no disc of a given width fits into, for all ids in one go.

An opening by a disc, by way of a distance transform (Serra 1982; Maurer et al., PAMI 2003). Distances are taken on
the grid of pixel borders, twice as fine as the pixels, so that a strip of n pixels measures n, be n odd or even.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]


def thin_parts(ids: NDArray[np.integer], width: float) -> Bools:
    """[H, W], true on pixels of regions, or of their branches, that are narrower than `width` pixels.

    A straight strip of n pixels is thin exactly where n < `width`. What leaves the canvas counts as going on
    there. Corners of a body are not thin; nor are the first `width` / 1.4 pixels of a branch, next to its body.

    Args:
        ids: [H, W]; each value other than 0 is one region, connected or not.
        width: Pixels, above 0. Time grows with it: about 25 ms for 640x380 at 4.
    """
    beyond = math.ceil(width)
    inside = (slice(beyond, -beyond), slice(beyond, -beyond))
    ids = np.pad(ids, beyond, mode="edge")
    known = ids != 0
    core = _core(ids, width) & known
    for _ in range(math.ceil(width * math.sqrt(0.5))):
        for axis in (0, 1):
            core = _grown(core, ids, axis)
    return (known & ~core)[inside]


def _core(ids: NDArray[np.integer], width: float) -> Bools:
    """Pixels that touch the centre of a disc of `width` which stays inside its region."""
    height, across = ids.shape
    # Odd places are pixel centres, even ones the borders and corners between pixels; zero where ids change.
    grid = np.ones((2 * height + 1, 2 * across + 1), np.uint8)
    down, right = ids[1:] != ids[:-1], ids[:, 1:] != ids[:, :-1]
    for shift in (0, 1, 2):
        view = grid[2:-1:2, shift : shift + 2 * across : 2]
        view[down] = 0
        view = grid[shift : shift + 2 * height : 2, 2:-1:2]
        view[right] = 0
    distance = cv2.distanceTransform(grid, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    wide = (distance >= width - 1e-3).astype(np.uint8)
    return cv2.dilate(wide, np.ones((3, 3), np.uint8))[1::2, 1::2] > 0


def _grown(core: Bools, ids: NDArray[np.integer], axis: int) -> Bools:
    """`core` and the pixels beside it along one axis that belong to the same region."""
    ids, grown = np.moveaxis(ids, axis, 0), core.copy()
    source, target = np.moveaxis(core, axis, 0), np.moveaxis(grown, axis, 0)
    same = ids[1:] == ids[:-1]
    target[1:] |= source[:-1] & same
    target[:-1] |= source[1:] & same
    return grown

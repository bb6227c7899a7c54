"""Lines that geometry draws: borders of ids, jumps of depth, creases of normals. One pixel wide each."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.refine.guidance.guide import Bools, Float32

_PER_DEGREE = 100.0


def borders(ids: NDArray[np.int32], z: Float32 | None) -> Bools:
    """[H, W], the outermost pixels of every object that lies in front of its neighbour.

    Where depth is known the nearer side is marked, else the higher id, so that background never is: a post one
    pixel wide is drawn on itself, and not as two lines beside it.
    """
    near = None if z is None else np.where(np.isnan(z), np.float32(np.inf), z)
    out = np.zeros(ids.shape, np.bool_)
    for first, second in _neighbours():
        a, b = ids[first], ids[second]
        differ = a != b
        front = a > b
        if near is not None:
            za, zb = near[first], near[second]
            front = np.where(za == zb, front, za < zb)
        out[first] |= differ & front
        out[second] |= differ & ~front
    return out


def jumps(z: Float32, tolerance: float) -> Bools:
    """[H, W], pixels in front of a gap in depth larger than a share of their own.

    1/z is linear over the picture of a plane, however steep: what counts as a gap is what neither side's own slope
    leads to, so that a floor seen along its surface has none. Invalid depth is infinitely far.

    Args:
        tolerance: Gap as a share of the farther depth, in (0, 1).
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        w = np.where(np.isnan(z), np.float32(0), 1 / z)
    out = np.zeros(z.shape, np.bool_)
    for view, marks in ((w, out), (w.T, out.T)):
        gap = view[:, 1:] - view[:, :-1]
        bend = np.abs(gap)
        from_left, from_right = bend.copy(), bend.copy()
        from_left[:, 1:] = np.abs(gap[:, 1:] - gap[:, :-1])
        from_right[:, :-1] = np.abs(gap[:, :-1] - gap[:, 1:])
        broken = np.minimum(from_left, from_right) > tolerance * np.maximum(view[:, 1:], view[:, :-1])
        marks[:, :-1] |= broken & (gap < 0)
        marks[:, 1:] |= broken & (gap > 0)
    return out


def creases(n: Float32, apart: Bools, degrees: float) -> Bools:
    """[H, W], the crests of a surface's turning, where it turns by more than an angle within four pixels.

    Four pixels at a short side of 512, more in larger pictures: a rounded edge is seen as the one edge that it is.
    The line is thinned and followed as in Canny (PAMI 1986), with the turn in place of the gradient: where it
    passes `degrees` it is followed down to half of that.

    Args:
        n: [H, W, 3] unit normals, NaN invalid.
        apart: [H, W] outlines that `borders` and `jumps` found; a turn across one is no crease.
        degrees: Least angle, in (0, 180).
    """
    height, width = apart.shape
    reach = max(1, round(min(height, width) / 256))
    if min(height, width) <= 2 * reach:
        return np.zeros_like(apart)
    across, down = np.zeros_like(n), np.zeros_like(n)
    across[:, reach:-reach] = n[:, 2 * reach :] - n[:, : -2 * reach]
    down[reach:-reach] = n[2 * reach :] - n[: -2 * reach]
    pairs = ((across, across), (down, down), (across, down))
    tensor = np.stack([np.einsum("hwc,hwc->hw", a, b) for a, b in pairs], axis=-1)
    side = 2 * reach + 1
    shut = cv2.dilate(apart.astype(np.uint8), np.ones((side, side), np.uint8)).view(np.bool_)
    tensor[shut | np.isnan(tensor).any(axis=-1)] = 0.0
    # A sharp crease turns by the same angle from all pixels within reach; smoothed, it has one crest.
    xx, yy, xy = cv2.split(cv2.GaussianBlur(tensor, (0, 0), 0.6 * reach))
    turn = 2 * np.degrees(np.arcsin(np.sqrt(np.maximum(xx, yy)).clip(max=2.0) / 2))
    heading = 0.5 * np.arctan2(2 * xy, xx - yy)
    gx, gy = (np.rint(turn * f(heading) * _PER_DEGREE).astype(np.int16) for f in (np.cos, np.sin))
    high = degrees * _PER_DEGREE
    return cv2.Canny(dx=gx, dy=gy, threshold1=high / 2, threshold2=high, L2gradient=True).view(np.bool_)


def texture(picture: Float32, low: float, high: float, drawn: Bools) -> Bools:
    """[H, W], Canny edges of the picture (Canny, PAMI 1986) that are not within two pixels of a line drawn already.

    Args:
        picture: [3, H, W] in [0, 1].
        low: Hysteresis threshold on the 8-bit gradient, 0 to 255 and above.
        high: Likewise, at least `low`.
    """
    eight = np.ascontiguousarray((picture.clip(0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0))
    found = cv2.Canny(eight, low, high).view(np.bool_)
    return found & ~cv2.dilate(drawn.astype(np.uint8), np.ones((5, 5), np.uint8)).view(np.bool_)


def _neighbours() -> tuple[tuple[tuple[slice, slice], tuple[slice, slice]], ...]:
    every = slice(None)
    return (
        ((every, slice(None, -1)), (every, slice(1, None))),
        ((slice(None, -1), every), (slice(1, None), every)),
    )

"""Motions of foreign libraries, learnt from what they do to a picture of coordinates.

A grid picture holds at every pixel its own place and a weight of one. Sent through a transform that
interpolates linearly and fills with zeros, it comes back with the source place of every target pixel, and
the weight tells how far a pixel at the rim lies outside. No knowledge of the library's formulas is needed,
and its own conventions for pixel centres can't leak in: the pixels themselves are asked.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.errors import Rejected
from synthaug.labels import Size
from synthaug.warp.motion import Warp

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

PROJECTIVE = 0.02
"""Largest deviation in pixels at which a motion counts as a homography: linear interpolation in OpenCV
rounds positions to 1/32 pixel, so libraries built on it come back up to 1/64 off."""

_FULL = 0.998
_LATTICE = 48
_SPOTS = 6
_CELL = 40


def picture(size: Size) -> Float32:
    """The grid picture [H, W, 3]: x and y as shares of the width and height, and the weight one.

    Shares and not pixels, because libraries may clip float pictures to [0, 1].
    """
    height, width = size
    out = np.ones((height, width, 3), np.float32)
    out[..., 0] = ((np.arange(width) + 0.5) / width)[None]
    out[..., 1] = ((np.arange(height) + 0.5) / height)[:, None]
    return out


def to_warp(moved: NDArray[np.floating], source: Size) -> Warp:
    """The motion behind a grid picture that has been through a transform.

    A homography is recognised where all interior pixels agree with one within `PROJECTIVE`, so that the
    camera follows exactly; anything else becomes a dense map.

    Args:
        moved: [H, W, 3] float, what became of `picture(source)`.
        source: (height, width) of the grid picture.

    Raises:
        Rejected: Under `warp`, when nothing of the picture is left, or values came back not finite.
    """
    if moved.ndim != 3 or moved.shape[2] != 3 or not np.isfinite(moved).all():
        raise Rejected("warp", f"a coordinate grid came back as {moved.shape} {moved.dtype} or not finite")
    back = _backward(moved.astype(np.float64), source)
    target = moved.shape[0], moved.shape[1]
    if not np.isfinite(back).any():
        raise Rejected("warp", "the transform moves the whole picture off its canvas; draw a milder one")
    spots = _lattice(_interior(moved, back, source))
    if len(spots) >= 16:
        found = _homography(spots[:, ::-1].astype(np.float64) + 0.5, back[spots[:, 0], spots[:, 1]], max(source))
        if found is not None:
            return Warp.homography(found, source, target)
    return Warp.dense(back, source)


def _backward(moved: Float64, source: Size) -> Float64:
    """[H, W, 2] source pixels; NaN outside. Rim pixels are put where their weight says."""
    height, width = source
    weight = moved[..., 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        places = moved[..., :2] / weight[..., None] * (width, height)
    rim = weight < _FULL
    low, high = places < 0.502, places > np.array([width, height]) - 0.502
    clamped = low | high
    corner = clamped.all(axis=2)
    share = np.where(corner, np.sqrt(np.clip(weight, 0, 1)), weight)
    out_by = (1.0 - share)[..., None]
    shifted = np.where(low, places - out_by, places + out_by)
    places = np.where(rim[..., None] & clamped, shifted, places)
    places[rim & (~clamped.any(axis=2) | (share < 0.5))] = np.nan
    return places


def _interior(moved: NDArray[np.floating], back: Float64, source: Size) -> NDArray[np.bool_]:
    """Pixels that no border has touched: full weight, and not held at the outermost pixel centres."""
    height, width = source
    with np.errstate(invalid="ignore"):
        inside = (back > 0.51) & (back < (width - 0.51, height - 0.51))
    return (moved[..., 2] >= _FULL) & inside.all(axis=2)


def _lattice(inner: NDArray[np.bool_]) -> NDArray[np.intp]:
    """(row, column) of at most 48 x 48 interior pixels, evenly spread over the interior."""
    rows, columns = np.flatnonzero(inner.any(axis=1)), np.flatnonzero(inner.any(axis=0))
    if not len(rows):
        return np.empty((0, 2), np.intp)
    picked = [np.unique(axis[np.linspace(0, len(axis) - 1, _LATTICE).astype(np.intp)]) for axis in (rows, columns)]
    spots = np.stack(np.meshgrid(*picked, indexing="ij"), axis=-1).reshape(-1, 2)
    return spots[inner[spots[:, 0], spots[:, 1]]]


def _homography(target: Float64, source: Float64, unit: int) -> Float64 | None:
    """Source to target, from point pairs [N, 2]: whole numbers before affine before projective; or None.

    A crop that is enlarged holds its rim at the outermost centres of the window; such pairs count as agreeing
    when the homography, held likewise, does. The first fit is to the middle, where nothing is held.
    """
    low, high = source.min(axis=0), source.max(axis=0)
    middle = np.abs(target - np.median(target, axis=0)) <= np.ptp(target, axis=0) * 0.3
    start = _fit(target[middle.all(axis=1)], source[middle.all(axis=1)], unit, projective=True)
    if start is None or _deviation(start, target, source) > 4 * PROJECTIVE:
        return None
    guess = _places(start, target)
    free = ((guess > low + 0.02) & (guess < high - 0.02)).all(axis=1)
    fits = [_fit(target[free], source[free], unit, projective=projective) for projective in (True, False)]
    if fits[0] is None:
        return None
    error = _deviation(fits[0], target, source)
    whole = None if fits[1] is None else np.rint(fits[1])
    for candidate in (whole, fits[1], fits[0]):
        if candidate is None or abs(np.linalg.det(candidate)) <= 1e-9:
            continue
        if _deviation(candidate, target, source) <= min(error + 1e-3, PROJECTIVE):
            return candidate
    return None


def _fit(target: Float64, source: Float64, unit: int, *, projective: bool) -> Float64 | None:
    """Least squares for the way back in coordinates of about one, then turned round; None if degenerate."""
    (u, v), (x, y) = (target / unit).T, (source / unit).T
    one, nil = np.ones_like(u), np.zeros_like(u)
    first = [u, v, one, nil, nil, nil]
    second = [nil, nil, nil, u, v, one]
    if projective:
        first, second = [*first, -x * u, -x * v], [*second, -y * u, -y * v]
    system = np.concatenate([np.stack(first, axis=1), np.stack(second, axis=1)])
    solved, _, rank, _ = np.linalg.lstsq(system, np.concatenate([x, y]), rcond=1e-10)
    if rank < system.shape[1]:
        return None
    # Rounded, so that the last bits of a linear algebra library don't reach the pixels.
    values = np.append(np.round(solved, 10), [1.0] if projective else [0.0, 0.0, 1.0]).reshape(3, 3)
    if abs(np.linalg.det(values)) < 1e-9:
        return None
    scale = np.diag([unit, unit, 1.0])
    forward = scale @ np.linalg.inv(values) @ np.linalg.inv(scale)
    if not projective:
        forward[2] = [0.0, 0.0, 1.0]
    return forward / forward[2, 2]


def _places(forward: Float64, target: Float64) -> Float64:
    """Source points that a homography shows at target points [N, 2]."""
    spots = np.column_stack([target, np.ones(len(target))]) @ np.linalg.inv(forward).T
    with np.errstate(divide="ignore", invalid="ignore"):
        return spots[:, :2] / spots[:, 2:]


def _deviation(forward: Float64, target: Float64, source: Float64) -> float:
    """Largest distance in source pixels between the pairs and the homography, held at their outermost."""
    held = np.clip(_places(forward, target), source.min(axis=0), source.max(axis=0))
    apart = np.abs(held - source).max()
    return float(apart) if np.isfinite(apart) else np.inf


def movement(transform: Callable[[Float32], NDArray[np.floating]]) -> float:
    """How far a transform moves what is in the picture, in pixels: the median over 36 spots.

    Args:
        transform: [H, W, 3] float32 in [0, 1] to a picture; called once, at 240x240.

    Returns:
        Pixels; infinite where the size changes. Noise, blur and colour leave the spots where they are.
    """
    centres = np.random.Generator(np.random.Philox(key=1)).uniform(13, _CELL - 13, (_SPOTS, _SPOTS, 2))
    offsets = np.arange(_CELL) + 0.5
    rows = [
        [np.exp(-((offsets[:, None] - y) ** 2 + (offsets[None] - x) ** 2) / 24.5) for x, y in line] for line in centres
    ]
    before = np.block(rows) * 0.7 + 0.15
    after = np.asarray(transform(np.repeat(before[..., None], 3, axis=2).astype(np.float32)), dtype=np.float64)
    if after.shape != (*before.shape, 3):
        return np.inf
    apart = _centroids(after.mean(axis=2)) - _centroids(before)
    return float(np.median(np.hypot(apart[..., 0], apart[..., 1])))


def _centroids(grey: Float64) -> Float64:
    """[6, 6, 2] centres of what stands out in each cell, brighter or darker than most of it."""
    smooth = cv2.GaussianBlur(grey, (0, 0), 2.5)
    cells = smooth.reshape(_SPOTS, _CELL, _SPOTS, _CELL).transpose(0, 2, 1, 3)
    weight = np.abs(cells - np.median(cells, axis=(2, 3), keepdims=True))
    weight = np.maximum(weight - 0.5 * weight.max(axis=(2, 3), keepdims=True), 0.0) + 1e-12
    offsets = np.arange(_CELL) + 0.5
    total = weight.sum(axis=(2, 3))
    x, y = (weight * offsets).sum(axis=(2, 3)) / total, (weight * offsets[:, None]).sum(axis=(2, 3)) / total
    return np.stack([x, y], axis=-1)

"""Whether a picture still shows what its labels say: where things are, their outlines, what was not to change.

Every figure compares a picture with its reference (the render), both uint8 [H, W, 3] sRGB of one size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.errors import InputError

Picture = NDArray[np.uint8]
Float32 = NDArray[np.float32]
Bools = NDArray[np.bool_]

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_SMALLEST_TILE = 16
_FLAT_SLOPE = 1.0
_DARK, _BRIGHT = 15.0, 240.0
"""Mean levels outside of which a tile is clipped, and quiet for that reason."""


@dataclass(frozen=True, slots=True)
class Recall:
    """How many true outlines have an edge of the picture within one pixel.

    Attributes:
        pixels: On true outlines.
        reference: Share with an edge in the reference.
        picture: Share with an edge in the picture.
        kept: Of those with an edge in the reference, the share with one in the picture too; NaN where there are none.
        chance: Share of all pixels of the picture that are within one pixel of an edge: noise raises this too.
    """

    pixels: int
    reference: float
    picture: float
    kept: float
    chance: float


def tile_shifts(
    reference: Picture,
    picture: Picture,
    *,
    grid: int = 8,
    texture: float = 8.0,
    peak: Literal["sinc", "centroid"] = "sinc",
) -> NDArray[np.float64]:
    """Pixels by which each textured tile of a grid has moved: phase correlation.

    `sinc` takes the fraction of a pixel from the peak and its larger neighbour (Foroosh, Zerubia and Berthod,
    "Extension of phase correlation to subpixel registration", IEEE TIP 2002), less the smaller neighbour, so that a
    blur moves nothing: half a pixel measures 0.50, a quarter 0.26. `centroid` is `cv2.phaseCorrelate`,
    whose 5x5 centroid adds up the sinc's negative lobes: half a pixel measures 0.2 or 0.8, a quarter 0.03. White noise
    of sigma 6 on street scenes: median 0.03 and 99th percentile 0.2, with `centroid` 0.08 and 0.3.
    About 10 ms for 640x380.

    Args:
        reference: As rendered.
        picture: As changed.
        grid: Tiles along each side.
        texture: Standard deviation of grey levels that makes a tile of the reference count.
        peak: As above.

    Raises:
        InputError: Different sizes, or tiles below 16 pixels.
    """
    _check(reference, picture)
    height, width = (length // grid for length in reference.shape[:2])
    if min(height, width) < _SMALLEST_TILE:
        raise InputError(f"{grid}x{grid} tiles of {list(reference.shape[:2])} pixels: expected tiles of 16 or more")
    a, b = _luma(reference), _luma(picture)
    window = np.sqrt(np.outer(np.hanning(height), np.hanning(width))).astype(np.float32)
    found: list[float] = []
    for y in range(0, grid * height, height):
        for x in range(0, grid * width, width):
            before, after = a[y : y + height, x : x + width], b[y : y + height, x : x + width]
            if before.std() < texture:
                continue
            if peak == "centroid":
                found.append(math.hypot(*cv2.phaseCorrelate(before, after, window)[0]))
            else:
                found.append(_shift((before - before.mean()) * window, (after - after.mean()) * window))
    return np.array(found, np.float64)


def boundaries(ids: NDArray[np.integer]) -> Bools:
    """[H, W]: pixels with another id beside or below, on both sides of the border; no border with the frame."""
    found = np.zeros(ids.shape, np.bool_)
    down, across = ids[1:] != ids[:-1], ids[:, 1:] != ids[:, :-1]
    found[1:] |= down
    found[:-1] |= down
    found[:, 1:] |= across
    found[:, :-1] |= across
    return found


def edges(picture: Picture, least: float = 4.0) -> Bools:
    """[H, W] ridges of the steepest channel's slope at scale 1 (after Canny, PAMI 1986, without hysteresis).

    Args:
        picture: sRGB.
        least: Grey levels per pixel; white noise of sigma 6 passes it in 1 of 50 pixels, a step of 10 levels does not
            miss it.
    """
    smooth = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 1.0)
    dx, dy = (cv2.Scharr(smooth, cv2.CV_32F, *order) / 32 for order in ((1, 0), (0, 1)))
    steepest = (dx**2 + dy**2).argmax(2)[..., None]
    dx, dy = (np.take_along_axis(slope, steepest, 2)[..., 0] for slope in (dx, dy))
    slope = np.pad(np.hypot(dx, dy), 1)
    inner = slope[1:-1, 1:-1]
    rows, columns = np.indices(inner.shape)
    angle = np.rint(np.arctan2(dy, dx) / (np.pi / 4)).astype(np.intp) % 4
    step_y, step_x = np.array([0, 1, 1, 1])[angle], np.array([1, 1, 0, -1])[angle]
    ahead = slope[rows + 1 + step_y, columns + 1 + step_x]
    behind = slope[rows + 1 - step_y, columns + 1 - step_x]
    return (inner >= least) & (inner >= ahead) & (inner >= behind)


def boundary_recall(
    ids: NDArray[np.integer], reference: Picture, picture: Picture, *, least: float = 4.0
) -> Recall | None:
    """Holds outlines of the `instance` pass against edges of the picture; None where there is no outline.

    Raises:
        InputError: Different sizes.
    """
    _check(reference, picture)
    if ids.shape != reference.shape[:2]:
        raise InputError(f"ids {list(ids.shape)}, picture {list(reference.shape)}: expected one size")
    true = boundaries(ids)
    if not true.any():
        return None
    near = [cv2.dilate(edges(p, least).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0 for p in (reference, picture)]
    before, after = near[0][true], near[1][true]
    kept = float(after[before].mean()) if before.any() else float("nan")
    return Recall(len(before), float(before.mean()), float(after.mean()), kept, float(near[1].mean()))


def flat_grain(picture: Picture, tile: int = 16) -> NDArray[np.float64]:
    """Local contrast of each flat tile: standard deviation of luma less its blur at scale 2, in grey levels.

    A tile is flat where luma blurred at scale 3 climbs less than 1 level a pixel everywhere in it, and is neither dark
    nor clipped: sky, road, wall, table. Compare with `flat_grain` of photos at the size that is used.
    """
    luma = _luma(picture)
    fine = luma - cv2.GaussianBlur(luma, (0, 0), 2.0)
    coarse = cv2.GaussianBlur(luma, (0, 0), 3.0)
    dx, dy = (cv2.Sobel(coarse, cv2.CV_32F, *order) / 8 for order in ((1, 0), (0, 1)))
    slope: Float32 = np.hypot(dx, dy).astype(np.float32, copy=False)
    level = _tiles(luma, tile).mean(1)
    flat = (_tiles(slope, tile).max(1) < _FLAT_SLOPE) & (level > _DARK) & (level < _BRIGHT)
    return _tiles(fine, tile)[flat].std(1, dtype=np.float64)


def untouched_difference(reference: Picture, picture: Picture, never: Bools) -> int:
    """Largest difference in levels where nothing may change; 0 is the only good answer.

    Raises:
        InputError: Different sizes, or an empty region: that would prove nothing.
    """
    _check(reference, picture)
    if never.shape != reference.shape[:2] or not never.any():
        raise InputError(f"region {list(never.shape)} of {int(never.sum())} pixels: expected one of the picture's size")
    return int(np.abs(picture[never].astype(np.int16) - reference[never]).max())


def _shift(before: Float32, after: Float32) -> float:
    product = np.conj(np.fft.rfft2(before)) * np.fft.rfft2(after)
    size = np.abs(product)
    if not size.any():
        return 0.0
    correlation = np.fft.irfft2(product / (size + 1e-6 * size.max()), s=before.shape)
    at = np.unravel_index(np.argmax(correlation), correlation.shape)
    moved: list[float] = []
    for axis, length in enumerate(correlation.shape):
        behind, top, ahead = np.take(
            np.take(correlation, at[1 - axis], 1 - axis), at[axis] + np.arange(-1, 2), mode="wrap"
        )
        behind, ahead = max(behind, 0.0), max(ahead, 0.0)
        whole = at[axis] if at[axis] <= length // 2 else at[axis] - length
        moved.append(float(whole + (ahead - behind) / (top + max(ahead, behind))))
    return math.hypot(*moved)


def _luma(picture: Picture) -> Float32:
    return picture.astype(np.float32) @ _LUMA


def _tiles(values: Float32, side: int) -> Float32:
    """[tiles, side * side]; rows and columns that do not fill a tile are left out."""
    rows, columns = (length // side for length in values.shape)
    whole = values[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return whole.swapaxes(1, 2).reshape(-1, side * side)


def _check(reference: Picture, picture: Picture) -> None:
    for name, one in (("reference", reference), ("picture", picture)):
        if one.ndim != 3 or one.shape[2] != 3 or one.dtype != np.uint8:
            raise InputError(f"{name} {one.dtype}{list(one.shape)}: expected uint8 [H, W, 3]")
    if reference.shape != picture.shape:
        raise InputError(f"reference {list(reference.shape)}, picture {list(picture.shape)}: expected one size")

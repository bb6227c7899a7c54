"""A tile as a pixel sees it: mip-mapped, with several taps along the longer axis of the footprint, wrapping.

All levels of a tile lie in one array (the layout of Williams, "Pyramidal parametrics", SIGGRAPH 1983), each with a rim
that repeats its other side, so that one call of `cv2.remap` reads any levels at any places. A footprint is taken as
a parallelogram whose longer axis is covered by up to `TAPS` samples of the level that its shorter axis asks for (the
scheme of McCormack et al., "Feline", SIGGRAPH 1999, with even weights); beyond that it blurs rather than aliases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.labels import Size

Float32 = NDArray[np.float32]
TAPS = 16
_STEPS = (1, 2, 3, 4, 6, 8, 12, TAPS)
"""Numbers of taps that are in use: fewer groups of pixels, hardly more samples."""
_GROUPS = np.searchsorted(_STEPS, np.arange(TAPS + 1))
"""Which of the steps so many taps are."""
_SHARP = 0.5
"""Levels by which the sampling is finer than the footprint: the mean over a pixel is a box, which is narrower than the
two boxes that are a level read with linear interpolation. More taps along the longer axis make up for it."""
_SCALE = 65535.0
_TURN = np.array([[1], [-1]], np.float32)
"""Of swapped values: the quarter turn that makes a square of one side."""
_BLOCK = 16384
"""Samples in a row of a call to OpenCV, which takes no row of more than 32767."""
_FARTHEST = 1e6


@dataclass(frozen=True, slots=True, eq=False)
class Pyramid:
    """A tile and its reductions.

    Attributes:
        canvas: [h, w, 4] uint16, all levels.
        corners: [levels, 2], x and y of the first own pixel of each level.
        sizes: [levels, 2], width and height of each level.
        lowest, reach: Per channel: a value is `lowest + reach * stored / 65535`.
    """

    canvas: NDArray[np.uint16]
    corners: NDArray[np.int32]
    sizes: NDArray[np.int32]
    lowest: Float32
    reach: Float32

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.canvas.nbytes

    @property
    def size(self) -> Size:
        """(height, width) of the tile."""
        return int(self.sizes[0, 1]), int(self.sizes[0, 0])

    @property
    def mean(self) -> Float32:
        """[4]: the smallest level."""
        x, y = self.corners[-1]
        return np.asarray(self.lowest + self.canvas[y, x] * (self.reach / np.float32(_SCALE)), np.float32)


def pyramid(planes: Float32) -> Pyramid:
    """All levels of a tile, down to one pixel.

    Costs about 15 ms and 11 bytes a pixel for 1024x1024.

    Args:
        planes: [H, W, C], linear values (of light, of slopes), up to four channels.
    """
    height, width, channels = planes.shape
    wide = np.zeros((height, width, 4), np.float32)
    wide[..., :channels] = planes
    lowest = wide.min((0, 1))
    reach = np.maximum(wide.max((0, 1)) - lowest, np.float32(1e-9))
    wide -= lowest
    wide *= np.float32(_SCALE) / reach
    levels = [wide]
    while max(levels[-1].shape[:2]) > 1:
        above = levels[-1].shape
        smaller = (max(above[1] // 2, 1), max(above[0] // 2, 1))
        reduced = cv2.resize(levels[-1], smaller, interpolation=cv2.INTER_AREA)
        levels.append(reduced.reshape(smaller[1], smaller[0], 4))
    rows = max(height + 2, sum(level.shape[0] + 2 for level in levels[1:]))
    canvas = np.zeros((rows, width + 2 + max(width // 2, 1) + 2, 4), np.uint16)
    corners = np.empty((len(levels), 2), np.int32)
    left = top = 0
    for number, level in enumerate(levels):
        rimmed = np.pad(np.rint(level).astype(np.uint16), ((1, 1), (1, 1), (0, 0)), mode="wrap")
        canvas[top : top + rimmed.shape[0], left : left + rimmed.shape[1]] = rimmed
        corners[number] = left + 1, top + 1
        left, top = (width + 2, 0) if number == 0 else (left, top + rimmed.shape[0])
    sizes = np.array([(level.shape[1], level.shape[0]) for level in levels], np.int32)
    return Pyramid(canvas, corners, sizes, lowest, reach)


def sample(tile: Pyramid, places: Float32, across: Float32, down: Float32) -> Float32:
    """Values of a tile under the footprints of pixels.

    Costs 20 to 60 ns a pixel, more where footprints are long.

    Args:
        tile: What is looked at.
        places: [2, N], s and t in tiles; any finite numbers.
        across: [2, N], change of s and t from one pixel to the next in x.
        down: [2, N], in y.

    Returns:
        [N, 4].
    """
    size = tile.sizes[0].astype(np.float32)[:, None]
    axis, longer, shorter = _axes(across * size, down * size)
    axis /= size
    # A footprint below a texel needs one tap; a longer one a tap for each width that the level resolves.
    ratio = np.maximum(longer / np.maximum(shorter, np.float32(1)), np.float32(1))
    ratio[longer > 1] *= np.float32(2**_SHARP)
    group = _GROUPS[np.ceil(np.minimum(ratio - np.float32(0.05), np.float32(TAPS))).astype(np.intp)]
    widest = np.maximum(np.maximum(shorter, longer * np.float32(1 / TAPS)), np.float32(1e-6))
    level = np.clip(np.log2(widest) - np.float32(_SHARP), 0, len(tile.sizes) - 1)
    found = np.empty((places.shape[1], 4), np.float32)
    for number in np.flatnonzero(np.bincount(group)):
        chosen = np.flatnonzero(group == number)
        # In runs that stay in the processor's cache.
        for start in range(0, len(chosen), _BLOCK):
            run = chosen[start : start + _BLOCK]
            found[run] = _mean(tile, places.take(run, 1), axis.take(run, 1), level.take(run), _STEPS[number])
    row = np.column_stack([np.diag(tile.reach / np.float32(_SCALE)), tile.lowest])
    return np.asarray(cv2.transform(found[:, None], row)[:, 0], np.float32) if len(found) else found


def _axes(across: Float32, down: Float32) -> tuple[Float32, Float32, Float32]:
    """The longer axis [2, N] of footprints in texels, its length and that of the shorter one."""
    a = across[0] ** 2 + down[0] ** 2
    b = across[0] * across[1] + down[0] * down[1]
    c = across[1] ** 2 + down[1] ** 2
    middle, half = (a + c) / 2, (a - c) / 2
    root = np.sqrt(half * half + b * b)
    longer, shorter = np.sqrt(middle + root), np.sqrt(np.maximum(middle - root, 0))
    lies = half >= 0
    axis = np.stack([np.where(lies, half + root, b), np.where(lies, b, root - half)])
    axis *= longer / np.maximum(np.sqrt(axis[0] ** 2 + axis[1] ** 2), np.float32(1e-20))
    return axis, longer, shorter


def _mean(tile: Pyramid, places: Float32, axis: Float32, level: Float32, taps: int) -> Float32:
    """[N, 4] means of `taps` places along an axis in tiles, between two levels; in stored units."""
    shifts = (np.arange(taps, dtype=np.float32) + np.float32(0.5)) / np.float32(taps) - np.float32(0.5)
    spots = np.asarray(places[:, None] + shifts[:, None] * axis[:, None], np.float32)
    # Within the tile [0, 1) before it meets the size: the half texel before the first is in the rim.
    spots -= np.floor(spots)
    low = level.astype(np.intp)
    share = level - low
    found = _read(tile, spots, low)
    between = np.flatnonzero(share > 0.02)
    if len(between):
        whole = len(between) == len(level)
        upper = _read(tile, spots if whole else spots.take(between, 2), low[between] + 1)
        part = np.asarray(cv2.merge([share[between]] * 4), np.float32).reshape(-1, 4)
        if whole:
            upper -= found
            upper *= part
            found += upper
        else:
            found[between] += part * (upper - found[between])
    return found


def _read(tile: Pyramid, spots: Float32, level: NDArray[np.intp]) -> Float32:
    """[N, 4] means over the second axis of [2, taps, N] places in [0, 1], each at its own level."""
    table = np.concatenate([tile.sizes, tile.corners - np.float32(0.5)], 1).astype(np.float32)
    first = int(level[0])
    even = table[first][:, None] if bool((level == first).all()) else table.T.take(level, 1)
    pixels = spots * even[:2, None]
    pixels += even[2:, None]
    taps, count = pixels.shape[1:]
    rows = -(-count // _BLOCK)
    if rows * _BLOCK != count and rows > 1:
        pixels = np.pad(pixels, ((0, 0), (0, 0), (0, rows * _BLOCK - count)))
    x, y = pixels.reshape(2, taps * rows, -1)
    read: NDArray[Any] = cv2.remap(tile.canvas, x, y, cv2.INTER_LINEAR)
    values = read.reshape(taps, -1, 4)[:, :count]
    if taps == 1:
        return values[0].astype(np.float32)
    total = values[0].astype(np.float32)
    for value in values[1:]:
        total += value
    total /= np.float32(taps)
    return total


def steps(values: Float32, inside: NDArray[np.bool_], jump: float = np.inf) -> tuple[Float32, Float32]:
    """Changes of values from pixel to pixel, never taken across the border of an object or a seam.

    Of the neighbours on both sides the mean is taken where they agree within a factor of two and the smaller change
    else: across a seam it is the larger one that lies. A pixel with neighbours in one direction only is taken as
    square; one without any sees a whole unit.

    Args:
        values: [2, h, w].
        inside: [h, w], pixels of one object with finite values.
        jump: Changes longer than this are seams even where there is no other side.

    Returns:
        Two arrays [2, h, w]: in x and in y.
    """
    across, down = changes(values, inside, jump)
    lost = [np.flatnonzero(np.isnan(way[0]) & inside) for way in (across, down)]
    if len(lost[0]) or len(lost[1]):
        flat = [way.reshape(2, -1) for way in (across, down)]
        square_x, square_y = flat[1][::-1, lost[0]] * _TURN, flat[0][::-1, lost[1]] * -_TURN
        flat[0][:, lost[0]], flat[1][:, lost[1]] = square_x, square_y
        both = np.intersect1d(*lost, assume_unique=True)
        flat[0][:, both], flat[1][:, both] = np.array([[1.0], [0.0]]), np.array([[0.0], [1.0]])
    return across, down


def changes(values: Float32, inside: NDArray[np.bool_], jump: float = np.inf) -> tuple[Float32, Float32]:
    """As `steps`, for [k, h, w] values; NaN where there is no neighbour."""
    return _change(values, inside, 2, jump), _change(values, inside, 1, jump)


def _change(values: Float32, inside: NDArray[np.bool_], axis: int, jump: float) -> Float32:
    first, second = _cut(axis, slice(None, -1)), _cut(axis, slice(1, None))
    change = values[second] - values[first]
    length = np.square(change[0])
    for plane in change[1:]:
        length += plane * plane
    fair = inside[first[1:]] & inside[second[1:]] & (length < jump * jump)
    after, before = np.zeros_like(values), np.zeros_like(values)
    long_after, long_before = (np.full(values.shape[1:], np.inf, np.float32) for _ in range(2))
    np.copyto(long_after[first[1:]], length, where=fair)
    long_before[second[1:]] = long_after[first[1:]]
    # What is not fair may not be finite: it is left out before it meets a weight of 0.
    mask = np.ascontiguousarray(fair).view(np.uint8)
    for number, plane in enumerate(change):
        kept = cv2.copyTo(plane, mask).reshape(mask.shape)
        after[number][first[1:]], before[number][second[1:]] = kept, kept
    near, far = np.minimum(long_after, long_before), np.maximum(long_after, long_before)
    even = (far <= 4 * near).astype(np.float32) * np.float32(0.5)
    ahead = even + ((even == 0) & (long_after <= long_before))
    after *= ahead
    before *= 1 - ahead
    after += before
    with np.errstate(invalid="ignore"):
        after += near * np.float32(0)  # NaN where there is no neighbour
    return after


def _cut(axis: int, part: slice) -> tuple[slice, ...]:
    return (slice(None), slice(None), part) if axis == 2 else (slice(None), part)

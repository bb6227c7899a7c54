"""Figures for tiles: does it wrap, does it look like its exemplar, was it copied; numpy and OpenCV.

All take sRGB pictures, uint8 or floats in [0, 1], [H, W, 3].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.errors import InputError
from synthaug.metrics.realism import directions, projected, quantile_distance

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
_PATCH = 7
"""Side of the neighbourhoods that are compared, pixels of their level."""
SMALLEST = 16
"""Pixels; a picture with a shorter side shows no texture."""


def as_colour(picture: NDArray[Any], what: str = "picture") -> Float32:
    """An sRGB picture as [H, W, 3] float32 in [0, 1].

    Raises:
        InputError: Anything but uint8 or floats in [0, 1], [H, W, 3] with sides of 16 pixels or more: grey, 16-bit and
            RGBA pictures are the caller's to convert, who knows what their channels mean. `what` names the picture.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or min(picture.shape[:2]) < SMALLEST:
        raise InputError(
            f"{what} {picture.dtype}{list(picture.shape)}: expected [height, width, 3] with sides of {SMALLEST} or "
            "more; repeat a grey channel three times, take alpha off"
        )
    if picture.dtype == np.uint8:
        return picture.astype(np.float32) / np.float32(255)
    if picture.dtype.kind != "f":
        raise InputError(f"{what} of {picture.dtype}: expected uint8, or floats in [0, 1]; divide by the largest value")
    colour = picture.astype(np.float32, copy=False)
    if not (colour.min() >= 0 and colour.max() <= 1):  # false for NaN as well
        raise InputError(f"{what} from {colour.min()} to {colour.max()}: expected finite values in [0, 1]")
    return colour


def seam_energy(tile: NDArray[Any]) -> float:
    """Mean step across the wrap over the mean step between neighbours inside; the worse of both directions.

    1 for a tile that wraps, in expectation: one line varies, by a few percent on 1024 pixels of grain and by much
    more where the wrap falls on a line of the pattern. 0 for a tile without any contrast; infinite where only the
    wrap has some.
    """
    return max(_ratio(step[-1], step[:-1].mean()) for step in _steps(tile))


def mean_seam_energy(tiles: Sequence[NDArray[Any]], period: int = 1) -> float:
    """`seam_energy` of a generator, in each direction over all of its tiles; the worse direction.

    Of tiles as the generator makes them: rolled at random, no set has a seam.

    The worse direction of a single tile is above 1 wherever lines of the pattern differ: real tiles of 64 pixels,
    rolled at random, have 1.1 in the mean. Over a set that averages out; what is left is what wraps alone have. Flat
    tiles do not count; 0 where all are.

    Args:
        tiles: [H, W, 3] each, of one size.
        period: Only lines that many apart, counted from the wrap, are compared: cells from which a network doubled its
            maps have larger steps at their borders, and the wrap is one.

    Raises:
        InputError: No tiles, pictures of another form, or a period that does not fit them.
    """
    if not tiles:
        raise InputError("no tiles to judge: expected at least one")
    for side in {side for tile in tiles for side in tile.shape[:2]}:
        if period < 1 or side % period or side < 2 * period:
            raise InputError(f"period={period} for {side} pixels: expected a divisor that leaves two lines or more")
    found: list[float] = []
    for way in (0, 1):
        lines = [_steps(tile)[way][period - 1 :: period] for tile in tiles]
        shares = [float(line[-1] / line.mean()) for line in lines if line.mean() > 0]
        # The wrap counts among the lines of its mean, or 1 would not be expected of a wrap that is like the others.
        share, count = float(np.mean(shares)) if shares else 0.0, len(lines[0])
        found.append(share * (count - 1) / (count - share) if share < count else np.inf)
    return max(found)


def seam_contrast(tile: NDArray[Any], lines: int = 4) -> float:
    """As `seam_energy`, against the steepest of the nearest `lines` lines on both sides of the wrap.

    The stricter judge of structured tiles: a mortar line near the wrap has steep lines beside it, a cut has none.
    Seamless tiles give 0.9 to 1.05 wherever they are rolled to (bricks up to 2, on a sharp edge); crops mostly 1.1
    (fine grain) to 5.
    """
    return max(_ratio(step[-1], np.concatenate([step[:lines], step[-1 - lines : -1]]).max()) for step in _steps(tile))


def join_energy(tile: NDArray[Any], exemplar: NDArray[Any]) -> float:
    """Mean step between neighbours of a tile over that of its exemplar; the higher of both directions.

    Cuts inside a tile raise it, blur lowers it; 1 is as it should be.
    """
    pairs = zip(_steps(tile), _steps(exemplar), strict=True)
    return max(_ratio(made.mean(), given[:-1].mean()) for made, given in pairs)


def pyramid_distance(first: NDArray[Any], second: NDArray[Any], *, count: int = 128, seed: int = 0) -> float:
    """Sliced Wasserstein distance of the neighbourhoods of two pictures, over the levels of a Laplacian pyramid.

    Karras, Aila, Laine and Lehtinen, "Progressive growing of GANs" (ICLR 2018), section 5, for two pictures: all
    patches of 7 x 7 of each level (up to 16,384, on an even grid) in units of the spread of the *second* picture's
    level, along the same directions. The mean over levels; each counts alike. 0 for a picture and itself. It shrinks
    with the number of patches: compare with real against real of the same sizes. About 1 second for 1024 and 256.

    Args:
        first: The tile.
        second: What it should look like; of any other size.
        count: Directions.
        seed: Of the directions.

    Raises:
        InputError: A picture with a side under 16 pixels or another form.
    """
    a, b = as_colour(first), as_colour(second)
    levels = max(1, int(np.log2(min(*a.shape[:2], *b.shape[:2]) / SMALLEST)) + 1)
    along = directions(3 * _PATCH**2, count, seed)
    distances: list[float] = []
    for made, real in zip(_pyramid(a, levels), _pyramid(b, levels), strict=True):
        centre, spread = real.mean((0, 1)), np.maximum(real.std((0, 1)), 1e-3)
        ours, theirs = (projected(_patches((level - centre) / spread), along) for level in (made, real))
        distances.append(quantile_distance(ours, theirs))
    return float(np.mean(distances))


def autocorrelation_distance(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Root mean square difference of the autocorrelations of luma, at lags up to a quarter of the smaller side.

    Each is that of the picture without its surroundings (nothing wraps), divided at every lag by the energy of the
    pixels that overlap. 0 for a picture and itself, 0.5 and more for stripes against crossed stripes; tells whether
    size, direction and period of features were kept, says nothing of colours.
    """
    reach = min(*as_colour(first).shape[:2], *as_colour(second).shape[:2]) // 4
    gap = _autocorrelation(first, reach) - _autocorrelation(second, reach)
    return float(np.sqrt(np.mean(gap**2)))


def nearest_distances(tiles: Sequence[NDArray[Any]], known: Sequence[NDArray[Any]], *, skip: bool = False) -> Float64:
    """[N] distance of each tile to the nearest of a set, over all rolls: memorisation shows, moved or not.

    Root mean square difference of sRGB values in [0, 1]. Two Fourier transforms per pair: 242 x 242 tiles of 64 x 64
    take about a minute.

    Args:
        tiles: [H, W, 3] each, all of one size.
        known: Likewise, of the same size.
        skip: Leave out the pair of equal places in both lists: the distances of a set to itself.

    Raises:
        InputError: No pictures to compare with, or of different sizes.
    """
    ours, theirs = ([as_colour(tile) for tile in rows] for rows in (tiles, known))
    if len(theirs) < 1 + skip or len({picture.shape for picture in (*ours, *theirs)}) != 1:
        raise InputError(f"{len(ours)} tiles against {len(theirs)}: expected pictures of one size, and some to compare")
    shape = theirs[0].shape[:2]
    spectra = [np.fft.rfft2(picture, axes=(0, 1)) for picture in theirs]
    energies = [float(np.square(picture, dtype=np.float64).sum()) for picture in theirs]
    found = np.full(len(ours), np.inf)
    for i, picture in enumerate(ours):
        own, energy = np.fft.rfft2(picture, axes=(0, 1)).conj(), float(np.square(picture, dtype=np.float64).sum())
        for j, (spectrum, other) in enumerate(zip(spectra, energies, strict=True)):
            if skip and i == j:
                continue
            most = float(np.fft.irfft2((spectrum * own).sum(2), shape).max())
            found[i] = min(found[i], max(energy + other - 2 * most, 0.0))
    return np.sqrt(found / theirs[0].size)


def _steps(tile: NDArray[Any]) -> tuple[Float64, Float64]:
    """Mean absolute step from each row to the next, and from each column; the last is the wrap."""
    colour = as_colour(tile)
    down, right = (np.abs(np.roll(colour, -1, axis) - colour) for axis in (0, 1))
    return down.mean((1, 2), dtype=np.float64), right.mean((0, 2), dtype=np.float64)


def _ratio(across: float, inside: float) -> float:
    return float(across / inside) if inside > 0 else (np.inf if across > 0 else 0.0)


def _pyramid(picture: Float32, levels: int) -> list[Float32]:
    """Band by band, the finest first; the last is what is left. Nothing wraps: exemplars do not."""
    bands: list[Float32] = []
    for _ in range(levels - 1):
        smaller = np.asarray(cv2.pyrDown(picture), np.float32)
        bands.append(picture - np.asarray(cv2.pyrUp(smaller, dstsize=picture.shape[1::-1]), np.float32))
        picture = smaller
    return [*bands, picture]


def _patches(level: Float32, most: int = 128) -> Float32:
    """[N, 147] of the neighbourhoods of a level, at most 128 x 128 of them."""
    windows = np.lib.stride_tricks.sliding_window_view(level, (_PATCH, _PATCH), (0, 1))
    rows, columns = (
        np.unique(np.linspace(0, side - 1, min(side, most)).round().astype(np.intp)) for side in windows.shape[:2]
    )
    return windows[np.ix_(rows, columns)].reshape(len(rows) * len(columns), -1)


def _autocorrelation(picture: NDArray[Any], reach: int) -> Float64:
    """[reach + 1, 2 reach + 1]: lags down from 0, and to both sides."""
    luma = as_colour(picture).astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    luma -= luma.mean()
    height, width = luma.shape
    shape = (height + reach, width + reach)

    def crossed(one: Float64, other: Float64) -> Float64:
        both = np.fft.irfft2(np.fft.rfft2(one, shape).conj() * np.fft.rfft2(other, shape), shape)
        return np.roll(both, reach, 1)[: reach + 1, : 2 * reach + 1]

    inside, energy = np.ones_like(luma), luma**2
    spread = np.sqrt(np.maximum(crossed(energy, inside) * crossed(inside, energy), 0))
    return crossed(luma, luma) / np.maximum(spread, 1e-9 * max(float(energy.sum()), 1e-9))

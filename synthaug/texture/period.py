"""The period of a crop, where it has one, and the small change of scale that makes a tile hold it in whole numbers."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.labels import Size

Float32 = NDArray[np.float32]
_CLEAR = 0.5
"""Correlation of a crop with itself, one period away, from which the period counts."""
_MOST = 1.25
"""The largest change of scale, and its inverse the smallest."""


def fitted(crop: Float32, size: Size) -> tuple[Float32, tuple[float, float]]:
    """The crop, scaled along each axis that has a period so that the tile's side is a whole number of them.

    Returns:
        [h', w', 3], and the periods it has then along both axes in pixels: 0 where there is none, or where the
        scale would change by more than a quarter.
    """
    found = [period(crop, axis) for axis in (0, 1)]
    periods = [side / max(1, round(side / length)) if length else 0.0 for length, side in zip(found, size, strict=True)]
    factors = [new / old if old else 1.0 for new, old in zip(periods, found, strict=True)]
    for axis, factor in enumerate(factors):
        if not 1 / _MOST <= factor <= _MOST:
            factors[axis], periods[axis] = 1.0, 0.0
    if factors != [1.0, 1.0]:
        new = round(crop.shape[1] * factors[1]), round(crop.shape[0] * factors[0])
        resized = cv2.resize(crop, new, interpolation=cv2.INTER_CUBIC)
        crop = np.clip(resized, 0, 1).astype(np.float32, copy=False)
    return crop, (periods[0], periods[1])


def period(crop: Float32, axis: int) -> float | None:
    """Pixels along an axis after which a crop looks alike, to a fraction; None where it does not.

    The first clear peak of the autocorrelation (each lag divided by the energy of what overlaps), refined at its
    last multiple within three quarters of the crop.
    """
    curve = correlation(crop, axis)
    length = len(curve)
    peaks = [lag for lag in range(6, length - 1) if curve[lag] >= max(curve[lag - 1], curve[lag + 1], _CLEAR)]
    # What stays alike at all lags (long planks, along the grain) has no period.
    lowest = float(curve.min())
    peaks = [lag for lag in peaks if curve[lag] - max(lowest, curve[:lag].min()) > 0.2]
    if not peaks:
        return None
    best = max(curve[lag] for lag in peaks)
    first = next(lag for lag in peaks if curve[lag] >= 0.93 * best)
    found, times = _top(curve, first), 1
    while (times + 1) * found < length - 2:
        around = round((times + 1) * found)
        reach = max(1, round(0.1 * found))
        low, high = max(1, around - reach), min(length - 1, around + reach + 1)
        lag = low + int(curve[low:high].argmax())
        if lag in (low, high - 1) or curve[lag] < _CLEAR:
            break
        times += 1
        found = _top(curve, lag) / times
    return found


def correlation(crop: Float32, axis: int) -> NDArray[np.float64]:
    """Correlation of a crop with itself by lag along an axis, for lags under three quarters of its side."""
    flat = crop.mean(2, dtype=np.float64)
    flat -= flat.mean()
    flat = flat if axis == 0 else flat.T
    length = len(flat)
    transformed = np.fft.rfft(flat, 2 * length, axis=0)
    products = np.fft.irfft((np.abs(transformed) ** 2).sum(1))[:length]
    energy = np.concatenate([[0.0], np.cumsum((flat**2).sum(1))])
    lags = np.arange(length * 3 // 4)
    both = np.sqrt((energy[length - lags]) * (energy[-1] - energy[lags]))
    return products[lags] / np.maximum(both, 1e-12)


def _top(curve: NDArray[np.float64], lag: int) -> float:
    """The peak of a parabola through a lag and its neighbours."""
    before, at, after = curve[lag - 1 : lag + 2]
    bend = before - 2 * at + after
    return lag + (0.5 * (before - after) / bend if bend < 0 else 0.0)

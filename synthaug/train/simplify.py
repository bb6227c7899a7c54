"""Makes a photo look rendered: the other half of every training pair.

A render differs from a photo by what it lacks: grain, fine texture, soft edges, small irregularities of light.
So each crop loses some of these, by operators drawn at random, and a network learns to give them back. None of
the operators moves an edge (all are symmetric about the pixel), and colours stay but for a small shift, so
that what is learnt is aligned to the pixel and keeps the colours of its input.

Operators: bilateral filter (Tomasi & Manduchi, ICCV 1998), guided filter (He, Sun & Tang, ECCV 2010), mean shift
(Comaniciu & Meer, PAMI 2002), domain transform (Gastal & Oliveira, SIGGRAPH 2011), median, k-means palette.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def simplify(photo: Float32, rng: np.random.Generator) -> Float32:
    """One crop as a renderer might have shown it. About 3 ms for 96x96.

    Args:
        photo: [H, W, 3] sRGB in [0, 1].
        rng: Decides which operators run and how strongly; the same state gives the same picture.

    Returns:
        [H, W, 3] float32 in [0, 1], in steps of 1/255 as a render's file has them.
    """
    clean = _cleaned(photo, rng)
    plain = clean
    for index in rng.permutation(len(OPERATORS))[: int(rng.integers(1, 3))]:
        plain = OPERATORS[int(index)](plain, rng)
    plain = _mixed(plain, clean, float(rng.uniform(0.05, 0.7)))
    plain = _by_region(plain, clean, rng)
    if rng.random() < 0.4:
        plain = crisp(plain, rng)
    if rng.random() < 0.5:
        plain = shift_colour(plain, rng)
    return np.rint(np.clip(plain, 0, 1) * 255).astype(np.float32) / np.float32(255)


def _cleaned(photo: Float32, rng: np.random.Generator) -> Float32:
    """Without grain: texture may stay in a render, noise of a sensor never does."""
    width = float(rng.uniform(0.02, 0.06))
    clean = cast(Float32, cv2.bilateralFilter(photo, 5, width, 1.5))
    if rng.random() < 0.5:
        clean = guided(clean, 2, width)
    return clean


def bilateral(picture: Float32, rng: np.random.Generator) -> Float32:
    """Averages over neighbours of like colour."""
    diameter, width = int(rng.choice([5, 7, 9])), float(rng.uniform(0.05, 0.2))
    return cast(Float32, cv2.bilateralFilter(picture, diameter, width, float(rng.uniform(1.5, 5))))


def edge_preserving(picture: Float32, rng: np.random.Generator) -> Float32:
    """Averages over what is near along the picture's own surface (recursive domain transform)."""
    done = cv2.edgePreservingFilter(_bytes(picture), flags=1, sigma_s=rng.uniform(5, 30), sigma_r=rng.uniform(0.1, 0.4))
    return _floats(done)


def guided_by_itself(picture: Float32, rng: np.random.Generator) -> Float32:
    """Local linear model of the picture by its own luma."""
    return guided(picture, int(rng.integers(2, 7)), float(rng.uniform(0.03, 0.15)))


def mean_shift(picture: Float32, rng: np.random.Generator) -> Float32:
    """Every pixel climbs to the nearest mode of place and colour: flat patches."""
    done = cv2.pyrMeanShiftFiltering(
        _bytes(picture), rng.uniform(3, 7), rng.uniform(6, 24), maxLevel=0, termcrit=(3, 4, 1.0)
    )
    return _floats(done)


def posterise(picture: Float32, rng: np.random.Generator) -> Float32:
    """Shading in a few steps with soft transitions, as few lamps and low-resolution light maps give it."""
    levels, share = float(rng.uniform(8, 28)), np.float32(rng.uniform(0.4, 1))
    luma = cv2.GaussianBlur(picture @ _LUMA, (0, 0), float(rng.uniform(0.7, 2)))
    away = luma * levels - np.rint(luma * levels)
    step = (np.rint(luma * levels) + np.float32(0.5) * np.sign(away) * np.abs(2 * away) ** 4) / levels
    return cast(Float32, picture + (share * (step - luma)).astype(np.float32)[..., None])


def median(picture: Float32, rng: np.random.Generator) -> Float32:
    """The middle value of a small window; rounds off specks and thin lines."""
    return cast(Float32, cv2.medianBlur(picture, int(rng.choice([3, 5]))))


def palette(picture: Float32, rng: np.random.Generator) -> Float32:
    """Few colours, smoothed so that no band stays: materials with one albedo each."""
    pixels = picture.reshape(-1, 3)
    centres = pixels[rng.choice(len(pixels), int(rng.integers(12, 40)))]
    some = pixels[:: max(len(pixels) // 1024, 1)]
    for _ in range(3):
        nearest = _nearest(some, centres)
        counts = np.bincount(nearest, minlength=len(centres))
        sums = np.stack([np.bincount(nearest, some[:, c], len(centres)) for c in range(3)], 1)
        centres = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centres).astype(np.float32)
    flat = centres[_nearest(pixels, centres)].reshape(picture.shape)
    flat = guided(flat, 2, 0.03)
    return _mixed(picture, flat, float(rng.uniform(0.3, 0.9)))


OPERATORS: tuple[Callable[[Float32, np.random.Generator], Float32], ...] = (
    bilateral, edge_preserving, guided_by_itself, mean_shift, posterise, median, palette,
)  # fmt: skip
"""What `simplify` draws one or two from."""


def crisp(picture: Float32, rng: np.random.Generator) -> Float32:
    """Edges harder than optics leave them."""
    blurred = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.7, 1.3)))
    return _mixed(picture, cast(Float32, blurred), -float(rng.uniform(0.1, 0.6)))


def shift_colour(picture: Float32, rng: np.random.Generator) -> Float32:
    """Gain, gamma and cast of a few percent: enough not to take the input's colours for measured to the bit."""
    gain = rng.uniform(0.97, 1.03) * rng.uniform(0.985, 1.015, 3)
    gamma = rng.uniform(0.96, 1.04)
    return (np.clip(picture, 0, 1) ** gamma * gain).astype(np.float32)


def guided(picture: Float32, radius: int, width: float) -> Float32:
    """Guided filter of [H, W, 3] by its luma; contrasts below `width` are smoothed away."""
    window = (2 * radius + 1, 2 * radius + 1)
    guide = picture @ _LUMA
    mean = cv2.blur(guide, window)
    variance = cv2.blur(guide * guide, window) - mean * mean
    means = cv2.blur(picture, window)
    slope = (cv2.blur(picture * guide[..., None], window) - means * mean[..., None]) / (
        np.maximum(variance, 0) + np.float32(width**2)
    )[..., None]
    offset = means - slope * mean[..., None]
    return cv2.blur(slope, window) * guide[..., None] + cv2.blur(offset, window)


def _by_region(plain: Float32, clean: Float32, rng: np.random.Generator) -> Float32:
    """Some regions keep more of their texture than others, as materials of one render do."""
    if rng.random() < 0.5:
        return plain
    height, width = plain.shape[:2]
    coarse = rng.uniform(0, 1, (int(rng.integers(2, 5)), int(rng.integers(2, 5)))).astype(np.float32)
    share = np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * 2 - 1, 0, 1)[..., None].astype(
        np.float32
    )
    return _mixed(plain, clean, float(rng.uniform(0.3, 0.9)) * share)


def _mixed(one: Float32, other: Float32, share: float | Float32) -> Float32:
    return (one + share * (other - one)).astype(np.float32)


def _nearest(pixels: Float32, centres: Float32) -> NDArray[np.intp]:
    return np.argmin((centres * centres).sum(1) - 2 * pixels @ centres.T, axis=1)


def _bytes(picture: Float32) -> NDArray[np.uint8]:
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def _floats(picture: NDArray[Any]) -> Float32:
    return picture.astype(np.float32) / np.float32(255)

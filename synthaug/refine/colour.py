"""sRGB to CIE L*a*b* and back, and linear maps between colours that stay inside what a screen can show.

IEC 61966-2-1 for sRGB, CIE 15 for L*a*b*, white D65. Curves come from tables of 65,536 entries: errors stay
below 0.25 in L*, a*, b* (in the darkest colours) and below half an 8-bit level there and back.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from synthaug.transfer import linear_from_srgb, srgb_from_linear

Float32 = NDArray[np.float32]

_RGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_TO_RELATIVE = _RGB_TO_XYZ / _RGB_TO_XYZ.sum(axis=1, keepdims=True)
"""Linear RGB to XYZ over the white point: white is (1, 1, 1)."""
_F_TO_LAB = np.array([[0.0, 116.0, 0.0], [500.0, -500.0, 0.0], [0.0, 200.0, -200.0]])
_LAB_TO_F = np.array([[1 / 116, 1 / 500, 0.0], [1 / 116, 0.0, 0.0], [1 / 116, 0.0, -1 / 200]])
_KNEE = 6 / 29
_ENTRIES = 65536
_BLOCK = 1 << 15
"""Pixels at a time: temporaries stay in the cache, which halves the cost."""


@lru_cache(maxsize=1)
def _tables() -> tuple[Float32, Float32, Float32]:
    """sRGB to linear, linear to sRGB, and the cube root with the linear foot of CIE 15, each over [0, 1]."""
    x = np.arange(_ENTRIES) / (_ENTRIES - 1)
    decode, encode = linear_from_srgb(x), srgb_from_linear(x)
    root = np.where(x > _KNEE**3, np.cbrt(x), x / (3 * _KNEE**2) + 4 / 29)
    return decode.astype(np.float32), encode.astype(np.float32), root.astype(np.float32)


def _looked_up(table: Float32, values: Float32) -> Float32:
    """The table at values in [0, 1]; what lies outside is clipped."""
    scaled = values * np.float32(_ENTRIES - 1)
    scaled += np.float32(0.5)
    np.clip(scaled, 0, _ENTRIES - 1, out=scaled)
    return table.take(scaled.astype(np.uint16))


def lab_from_srgb(colours: Float32) -> Float32:
    """[3, N] sRGB in [0, 1] to [3, N] L* in 0..100, a*, b*."""
    decode, _, root = _tables()
    relative = _TO_RELATIVE.astype(np.float32) @ _looked_up(decode, colours)
    lab = _F_TO_LAB.astype(np.float32) @ _looked_up(root, relative)
    lab[0] -= 16
    return lab


def srgb_from_lab(lab: Float32) -> Float32:
    """[3, N] L*a*b* to [3, N] sRGB in [0, 1].

    A colour outside of sRGB moves in linear light toward the grey of its luminance, at most that of L* 80,
    until it fits. Clipping each channel would turn bright skies cyan; moving at the same luminance would turn
    every colour that is too bright white, yellow lines first.
    """
    _, encode, _ = _tables()
    f = _LAB_TO_F.astype(np.float32) @ lab
    f += np.float32(16 / 116)
    relative = np.where(f > _KNEE, f * f * f, np.float32(3 * _KNEE**2) * (f - np.float32(4 / 29)))
    linear = np.linalg.inv(_TO_RELATIVE).astype(np.float32) @ relative
    outside = np.flatnonzero((linear.min(axis=0) < 0) | (linear.max(axis=0) > 1))
    if len(outside):
        linear[:, outside] = _into_gamut(linear[:, outside])
    return _looked_up(encode, linear)


def _into_gamut(linear: Float32) -> Float32:
    # The luminance of L* 80.
    grey = np.clip(_TO_RELATIVE[1].astype(np.float32) @ linear, 0, 0.567)
    away = linear - grey
    tiny = np.float32(1e-6)
    room = np.where(away > 0, (1 - grey) / np.maximum(away, tiny), grey / np.maximum(-away, tiny))
    return grey + away * np.minimum(room.min(axis=0), 1)


def mapped(planes: Float32, matrix: NDArray[np.float64], offset: NDArray[np.float64], vivid: float = 0.0) -> Float32:
    """[3, H, W] sRGB through a linear map of L*a*b* colours. About 50 ns per pixel.

    Args:
        matrix: [3, 3].
        offset: [3].
        vivid: Chroma at which a colour goes half of its way in a* and b*, greyer ones further; 0 for all the
            way. Blue is bent in L*a*b*: a cast that suits grey walls would turn a blue car purple.
    """
    flat = planes.reshape(3, -1)
    done = np.empty_like(flat)
    by, plus = matrix.astype(np.float32), offset.astype(np.float32)[:, None]
    for start in range(0, flat.shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        lab = lab_from_srgb(flat[:, block])
        moved = by @ lab
        moved += plus
        if vivid > 0:
            share = 1 / (1 + (lab[1] ** 2 + lab[2] ** 2) * np.float32(vivid**-2))
            moved[1:] = lab[1:] + share * (moved[1:] - lab[1:])
        done[:, block] = srgb_from_lab(moved)
    return done.reshape(planes.shape)

"""What of an old surface is the label itself (pips, print, faces): found by its contrast, kept, and kept readable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.texture.oklab import oklab_from_linear
from synthaug.texture.shading import Shading, base_of

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bools = NDArray[np.bool_]
_SOFT = 0.25
"""Share of the threshold over which a texel turns from surface to mark."""
_ENOUGH = 0.25
"""OKLab distance beyond which a mark is easily read, however much more it had."""
_READABLE = 0.12
"""OKLab distance below which a mark is not read."""
_FEW = 0.25
"""Share of a tile's tones that a mark may be nearer to: beside a mark a mixture of them is seen."""
_BETTER = 1.3
"""How much clearer ink must be than the mark's own colour."""
_INKS = ((0.012, 0.012, 0.012), (0.85, 0.85, 0.85))
"""Linear black and white of print, for marks that the new surface would swallow."""
_LIGHT, _MIRRORED = 0.8, 0.03
"""Usual light on a base, and what a coat usually mirrors."""
_WIDE, _THREE = (5, 5), (3, 3)
_DOUBT = 0.002
"""Square of the spread of a pixel around the mixture of two colours, over that of a share around the expected one."""


@dataclass(frozen=True, slots=True, eq=False)
class Marks:
    """The protected texels of one object, over a cut [h, w].

    Attributes:
        share: [h, w], 0 to 1, how much of a pixel is mark.
        mixed: [h, w], pixels that show both.
        under: [h, w, 3], base (`shading.base_of`) of the surface around the marks, where there is any near.
        mark: [h, w, 3], base of the marks, likewise.
        colour: [3], linear albedo of the marks.
        ground: [3], of the old surface.
    """

    share: Float32
    mixed: Bools
    under: Float32
    mark: Float32
    colour: Float32
    ground: Float32


def marks(albedo: Float32, shading: Shading, image: Float32, inside: Bools, distance: float) -> Marks | None:
    """Texels whose colour is further than `distance` from the object's usual one; None where there are none.

    The usual colour is the median of the albedo, so marks must cover less than half of what is seen of an object. The
    pass has one sample a pixel and the picture means over pixels; where marks end, the picture says how much is mark.

    Args:
        albedo: [h, w, 3], linear.
        shading: Of the old surface.
        image: [h, w, 3], linear.
        inside: [h, w], pixels of the object.
        distance: In OKLab, above 0.
    """
    tones = oklab_from_linear(albedo)
    usual = np.median(tones[inside], axis=0)
    apart = np.linalg.norm(tones - usual, axis=-1)
    share = np.where(inside, np.clip((apart / distance - 1) / _SOFT + 0.5, 0, 1), 0).astype(np.float32)
    core = share > 0.5
    if not core.any():
        return None
    solid = core.astype(np.float32)
    free = inside.astype(np.float32) - solid
    mark, under = _around(shading.base, solid), _around(shading.base, free)
    mixed = _spread(core) & _spread(inside & ~core) & inside
    light = np.maximum(shading.light[mixed], np.float32(1e-3))
    seen = np.asarray((image[mixed] - shading.rest[mixed]) / light, np.float32)
    # The pass has one sample a pixel: the mean of those around it is what the share of one is expected to be.
    expected: Any = cv2.blur(solid, _THREE, borderType=cv2.BORDER_REPLICATE)[mixed]
    share[mixed] = share_of_first(seen, mark[mixed], under[mixed], expected)
    colour, ground = np.median(albedo[core], axis=0), np.median(albedo[inside & ~core], axis=0)
    return Marks(share, mixed, under, mark, colour, ground)


def share_of_first(seen: Float32, first: Float32, second: Float32, expected: Float32) -> Float32:
    """[N] shares of the first colour in mixtures of two, all [N, 3], held to those [N] that are expected."""
    apart = first - second
    along = ((seen - second) * apart).sum(1) + _DOUBT * expected
    return np.clip(along / ((apart * apart).sum(1) + _DOUBT), 0, 1).astype(np.float32)


def _around(values: Float32, weight: Float32) -> Float32:
    """Weighted means over 5x5 pixels; the values themselves where nothing has weight."""
    count = cv2.blur(weight, _WIDE, borderType=cv2.BORDER_CONSTANT)[..., None]
    total = cv2.blur(values * weight[..., None], _WIDE, borderType=cv2.BORDER_CONSTANT)
    return np.where(count > 1e-3, total / np.maximum(count, np.float32(1e-3)), values)


def _spread(mask: Bools) -> Bools:
    return cv2.dilate(mask.view(np.uint8), np.ones(_THREE, np.uint8)).view(np.bool_)


def ink(found: Marks, grounds: Sequence[Float32], index: float) -> tuple[float, float, float] | bool | None:
    """The colour that keeps marks readable on a new surface.

    Depends on albedos and not on the light of the picture, so that all views of an object get the same ink.

    Args:
        found: The marks.
        grounds: What they are to be read on: [N, 3] linear albedos of each.
        index: Of refraction of the coat; what it mirrors makes black paler.

    Returns:
        None where they may stay as they are; linear RGB to repaint them with; False where no ink would be read.
    """
    seen = [_shown(ground, index) for ground in grounds]
    old = float(np.linalg.norm(_shown(found.colour, index) - _shown(found.ground, index)))
    wanted = min(old, _ENOUGH)
    own = _clear(_shown(found.colour, index), seen)
    if own >= wanted:
        return None
    best, colour = max((_clear(_shown(np.array(c, np.float32), index), seen), c) for c in _INKS)
    if max(best, own) < min(wanted, _READABLE):
        return False
    return colour if best > _BETTER * own else None


def _shown(albedo: Float32, index: float) -> Float64:
    """[..., 3] OKLab of albedos under usual light."""
    return oklab_from_linear(base_of(albedo, index) * _LIGHT + (_MIRRORED if index > 1 else 0.0))


def _clear(colour: Float64, grounds: Sequence[Float64]) -> float:
    """Distance of a colour from all but a few of the tones of every ground."""
    return min(float(np.quantile(np.linalg.norm(tones - colour, axis=1), _FEW)) for tones in grounds)

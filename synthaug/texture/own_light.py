"""What light an object gets, as it differs from that of the whole picture: eight numbers, fitted to all of it at once.

The diffuse light on a normal n is taken as (c0 + c n) times that of the picture, and what a coat mirrors as its Fresnel
share times (s0 + s n) times the colour of the light. A side in the shade of its neighbours, or a top below a lamp, is
met by these. Places of different albedo under the same normal tell the two kinds of light apart, as do colours; where
an object has neither, both are held near what is usual. What fits badly (highlights, shadow lines) counts less.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.texture.lighting import total

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
_USUAL = np.array([1.0, 0, 0, 0, 0.7, 0, 0, 0])
"""Expected c0, c, s0, s; a coat mirrors darker things than what shines on the object."""
_SPREAD = np.array([0.25, 0.5, 0.5, 0.5, 0.35, 1, 1, 1])
"""How far they usually are from that."""
_NOISE = 0.02
"""Spread of pixels around the model, linear."""
_ALIKE = 10.0
"""Neighbouring pixels that err alike: so many count as one."""
_ROUNDS = 3
_SUM = np.ones((1, 3))
_SURE = 0.05
_ENOUGH = 1000
"""Pixels that the fit looks at, about."""


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """What is known of the pixels of one object; N of them, or [h, w].

    Attributes:
        image: [..., 3], linear.
        expected: [..., 3], what a diffuse base would show under the light of the picture.
        shine: [...], Fresnel share of a coat; zeros where there is none.
        normals: [..., 3], unit.
        sure: [..., 3], how much each value is to be believed.
    """

    image: Float32
    expected: Float32
    shine: Float32
    normals: Float32
    sure: Float32


def fit(pixels: Pixels, colour: Float32) -> tuple[Float32, Float32]:
    """How the light on an object differs from the picture's.

    Costs about 0.3 ms, and 0.3 microseconds a pixel.

    Args:
        pixels: [h, w] of them.
        colour: [3], of the light that a coat mirrors.

    Returns:
        [h, w] factor on the diffuse light, above 0; [h, w, 3] what the coat mirrors.
    """
    # Evenly over the object: more pixels than these say nothing new, and cost.
    chosen = np.flatnonzero(cv2.transform(pixels.sure, _SUM) > _SURE)
    chosen = chosen[:: max(len(chosen) // _ENOUGH, 1)]
    if not len(chosen):
        mirrored = pixels.shine[..., None] * (colour * np.float32(_USUAL[4]))
        return np.ones(pixels.shine.shape, np.float32), np.asarray(mirrored, np.float32)
    weights = pixels.sure.reshape(-1, 3)[chosen].astype(np.float64)
    normals = pixels.normals.reshape(-1, 3)[chosen].astype(np.float64)
    middle = weights.mean(1) @ normals / weights.mean(1).sum()
    ways = np.concatenate([np.ones((len(normals), 1)), normals - middle], 1)
    coated = bool(pixels.shine.any())
    found = _solved(pixels, chosen, weights, ways, colour if coated else None)
    factor = np.clip(_along(pixels.normals, found[:4], middle), 0.03, 4)
    if not coated:
        return factor, np.zeros_like(pixels.image)
    mirror = np.clip(_along(pixels.normals, found[4:], middle), 0, 6) * pixels.shine
    return factor, np.asarray(mirror[..., None] * colour, np.float32)


def _along(normals: Float32, ways: Float64, middle: Float64) -> Float32:
    """[h, w]: a number and what is added to it along normals as they differ from their middle."""
    row = np.append(ways[1:], ways[0] - ways[1:] @ middle)
    return np.asarray(cv2.transform(normals, row[None].astype(np.float32)), np.float32)


def _solved(
    pixels: Pixels, chosen: NDArray[np.intp], weights: Float64, ways: Float64, colour: Float32 | None
) -> Float64:
    """[8]: c0, c, s0, s; the first four without the `colour` of what a coat mirrors."""
    image = pixels.image.reshape(-1, 3)[chosen]
    kinds = [pixels.expected.reshape(-1, 3)[chosen]]
    if colour is not None:
        kinds.append(pixels.shine.reshape(-1)[chosen][:, None] * colour)
    size = 4 * len(kinds)
    sums = [[total(weights * a * b) for b in kinds] for a in kinds]
    told = [total(weights * a * image) for a in kinds]
    hold, usual = ((_NOISE / _SPREAD) ** 2 * _ALIKE)[:size], _USUAL[:size]
    found, believed = usual, np.ones(len(image))
    for number in range(_ROUNDS):
        blocks = [[ways.T @ (ways * (believed * s)[:, None]) for s in row] for row in sums]
        right = np.concatenate([(believed * t) @ ways for t in told]) + hold * usual
        found = np.asarray(np.linalg.solve(np.block(blocks) + np.diag(hold), right), np.float64)
        if number < _ROUNDS - 1:
            parts = [(ways @ found[4 * k : 4 * k + 4])[:, None] * kind for k, kind in enumerate(kinds)]
            error = image - sum(parts[1:], parts[0])
            error = np.sqrt(total(weights * error**2) / np.maximum(total(weights), _SURE))
            spread = max(_NOISE, 1.5 * float(np.median(error)))
            believed = 1 / (1 + (error / (2 * spread)) ** 2)
    return found

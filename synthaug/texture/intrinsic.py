"""Light and albedo apart where no pass says the albedo: an estimate from the picture, normals and instances alone.

Light is taken to be white and to vary with the normal (the same for all objects) and slowly over each object; all else
is albedo. What stands out from an object's usual tone (print, pips, joints) is left out when its light is measured.
Nothing tells a bright object from a bright lamp, so two guesses fix the scale, by their geometric mean: that the
brightest twentieth of what is seen is of albedo 0.8 (white paint, paper), and that white under the mean light would be
exposed to 0.7. Shadow lines inside an object are taken for albedo.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.texture.lighting import Light, fit, total
from synthaug.texture.shading import Shading

Float32 = NDArray[np.float32]
Bools = NDArray[np.bool_]
_WHITE = 0.8
_EXPOSED = 0.7
_BRIGHT = 0.95
_ROUNDS = 3
_APART = 0.3
"""Logarithm of a tone's ratio to the object's usual one at which it counts half as light."""
_FIRM = 0.002
"""How firmly the light on an object is held to that of the picture, over what its pixels say."""
_DARKEST = 0.01


def light_of(image: Float32, normals: Float32, ids: NDArray[np.int32]) -> Light:
    """White light on normals, for objects of unknown albedo each.

    Costs about 10 ms for 4,000 samples.

    Args:
        image: [N, 3], linear.
        normals: [N, 3], unit; a sample whose normal is not finite does not count.
        ids: [N], which samples are of one object.
    """
    known = np.isfinite(normals).all(1) & np.isfinite(image).all(1)
    image, ids = image[known], ids[known]
    normals = normals[known]
    bright = image.mean(1)
    names, place = np.unique(ids, return_inverse=True)
    light = fit(np.empty((0, 3), np.float32), normals[:0], np.empty(0, np.float32))
    if not len(names):
        return light
    weights = np.ones(len(bright), np.float32)
    for _ in range(_ROUNDS):
        even = light.irradiance(normals).mean(1)
        ratio = bright / even
        own = np.array([np.median(ratio[place == number]) for number in range(len(names))], np.float32)
        own = np.maximum(own, np.float32(1e-3))[place]
        odd = np.log(np.maximum(ratio / own, np.float32(1e-3))) / np.float32(_APART)
        light = fit(np.repeat((bright / own)[:, None], 3, 1), normals, weights / (1 + odd * odd))
    even = light.irradiance(normals).mean(1)
    top, usual = max(float(np.quantile(bright / even, _BRIGHT)), 1e-3), float(even.mean())
    gain = np.float32(max(np.sqrt(top / _WHITE * _EXPOSED / usual), top))
    return Light(light.coefficients * gain, light.floor * gain)


def estimated(image: Float32, inside: Bools, pure: Bools, normals: Float32, even: Float32) -> Shading:
    """E of one object, all of it diffuse, and the base that makes the picture of it.

    Costs about 0.5 ms, and 0.1 microseconds a pixel of the cut.

    Args:
        image: [h, w, 3], linear.
        inside: [h, w], the object's own pixels.
        pure: [h, w], those of them that show nothing else.
        normals: [h, w, 3], unit.
        even: [h, w, 3], light of the picture on each normal, above 0.
    """
    asked = pure if pure.any() else inside
    tone = np.log(np.maximum(total(image), np.float32(1e-3)) / total(even))
    apart = np.where(inside, tone - _sides(tone, normals, asked), 0)
    votes = np.where(asked, 1 / (1 + (apart / np.float32(_APART)) ** 2) ** 2, 0).astype(np.float32)
    size = int(np.sqrt(np.count_nonzero(inside)))
    spread = max(size / 8, 2.0)
    slow = cv2.GaussianBlur(votes * apart, (0, 0), spread, borderType=cv2.BORDER_CONSTANT)
    count = cv2.GaussianBlur(votes, (0, 0), spread, borderType=cv2.BORDER_CONSTANT)
    usual = np.float32(np.median(tone[asked]))
    factor = np.exp(tone - apart - usual + slow / (count + np.float32(0.02)))
    light = even * np.where(inside, factor, 1)[..., None]
    base = np.clip(image / np.maximum(light, np.float32(1e-4)), np.float32(_DARKEST), 1)
    base[~inside] = 0
    rest = np.asarray(image - base * light, np.float32)
    return Shading(light, rest, np.asarray(base, np.float32), pure.astype(np.float32))


def _sides(tone: Float32, normals: Float32, asked: Bools) -> Float32:
    """[h, w]: an object's usual tone by its normal, four numbers in the logarithm; print and pips stand out of it."""
    values, ways = tone[asked].astype(np.float64), normals[asked].astype(np.float64)
    middle = ways.mean(0)
    ways = np.concatenate([np.ones((len(ways), 1)), ways - middle], 1)
    found = np.array([np.median(values), 0, 0, 0])
    hold = np.diag([1e-6, *([_FIRM] * 3)]) * len(values)
    for number in range(_ROUNDS + 2):
        # The first rounds let sides in the shade take part; the last ones leave out what stands out.
        reach = _APART * (3 if number < 2 else 1)
        weights = 1 / (1 + ((values - ways @ found) / reach) ** 2)
        weighed = ways * weights[:, None]
        found = np.linalg.solve(weighed.T @ ways + hold, weighed.T @ values)
    own = normals - middle.astype(np.float32)
    return (np.float32(found[0]) + own @ found[1:].astype(np.float32)).astype(np.float32)

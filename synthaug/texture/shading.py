"""The light on one object, taken out of its picture: what a diffuse surface shows, and what is left over.

A pixel of a surface with albedo A shows g(A) E + S: light E that the base returns, and what the coat mirrors, S. Here E
is found from the picture, A and the normals; S is what remains, kept as it is. So a new albedo B gives g(B) E + S.

E is q times the light of the whole picture on that normal (`lighting`): q is 1 where nothing shades or adds light, and
is estimated at three reaches, each leaning on the wider one where it knows too little: over the object, around the
pixel, and the pixel itself. How much a place knows is the energy of g(A) there, so dark albedos are not divided by; and
pixels beside a change of albedo, which the pass samples at the pixel's centre and the picture averages, do not vote.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.texture import own_light
from synthaug.texture.lighting import total, tripled

Float32 = NDArray[np.float32]
Bools = NDArray[np.bool_]
_PLAIN = 0.001
"""Square of the noise of a picture over the expected spread of q: what a place must know to be believed by half."""
_COATED = 0.01
"""Likewise with a coat, whose reflections are not known better than a few hundredths."""
_OWN, _OWN_COATED, _VOTE = 0.05, 0.1, 0.7
"""Relative changes of albedo among neighbours at which a pixel's own value (without and with a coat, whose reflections
it alone shows), and its vote among others, count half; they fall off by the powers 4 and 2."""
_BRIGHTEST = 1.2
"""Under a coat, q above this much of that around it is a reflection."""
_WHITE = (0.7, 0.95)
"""Linear values between which a picture's own say fades: cameras roll off towards white."""
_WHOLE = 0.995
"""Share of a pixel from which an object counts as all of it."""
_THREE = np.ones((3, 3), np.uint8)
_NEAR, _SIDE = (5, 5), (3, 3)
_SUM = np.ones((1, 3))
_USUAL = 0.75
"""Mean share of an object in the pixels at its border whose centres it covers."""
_LOOSE = 0.2
"""Spread of that share."""
_TOLD = 0.4
"""Relative spread of the light at a border around what is expected there."""
_NOISE = 0.02
"""Spread of a pixel around the mixture that it is taken for."""
_MOST = 1.5


@dataclass(frozen=True, slots=True, eq=False)
class Shading:
    """What the picture of one object is made of, over a cut [h, w] around it.

    Attributes:
        light: [h, w, 3], E.
        rest: [h, w, 3], S; may be negative where the model shows more than there is.
        base: [h, w, 3], g(A) of the old surface.
        sure: [h, w], 0 to 1: whether the pixel's own value stands behind `rest`; 0 beside changes of albedo, and at the
            border of the object.
    """

    light: Float32
    rest: Float32
    base: Float32
    sure: Float32

    def of_pixels(
        self, rows: Any, image: Float32, behind: Float32, cover: Float32 | None, usual: float = _USUAL
    ) -> Float32:
        """[N, 3]: the light of the object in pixels that show something else as well: its share a times E.

        A pixel shows a (g(A) E + S) + (1 - a) B. Least squares over the channels finds a and a E together, each held to
        what is expected of it: so a side of the object that is darker than thought is not taken for less of the object.

        Args:
            rows: Index of N pixels.
            image: [h, w, 3].
            behind: [h, w, 3], B; NaN where it is not known.
            cover: [N], a, where it is known.
            usual: What a is expected to be where it is not.
        """
        old = self.base[rows] * self.light[rows]
        other = behind[rows]
        other = np.where(np.isfinite(other), other, old + self.rest[rows])
        share = np.float32(usual) if cover is None else cover
        loose = np.float32(_LOOSE if cover is None else 1e-3)
        # Unknown: the share a, and a times the factor k by which E differs from the expected; k is 1 within _TOLD.
        first, seen = self.rest[rows] - other, image[rows] - other
        noise = np.float32(_NOISE**2)
        hold_a, hold_k = noise / loose**2, noise / (np.maximum(share, np.float32(0.05)) * np.float32(_TOLD)) ** 2
        aa, ak, kk = (first * first).sum(1), (first * old).sum(1), (old * old).sum(1)
        x, y = (first * seen).sum(1) + hold_a * share, (old * seen).sum(1)
        aa, ak, kk = aa + hold_a + hold_k, ak - hold_k, kk + hold_k
        both = np.clip((y * aa - x * ak) / np.maximum(aa * kk - ak * ak, np.float32(1e-12)), 0, _MOST)
        return both[:, None] * self.light[rows]


def base_of(albedo: Float32, index: float) -> Float32:
    """g(A): the share of the light that a diffuse base returns, in units of a white one, any shape.

    Under a coat light is sent back to the base again and again, which makes colours deeper: A (1 - F) / (1 - F A) with
    F the internal diffuse reflectance of the coat (Egan and Hilgeman, Applied Optics 1973).

    Args:
        index: Index of refraction of the coat; 1 for none.
    """
    if index <= 1:
        return albedo
    inner = np.float32(-1.440 / index**2 + 0.710 / index + 0.668 + 0.0636 * index)
    return np.asarray(albedo * (1 - inner) / (1 - inner * albedo), np.float32)


def fresnel(normals: Float32, views: Float32, index: float) -> Float32:
    """[...]: the share of light that a coat mirrors, by Schlick's formula (1994); zeros without one.

    Args:
        normals: [..., 3], unit.
        views: [..., 3], unit, from the surface to the camera.
        index: Of refraction.
    """
    if index <= 1:
        return np.zeros(normals.shape[:-1], np.float32)
    cosine = np.clip(total(normals * views), 0, 1)
    straight = np.float32(((index - 1) / (index + 1)) ** 2)
    return straight + (1 - straight) * (1 - cosine) ** 5


def separated(
    image: Float32, base: Float32, pure: Bools, normals: Float32, even: Float32, shine: Float32, colour: Float32
) -> Shading:
    """E and S of one object.

    Costs about 0.7 ms, and 0.06 microseconds a pixel of the cut.

    Args:
        image: [h, w, 3], linear.
        base: [h, w, 3], g(A); 0 outside the object.
        pure: [h, w], pixels that show nothing but the object (`pure_pixels`).
        normals: [h, w, 3], unit.
        even: [h, w, 3], light of the picture on each normal (`Light.irradiance`), above 0.
        shine: [h, w], Fresnel share of the coat (`fresnel`); zeros where there is none.
        colour: [3], of the light.
    """
    coated = bool(shine.any())
    sure, fair = _sure(base, pure, _OWN_COATED if coated else _OWN)
    # What is nearly white may have been brighter than a picture can say.
    seen = unclipped(image)
    votes, among = tripled(sure) * seen, tripled(fair) * seen
    expected = base * even
    factor, coat = own_light.fit(own_light.Pixels(image, expected, shine, normals, among), colour)
    factor = tripled(factor)
    even = even * factor
    shown = image - coat if coated else image
    least = np.float32(_COATED if coated else _PLAIN)
    expected *= factor
    # The pass has one sample a pixel, so what is expected is noisy where albedo is fine; multiplied by itself it would
    # always seem too bright. Means of the neighbours weigh it without bias.
    weigh = _near(expected, _SIDE)
    weigh *= among
    told, known = weigh * shown, np.multiply(weigh, expected, out=weigh)
    around = _around(told, known, pure, least, coated=coated)
    known = votes * expected
    q = known * shown
    q += around * least
    known *= expected
    known += least
    q /= known
    if coated:
        np.minimum(q, np.multiply(around, np.float32(_BRIGHTEST), out=around), out=q)
    light = np.multiply(np.maximum(q, 0, out=q), even, out=even)
    rest = np.asarray(image - base * light, np.float32)
    return Shading(light, _kept(rest, votes, coat if coated else None), base, sure)


def _around(told: Float32, known: Float32, pure: Bools, least: np.float32, *, coated: bool) -> Float32:
    """[h, w, 3]: q around each pixel, leaning on that over the object where little is known."""
    far = _far(told, known, pure, least)
    around, near = _near(told), _near(known)
    if not coated:
        # Channels in which the surface is dark know little: they lean on what all of them say here.
        far = tripled((cv2.transform(around, _SUM) + far[..., 0] * least) / (cv2.transform(near, _SUM) + least))
    around += np.multiply(far, least, out=far)
    around /= np.add(near, least, out=near)
    return around


def _near(values: Float32, size: tuple[int, int] = _NEAR) -> Float32:
    """Means over the neighbours; zeros lie outside."""
    return np.asarray(cv2.blur(values, size, borderType=cv2.BORDER_CONSTANT), np.float32)


def _kept(rest: Float32, votes: Float32, coat: Float32 | None) -> Float32:
    """[h, w, 3]: S where a pixel's own value is to be believed, elsewhere of those around it; overwrites `rest`."""
    around = _near(votes * rest)
    if coat is not None:
        around += np.float32(0.02) * coat
    reach = _near(votes)
    around /= np.add(reach, np.float32(0.02), out=reach)
    rest -= around
    rest *= votes
    rest += around
    return rest


def unclipped(image: Float32) -> Float32:
    """1 for values well below white, falling to 0 for those that are white or beyond."""
    return np.clip((_WHITE[1] - image) / np.float32(_WHITE[1] - _WHITE[0]), 0, 1)


def _far(told: Any, known: Any, pure: Bools, least: np.float32) -> Float32:
    """[h, w, 3]: q over two fifths of the object's side, of all channels together, leaning on 1."""
    size = int(np.sqrt(np.count_nonzero(pure)))
    wide = (2 * max(size // 5, 3) + 1,) * 2
    share = np.maximum(cv2.blur(pure.astype(np.float32), wide, borderType=cv2.BORDER_CONSTANT), np.float32(0.02))
    told, known = (
        cv2.blur(cv2.transform(x, _SUM), wide, borderType=cv2.BORDER_CONSTANT) / share for x in (told, known)
    )
    return tripled(np.asarray((told + least) / (known + least), np.float32))


def pure_pixels(inside: Bools, cover: Float32 | None) -> Bools:
    """[h, w]: pixels that show nothing but an object: where its share is 1; where no pass says it, off its border."""
    if cover is not None:
        return inside & (cover > _WHOLE)
    return cv2.erode(inside.view(np.uint8), _THREE, borderType=cv2.BORDER_REPLICATE).view(np.bool_)


def _sure(base: Float32, pure: Bools, own: float) -> tuple[Float32, Float32]:
    """[h, w] twice, 0 to 1: whether a pixel's own value is to be believed, and whether it is to be asked among others.

    Both are 0 at the border; where albedo changes from pixel to pixel the first falls off sooner.
    """
    mean = cv2.transform(base, _SUM / 3)
    solid = pure.astype(np.float32)
    low = cv2.erode(mean * solid + 2 * (1 - solid), _THREE)
    high = cv2.dilate(mean * solid, _THREE)
    square = np.square((high - low) / (mean + np.float32(0.02)))
    sure = solid / (1 + np.square(square / np.float32(own**2)))
    fair = solid / (1 + square / np.float32(_VOTE**2))
    return np.asarray(sure, np.float32), np.asarray(fair, np.float32)

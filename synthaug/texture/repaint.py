"""One object's picture with a new surface: new albedo under the light that was there, mixed in where it is seen.

Inside an object a pixel becomes g(B) E + S. At its border a pixel shows something else as well: there only the
difference g(B) - g(A) is added, times E and the share of the object, so what lies behind keeps its part and nothing is
divided. Where protected marks end, both sides are known, and the pixel is put together from them by their shares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.texture.lighting import tripled
from synthaug.texture.protection import Marks
from synthaug.texture.shading import Shading

Float32 = NDArray[np.float32]
Bools = NDArray[np.bool_]
_THREE = np.ones((3, 3), np.uint8)
_MARGIN = 0.02
"""Linear values by which a pixel may lie outside of the two that it is a mixture of."""
_BESIDE = 0.25
"""Mean share of an object in the pixels beside it whose centres it misses."""


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """What an object is to be made of, over a cut [h, w].

    Attributes:
        base: [h, w, 3], g of the new albedo (`shading.base_of`), times the light on the new relief over that on the old
            shape.
        share: [h, w], 0 to 1, how much of the new surface there is; 0 wherever it is not known.
        marks: What stays of the old surface.
        ink: [3], base that marks are repainted with; None where they keep their own.
    """

    base: Float32
    share: Float32
    marks: Marks | None = None
    ink: Float32 | None = None


def change(
    image: Float32,
    ids: NDArray[np.int32],
    inside: Bools,
    pure: Bools,
    shading: Shading,
    surface: Surface,
    cover: Float32 | None,
    *,
    fringe: bool,
) -> Float32:
    """[h, w, 3] to add to the picture; exactly 0 outside the object and where there is no new surface.

    Args:
        image: [h, w, 3], linear.
        ids: [h, w], which object each pixel belongs to.
        inside: [h, w], those of this one.
        pure: [h, w], those of them that show nothing else.
        shading: Of the old surface.
        surface: The new one.
        cover: [h, w], share of the object in each pixel, where a pass says it; else it is estimated.
        fringe: Whether pixels beside the object change as well.
    """
    found = surface.base * shading.light
    found += shading.rest
    found -= image
    found *= tripled(surface.share)
    if surface.marks is not None:
        found = _with_marks(found, image, shading, surface)
    border = np.nonzero(inside & ~pure)
    other = behind(image, inside, ids)
    if len(border[0]):
        new = found[border] + image[border]
        lit = shading.of_pixels(border, image, other, None if cover is None else cover[border])
        step = _wanted(shading, surface, border) * lit
        found[border] = _between(image[border], step, new, other[border])
    found = np.asarray(cv2.copyTo(found, inside.view(np.uint8)), np.float32)
    if fringe:
        _beside(found, image, inside, shading, surface, other, cover)
    return found


def _wanted(shading: Shading, surface: Surface, rows: Any) -> Float32:
    """[N, 3]: change of base where marks keep their colour, or are repainted."""
    step = (surface.base[rows] - shading.base[rows]) * surface.share[rows][:, None]
    if surface.marks is None:
        return step
    part = surface.marks.share[rows][:, None]
    drawn = np.float32(0) if surface.ink is None else surface.ink - shading.base[rows]
    return np.asarray((1 - part) * step + part * drawn, np.float32)


def _with_marks(found: Float32, image: Float32, shading: Shading, surface: Surface) -> Float32:
    """The change where marks lie: none on marks that keep their colour, and no trace of the old surface around them."""
    marks = surface.marks
    assert marks is not None
    part = marks.share[..., None]
    mark = marks.mark if surface.ink is None else np.broadcast_to(surface.ink, image.shape)
    under = found + image
    drawn = mark * shading.light + shading.rest
    touched = marks.mixed if surface.ink is None else marks.mixed | (marks.share > 0)
    put = (1 - part) * under + part * drawn - image
    if surface.ink is None:
        put *= surface.share[..., None]
    return np.where(touched[..., None], put, found * (1 - part))


def _between(image: Float32, step: Float32, new: Float32, other: Float32) -> Float32:
    """[N, 3]: a step that does not lead out of what lies between the new surface and what is behind it."""
    other = np.where(np.isfinite(other), other, image)
    # What is behind is a mean of its surroundings, and the pixel itself may have been outside of the range before.
    low = np.minimum(np.minimum(new, other) - np.float32(_MARGIN), image)
    high = np.maximum(np.maximum(new, other) + np.float32(_MARGIN), image)
    return np.where(step == 0, 0, np.clip(image + step, low, high) - image)


def _beside(
    found: Float32,
    image: Float32,
    inside: Bools,
    shading: Shading,
    surface: Surface,
    other: Float32,
    cover: Float32 | None,
) -> None:
    """Adds the change of pixels beside the object, from the means of its pixels next to them."""
    solid = inside.view(np.uint8)
    rows = np.nonzero((cv2.dilate(solid, _THREE) > 0) & ~inside)
    if not len(rows[0]):
        return
    count = cv2.blur(solid.astype(np.float32), (3, 3), borderType=cv2.BORDER_CONSTANT)[rows][:, None]

    def near(values: Float32) -> Float32:
        spread = cv2.blur(np.where(inside[..., None], values, 0), (3, 3), borderType=cv2.BORDER_CONSTANT)
        return np.asarray(spread[rows] / count, np.float32)

    full = np.zeros_like(image)
    light, base, rest = full.copy(), full.copy(), full.copy()
    light[rows], base[rows], rest[rows] = near(shading.light), near(shading.base), near(shading.rest)
    beside = Shading(light, rest, base, shading.sure)
    lit = beside.of_pixels(rows, image, other, None if cover is None else 1 - cover[rows], usual=_BESIDE)
    part = surface.share * (1 if surface.marks is None else 1 - surface.marks.share)
    found[rows] = near(np.asarray(part[..., None] * (surface.base - shading.base), np.float32)) * lit


def behind(image: Float32, inside: Bools, ids: NDArray[np.int32]) -> Float32:
    """[h, w, 3]: what shares the pixels at the border of an object with it; NaN where that is not known.

    For a pixel beside the object the mean of what it belongs to itself, for one of the object of what lies beside it;
    both from pixels within 3 that show none of the object.
    """
    touching = cv2.dilate(inside.view(np.uint8), _THREE) > 0
    beside = np.where(inside, -1, ids)
    # The object's own border pixels take the largest id next to them: ids of neighbours do not mix.
    spread = cv2.dilate(beside.astype(np.float32), _THREE)
    rows, columns = np.nonzero(touching & (cv2.erode(inside.view(np.uint8), _THREE) == 0))
    wanted = np.where(inside[rows, columns], spread[rows, columns].astype(np.int32), ids[rows, columns])
    found = np.full(image.shape, np.nan, np.float32)
    clear = np.where(touching, -1, beside)
    for number in np.unique(ids[rows, columns][~inside[rows, columns]]):
        # Only around where the two meet.
        chosen = wanted == number
        y, x = rows[chosen], columns[chosen]
        top, left = max(y.min() - 4, 0), max(x.min() - 4, 0)
        part = (slice(top, y.max() + 5), slice(left, x.max() + 5))
        weight = (clear[part] == number).astype(np.float32)
        count = cv2.blur(weight, (7, 7), borderType=cv2.BORDER_CONSTANT)[y - top, x - left]
        total = cv2.blur(tripled(weight) * image[part], (7, 7), borderType=cv2.BORDER_CONSTANT)[y - top, x - left]
        known = count > 1e-3
        found[y[known], x[known]] = total[known] / count[known][:, None]
    return found

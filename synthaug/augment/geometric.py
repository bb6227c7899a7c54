"""Motions of the picture plane. Each says how a picture moves; `synthaug.warp` moves it, labels included.

Neighbouring stages are composed by the engine and resampled once, so a chain of them costs and blurs like
one. Draws are relative to the canvas, so one draw serves pictures of several sizes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synthaug.augment import ranges
from synthaug.contracts import Border, Draw, Geometry
from synthaug.errors import ConfigError
from synthaug.labels import Labels, Size
from synthaug.warp import motion
from synthaug.warp.motion import Warp


class Flip(Geometry):
    """Mirrors the picture. Keypoints swap sides as their category says; poses become improper.

    Args:
        horizontal: Probability in [0, 1] of a mirror left to right.
        vertical: Probability in [0, 1] of a mirror top to bottom.
        scope: `sample`, or `group`: one draw for all samples of a group (frames of a sequence, views of a scene).
    """

    sees = "size"

    def __init__(self, *, horizontal: float = 0.5, vertical: float = 0.0, scope: ranges.Shared = "sample") -> None:
        self.scope = ranges.shared(scope)
        self.horizontal = ranges.probability("horizontal", horizontal)
        self.vertical = ranges.probability("vertical", vertical)

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        return {
            "horizontal": ranges.applies(rng, self.horizontal),
            "vertical": ranges.applies(rng, self.vertical),
        }

    def warp(self, labels: Labels, draw: Draw) -> Warp:
        across = motion.hflip(labels.size) if draw["horizontal"] else Warp.identity(labels.size)
        return across.then(motion.vflip(labels.size)) if draw["vertical"] else across


class Rotate90(Geometry):
    """Turns the picture by quarter turns, without resampling.

    A canvas that is not square keeps its shape under half turns only: where `turns` mixes odd and even
    ones, such a canvas draws from the even ones alone; where all are odd, height and width change places.

    Args:
        turns: Quarter turns clockwise to choose from, whole numbers 0..3, not empty.
        scope: `sample`, or `group`: one draw for all samples of a group (frames of a sequence, views of a scene).
    """

    sees = "size"

    def __init__(self, *, turns: Sequence[int] = (0, 1, 2, 3), scope: ranges.Shared = "sample") -> None:
        self.scope = ranges.shared(scope)
        if isinstance(turns, str) or not turns or any(t not in (0, 1, 2, 3) for t in turns):
            raise ConfigError(f"turns is {turns!r}, expected a list of whole numbers within [0, 3] quarter turns")
        self.turns = tuple(int(t) for t in turns)

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        turns = self._possible(labels.size)
        return {"turns": turns[int(rng.integers(len(turns)))]}

    def warp(self, labels: Labels, draw: Draw) -> Warp:
        return motion.rotation(labels.size, -90.0 * draw["turns"], expand=True)

    def canvas(self, size: Size) -> Size:
        return (size[1], size[0]) if self._possible(size)[0] % 2 else size

    def _possible(self, size: Size) -> tuple[int, ...]:
        even = tuple(t for t in self.turns if t % 2 == 0)
        return self.turns if size[0] == size[1] or not even else even


class Affine(Geometry):
    """Rotates, scales, shears and shifts about the centre of the picture; the canvas stays.

    Args:
        rotation: Range in degrees within [-180, 180], clockwise positive.
        scale: Range of the magnification within [0.1, 10]; drawn log-uniformly.
        shear_x: Range in degrees within [-40, 40]; slants vertical lines.
        shear_y: Range in degrees within [-40, 40]; slants horizontal lines.
        translate_x: Range as a share of the width within [-1, 1]; right positive.
        translate_y: Range as a share of the height within [-1, 1]; down positive.
        cover: Scales up by just as much more as keeps the canvas filled, whatever was drawn; else empty borders
            appear. Small objects at the edges may leave the picture.
        border: What shows where the view leaves the picture: `constant` (black), or `reflect`, the picture mirrored
            at its edges. Mirrored objects have no labels; where there is a `semantic` or `ignore` pass, such pixels
            are marked in `ignore`.
        probability: Share of the samples that are moved, in [0, 1].
        scope: `sample`, or `group`: one draw for all samples of a group (frames of a sequence, views of a scene).
    """

    sees = "size"

    def __init__(
        self,
        *,
        rotation: Sequence[float] = (-10.0, 10.0),
        scale: Sequence[float] = (0.9, 1.1),
        shear_x: Sequence[float] = (-3.0, 3.0),
        shear_y: Sequence[float] = (-3.0, 3.0),
        translate_x: Sequence[float] = (-0.05, 0.05),
        translate_y: Sequence[float] = (-0.05, 0.05),
        cover: bool = False,
        border: Border = "constant",
        probability: float = 1.0,
        scope: ranges.Shared = "sample",
    ) -> None:
        self.scope = ranges.shared(scope)
        self.rotation = ranges.interval("rotation", rotation, -180, 180, "degrees")
        self.scale = ranges.interval("scale", scale, 0.1, 10, "(magnification)")
        self.shear_x = ranges.interval("shear_x", shear_x, -40, 40, "degrees")
        self.shear_y = ranges.interval("shear_y", shear_y, -40, 40, "degrees")
        self.translate_x = ranges.interval("translate_x", translate_x, -1, 1, "of the width")
        self.translate_y = ranges.interval("translate_y", translate_y, -1, 1, "of the height")
        self.cover = bool(cover)
        self.border = ranges.border(border)
        self.probability = ranges.probability("probability", probability)

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        return {
            "apply": ranges.applies(rng, self.probability),
            "rotation": ranges.uniform(rng, self.rotation),
            "scale": ranges.log_uniform(rng, self.scale),
            "shear": [ranges.uniform(rng, self.shear_x), ranges.uniform(rng, self.shear_y)],
            "translate": [ranges.uniform(rng, self.translate_x), ranges.uniform(rng, self.translate_y)],
        }

    def warp(self, labels: Labels, draw: Draw) -> Warp:
        if not draw["apply"]:
            return Warp.identity(labels.size)
        warp = self._scaled(labels.size, draw, draw["scale"])
        if not self.cover:
            return warp
        return self._scaled(labels.size, draw, draw["scale"] * _excess(warp))

    def _scaled(self, size: Size, draw: Draw, scale: float) -> Warp:
        return motion.affine(
            size,
            scale=(scale, scale),
            degrees=-draw["rotation"],
            shear=(draw["shear"][0], draw["shear"][1]),
            translate=(draw["translate"][0] * size[1], draw["translate"][1] * size[0]),
        )


def _excess(warp: Warp) -> float:
    """How much larger an affine motion must be so that its canvas sees nothing but the picture; at least 1.

    The motion is about the centre, so what its pixels see shrinks toward the centre as it grows. The outermost
    pixel centres decide: what lies beyond those of the picture would be blended with the outside.
    """
    height, width = warp.source
    corners = [(x, y) for x in (0.5, width - 0.5) for y in (0.5, height - 0.5)]
    seen = np.abs(warp.backward(corners) - (width / 2, height / 2))
    return max(1.0, float((seen / np.maximum((width / 2 - 0.5, height / 2 - 0.5), 0.5)).max()))


class Perspective(Geometry):
    """Looks at the picture from aside: its corners move, straight lines stay straight.

    Args:
        jitter: How far each corner may move, as a share of the side, within [0, 0.24] (beyond 0.25 four
            corners need not be convex).
        cover: Corners of the view move inwards only, so that the canvas stays filled; else they move both
            ways and empty borders appear.
        border: What shows where the view leaves the picture: `constant` (black), or `reflect`, the picture mirrored
            at its edges. Mirrored objects have no labels; where there is a `semantic` or `ignore` pass, such pixels
            are marked in `ignore`.
        probability: Share of the samples that are moved, in [0, 1].
        scope: `sample`, or `group`: one draw for all samples of a group (frames of a sequence, views of a scene).
    """

    sees = "size"

    def __init__(
        self,
        *,
        jitter: float = 0.08,
        cover: bool = True,
        border: Border = "constant",
        probability: float = 1.0,
        scope: ranges.Shared = "sample",
    ) -> None:
        self.scope = ranges.shared(scope)
        self.jitter = ranges.number("jitter", jitter, 0, 0.24, "of the side")
        self.cover = bool(cover)
        self.border = ranges.border(border)
        self.probability = ranges.probability("probability", probability)

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        apply = ranges.applies(rng, self.probability)
        moves = rng.uniform(0.0 if self.cover else -1.0, 1.0, (4, 2)) * self.jitter
        return {"apply": apply, "corners": [[float(x), float(y)] for x, y in moves]}

    def warp(self, labels: Labels, draw: Draw) -> Warp:
        if not draw["apply"]:
            return Warp.identity(labels.size)
        height, width = labels.size
        unit = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        view = unit + np.array(draw["corners"]) * (1 - 2 * unit)
        return motion.perspective(labels.size, view * (width, height)).inverse()

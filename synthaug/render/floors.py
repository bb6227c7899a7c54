"""What dice are thrown on: the mat with its plastic edge, the card tray, or a table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthaug.render import palette
from synthaug.render.scene import Body, Float64, Material, pose
from synthaug.render.shapes import Plane, Plate, RoundedBox
from synthaug.render.textures import Solid

_FLAT = np.eye(3)
_BELOW = -0.003
"""Height of the mat under a tray, metres."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A floor at z = 0 and the rectangle of it on which dice may lie.

    Attributes:
        bodies: Floor and furniture, all background to the labels.
        centre, half: Of the rectangle, metres along x and y.
    """

    bodies: tuple[Body, ...]
    centre: tuple[float, float]
    half: tuple[float, float]


def mat(visible: Float64, scale: float, rng: np.random.Generator) -> Stage:
    """The pale sheet with its clip at the top or the bottom of the picture.

    Args:
        visible: Half-sizes of the floor that an overhead camera sees, metres.
        scale: Size of the furniture, 1 for a picture of 32 cm.
    """
    side = 1 if rng.random() < 0.6 else -1
    bodies = (Body("mat", Plane(1.6, 1.6), palette.mat(rng), pose(_FLAT, (0, 0, 0))), *_clip(visible, scale, side, 0.0))
    half_x, half_y = 0.84 * visible
    taken = 0.3 * scale * 0.12 - 0.1 * float(visible[1])
    return Stage(bodies, (0.0, -side * taken / 2), (float(half_x), float(half_y) - taken / 2))


def tray(visible: Float64, scale: float, rng: np.random.Generator) -> Stage:
    """A shallow box of card on the mat: pale floor and walls, dark printed rim."""
    half = np.array([0.79 * visible[0], min(0.63 * visible[0], 0.68 * visible[1])])
    centre = np.array([rng.normal(0, 0.01), 0.09 * visible[1] / 1.0]) * [scale, 1]
    high = float(rng.uniform(0.024, 0.034)) * scale
    below = Body("mat", Plane(1.6, 1.6), palette.mat(rng), pose(_FLAT, (0, 0, _BELOW)))
    bodies = (below, *_box(centre, half, high, scale, rng), *_clip(visible, scale, -1, _BELOW))
    inner = half - 0.002 * scale
    return Stage(bodies, (float(centre[0]), float(centre[1])), (float(inner[0]), float(inner[1])))


def table(visible: Float64, rng: np.random.Generator) -> Stage:
    """Paper, felt, cloth, wood or plastic up to the horizon."""
    name, material = palette.table(rng)
    half_x, half_y = 0.84 * visible
    turn = float(rng.uniform(-np.pi, np.pi))
    cos, sin = np.cos(turn), np.sin(turn)
    lie = pose(np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]]), (0, 0, 0))
    return Stage((Body(name, Plane(1.6, 1.6), material, lie),), (0.0, 0.0), (float(half_x), float(half_y)))


def _clip(visible: Float64, scale: float, side: int, z: float) -> list[Body]:
    """The milky plastic edge of the mat with its two magnets, at the top (1) or bottom (-1) of the picture."""
    depth, high = 0.038 * scale, 0.0022 * scale
    y = side * (float(visible[1]) * 0.995 - depth / 2)
    bar = Plate(float(visible[0]) * 1.99, depth, high, 0.007 * scale, high / 2)
    plastic = Material(Solid((0.80, 0.82, 0.84)), 0.18)
    button = Plate(0.0124 * scale, 0.0124 * scale, 0.0004 * scale, 0.0062 * scale, 0.0002 * scale)
    magnet = Material(Solid((0.17, 0.17, 0.17)), 0.3)
    bodies = [Body("clip", bar, plastic, pose(_FLAT, (0, y, z)))]
    for number, x in enumerate((-0.83, 0.83)):
        place = (float(visible[0]) * x, y, z + high - 0.0001 * scale)
        bodies.append(Body(f"magnet-{number}", button, magnet, pose(_FLAT, place)))
    return bodies


def _box(centre: Float64, half: Float64, high: float, scale: float, rng: np.random.Generator) -> list[Body]:
    """Floor, four pale linings and four dark walls around them, a little higher."""
    lining, thick = 0.0012 * scale, 0.0042 * scale
    card, walls, print_rim = palette.card(rng, 0.46), palette.card(rng, 0.27), palette.print_rim(rng)
    width, depth = (float(v) for v in 2 * (half + lining))
    bodies = [Body("tray", Plane(width, depth), card, pose(_FLAT, (float(centre[0]), float(centre[1]), 0.0)))]
    layers = (("lining", walls, 0.0, lining, high - 0.001 * scale), ("rim", print_rim, lining, thick, high))
    for name, material, inner, across, top in layers:
        for axis in (0, 1):
            size, place = np.empty(3), np.empty(3)
            size[axis], size[1 - axis], size[2] = across, 2 * (half[1 - axis] + inner), top - _BELOW
            # Walls along x carry the corners, so that no two of them share a surface.
            size[1 - axis] += 2 * across * axis
            place[2] = (top + _BELOW) / 2
            for sign in (-1, 1):
                place[:2] = centre
                place[axis] += sign * (half[axis] + inner + across / 2)
                shape = RoundedBox((float(size[0]), float(size[1]), float(size[2])), across / 4, 2)
                bodies.append(
                    Body(f"{name}-{'xy'[axis]}{'+' if sign > 0 else '-'}", shape, material, pose(_FLAT, place))
                )
    return bodies

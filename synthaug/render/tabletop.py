"""The table-top scene: simple objects with and without edges on a table by a wall, mostly without gloss.

A scene is a function of (seed, index) and of the options alone. Everything in it is an instance, table and wall
included, and has texture coordinates true to scale: made for changing textures, and for judging those who do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from synthaug import seeds
from synthaug.camera import Matrix, from_fov
from synthaug.labels import Size
from synthaug.render import covers, solids
from synthaug.render.scene import Body, Float64, Scene, Shape, View, pose
from synthaug.render.setting import ceiling_lamp, scene_id, sky, upright
from synthaug.render.shapes import Plane, RoundedBox

CLASSES = ("table", "wall", "box", "cylinder", "ball", "bowl", "vase", "ring", "cushion")
_SLOT = "render.tabletop"
_TABLE = (3.2, 1.8)
"""Width and depth in metres."""
_HIGH = 1.6
"""Height of the wall, metres."""
_WALL = 0.45
"""How far behind the middle of the objects the wall stands, metres."""
_FIELD = (0.3, 0.22)
"""Half-sizes of the part of the table that objects stand on, metres."""
_GAP = 0.004
_TRIES = 200
Extent = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Options:
    """What the scene depends on besides seed and index.

    Attributes:
        objects: Smallest and largest number of them on the table.
        size: (height, width) of the pictures.
        coated: Share of hard objects with a clear coat, 0 to 1.
        environment: Path of a .hdr file; empty for the procedural room.
    """

    objects: tuple[int, int]
    size: Size
    coated: float
    environment: str


@dataclass(frozen=True, slots=True)
class _Solid:
    """A shape, its extent along x, y and z, and the metres of one unit of u and v."""

    shape: Shape
    extent: Extent
    unit: float


def scene(seed: int, index: int, options: Options) -> Scene:
    """The scene with this number. Costs a millisecond or two: recipes only, nothing is painted."""
    name = scene_id(index)
    rng = seeds.generator(seed, name, 0, _SLOT)
    room = _room(rng)
    bodies = (*room, *_objects(options, rng))
    return Scene(name, bodies, sky(options.environment, rng), (ceiling_lamp(rng, 0.5),), CLASSES)


def view(seed: int, index: int, number: int, options: Options) -> View:
    """One camera on a scene: view 0 from 30 to 45 degrees up, the others from 20 to 60, within 50 of straight ahead."""
    rng = seeds.generator(seed, scene_id(index), 0, f"{_SLOT}.view-{number}")
    height, width = options.size
    low, high, aside = (30, 45, 20) if number == 0 else (20, 60, 50)
    rise, turn = np.radians(rng.uniform(low, high)), np.radians(rng.uniform(-aside, aside))
    away = np.array([np.cos(rise) * np.sin(turn), -np.cos(rise) * np.cos(turn), np.sin(rise)])
    target = np.append(rng.normal(0, 0.02, 2), 0.03)
    camera = from_fov(width, height, float(rng.uniform(40, 48)))
    return View(
        f"view-{number}",
        options.size,
        upright(camera, target + float(rng.uniform(0.9, 1.1)) * away, target, float(np.radians(rng.normal(0, 1)))),
        exposure=float(rng.normal(0, 0.06)),
        cast=(float(np.exp(rng.normal(0.03, 0.012))), 1.0, float(np.exp(rng.normal(-0.015, 0.015)))),
        vignette=float(rng.uniform(0.1, 0.3)),
        noise_seed=seeds.fork(rng),
    )


def _room(rng: np.random.Generator) -> tuple[Body, Body]:
    """Table and wall, which share an edge."""
    width, depth = _TABLE
    lie = pose(np.eye(3), (0.0, _WALL - depth / 2, 0.0))
    stand = pose(np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]]), (0.0, _WALL, _HIGH / 2))
    return (
        _body("table", Plane(*_TABLE), covers.table(_TABLE, rng), lie, (*_TABLE, 0.0), _TABLE),
        _body(
            "wall", Plane(width, _HIGH), covers.wall((width, _HIGH), rng), stand, (width, _HIGH, 0.0), (width, _HIGH)
        ),
    )


def _body(
    name: str, shape: Shape, cover: covers.Cover, place: Matrix, extent: Extent, metres: tuple[float, float]
) -> Body:
    """A body named after its class, with a number where there are several of it."""
    coat = 1.0 if cover.material.roughness is None else 1.5
    facts = (("material", cover.name), ("coat", coat), ("metres_per_uv", metres))
    return Body(name, shape, cover.material, place, CLASSES.index(name.split("-")[0]) + 1, extent, facts)


def _objects(options: Options, rng: np.random.Generator) -> tuple[Body, ...]:
    """Objects that stand or lie on the table, apart; fewer than drawn where no more fit."""
    bodies: list[Body] = []
    taken: list[tuple[float, float, float]] = []
    for number in range(int(rng.integers(options.objects[0], options.objects[1] + 1))):
        kind = str(rng.choice(list(_SOLIDS)))
        solid = _SOLIDS[kind](rng)
        coated = bool(rng.random() < options.coated)
        cover = covers.soft(solid.unit, rng) if kind == "cushion" else covers.hard(solid.unit, coated, rng)
        reach = float(np.hypot(*solid.extent[:2])) / 2 if kind in ("box", "cushion") else solid.extent[0] / 2
        for _ in range(_TRIES):
            x, y = (float(v) for v in rng.uniform(-1, 1, 2) * _FIELD)
            if all(np.hypot(x - a, y - b) > reach + other + _GAP for a, b, other in taken):
                taken.append((x, y, reach))
                turn = float(rng.uniform(-np.pi, np.pi))
                place = pose(_turned(turn), (x, y, solid.extent[2] / 2))
                metres = (solid.unit, solid.unit)
                bodies.append(_body(f"{kind}-{number}", solid.shape, cover, place, solid.extent, metres))
                break
    return tuple(bodies)


def _turned(yaw: float) -> Float64:
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def _box(rng: np.random.Generator) -> _Solid:
    width, depth, height = (float(v) for v in rng.uniform([0.07, 0.06, 0.04], [0.16, 0.12, 0.19]))
    size = (width, depth, height)
    return _Solid(RoundedBox(size, 0.003, 3, net=True), size, 2 * (width + depth))


def _cylinder(rng: np.random.Generator) -> _Solid:
    radius, height = (float(v) for v in rng.uniform([0.03, 0.05], [0.055, 0.17]))
    return _round(solids.cylinder(radius, height, 0.003), radius, height)


def _ball(rng: np.random.Generator) -> _Solid:
    radius = float(rng.uniform(0.03, 0.06))
    return _round(solids.ball(radius), radius, 2 * radius)


def _bowl(rng: np.random.Generator) -> _Solid:
    radius, height = (float(v) for v in rng.uniform([0.06, 0.04], [0.1, 0.07]))
    return _round(solids.bowl(radius, height, 0.006), radius, height + 0.003)


def _vase(rng: np.random.Generator) -> _Solid:
    radius, height, neck = (float(v) for v in rng.uniform([0.04, 0.13, 0.5], [0.06, 0.21, 0.8]))
    return _round(solids.vase(radius, height, neck, 0.004), radius, height + 0.002)


def _ring(rng: np.random.Generator) -> _Solid:
    radius, thick = (float(v) for v in rng.uniform([0.045, 0.022], [0.07, 0.036]))
    return _round(solids.ring(radius, thick), radius + thick / 2, thick)


def _round(shape: solids.Lathe, radius: float, height: float) -> _Solid:
    return _Solid(shape, (2 * radius, 2 * radius, height), shape.unit)


def _cushion(rng: np.random.Generator) -> _Solid:
    width, depth, height = (float(v) for v in rng.uniform([0.16, 0.14, 0.06], [0.24, 0.2, 0.09]))
    shape = solids.Cushion(width, depth, height)
    return _Solid(shape, (width, depth, height), shape.unit)


_SOLIDS: dict[str, Callable[[np.random.Generator], _Solid]] = {
    "box": _box,
    "cylinder": _cylinder,
    "ball": _ball,
    "bowl": _bowl,
    "vase": _vase,
    "ring": _ring,
    "cushion": _cushion,
}

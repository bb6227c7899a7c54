"""The dice scene: dice thrown on a mat, in a tray or on a table, seen from roughly overhead.

A scene is a function of (seed, index) and of the options alone. The class of a die is the face that points up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthaug import seeds
from synthaug.camera import from_fov
from synthaug.labels import Size
from synthaug.render import floors, palette
from synthaug.render.scene import Body, Float64, Material, Scene, View, pose
from synthaug.render.setting import ceiling_lamp, look_at, scene_id, sky
from synthaug.render.shapes import FACES, RoundedBox

FIELD = 0.32
"""Width of the floor in the picture, metres, before jitter: dice of 12 to 16 mm take 4 to 5% of the width."""
CLASSES = tuple(str(face) for face in range(1, 7))
"""Faces that can point up, in the order of `FACES`."""
_SLOT = "render.dice"
_GAP = 0.0004
_TRIES = 200
_HUDDLE = 0.25
"""Share of tries right beside a die that lies already."""
Place = tuple[float, float, float]
"""x and y in metres, yaw in radians."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the scene depends on besides seed and index.

    Attributes:
        dice: Smallest and largest number thrown.
        size: (height, width) of the pictures; its aspect decides where dice may lie.
        zoom: 1 shows 32 cm of floor, 2 shows 16 cm.
        variety: Share of scenes on other floors than those of the photographs (mat and tray), 0 to 1.
        environment: Path of a .hdr file; empty for the procedural room.
    """

    dice: tuple[int, int]
    size: Size
    zoom: float
    variety: float
    environment: str


def scene(seed: int, index: int, options: Options) -> Scene:
    """The scene with this number. Costs a millisecond or two: recipes only, nothing is painted."""
    name = scene_id(index)
    rng = seeds.generator(seed, name, 0, _SLOT)
    kind = str(rng.choice(["mat", "tray", "table"], p=[*(1 - options.variety) * np.array([0.8, 0.2]), options.variety]))
    visible = FIELD / options.zoom / 2 * np.array([1.0, options.size[0] / options.size[1]])
    if kind == "table":
        stage = floors.table(visible, rng)
    else:
        stage = (floors.tray if kind == "tray" else floors.mat)(visible, 1 / options.zoom, rng)
    bodies = (*_throw(stage, options, rng), *stage.bodies)
    return Scene(name, bodies, sky(options.environment, rng), (ceiling_lamp(rng),), CLASSES)


def view(seed: int, index: int, number: int, options: Options) -> View:
    """One camera on a scene: view 0 within 5 degrees of overhead, the others 8 to 25 degrees off, all around."""
    rng = seeds.generator(seed, scene_id(index), 0, f"{_SLOT}.view-{number}")
    height, width = options.size
    fov = float(rng.uniform(46, 56))
    distance = FIELD / options.zoom * float(rng.uniform(0.93, 1.08)) / (2 * np.tan(np.radians(fov) / 2))
    tilt = float(np.radians(rng.uniform(0, 5) if number == 0 else rng.uniform(8, 25)))
    azimuth = float(rng.uniform(-np.pi, np.pi))
    roll = float(np.radians(rng.normal(0, 0.9))) if number == 0 else float(rng.uniform(-np.pi, np.pi))
    target = np.append(rng.normal(0, 0.006 / options.zoom, 2), 0.0)
    away = [np.sin(tilt) * np.cos(azimuth), np.sin(tilt) * np.sin(azimuth), np.cos(tilt)]
    camera = look_at(from_fov(width, height, fov), target + distance * np.array(away), target, roll)
    return View(
        f"view-{number}",
        options.size,
        camera,
        exposure=float(rng.normal(0, 0.06)),
        cast=(float(np.exp(rng.normal(0.03, 0.012))), 1.0, float(np.exp(rng.normal(-0.015, 0.015)))),
        vignette=float(rng.uniform(0.1, 0.3)),
        noise_seed=seeds.fork(rng),
    )


def turned(face: int, yaw: float) -> Float64:
    """[3, 3] rotation that lays a die with this face (1 to 6) up and turns it by `yaw` radians."""
    normal, along_u, along_v = np.asarray(FACES[face - 1], dtype=np.float64)
    up = np.stack([along_u, along_v, normal])
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ up


def die(name: str, look: palette.Look, material: Material, face: int, place: Place) -> Body:
    """One die at rest on z = 0."""
    edge = look.edge / 1000
    x, y, yaw = place
    attributes = (("colour", look.name), ("material", look.finish), ("up_face", face), ("edge_mm", look.edge))
    return Body(
        name,
        RoundedBox((edge, edge, edge), edge * look.rounding),
        material,
        pose(turned(face, yaw), (x, y, edge / 2)),
        class_id=face,
        extent=(edge, edge, edge),
        attributes=attributes,
    )


def apart(a: Place, b: Place, edge_a: float, edge_b: float) -> float:
    """Gap in metres between the footprints of two dice (x, y, yaw), negative where they overlap.

    Separating axes of two rotated squares, so the gap is a lower bound of the distance.
    """
    delta = np.array(b[:2]) - np.array(a[:2])
    best = -np.inf
    for angle in (a[2], a[2] + np.pi / 2, b[2], b[2] + np.pi / 2):
        axis = np.array([np.cos(angle), np.sin(angle)])
        reach = edge_a / 2 * _spread(angle - a[2]) + edge_b / 2 * _spread(angle - b[2])
        best = max(best, abs(float(delta @ axis)) - reach)
    return float(best)


def _spread(angle: float) -> float:
    return abs(float(np.cos(angle))) + abs(float(np.sin(angle)))


def _throw(stage: floors.Stage, options: Options, rng: np.random.Generator) -> tuple[Body, ...]:
    """Dice at rest on the stage; fewer than drawn where no more fit."""
    low, high = options.dice
    count = low + round(float(rng.beta(1.2, 2.2)) * (high - low))
    stock = rng.permutation(len(palette.LOOKS))[: int(rng.integers(1, 4)) if rng.random() < 0.4 else None]
    half = np.array(stage.half)
    middle, spread = rng.uniform(-0.3, 0.3, 2) * half, float(rng.uniform(0.35, 1.4)) * half
    bodies: list[Body] = []
    taken: list[tuple[Place, float]] = []
    for number in range(count):
        look = palette.LOOKS[int(rng.choice(stock))]
        material = palette.die_material(look, rng)
        face, edge = int(rng.integers(1, 7)), look.edge / 1000
        for _ in range(_TRIES):
            yaw = float(rng.uniform(-np.pi, np.pi))
            spot = rng.normal(middle, spread)
            if taken and rng.random() < _HUDDLE:
                beside, size = taken[int(rng.integers(len(taken)))]
                angle, gap = rng.uniform(-np.pi, np.pi), (edge + size) / 2 * rng.uniform(1.0, 1.25)
                spot = np.array(beside[:2]) - stage.centre + gap * np.array([np.cos(angle), np.sin(angle)])
            place = (float(spot[0]) + stage.centre[0], float(spot[1]) + stage.centre[1], yaw)
            inside = (np.abs(spot) < half - edge / 2 * _spread(yaw)).all()
            if inside and all(apart(place, other, edge, size) > _GAP for other, size in taken):
                taken.append((place, edge))
                bodies.append(die(f"die-{number}", look, material, face, place))
                break
    return tuple(bodies)

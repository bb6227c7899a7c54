"""Small scenes for the tests of the renderer."""

from __future__ import annotations

import numpy as np

from synthaug import seeds
from synthaug.camera import from_fov
from synthaug.render import dice, palette, setting
from synthaug.render.environment import Room
from synthaug.render.scene import Body, Material, Scene, Sky, View, pose
from synthaug.render.shapes import Plane
from synthaug.render.textures import Pips, Solid

WHITE = (0.9, 0.9, 0.9)
BLACK = (0.02, 0.02, 0.02)
ROOM = Room((1.0, 1.0, 1.0), (0.5, 0.5, 0.5), ())


def one_die(face: int, yaw: float = 0.4, *, sky: Sky = ROOM) -> Scene:
    """A black die with white pips on a grey floor."""
    look = palette.Look("black", "#101010", "#101010", "#f0f0f0", "matt", 16, 0.1)
    material = Material(Pips(BLACK, BLACK, WHITE), 0.3)
    die = dice.die("die-0", look, material, face, (0.003, -0.002, yaw))
    return Scene("scene-000000", (die, floor()), sky)


def floor() -> Body:
    return Body("floor", Plane(0.5, 0.5), Material(Solid((0.4, 0.4, 0.4))), pose(np.eye(3), (0, 0, 0)))


def overhead(size: tuple[int, int] = (64, 80), height: float = 0.05, tilt: float = 0.0) -> View:
    """A camera above the origin, leaning by `tilt` radians."""
    eye = height * np.array([np.sin(tilt) * 0.6, np.sin(tilt) * 0.8, np.cos(tilt)])
    camera = setting.look_at(from_fov(size[1], size[0], 50.0), eye, np.zeros(3), 0.2)
    return View("view-0", size, camera, noise_seed=seeds.fork(seeds.from_seed(1)))

"""What rendered scenes share: their names, their light, and how a camera is aimed."""

from __future__ import annotations

import numpy as np

from synthaug.camera import Camera, matrix
from synthaug.render.environment import HdrFile, Lamp, Room
from synthaug.render.scene import Float64, Panel, Sky, pose


def scene_id(index: int) -> str:
    """Id of the scene with this number; also the group of its samples."""
    return f"scene-{index:06d}"


def look_at(camera: Camera, eye: Float64, target: Float64, roll: float) -> Camera:
    """The same camera with extrinsics: at `eye`, towards `target`, world +y up in the picture turned by `roll`.

    For cameras that look down. `upright` is for those that look ahead.
    """
    return _aimed(camera, eye, target, np.array([-np.sin(roll), np.cos(roll), 0.0]))


def upright(camera: Camera, eye: Float64, target: Float64, roll: float) -> Camera:
    """Likewise, with world +z up in the picture, turned by `roll` radians."""
    across = np.cross(target - eye, [0.0, 0.0, 1.0])
    across /= np.linalg.norm(across)
    lifted = np.cross(across, target - eye) / np.linalg.norm(target - eye)
    return _aimed(camera, eye, target, np.cos(roll) * lifted + np.sin(roll) * across)


def _aimed(camera: Camera, eye: Float64, target: Float64, up: Float64) -> Camera:
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    return Camera(camera.intrinsics, matrix(pose(rotation, -rotation @ eye), 4, 4))


def sky(environment: str, rng: np.random.Generator) -> Sky:
    """Daylight from windows, mostly soft; or the .hdr file at this path, turned at will."""
    if environment:
        return HdrFile(environment, float(rng.uniform(0, 360)))
    warm = float(rng.normal(0, 0.01))
    ceiling, wall = (1.0 + warm, 1.0, 1.0 - warm), (0.55 + warm, 0.55, 0.55 - warm)
    lamps: list[Lamp] = []
    for _ in range(int(rng.integers(1, 4))):
        power, day = float(rng.uniform(2, 9)), float(rng.normal(0, 0.03))
        size = rng.uniform(18, 45, 2)
        place = (float(rng.uniform(-180, 180)), float(rng.uniform(25, 60)))
        colour = (power * (1 + day), power, power * (1 - day))
        lamps.append(Lamp(*place, float(size[0]), float(size[1]), colour, float(rng.uniform(2, 8))))
    return Room(ceiling, wall, tuple(lamps), float(rng.uniform(0.6, 0.95)))


def ceiling_lamp(rng: np.random.Generator, forward: float = 0.0) -> Panel:
    """A panel within reach, which lights one side of the floor more than the other.

    Args:
        forward: Metres by which it hangs towards -y.
    """
    x, y = rng.uniform(-0.5, 0.5, 2) - [0.0, forward]
    z, side = float(rng.uniform(0.7, 1.4)), float(rng.uniform(0.2, 0.5))
    down = np.array([-x, -y, -z]) / np.linalg.norm([x, y, z])
    across = np.cross([0.0, 1.0, 0.0], down)
    across /= np.linalg.norm(across)
    power = float(rng.uniform(0.2, 0.7)) * (x * x + y * y + z * z) / (side * side)
    return Panel(pose(np.column_stack([across, np.cross(down, across), down]), (x, y, z)), side, (power, power, power))

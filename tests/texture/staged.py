"""A stage without a renderer: a tilted board and a ball under light that is known, from any camera, in closed form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug import rle
from synthaug.camera import from_fov, matrix
from synthaug.contracts import Description, Reader
from synthaug.labels import Category, Instance, Labels
from synthaug.sample import Picture, Sample
from synthaug.transfer import srgb_from_linear

Array = NDArray[Any]
Paint = Callable[[int, Array, Array], Array]
"""Albedo [N, 3] of object 1 or 2, by uv [N, 2] and by points [N, 3] in its own axes."""
CATEGORIES = (Category("board"), Category("ball"))
SIDE, RADIUS = 0.4, 0.12
PASSES = ("instance", "semantic", "depth", "normals", "uv", "position", "albedo")


def plain(number: int, uv: Array, own: Array) -> Array:
    """One colour each."""
    return np.broadcast_to(((0.6, 0.3, 0.2), (0.25, 0.4, 0.55))[number - 1], (len(uv), 3))


@dataclass(frozen=True)
class Stage:
    """What stands where.

    Attributes:
        size: Pixels of the square picture.
        tilt: Of the board about x, degrees; 0 faces the camera of view 0.
        turn: Of the camera about y, degrees, around the middle of the stage.
        fine: Rays along a side of a pixel for the picture; passes have one through its centre.
    """

    size: int = 96
    tilt: float = 35.0
    turn: float = 0.0
    fine: int = 4

    @property
    def camera(self) -> Array:
        """[4, 4] world to camera; the middle of the stage lies 1 m ahead."""
        a = np.radians(self.turn)
        to = np.eye(4)
        to[:3, :3] = [[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]]
        to[:3, 3] = [0, 0, 1.0]
        return to

    @property
    def poses(self) -> tuple[Array, Array]:
        """[4, 4] of board and ball, to the world."""
        a = np.radians(self.tilt)
        board, ball = np.eye(4), np.eye(4)
        # x to the right, y down the board, z = x cross y away from the camera: its face looks along -z.
        board[:3, :3] = [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
        board[:3, 3] = [-0.06, 0, 0.05]
        ball[:3, 3] = [0.19, 0.1, -0.12]
        return board, ball

    def hit(self, pixels: Array) -> dict[str, Array]:
        """What rays through continuous pixels [N, 2] meet: id, position and normals (camera), uv, own."""
        k = from_fov(self.size, self.size, 45.0).K
        ray = np.column_stack([pixels, np.ones(len(pixels))]) @ np.linalg.inv(k).T
        board, ball = (self.camera @ pose for pose in self.poses)
        face = -board[:3, 2]
        t1 = (face @ board[:3, 3]) / (ray @ face)
        own1 = (t1[:, None] * ray - board[:3, 3]) @ board[:3, :3]
        on1 = (np.abs(own1[:, :2]) < SIDE / 2).all(1) & (t1 > 0)
        b, c, a = ray @ ball[:3, 3], ball[:3, 3] @ ball[:3, 3] - RADIUS**2, (ray * ray).sum(1)
        root = b * b - a * c
        t2 = (b - np.sqrt(np.maximum(root, 0))) / a
        on2 = (root > 0) & (t2 > 0) & (~on1 | (t2 < t1))
        own2 = (t2[:, None] * ray - ball[:3, 3]) @ ball[:3, :3]
        ids = np.where(on2, 2, np.where(on1, 1, 0))
        own = np.where(on2[:, None], own2, own1)
        position = np.where(on2[:, None], t2[:, None], t1[:, None]) * ray
        normals = np.where(on2[:, None], own2 / RADIUS @ ball[:3, :3].T, face)
        around = np.stack([np.arctan2(own2[:, 0], -own2[:, 2]) / (2 * np.pi) + 0.5, own2[:, 1] / RADIUS / 2 + 0.5], 1)
        uv = np.where(on2[:, None], around, own1[:, :2] / SIDE + 0.5)
        return {"id": ids, "position": position, "normals": normals, "uv": uv, "own": own}

    def light(self, normals: Array) -> Array:
        """[N, 3]: irradiance over pi on normals in camera axes; fixed to the world, of order 2."""
        n = normals @ self.camera[:3, :3]
        x, y, z = n.T
        value = 0.55 - 0.2 * y - 0.12 * z + 0.08 * x + 0.06 * x * y + 0.05 * (x * x - y * y)
        return value[:, None] * np.array([1.0, 0.97, 0.93])

    def render(self, paint: Paint) -> Array:
        """[size, size, 3] linear, averaged over pixels."""
        n, total = self.fine, np.zeros((self.size, self.size, 3))
        for i in range(n):
            for j in range(n):
                seen = self.hit(self.grid((j + 0.5) / n, (i + 0.5) / n))
                shown = np.full((len(seen["id"]), 3), 0.4)
                for number in (1, 2):
                    here = seen["id"] == number
                    albedo = paint(number, seen["uv"][here], seen["own"][here])
                    shown[here] = albedo * self.light(seen["normals"][here])
                total += shown.reshape(total.shape)
        return total / n**2

    def grid(self, x: float = 0.5, y: float = 0.5) -> Array:
        """[size * size, 2] continuous pixels."""
        rows, columns = np.mgrid[: self.size, : self.size]
        return np.stack([columns + x, rows + y], -1).reshape(-1, 2)

    def labels(self, paint: Paint, passes: Sequence[str] = PASSES, *, poses: bool = True) -> Labels:
        """Everything that is true of the picture."""
        seen = self.hit(self.grid())
        shape = (self.size, self.size)
        ids = seen["id"].astype(np.int32)
        albedo = np.full((len(ids), 3), 0.4)
        for number in (1, 2):
            here = ids == number
            albedo[here] = paint(number, seen["uv"][here], seen["own"][here])
        nothing = (ids == 0)[:, None]
        maps = {
            "instance": ids.reshape(shape),
            "semantic": ids.reshape(shape),
            "depth": np.where(ids == 0, np.nan, seen["position"][:, 2]).reshape(shape),
            "position": np.where(nothing, np.nan, seen["position"]).reshape(*shape, 3),
            "normals": np.where(nothing, np.nan, seen["normals"]).reshape(*shape, 3),
            "uv": np.where(nothing, np.nan, seen["uv"]).reshape(*shape, 2),
            "albedo": albedo.reshape(*shape, 3),
        }
        kept = {n: m if m.dtype == np.int32 else m.astype(np.float32) for n, m in maps.items() if n in passes}
        boxes = rle.boxes_in(maps["instance"])
        instances = tuple(
            Instance(
                number,
                number,
                box,
                pose=matrix(self.camera @ self.poses[number - 1], 4, 4) if poses else None,
                object_id=("board", "ball")[number - 1],
            )
            for number, (box, _) in boxes.items()
        )
        camera = from_fov(self.size, self.size, 45.0)
        camera = type(camera)(camera.intrinsics, matrix(self.camera, 4, 4) if poses else None)
        return Labels(shape, CATEGORIES, instances, kept, camera)


class StagedReader(Reader):
    """The stage behind a reader, one camera a sample.

    Args:
        count: Views, 12 degrees apart.
        size: Pixels.
    """

    def __init__(self, *, count: int = 2, size: int = 64) -> None:
        self.count, self.size = count, size

    def categories(self) -> tuple[Category, ...]:
        return CATEGORIES

    def ids(self) -> Sequence[str]:
        return [f"staged/{i:02d}" for i in range(self.count)]

    def describe(self, sample_id: str) -> Description:
        return Description(sample_id, (self.size, self.size), PASSES, group="staged", view=sample_id[-2:])

    def read(self, sample_id: str) -> Sample:
        stage = Stage(self.size, turn=12.0 * int(sample_id[-2:]), fine=2)
        picture = Picture(np.rint(srgb_from_linear(stage.render(plain)) * 255).astype(np.uint8))
        return Sample(sample_id, picture, stage.labels(plain), picture, group="staged", view=sample_id[-2:])

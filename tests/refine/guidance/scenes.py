"""Small scenes with closed forms: a ball before a wall, a tilted plane, a roof."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug import rle
from synthaug.camera import Camera, matrix
from synthaug.labels import Category, Instance, Labels

SIZE = (96, 128)
CAMERA = Camera(matrix([[150, 0, 64], [0, 150, 48], [0, 0, 1]], 3, 3))
CATEGORIES = (Category("car"), Category("road"))
GREY = np.full((3, *SIZE), 0.5, np.float32)


def rays(camera: Camera = CAMERA, size: tuple[int, int] = SIZE) -> NDArray[np.float64]:
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    return camera.rays(np.stack([columns.ravel(), rows.ravel()], axis=1)).reshape(*size, 3)


def labelled(z: NDArray[Any], n: NDArray[Any], ids: NDArray[Any], camera: Camera | None = CAMERA) -> Labels:
    """Labels with every geometric pass; instance k has class 1 + (k - 1) % 2."""
    found = [int(i) for i in np.unique(ids) if i]
    boxes = {i: rle.boxes_in(ids.astype(np.int32))[i][0] for i in found}
    instances = tuple(Instance(i, 1 + (i - 1) % 2, boxes[i]) for i in found)
    of = {i.id: i.class_id for i in instances}
    passes = {
        "instance": ids.astype(np.int32),
        "semantic": np.vectorize(lambda i: of.get(int(i), 0))(ids).astype(np.int32),
        "depth": z.astype(np.float32),
        "normals": n.astype(np.float32),
        "position": (rays(camera or CAMERA, z.shape) * z[..., None]).astype(np.float32),  # type: ignore[arg-type]
    }
    return Labels(z.shape, CATEGORIES, instances, passes, camera)  # type: ignore[arg-type]


def only(labels: Labels, *names: str, camera: bool = True) -> Labels:
    kept = {n: labels.passes[n] for n in names}
    return Labels(labels.size, labels.categories, labels.instances, kept, labels.camera if camera else None)


def ball(centre: tuple[float, float, float] = (0.05, -0.04, 2.0), radius: float = 0.4, sky: bool = True) -> Labels:
    """A ball as instance 1 before the sky, or before a wall at 4 m as instance 2."""
    r, c = rays(), np.array(centre)
    a, b, k = (r**2).sum(-1), r @ c, c @ c - radius**2
    root = b**2 - a * k
    hit = root > 0
    z = np.where(hit, (b - np.sqrt(np.maximum(root, 0))) / a, np.nan if sky else 4.0)
    n = np.where(hit[..., None], (r * z[..., None] - c) / radius, np.nan if sky else np.array([0.0, 0.0, -1.0]))
    return labelled(z, n, np.where(hit, 1, 0 if sky else 2))


def plane(normal: tuple[float, float, float], offset: float, camera: Camera = CAMERA) -> Labels:
    """The plane n.X = offset with n toward the camera, as instance 1; no sky in view if it is not too steep."""
    n = np.array(normal) / np.linalg.norm(normal)
    z = offset / (rays(camera) @ n)
    assert (z > 0).all()
    return labelled(z, np.broadcast_to(n, (*SIZE, 3)), np.ones(SIZE, int), camera)


def roof(slope: float = 1.0) -> Labels:
    """Two planes that meet in a vertical ridge on the middle of the picture, nearest there, one instance."""
    r = rays()
    x = r[..., 0]
    z = 2.0 / (1 - slope * np.abs(x))
    left = np.array([-slope, 0, -1.0]) / np.hypot(1, slope)
    n = np.where((x < 0)[..., None], left, left * [-1, 1, 1])
    return labelled(z, n, np.ones(SIZE, int))

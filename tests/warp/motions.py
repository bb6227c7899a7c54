"""Random motions and small labelled pictures for the tests of the warp room."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from synthaug import rle
from synthaug.camera import Camera, matrix
from synthaug.labels import Category, Instance, Labels, Size
from synthaug.sample import Picture, Sample
from synthaug.warp import motion
from synthaug.warp.motion import Warp

SIZE = (48, 64)
CATEGORIES = (Category("thing"), Category("person", keypoints=("nose", "left", "right"), mirror=(0, 2, 1)))


def random_homography(rng: np.random.Generator, source: Size = SIZE, strength: float = 0.15) -> Warp:
    """Moved corners, half of them mirrored, sometimes turned by any angle; all corners stay visible."""
    height, width = source
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float64)
    corners += rng.uniform(-strength, strength, (4, 2)) * (width, height)
    warp = motion.perspective(source, corners)
    if rng.random() < 0.5:
        warp = motion.hflip(source).then(warp)
    return warp.then(motion.rotation(source, rng.uniform(-180, 180))) if rng.random() < 0.5 else warp


def barrel(source: Size = SIZE, k: float = -0.08, camera: Camera | None = None) -> Warp:
    """A dense map with a known model: seen from the middle, radius r shows what stood at r (1 + k r^2)."""
    height, width = source
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return Warp.dense(np.stack(barrel_back(x, y, source, k), axis=-1), source, camera)


def barrel_back(x: np.ndarray, y: np.ndarray, source: Size, k: float) -> tuple[np.ndarray, np.ndarray]:
    height, width = source
    scale = max(source) / 2
    u, v = (x - width / 2) / scale, (y - height / 2) / scale
    factor = 1 + k * (u * u + v * v)
    return u * factor * scale + width / 2, v * factor * scale + height / 2


def camera(rng: np.random.Generator, size: Size = SIZE) -> Camera:
    """A pinhole with skew, unequal focal lengths and an off-centre principal point, somewhere in the world."""
    focal = rng.uniform(0.7, 2.0) * max(size)
    K = [
        [focal, rng.uniform(-2, 2), size[1] / 2 + rng.uniform(-5, 5)],
        [0, focal * rng.uniform(0.9, 1.1), size[0] / 2 + rng.uniform(-5, 5)],
        [0, 0, 1],
    ]
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, rng.uniform(-2, 2, 3)
    return Camera(matrix(K, 3, 3), matrix(pose, 4, 4))


def sample(rng: np.random.Generator, size: Size = SIZE, *, passes: bool = True, own_masks: bool = True) -> Sample:
    """Discs with ids, class ids, depth, keypoints and poses before a slanted background."""
    height, width = size
    y, x = np.mgrid[:height, :width] + 0.5
    ids = np.zeros(size, np.int32)
    depth = (10 + 0.02 * x + 0.01 * y).astype(np.float32)
    for i in range(1, 7):
        cx, cy, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(3, 12)
        disc = (x - cx) ** 2 + (y - cy) ** 2 < r * r
        ids[disc], depth[disc] = i, 3 + 0.5 * i
    found = rle.boxes_in(ids)
    instances = [_instance(rng, i, box) for i, (box, _) in sorted(found.items())]
    if own_masks:
        mask = np.zeros(size, bool)
        mask[height // 4 : height // 2, width // 4 : width // 2] = True
        own = Instance(90, 1, (width // 4, height // 4, width // 2, height // 2), mask=rle.encode(mask))
        instances.append(own)
    maps: dict[str, np.ndarray] = {}
    if passes:
        semantic = np.where(ids > 0, 1 + ids % 2, 0).astype(np.int32)
        normals = np.zeros((*size, 3), np.float32)
        normals[..., 2] = -1
        flow = rng.uniform(-2, 2, (*size, 2)).astype(np.float32)
        maps = {"instance": ids, "semantic": semantic, "depth": depth, "normals": normals, "flow": flow}
        maps |= {"alpha": (ids > 0).astype(np.float32), "uv": np.dstack([x / width, y / height]).astype(np.float32)}
    picture = Picture(rng.integers(0, 256, (*size, 3), dtype=np.uint8), "srgb", b"file")
    labels = Labels(size, CATEGORIES, tuple(instances), maps, camera(rng, size))
    labels.check()
    return Sample("a", picture, labels, picture)


def _instance(rng: np.random.Generator, i: int, box: tuple[float, float, float, float]) -> Instance:
    x0, y0, x1, y1 = box
    points = tuple((float(rng.uniform(x0, x1)), float(rng.uniform(y0, y1)), int(rng.integers(0, 3))) for _ in range(3))
    points = tuple(p if p[2] else (0.0, 0.0, 0) for p in points)
    pose = np.eye(4)
    pose[:3, 3] = (*rng.uniform(-1, 1, 2), 4.0)
    return Instance(i, 1 + i % 2, box, keypoints=points if i % 2 else (), pose=matrix(pose, 4, 4))


seeds = st.integers(0, 2**32 - 1)

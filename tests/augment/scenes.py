"""A labelled picture for the augmentation tests: smooth colours, three discs, depth, a pinhole camera."""

from __future__ import annotations

import numpy as np

from synthaug import rle
from synthaug.camera import from_fov
from synthaug.labels import Category, Instance, Labels, Size
from synthaug.sample import Picture, Sample

DISC = Category("disc", ("left", "right"), ((0, 1),), (1, 0))


def smooth(size: Size, seed: int = 0) -> np.ndarray:
    """[H, W, 3] float32 in [0.1, 0.9] of a few low frequencies: bilinear resampling of it is nearly exact."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    y, x = np.mgrid[0 : size[0], 0 : size[1]] + 0.5
    out = np.zeros((*size, 3))
    for channel in range(3):
        for _ in range(4):
            u, v = rng.uniform(-0.06, 0.06, 2)
            out[..., channel] += np.sin(2 * np.pi * (u * x + v * y) + rng.uniform(0, 6.28))
    return (0.5 + out * 0.1).astype(np.float32)


def sample(size: Size = (120, 160)) -> Sample:
    height, width = size
    y, x = np.mgrid[0:height, 0:width] + 0.5
    ids = np.zeros(size, np.int32)
    instances: list[Instance] = []
    for number, (cx, cy) in enumerate(((0.3, 0.4), (0.6, 0.55), (0.45, 0.7)), start=1):
        radius = 0.09 * min(size)
        ids[(x - cx * width) ** 2 + (y - cy * height) ** 2 < radius**2] = number
    for number, (box, _) in rle.boxes_in(ids).items():
        middle = (box[1] + box[3]) / 2
        points = ((box[0] + 2.0, middle, 2), (box[2] - 2.0, middle, 2))
        instances.append(Instance(number, 1, box, keypoints=points))
    passes = {"instance": ids, "depth": (5 + x / width).astype(np.float32)}
    labels = Labels(size, (DISC,), tuple(instances), passes, from_fov(width, height, 60.0))
    picture = Picture((smooth(size) * 255).round().astype(np.uint8))
    return Sample("scene", picture, labels, picture)

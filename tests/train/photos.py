"""Small photos for tests: coloured blobs with grain, as JPEG files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def make_photos(folder: Path, count: int, size: tuple[int, int] = (80, 100)) -> Path:
    """`count` different photos of (height, width) in a new folder."""
    folder.mkdir(parents=True)
    ys, xs = np.mgrid[0 : size[0], 0 : size[1]]
    for i in range(count):
        rng = np.random.default_rng(i)
        ground = 120 + 60 * np.sin(xs / rng.uniform(8, 20) + i)[..., None] * rng.uniform(-1, 1, 3)
        disc = np.hypot(xs - rng.uniform(20, 80), ys - rng.uniform(20, 60)) < 18
        ground[disc] = rng.uniform(0, 255, 3)
        photo = np.clip(ground + rng.normal(0, 5, ground.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"photo{i:02d}.jpg"), photo, [cv2.IMWRITE_JPEG_QUALITY, 92])
    return folder

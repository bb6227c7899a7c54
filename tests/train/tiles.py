"""Small textures for tests: waves whole in number, so that they wrap, with grain, as PNG files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray


def texture(number: int, side: int = 16) -> NDArray[np.uint8]:
    """[side, side, 3] RGB; each number has its own waves, colours and a little grain."""
    rng = np.random.default_rng(number)
    ys, xs = np.mgrid[0:side, 0:side] / side * 2 * np.pi
    # Flat at the wrap: a picture that is steepest there looks cut.
    wave = np.cos(int(rng.integers(1, 4)) * xs + int(rng.integers(0, 4)) * ys)[..., None]
    colour = rng.uniform(60, 190, 3) + wave * rng.uniform(-50, 50, 3)
    return np.clip(np.rint(colour + rng.normal(0, 1, colour.shape)), 0, 255).astype(np.uint8)


def make_textures(folder: Path, count: int, side: int = 16, first: int = 0) -> Path:
    """`count` textures in a folder, new or not."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        cv2.imwrite(str(folder / f"tile{number:03d}.png"), texture(number, side)[..., ::-1])
    return folder

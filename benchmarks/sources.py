"""A folder dataset as a renderer leaves it: pictures, id masks and depth in millimetres, all PNG.

Pictures are crops of real photos where SYNTHAUG_DATA has them, with the noise of a sensor added; a textured
picture with noise elsewhere. OpenCV or Pillow writes them; no decoder meets a file of this package's own making.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

INSTANCES = 20
_ROOT = Path(os.environ.get("SYNTHAUG_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
_PHOTOS = sorted((_ROOT / "dice" / "images").glob("*.jpg"))
ORIGIN = "crops of real photos, sensor noise of 2 levels added" if _PHOTOS else "generated texture with noise"


def make(folder: Path, count: int, kind: str = "opencv", side: int = 512) -> str:
    """Writes `images/`, `instance/`, `depth/` and `names.txt`; says where the pictures come from.

    Args:
        kind: Of `KINDS`: whose PNG it is, and with how many channels.
    """
    for name in ("images", "instance", "depth"):
        (folder / name).mkdir(parents=True)
    (folder / "names.txt").write_text("thing\n")
    for number in range(count):
        rng = np.random.default_rng(number)
        ids = id_map(rng, side)
        for name, array in (("images", picture(rng, number, side)), ("instance", ids), ("depth", depth_map(ids, rng))):
            KINDS[kind](folder / name / f"{number:05d}.png", array)
    return ORIGIN


def picture(rng: np.random.Generator, number: int, side: int) -> NDArray[np.uint8]:
    """[H, W, 3] with the noise of a sensor."""
    photo = np.asarray(Image.open(_PHOTOS[number % len(_PHOTOS)]).convert("RGB")) if _PHOTOS else None
    clean = _texture(rng, side) if photo is None else _crop(photo, rng, side)
    return np.clip(np.rint(clean + rng.normal(0.0, 2.0, clean.shape)), 0, 255).astype(np.uint8)


def _opencv(path: Path, array: NDArray[Any], *, alpha: bool = False) -> None:
    if array.ndim == 3:
        array = np.asarray(cv2.cvtColor(array, cv2.COLOR_RGB2BGRA if alpha else cv2.COLOR_RGB2BGR))
    if not cv2.imwrite(str(path), array):
        raise OSError(f"{path} cannot be written")


def _opencv_alpha(path: Path, array: NDArray[Any]) -> None:
    _opencv(path, array, alpha=True)


def _pillow(path: Path, array: NDArray[Any]) -> None:
    Image.fromarray(array).save(path, compress_level=1)  # the filters of any level, in a third of the time


KINDS = {"opencv": _opencv, "opencv_rgba": _opencv_alpha, "pillow": _pillow}


def _crop(photo: NDArray[np.uint8], rng: np.random.Generator, side: int) -> NDArray[np.uint8]:
    scale = side / min(photo.shape[:2])
    if scale > 1:
        photo = np.asarray(cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC), np.uint8)
    top, left = (int(rng.integers(0, length - side + 1)) for length in photo.shape[:2])
    return photo[top : top + side, left : left + side]


def _texture(rng: np.random.Generator, side: int) -> NDArray[np.float32]:
    picture = np.full((side, side, 3), 120, np.float32)
    for octave in range(2, 8):
        grain = rng.normal(size=(2**octave, 2**octave, 3)).astype(np.float32)
        picture += cv2.resize(grain, (side, side), interpolation=cv2.INTER_CUBIC) * (28 / octave)
    return picture


def id_map(rng: np.random.Generator, side: int) -> NDArray[np.uint8]:
    """Twenty blobs with rough outlines on a grid, none of them hidden."""
    y, x = (np.mgrid[:side, :side] / side).astype(np.float32)
    ids = np.zeros((side, side), np.uint8)
    for i in range(INSTANCES):
        cx, cy = (i % 5 + rng.uniform(0.4, 0.6)) / 5, (i // 5 + rng.uniform(0.4, 0.6)) / 4
        angle = np.arctan2(y - cy, x - cx)
        radius = rng.uniform(0.08, 0.13) * (1 + 0.15 * np.sin(rng.integers(3, 12) * angle + rng.uniform(0, 6)))
        ids[np.hypot(x - cx, (y - cy) * rng.uniform(0.8, 1.25)) < radius] = i + 1
    return ids


def depth_map(ids: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint16]:
    """A floor that runs away from the camera, and a tilted thing of its own depth per instance; millimetres."""
    side = len(ids)
    y, x = np.mgrid[:side, :side]
    offsets = np.concatenate([[0.0], rng.uniform(-900, -100, INSTANCES)])
    slopes = np.concatenate([[0.0], rng.uniform(-1.5, 1.5, INSTANCES)])
    depth = 9000 - 8.0 * y + 0.3 * np.abs(x - side / 2) + offsets[ids] + slopes[ids] * (x - side / 2)
    return np.rint(depth).astype(np.uint16)

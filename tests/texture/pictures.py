"""Small textures for tests, and folders and libraries of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.formats import png
from synthaug.texture.importing import About, Incoming, made

ABOUT = About("CC0-1.0", "here", "wood")


def noise(seed: int, size: tuple[int, int] = (32, 32), cell: int = 4) -> NDArray[np.uint8]:
    """[H, W, 3] blotches of `cell` pixels, unlike those of any other seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (-(-size[0] // cell), -(-size[1] // cell), 3))
    return np.kron(coarse, np.ones((cell, cell, 1)))[: size[0], : size[1]].astype(np.uint8)


def texture(number: int, material: str = "wood", **more: Any) -> Incoming:
    """One texture on its way into a library."""
    return made(f"{material}_{number}", {"albedo": noise(number)}, About("CC0-1.0", "here", material), **more)


def save(path: Path, array: NDArray[Any]) -> None:
    """A picture file of the type that its suffix names; RGB or RGBA order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png" and (array.ndim == 2 or array.shape[2] == 3):
        path.write_bytes(png.encode(array))
        return
    order = {2: None, 3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}[array.ndim if array.ndim == 2 else array.shape[2]]
    done, data = cv2.imencode(path.suffix, array if order is None else cv2.cvtColor(array, order))
    assert done
    path.write_bytes(data.tobytes())


def flat_normals(size: tuple[int, int] = (32, 32)) -> NDArray[np.uint8]:
    """Normals that lean a little to the right and up: (0.3, 0.2, z)."""
    vector = np.array([0.3, 0.2, np.sqrt(1 - 0.13)])
    return np.broadcast_to(np.rint((vector + 1) * 127.5), (*size, 3)).astype(np.uint8).copy()

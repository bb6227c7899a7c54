"""Where a new surface covers the old one: everywhere, worn off, as dirt, or as stickers. Masks in texture space.

A mask is a tile that lies where the texture's lies, so it is fixed to the object as the texture is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from synthaug import seeds
from synthaug.render.textures import noise

Float32 = NDArray[np.float32]
KINDS = ("full", "wear", "dirt", "stickers")
_SIDE = 256
_TRIES = 400


def mask(kind: str, seed: int, coverage: float) -> Float32:
    """[256, 256, 1] in [0, 1], wrapping: how much of the new surface there is.

    Args:
        kind: `full`: 1. `wear`: gone in ragged spots and scratches, as paint that is rubbed off. `dirt`: soft, cloudy
            patches. `stickers`: pieces with straight edges and rounded corners, each turned at random.
        seed: As `seeds.fork` makes it.
        coverage: Share of the tile that is covered, 0 to 1; stickers stop short of it where they would overlap much.
    """
    if kind == "full" or coverage >= 1:
        return np.ones((_SIDE, _SIDE, 1), np.float32)
    if kind == "stickers":
        return _stickers(seed, coverage)[..., None]
    wide, soft = (1.3, 0.15) if kind == "wear" else (1.9, 0.8)
    field = noise(seed, _SIDE, wide)
    if kind == "wear":
        # Scratches: long, thin, all along one way of the tile.
        field = field - 0.35 * np.maximum(noise(seed + 1, _SIDE, 0.8, (24.0, 1.0)) - 1.2, 0)
    level = float(np.quantile(field, 1 - coverage))
    return np.clip((field - level) / soft + 0.5, 0, 1).astype(np.float32)[..., None]


def _stickers(seed: int, coverage: float) -> Float32:
    rng = seeds.from_seed(seed)
    found = np.zeros((_SIDE, _SIDE), np.float32)
    y, x = np.mgrid[:_SIDE, :_SIDE].astype(np.float32)
    for _ in range(_TRIES):
        if float(found.mean()) >= coverage:
            break
        centre, half = rng.uniform(0, _SIDE, 2), rng.uniform(0.06, 0.2, 2) * _SIDE
        angle, corner = float(rng.uniform(0, np.pi)), float(rng.uniform(0.1, 0.9)) * float(half.min())
        dx, dy = ((d + _SIDE / 2) % _SIDE - _SIDE / 2 for d in (x - centre[0], y - centre[1]))
        along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        qx, qy = np.abs(along) - (half[0] - corner), np.abs(across) - (half[1] - corner)
        # Signed distance to a rectangle with rounded corners (Quilez).
        away = np.hypot(np.maximum(qx, 0), np.maximum(qy, 0)) + np.minimum(np.maximum(qx, qy), 0) - corner
        found = np.maximum(found, np.clip(0.5 - away, 0, 1).astype(np.float32))
    return found

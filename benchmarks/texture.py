"""Exemplar synthesis, 256 to 1024: CPU seconds of both methods, and whether what they make is a tile of that texture.

    python benchmarks/texture.py [--side 1024] [--crop 256] [--rounds 5]

Crops are corners of real textures where SYNTHAUG_DATA has them, bricks and noise made here elsewhere. Same work,
checked on every tile before a time counts: size, values in [0, 1], seam energy at most 1.05 on both axes, the same
bytes for the same seed. `distance` is `metrics.texture.pyramid_distance` to the crop; `real` that of another crop of
the same texture, where there is enough of it. The methods roll a tile to its calmest wrap, so `seam` is low by choice:
`unchosen_seam` and `unchosen_contrast` are those of the tile before that, and the fairer witnesses. `contrast` is
`seam_contrast`, `join` is `join_energy`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import measure

import cv2  # isort: skip
import numpy as np  # isort: skip

from synthaug.metrics import texture as figures  # isort: skip
from synthaug.texture import maps, noise_blend, quilting  # isort: skip

_ROOT = Path(os.environ.get("SYNTHAUG_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
REAL = {
    "asphalt": "miniworld/asphalt_1.png",
    "stucco": "miniworld/stucco_1.png",
    "marble": "miniworld/marble_1.png",
    "wood": "miniworld/wood_1.png",
    "brick": "miniworld/brick_wall_1.png",
    "planks": "miniworld/wood_planks_1.png",
    "cloth": "materialx/cloth.png",
    "grate": "miniworld/metal_grill_1.png",
}
"""The first half is noise's kind, the second quilting's; both are run on all."""
METHODS = {"noise_blend": noise_blend, "quilting": quilting}
SEAMLESS = 1.05


def exemplars(side: int) -> dict[str, tuple[Any, Any]]:
    """By name, a crop and another one of the same texture beside it; None where there is not enough of it."""
    found: dict[str, tuple[Any, Any]] = {}
    for name, place in REAL.items():
        path = _ROOT / "textures" / place
        if not path.exists():
            continue
        picture: Any = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        scale = 0.5 if min(picture.shape[:2]) >= 4 * side else 1.0
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        other = picture[-side:, -side:] if min(picture.shape[:2]) >= 2 * side else None
        found[name] = np.ascontiguousarray(picture[:side, :side]), other
    return found or {name: (make(side, 0), make(side, 1)) for name, make in (("bricks", _bricks), ("noise", _noise))}


def _bricks(side: int, seed: int) -> Any:
    y, x = np.mgrid[:side, :side]
    mortar = (y % 12 < 2) | ((x + y // 12 % 2 * 16) % 32 < 2)
    grain = np.random.default_rng(seed).normal(0, 8, (side, side, 1))
    return np.clip(np.where(mortar[..., None], 200, [150, 70, 50]) + grain, 0, 255).astype(np.uint8)


def _noise(side: int, seed: int) -> Any:
    noise = np.random.default_rng(seed).normal(0, 120, (side, side, 3))
    return np.clip(128 + cv2.GaussianBlur(noise, (0, 0), 1.5), 0, 255).astype(np.uint8)


def same_work(tile: Any, again: Any, side: int) -> None:
    """Ends the benchmark where a tile is not what was asked for."""
    if tile.shape != (side, side, 3) or not np.array_equal(tile.clip(0, 1), tile):
        raise SystemExit(f"not a tile of {side} pixels in [0, 1]: {tile.shape}")
    if figures.seam_energy(tile) > SEAMLESS:
        raise SystemExit(f"a seam of {figures.seam_energy(tile)}")
    if not np.array_equal(tile, again):
        raise SystemExit("the same seed gave two tiles")


def measured(crop: Any, other: Any, side: int, rounds: int) -> dict[str, dict[str, float]]:
    """By method: median CPU seconds, and the figures of the first tile."""
    results: dict[str, dict[str, float]] = {}
    for method, module in METHODS.items():
        synthesize = module.synthesize
        tile = synthesize(crop, (side, side), 0)
        same_work(tile, synthesize(crop, (side, side), 0), side)
        with mock.patch.object(module, "settled", lambda made: made):
            unchosen = synthesize(crop, (side, side), 0)
        seconds: list[float] = []
        for turn in range(rounds):
            begun = time.process_time()
            synthesize(crop, (side, side), turn)
            seconds.append(time.process_time() - begun)
        results[method] = {
            "cpu_s": round(statistics.median(seconds), 3),
            "slowest_s": round(max(seconds), 3),
            "seam": round(figures.seam_energy(tile), 3),
            "unchosen_seam": round(figures.seam_energy(unchosen), 3),
            "unchosen_contrast": round(figures.seam_contrast(unchosen), 3),
            "contrast": round(figures.seam_contrast(tile), 3),
            "join": round(figures.join_energy(tile, crop), 3),
            "distance": round(figures.pyramid_distance(tile, crop), 3),
            "autocorrelation": round(figures.autocorrelation_distance(tile, crop), 3),
        }
    if other is not None:
        results["real"] = {
            "distance": round(figures.pyramid_distance(other, crop), 3),
            "autocorrelation": round(figures.autocorrelation_distance(other, crop), 3),
        }
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("side", 1024), ("crop", 256), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    crops = exemplars(given.crop)
    details = {name: measured(*pair, given.side, given.rounds) for name, pair in crops.items()}
    tile = METHODS["noise_blend"].synthesize(next(iter(crops.values()))[0], (given.side, given.side), 0)
    begun = time.process_time()
    maps.from_albedo(tile)
    claims = {"maps_cpu_s": round(time.process_time() - begun, 3)}
    for method in METHODS:
        claims[f"{method}_cpu_s"] = max(rows[method]["cpu_s"] for rows in details.values())
        for figure in ("seam", "unchosen_seam", "unchosen_contrast"):
            claims[f"{method}_worst_{figure}"] = max(rows[method][figure] for rows in details.values())
    sizes = {"crop": given.crop, "side": given.side, "rounds": given.rounds}
    measure.publish("texture", claims, {"sizes": sizes, "textures": details}, ("numpy", "opencv-python-headless"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

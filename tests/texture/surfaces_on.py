"""Libraries for tests of re-texturing, tiles laid on points exactly, and the stage as the engine would call it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug import seeds
from synthaug.engine.shelf import Shelf
from synthaug.labels import Labels
from synthaug.texture.importing import About, made
from synthaug.texture.library import Library
from synthaug.texture.placement import Placement
from synthaug.texture.retexture import Retexture
from synthaug.transfer import linear_from_srgb, srgb_from_linear
from tests.texture.examples import bricks, grain

Array = NDArray[Any]


def library(folder: Path) -> Path:
    """Grain and bricks of 0.3 m, in a library."""
    tiles = {"grain": grain(128, 3, 3.0), "brick": bricks(96)}
    items = [
        made(name, {"albedo": np.rint(tile * 255).astype(np.uint8)}, About("CC0-1.0", "here", name, metres=0.3))
        for name, tile in tiles.items()
    ]
    Shelf(folder).add(items, near="keep")
    return folder


def loaded(folder: Path, **fields: Any) -> Retexture:
    """The stage, ready to paint; without light between objects, which the staged pictures do not have."""
    stage = Retexture(library=str(folder), **{"bounce": False, **fields})
    stage.load("cpu")
    return stage


def drawn(stage: Retexture, labels: Labels, seed: int = 3) -> dict[str, Any]:
    """A draw by object, as the engine makes them."""
    return {
        i.object_id: stage.draw(seeds.generator(seed, i.object_id, 0, "retexture"), labels.of((i,)), 0)
        for i in labels.instances
    }


def painted(stage: Retexture, image: Array, labels: Labels, draws: Any = None) -> tuple[Array, dict[str, Any]]:
    """[H, W, 3] linear from the same, and what was noted by object."""
    planes = np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32)[None]
    copies = labels.copy((*stage.needs, *stage.wants))
    done = stage.paint(planes, [copies], [draws or drawn(stage, labels)])
    return done.images[0].transpose(1, 2, 0), dict(done.facts[0]["objects"])


def on_tile(folder: Path, placement: Placement, uv: Array) -> Array:
    """[N, 3] linear albedo at texture coordinates [N, 2], by one bilinear look each."""
    found = Library.open(folder)
    linear = linear_from_srgb(found.read(found.get(placement.entry)).astype(np.float32) / 255)
    height, width = linear.shape[:2]
    rimmed = np.pad(linear, ((1, 1), (1, 1), (0, 0)), mode="wrap")
    places = placement.apply(uv.astype(np.float64))
    places = places - np.floor(places)
    x = (places[:, 0] * width + 0.5).astype(np.float32)[:, None]
    y = (places[:, 1] * height + 0.5).astype(np.float32)[:, None]
    rows = [cv2.remap(rimmed, x[i : i + 8192], y[i : i + 8192], cv2.INTER_LINEAR) for i in range(0, len(x), 8192)]
    return np.concatenate(rows).reshape(-1, 3) if rows else np.zeros((0, 3))


def psnr(first: Array, second: Array) -> float:
    """dB, peak 1, of sRGB where both are linear pictures."""
    return float(-10 * np.log10(np.square(srgb_from_linear(first) - srgb_from_linear(second)).mean()))

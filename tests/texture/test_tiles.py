"""Tiles from a library: grey, 16-bit, large and pierced ones, their relief lit anew, and how many are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from synthaug.engine.shelf import Shelf
from synthaug.errors import InputError
from synthaug.texture.entry import object_name
from synthaug.texture.importing import About, made
from synthaug.texture.library import Library
from synthaug.texture.maps import normals
from synthaug.texture.tiles import Tiles
from tests.texture.pictures import noise
from tests.texture.staged import Stage, plain
from tests.texture.surfaces_on import drawn, loaded, painted

ABOUT = About("CC0-1.0", "here", "x", metres=0.2)


def wave(side: int = 64, relief: float = 6.0) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    """A height of waves along x in 16 bits, and what its normals are."""
    height = np.tile(0.5 + 0.5 * np.sin(np.arange(side) / side * 4 * np.pi), (side, 1)).astype(np.float32)
    return np.rint(height * 65535).astype(np.uint16), normals(height, relief)


def stored(vectors: NDArray[np.float32]) -> NDArray[np.uint16]:
    return np.rint((vectors + 1) * 32767.5).astype(np.uint16)


def put(folder: Path, **maps: Any) -> Path:
    Shelf(folder).add([made("tile", maps, ABOUT)], near="keep")
    return folder


def only(folder: Path, largest: int = 2048, budget: int = 1 << 30) -> Any:
    library = Library.open(folder)
    return Tiles(library, largest, budget).get(library.entries[0].id)


def test_relief_is_the_same_from_normals_and_from_heights(tmp_path: Path) -> None:
    height, vectors = wave(relief=8.0)
    by_height = only(put(tmp_path / "a", albedo=noise(1, (64, 64)), height=height))
    by_normal = only(put(tmp_path / "b", albedo=noise(1, (64, 64)), normal=stored(vectors)))
    assert by_height.slopes.reach[:2] == pytest.approx(by_normal.slopes.reach[:2], rel=0.01, abs=1e-3)
    assert (
        np.abs(by_height.slopes.canvas[1:65, 1:65, 0] / 65535 - by_normal.slopes.canvas[1:65, 1:65, 0] / 65535).max()
        < 0.01
    )
    assert only(put(tmp_path / "c", albedo=noise(1))).slopes is None


def test_large_tiles_are_reduced_and_pierced_ones_show_what_is_behind(tmp_path: Path) -> None:
    opacity = np.full((64, 64), 255, np.uint8)
    opacity[:, :32] = 0
    folder = put(tmp_path / "lib", albedo=noise(2, (64, 64)), opacity=opacity)
    tile = only(folder, largest=64)
    assert tile.colour.size == (64, 64)
    assert only(folder, largest=32).colour.size == (32, 32)
    assert tile.colour.mean[3] == pytest.approx(0.5, abs=1e-3)
    staged = Stage(64)
    image, labels = staged.render(plain).astype(np.float32), staged.labels(plain)
    done, _ = painted(loaded(folder), image, labels)
    board = labels.passes["instance"] == 1
    kept = (np.abs(done - image).max(-1) < 1e-6)[board].mean()
    assert 0.3 < kept < 0.7


def test_the_light_of_the_picture_falls_on_the_new_relief(tmp_path: Path) -> None:
    """Light comes from above: bumps are bright where they face up, and flat maps do nothing."""
    side = 64
    grey = np.full((side, side, 3), 128, np.uint8)
    grey[0, 0] = 129
    bump = np.tile(0.5 + 0.5 * np.sin(np.arange(side) / side * 2 * np.pi)[:, None], (1, side)).astype(np.float32)
    flat = np.zeros((side, side, 3), np.float32)
    flat[..., 2] = 1
    staged = Stage(96, tilt=0.0)
    image, labels = staged.render(plain), staged.labels(plain)
    board = labels.passes["instance"] == 1
    results = {}
    for name, vectors in {"bump": normals(bump, 12.0), "flat": flat}.items():
        folder = put(tmp_path / name, albedo=grey, normal=stored(vectors))
        stage = loaded(folder, metres_per_uv={"*": (0.4, 0.4)}, turn=0.0, materials={"board": "x", "ball": None})
        draws = {key: {**d, "offset": [0.0, 0.0]} for key, d in drawn(stage, labels).items()}
        results[name] = [
            painted(loaded(folder, relief=r, metres_per_uv={"*": (0.4, 0.4)}), image, labels, draws)[0]
            for r in (0.0, 1.0)
        ]
    without, with_flat = results["flat"]
    assert np.abs(without - with_flat)[board].max() < 2e-3
    without, lit = results["bump"]
    ratio = (lit / np.maximum(without, 1e-3)).mean(-1)
    v = labels.passes["uv"][..., 1] * 2
    slope = np.cos(2 * np.pi * v)  # height grows with t, downwards in the picture, where this is above 0
    inner = board & (np.abs(slope) > 0.7) & (np.abs(labels.passes["uv"] - 0.5).max(-1) < 0.4)
    up, down = ratio[inner & (slope > 0)].mean(), ratio[inner & (slope < 0)].mean()
    # What rises downwards faces up, to the light.
    assert up > 1.05
    assert down < 0.95


def test_the_least_used_go_first(tmp_path: Path) -> None:
    folder = tmp_path / "lib"
    Shelf(folder).add([made(f"t{i}", {"albedo": noise(i, (64, 64))}, ABOUT) for i in range(4)], near="keep")
    library = Library.open(folder)
    ids = [entry.id for entry in library.entries]
    size = Tiles(library, 64, 1 << 30).get(ids[0]).nbytes
    tiles = Tiles(library, 64, int(2.5 * size))
    first = tiles.get(ids[0])
    tiles.get(ids[1])
    assert tiles.get(ids[0]) is first
    tiles.get(ids[2])
    assert tiles.get(ids[0]) is first
    tiles.get(ids[3]), tiles.get(ids[1])
    assert tiles.get(ids[0]) is not first


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    folder = put(tmp_path / "lib", albedo=noise(3))
    entry = Library.open(folder).entries[0]
    path = folder / object_name(entry.maps["albedo"])
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"Import the texture again") as raised:
        only(folder)
    assert str(path) in str(raised.value)

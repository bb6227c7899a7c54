"""Tiles under pixels: against the mean of many looks, wrapping, without aliasing, and never across a border."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from synthaug.texture.sampling import changes, pyramid, sample, steps
from tests.texture.examples import bricks, grain

Array = NDArray[Any]


def checker(side: int = 128, cell: int = 8) -> Array:
    odd = (np.indices((side // cell, side // cell)).sum(0) % 2).astype(np.float32)
    return np.kron(odd, np.ones((cell, cell), np.float32))[..., None].repeat(3, 2)


def plane(tilt: float, x: Array, y: Array, size: int, scale: float) -> tuple[Array, Array]:
    """Places [..., 2] on a tilted plane that pixels see, and whether they see it."""
    a = np.radians(tilt)
    rx, ry = (x - size / 2) / size, (y - size / 2) / size
    z = 3 * np.cos(a) / (np.cos(a) - np.sin(a) * ry)
    s, t = rx * z * scale, ry * z / np.cos(a) * scale
    cos, sin = np.cos(0.3), np.sin(0.3)
    return np.stack([cos * s - sin * t, sin * s + cos * t], -1), (z > 0) & (z < 40)


def look(tile: Array, places: Array) -> Array:
    """One bilinear look at each place, wrapping."""
    rimmed = np.pad(tile, ((1, 1), (1, 1), (0, 0)), mode="wrap")
    inside = places - np.floor(places)
    x, y = (inside * [tile.shape[1], tile.shape[0]] + 0.5).astype(np.float32).transpose(2, 0, 1)
    return cv2.remap(rimmed, x, y, cv2.INTER_LINEAR)


@pytest.mark.parametrize(("tilt", "scale"), [(0, 0.4), (0, 2.0), (60, 1.5), (80, 0.6), (86, 0.4)])
@pytest.mark.parametrize(("kind", "least"), [(checker, 21), (bricks, 31), (grain, 34)])
def test_as_the_mean_of_many_looks(kind: Any, least: float, tilt: float, scale: float) -> None:
    tile, size, fine = kind(), 72, 12
    y, x = np.mgrid[:size, :size] + 0.5
    places, seen = plane(tilt, x, y, size, scale)
    flat = np.ascontiguousarray(places.transpose(2, 0, 1), dtype=np.float32)
    across, down = steps(flat, seen)
    found = sample(pyramid(tile), flat[:, seen], across[:, seen], down[:, seen])[:, :3]
    truth = np.zeros((size, size, 3))
    for i in range(fine):
        for j in range(fine):
            spots, _ = plane(tilt, x - 0.5 + (i + 0.5) / fine, y - 0.5 + (j + 0.5) / fine, size, scale)
            truth += look(tile, spots)
    error = found - truth[seen] / fine**2
    assert -10 * np.log10(np.square(error).mean()) > least


def test_far_away_a_tile_is_its_mean() -> None:
    tile = checker()
    places = np.random.default_rng(0).random((2, 200)).astype(np.float32) * 50
    wide = np.eye(2, dtype=np.float32)[:, :, None] * np.full(200, 3.0, np.float32)
    found = sample(pyramid(tile), places, wide[0], wide[1])
    assert np.abs(found[:, :3] - 0.5).max() < 0.02
    assert pyramid(tile).mean[:3] == pytest.approx([0.5] * 3, abs=1e-4)


@pytest.mark.parametrize("shape", [(32, 32), (17, 40), (1, 5)])
def test_close_by_a_tile_is_read_texel_by_texel_and_wraps(shape: tuple[int, int]) -> None:
    tile = np.random.default_rng(1).random((*shape, 3)).astype(np.float32)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    places = np.stack([(columns + 0.5) / shape[1], (rows + 0.5) / shape[0]]).reshape(2, -1).astype(np.float32)
    still = np.full_like(places, 1e-6)
    # Coordinates of float32 keep a thousandth of a texel this close to zero.
    for shift in (0, 3, -7):
        found = sample(pyramid(tile), places + np.float32(shift), still, still[::-1])[:, :3]
        assert np.abs(found - tile.reshape(-1, 3)).max() < 1e-3
    edge = np.array([[0.0], [0.5 / shape[0]]], np.float32)
    between = sample(pyramid(tile), edge, edge * 1e-6, edge * 1e-6)[0, :3]
    assert between == pytest.approx((tile[0, 0] + tile[0, -1]) / 2, abs=1e-3)


def test_values_of_any_range_are_kept() -> None:
    slopes = (np.random.default_rng(2).random((16, 16, 2)).astype(np.float32) - 0.5) * 6
    places = np.full((2, 1), 0.5 / 16, np.float32)
    found = sample(pyramid(slopes), places, places * 1e-6, places * 1e-6)
    assert found[0, :2] == pytest.approx(slopes[0, 0], abs=1e-3)
    assert found[0, 2] == found[0, 3] == 0


def test_steps_stay_on_their_side_of_a_border_and_of_a_seam() -> None:
    columns = np.arange(20, dtype=np.float32)
    ramp = np.where(columns < 10, 0.01 * columns, 5 + 0.02 * columns)
    values = np.stack([np.tile(ramp, (6, 1)), np.tile(np.arange(6, dtype=np.float32)[:, None] * 0.03, (1, 20))])
    inside = np.ones((6, 20), bool)
    across, down = steps(values, inside)
    assert np.allclose(across[0, :, :10], 0.01, atol=1e-6)
    assert np.allclose(across[0, :, 10:], 0.02, atol=1e-6)
    assert np.allclose(down[1], 0.03, atol=1e-6)
    inside[:, 10:] = False
    values[:, ~inside] = np.nan
    across, _ = steps(values, inside)
    assert np.allclose(across[0][inside], 0.01, atol=1e-6)
    alone = np.zeros((6, 20), bool)
    alone[2, 3] = True
    across, down = steps(np.nan_to_num(values), alone)
    assert across[:, 2, 3].tolist() == [1, 0]
    assert down[:, 2, 3].tolist() == [0, 1]
    column = np.zeros((6, 20), bool)
    column[:, 3] = True
    across, down = steps(np.nan_to_num(values), column)
    assert np.abs(np.linalg.norm(across[:, 2, 3]) - 0.03) < 1e-6, "square, where only one direction is known"
    assert np.isnan(changes(np.nan_to_num(values), column)[0][:, column]).all()

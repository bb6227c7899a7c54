"""Maps against closed forms and finite differences; what is done to a tile's place is done to its maps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug.errors import ConfigError, InputError
from synthaug.texture import maps
from tests.texture.examples import bricks, grain


def degrees(first: np.ndarray, second: np.ndarray) -> float:
    """Largest angle between unit vectors."""
    crossed = np.linalg.norm(np.cross(first.astype(np.float64), second.astype(np.float64)), axis=-1)
    return float(np.degrees(np.arcsin(np.clip(crossed, 0, 1)).max()))


@settings(max_examples=8)
@given(down=st.integers(-70, 70), right=st.integers(-70, 70))
def test_rolled_tiles_have_rolled_maps(down: int, right: int) -> None:
    tile = np.random.default_rng(3).random((48, 60, 3)).astype(np.float32)
    plain, moved = maps.from_albedo(tile), maps.from_albedo(np.roll(tile, (down, right), (0, 1)))
    for name in ("height", "normal", "roughness", "occlusion"):
        rolled = np.roll(getattr(plain, name), (down, right), (0, 1))
        assert np.abs(rolled - getattr(moved, name)).max() < 1e-4, name


@pytest.mark.parametrize("relief", [1.0, 8.0, 20.0])
def test_normals_of_waves(relief: float) -> None:
    y, x = np.mgrid[:128, :192].astype(np.float64)
    a, b = 2 * math.pi * 2 / 192, 2 * math.pi / 128
    height = 0.5 + 0.25 * (np.sin(a * x) + np.cos(b * y))
    exact = np.stack([-relief * 0.25 * a * np.cos(a * x), -relief * 0.25 * b * np.sin(b * y), np.ones_like(x)], 2)
    exact /= np.linalg.norm(exact, axis=2, keepdims=True)
    assert degrees(maps.normals(height.astype(np.float32), relief), exact) < 0.1


def test_normals_are_the_gradient_of_the_height_that_is_given() -> None:
    made = maps.from_albedo(bricks(96, (16, 24)), relief=6.0)
    padded = np.pad(made.height.astype(np.float64), 1, mode="wrap") * made.relief
    down, right = np.gradient(padded)
    slope = np.stack([-right, down, np.ones_like(down)], 2)[1:-1, 1:-1]
    assert degrees(made.normal, slope / np.linalg.norm(slope, axis=2, keepdims=True)) < 0.1
    assert np.abs(np.linalg.norm(made.normal, axis=2) - 1).max() < 1e-5


def test_a_bump_faces_outwards() -> None:
    y, x = np.mgrid[:64, :64] - 32
    found = maps.normals(np.exp(-(y**2 + x**2) / 100).astype(np.float32), 10)
    right_of, left_of, above, below = found[32, 40], found[32, 24], found[24, 32], found[40, 32]
    assert right_of[0] > 0.2 > -0.2 > left_of[0], "right of the top it looks right"
    assert above[1] > 0.2 > -0.2 > below[1], "above the top, in a smaller row, it looks up"


def test_occlusion_of_a_trench_is_that_of_its_walls() -> None:
    height = np.ones((64, 64), np.float32)
    height[:, 30:35] = 0  # walls 3 px to each side of the middle column, as seen from its pixel centres
    found = maps.occlusion(height, 4.0)
    assert found[0, 0] == 1
    across, slanted = 1 / (1 + (4 / 4) ** 2), 1 / (1 + (4 / math.hypot(3, 3)) ** 2)
    assert found[10, 32] == pytest.approx((2 * across + 4 * slanted + 2) / 8, abs=0.02)
    assert np.all(maps.occlusion(np.full((16, 16), 0.3, np.float32), 9) == 1)


def test_mortar_is_deep_dark_places_low_and_flat_tiles_flat() -> None:
    tile = 1 - bricks(96, (16, 24))
    made = maps.from_albedo(tile)
    assert np.array_equal(maps.from_albedo(tile, light_is_deep=True).height, 1 - made.height)
    mortar = tile[..., 2] < 0.5
    assert made.height[mortar].mean() < made.height[~mortar].mean() - 0.2
    assert made.occlusion[mortar].mean() < made.occlusion[~mortar].mean()
    flat = maps.from_albedo(np.full((32, 32, 3), 90, np.uint8))
    assert np.all(flat.height == 0.5)
    assert np.all(flat.normal == [0, 0, 1])
    assert np.all(flat.occlusion == 1)
    assert np.allclose(flat.roughness, 0.7)


def test_grain_is_rougher_than_what_is_even() -> None:
    tile = np.full((128, 128, 3), 0.5, np.float32)
    tile[:, :64] += 0.5 * (grain(128, spread=0.8)[:, :64] - 0.5)
    made = maps.from_albedo(tile)
    assert made.roughness[:, 16:48].mean() > made.roughness[:, 80:112].mean() + 0.2
    assert np.array_equal(made.roughness.clip(0, 1), made.roughness)


@pytest.mark.parametrize(("name", "value"), [("relief", -1), ("smooth", 99), ("roughness", 2), ("contrast", math.nan)])
def test_ranges(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{name}="):
        maps.from_albedo(grain(32), **{name: value})  # type: ignore[arg-type]


def test_an_albedo_of_another_form_is_refused() -> None:
    with pytest.raises(InputError, match=r"albedo uint8\[32, 32\]"):
        maps.from_albedo(np.zeros((32, 32), np.uint8))

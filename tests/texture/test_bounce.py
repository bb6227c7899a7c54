"""One bounce of changed light, against sums over every pixel and a form factor in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from synthaug.camera import Camera, from_fov
from synthaug.texture.bounce import gathered

SIDE = 120
CAMERA = from_fov(SIDE, SIDE, 60.0)
FLOOR, WALL = 0.5, 2.0
"""Metres below and ahead of the camera."""
Array = NDArray[np.float32]


def corner(camera: Camera = CAMERA) -> tuple[NDArray[np.int32], Array, Array]:
    """A floor (1) that meets a wall (2), as a camera that looks ahead sees them: ids, positions, normals."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    rays = camera.rays(np.stack([x, y], axis=-1).reshape(-1, 2)).reshape(SIDE, SIDE, 3)
    with np.errstate(divide="ignore"):
        down = np.where(rays[..., 1] > 0, FLOOR / rays[..., 1], np.inf)
    on_floor = down < WALL
    position = rays * np.where(on_floor, down, WALL)[..., None]
    normals = np.where(on_floor[..., None], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0])
    return np.where(on_floor, 1, 2).astype(np.int32), position.astype(np.float32), normals.astype(np.float32)


def summed(point: Array, normal: Array, change: Array, position: Array, normals: Array) -> NDArray[np.float64]:
    """Light at one point from every pixel by itself, in float64."""
    way = position.reshape(-1, 3).astype(np.float64) - point
    far = np.maximum(np.linalg.norm(way, axis=1), 1e-9)
    leaving = np.maximum(way @ normal / far, 0)
    arriving = np.maximum(-(way * normals.reshape(-1, 3)).sum(1) / far, 0)
    eye = position.reshape(-1, 3)
    slant = -(eye * normals.reshape(-1, 3)).sum(1) / np.linalg.norm(eye, axis=1)
    area = eye[:, 2] * np.linalg.norm(eye, axis=1) / (CAMERA.K[0, 0] * CAMERA.K[1, 1]) / slant
    return (leaving * arriving * area / (np.pi * far**2)) @ change.reshape(-1, 3)


def test_a_floor_lights_the_wall_as_a_sum_over_its_pixels() -> None:
    ids, position, normals = corner()
    change = np.where((ids == 1)[..., None], np.float32([0.4, 0.1, -0.2]), 0).astype(np.float32)
    found = gathered(change, position, normals, CAMERA).at(ids, 2, (slice(0, SIDE), slice(0, SIDE)))
    for row in (5, 30, 55, 75):
        for column in (40, 60, 90):
            expected = 1.3 * summed(position[row, column], normals[row, column], change, position, normals)
            assert found[row, column] == pytest.approx(expected, rel=0.08, abs=0.004)


def test_at_the_foot_of_the_wall_the_floor_is_half_of_what_is_seen() -> None:
    """The form factor of a half-plane from a point at its edge, on the plane that stands on it, is 1/2."""
    ids, position, normals = corner()
    change = np.where((ids == 1)[..., None], np.float32(1), 0) * np.ones(3, np.float32)
    found = gathered(change, position, normals, CAMERA).at(ids, 2, (slice(0, SIDE), slice(0, SIDE)))
    foot = int(np.nonzero((ids == 2).any(axis=1))[0].max())
    assert found[foot, 60] == pytest.approx(1.3 / 2, rel=0.1)


def test_planes_do_not_light_themselves_and_nothing_comes_of_nothing() -> None:
    ids, position, normals = corner()
    everywhere = (slice(0, SIDE), slice(0, SIDE))
    change = np.where((ids == 1)[..., None], np.float32(1), 0) * np.ones(3, np.float32)
    floor = gathered(change, position, normals, CAMERA).at(ids, 1, everywhere)
    assert np.abs(floor[ids == 1])[60:].max() < 1e-3
    assert not gathered(np.zeros_like(change), position, normals, CAMERA).at(ids, 2, everywhere).any()


def test_it_is_linear_in_the_change() -> None:
    ids, position, normals = corner()
    rng = np.random.default_rng(0)
    one, two = (rng.random((SIDE, SIDE, 3)).astype(np.float32) for _ in range(2))
    lights = [gathered(c, position, normals, CAMERA).light for c in (one, two, one - 2 * two)]
    assert lights[2] == pytest.approx(lights[0] - 2 * lights[1], abs=1e-4)
    assert ids.shape == one.shape[:2]


def test_unknown_places_send_and_get_nothing() -> None:
    ids, position, normals = corner()
    change = np.ones((SIDE, SIDE, 3), np.float32)
    position[ids == 1] = np.nan
    bounce = gathered(change, position, normals, CAMERA)
    assert np.isfinite(bounce.light).all()
    assert not bounce.light.any(), "the wall alone is a plane, and the floor is not known"
    assert np.isfinite(bounce.at(ids, 1, (slice(80, 120), slice(0, 50)))).all()


def test_an_object_smaller_than_a_cell_takes_what_is_around() -> None:
    ids, position, normals = corner()
    change = np.where((ids == 1)[..., None], np.float32(1), 0) * np.ones(3, np.float32)
    bounce = gathered(change, position, normals, CAMERA)
    whole = bounce.at(ids, 2, (slice(40, 42), slice(60, 62)))
    ids[40:42, 60:62] = 3
    assert bounce.at(ids, 3, (slice(40, 42), slice(60, 62))) == pytest.approx(whole, rel=0.3)

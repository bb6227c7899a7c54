from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from synthaug.camera import Camera, matrix
from synthaug.warp import motion
from synthaug.warp.motion import Warp
from synthaug.warp.view import depth_factor, follow, split
from tests.warp import motions


def visible_points(rng: np.random.Generator, camera: Camera, warp: Warp, count: int = 50) -> np.ndarray:
    pixels = rng.uniform((0, 0), (warp.source[1], warp.source[0]), (count, 2))
    points = camera.rays(pixels) * rng.uniform(1, 20, (count, 1))
    return points[np.isfinite(warp.forward(pixels)).all(axis=1)]


def test_split_reprojects_200_random_homographies_with_mirrors() -> None:
    rng = np.random.default_rng(1)
    mirrors, worst = 0, 0.0
    for _ in range(200):
        warp, camera = motions.random_homography(rng), motions.camera(rng)
        new, turn = split(warp.matrix, camera.K)
        mirrors += np.linalg.det(turn) < 0
        assert np.allclose(turn @ turn.T, np.eye(3), atol=1e-12)
        assert new[0, 0] > 0
        assert new[1, 1] > 0
        assert new[2, 2] == 1
        assert new[1, 0] == new[2, 0] == new[2, 1] == 0
        assert (np.linalg.det(turn) < 0) == (np.linalg.det(warp.matrix) < 0)
        points = visible_points(rng, camera, warp)
        moved = points @ turn.T @ new.T
        assert (moved[:, 2] > 0).all()
        expected = warp.forward(camera.project(points))
        worst = max(worst, float(np.abs(moved[:, :2] / moved[:, 2:] - expected).max()))
    assert 60 < mirrors < 140
    assert worst < 1e-9


@settings(max_examples=60, deadline=None)
@given(motions.seeds)
def test_world_points_reproject_with_the_new_camera(seed: int) -> None:
    rng = np.random.default_rng(seed)
    camera = motions.camera(rng)
    warp = motions.random_homography(rng).then(motions.random_homography(rng, strength=0.1))
    points = visible_points(rng, camera, warp)
    pose = camera.world_to_camera
    assert pose is not None
    world = (points - pose[:3, 3]) @ pose[:3, :3]
    view = follow(warp, camera)
    assert view.camera is not None
    after = view.camera.world_to_camera
    assert after is not None
    seen = view.camera.project(world @ after[:3, :3].T + after[:3, 3])
    assert np.allclose(seen, warp.forward(camera.project(points)), atol=1e-6)
    assert view.camera.mirrored == (np.linalg.det(after[:3, :3]) < 0) == warp.mirrored


def test_affine_motions_keep_the_z_axis_to_the_bit() -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        warp = motion.affine(motions.SIZE, scale=(1.2, -0.8), degrees=rng.uniform(-180, 180), shear=(9, 4))
        view = follow(warp, motions.camera(rng))
        assert view.rotation is not None
        assert view.planar
        assert view.rotation[2].tolist() == [0, 0, 1]
        assert view.rotation[:, 2].tolist() == [0, 0, 1]


def test_flips_and_quarter_turns_have_whole_numbers_for_axes() -> None:
    camera = motions.camera(np.random.default_rng(3))
    square = Camera(matrix([[50, 0, 30], [0, 50, 20], [0, 0, 1]], 3, 3))
    for warp in (motion.hflip((48, 64)), motion.vflip((48, 64)), motion.rotation((48, 64), 90, expand=True)):
        rotation = follow(warp, square).rotation
        assert rotation is not None
        assert np.isin(rotation, (-1, 0, 1)).all()
    rotation = follow(motion.crop((48, 64), (3, 4, 30, 40)), camera).rotation
    assert (rotation == np.eye(3)).all()


@settings(max_examples=60, deadline=None)
@given(motions.seeds)
def test_affine_motions_turn_the_lens_with_the_picture(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pinhole = motions.camera(rng)
    lens = tuple(rng.uniform(-0.1, 0.1, 8) * (1, 1, 0.2, 0.2, 1, 1, 1, 1))
    camera = Camera(pinhole.intrinsics, pinhole.extrinsics, lens)
    degrees = float(rng.uniform(-180, 180))
    warp = motion.affine(motions.SIZE, scale=(1.3, -0.7), degrees=degrees, shear=(5, 0))
    view = follow(warp, camera)
    assert view.camera is not None
    assert view.rotation is not None
    points = pinhole.rays(rng.uniform((0, 0), (64, 48), (40, 2))) * 3
    seen = view.camera.project(points @ view.rotation.T)
    assert np.allclose(seen, warp.forward(camera.project(points)), atol=1e-9)
    assert view.camera.mirrored


def test_projective_motion_of_a_distorted_picture_loses_the_camera() -> None:
    rng = np.random.default_rng(4)
    camera = Camera(motions.camera(rng).intrinsics, None, (0.1, 0.0, 0.0, 0.0, 0.0))
    view = follow(motion.perspective((48, 64), [[3, 1], [64, 0], [60, 48], [0, 44]]), camera)
    assert view.camera is None
    assert view.rotation is None
    assert not view.planar
    assert view.reason == "lens_bends"


def test_unknown_camera_follows_affine_motions_only() -> None:
    turn = follow(motion.rotation((48, 64), 30), None)
    assert turn.camera is None
    assert turn.rotation is not None
    assert turn.planar
    cosine, sine = np.cos(np.pi / 6), np.sin(np.pi / 6)
    assert np.allclose(turn.rotation, [[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    view = follow(motion.perspective((48, 64), [[3, 1], [64, 0], [60, 48], [0, 44]]), None)
    assert (view.rotation, view.planar, view.reason) == (None, False, "camera_unknown")


def test_dense_motion_takes_its_camera_and_keeps_the_pose() -> None:
    rng = np.random.default_rng(5)
    before, after = motions.camera(rng), Camera(motions.camera(rng).intrinsics, None, (0.1, 0.01, 0, 0, 0))
    known = follow(motions.barrel(camera=after), before)
    assert known.camera == Camera(after.intrinsics, before.extrinsics, after.distortion)
    unknown = follow(motions.barrel(), before)
    assert unknown.camera is None
    assert unknown.planar
    assert not unknown.turned
    assert unknown.reason == "dense_motion"


def test_a_dense_map_that_mirrors_loses_the_axes() -> None:
    grid = motions.barrel().backward_grid()[:, ::-1]
    view = follow(Warp.dense(grid, motions.SIZE), motions.camera(np.random.default_rng(6)))
    assert view.rotation is None
    assert view.planar
    assert view.reason == "dense_mirror"


@pytest.mark.parametrize("lens", [(), (-0.2, 0.05, 0.002, -0.001, 0.0)])
def test_depth_factor_is_the_new_z_along_each_ray(lens: tuple[float, ...]) -> None:
    rng = np.random.default_rng(7)
    plain = motions.camera(rng)
    camera = Camera(plain.intrinsics, None, lens)
    turn = split(motions.random_homography(rng).matrix, camera.K)[1]
    factor = depth_factor(turn, camera, motions.SIZE)
    normalised = rng.uniform(-0.25, 0.25, (200, 2))
    pixels = camera.project(np.column_stack([normalised, np.ones(200)]))
    on_grid = np.floor(pixels) + 0.5
    inside = ((on_grid > 0) & (on_grid < (64, 48))).all(axis=1)
    assert inside.sum() > 50
    # Look the factor up at pixel centres, and compare at points that project onto these centres.
    columns, rows = on_grid[inside].astype(int).T
    expected = np.array([_straight(camera, p) for p in on_grid[inside]]) @ turn[2]
    assert np.allclose(factor[rows, columns], expected, atol=1e-5)


def _straight(camera: Camera, pixel: np.ndarray) -> np.ndarray:
    """The ray of a pixel by plain fixed-point iteration on the projection."""
    guess = camera.rays(pixel[None])[0]
    for _ in range(60):
        gap = pixel - camera.project(guess[None])[0]
        guess[:2] += np.linalg.solve(camera.K[:2, :2], gap)
    return guess

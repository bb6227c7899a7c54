from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from synthaug.errors import Rejected
from synthaug.warp import dense, motion
from synthaug.warp.motion import Warp
from tests.warp import motions
from tests.warp.motions import SIZE

CENTRES = dense.centres(SIZE)


@settings(max_examples=100, deadline=None)
@given(motions.seeds)
def test_homography_round_trip_is_exact(seed: int) -> None:
    rng = np.random.default_rng(seed)
    warp = motions.random_homography(rng)
    there = warp.forward(CENTRES)
    assert np.nanmax(np.abs(warp.inverse().forward(there) - CENTRES)) < 1e-9
    assert np.nanmax(np.abs(warp.backward(there) - CENTRES)) < 1e-9
    back = warp.then(warp.inverse())
    assert np.allclose(back.matrix, np.eye(3), atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(motions.seeds)
def test_dense_round_trip_to_a_hundredth_of_a_pixel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    warp = motions.barrel(k=float(rng.uniform(-0.2, 0.2)))
    targets = rng.uniform((0, 0), (64, 48), (200, 2))
    found = warp.forward(warp.backward(targets))
    assert np.isfinite(found).all()
    assert np.abs(found - targets).max() < 0.01


def test_dense_forward_agrees_with_the_model_of_the_lens() -> None:
    size = (480, 640)
    warp = motions.barrel(size, k=-0.15)
    rng = np.random.default_rng(1)
    targets = rng.uniform((0, 0), (640, 480), (2000, 2))
    sources = np.stack(motions.barrel_back(*targets.T, size, -0.15), axis=-1)
    assert np.abs(warp.forward(sources) - targets).max() < 0.01


def test_dense_inverse_is_a_map_back() -> None:
    warp = motions.barrel((120, 160), k=-0.1)
    back = warp.inverse()
    assert (back.source, back.target) == (warp.target, warp.source)
    points = np.random.default_rng(2).uniform((30, 30), (130, 90), (300, 2))
    assert np.abs(back.forward(warp.forward(points)) - points).max() < 0.01
    grid = back.backward_grid()
    seen = np.isfinite(grid).all(axis=2)
    assert 0.8 < seen.mean() < 1  # the new picture does not show the old corners
    assert np.abs(warp.backward(grid[seen]) - dense.centres((120, 160))[seen.ravel()]).max() < 0.01


def test_points_that_no_pixel_sees_become_nan() -> None:
    warp = motions.barrel((120, 160), k=-0.15)
    assert np.isfinite(warp.forward([(80, 60)])).all()
    assert np.isnan(warp.forward([(0.2, 0.2), (np.nan, 3), (1e9, 3)])).all()
    holed = warp.backward_grid().copy()
    holed[50:70, 70:90] = np.nan
    through_hole = Warp.dense(holed, (120, 160)).forward(warp.backward([(80, 60), (20, 20)]))
    assert np.isnan(through_hole[0]).all()
    assert np.allclose(through_hole[1], (20, 20), atol=0.01)


@settings(max_examples=40, deadline=None)
@given(motions.seeds)
def test_composition_equals_sequence_for_points(seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = [motions.random_homography(rng, strength=0.1) for _ in range(3)]
    parts.insert(int(rng.integers(0, 4)), motions.barrel(k=0.1))
    whole = parts[0].then(parts[1]).then(parts[2]).then(parts[3])
    assert len(whole.steps) <= 3
    points = rng.uniform((0, 0), (64, 48), (50, 2))
    one_by_one = points
    for part in parts:
        one_by_one = part.forward(one_by_one)
    together = whole.forward(points)
    both = np.isfinite(one_by_one).all(axis=1) & np.isfinite(together).all(axis=1)
    assert np.allclose(together[both], one_by_one[both], atol=1e-6)
    assert (np.isnan(one_by_one) == np.isnan(together)).mean() > 0.95
    assert whole.mirrored == (sum(p.mirrored for p in parts) % 2 == 1)
    grid, spots = whole.backward_grid().reshape(-1, 2), whole.backward(CENTRES)
    assert np.allclose(grid, spots, atol=1e-2, rtol=1e-4, equal_nan=True)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (2, 2), (30, 40)])
def test_composing_whole_canvases_equals_looking_points_up(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    backward = (dense.centres(size).reshape(*size, 2) * 2 + rng.uniform(-0.3, 0.3, (*size, 2))).astype(np.float32)
    places = rng.uniform(-1, 1.3, (2, 50, 60)) + rng.uniform((-1, -1), size[::-1], (50, 60, 2)).transpose(2, 0, 1)
    places = places.astype(np.float32)
    composed = dense.compose(backward, places)
    expected = dense.look_up(backward, places.reshape(2, -1).T.astype(np.float64)).T.reshape(2, 50, 60)
    assert np.isfinite(expected).any()
    assert np.allclose(composed, expected, atol=1e-4, equal_nan=True)


def test_neighbouring_homographies_merge_and_lose_nothing_between() -> None:
    out = motion.affine(SIZE, translate=(40, 0)).then(motion.affine(SIZE, translate=(-40, 0)))
    assert out.is_homography
    assert np.allclose(out.matrix, np.eye(3), atol=1e-12)


def test_composition_needs_matching_canvases() -> None:
    with pytest.raises(Rejected, match=r"\(24, 32\) cannot be followed"):
        motion.resize(SIZE, (24, 32)).then(motion.hflip(SIZE))


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((3, 3)),
        np.diag([1.0, np.nan, 1.0]),
        np.diag([1.0, 0.0, 1.0]),
        [[1, 2, 0], [2, 4, 0], [0, 0, 1]],
        np.eye(2),
        [[1, 0, 0], [0, 1, 0], [1, 0, -32]],
    ],
)
def test_matrices_that_are_no_motion_are_refused(values: object) -> None:
    with pytest.raises(Rejected) as refusal:
        Warp.homography(values, SIZE, SIZE)  # pyright: ignore[reportArgumentType]
    assert refusal.value.reason == "warp"


def test_scale_of_a_homography_means_nothing() -> None:
    warp = motions.random_homography(np.random.default_rng(3))
    for factor in (1e-6, -1.0, 250.0):
        same = Warp.homography(warp.matrix * factor, SIZE, SIZE)
        assert np.allclose(same.matrix, warp.matrix, rtol=1e-12)


def test_points_behind_the_camera_are_not_visible() -> None:
    warp = Warp.homography([[1, 0, 0], [0, 1, 0], [-1 / 48, 0, 1]], SIZE, SIZE)  # horizon at x = 48
    assert np.isfinite(warp.forward([(40, 10)])).all()
    assert np.isnan(warp.forward([(50, 10)])).all()
    seen = warp.backward_grid().reshape(-1, 2)
    seen = seen[np.isfinite(seen).all(axis=1)]
    assert seen[:, 0].max() < 48


def test_quarter_turns_go_round() -> None:
    turn = motion.rotation(SIZE, 90, expand=True)
    assert turn.target == (64, 48)
    assert np.allclose(turn.forward([(63.5, 0.5)]), [(0.5, 0.5)])  # counter-clockwise: top right to top left
    four = turn
    for _ in range(3):
        four = four.then(motion.rotation(four.target, 90, expand=True))
    assert four.is_identity


def test_perspective_sends_corners_where_it_says() -> None:
    places = [[3, 5], [60, 1], [64, 40], [2, 47]]
    warp = motion.perspective(SIZE, places)
    assert np.allclose(warp.forward([(0, 0), (64, 0), (64, 48), (0, 48)]), places)


def test_affine_turns_counter_clockwise_about_the_centre() -> None:
    warp = motion.affine(SIZE, degrees=30, scale=(2, 2), translate=(1, -2))
    centre = np.array([32, 24])
    expected = centre + 2 * np.array([np.cos(np.pi / 6), -np.sin(np.pi / 6)]) + (1, -2)
    assert np.allclose(warp.forward([(33, 24)])[0], expected)


def test_crop_and_resize_sizes() -> None:
    assert motion.crop(SIZE, (-4, 2, 20, 12)).target == (10, 24)
    assert np.allclose(motion.crop(SIZE, (-4, 2, 20, 12)).forward([(0, 2)]), [(4, 0)])
    assert np.allclose(motion.resize(SIZE, (96, 32)).forward([(64, 48)]), [(32, 96)])
    with pytest.raises(Rejected, match="0x5"):
        motion.resize(SIZE, (0, 5))

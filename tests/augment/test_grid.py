"""Motions learnt from coordinate grids: exact where they are projective, dense where they are not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug.augment import grid
from synthaug.errors import Rejected

SIZE = (90, 120)


def sent(matrix: np.ndarray, target: tuple[int, int] = SIZE) -> np.ndarray:
    """The grid through OpenCV's own warp, which counts pixel centres from 0."""
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
    inner = np.linalg.inv(half) @ matrix @ half
    return cv2.warpPerspective(grid.picture(SIZE), inner, target[::-1], flags=cv2.INTER_LINEAR)


@settings(max_examples=40, deadline=None)
@given(angle=st.floats(-3, 3), scale=st.floats(0.6, 1.6), tilt=st.floats(-8e-4, 8e-4), shift=st.floats(-20, 20))
def test_homographies_are_recognised(angle: float, scale: float, tilt: float, shift: float) -> None:
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    centre = np.array([[1, 0, 60.0], [0, 1, 45.0], [0, 0, 1.0]])
    matrix = centre @ np.array([[c, -s, shift], [s, c, 0], [tilt, -tilt, 1.0]]) @ np.linalg.inv(centre)
    warp = grid.to_warp(sent(matrix), SIZE)
    assert warp.is_homography
    spots = np.random.default_rng(0).uniform((30, 20), (90, 70), (50, 2))
    exact = np.column_stack([spots, np.ones(50)]) @ matrix.T
    assert np.abs(warp.forward(spots) - exact[:, :2] / exact[:, 2:]).max() < 0.02


def test_whole_pixel_motions_come_back_exact() -> None:
    picture = grid.picture(SIZE)
    for moved, matrix in (
        (picture[:, ::-1], [[-1, 0, 120], [0, 1, 0], [0, 0, 1]]),
        (picture[10:80, 5:100], [[1, 0, -5], [0, 1, -10], [0, 0, 1]]),
        (np.rot90(picture, -1), [[0, -1, 90], [1, 0, 0], [0, 0, 1]]),
        (picture, np.eye(3)),
    ):
        assert np.array_equal(grid.to_warp(moved, SIZE).matrix, matrix)


def test_an_enlarged_crop_is_affine_although_its_rim_is_held() -> None:
    moved = cv2.resize(grid.picture(SIZE)[20:50, 30:80], (200, 150), interpolation=cv2.INTER_LINEAR)
    matrix = grid.to_warp(moved, SIZE).matrix
    assert matrix == pytest.approx(np.array([[4, 0, -120], [0, 5, -100], [0, 0, 1.0]]), abs=1e-3)


def test_a_bent_picture_becomes_a_dense_map_with_its_rim_in_place() -> None:
    y, x = np.mgrid[0:90, 0:120].astype(np.float32)
    bent = x + 6 * np.sin(y / 20)
    moved = cv2.remap(grid.picture(SIZE), bent, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    warp = grid.to_warp(moved, SIZE)
    assert not warp.is_homography
    back = warp.backward_grid()
    seen = (bent + 0.5 >= 0.02) & (bent + 0.5 <= 119.98)
    assert np.abs(back[seen] - np.stack([bent + 0.5, y + 0.5], axis=-1)[seen]).max() < 0.02
    hidden = (bent + 0.5 < -0.02) | (bent + 0.5 > 120.02)
    assert np.isnan(back[hidden]).all()


def test_an_empty_picture_is_rejected() -> None:
    with pytest.raises(Rejected, match="off its canvas"):
        grid.to_warp(np.zeros((90, 120, 3), np.float32), SIZE)
    with pytest.raises(Rejected, match="not finite"):
        grid.to_warp(np.full((90, 120, 3), np.nan), SIZE)


def test_movement_is_measured_and_noise_is_not_movement() -> None:
    rng = np.random.default_rng(0)
    assert grid.movement(lambda p: p) < 1e-6
    assert grid.movement(lambda p: cv2.GaussianBlur(p, (0, 0), 2.0)) < 0.1
    assert grid.movement(lambda p: p + rng.normal(0, 0.2, p.shape)) < 0.6
    assert grid.movement(lambda p: 1 - p**2) < 0.3
    assert grid.movement(lambda p: np.roll(p, 4, axis=1)) == pytest.approx(4, abs=0.3)
    assert grid.movement(lambda p: p[:, ::-1]) > 3
    assert grid.movement(lambda p: p[::2]) == np.inf

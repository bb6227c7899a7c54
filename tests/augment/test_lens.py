"""Lens distortion against OpenCV's model and against reprojected points."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from synthaug.augment.lens import LensDistortion, undistort
from synthaug.camera import Camera, distort, from_fov
from synthaug.labels import Labels
from synthaug.seeds import from_seed
from synthaug.warp.view import follow

BARREL = {"apply": True, "k1": -0.2, "k2": 0.03}


@pytest.mark.parametrize("coefficients", [(-0.2, 0.05), (0.3, -0.1, 0, 0, 0.02), (-0.1, 0.02, 0.003, -0.002, 0.0)])
def test_undistort_inverts_distort(coefficients: tuple[float, ...]) -> None:
    points = np.random.default_rng(0).uniform(-0.6, 0.6, (2000, 2))
    assert np.abs(undistort(distort(points, coefficients), coefficients) - points).max() < 2e-6


def test_undistort_agrees_with_opencv() -> None:
    points = np.random.default_rng(1).uniform(-0.5, 0.5, (500, 2))
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-12)
    theirs = cv2.undistortPoints(points[:, None], np.eye(3), np.array([-0.2, 0.05, 0, 0, 0]), criteria=criteria)
    assert np.abs(undistort(points, (-0.2, 0.05)) - theirs[:, 0]).max() < 2e-6


def test_beyond_the_fold_there_is_nothing() -> None:
    """A barrel of k1 = -0.5 reaches its largest radius, 0.544, at r = 0.816."""
    found = undistort(np.array([[0.5, 0.0], [0.54, 0.0], [0.56, 0.0], [0.9, 0.0]]), (-0.5,))
    assert np.isfinite(found[:2]).all()
    assert np.isnan(found[2:]).all()


@pytest.mark.parametrize("distortion", [(), (-0.05, 0.01, 0.001, 0.0005, 0.0)])
def test_points_in_space_land_where_the_new_camera_sees_them(distortion: tuple[float, ...]) -> None:
    camera = replace(from_fov(320, 240, 70.0), distortion=distortion)
    warp = LensDistortion().warp(Labels((240, 320), camera=camera), BARREL)
    after = follow(warp, camera).camera
    assert after is not None
    assert after.distortion[0] == pytest.approx(-0.2 + (distortion[0] if distortion else 0.0))
    rng = np.random.default_rng(2)
    space = np.column_stack([rng.uniform(-0.5, 0.5, 400), rng.uniform(-0.4, 0.4, 400), np.ones(400)])
    before, seen = camera.project(space), after.project(space)
    assert np.abs(warp.forward(before) - seen).max() < 0.01


def test_an_unknown_camera_stays_unknown() -> None:
    warp = LensDistortion().warp(Labels((100, 140)), BARREL)
    centre, corner = warp.forward([(70.0, 50.0), (139.0, 99.0)])
    assert centre == pytest.approx((70, 50), abs=1e-3)
    assert corner[0] < 136
    assert corner[1] < 97


def test_most_lenses_leave_the_picture_alone_when_they_should() -> None:
    stage = LensDistortion(probability=0.0)
    labels = Labels((40, 40), camera=Camera(from_fov(40, 40, 60.0).intrinsics))
    assert stage.warp(labels, stage.draw(from_seed(1), labels, 0)).is_identity

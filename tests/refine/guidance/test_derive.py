"""Derived passes against closed forms: planes exact, balls to a fraction of a degree, nothing across edges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthaug import rle
from synthaug.camera import Camera, distort, matrix
from synthaug.errors import Rejected
from synthaug.labels import Instance, Labels
from synthaug.refine.guidance import derive
from tests.refine.guidance.scenes import CAMERA, CATEGORIES, SIZE, ball, only, plane, rays, roof


def angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    cross = np.linalg.norm(np.cross(a.astype(np.float64), b.astype(np.float64)), axis=-1)
    return np.degrees(np.arctan2(cross, (a.astype(np.float64) * b).sum(-1)))


@given(
    tilt=st.floats(0, 1.1),
    turn=st.floats(0, 6.3),
    offset=st.floats(0.2, 50),
    skew=st.floats(-5, 5),
)
def test_normals_of_a_plane_are_exact_up_to_the_rim(tilt: float, turn: float, offset: float, skew: float) -> None:
    normal = (np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), -np.cos(tilt))
    camera = Camera(matrix([[300, skew, 60], [0, 280, 50], [0, 0, 1]], 3, 3))
    labels = plane(normal, -offset, camera)  # type: ignore[arg-type]
    derived, source = derive.normals(only(labels, "depth"))
    assert source == "depth and camera"
    assert angles(derived, labels.passes["normals"]).max() < 0.1


def test_normals_of_a_ball_and_no_wrong_rim_beside_the_wall() -> None:
    labels = ball(sky=False)
    derived, _ = derive.normals(only(labels, "depth"))
    off = angles(derived, labels.passes["normals"])
    wall = labels.passes["instance"] == 2
    facing = ~wall & (labels.passes["normals"][..., 2] < -0.5)
    assert off[wall].max() < 0.1, "the wall is right up to the ball's outline"
    # Thirty pixels across its radius, one pixel spans two degrees: chords, not tangents.
    assert off[facing].max() < 1.5
    assert off[facing].mean() < 0.15


def test_a_ridge_is_sharp() -> None:
    labels = roof()
    derived, _ = derive.normals(only(labels, "depth"))
    assert angles(derived, labels.passes["normals"]).max() < 0.1


def test_lens_distortion_is_undone() -> None:
    lens = (-0.2, 0.05, 0.001, -0.001, 0.0)
    camera = Camera(CAMERA.intrinsics, distortion=lens)
    labels = plane((0.3, -0.2, -1), -2.0)
    # What a camera with this lens sees: each of its pixels looks along the undistorted ray, found by iteration.
    bent = rays()[..., :2].reshape(-1, 2)
    straight = bent.copy()
    for _ in range(50):
        straight += bent - distort(straight, lens)
    n = labels.passes["normals"][0, 0].astype(np.float64)
    looks = np.column_stack([straight, np.ones(len(straight))])
    z = (-2.0 / (looks @ n)).reshape(SIZE)
    seen = Labels(SIZE, CATEGORIES, (), {"depth": z.astype(np.float32)}, camera)
    assert angles(derive.normals(seen)[0], np.broadcast_to(n, (*SIZE, 3))).max() < 0.1
    without = derive.normals(replace(seen, camera=CAMERA))[0]
    assert angles(without, np.broadcast_to(n, (*SIZE, 3))).max() > 1.0


def test_position_gives_depth_and_normals_without_a_camera() -> None:
    labels = ball()
    given_ = only(labels, "position", camera=False)
    z, source = derive.depth(given_)
    assert source == "position"
    np.testing.assert_array_equal(z, labels.passes["depth"])
    np.testing.assert_allclose(derive.normals(given_)[0], derive.normals(only(labels, "depth"))[0], atol=1e-4)


def test_sky_has_no_normal_and_single_pixels_do_not_fail() -> None:
    z = np.full(SIZE, np.nan, np.float32)
    z[10, 10] = 1.0
    derived, _ = derive.normals(Labels(SIZE, CATEGORIES, (), {"depth": z}, CAMERA))
    assert np.isnan(derived).all()
    flat, _ = derive.normals(Labels((1, 1), CATEGORIES, (), {"depth": np.ones((1, 1), np.float32)}, CAMERA))
    assert flat.shape == (1, 1, 3)


def test_depth_behind_the_camera_or_infinite_is_invalid() -> None:
    z = np.array([[1, -1, 0, np.inf, np.nan]], np.float32)
    got, _ = derive.depth(Labels((1, 5), CATEGORIES, (), {"depth": z}))
    np.testing.assert_array_equal(got, [[1, np.nan, np.nan, np.nan, np.nan]])


def test_classes_come_from_instances_and_from_masks() -> None:
    labels = ball(sky=False)
    wanted = labels.passes["semantic"]
    np.testing.assert_array_equal(derive.classes(only(labels, "instance"))[0], wanted)
    masked = tuple(replace(i, mask=rle.encode(labels.passes["instance"] == i.id)) for i in labels.instances)
    bare = Labels(SIZE, CATEGORIES, masked, {}, None)
    classes, source = derive.classes(bare)
    np.testing.assert_array_equal(classes, wanted)
    assert source == "masks"
    np.testing.assert_array_equal(derive.ids(bare)[0], labels.passes["instance"])


def test_overlapping_masks_leave_the_small_one_on_top() -> None:
    big, small = np.zeros(SIZE, np.bool_), np.zeros(SIZE, np.bool_)
    big[10:60, 10:60], small[20:30, 20:30] = True, True
    rows = [(1, small, (20.0, 20.0, 30.0, 30.0)), (2, big, (10.0, 10.0, 60.0, 60.0))]
    instances = tuple(Instance(i, i, box, mask=rle.encode(mask)) for i, mask, box in rows)
    ids, _ = derive.ids(Labels(SIZE, CATEGORIES, instances))
    assert ids[25, 25] == 1
    assert ids[50, 50] == 2
    assert ids[0, 0] == 0


@pytest.mark.parametrize("function", [derive.depth, derive.normals, derive.classes, derive.ids])
def test_a_sample_without_anything_is_rejected(function: object) -> None:
    bare = Labels(SIZE, CATEGORIES, (Instance(1, 1, (0.0, 0.0, 5.0, 5.0)),))
    with pytest.raises(Rejected, match="no ") as caught:
        function(bare)  # type: ignore[operator]
    assert caught.value.reason == "guidance"


def test_depth_without_a_camera_says_that_the_camera_is_missing() -> None:
    with pytest.raises(Rejected, match="lacks a camera"):
        derive.normals(only(ball(), "depth", camera=False))

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings

from synthaug.labels import Box, Category, Instance
from synthaug.warp import motion, points
from synthaug.warp.motion import Warp
from tests.warp import motions
from tests.warp.motions import SIZE


def dense_truth(box: Box, warp: Warp, count: int = 400) -> tuple[np.ndarray, float]:
    """Bounds and share by brute force: a fine net over the box, sent forward."""
    u = (np.arange(count) + 0.5) / count
    x, y = np.meshgrid(box[0] + u * (box[2] - box[0]), box[1] + u * (box[3] - box[1]))
    places = warp.forward(np.column_stack([x.ravel(), y.ravel()]))
    with np.errstate(invalid="ignore"):
        there = ((places >= 0) & (places <= (warp.target[1], warp.target[0]))).all(axis=1)
    found = places[there]
    bounds = np.concatenate([found.min(axis=0), found.max(axis=0)]) if len(found) else np.zeros(4)
    return bounds, float(there.mean())


def random_box(rng: np.random.Generator) -> Box:
    x, y = np.sort(rng.uniform(0, 64, 2)), np.sort(rng.uniform(0, 48, 2))
    return float(x[0]), float(y[0]), float(x[1] + 0.5), float(y[1] + 0.5)


@settings(max_examples=40, deadline=None)
@example(512)  # a flat box that the rim of the canvas cuts between two samples of its sides
@given(motions.seeds)
def test_box_image_is_the_bound_of_what_is_seen(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lens = seed % 4 == 0
    warp = motions.random_homography(rng, strength=0.3) if not lens else motions.barrel(k=0.2)
    warp = warp.then(motion.affine(SIZE, translate=(float(rng.uniform(-30, 30)), 0), scale=(1.3, 1.3)))
    box = random_box(rng)
    image, share = points.box_images([box], warp)[0]
    bounds, true_share = dense_truth(box, warp)
    assert share == pytest.approx(true_share, abs=0.1 if lens else 0.02)
    if image is None:
        assert true_share < 1e-3
    elif true_share > 0.01:
        assert np.abs(np.array(image) - bounds).max() < (3 if lens else 1)
        assert 0 <= image[0] < image[2] <= 64
        assert 0 <= image[1] < image[3] <= 48


def test_box_that_crosses_the_horizon_keeps_its_visible_part() -> None:
    warp = Warp.homography([[1, 0, 0], [0, 1, 0], [-1 / 48, 0, 1]], SIZE, SIZE)
    image, share = points.box_images([(10, 10, 60, 20)], warp)[0]
    assert image is not None
    assert image[2] == 64  # runs out of the canvas before the horizon
    reach = 64 / (1 + 64 / 48)  # source x that lands on x = 64
    assert share == pytest.approx((reach - 10) / 50, abs=0.02)
    assert points.box_images([(50, 10, 60, 20)], warp)[0] == (None, 0.0)


def test_boxes_move_exactly_under_whole_pixel_motions() -> None:
    flipped = points.box_images([(1, 2, 10, 20)], motion.hflip(SIZE))
    assert flipped == [((54.0, 2.0, 63.0, 20.0), 1.0)]
    cropped = points.box_images([(1, 2, 11, 20), (50, 40, 60, 48)], motion.crop(SIZE, (6, 0, 40, 30)))
    assert cropped == [((0.0, 2.0, 5.0, 20.0), 0.5), (None, 0.0)]
    assert points.box_images([], motion.hflip(SIZE)) == []


def test_dense_box_larger_than_the_canvas_fills_it() -> None:
    warp = motions.barrel((480, 640), -0.2)
    image, share = points.box_images([(0, 0, 640, 480)], warp)[0]
    assert image is not None
    assert np.allclose(image, (0, 0, 640, 480), atol=1)
    assert share < 1


def test_mask_share_counts_centres() -> None:
    mask = np.ones((10, 20), bool)
    assert points.mask_share(mask, 0, 0, motion.crop(SIZE, (5, 0, 64, 48))) == pytest.approx(0.75)
    assert points.mask_share(mask, 30, 20, motion.hflip(SIZE)) == 1.0
    assert points.mask_share(mask & False, 0, 0, motion.hflip(SIZE)) == 0.0


def test_mirrors_swap_partners() -> None:
    person = Category("person", keypoints=("nose", "left", "right"), mirror=(0, 2, 1))
    instance = Instance(1, 1, (0, 0, 60, 40), keypoints=((10, 5, 2), (20, 6, 1), (0, 0, 0)))
    mirrored = points.keypoints([instance], [person], motion.hflip(SIZE))[0]
    assert mirrored == ((54.0, 5.0, 2), (0.0, 0.0, 0), (44.0, 6.0, 1))
    turned = points.keypoints([instance], [person], motion.rotation(SIZE, 180))[0]
    assert turned == ((54.0, 43.0, 2), (44.0, 42.0, 1), (0.0, 0.0, 0))
    twice = motion.hflip(SIZE).then(motion.vflip(SIZE))
    assert points.keypoints([instance], [person], twice)[0] == turned
    own = Category("thing", keypoints=("a", "b", "c"))
    assert points.keypoints([instance], [own], motion.hflip(SIZE))[0][1] == (44.0, 6.0, 1)


def test_keypoints_off_the_canvas_are_absent() -> None:
    person = Category("person", keypoints=("a", "b"))
    instance = Instance(1, 1, (0, 0, 60, 40), keypoints=((3, 5, 2), (20, 6, 1)))
    assert points.keypoints([instance], [person], motion.crop(SIZE, (4, 0, 64, 48)))[0] == ((0, 0, 0), (16, 6, 1))
    lens = motions.barrel(k=-0.2)
    corner = Instance(1, 1, (0, 0, 60, 40), keypoints=((0.1, 0.1, 2), (32, 24, 1)))
    found = points.keypoints([corner], [person], lens)[0]
    assert found[0] == (0.0, 0.0, 0)
    assert found[1] == pytest.approx((32, 24, 1), abs=0.01)

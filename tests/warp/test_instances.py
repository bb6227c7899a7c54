from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from synthaug import rle
from synthaug.labels import Category, Instance, Labels
from synthaug.sample import Picture, Sample
from synthaug.warp import motion, move
from synthaug.warp.resample import Resampler
from tests.warp import motions
from tests.warp.motions import CATEGORIES, SIZE


def boxes_only(*boxes: tuple[float, float, float, float], visibility: float = 1.0) -> Sample:
    instances = tuple(Instance(i, 1, b, visibility=visibility) for i, b in enumerate(boxes, 1))
    picture = Picture(np.zeros((*SIZE, 3), np.uint8))
    return Sample("a", picture, Labels(SIZE, CATEGORIES, instances), picture)


def test_reasons_for_dropping_boxes() -> None:
    sample = boxes_only((0, 0, 10, 10), (12, 0, 32, 10), (30, 20, 40, 30), (15.0, 40, 15.5, 41))
    result = move.apply(sample, motion.crop(SIZE, (20, 0, 64, 48)), min_visible=0.3, min_area=2)
    assert result.tally["dropped"] == {"out_of_canvas": 2}
    assert result.tally["clipped"] == 1
    assert result.tally["kept"] == 1
    kept = result.sample.labels.instances
    assert [i.box for i in kept] == [(0, 0, 12, 10), (10, 20, 20, 30)]
    assert [i.visibility for i in kept] == [pytest.approx(0.6), 1.0]
    again = move.apply(result.sample, motion.crop((48, 44), (6, 0, 44, 48)), min_visible=0.4)
    assert again.tally["dropped"] == {"below_visibility": 1}
    small = move.apply(sample, motion.resize(SIZE, (12, 16)), min_area=2)
    assert small.tally["dropped"] == {"too_small": 1}


def test_dropped_instances_leave_the_id_map_and_take_their_points_along() -> None:
    ids = np.zeros(SIZE, np.int32)
    ids[10:20, 0:20], ids[30:34, 40:44] = 1, 2
    person = Category("person", keypoints=("a", "b"))
    instances = (
        Instance(1, 1, (0, 10, 20, 20), keypoints=((18.5, 15, 2), (2, 12, 2))),
        Instance(2, 1, (40, 30, 44, 34), keypoints=((41, 31, 1), (0, 0, 0))),
    )
    picture = Picture(np.zeros((*SIZE, 3), np.uint8))
    passes = {"instance": ids, "semantic": (ids > 0).astype(np.int32)}
    sample = Sample("a", picture, Labels(SIZE, (person,), instances, passes), picture)
    result = move.apply(sample, motion.crop(SIZE, (18, 0, 64, 48)), min_visible=0.2)
    labels = result.sample.labels
    labels.check()
    assert [i.id for i in labels.instances] == [2]
    assert rle.ids_in(labels.passes["instance"]) == [2]
    assert labels.passes["semantic"][15, 1] == 1  # the pixel still shows what it shows
    assert result.tally["dropped"] == {"below_visibility": 1}
    assert result.tally["keypoints_dropped"] == {"instance_dropped": 2}
    assert result.tally["keypoints_kept"] == 1


def test_visibility_of_masks_is_a_share_of_pixels() -> None:
    ids = np.zeros(SIZE, np.int32)
    ids[10:30, 10:20], ids[10:14, 20:40] = 1, 1  # an L: half of the box is empty
    picture = Picture(np.zeros((*SIZE, 3), np.uint8))
    labels = Labels(SIZE, CATEGORIES, (Instance(1, 1, (10, 10, 40, 30)),), {"instance": ids})
    sample = Sample("a", picture, labels, picture)
    result = move.apply(sample, motion.crop(SIZE, (0, 0, 20, 48)))
    assert result.sample.labels.instances[0].visibility == pytest.approx(200 / 280)
    own = replace(labels, passes={}, instances=(replace(labels.instances[0], mask=rle.encode(ids == 1)),))
    alone = move.apply(replace(sample, labels=own), motion.crop(SIZE, (0, 0, 20, 48))).sample.labels.instances[0]
    assert alone.visibility == pytest.approx(200 / 280)
    assert alone.box == (10, 10, 20, 30)


@settings(max_examples=30, deadline=None)
@given(motions.seeds)
def test_own_masks_may_overlap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks: list[np.ndarray] = []
    for _ in range(5):
        mask = np.zeros(SIZE, bool)
        x, y = rng.integers(0, 40), rng.integers(0, 30)
        mask[y : y + rng.integers(4, 18), x : x + rng.integers(4, 24)] = True
        masks.append(mask)
    instances = tuple(Instance(i, 1, rle.box(rle.encode(m)), mask=rle.encode(m)) for i, m in enumerate(masks, 7))
    picture = Picture(np.zeros((*SIZE, 3), np.uint8))
    sample = Sample("a", picture, Labels(SIZE, CATEGORIES, instances), picture)
    warp = motions.random_homography(rng)
    labels = move.apply(sample, warp).sample.labels
    labels.check()
    expected = {i: Resampler(warp).nearest(mask) for i, mask in enumerate(masks, 7)}
    assert [i.id for i in labels.instances] == [i for i, mask in expected.items() if mask.any()]
    for instance in labels.instances:
        assert instance.mask == rle.encode(expected[instance.id])
        assert instance.box == rle.box(instance.mask)

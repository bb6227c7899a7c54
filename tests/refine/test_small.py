"""Small objects: windows that hold them, and a way back that changes nothing of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug.errors import ConfigError
from synthaug.labels import Category, Instance, Labels
from synthaug.refine.small import Small, average, enlarge, find, give_back, instances_of, mask

CLASSES = (Category("dot"),)
RULES = Small(below=24, at_least=3, target=(64, 64), most=4, padding=0.25, feather=2.0, limit=8)


def scene(boxes: list[tuple[int, int, int, int]], size: tuple[int, int] = (120, 160)) -> Labels:
    """Instances by their boxes, later ones in front; those that are hidden are left out."""
    ids = np.zeros(size, np.int32)
    for k, (x0, y0, x1, y1) in enumerate(boxes, 1):
        ids[y0:y1, x0:x1] = k
    instances = []
    for k in range(1, len(boxes) + 1):
        rows, columns = np.nonzero(ids == k)
        if len(rows):
            box = (float(columns.min()), float(rows.min()), columns.max() + 1.0, rows.max() + 1.0)
            instances.append(Instance(k, 1, box))
    return Labels(size, CLASSES, tuple(instances), {"instance": ids})


@st.composite
def scenes(draw: st.DrawFn) -> Labels:
    boxes = []
    for _ in range(draw(st.integers(0, 6))):
        x, y = draw(st.integers(0, 150)), draw(st.integers(0, 110))
        boxes.append((x, y, min(x + draw(st.integers(1, 40)), 160), min(y + draw(st.integers(1, 40)), 120)))
    return scene(boxes)


@settings(max_examples=60)
@given(scenes(), st.integers(1, 8))
def test_windows_hold_their_objects_whole_and_the_counts_add_up(labels: Labels, limit: int) -> None:
    rules = Small(24, 3, (64, 64), 4, 0.25, 2.0, limit)
    windows, counts = find(labels, rules)
    assert counts["small"] == counts["windowed"] + counts["too_large"] + counts["over_limit"]
    assert counts["windowed"] == sum(len(w.ids) for w in windows) == len({i for w in windows for i in w.ids})
    assert len(windows) <= limit
    for window in windows:
        height, width = window.size
        assert (height * window.factor, width * window.factor) == window.target
        assert 0 <= window.x <= 160 - width
        assert 0 <= window.y <= 120 - height
        for instance in instances_of(labels, window):
            x0, y0, x1, y1 = instance.box
            assert window.x <= x0 < x1 <= window.x + width
            assert window.y <= y0 < y1 <= window.y + height
            assert 3 <= max(x1 - x0, y1 - y0) < 24


def test_the_smaller_the_object_the_stronger_the_enlargement() -> None:
    (one,), _ = find(scene([(10, 10, 15, 15)]), RULES)
    assert (one.factor, one.size) == (4, (16, 16))
    (two,), _ = find(scene([(10, 10, 30, 20)]), RULES)
    assert (two.factor, two.size) == (2, (32, 32))


def test_overlapping_windows_become_one_where_they_fit() -> None:
    (one,), counts = find(scene([(40, 40, 46, 46), (50, 42, 56, 48)]), RULES)
    assert one.ids == (1, 2)
    assert counts["windowed"] == 2
    far, _ = find(scene([(10, 10, 16, 16), (100, 80, 106, 86)]), RULES)
    assert [w.ids for w in far] == [(1,), (2,)]


def test_large_specks_and_crowds_are_counted() -> None:
    labels = scene([(0, 0, 2, 2), (10, 10, 16, 16), (100, 80, 108, 88), (60, 0, 83, 23), (60, 60, 100, 100)])
    windows, counts = find(labels, Small(24, 3, (64, 64), 4, 0.25, 2.0, 1))
    assert [w.ids for w in windows] == [(2,)]
    assert counts == {"small": 3, "windowed": 1, "too_large": 1, "over_limit": 1}


@pytest.mark.parametrize("tensors", [False, True])
def test_a_refiner_that_changes_nothing_changes_nothing_to_the_bit(tensors: bool) -> None:
    labels = scene([(40, 40, 46, 46), (50, 42, 56, 48), (100, 80, 108, 88)])
    picture = (np.random.default_rng(0).integers(0, 256, (3, 120, 160)) / 255).astype(np.float32)
    image = torch.from_numpy(picture) if tensors else picture
    windows, _ = find(labels, RULES)
    parts = []
    for window in windows:
        big = enlarge(image, window)
        assert tuple(big.shape) == (3, 64, 64)
        assert float(big.min()) >= 0
        share = mask(labels, window, 2.0)
        parts.append((window, big, big, torch.from_numpy(share) if tensors else share))
    assert np.asarray(give_back(image, parts)).tobytes() == picture.tobytes()
    assert give_back(image, []) is image


def test_a_change_arrives_on_the_object_whole_around_it_faded_and_nowhere_else() -> None:
    labels = scene([(40, 40, 46, 46), (46, 40, 56, 46)])
    image = np.full((3, 120, 160), 0.25, np.float32)
    (window,), _ = find(scene([(40, 40, 46, 46)]), RULES)
    big = enlarge(image, window)
    assert np.allclose(big, 0.25, atol=1e-6)
    share = mask(labels, window, 2.0)
    change = give_back(image, [(window, big, big + 0.5, share)]) - image
    ids = labels.passes["instance"]
    assert np.allclose(change[:, ids == 1], 0.5, atol=1e-6)
    assert (change[:, ids == 2] == 0).all()
    assert 0 < change[0, 42, 39] < 0.5
    assert (change[:, 42, :37] == 0).all()
    assert image.max() == np.float32(0.25)


def test_windows_that_share_a_pixel_give_back_one_change_in_any_order() -> None:
    labels = scene([(40, 40, 46, 46)])
    (window,), _ = find(labels, RULES)
    image = np.full((3, 120, 160), 0.25, np.float32)
    share, big = mask(labels, window, 0.0), enlarge(image, window)
    parts = [(window, big, big + 0.5, share), (window, big, big + 0.25, share)]
    one, other = give_back(image, parts), give_back(image, parts[::-1])
    assert np.allclose(one, other, atol=1e-7)
    assert np.allclose(one[:, labels.passes["instance"] == 1], 0.25 + 0.375, atol=1e-6)


@settings(max_examples=20)
@given(st.floats(-0.01, 0.01), st.floats(-0.01, 0.01))
def test_enlarging_keeps_straight_ramps_straight(across: float, down: float) -> None:
    rows, columns = np.mgrid[:120, :160] + 0.5
    image = (0.5 + across * (columns - 80) / 2 + down * (rows - 60) / 2)[None].astype(np.float32).clip(0, 1)
    (window,), _ = find(scene([(75, 55, 80, 60)]), RULES)
    big = enlarge(image, window)
    y, x = (np.mgrid[:64, :64] + 0.5) / window.factor
    expected = 0.5 + across * (x + window.x - 80) / 2 + down * (y + window.y - 60) / 2
    assert np.abs(big[0] - expected)[8:-8, 8:-8].max() < 1e-5
    # On the way back the spline's own blur is no matter, since only changes go back: it is small all the same.
    assert np.abs(average(big, window.factor) - image[..., window.rows, window.columns])[..., 2:-2, 2:-2].max() < 1e-5


def test_a_box_serves_where_there_is_no_mask() -> None:
    labels = scene([(40, 40, 46, 46)])
    bare = Labels(labels.size, CLASSES, labels.instances)
    (window,), _ = find(bare, RULES)
    assert mask(bare, window, 0).sum() == 36


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (Small(most=1), "small.most=1"),
        (Small(target=(64, 63)), "common divisor"),
        (Small(limit=0), "small.limit=0"),
        (Small(padding=float("nan")), "small.padding=nan"),
    ],
)
def test_bad_fields_are_refused(rules: Small, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        rules.check()
